# SPDX-License-Identifier: Apache-2.0
"""Hostile client certificates: corpus rows 150, 151, 158, 161, and their neighbours."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.errors import InvalidCredential
from iap_authz.facts.certificate import CERTIFICATE_MAX_CHARS, check_certificate_time, parse_certificate
from iap_authz.facts.device import DeviceRecord, Inventory, establish_device
from iap_authz.model.reason import Reason
from tests.fakes.certificates import (
    CLIENT_AUTH,
    NOT_BEFORE,
    der_of,
    envoy_encoded,
    envoy_form,
    fingerprint_of,
    make_certificate,
    make_weakly_signed,
    pem_of,
)

CERTIFICATE = make_certificate()
DER = der_of(CERTIFICATE)
PEM = pem_of(DER)
GOOD = envoy_encoded(PEM)
SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")
SHA1_WITH_RSA = bytes.fromhex("2a864886f70d010105")
MD5_WITH_RSA = bytes.fromhex("2a864886f70d010104")
UNKNOWN_WITH_RSA = bytes.fromhex("2a864886f70d01017f")


def loose_bits() -> bytes:
    """A good certificate with an unused bit of its last base64 digit set: another spelling of the same DER."""
    digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    ders = (der_of(make_certificate(common_name="x" * length)) for length in range(1, 64))
    der = next(der for der in ders if len(der) % 3)  # only these have unused bits
    encoded = bytearray(b64encode(der))
    last = len(encoded.rstrip(b"=")) - 1
    encoded[last] = digits[digits.index(encoded[last]) + 1]
    assert b64decode(encoded) == der
    lines = b"".join(bytes(encoded[start : start + 64]) + b"\n" for start in range(0, len(encoded), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


def leaf(*extensions: x509.ExtensionType) -> str:
    return envoy_form(make_certificate(extensions=extensions))


AUTHORITY = x509.BasicConstraints(ca=True, path_length=0)
HOSTILE: list[tuple[int, str, Callable[[], str]]] = [
    (150, "two-certificates", lambda: envoy_encoded(PEM + PEM)),
    (150, "the-leaf-and-its-issuer", lambda: envoy_encoded(PEM + pem_of(der_of(make_certificate(common_name="ca"))))),
    (150, "one-mebibyte", lambda: GOOD + "A" * 2**20),
    (150, "one-over-the-bound", lambda: "A" * (CERTIFICATE_MAX_CHARS + 1)),
    (150, "garbage-der", lambda: envoy_encoded(pem_of(b"\x30\x82" + b"\xff" * 200))),
    (150, "empty-der", lambda: envoy_encoded(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")),
    (150, "cut-der", lambda: envoy_encoded(pem_of(DER[:-1]))),
    (150, "bytes-after-the-der", lambda: envoy_encoded(pem_of(DER + b"\0"))),
    (150, "two-ders-in-one-block", lambda: envoy_encoded(pem_of(DER + DER))),
    (150, "text-before", lambda: envoy_encoded(b"subject=/CN=admin\n" + PEM)),
    (150, "text-after", lambda: envoy_encoded(PEM + b"x")),
    (150, "empty-line-after", lambda: envoy_encoded(PEM + b"\n")),
    (150, "nul-after", lambda: envoy_encoded(PEM + b"\0")),
    (150, "carriage-returns", lambda: envoy_encoded(PEM.replace(b"\n", b"\r\n"))),
    (150, "a-private-key", lambda: envoy_encoded(PEM.replace(b"CERTIFICATE", b"EC PRIVATE KEY"))),
    (150, "a-trusted-certificate", lambda: envoy_encoded(PEM.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"))),
    (150, "a-header-inside", lambda: envoy_encoded(PEM.replace(b"-----\n", b"-----\nProc-Type: 4\n\n", 1))),
    (150, "a-space-inside", lambda: envoy_encoded(PEM[:40] + b" " + PEM[40:])),
    (150, "padding-inside", lambda: envoy_encoded(PEM[:40] + b"=" + PEM[40:])),
    (150, "loose-bits", lambda: envoy_encoded(loose_bits())),
    (150, "not-encoded", PEM.decode),
    (150, "a-raw-plus", lambda: GOOD.replace("%2B", "+").replace("%20", "+")),
    (150, "encoded-twice", lambda: GOOD.replace("%", "%25")),
    (150, "a-broken-escape", lambda: GOOD.replace("%0A", "%0G", 1)),
    (150, "a-cut-escape", lambda: GOOD.removesuffix("A")),
    (150, "full-width-digits", lambda: GOOD.replace("%20", "%\uff12\uff10")),
    (150, "a-final-newline", lambda: GOOD + "\n"),
    (150, "url-safe-alphabet", lambda: envoy_encoded(PEM[:40] + b"-_" + PEM[42:])),
    (150, "a-lone-surrogate", lambda: GOOD + "\ud800"),
    (151, "xfcc-in-its-place", lambda: f'Hash={fingerprint_of(CERTIFICATE)};Cert="{GOOD}"'),
    (151, "a-hash-in-its-place", lambda: fingerprint_of(CERTIFICATE)),
    (158, "an-authority", lambda: leaf(AUTHORITY)),
    (158, "an-authority-for-clients", lambda: leaf(AUTHORITY, CLIENT_AUTH)),
    (158, "for-servers", lambda: leaf(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))),
    (158, "for-code", lambda: leaf(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]))),
    (158, "for-anything", lambda: leaf(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]))),
    (158, "sha1", lambda: envoy_encoded(pem_of(make_weakly_signed(oid_from=SHA256_WITH_RSA, oid_to=SHA1_WITH_RSA)))),
    (158, "md5", lambda: envoy_encoded(pem_of(make_weakly_signed(oid_from=SHA256_WITH_RSA, oid_to=MD5_WITH_RSA)))),
    (
        158,
        "unknown",
        lambda: envoy_encoded(pem_of(make_weakly_signed(oid_from=SHA256_WITH_RSA, oid_to=UNKNOWN_WITH_RSA))),
    ),
]


@pytest.mark.parametrize("shown", [pytest.param(make, id=f"row{row}-{name}") for row, name, make in HOSTILE])
def test_a_certificate_that_is_not_one_good_leaf_is_refused(shown: Callable[[], str]) -> None:
    text = shown()
    with pytest.raises(InvalidCredential) as caught:
        parse_certificate(text)
    assert caught.value.reason == Reason.BAD_CERTIFICATE
    assert len(str(caught.value)) < 120
    device = establish_device(
        text, None, NOT_BEFORE, max_posture_age=timedelta(days=1), max_inventory_age=timedelta(days=1)
    )
    assert (device.state, device.problem) == (facts_pb2.INVALID, reason_pb2.REASON_BAD_CERTIFICATE)
    assert parse_certificate(GOOD).der == DER


@pytest.mark.parametrize(
    "seconds", [pytest.param(-1, id="row158-not-yet-valid"), pytest.param(90 * 86_400 + 1, id="row158-expired")]
)
def test_a_certificate_outside_its_validity_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidCredential) as caught:
        check_certificate_time(parse_certificate(GOOD), NOT_BEFORE + timedelta(seconds=seconds))
    assert caught.value.reason == Reason.BAD_CERTIFICATE


def test_row161_a_reissued_certificate_is_another_device_until_it_is_bound() -> None:
    reissued = make_certificate(serial=0x0A1C)
    inventory = Inventory(
        name="corp",
        records=[DeviceRecord(id="laptop-1", certificate_sha256=(fingerprint_of(CERTIFICATE),))],
        revision=1,
        taken=NOT_BEFORE,
    )
    day = timedelta(days=1)
    device = establish_device(envoy_form(reissued), inventory, NOT_BEFORE, max_posture_age=day, max_inventory_age=day)
    assert (device.state, device.problem) == (facts_pb2.ABSENT, reason_pb2.REASON_DEVICE_UNKNOWN)
    assert device.certificate_sha256 == fingerprint_of(reissued)
    assert not device.HasField("id")
