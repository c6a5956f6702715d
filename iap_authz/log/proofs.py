# SPDX-License-Identifier: Apache-2.0
"""`Proofs`: checkpoints, proofs, tiles and states; what anyone may ask who reads the log.

The invariant: every proof is for a tree that was committed, of a size up to the head's; a checkpoint is given with it
only if one was signed at that very size.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Malformed, NotFound
from iap_authz.log.sealing import Sealing
from iap_authz.log.sequencer import Sequencer
from iap_authz.log.writers import Writers
from iap_authz.model.ids import WriterId
from iap_authz.ports import BatchRow, Companions, Index, Ledger
from iap_authz.records.log_evidence import BatchLeaves, log_evidence, own_leaf_evidence
from iap_authz.records.log_leaves import log_id
from iap_authz.records.record import parse_record, render_time
from iap_authz.tlog.hashing import HASH_BYTES, LeafIndex, TreeSize, check_index
from iap_authz.tlog.tiles import Bundle, Tile

WRITERS_MAX = 1_000
"""Writers in one page."""


class Proofs:
    """The reading half of `LogService`. Owned by the event loop."""

    def __init__(
        self,
        sequencer: Sequencer,
        writers: Writers,
        *,
        ledger: Ledger,
        index: Index,
        companions: Companions,
        sealing: Sealing,
        origin: str,
    ) -> None:
        self._sequencer, self._writers, self._ledger, self._index = sequencer, writers, ledger, index
        self._companions, self._sealing = companions, sealing
        self._reader = sequencer.reader
        self._origin = origin

    async def note_at(self, size: int) -> bytes:
        """The note that was signed at `size` first (rule A3). Raises NotFound."""
        note = self._sequencer.unrecorded_note(size)
        if note is None:
            note = await self._sequencer.in_thread(partial(self._ledger.note, TreeSize(size)))
        if note is None and size == self._reader.view.size:
            note = self._reader.view.signed.note
        if note is None:
            raise NotFound(f"got size {size}, at which no checkpoint was signed")
        return note

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        """The newest signed checkpoint, or the published one."""
        if not request.published:
            return log_pb2.GetCheckpointResponse(checkpoint=self._reader.view.signed.note)
        if self._sequencer.published is None:
            raise NotFound("nothing is published yet: come again in a second")
        return log_pb2.GetCheckpointResponse(checkpoint=self._sequencer.published.note)

    async def watch_checkpoints(
        self, request: log_pb2.WatchCheckpointsRequest
    ) -> AsyncIterator[log_pb2.GetCheckpointResponse]:
        """Signed checkpoints larger than asked, as they come."""
        size = request.larger_than
        while True:
            await self._reader.wait_larger(size)
            signed = self._reader.view.signed
            size = signed.checkpoint.size
            yield log_pb2.GetCheckpointResponse(checkpoint=signed.note)

    async def prove_inclusion(self, request: log_pb2.GetInclusionProofRequest) -> log_pb2.GetInclusionProofResponse:
        """By index, or by leaf hash once it is indexed."""
        view = self._reader.view
        size = request.tree_size or view.size
        index = await self._asked_index(request)
        proof = await self._reader.inclusion(index, size)
        return log_pb2.GetInclusionProofResponse(
            index=index, tree_size=size, proof=proof, checkpoint=await self._note_or_none(size)
        )

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        """Between two sizes."""
        new = request.new_size or self._reader.view.size
        proof = await self._reader.consistency(request.old_size, new)
        return log_pb2.GetConsistencyProofResponse(
            old_size=request.old_size, new_size=new, proof=proof, checkpoint=await self._note_or_none(new)
        )

    async def prove_range(self, request: log_pb2.GetRangeProofRequest) -> log_pb2.GetRangeProofResponse:
        """Of a range of leaves."""
        size = request.tree_size or self._reader.view.size
        proof = await self._reader.range_of(request.first, request.count, size=size)
        return log_pb2.GetRangeProofResponse(tree_size=size, proof=proof, checkpoint=await self._note_or_none(size))

    async def get_tile(self, request: log_pb2.GetTileRequest) -> log_pb2.GetTileResponse:
        """A tile or bundle at or below the head."""
        if request.entries:
            if request.level:
                raise Malformed(f"got level {request.level} of an entry bundle, want 0")
            return log_pb2.GetTileResponse(tile=await self._reader.bundle(Bundle(request.index, request.width)))
        tile = Tile(request.level, request.index, request.width)
        return log_pb2.GetTileResponse(tile=await self._reader.tile(tile))

    async def get_state(self, _: log_pb2.GetLogStateRequest) -> log_pb2.LogState:
        """Head, published checkpoint, freeze, queue, index, epochs. Keys are counted beside the commits."""
        published, frozen = self._sequencer.published, self._sequencer.frozen
        counts = await asyncio.to_thread(self._companions.count_keys)
        return log_pb2.LogState(
            origin=self._origin,
            head_checkpoint=self._reader.view.signed.note,
            published_checkpoint=b"" if published is None else published.note,
            frozen=frozen is not None,
            frozen_because="" if frozen is None else frozen.because,
            pending_records=self._sequencer.queued_leaves,
            indexed_size=await self._sequencer.in_thread(self._index.size),
            seal_epoch=self._sealing.seal_epoch,
            vault_epoch=self._sealing.vault_epoch,
            vault_epochs=[log_pb2.VaultEpochUse(epoch=epoch, keys=counts[epoch]) for epoch in sorted(counts)],
        )

    async def list_writers(self, request: log_pb2.ListWritersRequest) -> log_pb2.ListWritersResponse:
        """The writers, by id. A page token is the id of the last writer that was shown, in hex."""
        count = min(request.page_size or WRITERS_MAX, WRITERS_MAX)
        later = [state for state in self._writers if state.writer.hex() > request.page_token]
        answer = log_pb2.ListWritersResponse(
            next_page_token=later[count - 1].writer.hex() if len(later) > count else ""
        )
        for state in later[:count]:
            row = self._writers.row(state.writer)
            answer.writers.append(
                log_pb2.WriterState(
                    writer=state.writer,
                    workload=state.workload,
                    size=state.tree.end,
                    registered_index=state.registered_index,
                    retired_index=state.retired_index or 0,
                    last_seen=Timestamp() if row is None else render_time(row.last_seen),
                )
            )
        return answer

    async def evidence(self, index: LeafIndex) -> log_pb2.Evidence:
        """Rule P2: both halves for leaf `index`, under the newest checkpoint. Raises NotFound."""
        view = self._reader.view
        check_index(index, view.size)
        leaf = (await self._reader.read(index, 1))[0]
        record, read = parse_record(leaf), self._reader.reading()
        note = view.signed.note
        if record.writer == log_id(self._origin):
            return await asyncio.to_thread(own_leaf_evidence, leaf, index, size=view.size, note=note, read=read)
        writer = WriterId(record.writer)
        rows = await self._batches(writer, record.sequence, record.sequence + 1)
        if not rows:
            raise NotFound(f"got no batch with record {record.sequence} of {writer.hex()}")
        row = rows[0]
        leaves = await self._reader.read(row.first_index, row.end - row.begin + 1)
        registered = self._writers.get(writer).registered_index
        registration = (await self._reader.read(registered, 1))[0]
        batch = BatchLeaves(
            first_index=row.first_index, begin=row.begin, records=leaves[:-1], checkpoint_leaf=leaves[-1]
        )
        return await asyncio.to_thread(
            log_evidence,
            leaf,
            index,
            batch=batch,
            size=view.size,
            note=note,
            read=read,
            registration=registration,
            registration_index=registered,
        )

    async def _batches(self, writer: WriterId, begin: int, end: int) -> list[BatchRow]:
        """The batches of a writer that overlap [begin, end), in order, recorded or not yet."""
        fresh = [
            row
            for row in self._sequencer.unrecorded_batches()
            if row.writer == writer and row.begin < end and row.end > begin
        ]
        stored = await self._sequencer.in_thread(partial(self._ledger.batches, writer, begin, end))
        known = {row.begin: row for row in (*stored, *fresh)}
        return [known[first] for first in sorted(known)]

    async def _asked_index(self, request: log_pb2.GetInclusionProofRequest) -> LeafIndex:
        if request.WhichOneof("leaf") != "leaf_hash":
            return LeafIndex(request.index)
        if len(request.leaf_hash) != HASH_BYTES:
            raise Malformed(f"got a leaf hash of {len(request.leaf_hash)} bytes, want {HASH_BYTES}")
        index = await self._sequencer.in_thread(partial(self._index.find, request.leaf_hash))
        if index is None:
            size = await self._sequencer.in_thread(self._index.size)
            raise NotFound(f"got {request.leaf_hash.hex()}, which is no leaf below {size}, where the index stands")
        return index

    async def _note_or_none(self, size: int) -> bytes:
        """The newest tree's note by the keys of today, which may be others than those that signed it first."""
        if size == self._reader.view.size:
            return self._reader.view.signed.note
        try:
            return await self.note_at(size)
        except NotFound:
            return b""
