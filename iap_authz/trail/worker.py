# SPDX-License-Identifier: Apache-2.0
"""The one thread that waits for the database, so that the event loop never does."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Run(Protocol):
    """Calls a blocking function in a thread. Calls are made one after the other, in the order they were asked for."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """What the function returns, or raises. Cancelling the wait does not stop the call."""


class Worker:
    """One thread, owned by who made it; `run` is what a `Trail` and an `Indexer` of one index share."""

    def __init__(self, name: str = "trail") -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Run`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Drop what has not begun and wait for the call that has. Idempotent."""
        self._executor.shutdown(wait=True, cancel_futures=True)
