# SPDX-License-Identifier: Apache-2.0
"""`Auditor`: somebody outside who has the log's verifier key and the journal's files, and believes what is proven.

Invariant: nothing that the log says is reported unless its proof was verified against the one tree that this auditor
has followed from the first checkpoint on. What waits, waits with a bound.

It asks by the public client, `iap_authz.client`, in an event loop of its own: the demonstration is no asynchronous
program.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import AuditLogClient, CheckpointFile, Consistency, LogChannel, LogView
from iap_authz.client.asks import receipts
from iap_authz.demo.audit import Trail
from iap_authz.demo.log_world import LogPlace
from iap_authz.errors import BadProof, LogUnavailable, NotFound, Unavailable
from iap_authz.model.ids import AuditId, WriterId
from iap_authz.records.completeness import Completeness, CompletenessReport
from iap_authz.records.evidence import EvidenceReport, check_evidence
from iap_authz.tlog.checkpoint import SignedCheckpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, leaf_hash

WAIT_SECONDS = 15.0
"""For what the log is about to have: it takes a round (20 ms), or a second where somebody has to connect again."""

POLL_SECONDS = 0.05
"""Between two questions."""

T = TypeVar("T")


class Auditor:
    """`with Auditor(place, checkpoint_file) as auditor:` connects; the log may go and come back in the block."""

    def __init__(self, place: LogPlace, checkpoint_file: Path) -> None:
        self._place = place
        self._store = CheckpointFile(checkpoint_file)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        """Connect. Raises OSError."""
        self._client = self._runner.run(self._connect())
        return self

    def __exit__(self, *_: object) -> None:
        """Release the connection."""
        try:
            self._runner.run(self._client.close())
        finally:
            self._runner.close()

    async def _connect(self) -> AuditLogClient:
        return AuditLogClient.connect(self._place.address, verifier=self._place.verifier, checkpoints=self._store)

    def checkpoint(self) -> SignedCheckpoint:
        """The newest checkpoint, as soon as there is one that proves itself."""
        return self._wait(self._client.checkpoint, "a checkpoint")

    def wait_logged(self, leaf: LeafHash) -> LeafIndex:
        """Until the log proves that it holds a leaf: where. Raises Unavailable when it takes too long."""
        return self._wait(lambda: self._client.prove_inclusion(leaf), f"record {leaf.hex()}").index

    def check_record(self, audit_id: AuditId) -> EvidenceReport:
        """Have a record proved, both that it is logged and by whom it was made. Raises NotProven or NotFound."""
        evidence = self._runner.run(self._client.record(audit_id=audit_id))
        report = check_evidence(evidence, log=self._place.verifier)
        if report.logged is None or not report.pinned:
            raise BadProof(f"got evidence for {audit_id} without the log's half, want both")
        return report

    def prove_consistency(self, old: SignedCheckpoint) -> Consistency:
        """Have it proved that the log has kept all of `old`."""
        return self._runner.run(self._client.prove_consistency(old))

    def read_all(self) -> Sequence[bytes]:
        """Every leaf of the log as it is now, each proven to be in its tree."""
        return self._runner.run(self._read_all())

    async def _read_all(self) -> Sequence[bytes]:
        size = (await self._client.checkpoint()).checkpoint.size
        return [entry async for _, entry in self._client.entries(LeafIndex(0), size)]

    def check_receipts(self, trail: Trail) -> int:
        """Have every receipt shown that the log gave this writer, and verify it against the journal. Their number."""
        return self._runner.run(self._check_receipts(trail))

    async def _check_receipts(self, trail: Trail) -> int:
        writer, hashes, notes, count, at = trail.inspection.writer, trail.inspection.hashes, trail.notes(), 0, 0

        def sent(begin: int, end: int) -> tuple[Sequence[LeafHash], bytes]:
            if end not in notes:
                raise BadProof(f"got a batch up to record {end}, where no group commit of the journal ends")
            return hashes[begin:end], notes[end]

        async with LogChannel(self._place.address) as channel:
            while at < len(hashes):
                request = log_pb2.GetReceiptsRequest(writer=writer, to=len(hashes), **{"from": at})
                found = await receipts(channel, self._client.view, request, sent=sent)
                if not found:
                    raise BadProof(f"got no receipt for record {at}, want one")
                count, at = count + len(found), found[-1].to
        return count

    def state(self) -> log_pb2.LogState:
        """What the log says of itself; nothing of it is proven."""
        return self._runner.run(self._state())

    async def _state(self) -> log_pb2.LogState:
        async with LogChannel(self._place.address) as channel:
            return await channel.get_state(log_pb2.GetLogStateRequest())

    def _wait(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        return self._runner.run(_wait(ask, what))

    @property
    def view(self) -> LogView:
        """What was verified last."""
        return self._client.view


async def _wait(ask: Callable[[], Awaitable[T]], what: str) -> T:
    """Ask until there is an answer. Raises Unavailable when it takes too long."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while True:
        try:
            return await ask()
        except (NotFound, LogUnavailable):
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"the log did not have {what} within {WAIT_SECONDS:g} s") from None
        await asyncio.sleep(POLL_SECONDS)


def check_complete(leaves: Iterable[bytes], origin: str, writer: WriterId) -> CompletenessReport:
    """Whether all leaves of a log hold each record of a writer exactly once, and how it ended (rule O1)."""
    found = Completeness(origin, writer)
    for index, leaf in enumerate(leaves):
        found.add(LeafIndex(index), leaf, leaf_hash(leaf))
    return found.finish()
