# SPDX-License-Identifier: Apache-2.0
"""`iap-authz keys`, and the key file on disk: made once, for its owner only, rotated without a gap."""

import hashlib
import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iap_authz.adapters.facts.api_keys import parse_api_keys
from iap_authz.adapters.keys.file import add_key, create_key_file, drop_key, load_signers, load_verifiers
from iap_authz.adapters.keys.pepper import create_pepper, load_pepper
from iap_authz.cli import make_app
from iap_authz.errors import ConfigInvalid, Invalid
from iap_authz.facts.apikey import verify_api_key
from iap_authz.log_config import parse_enrolment
from iap_authz.tlog.key_file import parse_key_file
from iap_authz.tlog.note import VerifierKey, check_note, sign_note

ORIGIN = "audit.example.com/orders"


def run(*arguments: object) -> Result:
    words = ["keys", *(str(one) for one in arguments)]
    return CliRunner().invoke(make_app(["keys"]), words, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "log.key"
    create_key_file(made, ORIGIN)
    return made


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# ---- the file


def test_a_new_key_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        verifier = create_key_file(tmp_path / "log.key", ORIGIN)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600
    assert load_verifiers(tmp_path / "log.key") == (verifier,)
    assert names(tmp_path) == ["log.key"]


def test_a_key_that_is_there_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigInvalid, match="there already"):
        create_key_file(path, ORIGIN)
    assert path.read_bytes() == before
    assert names(path.parent) == ["log.key"]


def test_two_keys_are_different(tmp_path: Path) -> None:
    assert create_key_file(tmp_path / "a", ORIGIN) != create_key_file(tmp_path / "b", ORIGIN)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_fix(path: Path, mode: int) -> None:
    path.chmod(mode)
    for load in (load_signers, add_key, drop_key):
        with pytest.raises(ConfigInvalid, match=f"chmod 600 {path}"):
            load(path)
    path.chmod(0o400)
    assert load_signers(path)[0].name == ORIGIN


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "text").write_text("no key\n")
    (tmp_path / "text").chmod(0o600)
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("none", "No such file"),
        ("pipe", "is no file"),
        ("text", "no private key"),
        ("loop", "many"),
    ):
        with pytest.raises(ConfigInvalid, match=message):
            load_signers(tmp_path / name)
    with pytest.raises(ConfigInvalid, match="is no file"):
        load_signers(tmp_path)
    with pytest.raises(ConfigInvalid, match="cannot be written"):
        create_key_file(tmp_path / "no" / "folder", ORIGIN)
    with pytest.raises(ConfigInvalid, match="want no space"):
        create_key_file(tmp_path / "spaced", "two words")


def test_a_rotation_has_both_keys_and_then_the_new_one(path: Path) -> None:
    (old,) = load_verifiers(path)
    new = add_key(path)
    assert load_verifiers(path) == (old, new)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    note = sign_note(b"text\n", load_signers(path))
    for verifier in (old, new):
        assert len(check_note(note, [verifier])) == 1
    with pytest.raises(ConfigInvalid, match="finish the rotation"):
        add_key(path)
    assert drop_key(path) == (old, new)
    assert load_verifiers(path) == (new,)
    with pytest.raises(ConfigInvalid, match="no rotation was begun"):
        drop_key(path)
    assert names(path.parent) == ["log.key"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_rotation_that_fails_leaves_the_old_file(path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(ConfigInvalid, match="No space left"):
        add_key(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert names(path.parent) == ["log.key"]


# ---- the commands


def test_new_log_prints_the_verifier_key_and_nothing_of_the_private_one(tmp_path: Path) -> None:
    result = run("new", "log", "--origin", ORIGIN, "-o", tmp_path / "log.key")
    assert result.exit_code == 0
    (verifier,) = load_verifiers(tmp_path / "log.key")
    assert result.output == f"{verifier.render()}\n"
    again = run("new", "log", "--origin", ORIGIN, "-o", tmp_path / "log.key")
    assert isinstance(again.exception, ConfigInvalid)


def test_show_and_rotate_say_both_keys(path: Path) -> None:
    (old,) = load_verifiers(path)
    rotated = run("rotate", path, "--json")
    keys = json.loads(rotated.stdout)["keys"]
    assert [key["verifier_key"] for key in keys] == [one.render() for one in load_verifiers(path)]
    assert keys[0] == {"origin": ORIGIN, "key_id": old.key_id.hex(), "verifier_key": old.render()}
    assert run("show", path).output.splitlines() == [key["verifier_key"] for key in keys]
    finished = run("rotate", "--finish", path)
    assert finished.stdout == f"{keys[1]['verifier_key']}\n"
    assert old.render() in finished.stderr
    assert json.loads(run("show", path, "--json").stdout)["keys"] == keys[1:]


def test_no_command_shows_a_private_key(path: Path) -> None:
    seeds = [line.rpartition(b"+")[2][:12].decode() for line in path.read_bytes().splitlines()]
    for arguments in (["show", path], ["show", path, "--json"], ["rotate", path], ["rotate", "--finish", path]):
        seeds += [line.rpartition(b"+")[2][:12].decode() for line in path.read_bytes().splitlines()]
        output = run(*arguments).output
        assert "PRIVATE" not in output
        assert not any(seed in output for seed in seeds)


def test_an_enrolment_token_is_shown_once_and_its_entry_is_what_the_log_reads() -> None:
    for name in ("orders", 'it\'s: a "name" # of ours'):
        made = json.loads(run("new", "enrolment-token", "--name", name, "--json").stdout)
        assert made["sha256"] == hashlib.sha256(made["token"].encode()).hexdigest()
        assert len(made["token"]) == 43
        lines = run("new", "enrolment-token", "--name", name).output.splitlines()
        entry = next(line for line in lines if line.startswith("- {"))
        token = next(line for line in lines if len(line) == 43 and " " not in line)
        names = parse_enrolment(f"tokens:\n{entry}\n".encode(), "enrolment.yaml")
        assert names == {hashlib.sha256(token.encode()).hexdigest(): name}
        assert token != made["token"]


def test_the_file_of_the_command_is_one_that_other_tools_read(path: Path) -> None:
    (key,) = parse_key_file(path.read_bytes())
    assert VerifierKey.parse(run("show", path).output.strip()) == key.verifier()


# ---- API keys


def test_a_new_api_key_is_good_with_its_entry_and_its_pepper(tmp_path: Path) -> None:
    pepper = tmp_path / "pepper"
    assert run("new", "pepper", "-o", pepper).exit_code == 0
    result = run(
        *("new", "api-key", "--name", "nightly", "--pepper-file", pepper, "--scope", "orders:read"),
        *("--scope", "orders:list", "--group", "batch", "--subject", "exporter", "--expires", "12h", "--json"),
    )
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    content = json.dumps({"revision": 1, "keys": [made["entry"]]}).encode()
    keys = parse_api_keys(content, "keys.json", pepper=load_pepper(pepper))
    key = verify_api_key(made["key"], keys, now=keys.keys[0].created)
    assert (key.name, key.subject) == ("nightly", "exporter")
    assert (key.scopes, key.groups) == (("orders:read", "orders:list"), ("batch",))
    assert key.expires - key.created == timedelta(hours=12)
    assert made["key"].rpartition("_")[2] not in json.dumps(made["entry"])


def test_the_entry_that_is_printed_is_yaml_for_the_file(tmp_path: Path) -> None:
    create_pepper(tmp_path / "pepper")
    first, second = (run("new", "api-key", "--name", "a", "--pepper-file", tmp_path / "pepper") for _ in range(2))
    assert first.stdout != second.stdout
    text, entry = first.stdout.splitlines()[1], first.stdout.splitlines()[-1]
    keys = parse_api_keys(f"keys:\n{entry}\n".encode(), "keys.yaml", pepper=load_pepper(tmp_path / "pepper"))
    key = verify_api_key(text, keys, now=keys.keys[0].created)
    assert (key.subject, key.scopes, key.groups) == ("a", (), ())
    assert key.expires - key.created == timedelta(days=90)


@pytest.mark.parametrize("expires", ["", "0d", "-1d", "90", "1y", "1.5d", "99999d", "\u0661d"])
def test_a_lifetime_is_days_or_hours(tmp_path: Path, expires: str) -> None:
    create_pepper(tmp_path / "pepper")
    arguments = ("new", "api-key", "--name", "a", "--pepper-file", tmp_path / "pepper", f"--expires={expires}")
    assert run(*arguments).exit_code == 2


def test_a_key_that_no_sidecar_would_load_is_not_given_out(tmp_path: Path) -> None:
    create_pepper(tmp_path / "pepper")
    for wrong in (("--name", "a b"), ("--name", "a", "--scope", "a b"), ("--name", "a", "--group", "")):
        result = run("new", "api-key", *wrong, "--pepper-file", tmp_path / "pepper")
        assert isinstance(result.exception, Invalid)
        assert "iap_" not in result.output
    missing = run("new", "api-key", "--name", "a", "--pepper-file", tmp_path / "none")
    assert isinstance(missing.exception, ConfigInvalid)
