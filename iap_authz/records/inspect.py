# SPDX-License-Identifier: Apache-2.0
"""A writer's whole journal, recomputed: every checksum, record, leaf, root, signature; and what is wrong, by the byte.

The invariant: the first `size` records are exactly those that the writer signed under the note `checkpoint`, or a
finding says otherwise. One wrong byte anywhere is a finding that names it; its correction is believed where the tree
and a signature of the writer confirm it.

A frame that does not hold is either damage or the torn end of a write that nobody was told of (rule W3). It is damage
if a valid checkpoint of this writer stands after it, or if one byte makes its own group hold. Otherwise it is a torn
end, also where that byte is a zero with only zeros after it: a write that lacked its last byte looks just like that.
One more torn write looks different: a disk may write the sectors of one write in any order, so the last checkpoint can
stand there while a sector before it still holds its old zeros. A group that was synced has no such hole.

Journals whose first segments were trimmed are read from the header of the first one left. Segments are read one at a
time, so a journal of any size can be inspected.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from iap_authz.errors import IapError
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.records.findings import Finding, Inspection, Kind, Place
from iap_authz.records.group import BEFORE_ALL, State, Step, Stop, read_step
from iap_authz.records.journal_format import FRAME_HEAD_BYTES, DamagedFrame, Frame, FrameType, parse_frame
from iap_authz.records.record import parse_time
from iap_authz.records.repair import Change, apply_change, find_changes, find_stray
from iap_authz.records.started import writer_id
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import LeafHash
from iap_authz.tlog.note import NAME_MAX_BYTES, VerifierKey

REPAIRS_MAX = 64
"""Wrong bytes that are named in one segment before the rest of it is called damaged."""

FINDINGS_MAX = 1_000
"""Findings after which an inspection ends: by then the journal is not what it was, and a list helps nobody."""

SECTOR_BYTES = 512
"""The smallest unit that a disk writes whole; larger ones are multiples of it."""

HOLE_MIN_BYTES = 4
"""A frame starts with a length, and one of its four bytes is not zero."""

_MARKER = b"/writers/"
_TYPE_BEFORE_PAYLOAD = 1


def inspect_writer(segments: Iterable[tuple[str, bytes]], origin: str | None = None) -> Inspection:
    """Inspect the segments of one writer, given by name and content, in the order of their names.

    `origin` is the audit log that the writer must belong to; None takes the one that its record 0 names.
    """
    walk = _Walk(State(log_origin=origin))
    for name, segment, is_last in _with_last(segments):
        if not walk.read_segment(name, segment, is_last=is_last):
            break
    return walk.inspection()


def _with_last(segments: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes, bool]]:
    """Each segment, and whether nothing was written after it."""
    held: tuple[str, bytes] | None = None
    for name, segment in segments:
        if held is not None:
            yield *held, not segment.strip(b"\0")
        held = name, segment
    if held is not None:
        yield *held, True


class _Walk:
    """Goes through the segments once, and collects."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._first = RecordSequence(0)
        self._hashes: list[LeafHash] = []
        self._places: list[Place] = []
        self._findings: list[Finding] = []
        self._end: tuple[str, int] | None = None
        self._name = ""
        self._is_last = False

    def read_segment(self, name: str, segment: bytes, *, is_last: bool) -> bool:
        """Go through one segment. False means that nothing after it can be verified."""
        self._name, self._is_last = name, is_last
        at, known = 0, segment
        while True:
            step, known = self._read_repaired(known, at)
            if isinstance(step, Stop):
                return self._finish_segment(known, at, stop=step)
            self._accept(step, at)
            at = step.end
            if len(self._findings) >= FINDINGS_MAX:
                return False

    def inspection(self) -> Inspection:
        """What was found."""
        state = self._state
        return Inspection(
            writer=None if state.public_key is None else writer_id(state.public_key),
            verifier=state.verifier,
            first=self._first,
            size=state.tree.end,
            checkpoint=state.checkpoint,
            last_time=_as_datetime(state),
            hashes=tuple(self._hashes),
            places=tuple(self._places),
            end=self._end,
            findings=tuple(self._findings),
        )

    def _accept(self, step: Step, at: int) -> None:
        if at == 0 and not self._hashes:
            self._first = RecordSequence(step.state.tree.end)
        self._state = step.state
        self._hashes.extend(step.leaves)
        self._places.extend(step.places)
        for problem in step.problems:
            self._find(Kind.INVALID, problem.offset, problem.message)
        if step.leaves:
            self._end = (self._name, step.end)

    def _read_repaired(self, segment: bytes, at: int) -> tuple[Step | Stop, bytes]:
        """The step at `at` and the segment it was read from: without the wrong bytes that were named on the way."""
        stopped = at
        for _ in range(REPAIRS_MAX):
            try:
                step = read_step(segment, at, name=self._name, state=self._state)
            except DamagedFrame as damage:
                stopped = damage.offset
            else:
                if isinstance(step, Step) or _is_unused(segment, step.offset):
                    return step, segment
                stopped = step.offset
            change = self._explain(segment, at, stopped=stopped)
            if change is None:
                break
            segment = apply_change(segment, change)
        return Stop(offset=stopped, inside=True), segment

    def _explain(self, segment: bytes, at: int, *, stopped: int) -> Change | None:
        """The one wrong byte of the step at `at`, whose frame at `stopped` does not hold. It becomes a finding."""
        stray = find_stray(segment, stopped) if stopped == at else None
        if stray is not None:
            self._find_change(Kind.STRAY, stray, "in the unused part")
            return stray
        changes = list(find_changes(segment, stopped))
        for change in changes:
            if self._confirms(apply_change(segment, change), at):
                if self._lacks_only_its_end(segment, change):
                    return None
                self._find_change(Kind.FLIPPED, change, "confirmed by the checksum and a signed checkpoint")
                return change
        if len(changes) == 1 and self._is_damage(segment, at, stopped=stopped):
            self._find_change(Kind.FLIPPED, changes[0], "confirmed by the checksum only")
            return changes[0]
        return None

    def _confirms(self, repaired: bytes, at: int) -> bool:
        try:
            step = read_step(repaired, at, name=self._name, state=self._state)
        except DamagedFrame:
            return False
        return isinstance(step, Step) and not step.problems

    def _lacks_only_its_end(self, segment: bytes, change: Change) -> bool:
        return self._is_last and change.got == 0 and _is_unused(segment, change.offset)

    def _finish_segment(self, segment: bytes, at: int, *, stop: Stop) -> bool:
        if not stop.inside and _is_unused(segment, at):
            if at == 0 and not self._is_last:
                self._find(Kind.DAMAGED, 0, "got an empty segment before another one, want a header")
            return True
        if self._is_damage(segment, at, stopped=stop.offset):
            size = self._state.tree.end
            message = f"no single byte explains it; records from {size} on cannot be verified"
            self._find(Kind.DAMAGED, stop.offset, message)
        else:
            message = f"{len(segment) - at} bytes after the last signed checkpoint, which were never acknowledged"
            self._find(Kind.CUT, at, message)
        return False

    def _is_damage(self, segment: bytes, at: int, *, stopped: int) -> bool:
        """Whether the group at `at`, which does not hold at `stopped`, is more than one write that was not finished."""
        if not self._is_last:
            return True
        ends = list(self._checkpoint_ends(segment, stopped))
        is_one_write = len(ends) <= 1 and all(_is_unused(segment, end) for end in ends)
        return bool(ends) and not (is_one_write and _has_hole(segment, at, ends[0]))

    def _checkpoint_ends(self, segment: bytes, offset: int) -> Iterator[int]:
        """Where each checkpoint that this writer signed ends, from `offset` on, in frames that hold."""
        marker = segment.find(_MARKER, offset)
        while marker >= 0:
            frame = self._signed_around(segment, marker)
            if frame is not None:
                yield frame.end
            # A note holds the marker twice: in its first line, and in that of its signature.
            marker = segment.find(_MARKER, marker + 1 if frame is None else frame.end)

    def _signed_around(self, segment: bytes, marker: int) -> Frame | None:
        """The frame of a checkpoint that this writer signed, if the marker is in the first line of its note."""
        for start in range(marker, max(marker - NAME_MAX_BYTES, FRAME_HEAD_BYTES) - 1, -1):
            if segment[start - _TYPE_BEFORE_PAYLOAD] == FrameType.CHECKPOINT:
                frame = self._signed_at(segment, start - FRAME_HEAD_BYTES)
                if frame is not None:
                    return frame
        return None

    def _signed_at(self, segment: bytes, offset: int) -> Frame | None:
        try:
            frame = parse_frame(segment, offset)
            if frame is not None and self._state.public_key is not None:
                name = frame.payload.partition(b"\n")[0].decode("utf-8", "replace")
                open_checkpoint(frame.payload, VerifierKey(name=name, public_key=self._state.public_key))
        except IapError:
            return None
        return frame

    def _find_change(self, kind: Kind, change: Change, message: str) -> None:
        text = f"got {change.got:#04x}, want {change.want:#04x}; {message}"
        self._findings.append(
            Finding(
                kind=kind,
                segment=self._name,
                offset=change.offset,
                message=text,
                got=change.got,
                want=change.want,
            )
        )

    def _find(self, kind: Kind, offset: int, message: str) -> None:
        self._findings.append(Finding(kind=kind, segment=self._name, offset=offset, message=message))


def _is_unused(segment: bytes, offset: int) -> bool:
    return not segment[offset:].strip(b"\0")


def _has_hole(segment: bytes, start: int, end: int) -> bool:
    """Whether a sector of the bytes [start, end) was never written: it still has the zeros of preallocation."""
    for sector in range(start - start % SECTOR_BYTES, end, SECTOR_BYTES):
        part = segment[max(start, sector) : min(end, sector + SECTOR_BYTES)]
        if len(part) >= HOLE_MIN_BYTES and not part.strip(b"\0"):
            return True
    return False


def _as_datetime(state: State) -> datetime | None:
    if state.time == BEFORE_ALL:
        return None
    seconds, nanos = state.time
    return parse_time(Timestamp(seconds=seconds, nanos=nanos))
