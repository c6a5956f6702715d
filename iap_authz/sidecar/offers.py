# SPDX-License-Identifier: Apache-2.0
"""One step of a lane into the audit log: what is offered, and what an answer that is not a receipt asks for.

The invariant: a lane's position moves by `Lane.advance` only, each time for one receipt that the view has accepted for
exactly the records that stand in our own journal, under our own note. How to seal is said beside the receipts, and
judged after them: a receipt is true whatever stands beside it.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import asks
from iap_authz.client.receipts import parse_size
from iap_authz.client.view import LogView
from iap_authz.errors import BadProof, BadSignature, NotFound, OutOfSequence, Rollback, UnknownWriter
from iap_authz.ports import Backlog
from iap_authz.sidecar.claims import LogClaims
from iap_authz.sidecar.lanes import Lane, append_request, receipts_request, register_request
from iap_authz.sidecar.sealing import SettingsTaker
from iap_authz.tlog.cosign import CosignerKey, check_quorum
from iap_authz.tlog.hashing import leaf_hashes
from iap_authz.tlog.note import parse_note


class Offers:
    """What this writer says to the log. Used by one task."""

    def __init__(
        self, backlog: Backlog, client: LogClaims, view: LogView, *, sealing: SettingsTaker, enrolment_token: str
    ) -> None:
        self._backlog = backlog
        self._client = client
        self._view = view
        self._sealing = sealing
        self._token = enrolment_token

    async def offer(self, lane: Lane) -> None:
        """Offer the lane's batch, the same one until it is answered. Act on the answer (rules A1, A2, A5, W2, S5)."""
        batch = lane.batch
        if batch is None:
            batch = lane.batch = await self._backlog.read(lane.writer, lane.position)
        try:
            answer = await asks.append(self._client, self._view, append_request(batch))
        except UnknownWriter as error:
            self._check_may_be_new(lane, error)
            await self._register(lane)
        except OutOfSequence as error:
            self._check_may_expect(lane, error.expected)
            await self._catch_up(lane, error.expected)
        else:
            lane.advance(batch.end, parse_size(answer.receipt.checkpoint))
            await self._take_settings(answer.seal_settings)

    def _check_may_be_new(self, lane: Lane, error: UnknownWriter) -> None:
        if lane.position > 0:
            message = f"got no writer {lane.writer.hex()}, want the one with {lane.position} records that were proven"
            raise Rollback(message, [self._view.last.note]) from error

    async def _register(self, lane: Lane) -> None:
        first = await self._backlog.read_first(lane.writer)
        answer = await asks.register(self._client, self._view, register_request(first, self._token))
        await self._take_settings(answer.seal_settings)

    async def _take_settings(self, note: bytes) -> None:
        """Act on how the log says to seal. Where that is false, its own note is the evidence."""
        self._client.note = note or self._client.note
        await self._sealing.take(note)

    def _check_may_expect(self, lane: Lane, expected: int) -> None:
        """Raise unless the log may expect this record next: nothing below what was proven, nothing that is not."""
        if expected < lane.position:
            said = log_pb2.AppendExpectation(expected_sequence=expected).SerializeToString()
            message = f"got {expected} as the next record of {lane.writer.hex()}, want {lane.position}, which is proven"
            raise Rollback(message, [self._view.last.note, said])
        if not lane.position < expected <= self._backlog.size(lane.writer):
            raise BadProof(f"got {expected} as the next record of {lane.writer.hex()}, want one after {lane.position}")

    async def _catch_up(self, lane: Lane, expected: int) -> None:
        """Verify the receipts of what was shipped before, batch by batch. A number alone moves nothing (A2)."""
        lane.batch = None
        while lane.position < expected:
            async with self._view.asking() as last:
                request = receipts_request(lane, expected, consistent_from=last.checkpoint.size)
                answer = await self._client.get_receipts(request)
                if not answer.receipts:
                    raise BadProof(f"got no receipt for record {lane.position}, want one: {expected} are in the log")
                await self._take_all(lane, answer.receipts)

    async def _take_all(self, lane: Lane, receipts: Iterable[log_pb2.Receipt]) -> None:
        """One receipt after the other, until the view moves: the proofs in those that follow start where it was."""
        last = self._view.last
        for receipt in receipts:
            await self._take(lane, receipt)
            if self._view.last is not last:
                return

    async def _take(self, lane: Lane, receipt: log_pb2.Receipt) -> None:
        """One receipt of a batch that begins at the lane's position."""
        batch = await self._backlog.read(lane.writer, lane.position, end=receipt.to)
        checkpoint = await self._view.accept_receipt(
            receipt, leaf_hashes(batch.records), writer=lane.writer, begin=batch.begin, end=batch.end, note=batch.note
        )
        lane.advance(batch.end, checkpoint.size)


class Published:
    """The largest published checkpoint that is on our tree and that enough witnesses have cosigned (rule G1).

    Fewer than the quorum is no fault of the log's: it waits for them too.
    """

    def __init__(
        self,
        client: LogClaims,
        view: LogView,
        *,
        witnesses: Sequence[CosignerKey],
        quorum: int,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._view = view
        self._witnesses = witnesses
        self._quorum = quorum
        self._now = now
        self.size = 0
        self.problem = ""

    @property
    def must_come_first(self) -> bool:
        """Whether nothing is known of the log yet, and a cosigned checkpoint is to be the first of it (rule G2)."""
        return self._quorum > 0 and self._view.last.checkpoint.size == 0

    async def learn(self) -> bool:
        """Ask for it, and believe it if it holds. False if there is none yet.

        False too, and `problem` says so, if too few have cosigned it: nothing of it is believed then.
        """
        request = log_pb2.GetCheckpointRequest(published=True)
        try:
            note = (await self._client.get_checkpoint(request)).checkpoint
        except NotFound:
            return False
        self.problem = ""
        if not note or not parse_size(note):
            return False
        try:
            now_seconds = int(self._now().timestamp())
            check_quorum(parse_note(note), self._witnesses, k=self._quorum, now_seconds=now_seconds)
        except BadSignature as error:
            self.problem = str(error)
            return False
        self.size = max(self.size, (await asks.believe(self._client, self._view, note)).size)
        return True
