# SPDX-License-Identifier: Apache-2.0
"""What the demonstration shows of the audit log: that it has every record, loses none, and can be held to its word.

    journal == log?      kill -9 of the log, a request meanwhile, the log again      the sidecar's proper end
                         and then, from outside: every leaf, receipt and record proved, nothing forgotten since

Invariant: that nothing is missing is computed by the auditor, from the journal's files and from leaves that were proven
to be in the log's tree. What differs is text beside what was seen, as in `run`.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iap_authz.demo.audit import Trail, load_trails
from iap_authz.demo.auditor import Auditor, check_complete
from iap_authz.demo.cases import CASES
from iap_authz.demo.files import LOG_ORIGIN
from iap_authz.demo.live import Live, Seen
from iap_authz.demo.processes import Running
from iap_authz.errors import NotProven
from iap_authz.model.ids import AuditId, WriterId
from iap_authz.records.completeness import Tail
from iap_authz.tlog.checkpoint import SignedCheckpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, TreeSize, leaf_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A writer's journal at one moment, and the log when it had the last of these records."""

    writer: WriterId
    journaled: int
    missing: Sequence[LeafHash]
    tree_size: TreeSize

    @property
    def differences(self) -> Iterator[str]:
        """Records that the journal has and the log has not."""
        if self.missing:
            yield f"log: got {self.journaled - len(self.missing)} of the journal's records, want {self.journaled}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The log killed and started again. `seen` was asked while it was down; its record is at `index` now."""

    size_before: TreeSize
    seen: Seen
    seconds: float
    index: LeafIndex
    size_after: TreeSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What was proved once the sidecar had ended. All counts are of proofs that were verified."""

    first: SignedCheckpoint
    last: SignedCheckpoint
    consistency_hashes: int
    leaves: int
    records: int
    receipts: int
    writer_records: int
    tail: Tail
    faults: Sequence[str]

    @property
    def differences(self) -> Iterator[str]:
        """What an auditor could not have proved, and should."""
        yield from (f"log: {fault}" for fault in self.faults)
        if self.tail is not Tail.STOPPED:
            yield f"log: got a writer whose end is {self.tail.value}, want {Tail.STOPPED.value}"
        if self.records < 1 or self.receipts < 1:
            yield f"log: got {self.records} records and {self.receipts} receipts proved, want some"


def wait_shipped(trail: Trail, auditor: Auditor) -> Shipped:
    """Until the log has the last record that the journal has now; then look for all of them.

    Raises Unavailable when that takes too long, and NotProven.
    """
    hashes, writer = trail.inspection.hashes, trail.inspection.writer
    if not hashes or writer is None:
        raise NotProven("got a journal without a record, want the sidecar's")
    auditor.wait_logged(hashes[-1])
    leaves = auditor.read_all()
    logged = {leaf_hash(leaf) for leaf in leaves}
    return Shipped(
        writer=writer,
        journaled=len(hashes),
        missing=[one for one in hashes if one not in logged],
        tree_size=TreeSize(len(leaves)),
    )


def restart_log(live: Live, auditor: Auditor) -> Restart:
    """Kill the log, ask something, and start it again. Raises Unavailable where the record does not get there."""
    before = auditor.checkpoint().checkpoint.size
    log = _running(live.log)
    log.signal(signal.SIGKILL)
    log.wait_ended()
    began = time.monotonic()
    seen = live.ask(CASES[0])
    seconds = time.monotonic() - began
    live.start(live.run_log(live.logs.honest))
    index = auditor.wait_logged(LeafHash(bytes.fromhex(seen.audit_id)))
    return Restart(
        size_before=before, seen=seen, seconds=seconds, index=index, size_after=auditor.checkpoint().checkpoint.size
    )


def end_sidecar(live: Live) -> Trail:
    """End the sidecar as an operator does, and read what it has left. Raises Unavailable if it does not end."""
    sidecar = _running(live.sidecar)
    sidecar.signal(signal.SIGTERM)
    sidecar.wait_ended()
    (trail,) = load_trails(live.world.journal)
    return trail


def prove_all_logged(trail: Trail, auditor: Auditor, *, first: SignedCheckpoint, wanted: Sequence[AuditId]) -> Proven:
    """Have everything proved that can be: `wanted` one by one, receipts, the writer's end, and all since `first`.

    Raises NotProven where the log cannot.
    """
    for audit_id in wanted:
        auditor.check_record(audit_id)
    receipts = auditor.check_receipts(trail)
    leaves = auditor.read_all()
    complete = check_complete(leaves, LOG_ORIGIN, WriterId(trail.inspection.writer or b""))
    faults = [f"leaf {fault.index}: {fault.message}" for fault in complete.faults]
    if complete.size != trail.inspection.size:
        faults.append(f"got {complete.size} records of the writer, want the {trail.inspection.size} of its journal")
    consistency = auditor.prove_consistency(first)
    return Proven(
        first=first,
        last=consistency.new,
        consistency_hashes=len(consistency.proof),
        leaves=len(leaves),
        records=len(wanted),
        receipts=receipts,
        writer_records=complete.size,
        tail=complete.tail,
        faults=faults,
    )


def _running(process: Running | None) -> Running:
    if process is None:
        raise RuntimeError("not started yet")
    return process


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """All of it, in the order in which it happened."""

    shipped: Shipped
    restart: Restart
    ended: Shipped
    proven: Proven

    @property
    def differences(self) -> list[str]:
        """What is not as it was to be."""
        return [*self.shipped.differences, *self.ended.differences, *self.proven.differences]
