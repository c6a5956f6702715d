# SPDX-License-Identifier: Apache-2.0
"""The log's leaves folded into the states of its writers: what recovery rebuilds and what an inspection proves.

The invariant: a state in `Fold.writers` follows from the leaves alone. Without a problem, records [0, size) of each
writer stand in the log exactly once and in order (rule O1), and under the root that the writer signed (rules A4, W5).

    ... | records [a, b) of W | WriterCheckpoint | records [c, d) of V | WriterCheckpoint | WriterRegistered | ...
          first_index ..        compact range [0, a), the note of W at b

A million records take a few seconds: of most of them only the head is read (`log_inspect_head`). What stands inside
a decision is not looked at here.

The leaves are believed to be those of the tree; that is for who reads them to see to. The log's signature is not
looked at either: log checkpoints that writers quote (rule G3) are compared with the tree, whoever signed them.
"""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from contextlib import suppress
from dataclasses import dataclass, replace

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, IapError, shown
from iap_authz.model.ids import WriterId
from iap_authz.records.log_inspect_head import Head, parse_head, read_head
from iap_authz.records.log_leaves import LOG_BODIES, QUOTING_BODIES, begin_of, log_id, range_before
from iap_authz.records.record import parse_record
from iap_authz.records.started import check_started, writer_id, writer_origin
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, NodeHash, TreeSize
from iap_authz.tlog.note import VerifierKey, parse_note
from iap_authz.tlog.tree import CompactRange

_BODY_NUMBERS = {name: field.number for name, field in record_pb2.Record.DESCRIPTOR.fields_by_name.items()}
_STARTED = _BODY_NUMBERS["writer_started"]
_CHECKPOINT = _BODY_NUMBERS["writer_checkpoint"]
_QUOTING = frozenset(_BODY_NUMBERS[name] for name in QUOTING_BODIES)
_OF_LOG = frozenset(_BODY_NUMBERS[name] for name in LOG_BODIES)
_LOOKED_AT = _QUOTING | _OF_LOG
_OF_WRITERS = _QUOTING | {_BODY_NUMBERS[name] for name in ("decision", "outcome", "refusals")}
_NAMES = {number: name for name, number in _BODY_NUMBERS.items()}

PROBLEMS_MAX = 1_000
"""Problems that are kept; by then the log is not what it was, and a longer list helps nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterState:
    """A writer as of a tree size: `tree` over its records [0, size), and the `note` that ends its last batch.

    The note is b"" before the first batch. A writer is valid from its registered to its retired leaf (rule W5).
    """

    writer: WriterId
    verifier: VerifierKey
    workload: str
    registered_index: LeafIndex
    retired_index: LeafIndex | None
    tree: CompactRange
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedBatch:
    """Records [begin, end) of `writer` from leaf `first_index` on, and after them their WriterCheckpoint."""

    writer: WriterId
    begin: int
    end: int
    first_index: LeafIndex


@dataclass(frozen=True, slots=True)
class Problem:
    """One leaf that cannot stand where it does, and why."""

    index: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A log checkpoint that the writer of leaf `index` says it has verified (rule G3)."""

    index: int
    checkpoint: Checkpoint


@dataclass(slots=True, kw_only=True)
class _Open:
    """A batch whose WriterCheckpoint has not come yet."""

    writer: bytes
    begin: int
    next: int
    first_index: int
    hashes: list[LeafHash]


class Fold:
    """Takes the leaves in order, once each. `writers`, `batches`, `quotes` and `problems` say what they came to.

    After a problem it goes on with what the next signed note of the same writer vouches for, so that one wrong leaf is
    one problem and not a thousand.
    """

    def __init__(self, origin: str) -> None:
        self.writers: dict[WriterId, WriterState] = {}
        self.batches: list[FoldedBatch] = []
        self.quotes: list[Quote] = []
        self.problems: list[Problem] = []
        self.size: int = 0
        self._origin = origin
        self._log = log_id(origin)
        self._open: _Open | None = None
        self._lost: set[bytes] = set()
        self._blind = False

    @classmethod
    def resume(cls, origin: str, states: Iterable[WriterState], *, size: TreeSize) -> "Fold":
        """A fold that goes on at leaf `size`, where a batch ended, with the writers as of then."""
        fold = cls(origin)
        fold.writers = {state.writer: state for state in states}
        fold.size = size
        return fold

    def add(self, index: LeafIndex, leaf: bytes, leaf_hash: LeafHash) -> None:
        """Take the next leaf; `index` is `size`. Never raises for what stands in it: that is a problem."""
        self.add_all(index, [leaf], [leaf_hash])

    def add_all(self, first: LeafIndex, leaves: Many[bytes], hashes: Many[LeafHash]) -> None:
        """Take many leaves; `first` is `size`."""
        if first != self.size:
            raise ValueError(f"got leaf {first}, want {self.size}")
        self.size += len(leaves)
        for index, (leaf, leaf_hash) in enumerate(zip(leaves, hashes, strict=True), first):
            head = read_head(leaf) or self._parse_head(index, leaf)
            going = self._open
            if going is not None and head is not None and head[0] == going.writer and head[1] == going.next:
                going.hashes.append(leaf_hash)
                going.next += 1
                if head[2] in _LOOKED_AT:
                    self._read_record(index, leaf, head)
            elif head is not None:
                self._turn(index, leaf, head, leaf_hash=leaf_hash)

    def skip(self, index: LeafIndex) -> None:
        """Go past a leaf whose bytes are lost. It is no problem by itself: who lost them reports that.

        Nothing can be said of its batch; of each writer, what the next signed note vouches for is believed again.
        """
        if index != self.size:
            raise ValueError(f"got leaf {index}, want {self.size}")
        self.size += 1
        self._lose()
        self._blind = True

    def drain_batches(self) -> list[FoldedBatch]:
        """The batches that have ended since the last drain, in order."""
        batches, self.batches = self.batches, []
        return batches

    def check_quotes(self, root_at: Callable[[TreeSize], NodeHash | None]) -> None:
        """Make a problem of each quoted log checkpoint since the last call that is not on this tree (rule G3).

        `root_at` gives the root at a size, or None where it cannot tell.
        """
        quotes, self.quotes = self.quotes, []
        for quote in quotes:
            want = root_at(quote.checkpoint.size)
            if want not in (None, quote.checkpoint.root):
                self._report(
                    quote.index,
                    f"got a writer that has seen root {quote.checkpoint.root.hex()} at size {quote.checkpoint.size}, "
                    f"want {want.hex() if want else None}: there are two views of this log",
                )

    def finish(self) -> None:
        """No leaf follows: a batch that has not ended is a problem."""
        self._abandon(self.size)

    def _report(self, index: int, message: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(index, message))

    def _break(self, index: int, message: str) -> None:
        """Report, and believe nothing of the batch that is open."""
        self._report(index, message)
        self._lose()

    def _lose(self) -> None:
        if self._open is not None:
            self._lost.add(self._open.writer)
            self._open = None

    def _parse_head(self, index: int, leaf: bytes) -> Head | None:
        """The head of a record that is serialized in another way than ours."""
        try:
            return parse_head(leaf)
        except IapError as error:
            self._break(index, f"got a leaf that is no record: {error}")
            return None

    def _abandon(self, index: int) -> None:
        """Something else follows where the open batch should go on or end."""
        if self._open is not None:
            records = f"records {self._open.begin} to {self._open.next} of {self._open.writer.hex()}"
            self._break(index, f"got no WriterCheckpoint after {records}")

    def _turn(self, index: int, leaf: bytes, head: Head, *, leaf_hash: LeafHash) -> None:
        """A leaf that does not just go on with the open batch."""
        writer, sequence, _ = head
        if writer == self._log:
            self._read_own(index, leaf, head)
            return
        if self._blind:
            self._lost.add(writer)
            return
        if self._open is not None and writer == self._open.writer:
            self._break(index, f"got record {sequence} of {writer.hex()}, want {self._open.next}")
        self._abandon(index)
        state = self.writers.get(WriterId(writer))
        if state is None:
            self._report(index, f"got record {sequence} of {writer.hex()}, which is not registered before it")
            return
        if state.retired_index is not None:
            self._report(index, f"got record {sequence} of {writer.hex()}, retired at leaf {state.retired_index}")
            return
        if sequence != state.tree.end and writer not in self._lost:
            self._report(index, f"got record {sequence} of {writer.hex()}, want {state.tree.end}")
            self._lost.add(writer)
        self._open = _Open(writer=writer, begin=sequence, next=sequence + 1, first_index=index, hashes=[leaf_hash])
        self._read_record(index, leaf, head)

    def _read_record(self, index: int, leaf: bytes, head: Head) -> None:
        """What a record of a writer says that concerns the log."""
        writer, sequence, body = head
        if body in _OF_LOG:
            self._report(index, f"got {_NAMES[body]} by the writer {writer.hex()}, which only the log may make")
        if (body == _STARTED) != (sequence == 0):
            self._report(index, f"got {_NAMES.get(body, body)} as record {sequence}, want WriterStarted as 0 only")
        if body not in _QUOTING:
            return
        try:
            record = parse_record(leaf)
            if body == _STARTED and check_started(record, self._origin) != self.writers[WriterId(writer)].verifier:
                raise BadProof("got another key than was registered")
            self._quote(index, getattr(record, _NAMES[body]).log_checkpoint)
        except IapError as error:
            self._report(index, f"record {sequence} of {writer.hex()}: {error}")

    def _quote(self, index: int, note: bytes) -> None:
        """Rule G3. A checkpoint of more leaves than there were before the record is one of another tree."""
        if not note:
            return
        checkpoint = parse_checkpoint(parse_note(note).text)
        if checkpoint.origin != self._origin:
            raise BadProof(f"got a checkpoint of {shown(checkpoint.origin)}, want one of {shown(self._origin)}")
        if checkpoint.size > index:
            raise BadProof(f"got a checkpoint of size {checkpoint.size}, want at most {index}, its own place")
        self.quotes.append(Quote(index=index, checkpoint=checkpoint))

    def _read_own(self, index: int, leaf: bytes, head: Head) -> None:
        """A leaf of the log's own."""
        _, sequence, body = head
        blind, self._blind = self._blind, False
        if body != _CHECKPOINT:
            self._abandon(index)
        elif blind:
            self._lose_writer_of(leaf)
            return
        if sequence != index:
            self._break(index, f"got the log's own leaf {sequence}, want {index}")
            return
        if body in _OF_WRITERS:
            self._break(index, f"got {_NAMES[body]} by the log, which only a writer may make")
            return
        try:
            record = parse_record(leaf)
            if body == _CHECKPOINT:
                self._end_batch(index, record.writer_checkpoint)
            elif body == _BODY_NUMBERS["writer_registered"]:
                self._register(index, record.writer_registered)
            elif body == _BODY_NUMBERS["writer_retired"]:
                self._retire(index, record.writer_retired)
        except IapError as error:
            self._break(index, str(error))

    def _lose_writer_of(self, leaf: bytes) -> None:
        """A WriterCheckpoint whose records are lost: whose they were is in the name that its note was signed under."""
        with suppress(IapError):
            name = parse_note(parse_record(leaf).writer_checkpoint.note).signatures[0].name
            self._lost |= {state.writer for state in self.writers.values() if state.verifier.name == name}

    def _end_batch(self, index: int, body: record_pb2.WriterCheckpoint) -> None:
        """Rules P1, A4, W5: the batch is the one that the writer signed for, on what it signed for before."""
        going = self._open
        if going is None:
            raise BadProof("got a WriterCheckpoint that no record of a registered writer stands before")
        writer, end = WriterId(going.writer), going.next
        state = self.writers[writer]
        got = begin_of(body), body.to, body.first_index
        if got != (going.begin, end, going.first_index):
            raise BadProof(f"got a batch from, to, first index of {got}, want {going.begin, end, going.first_index}")
        before = range_before(body)
        if before != state.tree and going.writer not in self._lost:
            self._report(
                index, f"got another tree of {writer.hex()} at size {before.end}, want that of its batch before"
            )
        checkpoint = open_checkpoint(body.note, state.verifier)
        tree = before.extend(going.hashes)
        if (checkpoint.size, checkpoint.root) != (end, tree.root()):
            raise BadProof(
                f"got a note at size {checkpoint.size}, root {checkpoint.root.hex()}, want {end}, {tree.root().hex()}"
            )
        self._open = None
        self._lost.discard(going.writer)
        self.writers[writer] = replace(state, tree=tree, note=body.note)
        first = LeafIndex(going.first_index)
        self.batches.append(FoldedBatch(writer=writer, begin=going.begin, end=end, first_index=first))

    def _register(self, index: int, body: record_pb2.WriterRegistered) -> None:
        writer = writer_id(body.public_key)
        if writer != body.writer:
            raise BadProof(f"got the key of writer {writer.hex()}, want that of {body.writer.hex()}")
        if writer in self.writers:
            raise BadProof(f"got writer {writer.hex()}, registered at leaf {self.writers[writer].registered_index}")
        if body.first_sequence != 0:
            raise BadProof(f"got first sequence {body.first_sequence}, want 0")
        self.writers[writer] = WriterState(
            writer=writer,
            verifier=VerifierKey(name=writer_origin(self._origin, writer), public_key=body.public_key),
            workload=body.workload,
            registered_index=LeafIndex(index),
            retired_index=None,
            tree=CompactRange.empty(),
            note=b"",
        )

    def _retire(self, index: int, body: record_pb2.WriterRetired) -> None:
        """Rule W6 where two notes are given: each must be the writer's, or it was retired on false evidence."""
        state = self.writers.get(WriterId(body.writer))
        if state is None:
            raise BadProof(f"got writer {shown(body.writer.hex())} retired, which is not registered before it")
        if state.retired_index is not None:
            raise BadProof(f"got writer {state.writer.hex()}, retired at leaf {state.retired_index}")
        self.writers[state.writer] = replace(state, retired_index=LeafIndex(index))
        for note in filter(None, (body.final_checkpoint, body.conflicting_checkpoint)):
            open_checkpoint(note, state.verifier)
