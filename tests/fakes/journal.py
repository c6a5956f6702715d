# SPDX-License-Identifier: Apache-2.0
"""A journal in memory that asserts its contract, a signer with a fixed key, and journals built from values."""

import asyncio
import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.journal.files import FileJournal
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
from iap_authz.records.seal import (
    SEALED_KEY_BYTES,
    PreparedKey,
    Seal,
    SubjectKey,
    check_beside,
    take_key,
)
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
        self._mark = RecordSequence(0)
        self.leaves: list[bytes] = []
        self.besides: dict[int, bytes] = {}
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

    @property
    def segment_mark(self) -> RecordSequence | None:
        """Where the newest segment that was asked for begins, once a record is in it."""
        return self._mark if self._mark < len(self.leaves) else None

    def begin_segment(self) -> RecordSequence:
        self._mark = RecordSequence(len(self.leaves))
        return self._mark

    def append_nowait(
        self, build: Callable[[WriterId, RecordSequence], bytes], *, room: Room, beside: bytes = b""
    ) -> Appended:
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
        self._check_beside(leaf, beside)
        if beside:
            self.besides[sequence] = beside
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

    def _check_beside(self, leaf: bytes, beside: bytes) -> None:
        record = parse_record(leaf)
        assert record.HasField("sealed") == bool(beside), "a sealed record has a companion, and no other"
        if beside:
            check_beside(record.sealed, beside)

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


def fixed_seal(sequence: int, *, seal_epoch: int = 1, seed: str = "alice", origin: str = ORIGIN) -> Seal:
    """What a record is sealed with: the same in every run. The key is not sealed to any vault, only long enough."""
    salt = sha256(f"salt {sequence}".encode()).digest()
    return Seal(origin=origin, key=fixed_subject_key(seed, seal_epoch=seal_epoch), salt=salt)


def fixed_subject_key(seed: str, *, seal_epoch: int = 1) -> SubjectKey:
    secret = sha256(f"subject key {seed} {seal_epoch}".encode()).digest()
    sealed = (sha256(secret).digest() * 3)[:SEALED_KEY_BYTES]
    prepared = PreparedKey(secret=secret, key_id=sha256(sealed).digest()[:16], sealed=sealed)
    return take_key(prepared, vault_epoch=1, seal_epoch=seal_epoch)


def sealed_leaf(
    writer: WriterId, sequence: RecordSequence, *, seal: Seal | None = None, time: datetime = START
) -> bytes:
    """A small record with a sealed part; what stands beside it is `fixed_seal(sequence).beside`, or that of `seal`."""
    return service_record(
        record_pb2.Outcome(kind=record_pb2.Outcome.REQUEST_FINISHED, http_status=200, decision=bytes(32)),
        writer=writer,
        sequence=sequence,
        record_id=record_id(sequence),
        time=time,
        personal=(record_pb2.OutcomePersonal(upstream_address="192.0.2.7:443"), seal or fixed_seal(sequence)),
    )


def sealed_leaves(signer: FixedSigner, count: int) -> tuple[list[bytes], dict[bytes, bytes]]:
    """WriterStarted, then sealed and other records in turn, a second apart; and what stands beside the sealed ones."""
    leaves, besides = sample_leaves(signer, count), {}
    for number in range(1, count, 2):
        sequence, time = RecordSequence(number), START + timedelta(seconds=number)
        leaves[number] = sealed_leaf(signer.writer, sequence, time=time)
        besides[leaves[number]] = fixed_seal(number).beside
    return leaves, besides


def render_records(leaves: Sequence[bytes], besides: Mapping[bytes, bytes]) -> list[bytes]:
    """The frames of a group before its checkpoint."""
    frames = []
    for leaf in leaves:
        frames.append(render_frame(FrameType.RECORD, leaf))
        if leaf in besides:
            frames.append(render_frame(FrameType.COMPANION, besides[leaf]))
    return frames


def build_segments(
    signer: FixedSigner,
    segments: Sequence[Sequence[Sequence[bytes]]],
    *,
    besides: Mapping[bytes, bytes] | None = None,
    unused_bytes: int = 0,
    origin: str = ORIGIN,
) -> list[tuple[str, bytes]]:
    """The bytes of a journal, spelled out here a second time: leaves by group by segment, then zeros.

    `besides` is what stands beside some leaves, by leaf.
    """
    log, note, built = start_writer_log(origin, signer.public_key, sign=signer.sign), b"", []
    for number, groups in enumerate(segments):
        header = SegmentHeader(public_key=signer.public_key, number=number, before=log.tree, checkpoint=note)
        name, frames = segment_name(log.size), [render_frame(FrameType.HEADER, render_header(header))]
        for leaves in groups:
            log, note = log.commit([leaf_hash(leaf) for leaf in leaves])
            frames += render_records(leaves, besides or {})
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


async def settled(journal: FileJournal) -> None:
    """What the journal has asked of its disk so far is done, and the journal has been told."""
    for _ in range(2):
        done = asyncio.Event()
        journal._committer.submit(lambda: None, lambda _result, _failure, done=done: done.set())  # type: ignore[misc]  # noqa: SLF001
        await done.wait()


def ids_of(leaves: Sequence[bytes]) -> list[str]:
    return [audit_id(leaf) for leaf in leaves]
