# SPDX-License-Identifier: Apache-2.0
"""Whether the audit log holds all of one writer: rule O1, out of every leaf of the log.

The invariant: `holds` says that records [0, b) of the writer occur in the leaves [0, N) exactly once and in order, with
the roots that the writer signed, and that b is the largest size that any checkpoint of the writer in these leaves
names. Anything else is a fault that names the leaf.

    leaf      ..  W 0  W 1  P1(0,2)  ..  W 2  P1(2,3)  ..  W 5  P1(5,6)  ..  W 3  W 4  P1(3,5)  ..
    finding                                                └ gap [3, 5)       └ records [3, 5) late, after record 5

Checkpoints of the writer also stand in its WriterRetired leaf and in record 0 of its successor: one that is larger than
what the log holds proves that a tail is missing, and how long it is. What no log can show stands in `NOT_PROVABLE`.

Kept is one compact range and the hashes of one batch, so a log of any size can be read through. The leaves are believed
to be those of the tree; that is for who reads them to see to.
"""

import enum
from dataclasses import dataclass

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, IapError
from iap_authz.model.ids import WriterId
from iap_authz.records.log_inspect_head import parse_head, read_head
from iap_authz.records.log_leaves import begin_of, log_id, range_before
from iap_authz.records.record import parse_record
from iap_authz.records.started import writer_id, writer_origin
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, TreeSize
from iap_authz.tlog.note import VerifierKey, parse_note
from iap_authz.tlog.tree import CompactRange

NOT_PROVABLE = (
    "what was never journaled",
    "a tail lost with the pod",
    "an unknown writer",
    "traffic around Envoy",
    "completeness of a search answer",
)
"""What rule O1 says that no log can prove, in its words."""

FAULTS_MAX = 1_000
"""Faults that are kept; by then nothing is complete, and a longer list helps nobody."""

_NUMBERS = {name: field.number for name, field in record_pb2.Record.DESCRIPTOR.fields_by_name.items()}
_STARTED, _STOPPED = _NUMBERS["writer_started"], _NUMBERS["writer_stopped"]


class Tail(enum.Enum):
    """What is known of the end of a writer."""

    STOPPED = "stopped"
    SUCCEEDED = "succeeded"
    UNKNOWN = "tail unknown"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is not complete, doubled, out of order or not the writer's, and the leaf that shows it."""

    index: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessReport:
    """Records [0, size) of `writer` in the first `log_size` leaves, under the writer's `note` at `size`.

    What `tail` says: STOPPED, the last record is WriterStopped; SUCCEEDED, `successor` names the checkpoint at `size`
    as the last one of this writer; UNKNOWN, there may have been more records, of a writer that runs or has died.
    """

    writer: WriterId
    log_size: TreeSize
    size: TreeSize
    note: bytes
    registered_index: LeafIndex | None
    retired_index: LeafIndex | None
    tail: Tail
    successor: WriterId | None
    faults: tuple[Fault, ...]

    @property
    def holds(self) -> bool:
        """Whether the statement of rule O1 is proven, for `size` records."""
        return not self.faults


@dataclass(slots=True, kw_only=True)
class _Run:
    """Records of the writer, one after the other in the log, whose WriterCheckpoint has not come yet."""

    begin: int
    first_index: int
    hashes: list[LeafHash]

    @property
    def end(self) -> int:
        return self.begin + len(self.hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quoted:
    """A checkpoint of the writer that stands elsewhere than at the end of a batch."""

    index: int
    checkpoint: Checkpoint
    successor: WriterId | None


class Completeness:
    """Takes all leaves of the log in order, once each, and says at the end what they hold of one writer."""

    def __init__(self, origin: str, writer: WriterId) -> None:
        self._origin, self._writer, self._log = origin, writer, log_id(origin)
        self._note_name = writer_origin(origin, writer)
        self._verifier: VerifierKey | None = None
        self._registered: LeafIndex | None = None
        self._retired: LeafIndex | None = None
        self._size: int = 0
        self._tree, self._note = CompactRange.empty(), b""
        self._next = 0
        self._run: _Run | None = None
        self._stopped: int | None = None
        self._quoted: list[_Quoted] = []
        self._faults: list[Fault] = []

    def add(self, index: LeafIndex, leaf: bytes, leaf_hash: LeafHash) -> None:
        """Take the next leaf. Never raises for what stands in it: that is a fault."""
        if index != self._size:
            raise ValueError(f"got leaf {index}, want {self._size}")
        self._size = index + 1
        try:
            writer, sequence, body = read_head(leaf) or parse_head(leaf)
            if writer == self._writer:
                self._take(index, leaf_hash, sequence=sequence)
                self._stopped = sequence if body == _STOPPED else self._stopped
            elif writer == self._log:
                self._read_own(index, leaf)
            elif body == _STARTED:
                self._read_started(index, leaf)
        except IapError as error:
            self._report(index, str(error))

    def finish(self) -> CompletenessReport:
        """What the leaves hold. Nothing can be added after."""
        self._drop_run()
        if self._registered is None:
            self._report(self._size, f"got no registration of {self._writer.hex()}, want one before its records")
        successor = self._compare_quoted()
        tail = Tail.UNKNOWN
        if self._stopped is not None and self._stopped == self._tree.end - 1:
            tail = Tail.STOPPED
        elif successor is not None:
            tail = Tail.SUCCEEDED
        return CompletenessReport(
            writer=self._writer,
            log_size=TreeSize(self._size),
            size=self._tree.end,
            note=self._note,
            registered_index=self._registered,
            retired_index=self._retired,
            tail=tail,
            successor=successor,
            faults=tuple(self._faults),
        )

    def _report(self, index: int, message: str) -> None:
        if len(self._faults) < FAULTS_MAX:
            self._faults.append(Fault(index, message))

    def _take(self, index: int, leaf_hash: LeafHash, *, sequence: int) -> None:
        """A record of the writer."""
        run = self._run
        if run is not None and (sequence, index) == (run.end, run.first_index + len(run.hashes)):
            run.hashes.append(leaf_hash)
            return
        self._drop_run()
        self._run = _Run(begin=sequence, first_index=index, hashes=[leaf_hash])
        if self._registered is None:
            self._report(index, f"got record {sequence} before the writer is registered")
        if self._retired is not None:
            self._report(index, f"got record {sequence} of a writer that is retired at leaf {self._retired}")
        if sequence > self._next:
            self._report(
                index, f"got record {sequence}, want {self._next}: records [{self._next}, {sequence}) are not there"
            )

    def _drop_run(self) -> None:
        """Records that nothing of the writer's vouches for at their place."""
        run, self._run = self._run, None
        if run is not None:
            self._report(run.first_index, f"got records [{run.begin}, {run.end}) without a WriterCheckpoint after them")
            self._next = max(self._next, run.end)

    def _read_own(self, index: int, leaf: bytes) -> None:
        """A leaf of the log's own, if it is about the writer."""
        if bytes(self._writer) not in leaf and self._note_name.encode() not in leaf:
            return
        record = parse_record(leaf)
        if record.sequence != index:
            raise BadProof(f"got the log's own leaf {record.sequence}, want {index}")
        body = record.WhichOneof("body")
        if body == "writer_registered" and record.writer_registered.writer == self._writer:
            self._register(index, record.writer_registered)
        elif body == "writer_retired" and record.writer_retired.writer == self._writer:
            self._retire(index, record.writer_retired)
        elif body == "writer_checkpoint":
            self._end_run(index, record.writer_checkpoint)

    def _register(self, index: int, body: record_pb2.WriterRegistered) -> None:
        if writer_id(body.public_key) != self._writer:
            raise BadProof(f"got a registration with the key of {writer_id(body.public_key).hex()}")
        if self._registered is not None:
            raise BadProof(f"got the writer registered again, want it once, at leaf {self._registered}")
        self._verifier = VerifierKey(name=self._note_name, public_key=body.public_key)
        self._registered = LeafIndex(index)

    def _retire(self, index: int, body: record_pb2.WriterRetired) -> None:
        """Rule W6: two notes of one size and two roots are the writer's own proof that it is not to be believed."""
        self._retired = LeafIndex(index)
        notes = [note for note in (body.final_checkpoint, body.conflicting_checkpoint) if note]
        checkpoints = [self._open(note) for note in notes]
        self._quoted += [_Quoted(index=index, checkpoint=one, successor=None) for one in checkpoints]
        if len({(one.size, one.root) for one in checkpoints}) > len({one.size for one in checkpoints}):
            raise BadProof(f"got two trees of size {checkpoints[0].size} that the writer signed")

    def _end_run(self, index: int, body: record_pb2.WriterCheckpoint) -> None:
        """Rules P1, A4: the batch before is what the writer signed, on top of what it signed before."""
        if parse_checkpoint(parse_note(body.note).text).origin != self._note_name:
            return
        run, self._run = self._run, None
        if run is None or index != run.first_index + len(run.hashes):
            raise BadProof("got a WriterCheckpoint without the writer's records right before it")
        late = self._next
        self._next = max(late, run.end)
        if run.begin < late:
            self._report(run.first_index, f"got records [{run.begin}, {run.end}) again or late, want {late} next")
        got = begin_of(body), body.to, body.first_index
        if got != (run.begin, run.end, run.first_index):
            raise BadProof(f"got a batch from, to, first index of {got}, want {run.begin, run.end, run.first_index}")
        before, checkpoint = range_before(body), self._open(body.note)
        tree = before.extend(run.hashes)
        if before.end == self._tree.end and before != self._tree:
            raise BadProof(f"got another tree at size {before.end}, want that of the batch before")
        if (checkpoint.size, checkpoint.root) != (run.end, tree.root()):
            raise BadProof(f"got records with root {tree.root().hex()} at size {run.end}, want what the writer signed")
        if tree.end > self._tree.end:
            self._tree, self._note = tree, body.note

    def _read_started(self, index: int, leaf: bytes) -> None:
        """Record 0 of another writer, which may name this one as its predecessor.

        A note in it that this writer did not sign shows nothing of this writer, and is no fault of its own.
        """
        body = parse_record(leaf).writer_started
        if body.predecessor != self._writer or not body.predecessor_checkpoint or self._verifier is None:
            return
        try:
            checkpoint = self._open(body.predecessor_checkpoint)
        except IapError:
            return
        successor = writer_id(body.public_key)
        self._quoted.append(_Quoted(index=index, checkpoint=checkpoint, successor=successor))

    def _open(self, note: bytes) -> Checkpoint:
        """A checkpoint that the writer signed."""
        if self._verifier is None:
            raise BadProof("got a checkpoint of the writer before its registration")
        return open_checkpoint(note, self._verifier)

    def _compare_quoted(self) -> WriterId | None:
        """Report checkpoints that the log does not reach or that contradict it. The successor that names its end."""
        successor, held = None, self._tree
        for quoted in self._quoted:
            size, root = quoted.checkpoint.size, quoted.checkpoint.root
            if size > held.end:
                self._report(
                    quoted.index,
                    f"got records [0, {held.end}), want [0, {size}), which the writer signed: a tail is missing",
                )
            elif size == held.end and root != held.root():
                self._report(quoted.index, f"got two trees of size {size} that the writer signed")
            elif size == held.end:
                successor = quoted.successor or successor
        return successor
