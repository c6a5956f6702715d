# SPDX-License-Identifier: Apache-2.0
"""The one exit of every check: whatever happens, one record or one count, and never an allow without its record."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.envoy.request import parse_check
from iap_authz.errors import JournalFull
from iap_authz.facts.location import Networks
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile
from iap_authz.ports import Answer, Appended, Room
from iap_authz.records.record import audit_id, parse_record
from iap_authz.sidecar.check import Check
from iap_authz.sidecar.refusals import RefusalCounter
from iap_authz.sidecar.snapshot import LocationSettings, Snapshot
from tests.fakes.checks import check_request

WRITER = WriterId(b"\7" * 32)
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


@dataclass
class ManualClock:
    wall: datetime = NOW
    seconds: float = 100.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class ManualJournal:
    """A journal whose durability and room the test decides."""

    full: set[Room] = field(default_factory=set)
    broken: Exception | None = None
    durable_at_once: bool = True
    leaves: list[bytes] = field(default_factory=list)
    pending: list["asyncio.Future[None]"] = field(default_factory=list)

    @property
    def writer(self) -> WriterId:
        return WRITER

    def append_nowait(self, build: Callable[[WriterId, Sequence], bytes], *, room: Room) -> Appended:
        if room in self.full:
            raise JournalFull("full")
        if self.broken is not None:
            raise self.broken
        leaf = build(WRITER, Sequence(len(self.leaves)))
        self.leaves.append(leaf)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.durable_at_once:
            future.set_result(None)
        self.pending.append(future)
        return Appended(audit_id=audit_id(leaf), sequence=Sequence(len(self.leaves) - 1), durable=future)

    def records(self) -> list[record_pb2.Record]:
        return [parse_record(leaf) for leaf in self.leaves]


class Bench:
    """One Check with everything a test turns."""

    def __init__(self, **journal: object) -> None:
        self.clock = ManualClock()
        self.journal = ManualJournal(**journal)  # type: ignore[arg-type]
        self.refusals = RefusalCounter(self.journal, self.clock)  # type: ignore[arg-type]
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
            journal=self.journal,  # type: ignore[arg-type]
            clock=self.clock,
            refusals=self.refusals,
            max_in_flight=2,
        )

    def snapshot(self) -> Snapshot:
        if self.failing is not None:
            raise self.failing
        return self.snapshot_in_force

    async def check(self, path: str, seconds: float = 5.0) -> Answer:
        return await self.check_service.check(asked(path), self.clock.seconds + seconds)


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
        (record,) = bench.journal.records()
        assert (answer.decision.verdict, answer.decision.reason) == (verdict, reason)
        assert (record.decision.verdict, record.decision.reason) == (verdict, reason)
        assert answer.audit_id == audit_id(bench.journal.leaves[0])
        assert record.open.decision.facts.now.ToDatetime(UTC) == NOW.replace(microsecond=0)
        assert record.decision.policy_digest == bench.snapshot_in_force.policy.digest

    run(test)


def test_row_167_a_defect_refuses_and_is_recorded() -> None:
    async def test() -> None:
        for error in (RecursionError(), MemoryError(), KeyboardInterrupt(), ValueError("token")):
            bench = Bench()
            bench.failing = error
            answer = await bench.check("/open")
            (record,) = bench.journal.records()
            assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.INTERNAL_ERROR)
            assert (record.decision.verdict, record.decision.reason) == (Verdict.UNDECIDED, Reason.INTERNAL_ERROR)
            bench.failing = None
            assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW

    run(test)


def test_a_defect_in_the_journal_itself_is_counted() -> None:
    async def test() -> None:
        bench = Bench(broken=RuntimeError())
        answer = await bench.check("/open")
        assert (answer.decision.verdict, answer.audit_id) == (Verdict.UNDECIDED, "")
        assert bench.refusals.waiting == 1

    run(test)


def test_no_allow_before_its_record_is_durable() -> None:
    async def test() -> None:
        bench = Bench(durable_at_once=False)
        waiting = asyncio.create_task(bench.check("/open"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        bench.journal.pending[0].set_result(None)
        assert (await waiting).decision.verdict is Verdict.ALLOW

    run(test)


def test_r1_late_allow_is_withheld_and_said_to_be() -> None:
    async def test() -> None:
        bench = Bench(durable_at_once=False)
        answer = await bench.check("/open", seconds=0.0)
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.DEADLINE_EXCEEDED)
        assert len(bench.journal.leaves) == 1
        bench.journal.pending[0].set_result(None)
        await asyncio.sleep(0)
        outcome = bench.journal.records()[1].outcome
        assert outcome.kind == record_pb2.Outcome.ANSWER_WITHHELD
        assert outcome.decision.hex() == answer.audit_id == audit_id(bench.journal.leaves[0])

    run(test)


def test_late_refusal_needs_no_outcome() -> None:
    async def test() -> None:
        bench = Bench(durable_at_once=False)
        await bench.check("/closed", seconds=0.0)
        bench.journal.pending[0].set_result(None)
        await asyncio.sleep(0)
        assert len(bench.journal.leaves) == 1

    run(test)


def test_row_174_a_vanished_client_takes_no_record_away() -> None:
    async def test() -> None:
        bench = Bench(durable_at_once=False)
        waiting = asyncio.create_task(bench.check("/open"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not bench.journal.pending[0].cancelled()
        bench.journal.pending[0].set_result(None)
        await asyncio.sleep(0)
        decided, followed = bench.journal.records()
        assert decided.decision.verdict == record_pb2.ALLOW
        assert followed.outcome.kind == record_pb2.Outcome.ANSWER_CANCELLED

    run(test)


def test_w4_a_failed_disk_refuses() -> None:
    async def test() -> None:
        bench = Bench(durable_at_once=False)
        waiting = asyncio.create_task(bench.check("/open"))
        await asyncio.sleep(0)
        bench.journal.pending[0].set_exception(OSError(5, "I/O error"))
        answer = await waiting
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.JOURNAL_FAILED)

    run(test)


def test_r2_refusals_are_counted_above_the_mark_while_allows_go_on() -> None:
    async def test() -> None:
        bench = Bench(full={Room.REFUSAL})
        assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW
        for _ in range(3):
            answer = await bench.check("/closed")
            assert (answer.decision.verdict, answer.audit_id) == (Verdict.DENY, "")
        await bench.check("/nothing")
        bench.refusals.flush()
        counts = [(r.refusals.reason, r.refusals.count) for r in bench.journal.records()[1:]]
        assert counts == [(Reason.DENIED_BY_RULE, 3), (Reason.NO_ROUTE, 1)]
        assert bench.refusals.waiting == 0

    run(test)


def test_r2_full_journal_refuses_what_would_be_allowed_and_counts() -> None:
    async def test() -> None:
        bench = Bench(full={Room.REFUSAL, Room.ALLOW, Room.RESERVE})
        answer = await bench.check("/open")
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.JOURNAL_FULL)
        bench.refusals.flush()
        assert bench.refusals.waiting == 1
        bench.journal.full.clear()
        bench.refusals.flush()
        assert bench.refusals.waiting == 0
        assert bench.journal.records()[0].refusals.reason == Reason.JOURNAL_FULL
        assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW

    run(test)


def test_more_in_flight_than_the_bound_is_shed_and_counted() -> None:
    async def test() -> None:
        bench = Bench(durable_at_once=False)
        waiting = [asyncio.create_task(bench.check("/open")) for _ in range(2)]
        await asyncio.sleep(0)
        answer = await bench.check("/open")
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.OVERLOADED)
        assert bench.refusals.waiting == 1
        for future in bench.journal.pending:
            future.set_result(None)
        assert {(await task).decision.verdict for task in waiting} == {Verdict.ALLOW}
        bench.journal.durable_at_once = True
        assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW

    run(test)


def test_facts_too_large_for_a_record_are_refused_and_said_to_be() -> None:
    async def test() -> None:
        bench = Bench()
        request = asked("/open")
        context = {f"k{number}": "x" * 500 for number in range(200)}
        large = parse_check(check_request(path="/open", context=context).SerializeToString())
        answer = await bench.check_service.check(large, bench.clock.seconds + 1)
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.DENY, Reason.MALFORMED_REQUEST)
        (record,) = bench.journal.records()
        assert "request.context" in record.decision.missing
        assert (await bench.check_service.check(request, bench.clock.seconds + 1)).decision.verdict is Verdict.ALLOW

    run(test)


def test_withheld_answer_is_said_to_be() -> None:
    async def test() -> None:
        bench = Bench()
        answer = await bench.check("/open")
        bench.check_service.withhold(answer)
        bench.check_service.withhold(Answer(decision=answer.decision, audit_id=""))
        assert [r.WhichOneof("body") for r in bench.journal.records()] == ["decision", "outcome"]
        assert AuditId(bench.journal.records()[1].outcome.decision.hex()) == answer.audit_id

    run(test)
