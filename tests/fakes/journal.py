# SPDX-License-Identifier: Apache-2.0
"""A journal in memory that asserts its contract, a signer with a fixed key, and journals built from values."""

import asyncio
import errno
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import JournalFull
from iap_authz.model.ids import AuditId, WriterId
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.ports import Appended
from iap_authz.records.journal_format import (
    FrameType,
    SegmentHeader,
    render_frame,
    render_header,
    segment_name,
)
from iap_authz.records.record import audit_id, parse_record, service_record
from iap_authz.records.room import Room
from iap_authz.records.started import Predecessor, render_started, writer_id
from iap_authz.records.writerlog import start_writer_log
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.clock import START

ORIGIN = "log.example.com/orders"


class FixedSigner:
    """The key that a seed gives: the same in every run, so that bytes can be pinned."""

    def __init__(self, seed: str = "writer") -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest())

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    @property
    def writer(self) -> WriterId:
        return writer_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class MemoryJournal:
    """Keeps the contract of the port `Journal`, and asserts the caller's side of it.

    `full` holds the rooms that have none left. `hold` makes records stay not durable until `release`; `fail` ends it
    like an fsync error does.
    """

    def __init__(self, signer: FixedSigner | None = None, *, hold: bool = False) -> None:
        self._writer = (signer or FixedSigner()).writer
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.get_ident()
        self._hold = hold
        self._waiting: list[asyncio.Future[None]] = []
        self._building = False
        self._closed = False
        self.leaves: list[bytes] = []
        self.rooms: list[Room] = []
        self.full: set[Room] = set()

    @property
    def writer(self) -> WriterId:
        return self._writer

    @property
    def failed(self) -> "asyncio.Future[None]":
        return self._failed

    @property
    def records(self) -> list[record_pb2.Record]:
        return [parse_record(leaf) for leaf in self.leaves]

    def append_nowait(self, build: Callable[[WriterId, RecordSequence], bytes], *, room: Room) -> Appended:
        assert threading.get_ident() == self._thread, "the journal is owned by the loop's thread"
        assert not self._building, "build must not append"
        if self._failed.done():
            raise OSError(errno.EIO, "the journal has failed, and takes nothing more")
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the journal is closed")
        if room in self.full:
            raise JournalFull(f"got no room for {room.value}")
        sequence = RecordSequence(len(self.leaves))
        self._building = True
        try:
            leaf = build(self._writer, sequence)
        finally:
            self._building = False
        self._check_leaf(leaf, sequence)
        self.leaves.append(leaf)
        self.rooms.append(room)
        durable: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(durable)
        if not self._hold:
            self._loop.call_soon(self.release)
        return Appended(audit_id=AuditId(leaf_hash(leaf).hex()), sequence=sequence, durable=durable)

    def _check_leaf(self, leaf: bytes, sequence: int) -> None:
        record = parse_record(leaf)
        assert record.writer == self._writer, "a record names its writer"
        assert record.sequence == sequence, "a record names its place"
        assert (record.WhichOneof("body") == "writer_started") == (sequence == 0), "record 0 is WriterStarted"
        if self.leaves:
            before = parse_record(self.leaves[-1]).time
            assert (record.time.seconds, record.time.nanos) >= (before.seconds, before.nanos), "time never goes back"

    def release(self) -> None:
        """What was appended is durable."""
        waiting, self._waiting = self._waiting, []
        for durable in waiting:
            if not durable.done():
                durable.set_result(None)

    def fail(self, error: OSError) -> None:
        """A write or fsync error."""
        waiting, self._waiting = self._waiting, []
        for future in (self._failed, *waiting):
            if not future.done():
                future.set_exception(error)
                future.exception()

    async def close(self) -> None:
        self._closed = True
        if not self._failed.done():
            self.release()


def record_id(number: int) -> bytes:
    return sha256(f"record {number}".encode()).digest()[:16]


def start_record(
    signer: FixedSigner,
    *,
    origin: str = ORIGIN,
    time: datetime = START,
    predecessor: Predecessor | None = None,
) -> bytes:
    body = render_started(
        origin,
        signer.public_key,
        sign=signer.sign,
        workload="spiffe://example.com/orders",
        instance="pod-1",
        version="0.1.0",
        predecessor=predecessor,
    )
    return service_record(body, writer=signer.writer, sequence=RecordSequence(0), record_id=record_id(0), time=time)


def counted(writer: WriterId, sequence: RecordSequence, *, count: int = 1, time: datetime = START) -> bytes:
    """A small record that can be told apart by its count."""
    body = record_pb2.Refusals(count=count, verdict=record_pb2.DENY)
    return service_record(body, writer=writer, sequence=sequence, record_id=record_id(sequence), time=time)


def sample_leaves(signer: FixedSigner, count: int) -> list[bytes]:
    """WriterStarted and `count - 1` small records, a second apart."""
    rest = [
        counted(signer.writer, RecordSequence(number), count=number, time=START + timedelta(seconds=number))
        for number in range(1, count)
    ]
    return [start_record(signer), *rest]


def build_segments(
    signer: FixedSigner, segments: Sequence[Sequence[Sequence[bytes]]], *, unused_bytes: int = 0, origin: str = ORIGIN
) -> list[tuple[str, bytes]]:
    """The bytes of a journal, spelled out here a second time: leaves by group by segment, then zeros."""
    log, note, built = start_writer_log(origin, signer.public_key, sign=signer.sign), b"", []
    for number, groups in enumerate(segments):
        header = SegmentHeader(public_key=signer.public_key, number=number, before=log.tree, checkpoint=note)
        name, frames = segment_name(log.size), [render_frame(FrameType.HEADER, render_header(header))]
        for leaves in groups:
            log, note = log.commit([leaf_hash(leaf) for leaf in leaves])
            frames += [render_frame(FrameType.RECORD, leaf) for leaf in leaves]
            frames.append(render_frame(FrameType.CHECKPOINT, note))
        built.append((name, b"".join(frames) + bytes(unused_bytes)))
    return built


def store_segments(directory: Path, writer: WriterId, segments: Sequence[tuple[str, bytes]]) -> Path:
    """Put a journal into a journal directory, as a process that was killed leaves it."""
    folder = directory / writer.hex()
    folder.mkdir(parents=True)
    for name, segment in segments:
        (folder / name).write_bytes(segment)
    return folder


def ids_of(leaves: Sequence[bytes]) -> list[str]:
    return [audit_id(leaf) for leaf in leaves]
