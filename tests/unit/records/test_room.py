# SPDX-License-Identifier: Apache-2.0
"""Who may still write when the journal fills (PROTOCOL R2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import JournalFull
from iap_authz.records.room import MIB, Fill, JournalBounds, Room, check_room

BOUNDS = JournalBounds(bound_bytes=100 * MIB, high_water=0.5, reserve_bytes=10 * MIB)
PLENTY = 1 << 40


def has_room(room: Room, fill: Fill, want_bytes: int = 1) -> bool:
    try:
        check_room(room, want_bytes, fill=fill, bounds=BOUNDS)
    except JournalFull:
        return False
    return True


@pytest.mark.parametrize(
    ("room", "limit_mib"),
    [(Room.REFUSAL, 50), (Room.ALLOW, 90), (Room.RESERVE, 100)],
    ids=["refusal", "allow", "reserve"],
)
def test_r2_each_share_ends_at_its_mark(room: Room, limit_mib: int) -> None:
    for used, want in ((limit_mib * MIB - 1, True), (limit_mib * MIB, False)):
        assert has_room(room, Fill(used_bytes=used, allocated_bytes=PLENTY, disk_full=False)) is want


fills = st.builds(
    Fill, used_bytes=st.integers(0, 120 * MIB), allocated_bytes=st.integers(0, 20 * MIB), disk_full=st.booleans()
)


@given(fills, st.integers(1, MIB))
def test_r2_what_is_refused_for_one_share_is_refused_for_every_lower_one(fill: Fill, want_bytes: int) -> None:
    """PROTOCOL R2: "ALLOW has reserved journal space"."""
    answers = [has_room(room, fill, want_bytes) for room in (Room.REFUSAL, Room.ALLOW, Room.RESERVE)]
    assert answers == sorted(answers)


@given(fills, st.integers(1, MIB), st.sampled_from(Room))
def test_what_is_accepted_fits_the_bound_and_the_disk(fill: Fill, want_bytes: int, room: Room) -> None:
    if has_room(room, fill, want_bytes):
        assert fill.used_bytes + want_bytes <= BOUNDS.bound_bytes
        assert want_bytes <= fill.allocated_bytes


def test_f3_on_a_full_disk_refusals_stop_and_an_allow_leaves_the_reserve() -> None:
    fill = Fill(used_bytes=0, allocated_bytes=10 * MIB + 5, disk_full=True)
    assert not has_room(Room.REFUSAL, fill)
    assert has_room(Room.ALLOW, fill, 5)
    assert not has_room(Room.ALLOW, fill, 6)
    assert has_room(Room.RESERVE, fill, 10 * MIB + 5)
    assert not has_room(Room.RESERVE, fill, 10 * MIB + 6)


def test_the_defaults_are_those_of_the_specification() -> None:
    assert JournalBounds() == JournalBounds.within(1 << 30)
    assert (JournalBounds().reserve_bytes, JournalBounds().segment_bytes) == (8 * MIB, 16 * MIB)


@pytest.mark.parametrize("bound_mib", [1, 2, 10, 64, 1_000, 1_000_000])
def test_every_bound_from_1_mib_on_has_bounds(bound_mib: int) -> None:
    bounds = JournalBounds.within(bound_mib * MIB)
    assert 0 < bounds.limit_bytes(Room.REFUSAL) <= bounds.limit_bytes(Room.ALLOW) < bounds.limit_bytes(Room.RESERVE)
    assert bounds.limit_bytes(Room.RESERVE) == bound_mib * MIB


@pytest.mark.parametrize(
    "fields",
    [
        {"high_water": 0.0},
        {"high_water": 1.1},
        {"reserve_bytes": -1},
        {"reserve_bytes": 16 * MIB},
        {"bound_bytes": MIB},
    ],
    ids=["no-high-water", "high-water-above-1", "negative-reserve", "reserve-of-a-segment", "bound-below-the-reserve"],
)
def test_bounds_that_cannot_work_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="got a"):
        JournalBounds(**fields)
