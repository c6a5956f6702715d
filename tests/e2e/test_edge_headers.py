# SPDX-License-Identifier: Apache-2.0
"""Headers that would be believed: a client's never reach the application, the application's never reach a client.

Asserted on the bytes that the application received.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from iap_authz.demo.cases import Case
from iap_authz.demo.client import render_request
from iap_authz.demo.live import Live, Seen
from iap_authz.demo.run import canonical_header
from iap_authz.demo.upstream import FORGED_AUDIT_ID
from iap_authz.demo.world import ADDRESSES
from tests.fakes.edge import ENGINEER, NOBODY, start_edge

MARK = "written-by-the-client"

PASSED_BY_ENVOY = (
    "X-Iap-User",
    "x-iap-user",
    "X-IAP-Audit-Id",
    "x-iap-audit-id",
    "x.iap.user",
    "x-iap.user",
    "X.Iap-User",
    "x.iap.audit.id",
    "x-iap-",
    "x-iap-jwt-assertion",
    "x-team",
    "X.Team",
)
"""Spellings that HTTP allows and that some server reads as one of ours."""

REFUSED_BY_ENVOY = ("x_iap_user", "X_IAP_USER", "x-iap_user", "x_iap-audit_id", "x_team")
"""With an underscore: refused before anybody is asked."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with start_edge(tmp_path_factory.mktemp("edge")) as live:
        yield live


def check_only_ours(seen: Seen) -> None:
    """The application got one request; of each of our names one, and ours."""
    (received,) = seen.received
    assert MARK.encode() not in received.head
    ours = [
        (name, value) for name, value in received.headers if canonical_header(name).startswith(("x-iap-", "x-team"))
    ]
    assert sorted(ours) == [("x-iap-audit-id", seen.audit_id), ("x-team", "platform")]


@pytest.mark.parametrize("name", PASSED_BY_ENVOY)
def test_a_forged_header_does_not_survive_an_allow(live: Live, name: str) -> None:
    seen = live.ask(replace(ENGINEER, headers=((name, MARK),)))
    assert seen.reply.status == 200
    check_only_ours(seen)


@pytest.mark.parametrize("name", PASSED_BY_ENVOY)
def test_a_forged_header_of_a_refused_request_reaches_nobody(live: Live, name: str) -> None:
    seen = live.ask(replace(NOBODY, headers=((name, MARK),)))
    assert seen.reply.status == 401
    assert list(seen.received) == []
    assert MARK not in str(seen.reply)


@pytest.mark.parametrize("case", [ENGINEER, NOBODY], ids=("allowed", "refused"))
@pytest.mark.parametrize("name", REFUSED_BY_ENVOY)
def test_an_underscore_is_refused_before_the_check(live: Live, name: str, case: Case) -> None:
    seen = live.ask(replace(case, headers=((name, MARK),)))
    assert seen.reply.status == 400
    assert list(seen.received) == []
    assert seen.audit_id == ""


def test_many_spellings_at_once(live: Live) -> None:
    headers = tuple((name, MARK) for name in PASSED_BY_ENVOY for _ in range(3))
    check_only_ours(live.ask(replace(ENGINEER, headers=headers)))


@pytest.mark.parametrize("named", ["x-iap-audit-id", "x-team", "X-Team, x-iap-user", "authorization"])
def test_a_header_that_the_client_calls_hop_by_hop_is_still_set(live: Live, named: str) -> None:
    """RFC 9110 section 7.6.1: what Connection names is removed; not what we add, and never after we have judged it."""
    assert live.client is not None
    live.upstream.take()
    request = live.render(replace(ENGINEER, headers=(("x-iap-user", MARK),)))
    request = request.replace(b"connection: close", f"connection: close, {named}".encode())
    reply = live.client.exchange(request, address=ADDRESSES["Berlin"], device=live.world.device_file("laptop"))
    received = live.upstream.take()
    if named == "authorization":  # gone before the check: then nobody has signed in
        assert (reply.status, received) == (401, [])
    else:
        check_only_ours(Seen(case=ENGINEER, reply=reply, received=received))


def test_the_applications_own_audit_id_does_not_reach_the_client(live: Live) -> None:
    seen = live.ask(ENGINEER)
    assert len(seen.received) == 1
    assert seen.reply.values("x-iap-audit-id") == [seen.audit_id]
    assert len(bytes.fromhex(seen.audit_id)) == 32
    assert FORGED_AUDIT_ID not in str(seen.reply.headers)


def test_two_audit_ids_are_never_alike(live: Live) -> None:
    assert live.ask(ENGINEER).audit_id != live.ask(ENGINEER).audit_id


@pytest.mark.parametrize(
    "headers",
    [
        (("host", "intranet.example.com"),),
        (("content-length", "0"), ("content-length", "5")),
        (("content-length", "5"), ("transfer-encoding", "chunked")),
    ],
    ids=("two-hosts", "two-lengths", "length-and-chunks"),
)
def test_ambiguous_framing_and_hosts_reach_nobody(live: Live, headers: tuple[tuple[str, str], ...]) -> None:
    seen = live.ask(replace(ENGINEER, headers=headers))
    assert seen.reply.status in (400, 403)
    assert list(seen.received) == []


def test_a_body_passes_untouched_and_unread(live: Live) -> None:
    assert live.client is not None
    live.upstream.take()
    token = live.world.tokens["alice"]
    headers = (("Authorization", f"Bearer {token}"), ("Content-Length", "11"))
    request = render_request("POST", "/api/orders", host=ENGINEER.host, headers=headers) + b"hello\0world"
    reply = live.client.exchange(request, address=ADDRESSES["Berlin"], device=live.world.device_file("laptop"))
    (received,) = live.upstream.take()
    assert reply.status == 200
    assert received.body == b"hello\0world"
