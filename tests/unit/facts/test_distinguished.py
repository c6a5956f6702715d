# SPDX-License-Identifier: Apache-2.0
"""Distinguished names: what an operator wrote is found to be what a certificate says, and another name is not."""

import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import InvalidCredential, Malformed
from iap_authz.facts.distinguished import issuer_of, parse_name
from tests.fakes.certificates import NOT_AFTER, NOT_BEFORE, der_of, make_certificate

KEY = ec.generate_private_key(ec.SECP256R1())
SAME = "CN=Example CA,O=Example\\, Inc.,C=DE"


def issued_by(*parts: list[tuple[x509.ObjectIdentifier, str]]) -> x509.Certificate:
    """A certificate whose issuer has these parts, in the order of the certificate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of long names, which authorities have nevertheless
        issuer = x509.Name(
            x509.RelativeDistinguishedName([x509.NameAttribute(oid, text, _validate=False) for oid, text in part])
            for part in parts
        )
        builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(x509.Name([]))
        builder = builder.public_key(KEY.public_key()).serial_number(7).not_valid_before(NOT_BEFORE)
        return builder.not_valid_after(NOT_AFTER).sign(KEY, hashes.SHA256())


@pytest.mark.parametrize(
    "other",
    [
        "cn=Example CA,o=Example\\, Inc.,c=DE",
        "CN = Example CA, O = Example\\, Inc. , C = DE",
        "C=DE,O=Example\\, Inc.,CN=Example CA",
        "CN=EXAMPLE  ca,O=example\\2c inc.,C=de",
        "2.5.4.3=Example CA,2.5.4.10=Example\\, Inc.,2.5.4.6=DE",
        "CN=\uff25xample CA,O=Example\\, Inc.,C=DE",
        "CN=\\45xample CA,O=Example\\, Inc.,C=DE",
    ],
)
def test_one_name_in_many_spellings(other: str) -> None:
    assert parse_name(other) == parse_name(SAME)


@pytest.mark.parametrize(
    "other",
    [
        "CN=Example CA,O=Example\\, Inc.",
        "CN=Example CA,O=Example\\, Inc.,C=FR",
        "CN=Example CA+O=Example\\, Inc.,C=DE",
        "CN=Example CA,O=Example,C=DE",
        "CN=Example,O=Example\\, Inc.,C=DE",
        "CN=ExampleCA,O=Example\\, Inc.,C=DE",
        "OU=Example CA,O=Example\\, Inc.,C=DE",
        "CN=Example CA,CN=Example CA,O=Example\\, Inc.,C=DE",
    ],
)
def test_another_name_is_another(other: str) -> None:
    assert parse_name(other) != parse_name(SAME)


def test_parts_of_one_level_are_a_set() -> None:
    assert parse_name("CN=a+OU=b,O=c") == parse_name("OU=b+CN=a,O=c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Example CA",
        "=Example CA",
        "CN",
        "CN=a,",
        "CN=a+",
        ",CN=a",
        "CN=a,,O=b",
        'CN="Example, CA"',
        "CN=a;O=b",
        "CN=a<b",
        "CN=a\\",
        "CN=a\\x",
        "CN=\\ff",
        "CN=#0c0161",
        "CN= #0c0161",
        "fancyName=a",
        "2=a",
        "CN=a\0",
        "/C=DE/O=Example/CN=Example CA",
    ],
    ids=ascii,
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="got"):
        parse_name(text)


def test_a_certificate_has_the_name_of_its_issuer() -> None:
    organisation = [(NameOID.ORGANIZATION_NAME, "Example, Inc.")]
    made = issued_by([(NameOID.COUNTRY_NAME, "DE")], organisation, [(NameOID.COMMON_NAME, "Example CA")])
    assert issuer_of(der_of(made)) == parse_name(SAME)


def test_a_name_of_a_length_that_the_standard_does_not_allow_is_found_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = issued_by([(NameOID.COUNTRY_NAME, "DEU")], [(NameOID.COMMON_NAME, "x" * 90)])
        assert issuer_of(der_of(made)) == parse_name(f"CN={'x' * 90},C=DEU")


def test_an_issuer_that_is_no_text_is_a_bad_certificate() -> None:
    der = der_of(make_certificate(common_name="laptop-1")).replace(b"laptop-1", b"laptop\xff\xfe")
    with pytest.raises(InvalidCredential):
        issuer_of(der)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
PARTS = st.lists(
    st.lists(
        st.tuples(st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.EMAIL_ADDRESS]), TEXTS),
        min_size=1,
        max_size=2,
        unique_by=lambda part: part[0],
    ),
    min_size=1,
    max_size=3,
)


@given(PARTS)
def test_what_another_library_writes_is_read_as_what_it_wrote(
    parts: list[list[tuple[x509.ObjectIdentifier, str]]],
) -> None:
    made = issued_by(*parts)
    assert parse_name(made.issuer.rfc4514_string()) == issuer_of(der_of(made))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
def test_what_openssl_prints_as_the_manual_says_is_found(tmp_path: Path) -> None:
    made = issued_by(
        [(NameOID.COUNTRY_NAME, "DE")],
        [(NameOID.ORGANIZATION_NAME, 'B\u00fccher, "S\u00f6hne" + Co; <K\u00f6ln> #1')],
        [(NameOID.COMMON_NAME, "#1 CA"), (NameOID.EMAIL_ADDRESS, "ca@example.com")],
        [(NameOID.SERIAL_NUMBER, "42")],
    )
    (tmp_path / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "x509", "-in", "c.pem", "-noout", "-issuer", "-serial", "-nameopt", "RFC2253"]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60).stdout
    issuer, serial = said.splitlines()
    assert parse_name(issuer.removeprefix("issuer=")) == issuer_of(der_of(made))
    assert serial == "serial=07"
