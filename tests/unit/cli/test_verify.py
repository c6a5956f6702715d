# SPDX-License-Identifier: Apache-2.0
"""`iap-authz verify`: 0 only if all that a file states is proven and pinned by what the caller named."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import Result

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.records.consistency_file import render_consistency_file
from iap_authz.records.evidence import render_evidence
from iap_authz.records.record import audit_id, parse_record
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.tlog.proof_file import ProofFile, render_proof_file
from tests.fakes.made_log import MadeLog, small_log
from tests.fakes.reference_tree import ReferenceTree

Run = Callable[..., Result]

LOG, FIRST, _ = small_log()
RECORD, OWN = 9, 13
KEY, OTHER_KEY = LOG.key.render(), MadeLog("another key").key.render()
ELSEWHERE_KEY = MadeLog(origin="elsewhere.example.com/log").key.render()
WRITER, AUDIT_ID = FIRST.writer.hex(), audit_id(LOG.leaves[RECORD])


def _journal_half() -> bytes:
    """As from a journal: the writer's half of the record, with record 0."""
    whole = LOG.evidence(RECORD)
    return render_evidence(
        log_pb2.Evidence(
            record=whole.record,
            writer_inclusion_proof=whole.writer_inclusion_proof,
            writer_checkpoint=whole.writer_checkpoint,
            started=FIRST.leaves[0],
            started_proof=ReferenceTree(FIRST.leaves).path(0, 5),
        )
    )


def _proof(index: int = RECORD) -> bytes:
    proof = tuple(LOG.tree().path(index, LOG.size))
    return render_proof_file(ProofFile(index=LeafIndex(index), proof=proof, checkpoint_note=LOG.note()))


FILES = {
    "both": render_evidence(LOG.evidence(RECORD)),
    "own": render_evidence(LOG.evidence(OWN)),
    "journal": _journal_half(),
    "proof": _proof(),
    "consistency": render_consistency_file(LOG.note(5), LOG.note(), proof=LOG.tree().proof(5, LOG.size)),
}

CASES = [
    ("both", ["--log-key", KEY], 0),
    ("both", ["--log-key", KEY, "--writer", WRITER], 0),
    ("both", ["--log-key", KEY, "--record", AUDIT_ID], 0),
    ("both", ["--writer", WRITER], 3),
    ("both", [], 3),
    ("both", ["--log-key", OTHER_KEY], 1),
    ("both", ["--log-key", ELSEWHERE_KEY], 1),
    ("both", ["--log-key", KEY, "--writer", "ab" * 32], 1),
    ("both", ["--log-key", KEY, "--record", "ab" * 32], 1),
    ("own", ["--log-key", KEY], 0),
    ("own", [], 3),
    ("own", ["--log-key", KEY, "--writer", WRITER], 1),
    ("journal", ["--writer", WRITER], 0),
    ("journal", [], 3),
    ("journal", ["--writer", WRITER, "--log-key", KEY], 3),
    ("journal", ["--writer", WRITER, "--log-key", ELSEWHERE_KEY], 1),
    ("proof", ["--log-key", KEY, "--record", AUDIT_ID], 0),
    ("proof", ["--log-key", KEY], 3),
    ("proof", ["--record", AUDIT_ID], 3),
    ("proof", [], 3),
    ("proof", ["--log-key", OTHER_KEY], 1),
    ("proof", ["--record", "ab" * 32], 1),
    ("proof", ["--log-key", KEY, "--record", "ab" * 32], 1),
    ("proof", ["--log-key", KEY, "--record", AUDIT_ID, "--writer", WRITER], 3),
    ("consistency", ["--log-key", KEY], 0),
    ("consistency", [], 3),
    ("consistency", ["--log-key", OTHER_KEY], 1),
    ("consistency", ["--log-key", KEY, "--writer", WRITER], 3),
]


@pytest.mark.parametrize(("name", "words", "code"), CASES)
def test_exit_codes_say_what_is_proven_and_pinned(
    run: Run, tmp_path: Path, name: str, words: Sequence[str], code: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(FILES[name])
    assert run("verify", file, *words, IAP_AUTHZ_LOG_KEY=None).exit_code == code
    done = run("verify", file, *words, "--json", IAP_AUTHZ_LOG_KEY=None)
    assert done.exit_code == code
    members = json.loads(done.stdout)
    assert members["holds"] is {0: True, 1: False, 3: None}[code]
    assert ("problem" in members) == (code == 1)
    assert bool(members.get("missing")) == (code == 3)


def test_logged_and_made_by_are_said_apart(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(FILES["both"])
    lines = run("verify", file, "--log-key", KEY).stdout.splitlines()
    assert f"made by   {WRITER}, as its record 2 of 5" in lines
    assert f"logged    leaf 9 of 23 of {LOG.origin}" in lines
    assert "who is    workload 'orders' (enrolled by 'tests'), registered by the log at leaf 0" in lines
    assert f"logged    cannot tell: leaf 9 of 23 of {LOG.origin}" in run("verify", file).stdout
    file.write_bytes(FILES["journal"])
    assert "logged    not shown" in run("verify", file).stdout.splitlines()
    file.write_bytes(FILES["own"])
    assert "made by   the log itself, as its leaf 13" in run("verify", file).stdout


def test_the_record_of_a_proof_file_may_be_a_file(run: Run, tmp_path: Path) -> None:
    file, leaf = tmp_path / "file", tmp_path / "leaf"
    file.write_bytes(FILES["proof"])
    leaf.write_bytes(LOG.leaves[RECORD])
    assert run("verify", file, "--log-key", KEY, "--record", leaf).exit_code == 0
    leaf.write_bytes(LOG.leaves[RECORD] + b"x")
    assert run("verify", file, "--log-key", KEY, "--record", leaf).exit_code == 1
    leaf.write_bytes(b"")
    assert run("verify", file, "--log-key", KEY, "--record", leaf).exit_code == 2


@pytest.mark.parametrize("words", [["--writer", "xy"], ["--log-key", "xy"], ["--record", "xy"], ["--record", "5"]])
def test_options_that_name_nothing_are_usage(run: Run, tmp_path: Path, words: Sequence[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(FILES["both"])
    assert run("verify", file, *words).exit_code == 2


@pytest.mark.parametrize("data", [b"", b"{}", b"c2sp.org/tlog-proof@v1\n", b'{"kind": "iap-authz/consistency/v1"}'])
def test_other_files_do_not_hold(run: Run, tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    assert run("verify", file).exit_code == 1


@pytest.mark.parametrize("name", ["proof", "consistency"])
def test_every_changed_byte_of_a_file_does_not_hold(run: Run, tmp_path: Path, name: str) -> None:
    """Every byte counts, but the file's kind: then it is another file, which does not hold either."""
    file, data = tmp_path / "file", FILES[name]
    more = ["--record", AUDIT_ID] if name == "proof" else []
    for offset in range(0, len(data), 7):
        file.write_bytes(data[:offset] + bytes([data[offset] ^ 0x01]) + data[offset + 1 :])
        assert run("verify", file, "--log-key", KEY, *more).exit_code == 1, offset


def test_a_consistency_file_between_two_logs_is_refused(run: Run, tmp_path: Path) -> None:
    other = MadeLog(origin="elsewhere.example.com/log")
    other.leaves = list(LOG.leaves)
    file = tmp_path / "file"
    file.write_bytes(render_consistency_file(LOG.note(5), other.note(), proof=LOG.tree().proof(5, LOG.size)))
    assert run("verify", file).exit_code == 1


def test_the_sample_is_what_it_is_said_to_be() -> None:
    assert (parse_record(LOG.leaves[RECORD]).writer.hex(), parse_record(LOG.leaves[RECORD]).sequence) == (WRITER, 2)
    assert parse_record(LOG.leaves[OWN]).WhichOneof("body") == "alert"
