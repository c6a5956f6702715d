# SPDX-License-Identifier: Apache-2.0
"""Refreshers: look at the sources, load what changed, push a new snapshot. Requests never pull.

Each source has a `Slot` with its last good value. A broken or missing source keeps that value until `max_stale` has
passed since it was last confirmed; then the slot is empty and facts of it are ERROR, never a guess. A policy is kept
for as long as no better one comes: a bad file never replaces a good one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from iap_authz.errors import IapError
from iap_authz.ports import FactSource

_log = logging.getLogger("iap_authz.refresh")

T = TypeVar("T")


class Slot(Generic[T]):
    """The last good value of one source. `max_stale_seconds` None: kept for ever.

    `check_succession` raises Invalid where a new value must not follow the last good one (None: the first), such as an
    older inventory. `confirmed_at` says when the source itself was last confirmed, at a look that found nothing wrong.
    """

    def __init__(
        self,
        source: FactSource[T],
        *,
        max_stale_seconds: float | None,
        check_succession: Callable[[T, T | None], None] = lambda _new, _last: None,
        confirmed_at: Callable[[float], float] = lambda now: now,
    ) -> None:
        self._source = source
        self._confirmed_at = confirmed_at
        self._check_succession = check_succession
        self._max_stale_seconds = max_stale_seconds
        self._value: T | None = None
        self._served: T | None = None
        self._version: object = None
        self._confirmed = 0.0
        self.problem: str = ""

    @property
    def name(self) -> str:
        """Name of the source."""
        return self._source.name

    def load(self, monotonic: float) -> None:
        """The first load. Raises what the source raises: a process does not start on a bad file."""
        version = self._source.version()
        value = self._source.load()
        self._check_succession(value, None)
        self._value = self._served = value
        self._version, self._confirmed = version, self._confirmed_at(monotonic)

    def refresh(self, monotonic: float) -> bool:
        """Look at the source, load it if it changed. True if `value` may answer differently now. Blocking."""
        try:
            version = self._source.version()
            if version != self._version or self._value is None:
                value = self._source.load()
                self._check_succession(value, self._value)
                self._value, self._version = value, version
                _log.info("a source was loaded", extra={"source": self.name})
            self._confirmed, self.problem = self._confirmed_at(monotonic), ""
        except (IapError, OSError) as error:
            if str(error) != self.problem:
                _log.error("a source cannot be loaded", extra={"source": self.name, "problem": str(error)})
            self.problem = str(error)
        served, self._served = self._served, self.value(monotonic)
        return self._served is not served

    def value(self, monotonic: float) -> T | None:
        """The last good value, or None when it was not confirmed for longer than its age limit."""
        if self._max_stale_seconds is not None and monotonic - self._confirmed > self._max_stale_seconds:
            return None
        return self._value

    @property
    def served(self) -> T | None:
        """What the last look decided on: the value, or None where it was too old. Snapshots are made of this."""
        return self._served

    def age_seconds(self, monotonic: float) -> float:
        """Time since the source was last seen to be as it is held."""
        return monotonic - self._confirmed


class Refresher:
    """Looks at all slots every interval, or at once when `wake` is called; calls `changed` on the loop."""

    def __init__(
        self,
        slots: Sequence[Slot[object]],
        *,
        interval_seconds: float,
        monotonic: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._slots = slots
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._changed = changed
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look now (SIGHUP)."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._interval_seconds)
            self._wake.clear()
            await self.look()

    async def look(self) -> None:
        """One look at every slot, in a thread; `changed` is called if any may answer differently."""
        now = self._monotonic()
        if await asyncio.to_thread(lambda: [slot.refresh(now) for slot in self._slots].count(True)):
            self._changed()
