# SPDX-License-Identifier: Apache-2.0
"""`Sidecar`: the life of one writer, from WriterStarted to WriterStopped.

What is true at each step:

    start    record 0 is WriterStarted, then the policy's bytes and PolicyLoaded; all durable before the first check
    running  the snapshot in force is swapped whole; a new policy's bytes are in the log before its first decision
    stop     counted refusals and WriterStopped are durable, and shipped if there is time, before the process ends

The service owns its background tasks; `run` ends them all when it is cancelled or the journal fails (rule W4).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import JournalFull
from iap_authz.policy.bundle import split_chunks
from iap_authz.policy.compiled import Policy
from iap_authz.ports import Appended, Clock, Journal
from iap_authz.sidecar.own_records import append_own
from iap_authz.sidecar.refusals import RefusalCounter
from iap_authz.sidecar.snapshot import Snapshot
from iap_authz.sidecar.tasks import run_together

REFUSALS_INTERVAL_SECONDS = 1.0
"""How long a counted refusal waits for its record."""

RENEWAL_INTERVAL_SECONDS = 1.0
"""How often a policy that found no room to be recorded is tried again."""

HEARTBEAT_INTERVAL_SECONDS = 10.0
"""Bounds how much of a writer's tail can vanish without a trace (PROTOCOL rule O1)."""

_log = logging.getLogger("iap_authz.sidecar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a Heartbeat reports. Ages by source name, in seconds.

    `log_checkpoint` is the note of the last checkpoint of the audit log that was verified; records below
    `shipped_sequence` have a receipt (rule G3). Without a log: none. Nothing of a seal epoch before
    `oldest_seal_epoch` is used or held (rule S5); 0 says nothing.
    """

    journal_bytes: int
    journal_bound_bytes: int
    source_ages: Mapping[str, float]
    log_checkpoint: bytes = b""
    shipped_sequence: int = 0
    oldest_seal_epoch: int = 0


async def nothing_to_drain() -> None:
    """What is awaited at the end where there is no audit log."""


class Sidecar:
    """Holds the snapshot in force and keeps the writer's own records."""

    def __init__(
        self,
        *,
        journal: Journal,
        clock: Clock,
        refusals: RefusalCounter,
        started: record_pb2.WriterStarted,
        build: Callable[[Snapshot | None], Snapshot],
        measure: Callable[[], Measures],
        drain: Callable[[], Awaitable[None]] = nothing_to_drain,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._refusals = refusals
        self._started = started
        self._build = build
        self._measure = measure
        self._drain = drain
        self._snapshot: Snapshot | None = None
        self._is_due = False

    def snapshot(self) -> Snapshot:
        """The generation in force."""
        if self._snapshot is None:
            raise RuntimeError("no snapshot before start")
        return self._snapshot

    async def start(self) -> None:
        """Write the writer's first records and take the first snapshot. Raises JournalFull or OSError."""
        self._append(self._started)
        snapshot = self._build(None)
        last = self._append_policy(snapshot.policy, previous=None)
        await asyncio.shield(last.durable)
        self._snapshot = snapshot

    def renew(self) -> None:
        """Take a new snapshot. A policy that cannot be recorded first stays out, and is tried again; all else moves."""
        current = self.snapshot()
        snapshot = self._build(current)
        self._is_due = False
        if snapshot.policy.digest != current.policy.digest:
            try:
                self._append_policy(snapshot.policy, previous=current.policy)
                _log.info("policy loaded", extra={"policy": snapshot.policy.digest.hex()})
            except JournalFull:
                _log.error("no room to record the new policy; the old one stays until there is")
                snapshot = replace(snapshot, policy=current.policy)
                self._is_due = True
        self._snapshot = snapshot

    def _renew_if_due(self) -> None:
        if self._is_due:
            self.renew()

    async def run(self) -> None:
        """Flush counts and write heartbeats until cancelled. Raises OSError when the journal fails."""
        await run_together(
            self._every(REFUSALS_INTERVAL_SECONDS, self._refusals.flush),
            self._every(RENEWAL_INTERVAL_SECONDS, self._renew_if_due),
            self._every(HEARTBEAT_INTERVAL_SECONDS, self._beat),
            until=self._journal.failed,
        )

    async def stop(self, cause: str) -> None:
        """Write what is left to say, have it shipped as far as there is time, then close the journal."""
        try:
            with contextlib.suppress(JournalFull, OSError):
                self._refusals.flush()
                body = record_pb2.WriterStopped(cause=cause, log_checkpoint=self._measure().log_checkpoint)
                await asyncio.shield(self._append(body).durable)
                await self._drain()
        finally:
            await self._journal.close()

    async def _every(self, interval_seconds: float, act: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval_seconds)
            act()

    def _beat(self) -> None:
        measures = self._measure()
        body = record_pb2.Heartbeat(
            journal_bytes=measures.journal_bytes,
            journal_bound_bytes=measures.journal_bound_bytes,
            log_checkpoint=measures.log_checkpoint,
            shipped_sequence=measures.shipped_sequence,
            oldest_seal_epoch=measures.oldest_seal_epoch,
        )
        for name, age in measures.source_ages.items():
            body.source_age[name].FromNanoseconds(int(age * 1e9))
        try:
            self._append(body)
        except JournalFull:
            _log.error("no room for a heartbeat")

    def _append_policy(self, policy: Policy, *, previous: Policy | None) -> Appended:
        chunks = split_chunks(policy.canonical)
        for index, chunk in enumerate(chunks):
            self._append(record_pb2.PolicyChunk(digest=policy.digest, index=index, count=len(chunks), bytes=chunk))
        return self._append(
            record_pb2.PolicyLoaded(
                digest=policy.digest,
                name=policy.name,
                previous_digest=previous.digest if previous is not None else b"",
                routes=len(policy.routes),
            )
        )

    def _append(self, body: Message) -> Appended:
        return append_own(self._journal, self._clock, body)
