# SPDX-License-Identifier: Apache-2.0
"""A sidecar as it is in production: how long a token or an API key lives after its revocation was written."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from iap_authz.adapters.keys.pepper import create_pepper
from iap_authz.config import load_config
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


class Revocations:
    """The file of revocations, replaced whole as a careful writer does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "revoked.json"
        self.revision = 0
        self.write()

    def write(self, *entries: dict[str, str]) -> None:
        self.revision += 1
        new = self.path.with_name("new")
        new.write_text(json.dumps({"revision": self.revision, "revoked": entries}))
        new.replace(self.path)


def configure(folder: Path, *, more: str = "", max_stale: str = "1h") -> str:
    """The files of a sidecar; returns the text of an API key that it takes."""
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
        f" jwks_file: jwks.json}}]\n  revocations: {{file: revoked.json, max_stale: {max_stale}}}\n"
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
        async with grpc.aio.insecure_channel(f"unix:{folder}/authz.sock") as channel:
            call: Callable[..., Awaitable[bytes]] = channel.unary_unary(CHECK)

            async def ask(headers: Headers, path: str = "/closed") -> tuple[int, str]:
                data = await call(check_request(path=path, headers=headers).SerializeToString(), timeout=20)
                response = external_auth_pb2.CheckResponse.FromString(data)
                reason = response.dynamic_metadata.fields["iap_authz"].struct_value.fields["reason"].string_value
                return (response.denied_response.status.code if response.status.code else 200), reason

            yield ask
    finally:
        process.stop("sigterm")
        await running


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


def test_from_the_write_to_the_first_refusal(tmp_path: Path) -> None:
    async def measure() -> list[float]:
        text = configure(tmp_path)
        revocations = Revocations(tmp_path)
        key, token, other = [("x-api-key", text)], bearer(), bearer(sub="bob", sid="s-2", jti="t-2")
        soon = datetime.now(UTC).isoformat()
        found = []
        async with serving(tmp_path) as ask:
            for headers, entry in (
                (token, {"issuer": ISSUER, "sub": "ada"}),
                (token, {"issuer": ISSUER, "sub": "ada", "before": soon}),
                (token, {"issuer": ISSUER, "sid": "s"}),
                (token, {"issuer": ISSUER, "jti": "t"}),
                (token, {"issuer": ISSUER, "kid": "one"}),
                (key, {"api_key": text.split("_")[1]}),
            ):
                assert [await ask(each) for each in (token, other, key)] == [ALLOWED] * 3
                revocations.write(entry)
                found.append(await seconds_until(ask, headers, want=REVOKED))
                assert await ask(headers, "/open") == REVOKED
                untouched = [each for each in (other, key) if each is not headers and "kid" not in entry]
                assert [await ask(each) for each in untouched] == [ALLOWED] * len(untouched)
                revocations.write()
                await seconds_until(ask, headers, want=ALLOWED)
        return found

    seconds = asyncio.run(measure())
    print(f"seconds from write to refusal: {seconds}")  # noqa: T201 -- shown by pytest -s
    assert max(seconds) < BOUND_SECONDS
    held = b"".join(path.read_bytes() for path in (tmp_path / "journal").rglob("*") if path.is_file())
    assert json.loads((tmp_path / "keys.json").read_text())["keys"][0]["id"].encode() in held
    assert b"iap_" not in held


def test_an_inventory_that_takes_long_holds_up_no_revocation(tmp_path: Path) -> None:
    async def measure() -> float:
        configure(tmp_path, more="device: {inventory_file: devices.yaml}\n")
        revocations, token = Revocations(tmp_path), bearer()
        top = "taken: 2026-01-31T09:00:00Z\ndevices:\n"
        (tmp_path / "devices.yaml").write_text(f"{top}- {{id: d}}\n")
        async with serving(tmp_path) as ask:
            assert await ask(token) == ALLOWED
            (tmp_path / "devices.yaml").write_text(top + "".join(f"- {{id: d-{n}}}\n" for n in range(20_000)))
            await asyncio.sleep(1.2)
            revocations.write({"issuer": ISSUER, "sub": "ada"})
            return await seconds_until(ask, token, want=REVOKED)

    assert asyncio.run(measure()) < BOUND_SECONDS


def test_a_list_that_is_gone_is_not_an_empty_one(tmp_path: Path) -> None:
    async def walk() -> None:
        text = configure(tmp_path, more="refresh_interval: 100ms\n", max_stale="500ms")
        revocations, key, token = Revocations(tmp_path), [("x-api-key", text)], bearer()
        undecided = (503, Reason.SOURCE_ERROR.code)
        async with serving(tmp_path) as ask:
            assert [await ask(each) for each in (token, key)] == [ALLOWED] * 2
            revocations.path.unlink()
            for headers in (token, key):
                await seconds_until(ask, headers, want=undecided)
            assert await ask([]) == (401, Reason.IDENTITY_ABSENT.code)
            assert await ask(token, "/open") == ALLOWED
            assert (await ask([("x-api-key", "iap_")])) == (401, Reason.BAD_API_KEY.code)
            revocations.write({"issuer": ISSUER, "sub": "ada"})
            await seconds_until(ask, token, want=REVOKED)
            assert await ask(key) == ALLOWED

    asyncio.run(walk())


def test_a_start_without_the_list_refuses_until_it_is_there(tmp_path: Path) -> None:
    async def walk() -> None:
        configure(tmp_path, more="refresh_interval: 100ms\n")
        async with serving(tmp_path) as ask:
            token = bearer()
            assert await ask(token) == (503, Reason.SOURCE_ERROR.code)
            Revocations(tmp_path)
            await seconds_until(ask, token, want=ALLOWED)

    asyncio.run(walk())
