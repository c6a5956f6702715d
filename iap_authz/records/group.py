# SPDX-License-Identifier: Apache-2.0
"""One step through a journal, recomputed: a segment's header, or one group commit up to its checkpoint.

The invariant: a `Step` without problems was written by the writer whose key signed its checkpoint: each record's shape,
writer, sequence and time, the tree over them, and the signed root agree; and right after each sealed record, and after
no other, stands the companion that its leaf names (rule S2).

`State` is what is known before a step, and `Step.state` what is known after it. Nothing here goes on after damage or
guesses (`inspect` does); a step that cannot be finished is a `Stop`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, IapError, Malformed
from iap_authz.records.findings import Place
from iap_authz.records.journal_format import (
    IGNORABLE_FROM,
    Frame,
    FrameType,
    SegmentHeader,
    parse_frame,
    parse_header,
)
from iap_authz.records.record import parse_record
from iap_authz.records.seal import check_beside, check_sealed
from iap_authz.records.started import check_started, writer_id, writer_origin
from iap_authz.tlog.checkpoint import open_checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import LeafHash, leaf_hash
from iap_authz.tlog.note import VerifierKey, parse_note
from iap_authz.tlog.tree import CompactRange

Time = tuple[int, int]
"""Seconds and nanoseconds, as they stand in the record: compared exactly."""

BEFORE_ALL: Time = (-(1 << 63), 0)
"""Earlier than every record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a writer before a step. `log_origin` is None until record 0 has said it."""

    log_origin: str | None = None
    public_key: bytes | None = None
    verifier: VerifierKey | None = None
    next_segment: int | None = None
    tree: CompactRange = field(default_factory=CompactRange.empty)
    checkpoint: bytes = b""
    time: Time = BEFORE_ALL


@dataclass(frozen=True, slots=True)
class Problem:
    """Intact bytes that say something false."""

    offset: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A header or a whole group. `end` is where the next step starts."""

    end: int
    state: State
    leaves: Sequence[LeafHash] = ()
    places: Sequence[Place] = ()
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The used part ends at `offset`; `inside` says that it does so in the middle of a group."""

    offset: int
    inside: bool


def read_step(segment: bytes, offset: int, *, name: str, state: State) -> Step | Stop:
    """The step that starts at `offset` of the segment `name`. Raises DamagedFrame."""
    if offset == 0:
        return _read_header(segment, state)
    return _Group(name, offset, state=state).read(segment)


def _read_header(segment: bytes, state: State) -> Step | Stop:
    frame = parse_frame(segment, 0)
    if frame is None:
        return Stop(offset=0, inside=False)
    try:
        if frame.type != FrameType.HEADER:
            raise Malformed(f"got a frame of type {frame.type}, want a header first")
        header = parse_header(frame.payload)
        after = _after_header(header, state)
    except IapError as error:
        return Step(end=frame.end, state=state, problems=[Problem(0, str(error))])
    return Step(end=frame.end, state=after)


def _after_header(header: SegmentHeader, state: State) -> State:
    """What a header adds. In the first segment that is left it is believed as far as its note is signed."""
    if state.next_segment is None:
        return _after_first_header(header, state)
    if (header.public_key, header.number) != (state.public_key, state.next_segment):
        raise BadProof(
            f"got segment {header.number} of {header.writer.hex()}, want number {state.next_segment} of its own"
        )
    if (header.before, header.checkpoint) != (state.tree, state.checkpoint):
        raise BadProof(f"got a header for record {header.first}, want it to repeat the note at {state.tree.end}")
    return replace(state, next_segment=header.number + 1)


def _after_first_header(header: SegmentHeader, state: State) -> State:
    known = replace(state, public_key=header.public_key, next_segment=header.number + 1)
    if header.number == 0:
        return known
    name = parse_checkpoint(parse_note(header.checkpoint).text).origin
    log_origin = state.log_origin if state.log_origin is not None else name.partition("/writers/")[0]
    verifier = VerifierKey(name=writer_origin(log_origin, header.writer), public_key=header.public_key)
    checkpoint = open_checkpoint(header.checkpoint, verifier)
    if (checkpoint.size, checkpoint.root) != (header.before.end, header.before.root()):
        raise BadProof(f"got a tree of {header.before.end} records, want that of the note at {checkpoint.size}")
    return replace(known, log_origin=log_origin, verifier=verifier, tree=header.before, checkpoint=header.checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    """What may stand after a record's frame: of an unreadable record anything, of one without a sealed part nothing."""

    frame: Frame
    sequence: int
    sealed: record_pb2.SealedPart | None
    is_readable: bool

    def check(self, beside: bytes) -> None:
        """Raise BadProof or Malformed unless that is what stands beside the record."""
        if self.sealed is not None:
            check_beside(self.sealed, beside)
        elif self.is_readable:
            raise BadProof("got a companion of a record without a sealed part, want none")


class _Group:
    """Collects the frames of one group. Used once."""

    def __init__(self, name: str, offset: int, *, state: State) -> None:
        self._name = name
        self._at = offset
        self._state = state
        self._writer = None if state.public_key is None else writer_id(state.public_key)
        self._time = state.time
        self._before: _Beside | None = None
        self._leaves: list[LeafHash] = []
        self._places: list[Place] = []
        self._problems: list[Problem] = []

    def read(self, segment: bytes) -> Step | Stop:
        start = self._at
        while (frame := parse_frame(segment, self._at)) is not None:
            self._at = frame.end
            if frame.type == FrameType.COMPANION:
                self._take_companion(frame)
                continue
            self._miss_companion()
            if frame.type == FrameType.CHECKPOINT:
                return self._finish(frame)
            self._take(frame)
        return Stop(offset=self._at, inside=self._at != start)

    def _take(self, frame: Frame) -> None:
        if frame.type == FrameType.RECORD:
            self._take_record(frame)
        elif frame.type < IGNORABLE_FROM:
            self._problem(frame, f"got a frame of type {frame.type}, want one that this version knows")

    def _take_record(self, frame: Frame) -> None:
        sequence = self._state.tree.end + len(self._leaves)
        sealed, is_readable = None, False
        try:
            record = parse_record(frame.payload)
            sealed, is_readable = record.sealed if record.HasField("sealed") else None, True
            self._check_record(record, sequence)
        except IapError as error:
            self._problem(frame, f"record {sequence}: {error}")
        self._before = _Beside(frame=frame, sequence=sequence, sealed=sealed, is_readable=is_readable)
        self._leaves.append(leaf_hash(frame.payload))
        self._places.append(Place(self._name, frame.end - len(frame.payload), len(frame.payload)))

    def _take_companion(self, frame: Frame) -> None:
        before, self._before = self._before, None
        if before is None:
            self._problem(frame, "got a companion, want at most one, right after the frame of its record")
            return
        try:
            before.check(frame.payload)
        except IapError as error:
            self._problem(frame, f"record {before.sequence}: {error}")

    def _miss_companion(self) -> None:
        """What comes next is no companion of the record before."""
        before, self._before = self._before, None
        if before is not None and before.sealed is not None:
            self._problem(before.frame, f"record {before.sequence}: got a sealed part, want its companion right after")

    def _check_record(self, record: record_pb2.Record, sequence: int) -> None:
        if record.sequence != sequence:
            raise BadProof(f"got sequence {record.sequence}, want {sequence}")
        if self._writer is not None and record.writer != self._writer:
            raise BadProof(f"got a record of writer {record.writer.hex()}, want {self._writer.hex()}")
        if record.HasField("sealed"):
            check_sealed(record.sealed)
        if sequence == 0:
            self._start(record)
        elif record.HasField("writer_started"):
            raise BadProof("got a second WriterStarted, want it as record 0 only")
        time, before = (record.time.seconds, record.time.nanos), self._time
        if time < before:
            raise BadProof(f"got time {time[0]}.{time[1]:09d}, want {before[0]}.{before[1]:09d} or later")
        self._time = time

    def _start(self, record: record_pb2.Record) -> None:
        verifier = check_started(record, self._state.log_origin)
        origin = record.writer_started.log_origin
        self._state = replace(self._state, verifier=verifier, public_key=verifier.public_key, log_origin=origin)

    def _finish(self, frame: Frame) -> Step:
        tree = self._state.tree.extend(self._leaves)
        try:
            self._check_checkpoint(frame.payload, tree)
        except IapError as error:
            self._problem(frame, str(error))
        return Step(
            end=frame.end,
            state=replace(self._state, tree=tree, checkpoint=frame.payload, time=self._time),
            leaves=self._leaves,
            places=self._places,
            problems=self._problems,
        )

    def _check_checkpoint(self, note: bytes, tree: CompactRange) -> None:
        if self._state.verifier is None:
            raise BadProof("got a checkpoint of a writer that has not started, want record 0 before it")
        checkpoint = open_checkpoint(note, self._state.verifier)
        if checkpoint.size != tree.end or not self._leaves:
            raise BadProof(f"got a checkpoint at {checkpoint.size}, want one at {tree.end}, after at least one record")
        if checkpoint.root != tree.root():
            raise BadProof(f"got root {checkpoint.root.hex()} at {tree.end}, want {tree.root().hex()}")

    def _problem(self, frame: Frame, message: str) -> None:
        self._problems.append(Problem(frame.offset, message))
