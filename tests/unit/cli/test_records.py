# SPDX-License-Identifier: Apache-2.0
"""`iap-authz records` against a log and a journal: what is shown was proven, and what is not proven is said."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from typer.testing import Result

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.cli.search_options import search_request
from iap_authz.errors import BadProof, Malformed, NotFound, NotProven
from iap_authz.model.reason import Reason, Verdict
from iap_authz.records.completeness import NOT_PROVABLE
from iap_authz.records.evidence import render_evidence
from iap_authz.records.findings import NoSuchRecord
from iap_authz.records.record import audit_id, parse_record
from tests.fakes.journal import ORIGIN, FixedSigner, build_segments, sample_leaves, store_segments
from tests.fakes.made_log import MadeWriter
from tests.fakes.made_remote import MadeRemote

Run = Callable[..., Result]

RECORD, ALERT = 9, 13
FIRST, SECOND = MadeWriter("first").writer.hex(), MadeWriter("second").writer.hex()
FALSE = MadeWriter("mallory").add()


def lines_of(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list_shows_every_leaf_of_the_log(remote: MadeRemote, run: Run) -> None:
    listed = run("records", "list", "--json")
    assert [one["index"] for one in lines_of(listed)] == list(range(remote.log.size))
    assert [one["audit_id"] for one in lines_of(listed)] == [audit_id(leaf) for leaf in remote.log.leaves]
    assert f"proven: all {remote.log.size} leaves of {ORIGIN} were read" in listed.stderr
    alerts = lines_of(run("records", "list", "--json", "--body", "alert"))
    assert [one["index"] for one in alerts] == [ALERT]
    table = run("records", "list").stdout
    assert all(audit_id(leaf) in table for leaf in remote.log.leaves)


def test_list_and_show_still_read_a_journal(run: Run, tmp_path: Path) -> None:
    signer = FixedSigner()
    leaves = sample_leaves(signer, 4)
    store_segments(tmp_path, signer.writer, build_segments(signer, [[leaves]]))
    listed = lines_of(run("records", "list", "--journal", tmp_path, "--json"))
    assert [one["audit_id"] for one in listed] == [audit_id(leaf) for leaf in leaves]
    assert "index" not in listed[0]
    assert audit_id(leaves[2]) in run("records", "list", "--journal", tmp_path).stdout
    for which in (audit_id(leaves[2]), f"{signer.writer.hex()}:2"):
        (shown,) = lines_of(run("records", "show", which, "--journal", tmp_path, "--json"))
        assert shown["audit_id"] == audit_id(leaves[2])
        assert "proven" not in shown
    assert isinstance(run("records", "show", "ab" * 32, "--journal", tmp_path).exception, NoSuchRecord)


def test_a_damaged_journal_is_exit_1(run: Run, tmp_path: Path) -> None:
    signer = FixedSigner()
    segments = build_segments(signer, [[sample_leaves(signer, 4)]])
    name, data = segments[0]
    folder = store_segments(tmp_path, signer.writer, segments)
    middle = len(data) // 2
    (folder / name).write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    done = run("records", "list", "--journal", tmp_path)
    assert (done.exit_code, "iap-authz fsck" in done.stderr) == (1, True)


def test_show_says_what_proves_a_record_of_the_log(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    leaf, file = remote.log.leaves[RECORD], tmp_path / "leaf"
    for which in (audit_id(leaf), RECORD, f"{FIRST}:2"):
        (shown,) = lines_of(run("records", "show", which, "--json", "--leaf", file))
        assert (shown["audit_id"], shown["index"], file.read_bytes()) == (audit_id(leaf), RECORD, leaf)
        assert shown["proven"] == {
            "made_by": FIRST,
            "by_log": False,
            "workload": "orders",
            "enrolled_by": "tests",
            "log_origin": ORIGIN,
            "tree_size": remote.log.size,
        }
    whole = run("records", "show", ALERT)
    assert json.loads(whole.stdout)["proven"]["by_log"]
    assert isinstance(run("records", "show", "ab" * 32).exception, NotFound)
    assert isinstance(run("records", "show", remote.log.size).exception, NotFound)


def test_search_shows_records_that_are_proven_and_says_what_is_not(remote: MadeRemote, run: Run) -> None:
    found = json.loads(run("records", "search", "--writer", FIRST, "--json").stdout)
    want = [index for index, leaf in enumerate(remote.log.leaves) if parse_record(leaf).writer.hex() == FIRST]
    assert [one["index"] for one in found["records"]] == want
    assert (found["tree_size"], found["indexed_size"], found["more"]) == (remote.log.size, remote.log.size, False)
    assert found["completeness"] == "that nothing is missing from this answer is not proven"
    text = run("records", "search", "--writer", FIRST, "--newest", "--limit", 3)
    assert f"each of the 3 records is in the log's tree of {remote.log.size} leaves; there are more" in text.stderr
    assert "that nothing is missing from this answer is not proven" in text.stderr
    assert [audit_id(remote.log.leaves[index]) in text.stdout for index in want] == [False] * 8 + [True] * 3


@pytest.mark.parametrize(("page", "limit"), [(1, 5), (2, 5), (3, 100), (1_000, 4), (5, 5)])
def test_a_search_goes_through_the_pages(remote: MadeRemote, run: Run, page: int, limit: int) -> None:
    remote.page_max = page
    found = json.loads(run("records", "search", "--writer", FIRST, "--limit", limit, "--json").stdout)
    assert (len(found["records"]), found["more"]) == (min(limit, 11), limit < 11)


def _the_same_page_again(answer: Message) -> None:
    if isinstance(answer, log_pb2.SearchRecordsResponse):
        answer.next_page_token = "2"


def _an_empty_page(answer: Message) -> None:
    if isinstance(answer, log_pb2.SearchRecordsResponse):
        answer.next_page_token = "9"
        del answer.records[:]


@pytest.mark.parametrize("lie", [_the_same_page_again, _an_empty_page])
def test_a_search_does_not_go_round_in_circles(remote: MadeRemote, run: Run, lie: Callable[[Message], None]) -> None:
    remote.change, remote.page_max = lie, 2
    assert isinstance(run("records", "search", "--limit", 1_000_000).exception, Malformed)


def _another_leaf(answer: Message) -> None:
    """A record that is not in the log, in each kind of answer."""
    if isinstance(answer, log_pb2.SearchRecordsResponse):
        answer.records[0].entry.record = FALSE
    elif isinstance(answer, log_pb2.Entry) and answer.index == RECORD:
        answer.record = FALSE
    elif isinstance(answer, log_pb2.GetRecordResponse):
        answer.evidence.record = FALSE


@pytest.mark.parametrize(
    "words",
    [["list"], ["search"], ["show", RECORD], ["tail", "--after", 0], ["completeness", "--writer", FIRST]],
    ids=lambda words: str(words[0]),
)
def test_a_record_that_is_not_in_the_log_is_never_shown(remote: MadeRemote, run: Run, words: Sequence[object]) -> None:
    remote.change = _another_leaf
    done = run("records", *words)
    assert isinstance(done.exception, NotProven)
    assert audit_id(FALSE) not in done.stdout


def _one_leaf_less(answer: Message) -> None:
    if isinstance(answer, log_pb2.Entry) and answer.index == RECORD:
        answer.index += 1


def test_a_leaf_that_is_left_out_is_found_out(remote: MadeRemote, run: Run) -> None:
    remote.change = _one_leaf_less
    for words in (["list"], ["completeness", "--writer", FIRST]):
        assert isinstance(run("records", *words).exception, BadProof)


def test_tail_follows_from_the_newest_or_after_an_index(remote: MadeRemote, run: Run) -> None:
    new = run("records", "tail", "--json")
    assert lines_of(new) == []
    assert "that nothing is missing from this answer is not proven" in new.stderr
    after = lines_of(run("records", "tail", "--after", RECORD, "--writer", SECOND, "--json"))
    assert [one["index"] for one in after] == [21]
    assert audit_id(remote.log.leaves[21]) in run("records", "tail", "--after", 20).stdout


def test_completeness_in_the_words_of_the_rule(remote: MadeRemote, run: Run) -> None:
    text = run("records", "completeness", "--writer", FIRST)
    assert text.exit_code == 0
    assert f"records [0, 11) occur exactly once, in order, in the {remote.log.size} leaves of the log" in text.stdout
    assert "11 is the largest checkpoint of this writer in them" in text.stdout
    assert "tail unknown" in text.stdout
    assert "; ".join(NOT_PROVABLE) in text.stdout
    (report,) = lines_of(run("records", "completeness", "--writer", FIRST, "--json"))
    assert (report["holds"], report["records"], report["tail"]) == (True, 11, "tail unknown")
    assert report["not_provable"] == list(NOT_PROVABLE)


def test_what_a_record_says_does_not_steer_the_terminal(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    """Neither as a control sequence nor as markup of the table's."""
    body = record_pb2.Decision(verdict=record_pb2.DENY, rule="\x1b[31m[/b]")
    index = remote.log.append(MadeWriter("first"), 2, body=body).first_index + 1
    remote.signed.add(remote.log.size)
    file = tmp_path / "file"
    file.write_bytes(render_evidence(remote.log.evidence(index)))
    for words in (["list", "--body", "decision"], ["tail", "--after", index - 1]):
        assert "\\x1b[31m[/b]" in run("records", *words).stdout
    assert "\\x1b[31m[/b]" in run("verify", file).stdout


def test_what_is_missing_is_exit_1_and_named(remote: MadeRemote, run: Run) -> None:
    remote.log.leaves.pop()  # the WriterCheckpoint of the last batch
    text = run("records", "completeness", "--writer", SECOND)
    assert (text.exit_code, "not proven    that records [0, 3)" in text.stdout) == (1, True)
    assert "leaf 21       got records [3, 4) without a WriterCheckpoint after them" in text.stdout
    unknown = run("records", "completeness", "--writer", "ab" * 32, "--json")
    assert (unknown.exit_code, json.loads(unknown.stdout)["holds"]) == (1, False)


def request_of(**given: Any) -> log_pb2.SearchRecordsRequest:
    names = ("verdicts", "reasons", "rule", "route", "country", "writer", "policy", "bodies")
    return search_request(**{**dict.fromkeys(names), **given})


def test_filters_become_fields_of_the_request() -> None:
    request = request_of(
        verdicts=["deny", "challenge"],
        reasons=["expired"],
        rule="admins",
        route="orders",
        country="de",
        begin="2026-01-31T12:00:00+02:00",
        end="2026-02-01",
        writer=FIRST,
        policy="ab" * 32,
        bodies=["decision"],
    )
    assert list(request.verdicts) == [Verdict.DENY, Verdict.CHALLENGE]
    assert list(request.reasons) == [Reason.EXPIRED]
    assert (request.rule, request.route, request.country) == ("admins", "orders", "DE")
    assert getattr(request, "from").ToJsonString() == "2026-01-31T10:00:00Z"
    assert request.to.ToJsonString() == "2026-02-01T00:00:00Z"
    assert (request.writer.hex(), request.policy_digest.hex(), list(request.bodies)) == (
        FIRST,
        "ab" * 32,
        ["decision"],
    )
    assert request_of() == log_pb2.SearchRecordsRequest()


@pytest.mark.parametrize(
    "words",
    [
        ["--verdict", "perhaps"],
        ["--reason", "because"],
        ["--from", "yesterday"],
        ["--to", "31.1.2026"],
        ["--writer", "xy"],
        ["--policy", "xy"],
        ["--policy", "ab" * 31 + "  "],
        ["--body", "soul"],
        ["--limit", "0"],
    ],
)
def test_words_that_no_record_can_have_are_usage(run: Run, words: Sequence[str]) -> None:
    assert run("records", "search", *words).exit_code == 2
