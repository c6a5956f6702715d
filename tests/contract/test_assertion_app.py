# SPDX-License-Identifier: Apache-2.0
"""examples/assertion_app.py as a user runs it, with the keys of a real endpoint: what it believes, and what not."""

import asyncio
import base64
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.http.server import KeySetServer
from iap_authz.adapters.keys.assertion import MemoryAssertionKey
from iap_authz.facts.assertion import published_key
from iap_authz.facts.encoding import render_base64url
from iap_authz.model.decision import AssertionTerms, Decision
from iap_authz.model.reason import Reason, Verdict
from iap_authz.ports import Answer
from iap_authz.sidecar.assertions import Assertions, AssertionSettings
from tests.fakes.clock import ManualClock

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "assertion_app.py"
LINES_MAX = 100
ISSUER, HOST = "https://iap.example.com", "orders.example.com"
ROTATION_SECONDS = 86_400.0


@dataclass(kw_only=True)
class World:
    """A sidecar's assertions and the application that gets them."""

    assertions: Assertions
    clock: ManualClock
    port: int

    def mint(self, terms: AssertionTerms | None = None, *, path: str = "/api/orders", query: str = "") -> str:
        facts = facts_pb2.Facts()
        facts.identity.state = facts.request.state = facts_pb2.PRESENT
        facts.identity.subject, facts.identity.issuer = "alice", "https://login.example.com/"
        facts.identity.groups.append("eng")
        facts.request.method, facts.request.host = "GET", HOST
        facts.request.path, facts.request.query = path, query
        decision = Decision(
            verdict=Verdict.ALLOW, reason=Reason.ALLOWED, route="api", assertion=terms or AssertionTerms()
        )
        return self.assertions.mint(Answer(decision=decision, audit_id="ab" * 32), facts)

    async def ask(self, *assertions: str, target: str = "/api/orders", host: str = HOST) -> tuple[int, Any]:
        """Status and body that the application answers with."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"GET {target} HTTP/1.0", f"Host: {host}", *(f"x-iap-assertion: {one}" for one in assertions), "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split(b" ")[1]), json.loads(body)


@contextmanager
def running_app(keys_port: int) -> Iterator[int]:
    """The script in a process of its own. Yields its port."""
    url = f"http://127.0.0.1:{keys_port}/.well-known/jwks.json"
    command = [sys.executable, str(SCRIPT), "0", url, ISSUER, "orders"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    clock = ManualClock(datetime.now(UTC))
    settings = AssertionSettings(issuer=ISSUER, audience="orders", rotation_seconds=ROTATION_SECONDS)
    assertions = Assertions(settings, make_key=MemoryAssertionKey, clock=clock)
    server = KeySetServer(assertions, address="127.0.0.1:0")
    keys_port = await server.start()
    try:
        with running_app(keys_port) as port:
            yield World(assertions=assertions, clock=clock, port=port)
    finally:
        await server.stop()


def twisted(assertion: str, header: dict[str, object], claims: dict[str, object]) -> str:
    """The same with other members, and the signature that it had."""
    head, body, signature = assertion.split(".")
    parts = ((head, header), (body, claims))
    texts = [json.loads(base64.urlsafe_b64decode(text + "==")) | changes for text, changes in parts]
    return ".".join([*(render_base64url(json.dumps(each).encode()) for each in texts), signature])


def test_what_it_believes() -> None:
    async def test() -> None:
        async with world() as made:
            assert await made.ask(made.mint()) == (200, {"who": "alice", "groups": ["eng"]})
            assert (await made.ask(made.mint(), target="/api/orders?"))[0] == 200
            assert (await made.ask(made.mint(query="a=1&b"), target="/api/orders?a=1&b"))[0] == 200
            for host in ("ORDERS.example.com", f"{HOST}:443", f"{HOST}.", f"{HOST}.:80"):
                assert (await made.ask(made.mint(), host=host))[0] == 200

    asyncio.run(test())


REFUSED: Mapping[str, tuple[str, Callable[[World], Sequence[str]]]] = {
    "none": ("not one", lambda _: []),
    "two": ("not one", lambda made: [made.mint(), made.mint()]),
    "rubbish": ("not one", lambda _: ["a.b.c"]),
    "another audience": ("not for this application", lambda made: [made.mint(AssertionTerms(audience="billing"))]),
    "no binding": ("not for this application", lambda made: [made.mint(AssertionTerms(request_binding=False))]),
    "another path": ("not for this request", lambda made: [made.mint(path="/api/other")]),
    "another query": ("not for this request", lambda made: [made.mint(query="id=2")]),
    "no algorithm": ("another way", lambda made: [twisted(made.mint(), {"alg": "none"}, {})]),
    "another algorithm": ("another way", lambda made: [twisted(made.mint(), {"alg": "HS256"}, {})]),
    "another subject": ("not one", lambda made: [twisted(made.mint(), {}, {"sub": "root"})]),
    "no signature": ("another way", lambda made: [made.mint().rpartition(".")[0] + "."]),
    "another key": ("unknown key", lambda made: [twisted(made.mint(), {"kid": "nobody"}, {})]),
    "its own key": ("unknown key", lambda _: [forged()]),
    "list for claims": (
        "not one",
        lambda made: [".".join([made.mint().split(".")[0], "W10", made.mint().split(".")[2]])],
    ),
}


def forged() -> str:
    """By a key that is not published, with its right name and a copy of it in the header."""
    key = MemoryAssertionKey()
    published = published_key(key.point)
    jwk = {"kty": "EC", "crv": "P-256", "x": published.x, "y": published.y}
    header = {"alg": "ES256", "typ": "JWT", "kid": published.kid, "jwk": jwk}
    head, body = (render_base64url(json.dumps(each).encode()) for each in (header, {"sub": "root"}))
    return f"{head}.{body}.{render_base64url(key.sign(f'{head}.{body}'.encode()))}"


def test_what_it_does_not_believe() -> None:
    async def test() -> None:
        async with world() as made:
            assert (await made.ask(made.mint()))[0] == 200
            for name, (why, make) in REFUSED.items():
                status, body = await made.ask(*make(made))
                assert (name, status, body.keys()) == (name, 403, {"refused"})
                assert why in body["refused"], name
            status, body = await made.ask(made.mint(), host="other.example.com")
            assert (status, body) == (403, {"refused": "not for this request"})

    asyncio.run(test())


@pytest.mark.parametrize("seconds", [-66, 6, 3_600])
def test_an_assertion_of_another_time_is_refused(seconds: int) -> None:
    async def test() -> None:
        async with world() as made:
            made.clock._now += timedelta(seconds=seconds)  # noqa: SLF001 -- the sidecar's clock is wrong
            status, body = await made.ask(made.mint())
            assert (status, body) == (403, {"refused": "not at this time"})

    asyncio.run(test())


def test_it_goes_on_over_a_rotation_with_the_keys_it_has() -> None:
    async def test() -> None:
        async with world() as made:
            before = made.mint()
            assert (await made.ask(before))[0] == 200
            made.clock._monotonic += ROTATION_SECONDS  # noqa: SLF001 -- the wall stands still, so that nothing expires
            made.assertions.turn()
            after = made.mint()
            assert after.split(".")[0] != before.split(".")[0]
            assert [(await made.ask(one))[0] for one in (before, after)] == [200, 200]

    asyncio.run(test())


def test_it_is_short_and_has_none_of_our_code() -> None:
    source = SCRIPT.read_text()
    assert len(source.splitlines()) <= LINES_MAX
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}
    assert "iap_authz" not in source
