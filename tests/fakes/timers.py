# SPDX-License-Identifier: Apache-2.0
"""A clock whose pauses end when a test says so, and no sooner."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from tests.fakes.clock import ManualClock

HANG_SECONDS = 10.0
"""A guard against a test that never ends; nothing is measured by it."""


class Timers(ManualClock):
    """`pause` is given where `asyncio.sleep` would be. `pauses` are the lengths that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._due: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pauses.append(seconds)
        heapq.heappush(self._due, (self.monotonic() + seconds, next(self._order), future))
        await future

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        while self._due and self._due[0][0] <= self.monotonic():
            future = heapq.heappop(self._due)[2]
            if not future.done():
                future.set_result(None)


async def until(holds: Callable[[], bool], act: Callable[[], None] = lambda: None) -> None:
    """Let the loop and its threads go on, and `act` between, until it holds."""
    async with asyncio.timeout(HANG_SECONDS):
        while not holds():
            act()
            await asyncio.sleep(0.0005)


async def settle(turns: int = 40) -> None:
    """Let what can happen without time going on happen."""
    for _ in range(turns):
        await asyncio.sleep(0.0005)
