# SPDX-License-Identifier: Apache-2.0
"""Every case of the demonstration through a real Envoy: status, headers, body, application, record, proof, counters."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.demo.audit import Trail, flip_copy
from iap_authz.demo.cases import CASES, Case
from iap_authz.demo.live import Live, Seen
from iap_authz.demo.run import line_of
from iap_authz.model.ids import AuditId
from iap_authz.model.reason import Reason, Verdict
from iap_authz.records.evidence import check_evidence, parse_evidence, prove_record, render_evidence
from tests.fakes.edge import bodies, counters, start_edge, trails_of

RECORDED = [case for case in CASES if case.outcome.verdict is not None]
REFUSED = [case for case in RECORDED if case.outcome.verdict is not Verdict.ALLOW]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All cases, asked once each, and the one journal they left."""

    live: Live
    seen: Mapping[str, Seen]
    trail: Trail
    records: Mapping[AuditId, record_pb2.Record]

    def record(self, case: Case) -> record_pb2.Record:
        return self.records[AuditId(self.seen[case.title].audit_id)]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with start_edge(tmp_path_factory.mktemp("edge")) as live:
        seen = {case.title: live.ask(case) for case in CASES}
        (trail,) = trails_of(live)
        yield Asked(live=live, seen=seen, trail=trail, records=trail.records())


def title(case: Case) -> str:
    return case.title


def test_the_cases_have_titles_of_their_own() -> None:
    assert len({case.title for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=title)
def test_nothing_differs_from_what_the_case_says(asked: Asked, case: Case) -> None:
    assert list(line_of(asked.seen[case.title], asked.records).differences) == []


@pytest.mark.parametrize("case", CASES, ids=title)
def test_the_application_is_reached_by_an_allow_and_by_nothing_else(asked: Asked, case: Case) -> None:
    received = asked.seen[case.title].received
    assert len(received) == (case.outcome.verdict is Verdict.ALLOW)
    assert asked.seen[case.title].reply.status == case.outcome.status


@pytest.mark.parametrize("case", RECORDED, ids=title)
def test_the_record_is_that_of_the_answer(asked: Asked, case: Case) -> None:
    decision = asked.record(case).decision
    outcome = case.outcome
    assert (Verdict(decision.verdict), Reason(decision.reason)) == (outcome.verdict, outcome.reason)
    assert (decision.rule, decision.route, decision.http_status) == (outcome.rule, outcome.route, outcome.status)
    facts = asked.record(case).open.decision.facts
    assert facts.request.method == case.method
    assert facts.request.id == asked.seen[case.title].reply.value("x-request-id")


@pytest.mark.parametrize("case", RECORDED, ids=title)
def test_the_record_can_be_proved_to_somebody_who_has_the_file_only(asked: Asked, case: Case) -> None:
    audit_id = AuditId(asked.seen[case.title].audit_id)
    evidence = prove_record(asked.trail.inspection, audit_id, read=asked.trail.read)
    report = check_evidence(parse_evidence(render_evidence(evidence)), asked.trail.inspection.writer)
    assert report.audit_id == audit_id
    assert report.pinned
    assert report.record == asked.record(case)


@pytest.mark.parametrize("case", REFUSED, ids=title)
def test_a_refusal_says_who_to_quote_and_not_why(asked: Asked, case: Case) -> None:
    seen = asked.seen[case.title]
    reply, text = seen.reply, seen.reply.body.decode()
    assert seen.audit_id in text
    assert reply.value("cache-control") == "no-store"
    assert case.outcome.rule == "" or case.outcome.rule not in text
    assert case.outcome.reason is not None
    assert case.outcome.reason.code not in text
    if reply.value("content-type") == "application/problem+json":
        problem = json.loads(text)
        assert (problem["status"], problem["audit_id"]) == (case.outcome.status, seen.audit_id)
    else:
        assert reply.value("content-type") == "text/html; charset=utf-8"
        assert dict(case.headers).get("Accept", "").startswith("text/html")


@pytest.mark.parametrize("case", [case for case in CASES if case.outcome.verdict is None], ids=title)
def test_what_envoy_refuses_itself_has_no_record(asked: Asked, case: Case) -> None:
    assert asked.seen[case.title].audit_id == ""
    assert case.target not in {record.open.decision.facts.request.raw_path for record in asked.records.values()}


def test_each_check_has_one_record_and_envoy_counts_the_same(asked: Asked) -> None:
    decisions = bodies(list(asked.records.values()), "decision")
    verdicts = Counter(Verdict(record.decision.verdict) for record in decisions)
    assert len(decisions) == len(RECORDED)
    counted = counters(asked.live)
    assert counted["ok"] == verdicts[Verdict.ALLOW]
    assert counted["denied"] == len(decisions) - verdicts[Verdict.ALLOW]
    assert counted["error"] == counted["disabled"] == counted["failure_mode_allowed"] == 0


def test_the_writers_first_records_say_who_it_is_and_what_it_decides_by(asked: Asked) -> None:
    kinds = [record.WhichOneof("body") for record in asked.records.values()]
    assert kinds[:3] == ["writer_started", "policy_chunk", "policy_loaded"]
    loaded = bodies(list(asked.records.values()), "policy_loaded")[0].policy_loaded
    assert {asked.record(case).decision.policy_digest for case in RECORDED} == {loaded.digest}


def test_a_flipped_byte_of_a_record_is_named(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> None:
    audit_id = AuditId(asked.seen[RECORDED[0].title].audit_id)
    flip = flip_copy(asked.trail, audit_id, tmp_path_factory.mktemp("flipped"))
    assert flip.is_named, [str(finding) for finding in flip.findings]


def test_no_token_is_on_the_disk_of_the_audit_trail(asked: Asked) -> None:
    content = b"".join(asked.trail.segments.values())
    tokens = asked.live.world.tokens
    assert tokens
    assert [name for name, token in tokens.items() if token.encode() in content] == []
