# SPDX-License-Identifier: Apache-2.0
"""kill -9 of sidecar and log in turn, under requests through a real Envoy (CORPUS F1, promises 2 and 4).

However often they die: the application was reached by no more requests than there are durable ALLOW records, and every
answer that showed an audit id has its record in the log, exactly once.
"""

import random
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from iap_authz.demo.audit import load_trails
from iap_authz.demo.auditor import Auditor
from iap_authz.demo.cases import CASES
from iap_authz.demo.files import LOG_ORIGIN
from iap_authz.demo.live import Live, Seen, go_live_logged
from iap_authz.model.reason import Verdict
from iap_authz.records.log_fold import Fold
from iap_authz.records.record import audit_id, parse_record
from iap_authz.tlog.hashing import LeafHash, LeafIndex, leaf_hash, leaf_hashes
from tests.fakes.envoy import envoy_binary

KILLS = 6

pytestmark = pytest.mark.time_bound(180)


def kill_in_turn(live: Live, done: threading.Event) -> None:
    """Kill one of the two, start it again, and the other one next."""
    chance = random.Random(11)
    for number in range(KILLS):
        done.wait(chance.uniform(0.1, 0.7))
        victim = live.sidecar if number % 2 else live.log
        assert victim is not None
        victim.signal(signal.SIGKILL)
        victim.wait_ended()
        live.start(live.run_sidecar() if number % 2 else live.run_log(live.logs.honest))
    done.set()


def ask_until(live: Live, done: threading.Event) -> list[Seen]:
    seen = []
    while not done.is_set():
        seen.append(live.ask(CASES[0]))
    return [*seen, live.ask(CASES[0])]


def test_no_request_passes_unrecorded_and_no_record_is_lost(tmp_path: Path) -> None:
    with go_live_logged(tmp_path, envoy=envoy_binary()) as live:
        done = threading.Event()
        killing = threading.Thread(target=kill_in_turn, args=(live, done))
        killing.start()
        seen = ask_until(live, done)
        killing.join()
        assert {one.reply.status for one in seen} <= {200, 503}
        assert seen[-1].reply.status == 200
        with Auditor(live.logs.honest, tmp_path / "auditor.checkpoint") as auditor:
            for trail in load_trails(live.world.journal):
                auditor.wait_logged(LeafHash(trail.inspection.hashes[-1]))
            leaves = auditor.read_all()
    check_log(leaves, seen)


def check_log(entries: Sequence[bytes], seen: list[Seen]) -> None:
    counted = Counter(leaf_hash(entry).hex() for entry in entries)
    records = {audit_id(entry): parse_record(entry) for entry in entries}
    allowed = [
        record
        for record in records.values()
        if record.WhichOneof("body") == "decision" and record.decision.verdict == Verdict.ALLOW.value
    ]
    assert sum(len(one.received) for one in seen) <= len(allowed)
    for one in seen:
        if one.audit_id:
            assert counted[one.audit_id] == 1
    assert max(counted.values()) == 1
    fold = Fold(LOG_ORIGIN)
    fold.add_all(LeafIndex(0), entries, leaf_hashes(entries))
    fold.finish()
    assert fold.problems == []
    assert len(fold.writers) > KILLS // 2
