# SPDX-License-Identifier: Apache-2.0
"""`iap-authz erase` and `iap-authz hold` against a log that answers as a test says: words, JSON and exit codes."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.cli import erase as erase_module
from iap_authz.cli import hold as hold_module
from iap_authz.errors import BadProof, Refused
from tests.fakes.made_remote import MadeRemote

Run = Callable[..., Result]
Stage = log_pb2.ErasureState.Stage

ERASURE, HOLD, WRITER = b"\x01" * 16, b"\x02" * 16, b"\x03" * 32
WORDS = ("--subject", "alice@example.com", "--authority", "DSR-42")


class Officers:
    """What the log answers: `states` one after the other, the last one for ever. `asked` are the requests."""

    def __init__(self, remote: MadeRemote) -> None:
        self.states: list[log_pb2.ErasureState] = []
        self.asked: list[Any] = []
        self.released = log_pb2.ReleaseLegalHoldResponse(index=9)
        self.refuse = False
        for name in ("erase_subject", "get_erasure", "list_erasures"):
            setattr(remote, name, getattr(self, name))
        for name in ("place_legal_hold", "release_legal_hold", "list_legal_holds"):
            setattr(remote, name, getattr(self, name))
        self.remote = remote

    def say(self, *stages: log_pb2.ErasureState.Stage, **fields: Any) -> None:
        self.states += [log_pb2.ErasureState(erasure=ERASURE, stage=stage, **fields) for stage in stages]

    def record(self, **fields: Any) -> int:
        """The Erasure record in the log."""
        body = record_pb2.Erasure(erasure=ERASURE, seal_epoch=4, **fields)
        index = self.remote.log.add_own(body)
        self.remote.signed.add(self.remote.log.size)
        return index

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest) -> log_pb2.ErasureState:
        self.asked.append(request)
        if self.refuse:
            raise Refused("got 'mallory' without the role privacy_officer")
        return log_pb2.ErasureState(erasure=ERASURE, stage=Stage.COUNTING)

    async def get_erasure(self, request: log_pb2.GetErasureRequest) -> log_pb2.ErasureState:
        assert request.erasure == ERASURE
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def list_erasures(self, _: log_pb2.ListErasuresRequest) -> log_pb2.ListErasuresResponse:
        return log_pb2.ListErasuresResponse(erasures=self.states)

    async def place_legal_hold(self, request: log_pb2.PlaceLegalHoldRequest) -> log_pb2.PlaceLegalHoldResponse:
        self.asked.append(request)
        return log_pb2.PlaceLegalHoldResponse(hold=HOLD, index=7)

    async def release_legal_hold(self, request: log_pb2.ReleaseLegalHoldRequest) -> log_pb2.ReleaseLegalHoldResponse:
        self.asked.append(request)
        return self.released

    async def list_legal_holds(self, _: log_pb2.ListLegalHoldsRequest) -> log_pb2.ListLegalHoldsResponse:
        held = log_pb2.HoldState(hold=HOLD, authority="court", matter="12 O 34/26", index=7, release_asked=True)
        return log_pb2.ListLegalHoldsResponse(holds=[held])


@pytest.fixture
def officers(remote: MadeRemote, monkeypatch: pytest.MonkeyPatch) -> Officers:
    monkeypatch.setattr(erase_module, "POLL_SECONDS", 0)
    return Officers(remote)


@pytest.fixture
def run(remote: MadeRemote, tmp_path: Path) -> Run:
    """The commands by themselves, with an officer's token."""
    import typer  # noqa: PLC0415 -- only here

    app = typer.Typer()
    app.command("erase")(erase_module.erase)
    app.add_typer(hold_module.app, name="hold")
    token = tmp_path / "token"
    token.write_text("an-officers-token\n")
    token.chmod(0o600)
    environment = {
        "IAP_AUTHZ_LOG": "unix:/run/log.sock",
        "IAP_AUTHZ_LOG_KEY": remote.log.key.render(),
        "IAP_AUTHZ_TOKEN_FILE": str(token),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COLUMNS": "300",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }

    def invoke(*words: object, **changed: str | None) -> Result:
        return CliRunner().invoke(app, [str(one) for one in words], env={**environment, **changed})

    return invoke


def lines(result: Result) -> Iterable[str]:
    return result.stdout.splitlines()


def test_without_yes_it_only_counts(officers: Officers, run: Run, remote: MadeRemote) -> None:
    officers.say(Stage.COUNTING, Stage.COUNTED, records=3, log_size=20, issuers=["https://issuer.example.com"])
    done = run("erase", *WORDS, "--issuer", "https://issuer.example.com")
    assert done.exit_code == 0, done.output
    (request,) = officers.asked
    assert (request.dry_run, request.subject, request.authority) == (True, "alice@example.com", "DSR-42")
    assert request.issuer == "https://issuer.example.com"
    assert "stage       counted: nothing was changed; --yes erases" in lines(done)
    assert "records     3" in lines(done)
    assert any(line.startswith("stays") for line in lines(done))
    assert remote.token == "an-officers-token"
    assert "alice" not in done.stdout


def test_yes_erases_and_the_record_is_proven(officers: Officers, run: Run) -> None:
    index = officers.record(records=3)
    waiting = [log_pb2.WriterPosition(writer=WRITER, sequence=12)]
    officers.say(Stage.COUNTING, Stage.ERASING, records=3, seal_epoch=4)
    officers.say(Stage.ERASED, records=3, done=3, seal_epoch=4, erasure_index=index, waiting_for=waiting)
    done = run("erase", *WORDS, "--yes")
    assert done.exit_code == 0, done.output
    assert not officers.asked[0].dry_run
    assert "records     3, 3 of them erased" in lines(done)
    assert f"recorded    at leaf {index}, proven to be in the log; seal epoch 4" in lines(done)
    assert f"waits for   writer {WRITER.hex()}, which has shipped 12 records" in lines(done)


@pytest.mark.parametrize("fields", [{"erasure": b"\x09" * 16}, {"seal_epoch": 3}], ids=["another id", "another epoch"])
def test_an_erasure_record_that_is_another_is_found_out(officers: Officers, run: Run, fields: dict[str, Any]) -> None:
    body = record_pb2.Erasure(**{"erasure": ERASURE, "seal_epoch": 4, **fields})
    index = officers.remote.log.add_own(body)
    officers.remote.signed.add(officers.remote.log.size)
    officers.say(Stage.ERASED, records=3, done=3, seal_epoch=4, erasure_index=index)
    assert isinstance(run("erase", *WORDS, "--yes").exception, BadProof)


@pytest.mark.parametrize(
    ("stage", "fields", "code", "word"),
    [
        (Stage.HELD, {"holds": [HOLD]}, 1, f"hold        {HOLD.hex()}"),
        (Stage.AMBIGUOUS, {"issuers": ["a", "b"]}, 1, "issuer      b"),
        (Stage.FAILED, {"problem": "the vault does not answer"}, 1, "problem     the vault does not answer"),
        (Stage.WAITS_APPROVAL, {}, 3, f"erasure     {ERASURE.hex()}"),
        (Stage.COMPLETE, {}, 0, "stage       complete: no writer holds anything older"),
    ],
    ids=["held", "ambiguous", "failed", "waits", "complete"],
)
def test_each_end_has_its_exit_code(
    officers: Officers, run: Run, stage: log_pb2.ErasureState.Stage, fields: dict[str, Any], code: int, word: str
) -> None:
    officers.say(stage, **fields)
    done = run("erase", *WORDS, "--yes")
    assert (done.exit_code, word in lines(done)) == (code, True), done.output
    shown = json.loads(run("erase", *WORDS, "--yes", "--json").stdout)
    assert (shown["erasure"], shown["stage"]) == (ERASURE.hex(), Stage.Name(stage).lower())


@pytest.mark.parametrize("fields", [{"holds": [HOLD]}, {"issuers": ["a", "b"]}], ids=["held", "ambiguous"])
def test_a_dry_run_of_what_would_not_be_done_is_exit_1(officers: Officers, run: Run, fields: dict[str, Any]) -> None:
    officers.say(Stage.COUNTED, records=1, **fields)
    assert run("erase", *WORDS).exit_code == 1


def test_waiting_for_writers_ends_in_time(officers: Officers, run: Run) -> None:
    officers.say(Stage.ERASED, records=1, seal_epoch=4)
    assert run("erase", *WORDS, "--yes", "--wait", "0.01").exit_code == 3
    officers.states.clear()
    officers.say(Stage.ERASED, Stage.ERASED, Stage.COMPLETE, records=1, seal_epoch=4)
    assert run("erase", *WORDS, "--yes", "--wait", "60").exit_code == 0
    officers.states.clear()
    officers.say(Stage.ERASED, records=1, seal_epoch=4)
    assert run("erase", "--status", ERASURE.hex(), "--wait", "0").exit_code == 3
    assert run("erase", "--status", ERASURE.hex()).exit_code == 0


def test_an_approval_names_the_erasure(officers: Officers, run: Run) -> None:
    officers.say(Stage.ERASED, records=1, seal_epoch=4)
    assert run("erase", *WORDS, "--yes", "--approve", ERASURE.hex()).exit_code == 0
    assert officers.asked[0].approve == ERASURE


def test_a_list_says_what_is_on_its_way(officers: Officers, run: Run) -> None:
    officers.say(Stage.ERASED, records=1, seal_epoch=4, erasure_index=5)
    assert "recorded    at leaf 5, as the log says; seal epoch 4" in lines(run("erase", "--list"))
    (one,) = json.loads(run("erase", "--list", "--json").stdout)
    assert one["erasure_index"] == 5
    officers.states.clear()
    empty = run("erase", "--list")
    assert (empty.exit_code, empty.stdout.strip(), "none is on its way" in empty.stderr) == (0, "", True)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--subject", "alice"),
        ("--authority", "DSR-42"),
        (*WORDS, "--approve", ERASURE.hex()),
        (*WORDS, "--yes", "--approve", "12"),
        ("--status", "zz" * 16),
    ],
    ids=["nothing", "no authority", "no subject", "approve without yes", "short id", "no hex"],
)
def test_what_cannot_be_asked_is_usage(officers: Officers, run: Run, words: tuple[str, ...]) -> None:
    assert run("erase", *words).exit_code == 2
    assert officers.asked == []


def test_without_a_token_nothing_is_asked(officers: Officers, run: Run, tmp_path: Path) -> None:
    assert run("erase", *WORDS, IAP_AUTHZ_TOKEN_FILE=None).exit_code == 2
    (tmp_path / "token").chmod(0o644)
    done = run("erase", *WORDS)
    assert (done.exit_code, "an-officers-token" in done.output, officers.asked) == (2, False, [])


def test_a_refusal_is_the_logs_word(officers: Officers, run: Run) -> None:
    officers.refuse = True
    assert isinstance(run("erase", *WORDS).exception, Refused)


def test_a_hold_is_placed_by_the_filters_of_a_search(officers: Officers, run: Run) -> None:
    words = ("--authority", "court", "--matter", "12 O 34/26", "--subject", "alice", "--country", "de")
    done = run("hold", "place", *words, "--from", "2026-01-01")
    assert done.exit_code == 0, done.output
    (request,) = officers.asked
    assert (request.scope.subject, request.scope.country) == ("alice", "DE")
    assert request.scope.HasField("from")
    assert (request.authority, request.matter) == ("court", "12 O 34/26")
    assert HOLD.hex() in done.stdout
    assert json.loads(run("hold", "place", *words, "--json").stdout) == {"hold": HOLD.hex(), "index": 7}


def test_a_hold_is_released_once_enough_ask(officers: Officers, run: Run) -> None:
    words = ("hold", "release", HOLD.hex(), "--authority", "court")
    assert run(*words).exit_code == 0
    assert (officers.asked[0].hold, officers.asked[0].authority) == (HOLD, "court")
    officers.released = log_pb2.ReleaseLegalHoldResponse(needs_approval=True)
    asked = run(*words)
    assert (asked.exit_code, "another privacy officer" in asked.stdout) == (3, True)
    assert json.loads(run(*words, "--json").stdout) == {"hold": HOLD.hex(), "needs_approval": True, "index": None}
    assert run("hold", "release", "12", "--authority", "court").exit_code == 2


def test_holds_are_listed_without_what_they_keep(run: Run, officers: Officers) -> None:
    assert "court  12 O 34/26; its release was asked for" in run("hold", "list").stdout
    (one,) = json.loads(run("hold", "list", "--json").stdout)
    assert one == {
        "hold": HOLD.hex(),
        "authority": "court",
        "matter": "12 O 34/26",
        "index": 7,
        "release_asked": True,
    }
    assert officers.asked == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [log_pb2.WriterPosition(writer=WRITER, sequence=12)]
    state = log_pb2.ErasureState(stage=Stage.ERASED, records=8, done=8, waiting_for=waiting)
    for terminal, sees in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with erase_module._progress() as show:  # noqa: SLF001 -- a terminal that a runner does not have
            show(state)
        assert ("waiting for 1 writers" in terminal.getvalue()) == sees
