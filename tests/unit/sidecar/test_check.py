# SPDX-License-Identifier: Apache-2.0
"""The one exit of every check: whatever happens, one record or one count, and never an allow without its record."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
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
from iap_authz.records.seal import Seal
from iap_authz.records.seal_settings import SealSettings
from iap_authz.sidecar.check import Check
from iap_authz.sidecar.refusals import RefusalCounter
from iap_authz.sidecar.sealing import Seals, UnsafeNoSeals
from iap_authz.sidecar.shipping import NoLog
from iap_authz.sidecar.snapshot import LocationSettings, Snapshot
from iap_authz.sidecar.subject_keys import SubjectKeys
from tests.fakes.checks import check_request
from tests.fakes.clock import ManualClock
from tests.fakes.journal import ORIGIN, FixedSigner, MemoryJournal, start_record
from tests.fakes.sealed import VAULT, open_leaf

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
- name: kept
  match: {paths: ["/kept"]}
  allow: [{id: anyone, when: 'request.method == "GET"'}]
  durability: log
- name: told
  match: {paths: ["/told/**"]}
  deny: [{id: closed, when: 'request.path == "/told/closed"'}]
  challenge: [{id: challenged, when: 'request.path == "/told/challenged"'}]
  allow: [{id: anyone, when: 'request.path != "/told/undecided" || 1 / int(request.query) > 0'}]
  on_allow: {assertion: true}
- name: kept-told
  match: {paths: ["/kept-told"]}
  allow: [{id: anyone, when: 'request.method == "GET"'}]
  durability: log
  on_allow: {assertion: {audience: billing}}
- name: kept-closed
  match: {paths: ["/kept-closed"]}
  deny: [{id: nobody, when: 'request.method == "GET"'}]
  durability: log
"""


class HandShipping:
    """Ships when a test says so, and counts who waits."""

    def __init__(self) -> None:
        self.refuses = False
        self.futures: dict[int, asyncio.Future[None]] = {}

    def shipped(self, sequence: int) -> "asyncio.Future[None]":
        assert sequence not in self.futures, "a record is waited for once"
        self.futures[sequence] = asyncio.get_running_loop().create_future()
        return self.futures[sequence]

    def ship(self) -> None:
        for future in self.futures.values():
            if not future.done():
                future.set_result(None)


class NotingAsserter:
    """Notes what it is asked. Raises `failing`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Answer, facts_pb2.Facts]] = []
        self.failing: Exception | None = None

    def mint(self, answer: Answer, facts: facts_pb2.Facts) -> str:
        self.asked.append((answer, facts))
        if self.failing is not None:
            raise self.failing
        return f"assertion of {answer.audit_id}"


class BrokenJournal(MemoryJournal):
    """A journal with a defect."""

    def append_nowait(
        self,
        build: Callable[[WriterId, Sequence], bytes],  # noqa: ARG002 -- the port's
        *,
        room: Room,  # noqa: ARG002 -- the port's
        beside: bytes = b"",  # noqa: ARG002 -- the port's
    ) -> Appended:
        raise RuntimeError("defect")


class WatchedSeals:
    """Seals like a sidecar does, and notes for whom. The next calls raise what is in `failing`, one each."""

    def __init__(self, writer: WriterId, clock: ManualClock) -> None:
        settings = SealSettings(origin=ORIGIN, seal_epoch=1, vault=VAULT.vault_key())
        self._keys = SubjectKeys(settings, writer=writer, monotonic=clock.monotonic)
        self.asked: list[facts_pb2.Facts] = []
        self.failing: list[BaseException] = []

    def seal_for(self, facts: facts_pb2.Facts) -> Seal:
        self.asked.append(facts)
        if self.failing:
            raise self.failing.pop(0)
        return self._keys.seal_for(facts)


class Bench:
    """One Check with everything a test turns. Its records are sealed where a test is about that."""

    def __init__(self, *, hold: bool = False, broken: bool = False, sealed: bool = False) -> None:
        self.clock = ManualClock(NOW)
        self.shipping = HandShipping()
        self.asserter = NotingAsserter()
        signer = FixedSigner()
        self.journal = BrokenJournal(signer) if broken else MemoryJournal(signer, hold=hold)
        if not broken:
            self.journal.append_nowait(lambda _, __: start_record(signer, time=NOW), room=Room.RESERVE)
        self.refusals = RefusalCounter(self.journal, self.clock)
        self.watched = WatchedSeals(self.journal.writer, self.clock)
        self.seals: Seals = self.watched if sealed else UnsafeNoSeals()
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
            seals=self.seals,
            max_in_flight=2,
            shipping=self.shipping,
            asserter=self.asserter,
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

    def opened(self, number: int) -> record_pb2.PersonalPart:
        """What is sealed in a record, by its number without record 0."""
        return open_leaf(self.leaves[number], self.journal.besides[number + 1])

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


# ---- durability: log


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_durability_log_waits_for_the_receipt() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        waiting = asyncio.create_task(bench.check("/kept"))
        await turns()
        assert bench.shipping.futures == {}
        bench.journal.release()
        await turns()
        assert list(bench.shipping.futures) == [1]
        assert not waiting.done()
        bench.shipping.ship()
        answer = await waiting
        assert (answer.decision.verdict, answer.audit_id) == (Verdict.ALLOW, audit_id(bench.leaves[0]))
        assert bench.records[0].decision.durability == record_pb2.LOG
        assert len(bench.records) == 1

    run(test)


def test_r1_without_a_receipt_in_time_the_allow_is_withheld_and_said_to_be() -> None:
    async def test() -> None:
        bench = Bench()
        waiting = asyncio.create_task(bench.check("/kept", seconds=0.02))
        answer = await waiting
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.LOG_UNAVAILABLE)
        decided, followed = bench.records
        assert decided.decision.verdict == record_pb2.ALLOW
        assert (followed.outcome.kind, followed.outcome.reason) == (
            record_pb2.Outcome.ANSWER_WITHHELD,
            Reason.LOG_UNAVAILABLE,
        )
        assert followed.outcome.decision.hex() == answer.audit_id
        assert bench.shipping.futures[1].cancelled()

    run(test)


def test_a_receipt_that_comes_after_the_deadline_is_no_allow() -> None:
    async def test() -> None:
        bench = Bench()
        waiting = asyncio.create_task(bench.check("/kept", seconds=5.0))
        await turns()
        bench.clock.advance(6.0)  # the process was stopped for longer than the deadline
        bench.shipping.ship()
        assert (await waiting).decision.reason is Reason.LOG_UNAVAILABLE

    run(test)


def test_a_client_that_vanishes_while_the_receipt_is_awaited_leaves_an_outcome() -> None:
    async def test() -> None:
        bench = Bench()
        waiting = asyncio.create_task(bench.check("/kept"))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await turns()
        assert bench.records[1].outcome.kind == record_pb2.Outcome.ANSWER_CANCELLED
        assert bench.shipping.futures[1].cancelled()

    run(test)


@pytest.mark.parametrize("path", ["/open", "/closed", "/nothing", "/kept-closed"])
def test_nothing_but_an_allow_with_durability_log_waits_for_the_log(path: str) -> None:
    async def test() -> None:
        bench = Bench()
        await bench.check(path)
        assert bench.shipping.futures == {}

    run(test)


@pytest.mark.parametrize("path", ["/open", "/closed", "/kept", "/nothing"])
def test_while_the_log_is_at_fault_and_that_refuses_nothing_is_decided(path: str) -> None:
    async def test() -> None:
        bench = Bench()
        bench.shipping.refuses = True
        answer = await bench.check(path)
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.LOG_UNAVAILABLE)
        (record,) = bench.records
        assert record.decision.reason == Reason.LOG_UNAVAILABLE
        assert record.decision.policy_digest == bench.snapshot_in_force.policy.digest
        assert answer.audit_id == audit_id(bench.leaves[0])
        assert bench.shipping.futures == {}
        bench.shipping.refuses = False
        assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW

    run(test)


def test_without_a_log_nothing_refuses_and_nothing_is_ever_in_it() -> None:
    async def test() -> None:
        bench, no_log = Bench(), NoLog()
        alone = Check(
            snapshot=bench.snapshot,
            journal=bench.journal,
            clock=bench.clock,
            refusals=bench.refusals,
            seals=bench.seals,
            max_in_flight=2,
        )
        answer = await alone.check(asked("/open"), bench.clock.monotonic() + 5)
        assert answer.decision.verdict is Verdict.ALLOW
        answer = await alone.check(asked("/kept"), bench.clock.monotonic() + 0.02)
        assert answer.decision.reason is Reason.LOG_UNAVAILABLE
        assert not no_log.refuses
        assert not no_log.shipped(0).done()

    run(test)


# ---- sealing


@pytest.mark.parametrize("path", ["/open", "/closed", "/nothing", "//open", "/open;x"])
def test_s4_what_is_known_of_a_person_is_sealed_whatever_is_decided(path: str) -> None:
    async def test() -> None:
        bench = Bench(sealed=True)
        await bench.check(path)
        (record,) = bench.records
        assert record.WhichOneof("personal") == "sealed"
        (facts,) = bench.watched.asked
        assert bench.opened(0).decision.facts == facts
        assert facts.request.peer == "192.0.2.7"
        assert b"192.0.2.7" not in bench.leaves[0]

    run(test)


def test_s4_what_is_too_large_is_sealed_too() -> None:
    async def test() -> None:
        bench = Bench(sealed=True)
        context = {f"k{number}": "x" * 500 for number in range(200)}
        large = parse_check(check_request(path="/open", context=context).SerializeToString())
        answer = await bench.check_service.check(large, bench.clock.monotonic() + 1)
        assert answer.decision.reason is Reason.MALFORMED_REQUEST
        (record,) = bench.records
        assert record.WhichOneof("personal") == "sealed"
        assert list(record.decision.missing) == ["request.context"]
        kept = bench.opened(0).decision.facts
        assert (kept.request.peer, dict(kept.request.context)) == ("192.0.2.7", {})

    run(test)


def test_s4_a_refusal_after_a_defect_is_sealed_with_the_key_of_nobody() -> None:
    async def test() -> None:
        bench = Bench(sealed=True)
        bench.failing = ValueError("defect")
        answer = await bench.check("/open")
        assert answer.decision.reason is Reason.INTERNAL_ERROR
        (record,) = bench.records
        assert record.WhichOneof("personal") == "sealed"
        assert bench.watched.asked == [facts_pb2.Facts()]

    run(test)


@pytest.mark.parametrize("kind", [ValueError, MemoryError, KeyboardInterrupt, RecursionError])
@pytest.mark.parametrize("times", [1, 2])
def test_a_defect_in_sealing_refuses_and_writes_nothing_in_the_open(kind: type[BaseException], times: int) -> None:
    """The refusal is sealed; where that fails too, it is counted."""

    async def test() -> None:
        bench = Bench(sealed=True)
        bench.watched.failing = [kind("defect"), *([ValueError("defect")] * (times - 1))]
        answer = await bench.check("/open")
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.INTERNAL_ERROR)
        assert [record.WhichOneof("personal") for record in bench.records] == ["sealed"] * (2 - times)
        assert bench.refusals.waiting == times - 1
        assert (await bench.check("/open")).decision.verdict is Verdict.ALLOW

    run(test)


def test_a_full_journal_is_no_reason_to_write_in_the_open() -> None:
    async def test() -> None:
        bench = Bench(sealed=True)
        bench.journal.full = {Room.REFUSAL}
        await bench.check("/closed")
        await bench.check("/open")
        assert [record.WhichOneof("personal") for record in bench.records] == ["sealed"]
        assert list(bench.journal.besides) == [1]

    run(test)


def test_without_sealing_nothing_stands_beside_a_record() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.check("/open")
        assert [record.WhichOneof("personal") for record in bench.records] == ["open"]
        assert bench.journal.besides == {}

    run(test)


def test_an_outcome_says_nothing_of_a_person() -> None:
    async def test() -> None:
        bench = Bench(hold=True, sealed=True)
        await bench.check("/open", seconds=0.0)
        bench.journal.release()
        await asyncio.sleep(0)
        decided, followed = bench.records
        assert (decided.WhichOneof("personal"), followed.WhichOneof("personal")) == ("sealed", None)

    run(test)


# ---- assertions


def test_an_allow_carries_the_assertion_that_its_route_promises() -> None:
    async def test() -> None:
        bench = Bench()
        answer = await bench.check("/told/open?x=1")
        assert answer.decision.verdict is Verdict.ALLOW
        assert answer.assertion == f"assertion of {audit_id(bench.leaves[0])}"
        ((asked, facts),) = bench.asserter.asked
        assert (asked.decision, asked.audit_id) == (answer.decision, answer.audit_id)
        assert facts == bench.records[0].open.decision.facts

    run(test)


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("/open", Verdict.ALLOW),
        ("/closed", Verdict.DENY),
        ("/nothing", Verdict.DENY),
        ("/told/closed", Verdict.DENY),
        ("/told/a;b", Verdict.DENY),
        ("/told/challenged", Verdict.CHALLENGE),
        ("/told/undecided?x", Verdict.UNDECIDED),
    ],
)
def test_nothing_else_is_asserted(path: str, verdict: Verdict) -> None:
    async def test() -> None:
        bench = Bench()
        answer = await bench.check(path)
        assert (answer.decision.verdict, answer.assertion, bench.asserter.asked) == (verdict, "", [])
        assert answer.decision.assertion is None

    run(test)


def test_nothing_is_signed_before_the_record_is_durable_and_nothing_for_what_is_withheld() -> None:
    async def test() -> None:
        bench = Bench(hold=True)
        late = await bench.check("/told/open", seconds=0.0)
        waiting = asyncio.create_task(bench.check("/told/open"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (late.assertion, bench.asserter.asked) == ("", [])
        bench.journal.release()
        answer = await waiting
        assert [asked.audit_id for asked, _ in bench.asserter.asked] == [answer.audit_id]

    run(test)


def test_nothing_is_signed_before_the_receipt_and_nothing_for_a_client_that_is_gone() -> None:
    async def test() -> None:
        bench = Bench()
        waiting = [asyncio.create_task(bench.check("/kept-told")) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(bench.shipping.futures) == len(waiting)
        waiting[1].cancel()
        await asyncio.sleep(0)
        assert bench.asserter.asked == []
        bench.shipping.ship()
        assert (await waiting[0]).assertion
        await asyncio.sleep(0)
        assert len(bench.asserter.asked) == 1

    run(test)


@pytest.mark.parametrize("error", [ValueError("defect"), RuntimeError(), MemoryError(), RecursionError()])
def test_an_allow_whose_assertion_cannot_be_made_is_refused_and_said_to_be(error: Exception) -> None:
    async def test() -> None:
        bench = Bench()
        bench.asserter.failing = error
        answer = await bench.check("/told/open")
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.UNDECIDED, Reason.INTERNAL_ERROR)
        assert (answer.assertion, answer.decision.assertion) == ("", None)
        await asyncio.sleep(0)
        decided, followed = bench.records
        assert decided.decision.verdict == Verdict.ALLOW
        assert followed.outcome.kind == record_pb2.Outcome.ANSWER_WITHHELD
        assert followed.outcome.reason == Reason.INTERNAL_ERROR
        assert followed.outcome.decision.hex() == answer.audit_id == audit_id(bench.leaves[0])
        bench.asserter.failing = None
        assert (await bench.check("/told/open")).assertion

    run(test)
