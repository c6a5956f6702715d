# SPDX-License-Identifier: Apache-2.0
"""An audit log made leaf by leaf in memory, as one that keeps the rules would hold it, and evidence out of it.

It has no sequencer: a test says which leaves there are, also false ones, and signs what it likes.
"""

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.model.ids import WriterId
from iap_authz.records.log_evidence import BatchLeaves, log_evidence, own_leaf_evidence
from iap_authz.records.log_leaves import checkpoint_body, log_leaf
from iap_authz.records.record import parse_record
from iap_authz.records.writerlog import start_writer_log
from iap_authz.tlog.checkpoint import Checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize, leaf_hash
from iap_authz.tlog.note import NoteSigner, VerifierKey
from iap_authz.tlog.tree import Subtree
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, FixedSigner, counted, record_id, start_record
from tests.fakes.reference_tree import ReferenceTree


class MadeWriter:
    """A writer whose records are small and whose key a seed gives."""

    def __init__(self, seed: str = "writer", *, origin: str = ORIGIN) -> None:
        self.signer = FixedSigner(seed)
        self.writer: WriterId = self.signer.writer
        self.leaves: list[bytes] = []
        self.log = start_writer_log(origin, self.signer.public_key, sign=self.signer.sign)
        self._origin = origin

    def add(self, body: Message | None = None) -> bytes:
        """The next record: the first is WriterStarted, the others are `body` or a count."""
        number = len(self.leaves)
        if number == 0:
            leaf = start_record(self.signer, origin=self._origin)
        else:
            leaf = counted(self.writer, RecordSequence(number), count=number, time=START + timedelta(seconds=number))
        if body is not None:
            record = parse_record(leaf)
            record.ClearField("refusals")
            field = next(one for one in record.DESCRIPTOR.fields if one.message_type is body.DESCRIPTOR)
            getattr(record, field.name).CopyFrom(body)
            getattr(record, field.name).SetInParent()
            leaf = record.SerializeToString(deterministic=True)
        self.leaves.append(leaf)
        return leaf


class MadeLog:
    """Leaves, and what can be said of them."""

    def __init__(self, seed: str = "log", *, origin: str = ORIGIN) -> None:
        signer = FixedSigner(seed)
        self.origin = origin
        self.signer = NoteSigner(name=origin, public_key=signer.public_key, sign=signer.sign)
        self.key: VerifierKey = self.signer.verifier()
        self.leaves: list[bytes] = []
        self.batches: list[BatchLeaves] = []
        self.registered: dict[WriterId, LeafIndex] = {}

    @property
    def size(self) -> TreeSize:
        return TreeSize(len(self.leaves))

    def add_own(self, body: Message) -> LeafIndex:
        """A leaf of the log's own."""
        index = LeafIndex(self.size)
        self.leaves.append(log_leaf(body, origin=self.origin, index=index, record_id=record_id(index), time=START))
        return index

    def register(self, writer: MadeWriter) -> LeafIndex:
        body = record_pb2.WriterRegistered(
            writer=writer.writer, public_key=writer.signer.public_key, workload="orders", enrolled_by="tests"
        )
        self.registered[writer.writer] = index = self.add_own(body)
        return index

    def append(self, writer: MadeWriter, count: int, *, body: Message | None = None) -> BatchLeaves:
        """A batch of the writer's next `count` records, the last one with `body`, and its WriterCheckpoint."""
        leaves = [writer.add(body if number == count - 1 else None) for number in range(count)]
        before, first = writer.log.tree, LeafIndex(self.size)
        writer.log, note = writer.log.commit([leaf_hash(leaf) for leaf in leaves])
        self.leaves += leaves
        end = checkpoint_body(note, before=before, end=writer.log.size, first_index=first, received=START)
        index = self.add_own(end)
        batch = BatchLeaves(
            first_index=first, begin=before.end, records=tuple(leaves), checkpoint_leaf=self.leaves[index]
        )
        self.batches.append(batch)
        return batch

    def tree(self) -> ReferenceTree:
        return ReferenceTree(self.leaves)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = self.size if size is None else size
        return Checkpoint(origin=self.origin, size=TreeSize(size), root=self.tree().root(size))

    def note(self, size: int | None = None) -> bytes:
        return sign_checkpoint(self.checkpoint(size), self.signer)

    def read(self, subtrees: Sequence[Subtree]) -> list[NodeHash]:
        tree = self.tree()
        return [tree.mth(one.index << one.level, (one.index + 1) << one.level) for one in subtrees]

    def evidence(self, index: int, size: int | None = None) -> log_pb2.Evidence:
        """What the log says of its leaf `index`."""
        size = TreeSize(self.size if size is None else size)
        leaf, note = self.leaves[index], self.note(size)
        for batch in self.batches:
            if batch.first_index <= index < batch.first_index + len(batch.records):
                registration_index = self.registered[WriterId(parse_record(leaf).writer)]
                return log_evidence(
                    leaf,
                    LeafIndex(index),
                    batch=batch,
                    size=size,
                    note=note,
                    read=self.read,
                    registration=self.leaves[registration_index],
                    registration_index=registration_index,
                )
        return own_leaf_evidence(leaf, LeafIndex(index), size=size, note=note, read=self.read)


def small_log() -> tuple[MadeLog, MadeWriter, MadeWriter]:
    """Two writers whose batches of several lengths alternate; an Alert of the log's own in between."""
    log, first, second = MadeLog(), MadeWriter("first"), MadeWriter("second")
    log.register(first)
    log.append(first, 1)
    log.register(second)
    log.append(second, 3)
    log.append(first, 4)
    log.add_own(record_pb2.Alert(rule="silence", severity="warning"))
    log.append(first, 6)
    log.append(second, 1)
    return log, first, second
