# SPDX-License-Identifier: Apache-2.0
"""`iap-authz writers`: who writes, and the end of one, which the log must show."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message
from typer.testing import Result

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import BadProof, Refused
from iap_authz.records.record import parse_record
from tests.fakes.made_log import MadeWriter
from tests.fakes.made_remote import MadeRemote

Run = Callable[..., Result]

FIRST, SECOND = MadeWriter("first").writer.hex(), MadeWriter("second").writer.hex()


@pytest.fixture
def admin(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("admin\n")
    file.chmod(0o600)
    return file


def test_writers_are_listed_page_by_page(remote: MadeRemote, run: Run) -> None:
    listed = run("writers", "list", "--json")
    assert listed.exit_code == 0, listed.output
    found = json.loads(listed.stdout)
    assert [one["writer"] for one in found] == sorted([FIRST, SECOND])
    assert {(one["workload"], one["retired_index"]) for one in found} == {("orders", None)}
    assert {one["writer"]: one["records"] for one in found} == {FIRST: 11, SECOND: 4}
    text = run("writers", "list").stdout
    assert f"{FIRST}  11 records  orders\n" in text
    assert remote.token == ""


def _hostile(answer: Message) -> None:
    if isinstance(answer, log_pb2.ListWritersResponse):
        answer.writers[0].workload, answer.writers[0].retired_index = "\x1b[31mx", 7


def test_a_workload_does_not_steer_the_terminal(remote: MadeRemote, run: Run) -> None:
    remote.change = _hostile
    text = run("writers", "list").stdout
    assert "\\x1b[31mx  retired at leaf 7\n" in text
    assert "\x1b" not in text
    assert {one["retired_index"] for one in json.loads(run("writers", "list", "--json").stdout)} == {7}


def test_a_writer_is_retired_and_the_log_shows_it(remote: MadeRemote, run: Run, admin: Path) -> None:
    words = ("writers", "retire", FIRST, "--cause", "the pod is gone", "--token-file", admin)
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    index = remote.log.size - 1
    assert json.loads(done.stdout) == {"writer": FIRST, "index": index, "cause": "the pod is gone"}
    assert parse_record(remote.log.leaves[index]).writer_retired.writer.hex() == FIRST
    assert remote.asked == [log_pb2.RetireWriterRequest(writer=bytes.fromhex(FIRST), cause="the pod is gone")]
    text = run(*words)
    assert text.stdout == f"writer {FIRST} is retired: leaf {index + 1}, the pod is gone\n"


def test_a_retirement_that_the_log_does_not_show_is_none(remote: MadeRemote, run: Run, admin: Path) -> None:
    run("writers", "retire", SECOND, "--cause", "gone", "--token-file", admin)
    other = remote.log.size - 1

    def point_elsewhere(answer: Message) -> None:
        if isinstance(answer, log_pb2.RetireWriterResponse):
            answer.index = other

    remote.change = point_elsewhere
    done = run("writers", "retire", FIRST, "--cause", "gone", "--token-file", admin)
    assert isinstance(done.exception, BadProof)
    assert done.stdout == ""


def test_only_an_admin_retires(remote: MadeRemote, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("investigator")
    file.chmod(0o600)
    size = remote.log.size
    done = run("writers", "retire", FIRST, "--cause", "gone", "--token-file", file)
    assert isinstance(done.exception, Refused)
    assert remote.log.size == size


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["retire", FIRST, "--cause", "gone"], "--token-file"),
        (["retire", FIRST, "--token-file", "admin"], "--cause"),
        (["retire", "xy", "--cause", "gone", "--token-file", "admin"], "64 lowercase hex digits"),
        (["retire", "--cause", "gone", "--token-file", "admin"], "WRITER"),
    ],
)
def test_usage(remote: MadeRemote, run: Run, admin: Path, words: list[str], option: str) -> None:
    words = [str(admin) if word == "admin" else word for word in words]
    done = run("writers", *words)
    assert (done.exit_code, option in done.stderr) == (2, True), done.output
    assert remote.asked == []
