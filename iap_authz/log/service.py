# SPDX-License-Identifier: Apache-2.0
"""`AuditLog`: what may be asked of the log (the port `LogService`); `proofs.Proofs` has the questions of readers.

The invariant: nothing is answered that is not committed and signed, and a batch that comes again, whenever that is,
gets the receipt it got first, byte for byte (A1, A3): the note is kept, and the proof is a function of the tree.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Fork, Malformed, OutOfSequence, Refused, Unavailable
from iap_authz.log.proofs import Proofs
from iap_authz.log.quotes import Quotes
from iap_authz.log.sealing import Sealing
from iap_authz.log.sequencer import Entry, Sequenced, Sequencer
from iap_authz.log.writers import Writers
from iap_authz.model.ids import WriterId
from iap_authz.ports import BatchRow, Companions, Index, Ledger
from iap_authz.records.admission import (
    Batch,
    check_registration,
    check_same_note,
    check_token,
    parse_batch,
    quoted_notes,
)
from iap_authz.records.log_fold import WriterState
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES, LeafIndex, NodeHash, TreeSize
from iap_authz.tlog.note import VerifierKey, parse_note

RECEIPTS_MAX = 64
"""Receipts in one answer; a writer asks again from the end of the last one."""

RECEIPTS_SPAN_RECORDS = 65_536
"""How far one question for receipts looks: batches follow one another, and the asker goes on from the last one."""

ATTESTATION_TOKEN = "token"  # noqa: S105 - a word of record.proto
"""How writers enrol in this version."""

CAUSE_MAX_CHARS = 1_024
"""Why an operator ends a writer, in a sentence: it becomes part of a leaf, in the clear."""

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where leaves of one writer stand, and the signed note that proves it."""

    writer: WriterId
    begin: int
    end: int
    first_index: LeafIndex
    leaf_count: int
    last_leaf: bytes
    range_proof: Sequence[NodeHash]
    size: TreeSize
    note: bytes


class AuditLog(Proofs):
    """Satisfies the port `LogService`. Owned by the event loop."""

    def __init__(  # noqa: PLR0913 -- one parameter a part of the log
        self,
        sequencer: Sequencer,
        writers: Writers,
        *,
        ledger: Ledger,
        index: Index,
        companions: Companions,
        sealing: Sealing,
        verifiers: Sequence[VerifierKey],
        enrolled: Callable[[], Mapping[str, str]],
        retired: Sequence[VerifierKey] = (),
    ) -> None:
        super().__init__(
            sequencer,
            writers,
            ledger=ledger,
            index=index,
            companions=companions,
            sealing=sealing,
            origin=verifiers[0].name,
        )
        self._enrolled = enrolled
        self._verifiers = verifiers
        self._quotes = Quotes(sequencer, [*verifiers, *retired])
        self._pending: dict[tuple[WriterId, int, int], asyncio.Future[Sequenced]] = {}
        self._registering: dict[WriterId, asyncio.Future[Sequenced]] = {}
        self._ending: dict[WriterId, asyncio.Future[Sequenced]] = {}

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        """Rule W2: who has the key, and a token that this log gave out, becomes a writer."""
        name = check_token(request.enrolment_token, self._enrolled())
        who = check_registration(request, self._origin, seals=self._sealing.rules)
        found = self._registering.get(who.writer)
        if found is None and self._writers.find(who.writer) is None:
            self._sequencer.check_open(0)
            entry = self._writers.registration(who, attestation=ATTESTATION_TOKEN, enrolled_by=name)
            found = self._submit(entry, self._registering, who.writer)
        if found is not None:
            await asyncio.shield(found)
        state = self._writers.get(who.writer)
        return log_pb2.RegisterResponse(
            index=state.registered_index,
            receipt=await self._registration_receipt(state),
            log_origin=self._origin,
            seal_settings=self._sealing.note,
        )

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """Rules A1, W5, W6, P1, G4, S2. What comes beside a batch that is in the log already is not looked at."""
        batch = parse_batch(request)
        # First of all, whoever sends it: our own signature on a tree that we do not have proves that there are two.
        quoted = await self._quotes.check(request.last_log_checkpoint)
        for note in quoted_notes(batch):
            await self._quotes.check(note)
        state = self._writers.get(batch.writer)
        key = (batch.writer, batch.begin, batch.end)
        if batch.begin >= state.tree.end:
            self._sequencer.check_open(batch.size_bytes)
            entry = self._writers.batch(batch, log_size=self._reader.size(), seals=self._sealing.rules)
            found = self._submit(entry, self._pending, key)
            place = self._place_of(batch, await asyncio.shield(found))
        elif key in self._pending:
            place = self._place_of(batch, await asyncio.shield(self._pending[key]))
            await self._check_fork(batch, place)
        else:
            place = await self._repeated(batch, state)
        since = quoted.size if quoted is not None else TreeSize(0)
        receipt = await self._receipt(place, since=since)
        return log_pb2.AppendResponse(receipt=receipt, seal_settings=self._sealing.note)

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        """End a writer that will not come back; one that is retired, for whatever cause, answers where. Idempotent.

        Raises Malformed, UnknownWriter, QueueFull, LogFrozen.
        """
        if len(request.writer) != HASH_BYTES:
            raise Malformed(f"got a writer id of {len(request.writer)} bytes, want {HASH_BYTES}")
        if not 1 <= len(request.cause) <= CAUSE_MAX_CHARS or not request.cause.isprintable():
            raise Malformed(f"got a cause of {len(request.cause)} characters, want 1 to {CAUSE_MAX_CHARS} on one line")
        writer = WriterId(request.writer)
        if not self._writers.is_retired(writer):
            self._sequencer.check_open(0)
            self._submit(self._writers.end(writer, cause=request.cause), self._ending, writer)
        if writer in self._ending:
            await asyncio.shield(self._ending[writer])
        index = self._writers.get(writer).retired_index
        if index is None:
            self._sequencer.check_not_frozen()
            raise Unavailable("the retirement is queued and has no place yet: ask again")
        return log_pb2.RetireWriterResponse(index=index)

    async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
        """Rule A2. Each consistency proof starts where the receipt before it ended, if that was a larger tree."""
        if len(request.writer) != HASH_BYTES:
            raise Malformed(f"got a writer id of {len(request.writer)} bytes, want {HASH_BYTES}")
        writer, begin = WriterId(request.writer), getattr(request, "from")
        self._writers.get(writer)
        if not begin < request.to < SIZE_LIMIT_LEAVES:
            raise Malformed(f"got records from {begin} to {request.to}, want a range below 2^63")
        rows = await self._batches(writer, begin, min(request.to, begin + RECEIPTS_SPAN_RECORDS))
        answer, since = log_pb2.GetReceiptsResponse(), TreeSize(request.consistent_from)
        for row in rows[:RECEIPTS_MAX]:
            place = await self._stored_place(row)
            answer.receipts.append(await self._receipt(place, since=since))
            since = max(since, place.size)
        return answer

    def _is_signed(self, note: bytes) -> bool:
        """Whether a key of today has signed a note of ours."""
        signed = {line.key_id for line in parse_note(note).signatures}
        return any(verifier.key_id in signed for verifier in self._verifiers)

    def _submit(self, entry: Entry, table: dict[K, "asyncio.Future[Sequenced]"], key: K) -> "asyncio.Future[Sequenced]":
        found = table[key] = self._sequencer.submit(entry)
        found.add_done_callback(lambda _: table.pop(key))
        return found

    async def _repeated(self, batch: Batch, state: WriterState) -> _Place:
        """A batch that is in the log already. Raises OutOfSequence if it is not one of the original ones."""
        rows = await self._batches(batch.writer, batch.begin, batch.end)
        if not rows or (rows[0].begin, rows[0].end) != (batch.begin, batch.end):
            # A frozen log has dropped what waited: the size that it would name is not that of its tree.
            self._sequencer.check_not_frozen()
            size = state.tree.end
            raise OutOfSequence(f"got records from {batch.begin} to {batch.end}, want them from {size} on", size)
        place = await self._stored_place(rows[0])
        await self._check_fork(batch, place)
        return place

    async def _check_fork(self, batch: Batch, place: _Place) -> None:
        """Rule W6, for a batch that the log has. Raises Refused once both notes are in the log."""
        state, known = self._writers.get(batch.writer), parse_record(place.last_leaf).writer_checkpoint.note
        try:
            check_same_note(batch, known, verifier=state.verifier)
        except Fork as fork:
            await self._retire(state, str(fork), notes=(known, batch.note))
            raise Refused(f"{fork}: the writer is retired, both notes are in the log") from fork

    async def _retire(self, state: WriterState, cause: str, *, notes: tuple[bytes, bytes]) -> None:
        """Rule W6. Once: later notes of a retired writer say nothing new."""
        if not self._writers.is_retired(state.writer):
            self._sequencer.check_open(0)
            entry = self._writers.retirement(state.writer, cause=cause, notes=notes)
            await asyncio.shield(self._submit(entry, self._ending, state.writer))

    def _place_of(self, batch: Batch, sequenced: Sequenced) -> _Place:
        return _Place(
            writer=batch.writer,
            begin=batch.begin,
            end=batch.end,
            first_index=sequenced.first_index,
            leaf_count=len(sequenced.leaves),
            last_leaf=sequenced.leaves[-1],
            range_proof=sequenced.range_proof,
            size=sequenced.signed.checkpoint.size,
            note=sequenced.signed.note,
        )

    async def _stored_place(self, row: BatchRow) -> _Place:
        """The same, of a batch of an earlier round: the proof is computed again, the note is the one that was kept.

        A note that only keys of the past have signed convinces nobody who pins the present one, and an old size is not
        signed again (A3): the proof is then for the newest checkpoint.
        """
        size, note = row.round_size, await self.note_at(row.round_size)
        if not self._is_signed(note):
            size, note = self._reader.view.size, self._reader.view.signed.note
        return await self._read_place(row, size=size, note=note)

    async def _registration_receipt(self, state: WriterState) -> log_pb2.Receipt:
        """The registration's leaf under the newest checkpoint: a registration has no round of its own to keep."""
        view = self._reader.view
        row = BatchRow(writer=state.writer, begin=0, end=0, first_index=state.registered_index, round_size=view.size)
        return await self._receipt(
            await self._read_place(row, size=view.size, note=view.signed.note), since=TreeSize(0)
        )

    async def _read_place(self, row: BatchRow, *, size: TreeSize, note: bytes) -> _Place:
        """The records of `row`, and the leaf of the log's own that ends them, in the tree of `size`."""
        count = row.end - row.begin + 1
        last = LeafIndex(row.first_index + count - 1)
        return _Place(
            writer=row.writer,
            begin=row.begin,
            end=row.end,
            first_index=row.first_index,
            leaf_count=count,
            last_leaf=(await self._reader.read(last, 1))[0],
            range_proof=await self._reader.range_of(row.first_index, count, size=size),
            size=size,
            note=note,
        )

    async def _receipt(self, place: _Place, *, since: TreeSize) -> log_pb2.Receipt:
        """The message, with the consistency proof between the asker's last checkpoint and the receipt's."""
        older, newer = sorted((since, place.size))
        proof = await self._reader.consistency(older, newer)
        receipt = log_pb2.Receipt(
            writer=place.writer,
            to=place.end,
            first_index=place.first_index,
            leaves=place.leaf_count,
            range_proof=place.range_proof,
            checkpoint=place.note,
            writer_checkpoint_leaf=place.last_leaf,
            consistency_proof=proof,
        )
        setattr(receipt, "from", place.begin)
        return receipt
