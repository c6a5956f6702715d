# SPDX-License-Identifier: Apache-2.0
"""A sidecar as it is in production, without a log: no byte in its folder names a person, and the vault opens all."""

import asyncio
import json
import time
from pathlib import Path

import grpc.aio
from envoy.service.auth.v3 import external_auth_pb2
from typer.testing import CliRunner

from iap_authz.cli import make_app
from iap_authz.cli.journals import find_writers, inspect_folder, read_segments
from iap_authz.config import load_config
from iap_authz.records.journal_format import FrameType, read_frames
from iap_authz.records.record import audit_id, parse_record
from iap_authz.wiring import SidecarProcess
from tests.fakes.checks import check_request
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import VAULT, open_leaf
from tests.fakes.tokens import AUDIENCE, ISSUER, claims, forge, jwk, rsa_key

CHECK = "/envoy.service.auth.v3.Authorization/Check"
SUBJECT, SESSION, CLIENT, PATH = "alice-7351@example.com", "session-9427", "192.0.2.77", "/people/alice-7351"
PERSONAL = (SUBJECT, SESSION, CLIENT, PATH, "alice-7351")
POLICY = """\
kind: Policy
name: p
routes:
- {name: people, match: {paths: ["/people/**"]}, allow: [{id: known, when: 'identity.state == PRESENT'}]}
"""


def configure(folder: Path) -> Path:
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk(rsa_key("one"), kid="one")]}))
    (folder / "sidecar.yaml").write_text(
        f"kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: {ORIGIN}\njournal: {{directory: journal}}\n"
        f"policies: [policy.yaml]\nseal: {{vault_key: {VAULT.vault_key().render()}}}\n"
        f"identity: {{issuers: [{{name: one, issuer: '{ISSUER}', audiences: ['{AUDIENCE}'], algorithms: [RS256],"
        " jwks_file: jwks.json}]}\nlocation: {client_address: peer}\n"
    )
    return folder / "sidecar.yaml"


async def ask(folder: Path, token: str) -> int:
    """The gRPC status code of the check of one request."""
    headers = [("authorization", f"Bearer {token}")] if token else []
    request = check_request(path=PATH, peer=CLIENT, headers=headers)
    async with grpc.aio.insecure_channel(f"unix:{folder}/authz.sock") as channel:
        data: bytes = await channel.unary_unary(CHECK)(request.SerializeToString(), timeout=20)
    return int(external_auth_pb2.CheckResponse.FromString(data).status.code)


async def serve(folder: Path, *tokens: str) -> list[int]:
    """What a sidecar answers to a request with each of these tokens, from its start to its end."""
    process = SidecarProcess(load_config(configure(folder)))
    answers = asyncio.Event()
    serving = asyncio.create_task(process.serve(lambda _: answers.set()))
    await asyncio.wait([serving, asyncio.create_task(answers.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        return [await ask(folder, token) for token in tokens]
    finally:
        process.stop("sigterm")
        await serving


def test_nothing_in_the_folder_names_a_person_and_the_vault_opens_all(tmp_path: Path) -> None:
    now = int(time.time())
    token = forge(claims(sub=SUBJECT, sid=SESSION, iat=now - 60, exp=now + 600))
    codes = asyncio.run(serve(tmp_path, token, token, "", f"{token}x"))
    assert codes[:2] == [0, 0]
    assert 0 not in codes[2:]

    journal = tmp_path / "journal"
    held = b"".join(path.read_bytes() for path in journal.rglob("*") if path.is_file())
    assert [text for text in PERSONAL if text.encode() in held] == []

    (writer,) = find_writers(journal)
    assert inspect_folder(writer).faults == ()
    leaves, besides = [], {}
    for frame in (frame for _, segment in read_segments(writer) for frame in read_frames(segment)):
        if frame.type == FrameType.RECORD:
            leaves.append(frame.payload)
        elif frame.type == FrameType.COMPANION:
            besides[leaves[-1]] = frame.payload
    decided = [leaf for leaf in leaves if parse_record(leaf).HasField("decision")]
    assert list(besides) == decided
    opened = [open_leaf(leaf, besides[leaf]).decision.facts for leaf in decided]
    assert [facts.request.peer for facts in opened] == [CLIENT] * 4
    assert [facts.identity.subject for facts in opened] == [SUBJECT, SUBJECT, "", ""]
    for command in (["list"], ["show", audit_id(decided[0])]):
        shown = CliRunner().invoke(make_app(), ["records", *command, "--journal", str(journal), "--json"])
        assert (shown.exit_code, "sealed" in shown.stdout) == (0, True), shown.output
        assert audit_id(decided[0]) in shown.stdout

    keys = [besides[leaf][32:] for leaf in decided]
    assert keys[0] == keys[1] != keys[2] == keys[3], "one key a person, and one for nobody"
