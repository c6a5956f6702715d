# SPDX-License-Identifier: Apache-2.0
"""Whose certificate counts: a test for each row of the table in `forwarded`."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from iap_authz.facts.authorities import Authorities, parse_authorities
from iap_authz.facts.forwarded import ClientCertificate, Forwarding, find_client_certificate, judge_peer
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.model.reason import Reason, State
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import NOT_BEFORE, envoy_form, fingerprint_of, make_certificate
from tests.fakes.xfcc import element_of

NOW = NOT_BEFORE + timedelta(hours=1)
OURS, THEIRS = TestAuthority(), TestAuthority(name="theirs")
FRONT, NEXT, ORDERS = (f"spiffe://example.org/{name}" for name in ("front", "next", "orders"))
DOMAINS: Mapping[str, Authorities | None] = {
    "example.org": parse_authorities(OURS.pem(), "bundle.pem"),
    "missing.org": None,
}


def svid(spiffe_id: str, *, of: TestAuthority = OURS) -> x509.Certificate:
    return of.leaf(x509.UniformResourceIdentifier(spiffe_id))


CLIENT, FRONT_SVID, NEXT_SVID = svid(ORDERS), svid(FRONT), svid(NEXT)
LAPTOP = make_certificate()


def find(
    peer: x509.Certificate | None,
    *headers: str,
    hops: int = 1,
    principal: str | None = None,
    hours: int = 1,
    proxies: frozenset[str] = frozenset({FRONT, NEXT}),
) -> ClientCertificate:
    """What is found where `peer` is connected to our Envoy, which names it as its certificate does."""
    shown = "" if peer is None else envoy_form(peer)
    forwarding = Forwarding(proxies=proxies, trusted_hops=hops)
    name, now = FRONT if principal is None else principal, NOT_BEFORE + timedelta(hours=hours)
    return find_client_certificate(judge_peer(shown, name, forwarding, DOMAINS, now=now), headers, forwarding)


def revoking(**named: object) -> RevocationList:
    ((kind, value),) = [(key, text) for key, text in named.items() if key != "before"]
    issuer = "spiffe://example.org" if kind == "sub" else ""
    before = named.get("before")
    assert before is None or isinstance(before, datetime)
    return RevocationList(entries=(Revocation(kind=Kind(kind), value=str(value), issuer=issuer, before=before),))


@pytest.mark.parametrize(
    ("revocations", "state", "problem"),
    [
        (revoking(certificate_sha256=fingerprint_of(FRONT_SVID)), State.INVALID, Reason.CERTIFICATE_REVOKED),
        (revoking(sub=FRONT), State.INVALID, Reason.CERTIFICATE_REVOKED),
        (revoking(sub=FRONT, before=NOW), State.INVALID, Reason.CERTIFICATE_REVOKED),
        (None, State.ERROR, Reason.SOURCE_ERROR),
        (revoking(sub=FRONT, before=NOT_BEFORE), State.PRESENT, None),
        (revoking(sub=NEXT), State.PRESENT, None),
        (revoking(certificate_sha256=fingerprint_of(CLIENT)), State.PRESENT, None),
    ],
    ids=["certificate", "id", "issued-before", "no-list", "issued-after", "another-id", "the-clients"],
)
def test_a_proxy_that_is_revoked_is_believed_no_more(
    revocations: RevocationList | None, state: State, problem: Reason | None
) -> None:
    forwarding = Forwarding(proxies=frozenset({FRONT}))
    header = f"{element_of(CLIENT)},{element_of(FRONT_SVID)}"
    peer = judge_peer(envoy_form(FRONT_SVID), FRONT, forwarding, DOMAINS, revocations=revocations, now=NOW)
    found = find_client_certificate(peer, (header,), forwarding)
    assert (found.state, found.problem) == (state, problem)
    assert bool(found.certificate) is (found.forwarded_by == FRONT) is (problem is None)


def by_handshake(found: ClientCertificate) -> tuple[str, str]:
    """What was found is the handshake's: returns certificate and name."""
    assert (found.forwarded_by, found.problem) == ("", None)
    assert found.state == (State.PRESENT if found.certificate else State.ABSENT)
    return found.certificate, found.principal


def refused(found: ClientCertificate, *, by: str = FRONT) -> Reason | None:
    """What was found is that a proxy's header cannot be believed: returns why."""
    assert (found.state, found.certificate, found.principal, found.forwarded_by) == (State.INVALID, "", "", by)
    return found.problem


FORGED = f"{element_of(CLIENT)},{element_of(FRONT_SVID, cert=False)}"
"""What the front would say of the client: true, but anybody can write it."""


def test_without_a_certificate_a_header_is_the_clients_own() -> None:
    assert by_handshake(find(None, FORGED, principal="")) == ("", "")


@pytest.mark.parametrize("peer", [CLIENT, LAPTOP, svid("spiffe://example.org/front/x")])
def test_a_peer_that_is_no_proxy_counts_itself(peer: x509.Certificate) -> None:
    header = f"{element_of(svid('spiffe://example.org/admin'))},{element_of(peer, cert=False)}"
    assert by_handshake(find(peer, header, principal="as-it-says")) == (envoy_form(peer), "as-it-says")


def test_a_proxy_of_another_authority_or_domain_is_refused() -> None:
    false = svid(FRONT, of=THEIRS)
    found = find(false, f"{element_of(CLIENT)},{element_of(false)}")
    assert refused(found, by="") is Reason.UNTRUSTED_CERTIFICATE
    other = "spiffe://other.org/front"
    found = find(svid(other), FORGED, principal=other, proxies=frozenset({other}))
    assert refused(found, by="") is Reason.UNTRUSTED_CERTIFICATE


@pytest.mark.parametrize("hours", [-1, 25])
def test_a_proxy_outside_the_validity_of_its_certificate_is_refused(hours: int) -> None:
    assert refused(find(FRONT_SVID, FORGED, hours=hours), by="") is Reason.BAD_CERTIFICATE


def test_a_proxy_that_envoy_names_otherwise_is_refused() -> None:
    assert refused(find(FRONT_SVID, FORGED, principal=NEXT), by="") is Reason.BAD_SPIFFE_ID
    assert find(FRONT_SVID, FORGED, principal="").forwarded_by == FRONT, "an Envoy that does not say the principal"


def test_a_certificate_that_does_not_parse_is_judged_where_it_always_was() -> None:
    forwarding = Forwarding(proxies=frozenset({FRONT}))
    peer = judge_peer("rubbish", "", forwarding, DOMAINS, now=NOW)
    assert by_handshake(find_client_certificate(peer, (FORGED,), forwarding)) == ("rubbish", "")


def test_whether_it_is_a_proxy_cannot_be_told_without_authorities() -> None:
    proxy = "spiffe://missing.org/front"
    peer = svid(proxy)
    header = f"{element_of(CLIENT)},{element_of(peer)}"
    found = find(peer, header, principal=proxy, proxies=frozenset({proxy}))
    assert found == ClientCertificate(state=State.ERROR.value, problem=Reason.NO_KEYS)
    assert by_handshake(find(svid("spiffe://missing.org/other"), header, principal="")), "and is not asked of others"


def test_the_clients_certificate_through_one_proxy() -> None:
    found = find(FRONT_SVID, FORGED)
    assert found == ClientCertificate(
        certificate=envoy_form(CLIENT), principal=ORDERS, forwarded_by=FRONT, state=State.PRESENT.value
    )


def test_the_clients_certificate_through_two_proxies() -> None:
    header = ",".join(
        (element_of(CLIENT, by=FRONT), element_of(FRONT_SVID, by=NEXT), element_of(NEXT_SVID, cert=False))
    )
    found = find(NEXT_SVID, header, hops=2, principal=NEXT)
    assert (found.certificate, found.principal, found.forwarded_by) == (envoy_form(CLIENT), ORDERS, NEXT)


@pytest.mark.parametrize(
    ("certificate", "principal"),
    [
        (OURS.leaf(x509.DNSName("b.example"), x509.DNSName("a.example")), "b.example"),
        (OURS.leaf(x509.DNSName("a.example"), x509.UniformResourceIdentifier("https://a/b")), "https://a/b"),
        (LAPTOP, "CN=laptop-1"),
        (OURS.leaf(x509.UniformResourceIdentifier("")), "CN=leaf"),
    ],
)
@pytest.mark.parametrize("dns", [False, True])
def test_the_name_is_the_one_that_envoy_would_give(certificate: x509.Certificate, principal: str, *, dns: bool) -> None:
    found = find(FRONT_SVID, f"{element_of(certificate, dns=dns)},{element_of(FRONT_SVID)}")
    assert (found.certificate, found.principal) == (envoy_form(certificate), principal)


@pytest.mark.parametrize(
    "header",
    [
        element_of(FRONT_SVID),
        f"By={FRONT},{element_of(FRONT_SVID)}",
        f'By={FRONT};Subject="";URI=,{element_of(FRONT_SVID)}',
    ],
)
def test_a_client_that_has_shown_none_to_the_proxy(header: str) -> None:
    assert find(FRONT_SVID, header) == ClientCertificate(forwarded_by=FRONT, state=State.ABSENT.value)


def test_a_client_that_has_shown_none_to_the_first_of_two_proxies() -> None:
    header = f"{element_of(FRONT_SVID)},{element_of(NEXT_SVID)}"
    found = find(NEXT_SVID, header, hops=2, principal=NEXT)
    assert found == ClientCertificate(forwarded_by=NEXT, state=State.ABSENT.value)


LAST = element_of(FRONT_SVID, cert=False)
HASH = fingerprint_of(CLIENT)


@pytest.mark.parametrize(
    ("headers", "hops"),
    [
        pytest.param((), 1, id="no-header"),
        pytest.param((FORGED, FORGED), 1, id="two-headers"),
        pytest.param(("",), 1, id="an-empty-header"),
        pytest.param((f"{FORGED};",), 1, id="does-not-parse"),
        pytest.param((f"{element_of(CLIENT)},{element_of(svid(FRONT))}",), 1, id="the-last-of-another-certificate"),
        pytest.param((f"{element_of(CLIENT)},URI={FRONT}",), 1, id="the-last-without-a-hash"),
        pytest.param((element_of(CLIENT),), 1, id="the-clients-only"),
        pytest.param((f"{LAST},{element_of(CLIENT)}",), 1, id="the-other-way-round"),
        pytest.param((f"{element_of(CLIENT)},{FORGED}",), 1, id="one-too-many"),
        pytest.param((f"{element_of(FRONT_SVID)},{FORGED}",), 1, id="one-too-many-of-a-proxy"),
        pytest.param((FORGED,), 2, id="one-between-is-the-client"),
        pytest.param((LAST,), 2, id="one-too-few"),
        pytest.param((f"{element_of(CLIENT)},{element_of(LAPTOP)},{LAST}",), 2, id="one-between-without-a-uri"),
        pytest.param(
            (f"{element_of(CLIENT)},{element_of(FRONT_SVID)};URI={NEXT},{LAST}",), 2, id="one-between-with-two"
        ),
        pytest.param((f"{element_of(CLIENT)},{element_of(CLIENT)},{LAST}",), 2, id="one-between-is-no-proxy"),
        pytest.param((f"{element_of(CLIENT, cert=False)},{LAST}",), 1, id="no-cert"),
        pytest.param((f'Subject="CN=a",{LAST}',), 1, id="a-subject-alone"),
        pytest.param((f"{element_of(CLIENT).replace(HASH, '0' * 64)},{LAST}",), 1, id="another-hash"),
        pytest.param((f"{element_of(CLIENT).replace(f'Hash={HASH};', '')},{LAST}",), 1, id="no-hash"),
        pytest.param((f"{element_of(CLIENT).replace(ORDERS, NEXT)},{LAST}",), 1, id="another-uri"),
        pytest.param((f"{element_of(CLIENT).replace(ORDERS, '')},{LAST}",), 1, id="no-uri"),
        pytest.param((f"{element_of(CLIENT)};URI={NEXT},{LAST}",), 1, id="one-more-uri"),
        pytest.param((f"{element_of(LAPTOP).replace('URI=', f'URI={ORDERS}')},{LAST}",), 1, id="a-uri-of-none"),
        pytest.param((f"{element_of(CLIENT)};DNS=admin.example,{LAST}",), 1, id="a-name-that-it-does-not-have"),
    ],
)
def test_a_header_of_a_proxy_that_does_not_agree_is_refused(headers: tuple[str, ...], hops: int) -> None:
    assert refused(find(FRONT_SVID, *headers, hops=hops)) == Reason.MALFORMED_XFCC
    assert find(FRONT_SVID, FORGED).state == State.PRESENT


def test_a_cert_that_is_no_certificate_is_a_bad_one() -> None:
    header = f'Hash={HASH};Cert="rubbish",{LAST}'
    assert refused(find(FRONT_SVID, header)) == Reason.BAD_CERTIFICATE
