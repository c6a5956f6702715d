# SPDX-License-Identifier: Apache-2.0
"""Workloads by their certificates: corpus rows 154, 155, 157, 158, and who vouches for a device's certificate."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from cryptography import x509

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Invalid, InvalidCredential, SourceUnavailable
from iap_authz.facts.authorities import AUTHORITIES_MAX, Authorities, parse_authorities
from iap_authz.facts.device import DeviceRecord, Inventory, establish_device
from iap_authz.facts.spiffe import parse_spiffe_id
from iap_authz.facts.workload import establish_workload
from iap_authz.model.reason import Reason
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import NOT_BEFORE, envoy_form, fingerprint_of, make_certificate

ID = "spiffe://example.org/ns/prod/sa/orders"
OURS, THEIRS = TestAuthority(), TestAuthority(name="theirs")
NOW = NOT_BEFORE + timedelta(hours=1)


def authorities(*of: TestAuthority) -> Authorities:
    return parse_authorities(b"".join(one.pem() for one in of), "bundle.pem")


DOMAINS: Mapping[str, Authorities | None] = {
    "example.org": authorities(OURS),
    "other.org": authorities(THEIRS),
    "missing.org": None,
}


def who(certificate: str, *, principal: str = "", hours: int = 1) -> tuple[int, int]:
    found = establish_workload(certificate, principal, DOMAINS, NOT_BEFORE + timedelta(hours=hours))
    assert found.state == facts_pb2.PRESENT or not found.subject, "nobody who was not proven has a name"
    return found.state, found.problem


def uris(*texts: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(text) for text in texts]


def test_a_workload_is_known_by_the_authorities_of_its_trust_domain() -> None:
    found = establish_workload(OURS.workload(ID), ID, DOMAINS, NOW)
    assert (found.state, found.subject, found.spiffe_id, found.kind) == (facts_pb2.PRESENT, ID, ID, "workload")
    assert (found.source, found.issuer, found.age.ToTimedelta()) == ("mtls", "spiffe://example.org", NOW - NOT_BEFORE)
    assert found.expires.ToDatetime(NOW.tzinfo) == NOT_BEFORE + timedelta(days=1)
    assert who(OURS.workload(ID)) == (facts_pb2.PRESENT, 0), "an Envoy that does not say the principal"


def test_who_shows_no_svid_is_no_workload() -> None:
    assert who("") == (facts_pb2.ABSENT, 0)
    assert who(envoy_form(make_certificate())) == (facts_pb2.ABSENT, 0)
    assert who(envoy_form(OURS.leaf(x509.DNSName("a.example.org"), *uris("https://example.org/a")))) == (
        facts_pb2.ABSENT,
        0,
    )


INVALID = facts_pb2.INVALID


@pytest.mark.parametrize(
    ("row", "certificate", "want"),
    [
        (154, envoy_form(OURS.leaf(*uris(ID, "spiffe://example.org/admin"))), (INVALID, Reason.BAD_SPIFFE_ID)),
        (154, envoy_form(OURS.leaf(*uris("https://example.org/", ID))), (INVALID, Reason.BAD_SPIFFE_ID)),
        (157, THEIRS.workload(ID), (INVALID, Reason.UNTRUSTED_CERTIFICATE)),
        (157, OURS.workload("spiffe://other.org/a"), (INVALID, Reason.UNTRUSTED_CERTIFICATE)),
        (157, OURS.workload("spiffe://unknown.org/a"), (INVALID, Reason.UNTRUSTED_CERTIFICATE)),
        (157, TestAuthority().workload(ID), (INVALID, Reason.UNTRUSTED_CERTIFICATE)),
        (157, OURS.workload("spiffe://missing.org/a"), (facts_pb2.ERROR, Reason.NO_KEYS)),
        (
            158,
            envoy_form(OURS.leaf(*uris(ID), extensions=[x509.BasicConstraints(ca=True, path_length=0)])),
            (INVALID, Reason.BAD_CERTIFICATE),
        ),
        (150, "rubbish", (INVALID, Reason.BAD_CERTIFICATE)),
    ],
)
def test_a_certificate_that_proves_nobody_is_refused_and_the_next_good_one_works(
    row: int, certificate: str, want: tuple[int, Reason]
) -> None:
    assert who(certificate) == want, row
    assert who(OURS.workload(ID)) == (facts_pb2.PRESENT, 0)


@pytest.mark.parametrize("hours", [-1, 25])
def test_158_outside_its_validity(hours: int) -> None:
    assert who(OURS.workload(ID), hours=hours) == (INVALID, Reason.BAD_CERTIFICATE)


@pytest.mark.parametrize("principal", ["spiffe://example.org/admin", f"{ID}/", "CN=orders", "orders.example.org"])
def test_what_envoy_says_must_be_what_the_certificate_says(principal: str) -> None:
    assert who(OURS.workload(ID), principal=principal) == (INVALID, Reason.BAD_SPIFFE_ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe:///path",
        "SPIFFE://example.org/a",
        "https://example.org/a",
        "spiffe://Example.org/a",
        "spiffe://example.org:443/a",
        "spiffe://user@example.org/a",
        "spiffe://example.org/",
        "spiffe://example.org/a/",
        "spiffe://example.org//a",
        "spiffe://example.org/a//b",
        "spiffe://example.org/.",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/a/..",
        "spiffe://example.org/%61",
        "spiffe://example.org/a?b",
        "spiffe://example.org/a#b",
        "spiffe://example.org/a,b",
        "spiffe://example.org/a b",
        "spiffe://example.org/a\n",
        "spiffe://example.org/a\x00",
        "spiffe://example.org/\u00e4",
        "spiffe://ex\u00e4mple.org/a",
        f"spiffe://{'a' * 256}/a",
        f"spiffe://example.org/{'a' * 2048}",
    ],
)
def test_155_an_id_has_one_spelling(text: str) -> None:
    with pytest.raises(InvalidCredential) as caught:
        parse_spiffe_id(text)
    assert caught.value.reason == Reason.BAD_SPIFFE_ID
    if text.isascii() and text:
        assert who(OURS.workload(text))[0] != facts_pb2.PRESENT


@pytest.mark.parametrize("text", ["spiffe://example.org", ID, "spiffe://a_b-c.d/x.y", "spiffe://example.org/..."])
def test_what_the_specification_allows_passes(text: str) -> None:
    assert parse_spiffe_id(text).text == text
    assert parse_spiffe_id(text).trust_domain == text.split("/")[2]


# ---- authorities


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "certificates"),
        (b"a letter", "certificates"),
        (OURS.pem()[:-40], "certificates"),
        (OURS.pem() + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "parse"),
        (OURS.pem() + TestAuthority(extensions=()).pem(), "got certificate 2, which is no authority's"),
        (
            TestAuthority(extensions=(x509.BasicConstraints(ca=False, path_length=None),)).pem(),
            "got certificate 1, which is no authority's",
        ),
        (OURS.pem() * (AUTHORITIES_MAX + 1), "want 1 to"),
    ],
)
def test_a_bundle_that_is_none_is_refused_whole(content: bytes, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_authorities(content, "bundle.pem")


def test_an_authority_that_has_expired_vouches_for_nobody() -> None:
    old = TestAuthority(not_before=NOT_BEFORE - timedelta(days=2), days=1)
    leaf = old.leaf(*uris(ID))
    domains = {"example.org": authorities(old)}
    found = establish_workload(envoy_form(leaf), "", domains, NOW)
    assert (found.state, found.problem) == (INVALID, Reason.UNTRUSTED_CERTIFICATE)


def test_two_authorities_of_one_name_are_both_tried() -> None:
    old, new = TestAuthority(), TestAuthority()
    for one in (old, new):
        found = establish_workload(one.workload(ID), "", {"example.org": authorities(old, new)}, NOW)
        assert found.state == facts_pb2.PRESENT


# ---- devices


def test_a_device_certificate_that_nobody_vouches_for_is_refused_although_the_inventory_knows_it() -> None:
    leaf, forged = OURS.leaf(x509.DNSName("laptop")), TestAuthority().leaf(x509.DNSName("laptop"))
    known = DeviceRecord(id="laptop", certificate_sha256=(fingerprint_of(leaf), fingerprint_of(forged)), managed=True)
    inventory = Inventory(name="i", records=[known], revision=None, taken=NOW)
    bundle, hour = authorities(OURS), timedelta(hours=1)

    def device(certificate: x509.Certificate, vouch: object) -> facts_pb2.Device:
        return establish_device(
            envoy_form(certificate),
            inventory,
            NOW,
            max_posture_age=hour,
            max_inventory_age=hour,
            vouch=vouch,  # type: ignore[arg-type]
        )

    def unknown(*_: object) -> None:
        raise SourceUnavailable("no authorities of devices")

    assert device(leaf, bundle.check_issued).state == facts_pb2.PRESENT
    found = device(forged, bundle.check_issued)
    assert (found.state, found.problem) == (INVALID, Reason.UNTRUSTED_CERTIFICATE)
    found = device(leaf, unknown)
    assert (found.state, found.problem) == (facts_pb2.ERROR, Reason.SOURCE_ERROR)
    assert device(forged, None).state == facts_pb2.PRESENT, "without authorities it is Envoy's word"
