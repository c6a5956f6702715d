# SPDX-License-Identifier: Apache-2.0
"""What every `Clock` keeps, and what `SystemClock` makes of a wall clock that does not (PROTOCOL T1, CORPUS F6)."""

from datetime import UTC, datetime, timedelta

import pytest

from iap_authz.adapters.clock import SystemClock
from iap_authz.ports import Clock
from tests.fakes.clock import START, ManualClock

DAY = timedelta(days=1)
WALLS = {
    "forward": [START, START + DAY, START + 2 * DAY],
    "frozen": [START, START, START],
    "set-back": [START, START - DAY, START - 2 * DAY],
    "ahead-once": [START, START + 9 * DAY, START + timedelta(seconds=1)],
}


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_now_is_utc_and_nothing_goes_back(clock: Clock) -> None:
    times = [clock.now() for _ in range(1_000)]
    assert times == sorted(times)
    assert {time.utcoffset() for time in times} == {timedelta(0)}
    ages = [clock.monotonic() for _ in range(1_000)]
    assert ages == sorted(ages)


@pytest.mark.parametrize("wall", WALLS.values(), ids=WALLS.keys())
def test_t1_now_is_the_latest_of_all_that_the_wall_has_shown(wall: list[datetime]) -> None:
    shown = iter(wall)
    clock = SystemClock(wall=lambda: next(shown))
    assert [clock.now() for _ in wall] == [max(wall[: number + 1]) for number in range(len(wall))]


def test_t1_now_is_never_before_the_last_journaled_record() -> None:
    wall = [START - DAY]
    clock = SystemClock(START, wall=lambda: wall[0])
    assert clock.now() == START
    wall[0] = START + DAY
    assert clock.now() == START + DAY


def test_monotonic_is_the_one_that_was_given() -> None:
    assert SystemClock(monotonic=lambda: 7.0).monotonic() == 7.0


def test_the_system_clock_tells_the_time() -> None:
    before = datetime.now(UTC)
    assert before <= SystemClock().now() <= datetime.now(UTC)
