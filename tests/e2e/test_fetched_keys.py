# SPDX-License-Identifier: Apache-2.0
"""Keys that are fetched from an issuer, in a sidecar as in production: no request waits for a fetch (rows 71 to 75)."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz.config import load_config
from iap_authz.ports import SOURCES_SERVICE
from iap_authz.sidecar import issuer_keys
from iap_authz.wiring import SidecarProcess
from tests.fakes.checks import check_request
from tests.fakes.idp import KNOWN_POLICY, Idp, Said, key_set, serving_idp
from tests.fakes.timers import until
from tests.fakes.tokens import AUDIENCE, claims, forge, rsa_key

CHECK = "/envoy.service.auth.v3.Authorization/Check"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
ALLOWED, INVALID_TOKEN, UNAVAILABLE = 200, 401, 503


def token(idp: Idp, kid: str, *, subject: str = "alice") -> str:
    now = int(time.time())
    key = "one" if kid == "old" else "two"
    said = claims(iss=idp.url(""), sub=subject, iat=now - 5, exp=now + 600)
    return forge(said, key=rsa_key(key), header={"kid": kid})


@pytest.fixture
def idp(tmp_path: Path) -> Iterator[Idp]:
    with serving_idp(tmp_path) as idp:
        discovery = {"issuer": idp.url(""), "jwks_uri": idp.url("/keys")}
        idp.answers["/.well-known/openid-configuration"] = Said(body=json.dumps(discovery).encode())
        idp.answers["/keys"] = Said(body=key_set("old"), etag='"1"')
        yield idp


def configure(folder: Path, idp: Idp) -> Path:
    (folder / "policy.yaml").write_text(KNOWN_POLICY)
    (folder / "sidecar.yaml").write_text(
        "kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: x\njournal: {directory: journal}\nseal: none\n"
        f"policies: [policy.yaml]\nidentity: {{issuers: [{{name: corp, issuer: '{idp.url('')}',"
        f" audiences: ['{AUDIENCE}'], algorithms: [RS256],"
        f" fetch: {{ca_file: '{idp.ca_file}', private_addresses: true}}}}]}}\n"
    )
    return folder / "sidecar.yaml"


class Client:
    def __init__(self, folder: Path) -> None:
        self.channel = grpc.aio.insecure_channel(f"unix:{folder}/authz.sock")
        self.slowest = 0.0

    async def ask(self, token: str) -> int:
        """The HTTP status that the client of the application gets."""
        request = check_request(path="/", headers=[("authorization", f"Bearer {token}")]).SerializeToString()
        began = time.monotonic()
        answer = external_auth_pb2.CheckResponse.FromString(await self.channel.unary_unary(CHECK)(request, timeout=10))
        self.slowest = max(self.slowest, time.monotonic() - began)
        return ALLOWED if answer.status.code == 0 else int(answer.denied_response.status.code)

    async def health(self, service: str = "") -> int:
        asked = health_pb2.HealthCheckRequest(service=service)
        return int((await health_pb2_grpc.HealthStub(self.channel).Check(asked, timeout=10)).status)

    async def wait_for(self, token: str, status: int) -> None:
        for _ in range(200):
            if await self.ask(token) == status:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"no {status} in time")


async def probe(folder: Path, *options: str) -> int:
    """The exit code of the command that a kubelet runs."""
    command = (sys.executable, "-m", "iap_authz", "probe", *options, f"unix:{folder}/authz.sock")
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    return await asyncio.wait_for(process.wait(), 60)


@asynccontextmanager
async def serving(folder: Path, idp: Idp) -> AsyncIterator[Client]:
    process, started = SidecarProcess(load_config(configure(folder, idp))), asyncio.Event()
    running = asyncio.create_task(process.serve(lambda _: started.set()))
    await asyncio.wait([running, asyncio.create_task(started.wait())], return_when=asyncio.FIRST_COMPLETED)
    client = Client(folder)
    try:
        yield client
    finally:
        await client.channel.close()
        process.stop("sigterm")
        await running


def test_keys_come_from_the_issuer_and_new_ones_after_a_token_that_names_them(
    tmp_path: Path, idp: Idp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "COOLDOWN_SECONDS", 0.1)

    async def test() -> None:
        async with serving(tmp_path, idp) as client:
            await client.wait_for(token(idp, "old"), ALLOWED)
            idp.answers["/keys"] = Said(body=key_set("old", "new"), etag='"2"')
            assert await client.ask(token(idp, "new")) == INVALID_TOKEN, "nobody waits for a fetch"
            await client.wait_for(token(idp, "new"), ALLOWED)
            idp.answers["/keys"] = Said(body=key_set("new"), etag='"3"')
            await client.ask(token(idp, "unknown"))
            await client.wait_for(token(idp, "old"), INVALID_TOKEN)

    asyncio.run(test())


def test_71_a_storm_of_unknown_kids_makes_one_fetch_and_no_request_wait(tmp_path: Path, idp: Idp) -> None:
    async def test() -> None:
        async with serving(tmp_path, idp) as client:
            await client.wait_for(token(idp, "old"), ALLOWED)
            asked = len(idp.asked)
            idp.answers["/keys"] = Said(slow=True)
            for number in range(300):
                assert await client.ask(token(idp, f"made-up-{number}")) == INVALID_TOKEN
                if number % 50 == 0:
                    assert await client.ask(token(idp, "old")) == ALLOWED
            assert len(idp.asked) - asked <= 2, "at most one discovery document and one key set"
            assert client.slowest < 5, "far below the 10 s of a fetch"
            idp.ended.set()

    asyncio.run(test())


def test_74_75_an_issuer_that_is_away_and_a_start_without_it(tmp_path: Path, idp: Idp) -> None:
    async def test() -> None:
        good = token(idp, "old")
        async with serving(tmp_path, idp) as client:
            await client.wait_for(good, ALLOWED)
            await until((tmp_path / "journal" / "keys-corp").exists)
        idp.answers.clear()
        async with serving(tmp_path, idp) as client:
            assert await client.ask(good) == ALLOWED
        (tmp_path / "journal" / "keys-corp").unlink()
        async with serving(tmp_path, idp) as client:
            assert await client.ask(good) == UNAVAILABLE
            assert await client.health() == SERVING, "Envoy sends its checks, and each refusal is recorded"
            assert await client.health(SOURCES_SERVICE) == NOT_SERVING, "nobody sends it requests"
            assert await probe(tmp_path, "--sources") == 1
            assert await probe(tmp_path) == 0
            discovery = {"issuer": idp.url(""), "jwks_uri": idp.url("/keys")}
            idp.answers["/.well-known/openid-configuration"] = Said(body=json.dumps(discovery).encode())
            idp.answers["/keys"] = Said(body=key_set("old"))
            await client.wait_for(good, ALLOWED)
            assert await client.health(SOURCES_SERVICE) == SERVING
            assert await probe(tmp_path, "--sources") == 0

    asyncio.run(test())
