# SPDX-License-Identifier: Apache-2.0
"""Who may still write when the journal fills (PROTOCOL rule R2).

The invariant: what is refused for one share is refused for every lower one, so traffic without a credential never
takes the space of an ALLOW, and nothing takes the reserve from what the service must still be able to say.

    0 ......................... high water ........... bound - reserve ......... bound
    REFUSAL stops here ---------^      ALLOW stops here ----^   RESERVE stops here -^

Two limits hold at once: the operator's bound, and what the disk has really given (preallocated segments). On a disk
that gives no more, refusals stop at once, and an ALLOW leaves the reserve of what is left.

It measures nothing; the adapter does, and says when.
"""

import enum
from dataclasses import dataclass

from iap_authz.errors import JournalFull

GIB, MIB = 1 << 30, 1 << 20

SEGMENT_BYTES = 16 * MIB
"""Large enough that a new file is rare, small enough to drop one at a time; the reserve fits in it."""

RESERVE_BYTES = 8 * MIB
"""Some hundred thousand counts of refusals: days of a flood, at one record a second for each reason."""

WORK_BYTES = 128 << 10
"""What a segment and a bound must hold beside the reserve: the largest record, a header and some checkpoints."""


class Room(enum.Enum):
    """Which part of the journal's bound a record may use, the lowest first.

    The reserve is for what the service must still be able to say: Refusals, Outcome, Heartbeat, WriterStopped.
    """

    REFUSAL = "refusal"
    ALLOW = "allow"
    RESERVE = "reserve"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalBounds:
    """How much disk a journal may take. Up to two preallocated segments stand beyond `bound_bytes`, empty."""

    bound_bytes: int = GIB
    high_water: float = 0.8
    reserve_bytes: int = RESERVE_BYTES
    segment_bytes: int = SEGMENT_BYTES

    def __post_init__(self) -> None:
        if not 0 < self.high_water <= 1:
            raise ValueError(f"got a high-water mark of {self.high_water}, want more than 0 and at most 1")
        most = min(self.bound_bytes, self.segment_bytes) - WORK_BYTES
        if not 0 <= self.reserve_bytes <= most:
            raise ValueError(f"got a reserve of {self.reserve_bytes} bytes, want 0 to {most}: less than a segment")

    @classmethod
    def within(cls, bound_bytes: int) -> "JournalBounds":
        """The defaults, made smaller where a bound of this many bytes is too small for them; at least 1 MiB."""
        segment_bytes = min(SEGMENT_BYTES, max(MIB, bound_bytes // 4))
        reserve_bytes = min(RESERVE_BYTES, bound_bytes // 8, segment_bytes // 2)
        return cls(bound_bytes=bound_bytes, reserve_bytes=reserve_bytes, segment_bytes=segment_bytes)

    def limit_bytes(self, room: Room) -> int:
        """Up to where `room` may fill the journal."""
        most = self.bound_bytes - self.reserve_bytes
        limits = {Room.REFUSAL: min(int(self.high_water * self.bound_bytes), most), Room.ALLOW: most}
        return limits.get(room, self.bound_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How full the journal is: all writers' files and what is queued, and what preallocated space can still take."""

    used_bytes: int
    allocated_bytes: int
    disk_full: bool


def check_room(room: Room, want_bytes: int, *, fill: Fill, bounds: JournalBounds) -> None:
    """Raise JournalFull unless a record that takes up to `want_bytes` may be written for `room`."""
    limit = bounds.limit_bytes(room)
    if fill.used_bytes + want_bytes > limit:
        raise JournalFull(
            f"got {fill.used_bytes} bytes in the journal, want at most {limit - want_bytes} for {room.value}"
        )
    kept = 0 if room is Room.RESERVE else bounds.reserve_bytes
    if want_bytes + kept > fill.allocated_bytes or (room is Room.REFUSAL and fill.disk_full):
        raise JournalFull(f"got {fill.allocated_bytes} bytes from the disk, want {want_bytes + kept} for {room.value}")
