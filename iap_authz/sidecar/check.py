# SPDX-License-Identifier: Apache-2.0
"""`Check`: the one exit of every check.

    request -> snapshot.establish -> policy.evaluate -> record, sealed -> journal -> answer

Every path leaves through `check`: allowed, refused, undecided, malformed, a defect of ours, cancelled. The record
has its place in the journal before anything waits, so neither a deadline nor a vanished client can take it away. No
ALLOW is answered before its record is durable, and where the route asks for `durability: log`, before a verified
receipt covers it. One that comes too late is followed by an Outcome (rule R1). Nothing else here waits for the log.

What is known of a person is sealed on each of these paths (rule S4). A record that cannot be sealed is not made: its
decision is refused and counted, as one that cannot be journaled.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import JournalFull
from iap_authz.model.decision import Decision, denied, undecided
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.model.reason import Durability, Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.model.status import http_status
from iap_authz.policy.evaluate import evaluate
from iap_authz.ports import Answer, Appended, Clock, Journal
from iap_authz.records.record import RecordTooLarge, decision_record, new_record_id
from iap_authz.records.room import Room
from iap_authz.records.too_large import keep_what_fits
from iap_authz.sidecar.own_records import append_own
from iap_authz.sidecar.refusals import RefusalCounter
from iap_authz.sidecar.sealing import Seals
from iap_authz.sidecar.shipping import NoLog, Shipping
from iap_authz.sidecar.snapshot import Snapshot

_log = logging.getLogger("iap_authz.check")


class Check:
    """Satisfies the port `Checker`. Owned by the event loop; `snapshot` returns the generation in force."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        journal: Journal,
        clock: Clock,
        refusals: RefusalCounter,
        seals: Seals,
        max_in_flight: int,
        shipping: Shipping | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._journal = journal
        self._clock = clock
        self._refusals = refusals
        self._seals = seals
        self._max_in_flight = max_in_flight
        self._shipping = shipping or NoLog()
        self._in_flight = 0

    async def check(self, request: Request, deadline: float) -> Answer:
        """Decide, record and answer before `deadline` (monotonic seconds). Raises nothing but CancelledError."""
        started = self._clock.monotonic()
        facts, decision, appended = facts_pb2.Facts(), undecided(Reason.INTERNAL_ERROR), None
        self._in_flight += 1
        try:
            snapshot = self._snapshot()
            decision = undecided(Reason.OVERLOADED, snapshot.policy.digest)
            if self._in_flight > self._max_in_flight:
                return self._counted(decision)
            facts = snapshot.establish(request, self._clock.now())
            decision = undecided(Reason.LOG_UNAVAILABLE, snapshot.policy.digest)
            if not self._shipping.refuses:
                decision = evaluate(snapshot.policy, facts)
            appended = self._append(decision, facts, started)
            problem = await self._wait_kept(decision, appended, deadline=deadline)
            if problem is not None:
                self._follow(decision, appended, record_pb2.Outcome.ANSWER_WITHHELD, problem)
                decision = undecided(problem, decision.policy_digest)
            return Answer(decision=decision, audit_id=appended.audit_id)
        except asyncio.CancelledError:
            self._follow(decision, appended, record_pb2.Outcome.ANSWER_CANCELLED, Reason.CANCELLED)
            raise
        except (JournalFull, OSError) as error:
            reason = Reason.JOURNAL_FULL if isinstance(error, JournalFull) else Reason.JOURNAL_FAILED
            unkept = undecided(reason, decision.policy_digest)
            return self._counted(unkept if decision.verdict is Verdict.ALLOW else decision)
        except RecordTooLarge:
            kept = keep_what_fits(facts)
            refusal = denied(Reason.MALFORMED_REQUEST, decision.policy_digest)
            return self._refused(replace(refusal, missing=kept.left_out), kept.facts, started)
        except BaseException as error:  # noqa: BLE001 -- refusing is the only failure
            _log.error("a check failed", exc_info=error)
            return self._refused(undecided(Reason.INTERNAL_ERROR, decision.policy_digest), facts_pb2.Facts(), started)
        finally:
            self._in_flight -= 1

    def withhold(self, answer: Answer) -> None:
        """Say that `answer`, an ALLOW, was not given after all."""
        if answer.decision.verdict is Verdict.ALLOW and answer.audit_id:
            self._append_outcome(AuditId(answer.audit_id), record_pb2.Outcome.ANSWER_WITHHELD, Reason.INTERNAL_ERROR)

    async def _wait_kept(self, decision: Decision, appended: Appended, *, deadline: float) -> Reason | None:
        """Wait until the record is kept as the decision asks. Why it is not, if it is not in time."""
        await asyncio.wait((appended.durable,), timeout=max(deadline - self._clock.monotonic(), 0.0))
        if not appended.durable.done() or self._clock.monotonic() > deadline:
            return Reason.DEADLINE_EXCEEDED
        if appended.durable.exception() is not None:
            return Reason.JOURNAL_FAILED
        if decision.verdict is not Verdict.ALLOW or decision.durability is not Durability.LOG:
            return None
        shipped = self._shipping.shipped(appended.sequence)
        try:
            await asyncio.wait((shipped,), timeout=max(deadline - self._clock.monotonic(), 0.0))
            is_in_time = shipped.done() and self._clock.monotonic() <= deadline
        finally:
            shipped.cancel()
        return None if is_in_time else Reason.LOG_UNAVAILABLE

    def _append(self, decision: Decision, facts: facts_pb2.Facts, started: float) -> Appended:
        """Queue the record of `decision`. Raises JournalFull where its kind has no room left."""
        seal = self._seals.seal_for(facts)

        def build(writer: WriterId, sequence: Sequence) -> bytes:
            return decision_record(
                decision,
                facts,
                writer=writer,
                sequence=sequence,
                record_id=new_record_id(),
                time=self._clock.now(),
                spent=timedelta(seconds=self._clock.monotonic() - started),
                http_status=http_status(decision, wants=facts.request.wants),
                seal=seal,
            )

        room = Room.ALLOW if decision.verdict is Verdict.ALLOW else Room.REFUSAL
        return self._journal.append_nowait(build, room=room, beside=b"" if seal is None else seal.beside)

    def _counted(self, decision: Decision) -> Answer:
        """The answer of a refusal that gets no record of its own."""
        self._refusals.count(decision)
        return Answer(decision=decision, audit_id="")

    def _refused(self, decision: Decision, facts: facts_pb2.Facts, started: float) -> Answer:
        """The refusal of what could not be recorded as decided: recorded if that works, else counted."""
        try:
            appended = self._append(decision, facts, started)
        except Exception:  # noqa: BLE001 -- the defect may be in the record itself
            return self._counted(decision)
        return Answer(decision=decision, audit_id=appended.audit_id)

    def _follow(
        self, decision: Decision, appended: Appended | None, kind: "record_pb2.Outcome.Kind", reason: Reason
    ) -> None:
        """Rule R1: once the record of an ALLOW that is not answered is durable, an Outcome says so."""
        if appended is None or decision.verdict is not Verdict.ALLOW:
            return

        def append_if_durable(durable: "asyncio.Future[None]") -> None:
            if not durable.cancelled() and durable.exception() is None:
                self._append_outcome(appended.audit_id, kind, reason)

        appended.durable.add_done_callback(append_if_durable)

    def _append_outcome(self, audit_id: AuditId, kind: "record_pb2.Outcome.Kind", reason: Reason) -> None:
        body = record_pb2.Outcome(decision=bytes.fromhex(audit_id), kind=kind, reason=reason.value)
        try:
            append_own(self._journal, self._clock, body)
        except (JournalFull, OSError) as error:
            _log.error("an outcome found no room in the journal", extra={"audit_id": audit_id, "problem": str(error)})
