# SPDX-License-Identifier: Apache-2.0
"""An audit log in memory that is honest until it is told to lie, and works until it is told to fail.

It satisfies the ports LogClient, LogService and TrailService. Each registration and each batch is a round of its own,
with a signed note at its size. What it stores is public, so that a test may say what the truth is. The lies about a
batch are in `lies`, by name: how to tell each, and how it must be found out.

    LIES["other leaves"].tell(log)   of every batch from now on; `log.be_honest()` ends it
    log.twist_answer = change        every proof, entry and page from now on
    log.fork(at=3)                   leaf 3 was another one all along, and everything signed from now on says so
    log.roll_back(to=5)              nothing above 5 leaves ever happened
    log.down = True                  every call: LogUnavailable
    log.frozen = True                every append: LogFrozen
    log.fail_next(QueueFull(..))     the next calls, before any effect
    log.lose_replies(1)              the next writing calls, after their effect
    log.hold() ... log.release()     calls wait in between
    log.calls, log.asked             who asked what; an event that is set once somebody has
    log.grow([leaf])                 leaves out of nowhere, signed
    log.said[3] = Unsealed(..)       what it says of a leaf that is to be unsealed; of others: NOT_SEALED
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import (
    BadProof,
    LogFrozen,
    LogUnavailable,
    Malformed,
    NotFound,
    OutOfSequence,
    UnknownWriter,
)
from iap_authz.model.ids import WriterId
from iap_authz.records.log_evidence import BatchLeaves, log_evidence, own_leaf_evidence
from iap_authz.records.log_leaves import checkpoint_body, log_id, log_leaf
from iap_authz.records.record import parse_record
from iap_authz.records.started import check_started, writer_id
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, NodeHash, TreeSize, as_nodes, leaf_hash, leaf_hashes
from iap_authz.tlog.note import NoteSigner, VerifierKey, parse_note
from iap_authz.tlog.proof import prove_consistency, prove_inclusion, prove_range
from iap_authz.tlog.tree import CompactRange, Subtree, subtree_root
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, FixedSigner, record_id

M = TypeVar("M", bound=Message)

JUNK = b"\x5a" * 32


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch, or a registration (begin = end = 0), as the log took it. `size` is that of the tree after it."""

    begin: int
    end: int
    first_index: LeafIndex
    size: int
    note: bytes

    @property
    def leaves(self) -> int:
        return self.end - self.begin + 1


@dataclass(kw_only=True)
class Writer:
    verifier: VerifierKey
    registration: Batch
    tree: CompactRange = field(default_factory=CompactRange.empty)
    batches: list[Batch] = field(default_factory=list)


Twist = Callable[[Any], object]
"""Changes a message in place."""


def keep(_: Message) -> None:
    """The twist of an honest log."""


class LyingLog:
    def __init__(self, *, origin: str = ORIGIN, seed: str = "log") -> None:
        key = FixedSigner(seed)
        self.origin = origin
        self.signer = NoteSigner(name=origin, public_key=key.public_key, sign=key.sign)
        self.verifier = self.signer.verifier()
        self.leaves: list[bytes] = []
        self.hashes: list[LeafHash] = []
        self.notes: dict[int, bytes] = {}
        self.writers: dict[WriterId, Writer] = {}
        self.said: dict[int, log_pb2.Unsealed] = {}
        self.calls: list[tuple[str, Message]] = []
        self.down = False
        self.frozen = False
        self._failures: deque[Exception] = deque()
        self._replies_to_lose = 0
        self.asked = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._grown = asyncio.Event()
        self.be_honest()

    # ---- what a test tells it

    def be_honest(self) -> None:
        """From now on: true answers about what is stored."""
        self.twist_receipt: Twist = keep
        self.twist_body: Twist = keep
        self.twist_answer: Twist = keep
        self.change_record: Callable[[bytes], bytes] = bytes
        self.change_leaf: Callable[[bytes], bytes] = bytes

    def grow(self, leaves: list[bytes]) -> None:
        """Leaves that nobody sent."""
        self._append(leaves)

    def fork(self, *, at: int, leaf: bytes = b"forked") -> None:
        """Another history: leaf `at` is another one, and every note is signed anew."""
        self.leaves[at], self.hashes[at] = leaf, leaf_hash(leaf)
        self.notes = {size: self._sign(size) for size in self.notes}

    def roll_back(self, *, to: int) -> None:
        """What was appended above this size never happened."""
        del self.leaves[to:], self.hashes[to:]
        self.notes = {size: note for size, note in self.notes.items() if size <= to}
        self.writers = {key: one for key, one in self.writers.items() if one.registration.size <= to}
        for writer in self.writers.values():
            writer.batches = [batch for batch in writer.batches if batch.size <= to]
            records = [leaf for one in writer.batches for leaf in self._records(one)]
            writer.tree = CompactRange.empty().extend(leaf_hashes(records))

    def fail_next(self, *errors: Exception) -> None:
        """The next calls raise these, one each, before they have any effect."""
        self._failures.extend(errors)

    def lose_replies(self, count: int) -> None:
        """The next calls take effect, and then raise LogUnavailable."""
        self._replies_to_lose = count

    def hold(self) -> None:
        """Calls wait, before they have any effect, until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def close(self) -> None:
        self.down = True

    # ---- writing

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        await self._enter("register", request)
        verifier = check_started(parse_record(request.started), self.origin)
        writer = writer_id(request.public_key)
        open_checkpoint(request.checkpoint, verifier)
        if writer not in self.writers:
            index = LeafIndex(len(self.leaves))
            body = record_pb2.WriterRegistered(writer=writer, public_key=request.public_key)
            self.twist_body(body)
            self._append([self.change_leaf(self._own(body, index))])
            batch = Batch(begin=0, end=0, first_index=index, size=len(self.leaves), note=b"")
            self.writers[writer] = Writer(verifier=verifier, registration=batch)
        batch = self.writers[writer].registration
        receipt = self._receipt(writer, batch, since=0)
        self._leave()
        return log_pb2.RegisterResponse(index=batch.first_index, receipt=receipt, log_origin=self.origin)

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """Rule A1."""
        await self._enter("append", request)
        if self.frozen:
            raise LogFrozen("the log is frozen")
        writer, begin, end = self._known(request.writer), getattr(request, "from"), request.to
        known = [batch for batch in writer.batches if (batch.begin, batch.end) == (begin, end)]
        if not known:
            if begin != writer.tree.end:
                raise OutOfSequence(f"got records from {begin}, want {writer.tree.end}", writer.tree.end)
            known = [self._take(writer, request, begin=begin, end=end)]
        last = request.last_log_checkpoint
        since = parse_checkpoint(parse_note(last).text).size if last else 0
        receipt = self._receipt(WriterId(request.writer), known[0], since=since)
        self._leave()
        return log_pb2.AppendResponse(receipt=receipt)

    async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
        """Rule A2."""
        await self._enter("get_receipts", request)
        begin, end, writer = getattr(request, "from"), request.to, self._known(request.writer)
        found = [batch for batch in writer.batches if batch.begin < end and begin < batch.end]
        since, key = request.consistent_from, WriterId(request.writer)
        self._leave()
        return log_pb2.GetReceiptsResponse(receipts=[self._receipt(key, batch, since=since) for batch in found])

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        """Once; with the first cause."""
        await self._enter("retire_writer", request)
        self._known(request.writer)
        for index, leaf in enumerate(self.leaves):
            if parse_record(leaf).writer_retired.writer == request.writer:
                return self._twisted(log_pb2.RetireWriterResponse(index=index))
        index = LeafIndex(len(self.leaves))
        self._append([self._own(record_pb2.WriterRetired(writer=request.writer, cause=request.cause), index)])
        return self._twisted(log_pb2.RetireWriterResponse(index=index))

    async def unseal(self, request: log_pb2.UnsealRequest) -> log_pb2.UnsealResponse:
        """Says what it was told to, and records that it was asked; `twist_body` changes that record."""
        await self._enter("unseal", request)
        index, asked = LeafIndex(len(self.leaves)), list(request.indices)
        body = record_pb2.LogRead(
            method="Unseal", from_index=min(asked), to_index=max(asked) + 1, records=len(asked), role="investigator"
        )
        body.unsealed = sum(one in self.said and self.said[one].outcome == log_pb2.Unsealed.OPENED for one in asked)
        self.twist_body(body)
        self._append([self.change_leaf(self._own(body, index))])
        default = log_pb2.Unsealed(outcome=log_pb2.Unsealed.NOT_SEALED)
        answer = log_pb2.UnsealResponse(log_read=index)
        for one in asked:
            answer.records.add().CopyFrom(self.said.get(one, default))
            answer.records[-1].index = one
        return self._twisted(answer)

    # ---- proofs

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        await self._enter("get_checkpoint", request)
        if not self.notes:
            raise NotFound("there is no checkpoint yet")
        return self._twisted(log_pb2.GetCheckpointResponse(checkpoint=self._newest()))

    async def watch_checkpoints(
        self, request: log_pb2.WatchCheckpointsRequest
    ) -> AsyncGenerator[log_pb2.GetCheckpointResponse, None]:
        await self._enter("watch_checkpoints", request)
        seen = request.larger_than
        while True:
            if len(self.leaves) > seen:
                seen = len(self.leaves)
                yield self._twisted(log_pb2.GetCheckpointResponse(checkpoint=self._newest()))
            await self._wait_grown()

    async def prove_inclusion(self, request: log_pb2.GetInclusionProofRequest) -> log_pb2.GetInclusionProofResponse:
        await self._enter("prove_inclusion", request)
        size = request.tree_size or len(self.leaves)
        index = request.index
        if request.WhichOneof("leaf") == "leaf_hash":
            if request.leaf_hash not in self.hashes:
                raise NotFound("there is no such leaf")
            index = self.hashes.index(LeafHash(request.leaf_hash))
        proof = prove_inclusion(index, size, read=self.read)
        return self._twisted(log_pb2.GetInclusionProofResponse(index=index, tree_size=size, proof=proof))

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        await self._enter("prove_consistency", request)
        old, new = request.old_size, request.new_size or len(self.leaves)
        if not old <= new <= len(self.leaves):
            raise Malformed(f"got sizes {old} and {new}, want them to rise to at most {len(self.leaves)}")
        proof = prove_consistency(old, new, read=self.read)
        note = self.notes.get(new, b"")
        return self._twisted(
            log_pb2.GetConsistencyProofResponse(old_size=old, new_size=new, proof=proof, checkpoint=note)
        )

    async def prove_range(self, request: log_pb2.GetRangeProofRequest) -> log_pb2.GetRangeProofResponse:
        await self._enter("prove_range", request)
        proof = prove_range(request.first, request.count, size=request.tree_size, read=self.read)
        return self._twisted(log_pb2.GetRangeProofResponse(tree_size=request.tree_size, proof=proof))

    async def get_tile(self, request: log_pb2.GetTileRequest) -> log_pb2.GetTileResponse:
        await self._enter("get_tile", request)
        raise NotFound("this log has no tiles")

    async def get_state(self, request: log_pb2.GetLogStateRequest) -> log_pb2.LogState:
        await self._enter("get_state", request)
        return log_pb2.LogState(origin=self.origin, head_checkpoint=self._newest(), frozen=self.frozen)

    async def list_writers(self, request: log_pb2.ListWritersRequest) -> log_pb2.ListWritersResponse:
        await self._enter("list_writers", request)
        states = [log_pb2.WriterState(writer=key, size=self.writers[key].tree.end) for key in sorted(self.writers)]
        return log_pb2.ListWritersResponse(writers=states)

    # ---- records

    async def get_record(self, request: log_pb2.GetRecordRequest) -> log_pb2.GetRecordResponse:
        await self._enter("get_record", request)
        return self._twisted(self._answer(self._find(request), with_evidence=request.with_evidence))

    async def get_entries(self, request: log_pb2.GetEntriesRequest) -> AsyncGenerator[log_pb2.Entry, None]:
        await self._enter("get_entries", request)
        for index in range(request.first, min(request.first + request.count, len(self.leaves))):
            yield self._twisted(log_pb2.Entry(index=index, record=self.leaves[index]))

    async def search_records(self, request: log_pb2.SearchRecordsRequest) -> log_pb2.SearchRecordsResponse:
        """By body and writer only."""
        await self._enter("search_records", request)
        start, size = int(request.page_token or "0"), request.page_size or 100
        found = [index for index in range(start, len(self.leaves)) if self._matches(index, request)]
        page = found[:size]
        token = str(page[-1] + 1) if len(found) > size else ""
        records = [self._answer(index, with_evidence=request.with_evidence) for index in page]
        return self._twisted(
            log_pb2.SearchRecordsResponse(records=records, next_page_token=token, indexed_size=len(self.leaves))
        )

    async def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncGenerator[log_pb2.Entry, None]:
        await self._enter("tail_records", request)
        at = request.after_index + 1 if request.after_index else 0
        while True:
            while at < len(self.leaves):
                if self._matches(at, request.filter):
                    yield self._twisted(log_pb2.Entry(index=at, record=self.leaves[at]))
                at += 1
            await self._wait_grown()

    # ---- inside

    def read(self, subtrees: Sequence[Subtree]) -> list[NodeHash]:
        """The roots of complete subtrees: slow and plain."""
        nodes = as_nodes(self.hashes)
        return [subtree_root(nodes[one.index << one.level : (one.index + 1) << one.level]) for one in subtrees]

    def root(self, size: int) -> NodeHash:
        return subtree_root(as_nodes(self.hashes[:size]))

    async def _enter(self, name: str, request: Message) -> None:
        self.calls.append((name, request))
        self.asked.set()
        await self._open.wait()
        if self.down:
            raise LogUnavailable("the log is down")
        if self._failures:
            raise self._failures.popleft()

    def _leave(self) -> None:
        if self._replies_to_lose:
            self._replies_to_lose -= 1
            raise LogUnavailable("the reply was lost")

    def _known(self, writer: bytes) -> Writer:
        if writer not in self.writers:
            raise UnknownWriter(f"got no writer {writer.hex()}")
        return self.writers[WriterId(writer)]

    def _take(self, writer: Writer, request: log_pb2.AppendRequest, *, begin: int, end: int) -> Batch:
        """Rules W5 and P1."""
        before, tree = writer.tree, writer.tree.extend(leaf_hashes(request.records))
        signed = open_checkpoint(request.checkpoint, writer.verifier)
        if (signed.size, signed.root) != (end, tree.root()):
            raise BadProof("got records that are not those of the note")
        first = LeafIndex(len(self.leaves))
        body = checkpoint_body(request.checkpoint, before=before, end=end, first_index=first, received=START)
        self.twist_body(body)
        own = self._own(body, LeafIndex(first + end - begin))
        self._append([*map(self.change_record, request.records), self.change_leaf(own)])
        batch = Batch(begin=begin, end=end, first_index=first, size=len(self.leaves), note=request.checkpoint)
        writer.tree = tree
        writer.batches.append(batch)
        return batch

    def _own(self, body: Message, index: LeafIndex) -> bytes:
        return log_leaf(body, origin=self.origin, index=index, record_id=record_id(index), time=START)

    def _append(self, leaves: list[bytes]) -> None:
        self.leaves += leaves
        self.hashes += leaf_hashes(leaves)
        self.notes[len(self.leaves)] = self._sign(len(self.leaves))
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def _wait_grown(self) -> None:
        await self._grown.wait()

    def _sign(self, size: int) -> bytes:
        head = Checkpoint(origin=self.origin, size=TreeSize(size), root=self.root(size))
        return sign_checkpoint(head, self.signer)

    def _newest(self) -> bytes:
        return self.notes[max(self.notes)]

    def _receipt(self, writer: WriterId, batch: Batch, *, since: int) -> log_pb2.Receipt:
        low, high = sorted((since, batch.size))
        proof = prove_consistency(low, high, read=self.read) if low and high <= len(self.leaves) else ()
        receipt = log_pb2.Receipt(
            writer=writer,
            to=batch.end,
            first_index=batch.first_index,
            leaves=batch.leaves,
            range_proof=prove_range(batch.first_index, batch.leaves, size=batch.size, read=self.read),
            checkpoint=self.notes[batch.size],
            writer_checkpoint_leaf=self.leaves[batch.size - 1],
            consistency_proof=proof,
        )
        setattr(receipt, "from", batch.begin)
        self.twist_receipt(receipt)
        return receipt

    def _records(self, batch: Batch) -> list[bytes]:
        return self.leaves[batch.first_index : batch.size - 1]

    def _find(self, request: log_pb2.GetRecordRequest) -> int:
        match request.WhichOneof("which"):
            case "index" if request.index < len(self.leaves):
                return request.index
            case "audit_id" if request.audit_id in self.hashes:
                return self.hashes.index(LeafHash(request.audit_id))
            case "position":
                for index, leaf in enumerate(self.leaves):
                    record = parse_record(leaf)
                    if (record.writer, record.sequence) == (request.position.writer, request.position.sequence):
                        return index
        raise NotFound("there is no such record")

    def _answer(self, index: int, *, with_evidence: bool) -> log_pb2.GetRecordResponse:
        answer = log_pb2.GetRecordResponse(entry=log_pb2.Entry(index=index, record=self.leaves[index]))
        if with_evidence:
            answer.evidence.CopyFrom(self.evidence(LeafIndex(index)))
        return answer

    def evidence(self, index: LeafIndex) -> log_pb2.Evidence:
        size, leaf = TreeSize(len(self.leaves)), self.leaves[index]
        note = self._newest()
        writer = parse_record(leaf).writer
        if writer == log_id(self.origin):
            return own_leaf_evidence(leaf, index, size=size, note=note, read=self.read)
        known = self.writers[WriterId(writer)]
        (batch,) = [one for one in known.batches if one.first_index <= index < one.size - 1]
        return log_evidence(
            leaf,
            index,
            batch=BatchLeaves(
                first_index=batch.first_index,
                begin=batch.begin,
                records=self._records(batch),
                checkpoint_leaf=self.leaves[batch.size - 1],
            ),
            registration=self.leaves[known.registration.first_index],
            registration_index=known.registration.first_index,
            size=size,
            note=note,
            read=self.read,
        )

    def _matches(self, index: int, query: log_pb2.SearchRecordsRequest) -> bool:
        record = parse_record(self.leaves[index])
        by_body = not query.bodies or record.WhichOneof("body") in query.bodies
        return by_body and query.writer in (b"", record.writer)

    def _twisted(self, answer: M) -> M:
        self.twist_answer(answer)
        return answer
