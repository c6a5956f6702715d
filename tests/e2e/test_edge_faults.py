# SPDX-License-Identifier: Apache-2.0
"""A real Envoy while the sidecar is killed, frozen, stopped, full, or given bad files.

What holds after every fault: the application was asked for nothing that is not an ALLOW on the disk, a refusal for want
of an answer is 503 and never 403, and service comes back by itself.
"""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.demo.audit import load_trails
from iap_authz.demo.live import Live, Seen
from iap_authz.demo.upstream import Received
from iap_authz.model.reason import Reason, Verdict
from iap_authz.records.record import audit_id
from tests.fakes.edge import (
    ENGINEER,
    NOBODY,
    allows,
    bodies,
    counters,
    load,
    records_of,
    start_edge,
    trails_of,
    wait_for,
    wait_more,
    wait_until,
)

FREEZES_MAX = 40
"""One freeze in two or three meets a record on its way to the disk."""

pytestmark = pytest.mark.time_bound(90)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with start_edge(tmp_path) as live:
        yield live


def signal_sidecar(live: Live, number: signal.Signals) -> None:
    assert live.sidecar is not None
    live.sidecar.signal(number)


def check_not_answered(seen: Seen) -> None:
    """Envoy had nobody to ask: 503 with a hint to try again, no audit id, and the application was not reached."""
    assert seen.reply.status == 503
    assert seen.reply.value("retry-after") == "1"
    assert seen.audit_id == ""
    assert list(seen.received) == []


def audit_ids(received: Sequence[Received]) -> set[str]:
    """The audit ids that the application was given, one by each request."""
    found = [value for one in received for name, value in one.headers if name == "x-iap-audit-id"]
    assert len(found) == len(set(found)) == len(received)
    return set(found)


def allowed_on_disk(live: Live) -> set[str]:
    """The audit ids of all ALLOW records."""
    return {
        found
        for trail in trails_of(live)
        for found, record in trail.records().items()
        if record.decision.verdict == Verdict.ALLOW.value
    }


def outcomes_on_disk(live: Live) -> dict[str, record_pb2.Outcome]:
    """All outcomes by the audit id of the decision that each is about."""
    return {record.outcome.decision.hex(): record.outcome for record in bodies(records_of(live), "outcome")}


def replace_file(path: Path, content: str) -> None:
    """Whole or not at all, as an operator's tool does it."""
    new = path.with_suffix(".new")
    new.write_text(content)
    new.replace(path)


def test_f1_a_killed_sidecar_is_503_and_its_successor_serves(live: Live) -> None:
    assert live.ask(ENGINEER).reply.status == 200
    with load(live, ENGINEER) as got:
        wait_until(lambda: live.ask(ENGINEER).reply.status == 200 and got.answers > 20)
        signal_sidecar(live, signal.SIGKILL)
        assert live.sidecar is not None
        assert live.sidecar.wait_ended() == -signal.SIGKILL
    reached = audit_ids(live.upstream.take())
    check_not_answered(live.ask(ENGINEER))
    check_not_answered(live.ask(NOBODY))
    assert set(got.statuses) <= {200, 503}
    with live.run_sidecar():
        assert wait_for(live, ENGINEER, 200).received
        first, second = sorted(
            bodies(records_of(live), "writer_started"), key=lambda record: record.time.ToNanoseconds()
        )
        assert second.writer_started.predecessor == first.writer
        assert reached <= allowed_on_disk(live)
    assert bodies(records_of(live), "writer_stopped")[-1].writer == second.writer


def test_f7_a_frozen_sidecar_is_503_and_goes_on_where_it_was(live: Live) -> None:
    assert live.ask(ENGINEER).reply.status == 200
    signal_sidecar(live, signal.SIGSTOP)
    check_not_answered(live.ask(ENGINEER))
    check_not_answered(live.ask(NOBODY))
    signal_sidecar(live, signal.SIGCONT)
    assert wait_for(live, ENGINEER, 200).received
    assert wait_for(live, NOBODY, 401).audit_id
    assert counters(live)["failure_mode_allowed"] == 0


def test_r1_an_allow_that_was_too_late_is_followed_by_an_outcome(live: Live) -> None:
    reached: set[str] = set()
    with load(live, ENGINEER, threads=8) as got:
        for _ in range(FREEZES_MAX):
            wait_more(got, 8)
            signal_sidecar(live, signal.SIGSTOP)
            wait_more(got, 8)  # refused by Envoy, at its own deadline
            signal_sidecar(live, signal.SIGCONT)
            reached |= audit_ids(live.upstream.take())
            if is_outcome_written(live):
                break
    signal_sidecar(live, signal.SIGTERM)
    assert live.sidecar is not None
    assert live.sidecar.wait_ended() == 0
    reached |= audit_ids(live.upstream.take())
    outcomes, allowed = outcomes_on_disk(live), allowed_on_disk(live)
    assert outcomes
    assert reached <= allowed
    assert outcomes.keys() <= allowed - reached
    kinds = {(outcome.kind, Reason(outcome.reason)) for outcome in outcomes.values()}
    assert kinds <= {
        (record_pb2.Outcome.ANSWER_WITHHELD, Reason.DEADLINE_EXCEEDED),
        (record_pb2.Outcome.ANSWER_CANCELLED, Reason.CANCELLED),
    }


def is_outcome_written(live: Live) -> bool:
    """Looked at while the journal is being written to: what is not whole yet does not count, and is no damage."""
    records = [record for trail in load_trails(live.world.journal) for record in trail.records().values()]
    return bodies(records, "outcome") != []


def test_f14_sigterm_under_load_allows_nothing_without_a_record(live: Live) -> None:
    with load(live, ENGINEER, threads=8) as got:
        wait_until(lambda: live.ask(NOBODY).reply.status == 401 and got.answers > 50)
        live_before = got.answers
        signal_sidecar(live, signal.SIGTERM)
        assert live.sidecar is not None
        assert live.sidecar.wait_ended() == 0
    assert got.answers >= live_before
    assert set(got.statuses) <= {200, 503}
    assert audit_ids(live.upstream.take()) <= allowed_on_disk(live)
    records = records_of(live)
    assert len(allows(records)) >= got.statuses[200]
    assert records[-1].writer_stopped.cause == "sigterm"
    assert len({audit_id(record.SerializeToString()) for record in records}) == len(records)


def test_f8_a_full_journal_refuses_and_counts_and_comes_back(tmp_path: Path) -> None:
    """PROTOCOL rule R2. 9 MiB, of which 8 are the reserve; a dead writer's folder is the room that is made."""
    long = replace(ENGINEER, target="/api/orders?filter=" + "x" * 7_000)
    with start_edge(tmp_path, journal_bound="9MiB") as live:
        for _ in range(30):
            assert live.ask(long).reply.status == 200
        signal_sidecar(live, signal.SIGTERM)
        assert live.sidecar is not None
        assert live.sidecar.wait_ended() == 0
        (dead,) = [path for path in live.world.journal.iterdir() if path.is_dir()]
        with live.run_sidecar():
            full = wait_for(live, long, 503)
            assert full.reply.value("retry-after") == "1"
            assert (full.audit_id, list(full.received)) == ("", [])
            refused = [live.ask(NOBODY) for _ in range(10)]
            assert [seen.reply.status for seen in refused] == [401] * 10
            assert list(live.ask(long).received) == []
            for path in dead.iterdir():
                path.unlink()
            dead.rmdir()
            assert wait_for(live, long, 200).received
        counts: Counter[tuple[Verdict, Reason]] = Counter()
        for one in bodies(records_of(live), "refusals"):  # a flush may fall between two of the ten
            counts[Verdict(one.refusals.verdict), Reason(one.refusals.reason)] += one.refusals.count
    assert counts[Verdict.UNDECIDED, Reason.JOURNAL_FULL] >= 2
    recorded = [seen for seen in refused if seen.audit_id]
    assert counts[Verdict.CHALLENGE, Reason.IDENTITY_ABSENT] >= 10 - len(recorded) > 0


def test_a_bad_policy_is_not_taken_and_a_good_one_is_recorded_first(live: Live) -> None:
    policy = live.world.folder / "policy.yaml"
    good = policy.read_text()
    before = live.ask(ENGINEER)
    for bad in ("routes: [", good.replace("device.managed", "device.mangd"), ""):
        replace_file(policy, bad)
        check_kept(live)
    replace_file(policy, good.replace('"eng" in identity.groups', '"eng-2" in identity.groups'))
    signal_sidecar(live, signal.SIGHUP)
    after = wait_for(live, ENGINEER, 403)
    (trail,) = trails_of(live)
    records = trail.records()
    old, new = (record for record in records.values() if record.WhichOneof("body") == "policy_loaded")
    assert new.policy_loaded.previous_digest == old.policy_loaded.digest != new.policy_loaded.digest
    by_text = {str(found): record for found, record in records.items()}
    assert by_text[before.audit_id].decision.policy_digest == old.policy_loaded.digest
    assert by_text[after.audit_id].decision.policy_digest == new.policy_loaded.digest
    assert new.sequence < by_text[after.audit_id].sequence


def check_kept(live: Live) -> None:
    """The sidecar is told to look, says that it cannot use what it finds, and allows what it did before."""
    said = complaints(live)
    signal_sidecar(live, signal.SIGHUP)
    wait_until(lambda: live.ask(ENGINEER).reply.status == 200 and complaints(live) > said)
    assert live.ask(ENGINEER).reply.status == 200


def complaints(live: Live) -> int:
    """How often the sidecar has said that it cannot load something."""
    assert live.sidecar is not None
    return live.sidecar.output.read_text().count("cannot be loaded")


def test_f12_keys_that_vanish_serve_on_and_a_cold_start_without_them_refuses(live: Live) -> None:
    keys = live.world.folder / "jwks.json"
    content = keys.read_text()
    keys.unlink()
    check_kept(live)
    signal_sidecar(live, signal.SIGTERM)
    assert live.sidecar is not None
    assert live.sidecar.wait_ended() == 0
    with live.run_sidecar():
        cold = wait_for(live, NOBODY, 401)
        assert cold.audit_id
        seen = live.ask(ENGINEER)
        assert (seen.reply.status, list(seen.received)) == (503, [])
        by_text = {str(found): record for trail in trails_of(live) for found, record in trail.records().items()}
        assert by_text[seen.audit_id].decision.reason == Reason.NO_KEYS.value
        replace_file(keys, content)
        signal_sidecar(live, signal.SIGHUP)
        assert wait_for(live, ENGINEER, 200).received


def test_a_second_sidecar_on_the_same_journal_and_socket_is_refused(live: Live) -> None:
    config = live.world.folder / "sidecar.yaml"
    command = [sys.executable, "-m", "iap_authz", "serve", "sidecar", "--config", str(config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert "another process" in second.stderr
    assert live.ask(ENGINEER).reply.status == 200
