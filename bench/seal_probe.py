# SPDX-License-Identifier: Apache-2.0
"""What others notice of an erasure: one who appends, one who asks for proofs, one who searches, each at a steady pace.

The invariant: all three do the same in each phase, and whoever appends is an honest writer with keys of its own.
"""

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Awaitable, Callable

from bench.seal_world import Known, LogPlace, Writer, sizes
from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import LogChannel

APPENDED = 16
PAUSES_SECONDS = {"append receipt": 0.1, "inclusion proof": 0.05, "search": 0.25}
PHASES = ("before", "during", "after")


class Probe:
    """Milliseconds by what was asked and by phase. `begin` and `end` delimit a phase; between phases nothing counts."""

    def __init__(self, place: LogPlace, known: Known, *, people: int) -> None:
        self._channel = LogChannel(place.address)
        self._people = people
        self._random = random.Random(1)
        self._phase = ""
        self._size, self._number = 0, 0
        self._tasks: list[asyncio.Task[None]] = []
        self.writers = [Writer(place, known)]
        self.times: dict[str, dict[str, list[float]]] = {
            name: {phase: [] for phase in PHASES} for name in PAUSES_SECONDS
        }

    async def start(self) -> None:
        """Begin to ask."""
        (writer,) = self.writers
        await writer.register(self._channel)
        self._size = (await sizes(self._channel))[0]
        acts = {"append receipt": self._append, "inclusion proof": self._prove, "search": self._search}
        self._tasks = [asyncio.create_task(self._repeat(name, act)) for name, act in acts.items()]

    async def stop(self) -> None:
        """End, with whatever went wrong meanwhile."""
        self.end()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._channel.close()

    async def phase(self, name: str, *, seconds: float) -> None:
        """A phase of so many seconds."""
        self.begin(name)
        await asyncio.sleep(seconds)
        self.end()

    def begin(self, name: str) -> None:
        """What is asked from now on counts for this phase."""
        self._phase = name

    def end(self) -> None:
        """What is asked from now on does not count."""
        self._phase = ""

    def summary(self) -> dict[str, dict[str, tuple[int, float, float]]]:
        """How many, p50 and p99 in milliseconds, by what was asked and by phase."""
        return {
            name: {phase: _percentiles(times) for phase, times in by_phase.items()}
            for name, by_phase in self.times.items()
        }

    async def _repeat(self, name: str, act: Callable[[], Awaitable[float]]) -> None:
        while True:
            phase = self._phase
            spent_ms = await act()
            if phase and phase == self._phase:
                self.times[name][phase].append(spent_ms)
            await asyncio.sleep(PAUSES_SECONDS[name])

    async def _append(self) -> float:
        (writer,) = self.writers
        asked = ((number, self._somebody()) for number in range(self._number, self._number + APPENDED))
        self._number += APPENDED
        async with writer.turn:
            request = writer.batch(asked)
            began = time.perf_counter()
            await writer.ship(self._channel, request)
            return (time.perf_counter() - began) * 1e3

    async def _prove(self) -> float:
        request = log_pb2.GetInclusionProofRequest(index=self._random.randrange(self._size))
        began = time.perf_counter()
        assert (await self._channel.prove_inclusion(request)).proof
        return (time.perf_counter() - began) * 1e3

    async def _search(self) -> float:
        request = log_pb2.SearchRecordsRequest(subject=self._somebody(), page_size=10)
        began = time.perf_counter()
        answer = await self._channel.search_records(request)
        spent_ms = (time.perf_counter() - began) * 1e3
        assert answer.records, "somebody who was not erased is not found"
        return spent_ms

    def _somebody(self) -> str:
        return f"user-{self._random.randrange(self._people)}@example.com"


def _percentiles(times: list[float]) -> tuple[int, float, float]:
    ordered = sorted(times)
    if not ordered:
        return 0, float("nan"), float("nan")
    return len(ordered), statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
