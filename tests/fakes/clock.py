# SPDX-License-Identifier: Apache-2.0
"""A clock that stands still until a test moves it. It keeps the contract of the port `Clock`."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class ManualClock:
    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Both clocks go on. A test that turns the wall back does so below `SystemClock`, with its own `wall`."""
        assert seconds >= 0, "this clock keeps the contract: it never goes back"
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
