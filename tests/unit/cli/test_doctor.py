# SPDX-License-Identifier: Apache-2.0
"""`iap-authz doctor`: each thing that would bite later is found, and comes with its fix."""

import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from typer.testing import CliRunner, Result

from iap_authz.adapters.keys.file import create_key_file
from iap_authz.adapters.keys.index_key import create_index_key
from iap_authz.adapters.keys.vault_file import add_vault_key, create_vault_file, load_vault_keys
from iap_authz.cli import doctor as verb
from iap_authz.cli import make_app
from iap_authz.records.vault_file import VaultPrivateKey, render_vault_file
from tests.fakes.softhsm import make_soft_token

ORIGIN = "audit.example.com/orders"
VAULT = "vault: {key_file: vault.key, index_key_file: index.key}"
POLICY = "kind: Policy\nname: p\nroutes:\n- {name: r, match: {paths: ['/a']}, durability: journal}\n"


def run(*arguments: object) -> Result:
    words = ["doctor", *(str(one) for one in arguments)]
    return CliRunner().invoke(make_app(["doctor"]), words, env={"COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"})


def checks(*configs: Path) -> dict[str, tuple[str, str]]:
    """Health and message by name of the check."""
    words = [word for config in configs for word in ("-c", config)]
    report = json.loads(run(*words, "--json").stdout)
    found = {one["check"]: (one["health"], one["message"]) for one in report["checks"]}
    assert report["holds"] is not any(health_ == "fail" for health_, _ in found.values())
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log's configuration in which all is well, but that nothing is served."""
    key = create_key_file(tmp_path / "log.key", ORIGIN)
    (tmp_path / "log.pub").write_text(key.render())
    digest = sha256(b"token").hexdigest()
    (tmp_path / "enrolment.yaml").write_text(f"tokens:\n- {{name: tests, sha256: {digest}}}\n")
    (tmp_path / "access.yaml").write_text(f"tokens:\n- {{name: alice, roles: [investigator], sha256: {digest}}}\n")
    (tmp_path / "vault.pub").write_text(create_vault_file(tmp_path / "vault.key").render())
    create_index_key(tmp_path / "index.key")
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "head").mkdir(mode=0o700)
    path = tmp_path / "log.yaml"
    path.write_text(
        f"kind: Log\norigin: {ORIGIN}\nkey_file: log.key\ndirectory: store\nhead_file: head/head.sqlite\n"
        "listen: unix:log.sock\nenrolment_file: enrolment.yaml\n"
        f"{VAULT}\nprivacy: {{access_file: access.yaml}}\n"
    )
    return path


@pytest.fixture
def sidecar(log: Path) -> Path:
    folder = log.parent
    (folder / "token").write_text("token")
    (folder / "token").chmod(0o600)
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "journal").mkdir(mode=0o700)
    path = folder / "sidecar.yaml"
    path.write_text(
        f"kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: {ORIGIN}\npolicies: [policy.yaml]\n"
        f"journal: {{directory: journal, bound: 4MiB}}\nseal: {{vault_key: {(folder / 'vault.pub').read_text()}}}\n"
        f"log: {{address: 'unix:log.sock', verifier_key: '{(folder / 'log.pub').read_text()}',"
        " enrolment_token_file: token}\n"
    )
    return path


@pytest.fixture
def served(log: Path) -> Iterator[health.HealthServicer]:
    """gRPC health on the log's socket."""
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{log.parent / 'log.sock'}")
    server.start()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    yield servicer
    server.stop(None).wait()


def test_this_machine_is_fit() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    names = ("python", "protobuf", "event loop", "clock", "monotonic clock")
    assert [line.split(maxsplit=1)[1] for line in result.output.splitlines()[:5]] == list(names)
    assert all(line.startswith("ok") for line in result.output.splitlines()[:5])


def test_all_is_well(log: Path, sidecar: Path, served: health.HealthServicer) -> None:
    del served
    found = checks(log, sidecar)
    places = ("sync in", "space in", "mode of")  # what the machine's own disk is like is not this test's matter
    troubled = {name: said for name, said in found.items() if said[0] != "ok" and not name.startswith(places)}
    assert troubled.keys() <= {"demo's Envoy"}
    assert {"key file", "enrolment file", "enrolment token", "audit log", "source policy"} <= found.keys()
    assert {"vault", "vault key's age", "index key", "access file", "seal"} <= found.keys()


@pytest.mark.parametrize("year", [1970, 2025, 2100, 2262])
def test_a_clock_that_cannot_be_right_fails(year: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, _: object = None) -> datetime:  # type: ignore[override]
            return datetime(year, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(verb, "datetime", Clock)
    result = run()
    assert result.exit_code == 1
    assert f"clock: got {year}-01-01" in result.output
    assert "run NTP" in result.output


def test_a_slow_protobuf_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_implementation, "Type", lambda: "python")
    assert "fail  protobuf: got the python implementation, want upb" in run().output


SECRETS = {"log.key": "key file", "token": "enrolment token", "vault.key": "vault", "index.key": "index key"}
FILES = SECRETS | {"enrolment.yaml": "enrolment file", "access.yaml": "access file"}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_others_may_read_fails_with_the_fix(name: str, log: Path, sidecar: Path) -> None:
    (log.parent / name).chmod(0o644)
    health_, message = checks(log, sidecar)[SECRETS[name]]
    assert (health_, f"chmod 600 {log.parent / name}" in message) == ("fail", True)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_fails(name: str, log: Path, sidecar: Path) -> None:
    (log.parent / name).unlink()
    health_, message = checks(log, sidecar)[FILES[name]]
    assert (health_, "No such file" in message) == ("fail", True)


def test_a_key_of_another_name_fails(log: Path) -> None:
    (log.parent / "log.key").unlink()
    create_key_file(log.parent / "log.key", "audit.example.com/other")
    assert checks(log)["key file"] == ("fail", f"key_file: got a key named audit.example.com/other, want {ORIGIN}")


@pytest.mark.parametrize("content", ["tokens: [{name: a}]\n", "tokens:\n- {name: a, sha256: AB}\n", "- 1\n", ""])
def test_an_enrolment_file_that_the_log_would_refuse_fails(content: str, log: Path) -> None:
    (log.parent / "enrolment.yaml").write_text(content)
    assert checks(log)["enrolment file"][0] == "fail"


@pytest.mark.parametrize(("days", "health_"), [(0, "ok"), (30, "ok"), (31, "warn"), (400, "warn")])
def test_s7_a_vault_key_older_than_30_days_is_a_warning(log: Path, days: int, health_: str) -> None:
    path = log.parent / "vault.key"
    made = datetime.now(UTC).date() - timedelta(days=days)
    aged = [VaultPrivateKey(epoch=key.epoch, created=made, secret=key.secret) for key in load_vault_keys(path)]
    path.write_bytes(render_vault_file(aged))
    found, message = checks(log)["vault key's age"]
    assert (found, f"`iap-authz keys rotate {path}`, then restart the log" in message) == (health_, health_ == "warn")
    add_vault_key(path)
    assert checks(log)["vault key's age"] == ("ok", "")


def test_a_vault_file_that_is_none_fails_and_is_not_quoted(log: Path) -> None:
    (log.parent / "vault.key").write_text("PRIVATE+VAULT+1+2026-01-31+c2VjcmV0\n")
    health_, message = checks(log)["vault"]
    assert (health_, "c2VjcmV0" in message) == ("fail", False)


def test_a_vault_on_a_token(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (log.parent / "soft").mkdir()
    token = make_soft_token(log.parent / "soft", monkeypatch)
    place = token.place
    section = f"module: {place.module}, token: {place.token}, label: {place.label}, pin_file: {place.pin_file}"
    log.write_text(log.read_text().replace(VAULT, f"vault: {{pkcs11: {{{section}}}, index_key_file: index.key}}"))
    health_, message = checks(log)["vault"]
    assert (health_, "make one (`iap-authz keys new vault`)" in message) == ("fail", True)
    token.make_keys(1)
    found = checks(log)
    assert (found["vault"], found["vault key's age"]) == (("ok", ""), ("ok", ""))
    token.delete("vault-1")
    token.make_by_hand("vault-2", id=b"2+2020-01-31")
    health_, message = checks(log)["vault key's age"]
    assert (health_, "`iap-authz keys new vault --pkcs11-module ...`" in message) == ("warn", True)
    place.pin_file.write_text("wrong-pin")
    health_, message = checks(log)["vault"]
    assert (health_, "does not take this PIN" in message, "wrong-pin" in message) == ("fail", True, False)


def test_personal_data_in_the_open_is_a_warning(log: Path, sidecar: Path) -> None:
    log.write_text(log.read_text().replace(VAULT, "vault: none"))
    sidecar.write_text(re.sub(r"seal: \{.*\}\n", "seal: none\n", sidecar.read_text()))
    found = checks(log, sidecar)
    assert [found[name][0] for name in ("vault", "seal")] == ["warn", "warn"]
    assert "index key" not in found


def test_an_access_file_that_the_log_would_refuse_fails_and_none_is_a_warning(log: Path) -> None:
    (log.parent / "access.yaml").write_text("tokens:\n- {name: a, roles: [root], sha256: ab}\n")
    health_, message = checks(log)["access file"]
    assert (health_, "'root'" in message) == ("fail", True)
    log.write_text(log.read_text().replace("privacy: {access_file: access.yaml}\n", ""))
    health_, message = checks(log)["access file"]
    assert (health_, "nobody may open" in message) == ("warn", True)


def test_a_configuration_that_the_service_would_refuse_fails(log: Path, tmp_path: Path) -> None:
    log.write_text(log.read_text().replace("directory", "directori"))
    health_, message = checks(log)[str(log)]
    assert (health_, "directori" in message) == ("fail", True)
    missing = tmp_path / "none.yaml"
    assert checks(missing)[str(missing)] == ("fail", "cannot be read: No such file or directory")


def test_the_key_of_another_log_fails(sidecar: Path) -> None:
    sidecar.write_text(sidecar.read_text().replace(f"log_origin: {ORIGIN}", "log_origin: audit.example.com/other"))
    health_, message = checks(sidecar)[str(sidecar)]
    assert (health_, "verifier_key" in message) == ("fail", True)


@pytest.mark.parametrize("kind", ["kind: 'Log'", 'kind: "Log"', "# kind: Sidecar\nkind: Log", "kind:   Log # kind"])
def test_the_kind_of_a_file_is_what_it_says(kind: str, log: Path) -> None:
    log.write_text(log.read_text().replace("kind: Log", kind))
    assert checks(log)[str(log)] == ("ok", "")


def test_a_policy_that_does_not_compile_fails(sidecar: Path) -> None:
    (sidecar.parent / "policy.yaml").write_text(POLICY.replace("routes:", "routs:"))
    failed = [name for name, (health_, _) in checks(sidecar).items() if health_ == "fail"]
    assert failed == ["source policy"]


def test_a_source_that_is_missing_is_a_warning(sidecar: Path) -> None:
    """The service starts without it, and says so in every fact that needed it."""
    sidecar.write_text(sidecar.read_text() + "device: {inventory_file: none.json}\n")
    assert checks(sidecar)["source inventory"][0] == "warn"


def test_a_key_set_without_a_key_is_a_warning(sidecar: Path) -> None:
    (sidecar.parent / "jwks.json").write_text('{"keys": []}')
    issuer = "{name: corp, issuer: 'https://i.example', audiences: [a], algorithms: [RS256], jwks_file: jwks.json}"
    sidecar.write_text(f"{sidecar.read_text()}identity: {{issuers: [{issuer}]}}\n")
    found = checks(sidecar)
    assert found["source keys:corp"] == ("ok", "")
    health_, message = found["keys of corp"]
    assert (health_, message.startswith("got no usable key, want at least one")) == ("warn", True)


def test_a_secret_of_a_source_that_is_missing_is_reported_beside_all_else(sidecar: Path) -> None:
    sidecar.write_text(f"{sidecar.read_text()}identity: {{api_keys: {{file: k, pepper_file: none}}}}\n")
    found = checks(sidecar)
    assert found["sources"][0] == "fail"
    assert "none" in found["sources"][1]
    assert {"python", "audit log", "enrolment token"} <= found.keys()


def test_nobody_listens(sidecar: Path) -> None:
    health_, message = checks(sidecar)["audit log"]
    assert (health_, "is `iap-authz serve log` running?" in message) == ("warn", True)


def test_a_log_that_does_not_serve_is_a_warning(sidecar: Path, served: health.HealthServicer) -> None:
    served.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_, message = checks(sidecar)["audit log"]
    assert (health_, "is not serving" in message) == ("warn", True)


def test_something_else_at_the_address_is_a_warning(sidecar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "CONNECT_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(sidecar.parent / "log.sock"))
        listening.listen()
        health_, message = checks(sidecar)["audit log"]
    assert (health_, "does not answer gRPC" in message) == ("warn", True)


def test_no_log_at_all_is_a_warning(sidecar: Path) -> None:
    sidecar.write_text(
        "".join(line for line in sidecar.read_text().splitlines(keepends=True) if not line.startswith("log:"))
    )
    health_, message = checks(sidecar)["audit log"]
    assert (health_, "nothing trims the journal" in message) == ("warn", True)


def test_a_head_beside_the_tiles_is_a_warning(log: Path) -> None:
    log.write_text(log.read_text().replace("head_file: head/head.sqlite\n", ""))
    assert checks(log)["head store"][0] == "warn"


def test_folders_that_others_may_look_into_are_a_warning(log: Path) -> None:
    (log.parent / "store").chmod(0o755)
    health_, message = checks(log)[f"mode of {log.parent / 'store'}"]
    assert (health_, f"chmod 700 {log.parent / 'store'}" in message) == ("warn", True)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "cifs", "9p"])
def test_a_network_file_system_fails(kind: str, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "_file_system", lambda _: kind)
    assert checks(log)[f"file system of {log.parent / 'store'}"] == ("fail", f"got {kind}, want a local disk")


def test_a_slow_sync_is_a_warning_and_one_that_fails_a_failure(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"sync in {log.parent / 'store'}"
    monkeypatch.setattr(verb, "_sync_seconds", lambda _: 0.5)
    assert checks(log)[name][0] == "warn"

    def fail(_: int) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.undo()
    monkeypatch.setattr(os, "fdatasync", fail)
    health_, message = checks(log)[name]
    assert (health_, "Read-only file system" in message) == ("fail", True)


def test_little_space_is_a_warning(sidecar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"space in {sidecar.parent / 'journal'}"
    assert checks(sidecar)[name][0] == "ok"
    full = os.statvfs_result((4096, 4096, 10, 10, 10, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    health_, message = checks(sidecar)[name]
    assert (health_, "got 40960 bytes free" in message) == ("warn", True)


def test_nothing_is_changed(log: Path, sidecar: Path) -> None:
    (log.parent / "store").rmdir()
    before = sorted(log.parent.rglob("*"))
    checks(log, sidecar)
    assert sorted(log.parent.rglob("*")) == before


def test_no_secret_is_shown(log: Path, sidecar: Path) -> None:
    plus = {"log.key": 4, "vault.key": 4, "index.key": 1}
    secrets = [(log.parent / name).read_text().split("+", count)[-1].strip() for name, count in plus.items()]
    (log.parent / "log.key").write_text((log.parent / "log.key").read_text().replace(ORIGIN, "x"))
    for key in (log.parent / "vault.key", log.parent / "index.key"):
        key.write_text(key.read_text().replace("+", "-", 1))
    output = run("-c", log, "-c", sidecar).output
    assert output.count("fail ") >= 3
    assert not any(secret[:12] in output for secret in secrets)
    assert not re.search(r"PRIVATE.(KEY.x|VAULT.1)", output)
