# SPDX-License-Identifier: Apache-2.0
"""`iap-authz keys` for the vault, the index and the officers (PROTOCOL S3, S7): made, shown, rotated, dropped."""

import builtins
import hashlib
import json
import secrets
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner, Result

from iap_authz.adapters.keys.file import create_key_file
from iap_authz.adapters.keys.index_key import create_index_key, load_index_key
from iap_authz.adapters.keys.vault_file import FileVault, add_vault_key, create_vault_file, load_vault_keys
from iap_authz.adapters.trail.legal_holds import SqlHolds
from iap_authz.adapters.trail.seal_epochs import SqlSealEpochs
from iap_authz.adapters.trail.seal_tables import U32, U64, subject_keys
from iap_authz.adapters.trail.store import open_trail, writing
from iap_authz.adapters.trail.trail_lock import SharedTrail, alone_with_trail
from iap_authz.cli import make_app
from iap_authz.errors import ConfigInvalid, Conflict
from iap_authz.log_config import parse_access
from iap_authz.ports import NO_ERASURE, HoldRow
from iap_authz.records.hpke import seal_to
from iap_authz.records.seal_settings import VaultKey
from iap_authz.records.vault_file import VaultPrivateKey, parse_vault_file, render_vault_file
from tests.fakes.softhsm import SoftToken, make_soft_token


def run(*arguments: object) -> Result:
    words = ["keys", *(str(one) for one in arguments)]
    return CliRunner().invoke(make_app(["keys"]), words, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A vault with two epochs."""
    create_vault_file(tmp_path / "vault.key")
    add_vault_key(tmp_path / "vault.key")
    return tmp_path / "vault.key"


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """The trail of a log that seals to vault epoch 2, with nothing sealed to either."""
    engine = open_trail(tmp_path / "trail.sqlite")
    SqlSealEpochs(engine).store(1, 2)
    engine.dispose()
    return tmp_path / "trail.sqlite"


def add_subject_key(trail: Path, epoch: int, *, erasure: bytes = NO_ERASURE) -> None:
    engine = open_trail(trail)
    number = secrets.randbelow(1 << 40)
    row = {
        "number": number,
        "digest": secrets.token_bytes(16),
        "writer": bytes(32),
        "companion": bytes(110),
        "sealed": bytes(80),
        "vault_epoch": U32.pack(epoch),
        "seal_epoch": U64.pack(0),
        "erasure": erasure,
    }
    with writing(engine) as connection:
        connection.execute(insert(subject_keys), row)
    engine.dispose()


# ---- new


def test_new_vault_prints_what_a_sidecar_seals_to_and_nothing_of_the_private_key(tmp_path: Path) -> None:
    result = run("new", "vault", "-o", tmp_path / "vault.key")
    assert result.exit_code == 0
    (key,) = load_vault_keys(tmp_path / "vault.key")
    assert result.output == f"{key.public().render()}\n"
    assert isinstance(run("new", "vault", "-o", tmp_path / "vault.key").exception, ConfigInvalid)
    assert load_vault_keys(tmp_path / "vault.key") == (key,)
    made = json.loads(run("new", "vault", "-o", tmp_path / "b.key", "--json").stdout)
    assert made == {"keys": [{"epoch": 1, "vault_key": newest_key(tmp_path / "b.key")}]}


def newest_key(path: Path) -> str:
    return load_vault_keys(path)[-1].public().render()


def test_new_index_shows_nothing_of_the_key(tmp_path: Path) -> None:
    result = run("new", "index", "-o", tmp_path / "index.key")
    assert result.output == f"made {tmp_path / 'index.key'}\n"
    assert len(load_index_key(tmp_path / "index.key")) == 32
    assert json.loads(run("new", "index", "-o", tmp_path / "b.key", "--json").stdout) == {
        "index_key_file": str(tmp_path / "b.key")
    }
    assert isinstance(run("new", "index", "-o", tmp_path / "index.key").exception, ConfigInvalid)


@pytest.mark.parametrize("name", ["alice", 'it\'s: a "name" # of ours', "Łuczak"])
def test_an_access_token_is_shown_once_and_its_entry_is_what_the_log_reads(name: str) -> None:
    words = ["new", "access-token", "--name", name, "--role", "privacy-officer", "--role", "investigator"]
    made = json.loads(run(*words, "--json").stdout)
    assert made["sha256"] == hashlib.sha256(made["token"].encode()).hexdigest()
    assert (made["name"], made["roles"], len(made["token"])) == (name, ["investigator", "privacy_officer"], 43)
    lines = run(*words).output.splitlines()
    entry = next(line for line in lines if line.startswith("- {"))
    token = next(line for line in lines if len(line) == 43 and " " not in line)
    ((digest, access),) = parse_access(f"tokens:\n{entry}\n".encode(), "access.yaml").items()
    assert digest == hashlib.sha256(token.encode()).hexdigest()
    assert (access.name, access.roles) == (name, {"investigator", "privacy_officer"})
    assert token != made["token"]


@pytest.mark.parametrize(
    "words",
    [
        ["--name", "a"],
        ["--role", "admin"],
        ["--name", "a", "--role", "root"],
        ["--name", "a", "--role", "privacy_officer"],
        ["--name", "", "--role", "admin"],
        ["--name", "a\nb", "--role", "admin"],
        ["--name", "n" * 129, "--role", "admin"],
    ],
    ids=range(7),
)
def test_an_access_token_that_the_log_would_refuse_is_not_made(words: list[str]) -> None:
    result = run("new", "access-token", *words)
    assert result.exit_code == 2
    assert "sha256" not in result.output


# ---- show and rotate


def test_show_tells_a_vault_from_a_log_by_its_file(path: Path, tmp_path: Path) -> None:
    verifier = create_key_file(tmp_path / "log.key", "audit.example.com/orders")
    assert run("show", tmp_path / "log.key").output == f"{verifier.render()}\n"
    result = run("show", path)
    assert [VaultKey.parse(line).epoch for line in result.stdout.splitlines()] == [1, 2]
    assert f"epoch 2 was made {datetime.now(UTC).date()}, 0 days ago" in result.stderr
    create_index_key(tmp_path / "index.key")
    assert isinstance(run("show", tmp_path / "index.key").exception, ConfigInvalid)


def test_show_says_how_old_each_key_is(path: Path) -> None:
    made = datetime.now(UTC).date() - timedelta(days=40)
    aged = [
        VaultPrivateKey(epoch=key.epoch, created=made, secret=key.secret) for key in parse_vault_file(path.read_bytes())
    ]
    path.write_bytes(render_vault_file(aged))
    keys = json.loads(run("show", path, "--json").stdout)["keys"]
    assert keys[0] == {
        "epoch": 1,
        "vault_key": aged[0].public().render(),
        "created": made.isoformat(),
        "age_days": 40,
    }
    assert "epoch 1 was made" in run("show", path).stderr


def test_rotate_adds_an_epoch_and_says_what_is_next(path: Path) -> None:
    result = run("rotate", path)
    assert "restart the log" in result.stderr
    assert [VaultKey.parse(line).epoch for line in result.stdout.splitlines()] == [1, 2, 3]
    assert len(json.loads(run("rotate", path, "--json").stdout)["keys"]) == 4
    finished = run("rotate", "--finish", path)
    assert isinstance(finished.exception, ConfigInvalid)
    assert "keys drop" in str(finished.exception)
    assert FileVault(path).epochs == (1, 2, 3, 4)


def test_no_command_shows_a_private_key(path: Path, trail: Path) -> None:
    config = log_of(path, trail)
    commands = (["show", path], ["rotate", path], ["drop", path, "--epoch", 1, "--config", config, "--yes"])
    for arguments in commands:
        private = [b64encode(key.secret).decode()[:12] for key in load_vault_keys(path)]
        for words in (arguments, [*arguments, "--json"]):
            output = run(*words).output
            private += [b64encode(key.secret).decode()[:12] for key in load_vault_keys(path)]
            assert "PRIVATE" not in output
            assert not any(one in output for one in private)


# ---- drop


def log_of(path: Path, trail: Path) -> Path:
    """The log.yaml of a log with this vault and this trail."""
    config = trail.with_name("log.yaml")
    config.write_text(
        f"kind: Log\norigin: audit.example.com/orders\nkey_file: log.key\ndirectory: log\ntrail_file: {trail}\n"
        "listen: unix:log.sock\nenrolment_file: enrolment.yaml\n"
        f"vault: {{key_file: {path}, index_key_file: index.key}}\n"
    )
    return config


def drop(path: Path, trail: Path, *more: object, epoch: int = 1) -> Result:
    return run("drop", path, "--epoch", epoch, "--config", log_of(path, trail), *more)


def test_drop_says_what_it_would_do_and_does_it_when_told(path: Path, trail: Path) -> None:
    before, old = path.read_bytes(), load_vault_keys(path)[0].public().render()
    asked = drop(path, trail)
    assert (asked.exit_code, asked.output) == (0, f"{old} would be dropped: say --yes\n")
    assert json.loads(drop(path, trail, "--json").stdout)["dropped"] is False
    assert path.read_bytes() == before
    done = drop(path, trail, "--yes")
    assert done.exit_code == 0
    assert done.output.startswith(f"{old} dropped: start the log, and see to the backups")
    assert FileVault(path).epochs == (2,)


def test_s7_a_key_that_something_is_sealed_to_is_not_dropped(path: Path, trail: Path) -> None:
    add_subject_key(trail, 1)
    add_subject_key(trail, 1)
    add_subject_key(trail, 2)
    for more in ([], ["--yes"], ["--yes", "--lose", 1], ["--yes", "--lose", 3]):
        refused = drop(path, trail, *more)
        assert isinstance(refused.exception, Conflict)
        assert "got 2 keys and holds that are sealed to vault epoch 1" in str(refused.exception)
    assert FileVault(path).epochs == (1, 2)
    assert drop(path, trail, "--yes", "--lose", 2).exit_code == 0
    assert FileVault(path).epochs == (2,)


def test_an_erased_key_needs_no_vault_key(path: Path, trail: Path) -> None:
    add_subject_key(trail, 1, erasure=b"e" * 16)
    assert drop(path, trail, "--yes").exit_code == 0


def test_s7_a_hold_needs_its_vault_key_until_it_is_released(path: Path, trail: Path) -> None:
    engine = open_trail(trail)
    store = SqlHolds(engine)
    store.put_hold(make_hold(seal_to(FileVault(path).public_key(1), b"scope", info=b"")))
    refused = drop(path, trail, "--yes")
    assert isinstance(refused.exception, Conflict)
    store.end_hold(b"h" * 16)
    engine.dispose()
    assert drop(path, trail, "--yes").exit_code == 0


def make_hold(scope: bytes) -> HoldRow:
    return HoldRow(
        hold=b"h" * 16,
        authority="court",
        matter="4711",
        officer="alice",
        vault_epoch=1,
        scope=scope,
    )


@pytest.mark.parametrize(("epoch", "message"), [(2, "which writers seal to"), (7, "want one of"), (0, "want one of")])
def test_the_newest_and_an_unknown_epoch_are_not_dropped(path: Path, trail: Path, epoch: int, message: str) -> None:
    refused = drop(path, trail, "--yes", epoch=epoch)
    assert isinstance(refused.exception, ConfigInvalid)
    assert message in str(refused.exception)
    assert FileVault(path).epochs == (1, 2)


def test_a_log_that_was_not_restarted_since_the_rotation_still_needs_the_old_key(path: Path, tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "old.sqlite")
    SqlSealEpochs(engine).store(0, 1)
    engine.dispose()
    refused = drop(path, tmp_path / "old.sqlite", "--yes")
    assert isinstance(refused.exception, Conflict)
    assert "restart it" in str(refused.exception)


def test_the_trail_of_another_log_is_not_believed(path: Path, trail: Path, tmp_path: Path) -> None:
    """It has nothing that is sealed to the key, whatever the right one has."""
    add_subject_key(trail, 9)
    engine = open_trail(tmp_path / "new.sqlite")
    engine.dispose()
    (tmp_path / "empty.sqlite").touch(0o600)
    create_index_key(tmp_path / "index.key")
    wrong = {"trail.sqlite": "is it of this", "new.sqlite": "is it of this", "none": "got no file"}
    wrong |= {"empty.sqlite": "an empty one", "index.key": "no SQLite database"}
    for name, message in wrong.items():
        refused = drop(path, tmp_path / name, "--yes")
        assert isinstance(refused.exception, ConfigInvalid), name
        assert message in str(refused.exception)
    assert not (tmp_path / "none").exists()
    assert (tmp_path / "empty.sqlite").read_bytes() == b""
    assert FileVault(path).epochs == (1, 2)


def test_nothing_is_dropped_while_the_log_runs(path: Path, trail: Path) -> None:
    running = [SharedTrail(trail), SharedTrail(trail)]
    for one in running:
        refused = drop(path, trail, "--yes")
        assert isinstance(refused.exception, Conflict)
        assert "stop it first" in str(refused.exception)
        one.release()
    with alone_with_trail(trail), pytest.raises(Conflict, match="wait"):
        SharedTrail(trail)
    assert drop(path, trail, "--yes").exit_code == 0


def test_what_a_crash_has_left_in_stages_is_counted_first(path: Path, trail: Path) -> None:
    stage = trail.with_name("log") / "stage" / f"{7:020}-{'a' * 64}"
    stage.parent.mkdir(parents=True)
    stage.touch()
    refused = drop(path, trail, "--yes")
    assert isinstance(refused.exception, Conflict)
    assert "start the log once" in str(refused.exception)
    stage.unlink()
    assert drop(path, trail, "--yes").exit_code == 0


def test_a_log_with_another_vault_is_no_witness(path: Path, trail: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    create_vault_file(other)
    refused = run("drop", path, "--epoch", 1, "--config", log_of(other, trail), "--yes")
    assert isinstance(refused.exception, ConfigInvalid)
    assert "another vault" in str(refused.exception)


def test_the_file_of_a_log_is_not_dropped_from(tmp_path: Path, trail: Path) -> None:
    create_key_file(tmp_path / "log.key", "audit.example.com/orders")
    refused = drop(tmp_path / "log.key", trail, "--yes")
    assert "keys rotate --finish" in str(refused.exception)


# ---- tokens


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    return make_soft_token(tmp_path, monkeypatch)


def options(token: SoftToken) -> list[object]:
    place = token.place
    return [
        *("--pkcs11-module", place.module, "--token", place.token),
        *("--label", place.label, "--pin-file", place.pin_file),
    ]


def test_a_key_is_made_on_a_token_and_shown_and_followed_by_the_next(token: SoftToken) -> None:
    made = [run("new", "vault", *options(token)) for _ in range(2)]
    assert [one.exit_code for one in made] == [0, 0]
    keys = [VaultKey.parse(one.stdout.strip()) for one in made]
    assert [key.epoch for key in keys] == [1, 2]
    shown = run("show", *options(token))
    assert [VaultKey.parse(line) for line in shown.stdout.splitlines()] == keys
    sealed = seal_to(keys[0].public_key, b"key", info=b"")
    assert token.vault().open(sealed, epoch=1, info=b"") == b"key"


def test_a_key_made_by_hand_is_shown_without_its_age(token: SoftToken) -> None:
    token.make_by_hand("vault-1")
    shown = run("show", *options(token))
    assert "epoch 1 was made on a day that is not known" in shown.stderr
    assert json.loads(run("show", *options(token), "--json").stdout)["keys"][0]["age_days"] is None


@pytest.mark.parametrize("command", [["new", "vault"], ["show"]])
def test_a_file_or_a_token_and_never_both_or_half(command: list[str], tmp_path: Path) -> None:
    whole = ["--pkcs11-module", "m", "--token", "t", "--label", "l", "--pin-file", "p"]
    file = ["-o", tmp_path / "a.key"] if command[0] == "new" else [tmp_path / "a.key"]
    for words in ([], [*file, *whole], whole[:6], whole[2:], [*file, *whole[:2]]):
        assert run(*command, *words).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: object, **options: object) -> ModuleType:
        if name.partition(".")[0] == "pkcs11":
            raise ModuleNotFoundError(f"No module named {name!r}", name="pkcs11")
        return imported(name, *arguments, **options)  # type: ignore[arg-type]

    for name in [name for name in sys.modules if name.partition(".")[0] == "pkcs11" or name.endswith("vault_pkcs11")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delattr("iap_authz.adapters.keys.vault_pkcs11", raising=False)
    words = ["--pkcs11-module", "m", "--token", "t", "--label", "l", "--pin-file", tmp_path / "p"]
    for command in (["new", "vault"], ["show"]):
        failed = run(*command, *words)
        assert isinstance(failed.exception, ConfigInvalid)
        assert "pip install 'iap-authz[pkcs11]'" in str(failed.exception)
