# SPDX-License-Identifier: Apache-2.0
"""The one exit of every check: whatever happens, one record or one count, and never an allow without its record."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.envoy.request import parse_check
from iap_authz.facts.location import Networks
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile
from iap_authz.ports import Answer, Appended
from iap_authz.records.record import audit_id
from iap_authz.records.room import Room
from iap_authz.sidecar.check import Check
from iap_authz.sidecar.refusals import RefusalCounter
from iap_authz.sidecar.snapshot import LocationSettings, Snapshot
from tests.fakes.checks import check_request
from tests.fakes.clock import ManualClock
from tests.fakes.journal import FixedSigner, MemoryJournal, start_record

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
POLICY = b"""
kind: Policy
name: test
routes:
- name: open
  match: {paths: ["/open"]}
  allow: [{id: anyone, when: 'request.method == "GET"'}]
- name: closed
  match: {paths: ["/closed"]}
  deny: [{id: nobody, when: 'request.method == "GET"'}]
"""


class BrokenJournal(MemoryJournal):
    """A journal with a defect."""

    def append_nowait(self, build: Callable[[WriterId, Sequence], bytes], *, room: Room) -> Appended:  # noqa: ARG002
        raise RuntimeError("defect")


class Bench:
    """One Check with everything a test turns."""

    def __init__(self, *, hold: bool = False, broken: bool = False) -> None:
        self.clock = ManualClock(NOW)
        signer = FixedSigner()
        self.journal = BrokenJournal(signer) if broken else MemoryJournal(signer, hold=hold)
        if not broken:
            self.journal.append_nowait(lambda _, __: start_record(signer, time=NOW), room=Room.RESERVE)
        self.refusals = RefusalCounter(self.journal, self.clock)
        self.failing: BaseException | None = None
        self.snapshot_in_force = Snapshot(
            policy=load_policy([SourceFile(name="p.yaml", content=POLICY)]),
            issuers=(),
            device=None,
            inventory=None,
            location=LocationSettings(
                client_address="peer",
                geography_configured=False,
                max_build_age=timedelta(days=1),
                country_field="country",
            ),
            networks=Networks(),
            geography=None,
        )
        self.check_service = Check(
            snapshot=self.snapshot,
            journal=self.journal,
            clock=self.clock,
            refusals=self.refusals,
            max_in_flight=2,
        )

    def snapshot(self) -> Snapshot:
        if self.failing is not None:
            raise self.failing
        return self.snapshot_in_force

    @property
    def leaves(self) -> list[bytes]:
        """All but record 0."""
        return self.journal.leaves[1:]

    @property
    def records(self) -> list[record_pb2.Record]:
        return self.journal.records[1:]

    async def check(self, path: str, seconds: float = 5.0) -> Answer:
        return await self.check_service.check(asked(path), self.clock.monotonic() + seconds)


def asked(path: str) -> Request:
    return parse_check(check_request(path=path).SerializeToString())


def run(test: Callable[[], object]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "verdict", "reason"),
    [
        ("/open", Verdict.ALLOW, Reason.ALLOWED),
        ("/closed", Verdict.DENY, Reason.DENIED_BY_RULE),
        ("/nothing", Verdict.DENY, Reason.NO_ROUTE),
        ("//open", Verdict.DENY, Reason.PATH_NOT_NORMAL),
    ],
)
def test_every_decision_is_one_record(path: str, verdict: Verdict, reason: Reason) -> None:
    async def test() -> None:
        bench = Bench()
        answer = await bench.check(path)
        (record,) = bench.records
        assert (answer.decision.verdict, answer.decision.reason) == (verdict, reason)
        assert (record.decision.verdict, record.decision.reason) == (verdict, reason)
        assert answer.audit_id == audit_id(bench.leaves[0])
        assert record.open.decision.facts.now.ToDatetime(UTC) == NOW.replace(microsecond=0)
        assert record.decision.policy_digest == bench.snapshot_in_force.policy.digest

    run(test)


def test_row_167_a_defect_refuses_and_is_recorded() -> None:
    async def test() -> None:
        for error in (RecursionError(), MemoryError(), KeyboardInterrupt(), ValueError("token")):
            bench = Bench()
            bench.failing = error
            answer = await bench.check("/open")
            (record,) = bench.records
            assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.INTERNAL_ERROR)
            assert (record.decision.verdict, record.decision.reason) == (Verdict.UNDECIDED, Reason.INTERNAL_ERROR)
            bench.failing = None
            assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW

    run(test)


def test_a_defect_in_the_journal_itself_is_counted() -> None:
    async def test() -> None:
        bench = Bench(broken=True)
        answer = await bench.check("/open")
        assert (answer.decision.verdict, answer.audit_id) == (Verdict.UNDECIDED, "")
        assert bench.refusals.waiting == 1

    run(test)


def test_no_allow_before_its_record_is_durable() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        waiting = asyncio.create_task(bench.check("/open"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        bench.journal.release()
        assert (await waiting).decision.verdict is Verdict.ALLOW

    run(test)


def test_r1_late_allow_is_withheld_and_said_to_be() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        answer = await bench.check("/open", seconds=0.0)
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.DEADLINE_EXCEEDED)
        assert len(bench.leaves) == 1
        bench.journal.release()
        await asyncio.sleep(0)
        outcome = bench.records[1].outcome
        assert outcome.kind == record_pb2.Outcome.ANSWER_WITHHELD
        assert outcome.decision.hex() == answer.audit_id == audit_id(bench.leaves[0])

    run(test)


def test_f7_a_record_that_is_durable_after_the_deadline_is_no_allow() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        waiting = asyncio.create_task(bench.check("/open", seconds=5.0))
        await asyncio.sleep(0)
        bench.clock.advance(6.0)  # the process was stopped for longer than the deadline
        bench.journal.release()
        answer = await waiting
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.DEADLINE_EXCEEDED)
        await asyncio.sleep(0)
        assert bench.records[1].outcome.kind == record_pb2.Outcome.ANSWER_WITHHELD

    run(test)


def test_late_refusal_needs_no_outcome() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        await bench.check("/closed", seconds=0.0)
        bench.journal.release()
        await asyncio.sleep(0)
        assert len(bench.leaves) == 1

    run(test)


def test_row_174_a_vanished_client_takes_no_record_away() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        waiting = asyncio.create_task(bench.check("/open"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        bench.journal.release()
        await asyncio.sleep(0)
        decided, followed = bench.records
        assert decided.decision.verdict == record_pb2.ALLOW
        assert followed.outcome.kind == record_pb2.Outcome.ANSWER_CANCELLED

    run(test)


def test_w4_a_failed_disk_refuses() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        waiting = asyncio.create_task(bench.check("/open"))
        await asyncio.sleep(0)
        bench.journal.fail(OSError(5, "I/O error"))
        answer = await waiting
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.JOURNAL_FAILED)
        after = await bench.check("/open")
        assert (after.decision.reason, after.audit_id) == (Reason.JOURNAL_FAILED, "")
        assert (await bench.check("/closed")).decision.verdict is Verdict.DENY
        assert bench.refusals.waiting == 2

    run(test)


def test_r2_refusals_are_counted_above_the_mark_while_allows_go_on() -> None:
    async def test() -> None:
        bench = Bench()
        bench.journal.full = {Room.REFUSAL}
        assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW
        for _ in range(3):
            answer = await bench.check("/closed")
            assert (answer.decision.verdict, answer.audit_id) == (Verdict.DENY, "")
        await bench.check("/nothing")
        bench.refusals.flush()
        counts = [(r.refusals.reason, r.refusals.count) for r in bench.records[1:]]
        assert counts == [(Reason.DENIED_BY_RULE, 3), (Reason.NO_ROUTE, 1)]
        assert bench.refusals.waiting == 0

    run(test)


def test_r2_full_journal_refuses_what_would_be_allowed_and_counts() -> None:
    async def test() -> None:
        bench = Bench()
        bench.journal.full = set(Room)
        answer = await bench.check("/open")
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.JOURNAL_FULL)
        bench.refusals.flush()
        assert bench.refusals.waiting == 1
        bench.journal.full.clear()
        bench.refusals.flush()
        assert bench.refusals.waiting == 0
        assert bench.records[0].refusals.reason == Reason.JOURNAL_FULL
        assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW

    run(test)


def test_more_in_flight_than_the_bound_is_shed_and_counted() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        waiting = [asyncio.create_task(bench.check("/open")) for _ in range(2)]
        await asyncio.sleep(0)
        answer = await bench.check("/open")
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.OVERLOADED)
        assert bench.refusals.waiting == 1
        bench.journal.release()
        assert {(await task).decision.verdict for task in waiting} == {Verdict.ALLOW}
        again = asyncio.create_task(bench.check("/open"))
        await asyncio.sleep(0)
        bench.journal.release()
        assert (await again).decision.verdict is Verdict.ALLOW

    run(test)


def test_facts_too_large_for_a_record_are_refused_and_said_to_be() -> None:
    async def test() -> None:
        bench = Bench()
        request = asked("/open")
        context = {f"k{number}": "x" * 500 for number in range(200)}
        large = parse_check(check_request(path="/open", context=context).SerializeToString())
        answer = await bench.check_service.check(large, bench.clock.monotonic() + 1)
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.DENY, Reason.MALFORMED_REQUEST)
        (record,) = bench.records
        assert "request.context" in record.decision.missing
        assert (await bench.check_service.check(request, bench.clock.monotonic() + 1)).decision.verdict is Verdict.ALLOW

    run(test)


def test_withheld_answer_is_said_to_be() -> None:
    async def test() -> None:
        bench = Bench()
        answer = await bench.check("/open")
        bench.check_service.withhold(answer)
        bench.check_service.withhold(Answer(decision=answer.decision, audit_id=""))
        assert [r.WhichOneof("body") for r in bench.records] == ["decision", "outcome"]
        assert AuditId(bench.records[1].outcome.decision.hex()) == answer.audit_id

    run(test)
