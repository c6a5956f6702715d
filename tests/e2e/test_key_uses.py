# SPDX-License-Identifier: Apache-2.0
"""When API keys were last used, as two runs of a real sidecar process note it and a command shows it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from iap_authz.adapters.keys.pepper import create_pepper
from iap_authz.key_use_wiring import USES_FILE_NAME
from iap_authz.key_wiring import MadeApiKey, make_api_key
from tests.fakes.checks import check_request

ROOT = Path(__file__).resolve().parents[2]
CHECK = "/envoy.service.auth.v3.Authorization/Check"
READY_SECONDS = 30.0
"""A guard against a process that never answers; nothing is measured by it."""

POLICY = """\
kind: Policy
name: p
routes:
- {name: all, match: {paths: ["/**"]}, allow: [{id: known, when: 'request.path == "/open" && identity.subject != ""'}]}
"""


def command(*arguments: str | Path) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "iap_authz", *(str(one) for one in arguments)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def configure(folder: Path, keys: Sequence[MadeApiKey], *, revoked: str) -> Path:
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "keys.json").write_text(json.dumps({"keys": [key.entry for key in keys]}))
    (folder / "revoked.json").write_text(json.dumps({"revision": 1, "revoked": [{"api_key": revoked}]}))
    (folder / "sidecar.yaml").write_text(
        "kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: x\njournal: {directory: journal}\nseal: none\n"
        "policies: [policy.yaml]\nidentity:\n  api_keys: {file: keys.json, pepper_file: pepper}\n"
        "  revocations: {file: revoked.json}\n"
    )
    return folder / "sidecar.yaml"


@contextmanager
def serving(config: Path) -> Iterator["grpc.UnaryUnaryMultiCallable[bytes, bytes]"]:
    """A sidecar process; ended by SIGTERM, and well."""
    process, socket = command("serve", "sidecar", "-c", config), config.with_name("authz.sock")
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not socket.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the sidecar does not answer"
            time.sleep(0.02)
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            yield channel.unary_unary(CHECK)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=READY_SECONDS)
        assert process.returncode == 0, said
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ask(call: "grpc.UnaryUnaryMultiCallable[bytes, bytes]", key: str, path: str = "/open") -> int:
    request = check_request(path=path, headers=[("x-api-key", key)]).SerializeToString()
    answer = external_auth_pb2.CheckResponse.FromString(call(request, timeout=READY_SECONDS))
    return 200 if answer.status.code == 0 else int(answer.denied_response.status.code)


def last_uses(config: Path) -> dict[str, str | None]:
    output, said = (process := command("keys", "used", config, "--json")).communicate(timeout=READY_SECONDS)
    assert process.returncode == 0, said
    found = json.loads(output)
    assert found["noted_since"]
    return {key["name"]: key["last_used"] for key in found["keys"]}


@pytest.mark.parametrize("broken", [False, True], ids=["written", "the file cannot be written"])
def test_uses_outlive_the_process_and_a_file_that_cannot_be_written_refuses_nobody(
    tmp_path: Path, *, broken: bool
) -> None:
    create_pepper(tmp_path / "pepper")
    names = ("asked", "refused", "revoked", "idle")
    asked, refused, revoked, idle = (
        make_api_key(tmp_path / "pepper", name=name, subject=name, scopes=(), groups=(), lifetime=timedelta(days=1))
        for name in names
    )
    config = configure(tmp_path, (asked, refused, revoked, idle), revoked=revoked.text.split("_")[1])
    uses = tmp_path / "journal" / USES_FILE_NAME
    if broken:
        uses.mkdir(parents=True)
    with serving(config) as call:
        assert ask(call, asked.text) == 200
        assert ask(call, revoked.text) == 401
        assert ask(call, idle.text[:-1] + ("0" if idle.text[-1] != "0" else "1")) == 401
    if broken:
        assert list(uses.iterdir()) == []
        return
    first = last_uses(config)
    assert first == {"asked": first["asked"], "refused": None, "revoked": None, "idle": None}
    assert first["asked"]
    with serving(config) as call:
        assert ask(call, refused.text, "/closed") == 403, "a good key, whatever the policy says"
    second = last_uses(config)
    assert second["asked"] == first["asked"], "kept over a restart"
    assert second["refused"]
    content = uses.read_text()
    assert not any(key.text[-64:] in content for key in (asked, refused))
    assert uses.stat().st_mode & 0o777 == 0o600
