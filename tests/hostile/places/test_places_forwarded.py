# SPDX-License-Identifier: Apache-2.0
"""A client that wants to be somebody else by `x-forwarded-client-cert`: corpus rows 145, 147, 148, 150, 151, 154.

What each attacker may do is said beside it. `front` and `ours` write what Envoy 1.40 wrote when it was measured: URIs
and names of DNS as they stand in the certificate, without quotes.
"""

from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

import pytest
from cryptography import x509

from iap_authz.facts.authorities import parse_authorities
from iap_authz.facts.forwarded import ClientCertificate, Forwarding, find_client_certificate, judge_peer
from iap_authz.facts.xfcc import XFCC_MAX_CHARS
from iap_authz.model.reason import Reason, State
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import (
    NOT_BEFORE,
    der_of,
    envoy_encoded,
    envoy_form,
    fingerprint_of,
    make_certificate,
    pem_of,
)
from tests.fakes.xfcc import element_of

NOW = NOT_BEFORE + timedelta(hours=1)
OURS = TestAuthority()
FRONT, NEXT, ADMIN, MALLORY = (f"spiffe://example.org/{name}" for name in ("front", "next", "admin", "mallory"))
DOMAINS = {"example.org": parse_authorities(OURS.pem(), "bundle.pem")}
PROXIES = frozenset({FRONT, NEXT})


def leaf(*uris: str, dns: Sequence[str] = ()) -> x509.Certificate:
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    return OURS.leaf(*names, *(x509.DNSName(name) for name in dns))


VICTIM = leaf(ADMIN)
"""Its certificate is public: everybody has seen it in a handshake. Its key is not."""
MINE = leaf(MALLORY)
FRONT_SVID, NEXT_SVID = leaf(FRONT), leaf(NEXT)
TRUE = element_of(VICTIM)


def ask(peer: x509.Certificate | None, *headers: str, hops: int = 1, principal: str = "") -> ClientCertificate:
    shown = "" if peer is None else envoy_form(peer)
    forwarding = Forwarding(proxies=PROXIES, trusted_hops=hops)
    return find_client_certificate(judge_peer(shown, principal, forwarding, DOMAINS, now=NOW), headers, forwarding)


def ours(peer: x509.Certificate, came: str = "") -> str:
    """What our Envoy makes of the header that came: it appends an element on its peer."""
    return f"{came},{element_of(peer, cert=False)}" if came else element_of(peer, cert=False)


def is_victim(found: ClientCertificate) -> bool:
    return found.certificate == envoy_form(VICTIM) or found.principal == ADMIN


def test_the_victim_itself_is_let_in_so_that_the_rest_means_something() -> None:
    assert is_victim(ask(FRONT_SVID, ours(FRONT_SVID, TRUE)))


# ---- straight at our Envoy, past the front

FORGERIES = [TRUE, f"{TRUE},{element_of(FRONT_SVID)}", f"{TRUE},{element_of(FRONT_SVID)},{element_of(NEXT_SVID)}"]


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("forged", FORGERIES)
@pytest.mark.parametrize(
    "peer", [MINE, make_certificate(), leaf(FRONT + "/"), leaf(MALLORY, FRONT), leaf(FRONT, MALLORY)]
)
def test_row_145_a_client_with_a_certificate_of_its_own_counts_as_that(
    peer: x509.Certificate, forged: str, hops: int
) -> None:
    found = ask(peer, ours(peer, forged), hops=hops)
    assert (found.certificate, found.forwarded_by) == (envoy_form(peer), "")


@pytest.mark.parametrize("forged", FORGERIES)
def test_row_151_a_client_without_a_certificate_has_none(forged: str) -> None:
    for hops in (1, 2, 3):
        assert ask(None, forged, hops=hops) == ClientCertificate(state=State.ABSENT.value)


def test_a_proxys_name_in_a_certificate_of_anybody_elses_authority_is_worth_nothing() -> None:
    false = TestAuthority().leaf(x509.UniformResourceIdentifier(FRONT))
    found = ask(false, ours(false, TRUE), principal=FRONT)
    assert (found.certificate, found.forwarded_by) == ("", "")
    assert (found.state, found.problem) == (State.INVALID, Reason.UNTRUSTED_CERTIFICATE)


# ---- through the front, which drops what came and writes an element (SANITIZE_SET)


def refused(found: ClientCertificate) -> bool:
    assert not is_victim(found)
    return found.state == State.INVALID and not found.certificate and found.problem == Reason.MALFORMED_XFCC


COMMA = f'{MALLORY},Hash={fingerprint_of(VICTIM)};Cert="{envoy_form(VICTIM)}";Subject="";URI={ADMIN}'
"""A URI that ends the element of its certificate and writes the next one."""


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(certificate, id=name)
        for name, certificate in {
            "comma-in-a-uri": leaf(COMMA),
            "comma-in-a-second-uri": leaf(MALLORY, COMMA),
            "comma-in-a-uri-twice": leaf(f"{COMMA},{TRUE}"),
            "comma-in-a-name": leaf(dns=[f"a,{TRUE}"]),
            "semicolon-in-a-uri": leaf(
                f'{MALLORY};Hash={fingerprint_of(VICTIM)};Cert="{envoy_form(VICTIM)}";URI={ADMIN}'
            ),
            "semicolon-and-another-uri": leaf(f"{MALLORY};URI={ADMIN}"),
            "semicolon-and-a-name": leaf(f"{MALLORY};DNS=admin.example"),
            "semicolon-in-a-name": leaf(MALLORY, dns=[f"a;URI={ADMIN}"]),
            "quote-in-a-uri": leaf('"'),
            "quotes-around-the-next-pairs": leaf('"', dns=['"']),
            "quote-that-is-closed-by-the-next-element": leaf(f'{MALLORY};Subject="'),
            "backslash-in-a-uri": leaf(f"{MALLORY}\\"),
            "space-in-a-uri": leaf(f"{MALLORY} "),
            "nul-in-a-uri": leaf(f"{MALLORY}\0{ADMIN}"),
            "line-end-in-a-uri": leaf(f"{MALLORY}\n"),
            "two-spiffe-ids-in-one": leaf(f"{MALLORY},URI={ADMIN}"),
        }.items()
    ],
)
@pytest.mark.parametrize("hops", [1, 2])
def test_row_147_names_in_a_certificate_write_no_elements(certificate: x509.Certificate, hops: int) -> None:
    peer, way = (FRONT_SVID, "") if hops == 1 else (NEXT_SVID, f",{element_of(FRONT_SVID)}")
    assert refused(ask(peer, ours(peer, element_of(certificate, dns=True) + way), hops=hops))
    assert not is_victim(ask(peer, ours(peer, element_of(certificate) + way), hops=hops)), "a front that says no DNS"


@pytest.mark.parametrize(
    "written",
    [
        r"CN=\"\;URI=spiffe://example.org/admin",
        r"CN=\",Hash=" + fingerprint_of(VICTIM),
        r"CN=a\\",
        r"CN=\\\"\,\"",
        f"CN={TRUE}".replace('"', r"\""),
    ],
)
def test_row_147_a_subject_stays_in_its_quotes(written: str) -> None:
    element = element_of(MINE).replace('Subject="CN=leaf"', f'Subject="{written}"')
    found = ask(FRONT_SVID, ours(FRONT_SVID, element))
    assert (found.certificate, found.principal) == (envoy_form(MINE), MALLORY)


# ---- through a proxy that is not set as it should be, or that has been talked into something


@pytest.mark.parametrize("hops", [1, 2])
def test_a_front_that_appends_to_what_the_client_wrote_lets_nothing_of_it_in(hops: int) -> None:
    peer, way = (FRONT_SVID, "") if hops == 1 else (NEXT_SVID, f",{element_of(FRONT_SVID)}")
    for forged in (TRUE, f"{TRUE},{TRUE}", f"{TRUE},{element_of(FRONT_SVID)}", 'Subject="', "By=a"):
        assert refused(ask(peer, ours(peer, f"{forged},{element_of(MINE)}{way}"), hops=hops))


def test_the_number_of_hops_is_exact() -> None:
    for hops, header, peer in (
        (1, ours(NEXT_SVID, f"{TRUE},{element_of(FRONT_SVID)}"), NEXT_SVID),
        (2, ours(FRONT_SVID, TRUE), FRONT_SVID),
        (3, ours(NEXT_SVID, f"{TRUE},{element_of(FRONT_SVID)}"), NEXT_SVID),
    ):
        assert refused(ask(peer, header, hops=hops))


def test_somebody_who_goes_straight_to_the_second_proxy_is_not_the_first() -> None:
    assert refused(ask(NEXT_SVID, ours(NEXT_SVID, element_of(MINE)), hops=2)), "without a header of its own"
    assert refused(ask(NEXT_SVID, ours(NEXT_SVID, f"{TRUE},{element_of(MINE)}"), hops=2)), "with one"
    assert refused(ask(NEXT_SVID, ours(NEXT_SVID), hops=2)), "without a certificate"


def test_two_headers_that_envoy_joined_are_elements_like_others() -> None:
    assert refused(ask(FRONT_SVID, ours(FRONT_SVID, f"{TRUE},{TRUE}")))
    assert refused(ask(FRONT_SVID, TRUE, ours(FRONT_SVID)))
    assert refused(ask(FRONT_SVID, ours(FRONT_SVID, TRUE), ours(FRONT_SVID, TRUE)))


GOOD = envoy_form(VICTIM)
ISSUER = pem_of(der_of(x509.load_pem_x509_certificate(OURS.pem())))


@pytest.mark.parametrize(
    ("cert", "reason"),
    [
        pytest.param(envoy_form(MINE), Reason.MALFORMED_XFCC, id="a-good-hash-and-another-cert"),
        pytest.param(quote(GOOD, safe=""), Reason.BAD_CERTIFICATE, id="encoded-twice"),
        pytest.param(GOOD.replace("%20", "+"), Reason.BAD_CERTIFICATE, id="form-encoding"),
        pytest.param(GOOD + GOOD, Reason.BAD_CERTIFICATE, id="row-150-two-certificates"),
        pytest.param(GOOD + envoy_encoded(ISSUER), Reason.BAD_CERTIFICATE, id="row-150-with-its-issuer"),
        pytest.param(GOOD[:-10], Reason.BAD_CERTIFICATE, id="cut"),
        pytest.param(GOOD + "%00", Reason.BAD_CERTIFICATE, id="nul"),
        pytest.param(GOOD.replace("%0A", "%0D%0A"), Reason.BAD_CERTIFICATE, id="other-line-ends"),
        pytest.param(envoy_encoded(pem_of(b"\x30\x82" + b"\xff" * 200)), Reason.BAD_CERTIFICATE, id="row-150-garbage"),
        pytest.param("A" * XFCC_MAX_CHARS, Reason.MALFORMED_XFCC, id="row-150-huge"),
        pytest.param(GOOD + "\0", Reason.MALFORMED_XFCC, id="a-raw-nul"),
        pytest.param(GOOD + '\\"', Reason.MALFORMED_XFCC, id="an-escaped-quote"),
    ],
)
def test_row_150_a_cert_is_exactly_the_one_that_its_hash_is_of(cert: str, reason: Reason) -> None:
    element = f'Hash={fingerprint_of(VICTIM)};Cert="{cert}";Subject="CN=leaf";URI={ADMIN}'
    found = ask(FRONT_SVID, ours(FRONT_SVID, element))
    assert (found.state, found.certificate, found.problem) == (State.INVALID, "", reason)


def test_row_148_a_hundred_thousand_elements() -> None:
    assert refused(ask(FRONT_SVID, ours(FRONT_SVID, ",".join(["By=a"] * 100_000))))
    assert refused(ask(FRONT_SVID, ours(FRONT_SVID, ",".join([TRUE] * 10))))


def test_row_154_two_ids_in_a_clients_certificate_are_for_the_workload_to_refuse() -> None:
    certificate = leaf(MALLORY, ADMIN)
    found = ask(FRONT_SVID, ours(FRONT_SVID, element_of(certificate)))
    assert (found.certificate, found.principal) == (envoy_form(certificate), MALLORY)


def test_a_proxy_that_calls_for_itself_is_nobody() -> None:
    assert ask(FRONT_SVID, ours(FRONT_SVID)) == ClientCertificate(forwarded_by=FRONT, state=State.ABSENT.value)
