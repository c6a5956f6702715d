# SPDX-License-Identifier: Apache-2.0
"""A writer's group commits, read in order from its segments, without reading anything twice.

The invariant: a batch is whole groups, so its last frame is a checkpoint that the writer signed; and nothing at or
after the durable end that the caller gives is looked at, so a group that is being written is never seen half.

    segment:  header | record record checkpoint | record companion checkpoint | zeros, or the end of the file
                     ^ the cursor stands where a group begins: (segment, offset, sequence)

Checksums are checked; signatures, the tree and what a companion says are not: the journal was verified when it was
recovered, and what is shipped is verified by the log. Blocking; used by one thread at a time.
"""

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from iap_authz.adapters.journal.reading import segment_paths
from iap_authz.errors import BadProof, Corrupt, NotFound
from iap_authz.model.ids import WriterId
from iap_authz.records.journal_format import (
    FRAME_HEAD_BYTES,
    IGNORABLE_FROM,
    PAYLOAD_MAX_BYTES,
    DamagedFrame,
    Frame,
    FrameType,
    parse_frame,
    segment_name,
)
from iap_authz.records.journaled import FirstRecord, JournaledBatch
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import as_nodes, leaf_hashes
from iap_authz.tlog.proof import prove_inclusion
from iap_authz.tlog.tree import subtree_root

BATCH_MAX_RECORDS = 1_024
"""Records of one batch: one signature check and one receipt for all of them. A group has at most 256."""

BATCH_MAX_BYTES = 2 << 20
"""Of one batch, if it is more than one group; half of what the log takes, and so is a single group."""

SLAB_MIN_BYTES, SLAB_MAX_BYTES = 16 << 10, 256 << 10
"""What is read from the disk at once: little for a group that stands alone, more with each read that follows."""

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group commit: its records, its note, and where it ends in its segment.

    `companions` are what stands beside some of the records, with the place of each in `records`, rising.
    """

    records: tuple[bytes, ...]
    companions: tuple[tuple[int, bytes], ...]
    note: bytes
    end: int

    @property
    def size_bytes(self) -> int:
        """What is shipped of it: its records, and what stands beside them."""
        return sum(map(len, self.records)) + sum(len(beside) for _, beside in self.companions)


class Slab:
    """A part of an open segment that moves forward over it."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._start = 0
        self._bytes = b""
        self._slab_bytes = SLAB_MIN_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def frame(self, offset: int) -> Frame | None:
        """The frame at `offset`, or None where the used part ends. Raises Corrupt."""
        self._hold(offset, FRAME_HEAD_BYTES)
        at = offset - self._start
        length = int.from_bytes(self._bytes[at : at + _LENGTH_BYTES])
        if length <= PAYLOAD_MAX_BYTES:
            self._hold(offset, FRAME_HEAD_BYTES + length)
        try:
            frame = parse_frame(self._bytes, offset - self._start)
        except DamagedFrame as damage:
            raise Corrupt(f"{self._name}: byte {offset}", str(damage)) from damage
        return None if frame is None else Frame(offset=offset, type=frame.type, payload=frame.payload)

    def after_header(self) -> int:
        """Where the first group stands. Raises Corrupt."""
        header = self.frame(0)
        if header is None:
            raise Corrupt(f"{self._name}: byte 0", "got nothing, want a header")
        return header.end

    def group(self, offset: int) -> Group | None:
        """The group at `offset`, or None where the used part ends. Raises Corrupt, also for half a group."""
        records: list[bytes] = []
        companions: list[tuple[int, bytes]] = []
        at, before = offset, 0
        while (frame := self.frame(at)) is not None:
            at = frame.end
            if frame.type == FrameType.CHECKPOINT and records:
                return Group(records=tuple(records), companions=tuple(companions), note=frame.payload, end=at)
            if frame.type == FrameType.RECORD:
                records.append(frame.payload)
            elif frame.type == FrameType.COMPANION and before == FrameType.RECORD:
                companions.append((len(records) - 1, frame.payload))
            elif frame.type < IGNORABLE_FROM:
                raise Corrupt(f"{self._name}: byte {frame.offset}", f"got a frame of type {frame.type} here in a group")
            before = frame.type
        if at != offset:
            raise Corrupt(f"{self._name}: byte {at}", "got the end of the segment in a durable group")
        return None

    def _hold(self, offset: int, count: int) -> None:
        """Have `count` bytes from `offset` on, if there are so many."""
        if offset + count <= self._start + len(self._bytes):
            return
        kept = self._bytes[offset - self._start :]
        fresh = os.pread(self._descriptor, max(self._slab_bytes, count), offset + len(kept))
        self._slab_bytes = min(2 * self._slab_bytes, SLAB_MAX_BYTES)
        self._start, self._bytes = offset, kept + fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the group that begins with record `sequence` stands."""

    path: Path
    offset: int
    sequence: int


class GroupReader:
    """Reads one writer. Keeps a cursor after its last batch, so reading on costs nothing for what was read."""

    def __init__(self, directory: Path, writer: WriterId) -> None:
        self._directory = directory
        self._writer = writer
        self._cursor: Cursor | None = None

    def read(self, begin: int, *, end: int | None, durable: int) -> JournaledBatch:
        """See Backlog.read. `durable` is how many records may be looked at."""
        last = durable if end is None else end
        if not begin < last <= durable:
            raise BadProof(f"got records {begin} to {last}, want some of the {durable} that are durable")
        cursor = self._seek(begin, durable)
        records: list[bytes] = []
        companions: list[tuple[int, bytes]] = []
        note, size = b"", 0
        with closing(self._groups(cursor)) as groups:
            while cursor.sequence < last:
                group, after = next(groups)
                size += group.size_bytes
                if records and (len(records) + len(group.records) > BATCH_MAX_RECORDS or size > BATCH_MAX_BYTES):
                    break
                companions += [(cursor.sequence + place, beside) for place, beside in group.companions]
                records += group.records
                note, cursor = group.note, after
        if cursor.sequence > last or (end is not None and cursor.sequence != end):
            raise BadProof(f"got records {begin} to {last}, want what was or may be shipped as one batch")
        self._cursor = cursor
        return JournaledBatch(
            writer=self._writer,
            begin=begin,
            end=cursor.sequence,
            records=tuple(records),
            note=note,
            companions=tuple(companions),
        )

    def read_first(self) -> FirstRecord:
        """See Backlog.read_first."""
        path = self._directory / segment_name(0)
        if not path.exists():
            raise NotFound(f"got no record 0 of writer {self._writer.hex()}: it was trimmed")
        with Slab(path) as slab:
            group = slab.group(slab.after_header())
        if group is None:
            raise Corrupt(f"{path.name}: byte 0", "got no group, want record 0 in it")
        nodes = as_nodes(leaf_hashes(group.records))
        proof = prove_inclusion(
            0,
            len(nodes),
            read=lambda wanted: [
                subtree_root(nodes[one.index << one.level : one.index + 1 << one.level]) for one in wanted
            ],
        )
        return FirstRecord(
            writer=self._writer,
            public_key=parse_record(group.records[0]).writer_started.public_key,
            record=group.records[0],
            note=group.note,
            proof=proof,
        )

    def _seek(self, begin: int, durable: int) -> Cursor:
        """The cursor at `begin`: the kept one, or one found by scanning the segment that holds it."""
        if self._cursor is not None and self._cursor.sequence == begin:
            return self._cursor
        before = [path for path in segment_paths(self._directory) if int(path.stem) <= begin]
        if not before:
            raise NotFound(f"got record {begin} of writer {self._writer.hex()}: it was trimmed")
        cursor = Cursor(path=before[-1], offset=0, sequence=int(before[-1].stem))
        with closing(self._groups(cursor)) as groups:
            while cursor.sequence < begin < durable:
                _, cursor = next(groups)
        if cursor.sequence != begin:
            raise BadProof(f"got record {begin}, want one that begins a group")
        return cursor

    def _groups(self, cursor: Cursor) -> Generator[tuple[Group, Cursor], None, None]:
        """Each group from the cursor on, and the cursor after it. Ask only for groups that are durable."""
        while True:
            with Slab(cursor.path) as slab:
                offset = cursor.offset or slab.after_header()
                while (group := slab.group(offset)) is not None:
                    offset = group.end
                    cursor = Cursor(path=cursor.path, offset=offset, sequence=cursor.sequence + len(group.records))
                    yield group, cursor
            following = self._directory / segment_name(cursor.sequence)
            if following == cursor.path or not following.exists():
                raise Corrupt(f"{cursor.path.name}: byte {offset}", f"got the end, want record {cursor.sequence}")
            cursor = Cursor(path=following, offset=0, sequence=cursor.sequence)
