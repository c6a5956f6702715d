# SPDX-License-Identifier: Apache-2.0
"""`records search|show --unseal --reason`: sealed, opened, erased or tampered with, in a table and in JSON."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from typer.testing import Result

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.cli.log_options import LogOptions
from iap_authz.cli.record_lines import cells, members, shown_leaf
from iap_authz.errors import BadProof, Refused
from iap_authz.records.log_leaves import parse_log_leaf
from iap_authz.records.record import audit_id, parse_record
from iap_authz.records.seal import derive_opening, new_seal, seal_context
from iap_authz.records.unsealed import Outcome, UnsealedRecord
from iap_authz.tlog.hashing import LeafIndex
from tests.fakes.journal import ORIGIN, FixedSigner, build_segments, sample_leaves, store_segments
from tests.fakes.made_log import MadeWriter
from tests.fakes.made_remote import MadeRemote
from tests.fakes.sealed import facts_of, sealed_decision, subject_key

Run = Callable[..., Result]
Unsealed = log_pb2.Unsealed

WRITER = MadeWriter("sealing").writer
WHY = ("--unseal", "--reason", "fraud case 7")


class Sealed:
    """A log whose last four leaves are decisions about alice: three are sealed, the last one is open."""

    def __init__(self, remote: MadeRemote) -> None:
        self.remote, self.first = remote, remote.log.size
        key = subject_key(WRITER)
        for number in range(4):
            seal = None if number == 3 else new_seal(ORIGIN, key)
            leaf = sealed_decision(number, seal=seal, writer=WRITER, facts=full_facts())
            if seal is not None:
                opening = derive_opening(key.secret, seal_context(ORIGIN, parse_record(leaf)))
                remote.said[self.first + number] = Unsealed(outcome=Unsealed.OPENED, opening=opening)
            remote.log.leaves.append(leaf)
        remote.signed.add(remote.log.size)

    def say(self, number: int, outcome: log_pb2.Unsealed.Outcome) -> None:
        self.remote.said[self.first + number] = Unsealed(outcome=outcome)


def full_facts() -> facts_pb2.Facts:
    facts = facts_of()
    facts.device.id = "laptop-7"
    facts.location.address = "192.0.2.7"
    facts.request.method, facts.request.host, facts.request.path = "GET", "orders.example.com", "/api/\x1b[31m[/b]"
    return facts


@pytest.fixture
def sealed(remote: MadeRemote) -> Sealed:
    return Sealed(remote)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    return token_file(tmp_path, b"investigator\n")


def token_file(folder: Path, content: bytes, *, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def searched(run: Run, *words: object) -> Result:
    result = run("records", "search", "--writer", WRITER.hex(), *words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def records_of(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)["records"]
    return found


def row_of(result: Result, index: int) -> str:
    (row,) = [line for line in result.stdout.splitlines() if re.match(rf"│ {index} ", line)]
    return row


def test_what_is_sealed_is_shown_as_that_and_never_as_its_bytes(sealed: Sealed, run: Run) -> None:
    result = searched(run, "--json")
    assert result.exit_code == 0
    found = records_of(result)
    ciphertext = parse_record(sealed.remote.log.leaves[sealed.first]).sealed.ciphertext
    for one in found[:3]:
        assert (one["sealed"], one["sealed_bytes"]) == (True, len(ciphertext))
        assert not {"unsealed", "personal", "open"} & set(one)
    assert found[3]["open"]["decision"]["facts"]["identity"]["subject"] == "alice@example.com"
    table = searched(run)
    assert [" sealed " in row_of(table, sealed.first + number) for number in range(4)] == [True, True, True, False]
    assert " open " in row_of(table, sealed.first + 3)
    assert sealed.remote.asked == []
    assert "alice" not in table.stdout


def test_a_search_opens_what_it_found(sealed: Sealed, run: Run, token: Path) -> None:
    result = searched(run, *WHY, "--token-file", token, "--json")
    assert result.exit_code == 0
    found = records_of(result)
    assert [one["unsealed"] for one in found] == ["opened"] * 3 + ["not sealed"]
    for one in found[:3]:
        assert one["personal"]["decision"]["facts"]["identity"]["subject"] == "alice@example.com"
    assert "personal" not in found[3]
    (request,) = sealed.remote.asked
    assert request == log_pb2.UnsealRequest(indices=range(sealed.first, sealed.first + 4), purpose="fraud case 7")
    log_read = found[0]["log_read"]
    leaf = sealed.remote.log.leaves[log_read]
    assert parse_log_leaf(leaf, origin=ORIGIN, index=log_read, body="log_read").log_read.records == 4
    assert f"this reading is recorded in the log: leaf {log_read}\n" in result.stderr


def test_the_table_says_who_asked_for_what(sealed: Sealed, run: Run, token: Path) -> None:
    table = searched(run, *WHY, "--token-file", token)
    want = "alice@example.com; laptop-7; 192.0.2.7; GET orders.example.com/api/\\x1b[31m[/b]"
    assert [want in row_of(table, sealed.first + number) for number in range(4)] == [True, True, True, False]
    assert "\x1b" not in table.stdout


@pytest.mark.parametrize(
    ("outcomes", "code", "said"),
    [
        ([], 0, []),
        ([Unsealed.ERASED], 3, ["erased"]),
        ([Unsealed.TAMPERED], 1, ["tampered"]),
        ([Unsealed.ERASED, Unsealed.TAMPERED], 1, ["erased", "tampered"]),
        ([Unsealed.TAMPERED, Unsealed.ERASED], 1, ["tampered", "erased"]),
    ],
)
def test_what_cannot_be_told_is_said_and_is_the_exit_code(
    sealed: Sealed, run: Run, token: Path, outcomes: Sequence[Any], code: int, said: list[str]
) -> None:
    for number, outcome in enumerate(outcomes):
        sealed.say(number, outcome)
    as_json = searched(run, *WHY, "--token-file", token, "--json")
    assert as_json.exit_code == code
    found = records_of(as_json)
    assert [one["unsealed"] for one in found[: len(said)]] == said
    assert [one["unsealed"] for one in found[len(said) : 3]] == ["opened"] * (3 - len(said))
    table = searched(run, *WHY, "--token-file", token)
    assert table.exit_code == code
    for number, word in enumerate(said):
        index = sealed.first + number
        assert f" {word} " in row_of(table, index)
        assert f"leaf {index} was {word}" in table.stderr
        assert "personal" not in found[number]
    assert table.stderr.count("says the log") == len(said)


def test_show_of_a_record_that_has_no_personal_part(sealed: Sealed, run: Run, token: Path) -> None:
    alert = sealed.remote.log.add_own(record_pb2.Alert(rule="silence"))
    sealed.remote.signed.add(sealed.remote.log.size)
    result = run("records", "show", alert, *WHY, "--token-file", token, "--json")
    assert result.exit_code == 0, result.output
    one = json.loads(result.stdout)
    assert (one["index"], one["unsealed"], one["proven"]["by_log"]) == (alert, "not sealed", True)


@pytest.mark.parametrize(("outcome", "code"), [(Unsealed.OPENED, 0), (Unsealed.ERASED, 3), (Unsealed.TAMPERED, 1)])
def test_show_of_a_sealed_record_of_a_writer(
    remote: MadeRemote, run: Run, token: Path, outcome: log_pb2.Unsealed.Outcome, code: int
) -> None:
    index, opening = batch_with_a_sealed_record(remote)
    if outcome != Unsealed.OPENED:
        opening = b""
    remote.said[index] = Unsealed(outcome=outcome, opening=opening)
    shown = json.loads(run("records", "show", index, "--json").stdout)
    assert (shown["sealed"], "unsealed" in shown) == (True, False)
    result = run("records", "show", index, *WHY, "--token-file", token, "--json")
    assert result.exit_code == code, result.output
    one = json.loads(result.stdout)
    assert one["unsealed"] == Unsealed.Outcome.Name(outcome).lower()
    assert one["audit_id"] == audit_id(remote.log.leaves[index])
    assert ("personal" in one) == (outcome == Unsealed.OPENED)
    assert "proven" in one


class SealsItsSecond(MadeWriter):
    """Its record 1 is a sealed decision."""

    def add(self, body: Message | None = None) -> bytes:
        if len(self.leaves) != 1:
            return super().add(body)
        self.key = subject_key(self.writer)
        self.leaves.append(sealed_decision(1, seal=new_seal(ORIGIN, self.key), writer=self.writer))
        return self.leaves[1]


def batch_with_a_sealed_record(remote: MadeRemote) -> tuple[int, bytes]:
    """Its place, and its opening."""
    writer = SealsItsSecond("third")
    remote.log.register(writer)
    index = remote.log.append(writer, 2).first_index + 1
    remote.signed |= set(range(remote.log.size + 1))
    return index, derive_opening(writer.key.secret, seal_context(ORIGIN, parse_record(writer.leaves[1])))


def test_an_opening_that_is_not_the_records_own_shows_nothing(sealed: Sealed, run: Run, token: Path) -> None:
    openings = [sealed.remote.said[sealed.first + number].opening for number in range(2)]
    sealed.remote.said[sealed.first] = Unsealed(outcome=Unsealed.OPENED, opening=openings[1])
    result = run("records", "search", "--writer", WRITER.hex(), *WHY, "--token-file", token)
    assert isinstance(result.exception, BadProof)
    assert result.stdout == ""


def test_another_role_is_refused(sealed: Sealed, run: Run, tmp_path: Path) -> None:
    result = run("records", "search", *WHY, "--token-file", token_file(tmp_path, b"admin"))
    assert isinstance(result.exception, Refused)
    assert result.stdout == ""
    assert sealed.remote.token == "admin"


def usages(token: Path, folder: Path) -> Iterator[tuple[list[object], str]]:
    yield ["search", "--unseal", "--token-file", token], "--reason"
    yield ["search", "--unseal", "--reason", " \t", "--token-file", token], "--reason"
    yield ["search", "--reason", "why", "--token-file", token], "--reason"
    yield ["search", *WHY], "--token-file"
    yield ["show", "0", "--unseal", "--token-file", token], "--reason"
    yield ["show", "0", "--reason", "why"], "--reason"
    yield ["show", "0", *WHY], "--token-file"
    yield ["show", "ab" * 32, *WHY, "--token-file", token, "--journal", folder], "--unseal"
    yield ["search", "--reason", "expired"], "--reason"


def test_reason_token_and_unseal_belong_together(remote: MadeRemote, run: Run, token: Path, tmp_path: Path) -> None:
    signer = FixedSigner()
    store_segments(tmp_path / "journal", signer.writer, build_segments(signer, [[sample_leaves(signer, 2)]]))
    for words, option in usages(token, tmp_path / "journal"):
        result = run("records", *words)
        assert (result.exit_code, option in result.stderr) == (2, True), words
    assert remote.asked == []


def test_the_token_file_may_stand_in_the_environment_and_is_read_only_to_unseal(
    sealed: Sealed, run: Run, token: Path
) -> None:
    found = run("records", "search", *WHY, "--json", IAP_AUTHZ_TOKEN_FILE=str(token))
    assert found.exit_code == 0, found.output
    assert sealed.remote.token == "investigator"
    plain = run("records", "search", "--json", IAP_AUTHZ_TOKEN_FILE=str(token))
    assert (plain.exit_code, sealed.remote.token) == (0, "")


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"investigator", 0o640, "got mode 0o640, want 0o600"),
        (b"investigator", 0o604, "got mode 0o604, want 0o600"),
        (b"", 0o600, "got 0 bytes that are no access token"),
        (b"\n", 0o600, "got 1 bytes that are no access token"),
        (b"SECRET one", 0o600, "got 10 bytes that are no access token"),
        (b"SECRET\none", 0o600, "that are no access token"),
        (b"SECRET\xff", 0o600, "that are no access token"),
        (b"SECRET\x00", 0o600, "that are no access token"),
        (b"S" * 5000, 0o600, "that are no access token"),
    ],
)
def test_a_token_file_that_is_none_is_usage_and_never_quoted(
    remote: MadeRemote, run: Run, tmp_path: Path, content: bytes, mode: int, said: str
) -> None:
    file = token_file(tmp_path, content, mode=mode)
    result = run("records", "search", *WHY, "--token-file", file)
    message = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stderr).split())
    assert (result.exit_code, said in message) == (2, True), message
    assert "SECRET" not in result.output
    assert remote.asked == []


def test_a_token_file_that_is_not_there_is_usage(run: Run, tmp_path: Path) -> None:
    result = run("records", "search", *WHY, "--token-file", tmp_path / "none")
    assert (result.exit_code, "No such file" in result.stderr) == (2, True)


def test_a_mounted_secret_is_a_link_and_a_token_too(sealed: Sealed, run: Run, token: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(token)
    assert searched(run, *WHY, "--token-file", link).exit_code == 0
    assert sealed.remote.token == "investigator"


def test_options_do_not_show_the_token(remote: MadeRemote, tmp_path: Path) -> None:
    options = LogOptions(address="a", verifier=remote.log.key, checkpoint=tmp_path, token="SECRET")
    assert "SECRET" not in repr(options)


def test_a_table_for_a_pipe_is_neither_cut_nor_wrapped(sealed: Sealed, run: Run) -> None:
    narrow = run("records", "search", COLUMNS="40")
    assert all(audit_id(leaf) in narrow.stdout for leaf in sealed.remote.log.leaves)


def test_an_opened_part_of_another_body_is_shown_by_its_fields() -> None:
    """What is said of a reading, or of an alert, has no request in it."""
    part = record_pb2.PersonalPart(log_read=record_pb2.LogReadPersonal(reader="ivy\x1b", purpose="case 7"))
    leaf = sealed_decision(0, seal=new_seal(ORIGIN, subject_key(WRITER)), writer=WRITER)
    opened = UnsealedRecord(index=LeafIndex(3), leaf=leaf, outcome=Outcome.OPENED, personal=part, log_read=LeafIndex(9))
    one = replace(shown_leaf(leaf, 3), opened=opened)
    want = {"log_read": {"reader": "ivy\x1b", "purpose": "case 7"}}
    assert members(one)["personal"] == want
    (cell,) = [cell for cell in cells(one) if "case 7" in cell]
    assert json.loads(cell.replace("\\\\", "\\")) == want
    assert "\x1b" not in cell
