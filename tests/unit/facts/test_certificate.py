# SPDX-License-Identifier: Apache-2.0
"""The client's certificate: what is taken, its hash and serial, and its validity."""

from base64 import encodebytes
from contextlib import suppress
from datetime import timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import InvalidCredential
from iap_authz.facts.certificate import ClientCertificate, check_certificate_time, parse_certificate
from iap_authz.model.reason import Reason
from tests.fakes.certificates import (
    CLIENT_AUTH,
    LEAF,
    NOT_AFTER,
    NOT_BEFORE,
    der_of,
    envoy_form,
    fingerprint_of,
    make_certificate,
)

ORIGINAL_DER = der_of(make_certificate(common_name="original"))


def test_what_is_read_of_a_certificate() -> None:
    certificate = make_certificate()
    assert parse_certificate(envoy_form(certificate)) == ClientCertificate(
        sha256=fingerprint_of(certificate),
        serial="0a1b",
        not_before=NOT_BEFORE,
        not_after=NOT_AFTER,
        der=der_of(certificate),
    )


@pytest.mark.parametrize(("serial", "want"), [(1, "01"), (0xFF, "ff"), (2**158 + 5, "40" + "00" * 18 + "05")])
def test_a_serial_is_whole_bytes(serial: int, want: str) -> None:
    assert parse_certificate(envoy_form(make_certificate(serial=serial))).serial == want


@pytest.mark.parametrize(
    "extensions",
    [
        pytest.param((), id="none"),
        pytest.param((LEAF,), id="no-extended-key-usage"),
        pytest.param((CLIENT_AUTH,), id="no-basic-constraints"),
        pytest.param(
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),),
            id="server-too",
        ),
        pytest.param((x509.SubjectAlternativeName([x509.DNSName("laptop-1.example")]),), id="names"),
    ],
)
def test_a_leaf_for_clients_is_taken(extensions: tuple[x509.ExtensionType, ...]) -> None:
    certificate = make_certificate(extensions=extensions)
    assert parse_certificate(envoy_form(certificate)).sha256 == fingerprint_of(certificate)


def test_spellings_with_one_meaning_are_one_certificate() -> None:
    pem = make_certificate().public_bytes(Encoding.PEM)
    want = parse_certificate(quote(pem, safe=""))
    assert parse_certificate(quote(pem, safe="/=")) == want
    assert parse_certificate(quote(pem.rstrip(), safe="")) == want
    assert parse_certificate(quote(pem, safe="").replace("%0A", "%0a").replace("-", "%2D")) == want


def test_lines_of_76_characters_are_taken() -> None:
    der = der_of(make_certificate())
    pem = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"
    assert parse_certificate(quote(pem, safe="")).der == der


def test_both_ends_of_the_validity_are_inside() -> None:
    certificate = parse_certificate(envoy_form(make_certificate()))
    second = timedelta(seconds=1)
    for good in (NOT_BEFORE, NOT_BEFORE + second, NOT_AFTER):
        check_certificate_time(certificate, good)
    for bad, word in ((NOT_BEFORE - second, "not valid before"), (NOT_AFTER + second, "expired")):
        with pytest.raises(InvalidCredential, match=word) as caught:
            check_certificate_time(certificate, bad)
        assert caught.value.reason == Reason.BAD_CERTIFICATE


@given(st.text() | st.text(alphabet="%0AaB-=/+ \n", max_size=200))
def test_any_text_is_a_certificate_or_bad(text: str) -> None:
    with pytest.raises(InvalidCredential) as caught:
        parse_certificate(text)
    assert caught.value.reason == Reason.BAD_CERTIFICATE
    assert len(str(caught.value)) < 120


@given(st.data())
def test_a_certificate_with_one_byte_changed_never_passes_for_the_original(data: st.DataObject) -> None:
    der = bytearray(ORIGINAL_DER)
    position = data.draw(st.integers(0, len(der) - 1))
    der[position] ^= data.draw(st.integers(1, 255))
    pem = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
    with suppress(InvalidCredential):
        assert parse_certificate(quote(pem, safe="")).der == bytes(der)
