# SPDX-License-Identifier: Apache-2.0
"""The machine's clock, made to go forward only (PROTOCOL rule T1).

The invariant: `now` never returns less than it returned before, nor less than the floor: the time of the last record
in the journal. So a clock that is set back, in this process or before it started, cannot revive a token.

A clock that was far ahead once keeps `now` still until the wall has caught up. That is on purpose: the records say it.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


def _read_wall() -> datetime:
    return datetime.now(UTC)


class SystemClock:
    """Satisfies the port `Clock`. Any thread may ask."""

    def __init__(
        self,
        floor: datetime | None = None,
        *,
        wall: Callable[[], datetime] = _read_wall,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`floor` is the earliest time to tell, in UTC; `wall` and `monotonic` read the machine."""
        self._last = _BEFORE_ALL if floor is None else floor
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Wall time in UTC, never earlier than any value returned before."""
        with self._lock:
            self._last = max(self._last, self._wall())
            return self._last

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self._monotonic()
