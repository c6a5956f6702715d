# SPDX-License-Identifier: Apache-2.0
"""A sidecar whose credentials are revoked: its files, ways to run and ask it, how long an answer takes to change."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz.adapters.keys.pepper import create_pepper
from iap_authz.config import load_config
from iap_authz.demo.processes import Running, running
from iap_authz.key_wiring import make_api_key
from iap_authz.model.reason import Reason
from iap_authz.wiring import SidecarProcess
from tests.fakes.checks import check_request
from tests.fakes.journal import ORIGIN
from tests.fakes.tokens import AUDIENCE, ISSUER, claims, forge, jwk, rsa_key

CHECK = "/envoy.service.auth.v3.Authorization/Check"
BOUND_SECONDS = 5.0
"""From the write to the first refusal, with the default `refresh_interval`."""

POLICY = """\
kind: Policy
name: p
routes:
- {name: r, match: {paths: ["/closed"]}, allow: [{id: known, when: 'identity.subject != ""'}]}
- {name: o, match: {paths: ["/open"]}, allow: [{id: all, when: 'true'}]}
"""

Headers = Sequence[tuple[str, str]]
Ask = Callable[..., Awaitable[tuple[int, str]]]


def configure(folder: Path, *, more: str = "", max_stale: str = "1h", kept: str = "file: revoked.json") -> str:
    """The files of a sidecar whose revocations are `kept` there; returns the text of an API key that it takes."""
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk(rsa_key("one"), kid="one")]}))
    create_pepper(folder / "pepper")
    made = make_api_key(
        folder / "pepper", name="nightly", subject="exporter", scopes=(), groups=(), lifetime=timedelta(days=1)
    )
    (folder / "keys.json").write_text(json.dumps({"keys": [made.entry]}))
    (folder / "sidecar.yaml").write_text(
        f"kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: {ORIGIN}\njournal: {{directory: journal}}\n"
        f"policies: [policy.yaml]\nseal: none\nlocation: {{client_address: peer}}\n{more}identity:\n"
        f"  issuers: [{{name: one, issuer: '{ISSUER}', audiences: ['{AUDIENCE}'], algorithms: [RS256],"
        f" jwks_file: jwks.json}}]\n  revocations: {{{kept}, max_stale: {max_stale}}}\n"
        "  api_keys: {file: keys.json, pepper_file: pepper}\n"
    )
    return made.text


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Ask]:
    """A sidecar in this process; asks it and returns the HTTP status, 200 for an allow, and the reason."""
    process = SidecarProcess(load_config(folder / "sidecar.yaml"))
    answers = asyncio.Event()
    running = asyncio.create_task(process.serve(lambda _: answers.set()))
    await asyncio.wait([running, asyncio.create_task(answers.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        async with asking(folder) as ask:
            yield ask
    finally:
        process.stop("sigterm")
        await running


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[Ask]:
    """Asks the sidecar of `folder`, which runs."""
    async with grpc.aio.insecure_channel(f"unix:{folder}/authz.sock") as channel:
        call: Callable[..., Awaitable[bytes]] = channel.unary_unary(CHECK)

        async def ask(headers: Headers, path: str = "/closed", certificate: str = "") -> tuple[int, str]:
            request = check_request(path=path, headers=headers, certificate=certificate)
            response = external_auth_pb2.CheckResponse.FromString(await call(request.SerializeToString(), timeout=20))
            reason = response.dynamic_metadata.fields["iap_authz"].struct_value.fields["reason"].string_value
            return (response.denied_response.status.code if response.status.code else 200), reason

        yield ask


async def seconds_until(ask: Ask, headers: Headers, *, want: tuple[int, str], within: float = BOUND_SECONDS) -> float:
    """How long the answer to these headers takes to become `want`; it is asked all the time, so always cached."""
    started = time.monotonic()
    while time.monotonic() - started < within:
        if await ask(headers) == want:
            return time.monotonic() - started
    pytest.fail(f"got no {want} within {within} s")


def bearer(**changed: object) -> Headers:
    now = int(time.time())
    token = forge(claims(**{"iat": now - 60, "exp": now + 600, "sid": "s", "jti": "t", **changed}))
    return [("authorization", f"Bearer {token}")]


ALLOWED = (200, Reason.ALLOWED.code)
REVOKED = (401, Reason.TOKEN_REVOKED.code)
UNDECIDED = (503, Reason.SOURCE_ERROR.code)


@contextmanager
def running_sidecar(folder: Path) -> Iterator[Running]:
    """A sidecar in a process of its own; its output is `sidecar.jsonl`."""
    command = [sys.executable, "-m", "iap_authz", "serve", "sidecar", "--config", str(folder / "sidecar.yaml")]
    output = folder / "sidecar.jsonl"
    with running("the sidecar", command, output=output, is_ready=lambda _: _serves(folder)) as process:
        yield process


def _serves(folder: Path) -> bool:
    with grpc.insecure_channel(f"unix:{folder}/authz.sock") as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)
