# SPDX-License-Identifier: Apache-2.0
"""Background work that ends together: no task outlives whoever started it."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_together(*works: Coroutine[object, object, object], until: "asyncio.Future[None] | None" = None) -> None:
    """Run `works` until the first of them, or `until`, is done; then end them all. Raises what that one raised.

    `until` belongs to somebody else and is not cancelled.
    """
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    try:
        waiting: list[asyncio.Future[Any]] = [*tasks]
        waiting += [until] if until is not None else []
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
