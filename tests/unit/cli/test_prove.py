# SPDX-License-Identifier: Apache-2.0
"""`iap-authz prove` against a log: what it writes was verified, `verify` takes it, and a log that lies is found out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message
from typer.testing import Result

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.cli.log_options import default_checkpoint
from iap_authz.errors import Fork, Invalid, LogUnavailable, NotFound, NotProven, Rollback, answered
from iap_authz.records.record import audit_id, parse_record
from iap_authz.tlog.checkpoint import sign_checkpoint
from iap_authz.tlog.hashing import leaf_hash
from iap_authz.tlog.proof_file import check_proof_file, parse_proof_file
from tests.fakes.journal import ORIGIN, FixedSigner, build_segments, sample_leaves, store_segments
from tests.fakes.made_log import MadeLog, small_log
from tests.fakes.made_remote import MadeRemote

Run = Callable[..., Result]

RECORD = 9
"""A record of a writer in the log of `small_log`."""


def test_evidence_from_a_log_has_both_halves(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    leaf, file = remote.log.leaves[RECORD], tmp_path / "record.json"
    record = parse_record(leaf)
    for which in (audit_id(leaf), RECORD, f"{record.writer.hex()}:{record.sequence}"):
        assert run("prove", "record", which, "-o", file).exit_code == 0
        report = run("verify", file, "--log-key", remote.log.key.render(), "--json")
        members = json.loads(report.stdout)
        assert (report.exit_code, members["holds"], members["audit_id"]) == (0, True, audit_id(leaf))
        assert members["logged"] == {"holds": True, "origin": ORIGIN, "size": remote.log.size, "index": RECORD}


def test_evidence_from_a_journal_is_the_writers_half(run: Run, tmp_path: Path) -> None:
    signer = FixedSigner()
    leaves = sample_leaves(signer, 3)
    store_segments(tmp_path, signer.writer, build_segments(signer, [[leaves]]))
    done = run("prove", "record", audit_id(leaves[1]), "--journal", tmp_path)
    assert done.exit_code == 0, done.output
    file = tmp_path / "record.json"
    file.write_text(done.stdout)
    report = run("verify", file, "--writer", signer.writer.hex(), "--json")
    assert (report.exit_code, json.loads(report.stdout)["logged"]) == (0, None)


@pytest.mark.parametrize("by_index", [False, True])
def test_inclusion_is_a_c2sp_proof_file(remote: MadeRemote, run: Run, tmp_path: Path, *, by_index: bool) -> None:
    leaf = remote.log.leaves[RECORD]
    which, file = RECORD if by_index else audit_id(leaf), tmp_path / "record.tlog-proof"
    assert run("prove", "inclusion", which, "-o", file).exit_code == 0
    content = file.read_bytes()
    assert check_proof_file(parse_proof_file(content), leaf_hash(leaf), verifier=remote.log.key).size == remote.log.size
    assert run("prove", "inclusion", which).stdout.encode() == content
    members = json.loads(run("prove", "inclusion", which, "--json").stdout)
    assert members == {
        "origin": ORIGIN,
        "index": RECORD,
        "audit_id": audit_id(leaf),
        "tree_size": remote.log.size,
        "tlog_proof": content.decode(),
    }
    assert run("verify", file, "--log-key", remote.log.key.render(), "--record", audit_id(leaf)).exit_code == 0


@pytest.mark.parametrize(("old", "new"), [(5, None), (5, 20), (5, 5), (23, None)])
def test_consistency_is_proven_between_sizes(
    remote: MadeRemote, run: Run, tmp_path: Path, old: int, new: int | None
) -> None:
    file = tmp_path / "consistency.json"
    done = run("prove", "consistency", old, *([] if new is None else [new]), "-o", file)
    assert done.exit_code == 0, done.output
    report = run("verify", file, "--log-key", remote.log.key.render(), "--json")
    members = json.loads(report.stdout)
    assert (report.exit_code, members["old_size"], members["new_size"]) == (0, old, new or remote.log.size)


def test_consistency_takes_files_with_checkpoints(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(remote.log.note(4))
    new.write_bytes(remote.log.note(12))
    remote.signed = {remote.log.size}
    assert json.loads(run("prove", "consistency", old, new).stdout)["old"] == remote.log.note(4).decode()
    assert "want it at most NEW's 4" in run("prove", "consistency", new, old).stderr
    assert isinstance(run("prove", "consistency", 4).exception, NotFound)
    assert run("prove", "consistency", tmp_path / "absent").exit_code == 2
    assert run("prove", "consistency", 0).exit_code == 2


def test_a_checkpoint_that_is_off_the_tree_is_a_fork_whose_notes_are_kept(
    remote: MadeRemote, run: Run, tmp_path: Path
) -> None:
    other, path = MadeLog(), tmp_path / "other"
    other.leaves = [b"x"] * remote.log.size
    path.write_bytes(other.note())
    done = run("prove", "consistency", path)
    assert isinstance(done.exception, Fork)
    state = default_checkpoint(ORIGIN).parent.name
    kept = sorted((tmp_path / "state" / state).glob("*.fork-*"))
    assert {one.read_bytes() for one in kept} == {other.note(), remote.log.note()}
    assert all(str(one) in done.stderr for one in kept)


def test_what_was_proven_once_is_remembered(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    """G2: the next command finds a log that shrank."""
    assert run("prove", "inclusion", RECORD).exit_code == 0
    (kept,) = (tmp_path / "state" / "iap-authz").glob("*.checkpoint")
    assert kept.read_bytes() == remote.log.note()
    remote.log.leaves.pop()
    assert isinstance(run("prove", "inclusion", RECORD).exception, Rollback)
    elsewhere = tmp_path / "elsewhere"
    assert run("prove", "inclusion", RECORD, "--checkpoint", elsewhere).exit_code == 0
    assert elsewhere.exists()


def test_the_kept_checkpoint_of_another_key_is_not_taken_over(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(MadeLog("another key").note(0))
    done = run("prove", "inclusion", RECORD, "--checkpoint", kept)
    assert isinstance(done.exception, Invalid)
    folder = run("prove", "inclusion", RECORD, "--checkpoint", "/proc/none/here")
    assert isinstance(folder.exception, Invalid)
    assert "see --checkpoint" in str(folder.exception)
    assert remote.log.size


def _another_record(answer: Message) -> None:
    if isinstance(answer, log_pb2.GetRecordResponse):
        log, _, _ = small_log()
        answer.evidence.CopyFrom(log.evidence(RECORD + 1))
        answer.entry.record = log.leaves[RECORD + 1]


def _a_false_hash(answer: Message) -> None:
    if isinstance(answer, log_pb2.GetInclusionProofResponse):
        answer.proof[0] = bytes(32)


def _another_key(answer: Message) -> None:
    if isinstance(answer, log_pb2.GetCheckpointResponse):
        log, _, _ = small_log()
        answer.checkpoint = sign_checkpoint(log.checkpoint(), MadeLog("another key").signer)


LIES = {
    "another-record": (_another_record, ["record", RECORD]),
    "another-record-by-index": (_another_record, ["inclusion", RECORD]),
    "a-false-hash": (_a_false_hash, ["inclusion", RECORD]),
    "another-key": (_another_key, ["inclusion", RECORD]),
    "another-key-for-evidence": (_another_key, ["consistency", 5]),
}


@pytest.mark.parametrize(("lie", "words"), LIES.values(), ids=LIES.keys())
def test_what_a_log_that_lies_says_is_not_written(
    remote: MadeRemote, run: Run, tmp_path: Path, lie: Callable[[Message], None], words: list[object]
) -> None:
    remote.change, file = lie, tmp_path / "proof"
    done = run("prove", *words, "-o", file)
    assert isinstance(done.exception, NotProven)
    assert answered(done.exception).exit_code == 1
    assert not file.exists()


def test_a_log_that_is_down_is_cannot_tell_and_says_what_to_look_at(remote: MadeRemote, run: Run) -> None:
    remote.down = True
    error = run("prove", "inclusion", RECORD).exception
    assert isinstance(error, LogUnavailable)
    assert "does it listen at unix:/run/log.sock?" in str(error)
    assert answered(error).exit_code == 3


def test_without_a_log_or_its_key_the_command_says_what_it_wants(run: Run) -> None:
    for missing in ("IAP_AUTHZ_LOG", "IAP_AUTHZ_LOG_KEY"):
        done = run("prove", "inclusion", RECORD, **{missing: None})
        assert done.exit_code == 2
        assert missing in done.stderr
    for words in (["--key", "nonsense"], ["--key", "@/nowhere/key"]):
        assert run("prove", "inclusion", RECORD, *words).exit_code == 2
    assert run("prove", "inclusion", "nonsense").exit_code == 2
    assert run("prove", "inclusion", f"{'ab' * 32}:5").exit_code == 2


def test_the_key_may_stand_in_a_file(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{remote.log.key.render()}\n")
    assert run("prove", "inclusion", RECORD, "--key", f"@{file}", IAP_AUTHZ_LOG_KEY=None).exit_code == 0


def test_a_larger_checkpoint_that_another_command_kept_stays(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    def keep_a_larger_one(answer: Message) -> None:
        if isinstance(answer, log_pb2.GetCheckpointResponse):
            kept.write_bytes(remote.log.note())
            answer.checkpoint = remote.log.note(12)

    remote.change = keep_a_larger_one
    assert run("prove", "inclusion", RECORD, "--checkpoint", kept).exit_code == 0
    assert kept.read_bytes() == remote.log.note()
