# SPDX-License-Identifier: Apache-2.0
"""What this side believes of the audit log, and the one place that decides it (PROTOCOL rules X1, A5, G2).

The invariant: `last` is a checkpoint that the log's key signed, that every earlier `last` is a prefix of, and that is
on stable storage. It only grows. Nothing that fails a check is stored, and nothing is acted on before it is stored.

    async with view.asking() as last:                    the turn: nobody else advances `last` meanwhile
        answer = await client.append(... last.note ...)  its consistency proof starts at `last`
        await view.accept_receipt(answer.receipt, ...)   checked, stored, and only then believed

A consistency proof fits one pair of sizes, so `last` must not move between question and answer: a view is asked by one
task at a time. The turn is held across the network; every call of a `LogClient` ends by its deadline.

What contradicts what: two signed roots of one size are a Fork. A smaller checkpoint where the newest was asked for, or
a writer's records that the log has proven and now denies (A5), are a Rollback. Both carry the evidence. A smaller
*receipt* is neither: it is an old one, sent again (A1), and holds if its tree is a prefix of `last`.

A crash between store and belief costs nothing: what was stored was verified. A cancelled caller does not stop a store
that has begun, and the next turn waits for it. It does not talk to the log (`asks`), and does not look at
cosignatures: without state the first signed checkpoint is believed.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client.receipts import (
    check_batch_receipt,
    check_prefix,
    check_registration_receipt,
    parse_hashes,
    parse_receipt,
)
from iap_authz.errors import BadProof, BadSignature, ConfigInvalid, Fork, Malformed, Rollback
from iap_authz.model.ids import WriterId
from iap_authz.ports import CheckpointStore
from iap_authz.records.started import writer_id
from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from iap_authz.tlog.hashing import EMPTY_ROOT, LeafHash, TreeSize, leaf_hash
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.receipt import check_receipt, check_stored_receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proven:
    """How far the log has proven a writer's records to be in it, and the receipt that says so."""

    size: int
    receipt: bytes


class LogView:
    """The log as it was proven to us. Owned by one event loop; only `asking` may be called by several tasks."""

    def __init__(self, verifier: VerifierKey, store: CheckpointStore) -> None:
        """Load the stored checkpoint; blocks. Raises ConfigInvalid if `verifier` does not open it, and OSError."""
        self._verifier = verifier
        self._store = store
        self._last = _load(verifier, store)
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._proven: dict[WriterId, _Proven] = {}

    @property
    def verifier(self) -> VerifierKey:
        """The log's key; its name is the log's origin."""
        return self._verifier

    @property
    def last(self) -> SignedCheckpoint:
        """The largest checkpoint that is verified and durable; size 0 and no note before the first."""
        return self._last

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[SignedCheckpoint]:
        """The turn of this task, with `last` as it stays until one of the methods below is called in it."""
        if self._holder is not None and self._holder is asyncio.current_task():
            raise RuntimeError("this task has the turn already: a view is asked one question at a time")
        async with self._turn:
            if self._storing is not None and not self._storing.done():
                await asyncio.wait([self._storing])
            self._holder = asyncio.current_task()
            try:
                yield self._last
            finally:
                self._holder = None

    async def accept_receipt(
        self,
        receipt: log_pb2.Receipt,
        leaf_hashes: Sequence[LeafHash],
        *,
        writer: WriterId,
        begin: int,
        end: int,
        note: bytes,
    ) -> Checkpoint:
        """The checkpoint of a receipt for records [begin, end) of `writer`, whose checkpoint at `end` is `note`.

        `leaf_hashes` are of these records, hashed by this side; the P1 leaf is added here. Its consistency proof runs
        between `last` and the receipt's size, whichever is larger. Raises Malformed, BadSignature, BadProof, Fork, or
        OSError from the store.
        """
        self._check_turn()
        check_batch_receipt(
            receipt, leaf_hashes, origin=self._verifier.name, writer=writer, begin=begin, end=end, note=note
        )
        leaves = [*leaf_hashes, leaf_hash(receipt.writer_checkpoint_leaf)]
        checkpoint = await self._accept(receipt, leaves)
        self._remember(writer, size=end, receipt=receipt)
        return checkpoint

    async def accept_registration(
        self, receipt: log_pb2.Receipt, *, public_key: bytes, proof: Sequence[bytes]
    ) -> Checkpoint:
        """The checkpoint of the receipt for the registration of the writer with this key.

        A registration says nothing of `last`, so its receipt comes without a consistency proof: `proof` is what
        `prove_consistency` answered for the two sizes (`asks.register` does all of it). Raises like `accept_receipt`.
        """
        self._check_turn()
        check_registration_receipt(receipt, origin=self._verifier.name, public_key=public_key)
        proven = log_pb2.Receipt()
        proven.CopyFrom(receipt)
        proven.consistency_proof[:] = proof
        checkpoint = await self._accept(proven, [leaf_hash(receipt.writer_checkpoint_leaf)])
        self._remember(writer_id(public_key), size=0, receipt=receipt)
        return checkpoint

    async def accept_checkpoint(self, note: bytes, proof: Sequence[bytes]) -> SignedCheckpoint:
        """`last`, once `note` is it: the log's newest checkpoint, with the consistency proof from the former `last`.

        Raises Malformed, BadSignature, BadProof, Fork, Rollback if it is smaller than `last`, or OSError.
        """
        self._check_turn()
        checkpoint, last = open_checkpoint(note, self._verifier), self._last.checkpoint
        if checkpoint.size < last.size:
            message = f"got {checkpoint.origin} at size {checkpoint.size}, want at least {last.size}, which it proved"
            raise Rollback(message, [self._last.note, note])
        self._check_fork(checkpoint, note)
        check_prefix(last, checkpoint, proof=parse_hashes(proof))
        await self._advance(SignedCheckpoint(checkpoint=checkpoint, note=note))
        return self._last

    def check_earlier(self, note: bytes, proof: Sequence[bytes]) -> Checkpoint:
        """The checkpoint in `note`, if its tree is a prefix of `last`, which stays. For what the log signed before.

        Raises Malformed, BadSignature, BadProof or Fork.
        """
        self._check_turn()
        checkpoint, last = open_checkpoint(note, self._verifier), self._last.checkpoint
        self._check_fork(checkpoint, note)
        if checkpoint.size > last.size:
            raise BadProof(f"got a checkpoint at size {checkpoint.size}, want at most {last.size}, the size proven")
        check_prefix(checkpoint, last, proof=parse_hashes(proof))
        return checkpoint

    def check_expected(self, expected: int, *, writer: WriterId) -> None:
        """Raise Rollback if the log expects a record of `writer` that it has proven to have (rule A5).

        Knows the receipts that this value has accepted. The evidence is the last of them, and what the log says now.
        """
        proven = self._proven.get(writer)
        if proven is not None and expected < proven.size:
            said = log_pb2.AppendExpectation(expected_sequence=expected).SerializeToString()
            message = (
                f"got {expected} as the next record of {writer.hex()}, want at least {proven.size}, which is proven"
            )
            raise Rollback(message, [proven.receipt, said])

    def check_known(self, writer: WriterId) -> None:
        """Raise Rollback if the log has proven to know `writer`; call it when it says that it does not (rule A5)."""
        proven = self._proven.get(writer)
        if proven is not None:
            raise Rollback(f"got no writer {writer.hex()}, want the one whose records were proven", [proven.receipt])

    async def _accept(self, receipt: log_pb2.Receipt, leaves: Sequence[LeafHash]) -> Checkpoint:
        """All of X1, then G2. An older receipt proves itself a prefix of `last` and changes nothing."""
        parsed = parse_receipt(receipt)
        checkpoint = open_checkpoint(parsed.checkpoint_note, self._verifier)
        if checkpoint.size < self._last.checkpoint.size:
            check_stored_receipt(parsed, leaves, verifier=self._verifier, last_checkpoint=self._last)
            return checkpoint
        check_receipt(parsed, leaves, verifier=self._verifier, last_checkpoint=self._last)
        await self._advance(SignedCheckpoint(checkpoint=checkpoint, note=parsed.checkpoint_note))
        return checkpoint

    async def _advance(self, to: SignedCheckpoint) -> None:
        """Store a verified checkpoint and believe it, in this order, also if the caller is cancelled meanwhile."""
        if to.checkpoint.size > self._last.checkpoint.size:
            self._storing = asyncio.create_task(self._store_and_believe(to))
            await asyncio.shield(self._storing)

    async def _store_and_believe(self, to: SignedCheckpoint) -> None:
        await asyncio.to_thread(self._store.store, to.note)
        self._last = to

    def _check_turn(self) -> None:
        """A defect of the caller, found before it turns into a false alarm."""
        if self._holder is None or self._holder is not asyncio.current_task():
            raise RuntimeError("this task does not have the turn: ask and accept within `async with view.asking()`")

    def _check_fork(self, checkpoint: Checkpoint, note: bytes) -> None:
        last = self._last.checkpoint
        if checkpoint.size == last.size and checkpoint.root != last.root:
            message = f"got two signed roots of {checkpoint.origin} at size {checkpoint.size}"
            raise Fork(message, [self._last.note, note])

    def _remember(self, writer: WriterId, *, size: int, receipt: log_pb2.Receipt) -> None:
        before = self._proven.get(writer)
        if before is None or before.size <= size:
            self._proven[writer] = _Proven(size=size, receipt=receipt.SerializeToString())


def _load(verifier: VerifierKey, store: CheckpointStore) -> SignedCheckpoint:
    """The stored checkpoint, opened; the empty tree's if there is none."""
    note = store.load()
    if note is None:
        empty = Checkpoint(origin=verifier.name, size=TreeSize(0), root=EMPTY_ROOT)
        return SignedCheckpoint(checkpoint=empty, note=b"")
    try:
        return SignedCheckpoint(checkpoint=open_checkpoint(note, verifier), note=note)
    except (Malformed, BadSignature) as error:
        message = (
            f"holds no checkpoint that {verifier.name} signed with the configured key ({error}); if it is of another"
            " log, give this one a file of its own; if the log's key has changed, compare the two logs before you"
            " remove it: without it, what the log proved so far is forgotten"
        )
        raise ConfigInvalid.of_file(str(store), message) from error
