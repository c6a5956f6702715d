# SPDX-License-Identifier: Apache-2.0
"""Logs built from values, a second time and the plain way: leaves, bundles, tiles and a checkpoint, in a dictionary."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.records.log_leaves import checkpoint_body, log_leaf
from iap_authz.records.record import service_record
from iap_authz.records.writerlog import WriterLog, start_writer_log
from iap_authz.tlog.batch import Write, plan, plan_partials
from iap_authz.tlog.checkpoint import Checkpoint, render_checkpoint
from iap_authz.tlog.edge import EMPTY_EDGE, Edge, tree_of
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hash, leaf_hashes
from iap_authz.tlog.note import NoteSigner, render_note, sign_note
from iap_authz.tlog.tree import CompactRange
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, FixedSigner, counted, record_id, start_record

LOG_KEY = FixedSigner("log")
LOG_SIGNER = NoteSigner(name=ORIGIN, public_key=LOG_KEY.public_key, sign=LOG_KEY.sign)

OTHER_KEY = FixedSigner("log, next key")
OTHER_SIGNER = NoteSigner(name=ORIGIN, public_key=OTHER_KEY.public_key, sign=OTHER_KEY.sign)


@dataclass
class Writer:
    """A writer's side: its key, and its tree as far as it has sent."""

    signer: FixedSigner
    log: WriterLog

    @classmethod
    def of(cls, seed: str) -> "Writer":
        signer = FixedSigner(seed)
        return cls(signer=signer, log=start_writer_log(ORIGIN, signer.public_key, sign=signer.sign))

    def record(self, sequence: int, body: Message | None = None) -> bytes:
        """Record 0 is WriterStarted; the others count, or say what they are given."""
        if sequence == 0 and body is None:
            return start_record(self.signer)
        place = RecordSequence(sequence)
        if body is None:
            return counted(self.signer.writer, place, count=sequence + 1, time=START + timedelta(seconds=sequence))
        writer = self.signer.writer
        return service_record(body, writer=writer, sequence=place, record_id=record_id(sequence), time=START)


@dataclass
class LogBuilder:
    """The leaves of a log. Each method adds what an honest log adds."""

    leaves: list[bytes] = field(default_factory=list)

    def own(self, body: Message, *, index: int | None = None) -> None:
        place = LeafIndex(len(self.leaves) if index is None else index)
        self.leaves.append(log_leaf(body, origin=ORIGIN, index=place, record_id=record_id(place), time=START))

    def register(self, writer: Writer, **changes: object) -> None:
        body = record_pb2.WriterRegistered(
            writer=writer.signer.writer, public_key=writer.signer.public_key, workload="orders", enrolled_by="test"
        )
        for name, value in changes.items():
            setattr(body, name, value)
        self.own(body)

    def retire(self, writer: Writer, **notes: bytes) -> None:
        self.own(record_pb2.WriterRetired(writer=writer.signer.writer, cause="test", **notes))

    def batch(
        self,
        writer: Writer,
        count: int = 0,
        *,
        bodies: Sequence[Message] = (),
        change: Callable[[record_pb2.WriterCheckpoint], None] = lambda _: None,
    ) -> bytes:
        """`count` records, or one for each of `bodies`, and their WriterCheckpoint. Returns the writer's note."""
        begin = writer.log.tree
        places = range(begin.end, begin.end + (count or len(bodies)))
        given = [None] * count if count else bodies
        records = [writer.record(place, body) for place, body in zip(places, given, strict=True)]
        writer.log, note = writer.log.commit(leaf_hashes(records))
        first = LeafIndex(len(self.leaves))
        self.leaves += records
        body = checkpoint_body(note, before=begin, end=writer.log.size, first_index=first, received=START)
        change(body)
        self.own(body)
        return note

    def root(self, size: int | None = None) -> bytes:
        return CompactRange.empty().extend(leaf_hashes(self.leaves[:size])).root()

    def note(self, size: int | None = None, *, signers: Sequence[NoteSigner] = (LOG_SIGNER,)) -> bytes:
        leaves = self.leaves[:size]
        tree = CompactRange.empty().extend(leaf_hashes(leaves))
        text = render_checkpoint(Checkpoint(origin=ORIGIN, size=TreeSize(len(leaves)), root=tree.root()))
        return render_note(sign_note(text, signers))

    def store(self, published: Iterable[int] = ()) -> dict[str, bytes]:
        """All files of a log that was published at these sizes and at its end."""
        files: dict[str, bytes] = {}
        edge: Edge = EMPTY_EDGE
        writes: list[Write] = []
        for size in sorted({*published, len(self.leaves)}):
            if size > edge.size:
                done = plan(tree_of(edge), self.leaves[edge.size : size], edge=edge)
                writes += (*done.full, *plan_partials(done.edge, published=edge.size))
                edge = done.edge
        files.update((write.path, write.content) for write in writes)
        files["checkpoint"] = self.note()
        return files


def write_store(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def small_log(rounds: int = 4, *, records: int = 5) -> LogBuilder:
    """Two writers that take turns; the second one says what it saw of the log, the first one is retired at the end."""
    log, first, second = LogBuilder(), Writer.of("writer"), Writer.of("other")
    log.register(first)
    log.batch(first, 3)
    log.register(second)
    log.batch(second, 1)
    for number in range(rounds):
        log.batch(first, records + number)
        log.batch(second, bodies=[record_pb2.Heartbeat(log_checkpoint=log.note()), record_pb2.Refusals(count=number)])
    log.retire(first)
    return log


def hashes(leaves: Sequence[bytes]) -> list[bytes]:
    return [leaf_hash(leaf) for leaf in leaves]
