# SPDX-License-Identifier: Apache-2.0
"""The second half of the demonstration, in its order: what the audit log has, survives, proves, and cannot hide.

Invariant: the same as in `run`: what is not as it was to be is text beside what was seen, and decides the exit code.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from iap_authz.demo.audit import load_trails
from iap_authz.demo.auditor import Auditor
from iap_authz.demo.forgotten import Forgotten, forget
from iap_authz.demo.live import Live
from iap_authz.demo.logged import LogReport, end_sidecar, prove_all_logged, restart_log, wait_shipped
from iap_authz.demo.run import Line, Report, line_of
from iap_authz.demo.show_log import flip_lines, forgotten_lines, fork_lines, log_document, log_lines
from iap_authz.demo.tampered import Fork, StoreFlip, flip_store, fork_log
from iap_authz.errors import NotProven
from iap_authz.model.ids import AuditId
from iap_authz.tlog.checkpoint import SignedCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """All that was shown of the log. `meanwhile` is what was asked while it was down."""

    log: LogReport
    meanwhile: Line
    forgotten: Forgotten
    flip: StoreFlip
    fork: Fork

    @property
    def differences(self) -> list[str]:
        """What is not as it was to be."""
        meanwhile = [f"while the log was down: {difference}" for difference in self.meanwhile.differences]
        parts = (self.log, self.forgotten, self.flip, self.fork)
        return [*meanwhile, *(difference for part in parts for difference in part.differences)]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield from log_lines(self.log)
        yield from forgotten_lines(self.forgotten)
        yield from flip_lines(self.flip)
        yield from (f"  found: {finding}" for finding in self.flip.findings)
        yield from fork_lines(self.fork)

    def document(self) -> Mapping[str, object]:
        """For programs."""
        return log_document(self.log, forgotten=self.forgotten, flip=self.flip, fork=self.fork)


def first_checkpoint(live: Live) -> SignedCheckpoint:
    """What the auditor sees of the log before anything is asked. All that follows has to extend it.

    Raises Unavailable where there is none in time.
    """
    with _auditor(live) as auditor:
        return auditor.checkpoint()


def _auditor(live: Live) -> Auditor:
    return Auditor(live.logs.honest, live.world.folder / "auditor.checkpoint")


def audit_log(live: Live, report: Report, *, first: SignedCheckpoint) -> Audited:
    """Hold the log to its word since `first`, then throw its history away: the log that runs afterwards has none.

    Raises Unavailable where something does not happen in time, NotProven where the log cannot prove itself.
    """
    with _auditor(live) as auditor:
        trails = load_trails(live.world.journal)
        if len(trails) != 1:
            raise NotProven(f"got the journals of {len(trails)} writers, want one")
        shipped = wait_shipped(trails[0], auditor)
        restart = restart_log(live, auditor)
        trail = end_sidecar(live)
        ended = wait_shipped(trail, auditor)
        wanted = [AuditId(line.seen.audit_id) for line in report.lines if line.record is not None]
        proven = prove_all_logged(trail, auditor, first=first, wanted=[*wanted, AuditId(restart.seen.audit_id)])
        # Its writer has ended, so the erasure is complete at once.
        forgotten = forget(live, auditor, AuditId(restart.seen.audit_id), token=restart.seen.case.token)
        live.end_log()
        flip = flip_store(live.logs.honest, restart.index, live.world.folder / "log-flipped")
        fork = fork_log(live, auditor, known=ended.writer)
    log = LogReport(shipped=shipped, restart=restart, ended=ended, proven=proven)
    meanwhile = line_of(restart.seen, trail.records())
    return Audited(log=log, meanwhile=meanwhile, forgotten=forgotten, flip=flip, fork=fork)
