# SPDX-License-Identifier: Apache-2.0
"""Each question to the audit log together with the check of its answer, in one turn of the view.

The invariant: what a function here returns has been checked against `last`, and `last` has been stored, before it
returns. An exception means that nothing was believed; whoever asked may ask again, since every question is idempotent.

A receipt proves consistency between its own size and the size that was sent in the question. Where that is not `last`
(a registration sends none; after the first of several receipts `last` has moved) the proof is asked for anew.

Used by the public client and by whoever ships a journal; any `LogClient` will do.
"""

from collections.abc import Callable, Sequence

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client.receipts import parse_size
from iap_authz.client.view import LogView
from iap_authz.errors import BadProof, OutOfSequence, UnknownWriter, shown
from iap_authz.model.ids import WriterId
from iap_authz.ports import LogClient
from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, LeafHash, leaf_hashes

Sent = Callable[[int, int], tuple[Sequence[LeafHash], bytes]]
"""What this side holds of a writer's records [begin, end): their hashes, and the writer's note at `end`.

The numbers are the log's word: it raises BadProof where no batch with these boundaries can have been sent.
"""


async def newest_checkpoint(client: LogClient, view: LogView) -> SignedCheckpoint:
    """The log's newest checkpoint, proven to continue `last`, and now `last` itself.

    Raises like `LogView.accept_checkpoint`, NotFound before the log's first checkpoint, and LogUnavailable.
    """
    async with view.asking() as last:
        note = (await client.get_checkpoint(log_pb2.GetCheckpointRequest())).checkpoint
        # A log that has shrunk cannot prove anything about what it denies: its own note is the evidence.
        shrunk = parse_size(note) < last.checkpoint.size
        return await view.accept_checkpoint(note, () if shrunk else await _consistency(client, view, note=note))


async def believe(client: LogClient, view: LogView, note: bytes) -> Checkpoint:
    """The checkpoint in any note of the log, once it is proven to be of the same tree as `last`.

    A larger one becomes `last`; a smaller one is no rollback here, since it was not asked for as the newest.
    """
    async with view.asking() as last:
        proof = await _consistency(client, view, note=note)
        if parse_size(note) < last.checkpoint.size:
            return view.check_earlier(note, proof)
        return (await view.accept_checkpoint(note, proof)).checkpoint


async def register(client: LogClient, view: LogView, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
    """Make a writer known, and see it in the log (rule W2)."""
    async with view.asking():
        answer = await client.register(request)
        receipt = answer.receipt
        if answer.log_origin != view.verifier.name or answer.index != receipt.first_index:
            raise BadProof(
                f"got leaf {answer.index} of {shown(answer.log_origin)}, want leaf {receipt.first_index} of the receipt"
            )
        proof = await _consistency(client, view, note=receipt.checkpoint)
        await view.accept_registration(receipt, public_key=request.public_key, proof=proof)
        return answer


async def append(client: LogClient, view: LogView, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
    """Append a batch, and see it in the log (rules A1, P1, X1). `last_log_checkpoint` is filled in here (G4).

    Raises Rollback, with evidence, where the log denies what it has proven (A5).
    """
    writer = WriterId(request.writer)
    async with view.asking() as last:
        request.last_log_checkpoint = last.note
        try:
            answer = await client.append(request)
        except OutOfSequence as error:
            view.check_expected(error.expected, writer=writer)
            raise
        except UnknownWriter:
            view.check_known(writer)
            raise
        await view.accept_receipt(
            answer.receipt,
            leaf_hashes(request.records),
            writer=writer,
            begin=getattr(request, "from"),
            end=request.to,
            note=request.checkpoint,
        )
        return answer


async def receipts(
    client: LogClient, view: LogView, request: log_pb2.GetReceiptsRequest, *, sent: Sent
) -> list[log_pb2.Receipt]:
    """The receipts of the writer's batches that overlap [from, to), in order and without a gap (rule A2).

    There may be fewer than asked for: ask again from the last one's end. `consistent_from` is filled in here. The
    first one that fails ends it, and what was proven before that stays proven.
    """
    writer, at = WriterId(request.writer), int(getattr(request, "from"))
    async with view.asking() as last:
        request.consistent_from = last.checkpoint.size
        answer = await client.get_receipts(request)
        for number, receipt in enumerate(answer.receipts):
            begin, end = getattr(receipt, "from"), receipt.to
            is_next = begin <= at if number == 0 else begin == at
            if not (is_next and at < end < SIZE_LIMIT_LEAVES and begin < request.to):
                raise BadProof(f"got a receipt for records {begin} to {end}, want the batch of record {at}")
            hashes, note = sent(begin, end)
            if view.last is not last:
                receipt.consistency_proof[:] = await _consistency(client, view, note=receipt.checkpoint)
            await view.accept_receipt(receipt, hashes, writer=writer, begin=begin, end=end, note=note)
            at = end
        return list(answer.receipts)


async def _consistency(client: LogClient, view: LogView, *, note: bytes) -> Sequence[bytes]:
    """What the log says to prove that the trees of `last` and of `note` are one. Not checked here."""
    low, high = sorted((view.last.checkpoint.size, parse_size(note)))
    if low in {0, high}:
        return ()
    answer = await client.prove_consistency(log_pb2.GetConsistencyProofRequest(old_size=low, new_size=high))
    return answer.proof
