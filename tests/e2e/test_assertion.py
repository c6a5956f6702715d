# SPDX-License-Identifier: Apache-2.0
"""The signed assertion through a real Envoy: what the application gets, judged by the example's own check."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iap_authz.demo.cases import Case
from iap_authz.demo.files import HOST
from iap_authz.demo.live import Live, Seen
from iap_authz.demo.run import canonical_header
from iap_authz.demo.upstream import Received
from iap_authz.demo.world import ADDRESSES
from tests.fakes.edge import ENGINEER, NOBODY, start_edge

APP = Path(__file__).resolve().parents[2] / "examples" / "assertion_app.py"
ISSUER = "https://iap.example.com"
SECTION = f"assertion: {{issuer: '{ISSUER}', audience: intranet, listen: '127.0.0.1:0'}}\n"
PUBLIC = replace(ENGINEER, target="/public/page")
"""Allowed by a route that promises no assertion."""

SPELLINGS = (
    "X-Iap-Assertion",
    "x-iap-assertion",
    "X-IAP-ASSERTION",
    "x.iap.assertion",
    "X-Iap.Assertion",
    "x-iap~assertion",
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The edge of the demonstration, with a sidecar that signs for one of its routes."""
    folder = tmp_path_factory.mktemp("edge")
    with start_edge(folder) as live:
        assert live.sidecar is not None
        live.sidecar.stop()
        with (folder / "sidecar.yaml").open("a") as file:
            file.write(SECTION)
        policy = (folder / "policy.yaml").read_text()
        assert policy.count("on_allow: {") == 1
        (folder / "policy.yaml").write_text(policy.replace("on_allow: {", "on_allow: {assertion: true, "))
        live.start(live.run_sidecar())
        yield live


@pytest.fixture(scope="module")
def app() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("assertion_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def keys(live: Live, app: Any) -> Any:
    """The keys where the sidecar says that it serves them."""
    lines = map(json.loads, (live.world.folder / "logs" / "sidecar.jsonl").read_text().splitlines())
    (port,) = [line["port"] for line in lines if line["message"] == "the keys of assertions are served"]
    return app.Keys(f"http://127.0.0.1:{port}/.well-known/jwks.json")


def given(received: Received) -> list[str]:
    """Every header of the application's request that some server reads as the assertion."""
    return [value for name, value in received.headers if canonical_header(name) == "x-iap-assertion"]


def judged(app: Any, keys: Any, received: Received, **changes: Any) -> Any:
    """The claims, as the application finds them in what it received."""
    fields = {name.lower(): value for name, value in received.headers}
    method = received.head.split(b" ")[0].decode()
    wanted = {"issuer": ISSUER, "audience": "intranet", "request": (method, fields["host"], received.target)} | changes
    return app.check(given(received), keys, **wanted)


def test_the_application_is_told_who_was_allowed_to_do_what(live: Live, app: Any, keys: Any) -> None:
    seen = live.ask(ENGINEER)
    (received,) = seen.received
    claims = judged(app, keys, received)
    assert (claims["sub"], claims["groups"], claims["device_id"]) == ("alice", ["eng"], "laptop")
    assert (claims["route"], claims["audit_id"], claims["method"]) == ("api", seen.audit_id, "GET")
    assert claims["identity_issuer"] == "https://login.example.com/"
    assert claims["exp"] - claims["iat"] == 60
    assert given(received)[0] not in str(seen.reply.headers)


@pytest.mark.parametrize(
    "target", ["/api/orders?id=1&b=%20", "/api/or%64ers", "/api//orders/", "/api/x/../orders?", "/api/a%20b"]
)
def test_it_is_bound_to_what_the_application_gets_not_to_what_the_client_wrote(
    live: Live, app: Any, keys: Any, target: str
) -> None:
    (received,) = live.ask(replace(ENGINEER, target=target)).received
    assert judged(app, keys, received)["sub"] == "alice"


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("not for this application", {"audience": "billing"}),
        ("not for this application", {"issuer": "https://login.example.com/"}),
        ("not for this request", {"request": ("POST", HOST, "/api/orders")}),
        ("not for this request", {"request": ("GET", HOST, "/api/orders?id=2")}),
        ("not for this request", {"request": ("GET", HOST, "/api/others")}),
        ("not for this request", {"request": ("GET", "other.example.com", "/api/orders")}),
    ],
)
def test_it_holds_for_nothing_else(live: Live, app: Any, keys: Any, why: str, changes: dict[str, Any]) -> None:
    (received,) = live.ask(ENGINEER).received
    with pytest.raises(app.Refused, match=why):
        judged(app, keys, received, **changes)


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_clients_own_never_takes_its_place(live: Live, app: Any, keys: Any, name: str) -> None:
    (stolen,) = given(live.ask(ENGINEER).received[0])
    forged = replace(ENGINEER, headers=((name, stolen), (name, "forged"), (name, stolen)))
    (received,) = live.ask(forged).received
    assert judged(app, keys, received)["sub"] == "alice"
    assert stolen not in given(received)
    assert b"forged" not in received.head


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_route_that_promises_none_passes_none(live: Live, name: str) -> None:
    (stolen,) = given(live.ask(ENGINEER).received[0])
    seen = live.ask(replace(PUBLIC, headers=((name, stolen),)))
    assert seen.reply.status == 200
    assert given(seen.received[0]) == []
    assert stolen.encode() not in seen.received[0].head


REFUSALS: dict[str, Case] = {
    "challenge": replace(ENGINEER, device=""),
    "nobody": NOBODY,
    "embargo": replace(ENGINEER, place="Antarctica"),
    "invalid token": replace(ENGINEER, token="forged-signature"),
    "lost device": replace(ENGINEER, device="lost-laptop"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_carries_none(live: Live, name: str) -> None:
    seen = live.ask(REFUSALS[name])
    assert seen.reply.status != 200
    assert list(seen.received) == []
    assert "assertion" not in str(seen.reply).lower()
    assert "eyJ" not in str(seen.reply)


def test_it_is_there_when_the_client_calls_it_hop_by_hop(live: Live, app: Any, keys: Any) -> None:
    """RFC 9110 section 7.6.1: what Connection names is removed, but not what we add."""
    assert live.client is not None
    live.upstream.take()
    request = live.render(ENGINEER).replace(b"connection: close", b"connection: close, x-iap-assertion")
    reply = live.client.exchange(request, address=ADDRESSES["Berlin"], device=live.world.device_file("laptop"))
    seen = Seen(case=ENGINEER, reply=reply, received=live.upstream.take())
    assert judged(app, keys, seen.received[0])["audit_id"] == seen.audit_id


def test_no_assertion_and_no_private_key_is_on_the_disk(live: Live) -> None:
    """Journal, logs of the sidecar and of Envoy, and all other files of the deployment."""
    (minted,) = given(live.ask(ENGINEER).received[0])
    head, claims, signature = (part.encode() for part in minted.split("."))
    files = [path for path in live.world.folder.rglob("*") if path.is_file()]
    assert {"sidecar.jsonl", "envoy.log"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in (head, claims, signature)), path
