# SPDX-License-Identifier: Apache-2.0
"""Real Envoys in a row: the certificate that the front has seen is the client's; what a client writes is nobody's."""

import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.model.reason import Reason, State
from tests.fakes.certificates import envoy_form, fingerprint_of
from tests.fakes.fronted import FRONT, MALLORY, NEXT, ORDERS, Answer, Row, start_row
from tests.fakes.xfcc import element_of

XFCC = "x-forwarded-client-cert"
ROWS = {"one proxy": ("front",), "two proxies": ("front", "next")}
LAST = {"one proxy": FRONT, "two proxies": NEXT}


@pytest.fixture(scope="module", params=ROWS)
def row(request: pytest.FixtureRequest) -> Iterator[tuple[Row, str]]:
    """The running row, and the proxy that is connected to our Envoy."""
    with (
        tempfile.TemporaryDirectory(prefix="iap-") as folder,
        start_row(Path(folder), proxies=ROWS[request.param]) as up,
    ):
        yield up, LAST[request.param]


def facts_of(answer: Answer) -> facts_pb2.Facts:
    """The facts in the record of a request."""
    assert answer.record is not None, "every check has a record"
    return answer.record.open.decision.facts


def certificate_of(row: Row, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(row.authority.path(name).read_bytes())


def check_is_orders(answer: Answer, last: str) -> None:
    """The request was allowed as that of the client of the front, and the application saw no header of a proxy."""
    facts = facts_of(answer)
    assert answer.reply.status == 200
    assert (facts.identity.state, facts.identity.spiffe_id, facts.identity.source) == (State.PRESENT, ORDERS, "xfcc")
    assert (facts.device.state, facts.device.id) == (State.PRESENT, "laptop")
    assert (facts.request.forwarded_by, facts.request.principal) == (last, ORDERS)
    assert XFCC not in answer.received


def test_the_certificate_that_the_front_has_seen_is_device_and_workload(row: tuple[Row, str]) -> None:
    up, last = row
    answer = up.ask(up.front, "/orders", by=up.context("orders"))
    check_is_orders(answer, last)
    assert facts_of(answer).device.certificate_sha256 == fingerprint_of(certificate_of(up, "orders"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_is_of_the_same_client(row: tuple[Row, str], version: ssl.TLSVersion) -> None:
    up, last = row
    context = up.context("orders", version=version)
    first = up.ask(up.front, "/orders", by=context)
    again = up.ask(up.front, "/orders", by=context, session=first.session)
    assert (first.resumed, again.resumed) == (False, True)
    check_is_orders(again, last)


def test_who_shows_the_front_no_certificate_has_none(row: tuple[Row, str]) -> None:
    up, last = row
    answer = up.ask(up.front, "/anybody", by=up.context())
    facts = facts_of(answer)
    assert answer.reply.status == 200
    assert XFCC not in answer.received
    assert (facts.identity.state, facts.device.state, facts.request.forwarded_by) == (State.ABSENT, State.ABSENT, last)
    assert up.ask(up.front, "/orders", by=up.context()).reply.status == 401


@pytest.mark.parametrize(
    "forged", ["client", "client,front", "client,front,next", "two headers", "open quote", "named in connection"]
)
@pytest.mark.parametrize("certificate", ["", "mallory"])
@pytest.mark.parametrize("door", ["front", "ours"])
def test_a_forged_header_makes_nobody(row: tuple[Row, str], door: str, certificate: str, forged: str) -> None:
    up, last = row
    client, front, behind = (element_of(certificate_of(up, name)) for name in ("orders", "front", "next"))
    values = {
        "client": [client],
        "client,front": [f"{client},{front}"],
        "client,front,next": [f"{client},{front},{behind}"],
        "two headers": [client, front],
        "open quote": [f'{client},Subject="'],
        "named in connection": [client],
    }[forged]
    port = up.front if door == "front" else up.ours
    shown = [("X-Forwarded-Client-Cert", value) for value in values]
    shown += [("Connection", XFCC)] if forged == "named in connection" else []
    answer = up.ask(port, "/anybody", by=up.context(certificate), headers=shown)
    facts = facts_of(answer)
    assert answer.reply.status == 200
    assert XFCC not in answer.received
    assert facts.identity.spiffe_id == (MALLORY if certificate else "")
    assert facts.device.state == State.ABSENT
    assert facts.request.forwarded_by == (last if door == "front" else "")
    assert up.ask(port, "/orders", by=up.context(certificate), headers=shown).reply.status in (401, 403)


def test_a_name_in_a_certificate_writes_no_element(row: tuple[Row, str]) -> None:
    up, last = row
    victim = certificate_of(up, "orders")
    uri = f'{MALLORY},Hash={fingerprint_of(victim)};Cert="{envoy_form(victim)}";Subject="CN=orders";URI={ORDERS}'
    up.authority.certify("comma", uri)
    for path in ("/anybody", "/orders"):
        answer = up.ask(up.front, path, by=up.context("comma"))
        facts = facts_of(answer)
        assert answer.reply.status == 403
        assert (facts.device.state, facts.device.problem) == (State.INVALID, Reason.MALFORMED_XFCC)
        assert (facts.identity.state, facts.identity.source) == (State.INVALID, "xfcc")
        assert facts.request.forwarded_by == last
        assert facts.request.untrusted[XFCC]


def test_a_proxy_is_nobody_for_itself(row: tuple[Row, str]) -> None:
    up, last = row
    name = "front" if last == FRONT else "next"
    answer = up.ask(up.ours, "/anybody", by=up.context(name))
    facts = facts_of(answer)
    assert facts.request.forwarded_by == last
    assert facts.identity.state == (State.ABSENT if last == FRONT else State.INVALID), "fewer hops than there must be"
    assert answer.reply.status == (200 if last == FRONT else 403)


def test_a_front_that_appends_is_refused_with_what_a_client_wrote_and_works_without() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="iap-") as folder,
        start_row(Path(folder), proxies=("front",), forward="APPEND_FORWARD") as up,
    ):
        forged = element_of(certificate_of(up, "orders"))
        answer = up.ask(up.front, "/anybody", by=up.context("mallory"), headers=[(XFCC, forged)])
        assert (answer.reply.status, facts_of(answer).device.problem) == (403, Reason.MALFORMED_XFCC)
        check_is_orders(up.ask(up.front, "/orders", by=up.context("orders")), FRONT)
