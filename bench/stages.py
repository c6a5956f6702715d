# SPDX-License-Identifier: Apache-2.0
"""One decision's own processor time, stage by stage, in a loop without I/O."""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.envoy.request import parse_check
from iap_authz.adapters.envoy.response import render_answer
from iap_authz.config import load_config
from iap_authz.facts.identity import establish_identity
from iap_authz.model.decision import Decision
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.model.reason import Verdict
from iap_authz.policy.evaluate import evaluate
from iap_authz.ports import Answer
from iap_authz.records.record import audit_id, decision_record, new_record_id
from iap_authz.records.seal import Seal
from iap_authz.sidecar.sealing import configured_settings
from iap_authz.sidecar.subject_keys import SubjectKeys
from iap_authz.wiring import build_snapshot, load_slots, make_slots

ROUNDS = 9
LOOPS = 2_000
WRITER = WriterId(b"\1" * 32)


def processor_us(act: Callable[[], object]) -> float:
    """Median over ROUNDS of the processor time of one call, in microseconds."""
    act()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for _ in range(LOOPS):
            act()
        rounds.append((time.process_time_ns() - started) / LOOPS / 1_000)
    return statistics.median(rounds)


def measure_stages(config: Path, check: bytes) -> dict[str, float]:
    """Microseconds of processor time by stage, and of the whole with a cached and a cold token."""
    settings = load_config(config)
    slots = make_slots(settings)
    load_slots(slots, 0.0)
    snapshot = build_snapshot(settings, slots)
    now = datetime.now(UTC)
    request = parse_check(check)
    facts = snapshot.establish(request, now)
    decision = evaluate(snapshot.policy, facts)
    assert decision.verdict is Verdict.ALLOW, decision
    assert settings.seal is not None, "what is measured is sealed"
    in_force = configured_settings(settings.log_origin, settings.seal.vault_key)
    keys = SubjectKeys(in_force, writer=WRITER, monotonic=time.monotonic)
    keys.fill()
    seal = keys.seal_for(facts)

    leaf = _record(decision, facts, now, seal=seal)
    answer = Answer(decision=decision, audit_id=AuditId("a" * 64))

    def whole() -> bytes:
        asked = parse_check(check)
        known = snapshot.establish(asked, now)
        decided = evaluate(snapshot.policy, known)
        made = _record(decided, known, now, seal=keys.seal_for(known))
        return render_answer(Answer(decision=decided, audit_id=audit_id(made)), asked)

    return {
        "parse the CheckRequest": processor_us(lambda: parse_check(check)),
        "facts (token cached)": processor_us(lambda: snapshot.establish(request, now)),
        "policy (10 routes, CEL each time)": processor_us(lambda: evaluate(snapshot.policy, facts)),
        "seal (subject key cached)": processor_us(lambda: keys.seal_for(facts)),
        "record, sealed": processor_us(lambda: _record(decision, facts, now, seal=seal)),
        "the same, open": processor_us(lambda: _record(decision, facts, now, seal=None)),
        "audit id (leaf hash)": processor_us(lambda: audit_id(leaf)),
        "response": processor_us(lambda: render_answer(answer, request)),
        "whole decision, token cached": processor_us(whole),
        "identity alone, token cold (ES256)": processor_us(
            lambda: establish_identity(request, snapshot.issuers, now=now)
        ),
        "record size in bytes": float(len(leaf)),
    }


def _record(decision: Decision, facts: facts_pb2.Facts, now: datetime, *, seal: Seal | None) -> bytes:
    return decision_record(
        decision,
        facts,
        writer=WRITER,
        sequence=Sequence(1),
        record_id=new_record_id(),
        time=now,
        spent=timedelta(microseconds=300),
        http_status=200,
        seal=seal,
    )
