# SPDX-License-Identifier: Apache-2.0
"""A writer's whole journal, recomputed: every checksum, record, leaf, root, signature; and what is wrong, by the byte.

The invariant: `Inspection.size` records are exactly those that the writer signed under `Inspection.checkpoint`, or a
finding says otherwise. One wrong byte anywhere is a finding that names it; its correction is believed where the tree and
a signature of the writer confirm it.

A frame that does not hold is either damage or the torn end of a write that nobody was told of (rule W3). It is damage
if a valid checkpoint of this writer stands after it, or if one byte makes its own group hold. It is a torn end otherwise,
and where that byte is a zero with only zeros after it: a write that lacked its last byte looks like nothing else.

Journals whose first segments were trimmed are read from the header of the first one left. Segments are read one at a
time, so a journal of any size can be inspected.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from iap_authz.errors import IapError
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.model.ids import WriterId
from iap_authz.records.findings import Finding, Inspection, Kind, Place
from iap_authz.records.group import BEFORE_ALL, State, Step, Stop, read_step
from iap_authz.records.journal_format import (
    FRAME_HEAD_BYTES,
    DamagedFrame,
    FrameType,
    parse_frame,
    segment_name,
)
from iap_authz.records.record import parse_time
from iap_authz.records.repair import Change, apply_change, find_changes, find_stray
from iap_authz.records.started import writer_id
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import LeafHash
from iap_authz.tlog.note import NAME_MAX_BYTES, VerifierKey
from google.protobuf.timestamp_pb2 import Timestamp

REPAIRS_MAX = 64
"""Wrong bytes that are named in one segment before the rest of it is called damaged."""

_MARKER = b"/writers/"


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
            yield *held, not any(segment)
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
