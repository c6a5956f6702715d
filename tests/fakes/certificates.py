# SPDX-License-Identifier: Apache-2.0
"""Client certificates as Envoy shows them, made on the spot around one key (the key proves nothing here)."""

import functools
from base64 import encodebytes
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOT_AFTER = NOT_BEFORE + timedelta(days=90)
CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
LEAF = x509.BasicConstraints(ca=False, path_length=None)


@functools.cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_certificate(
    *,
    common_name: str = "laptop-1",
    serial: int = 0x0A1B,
    extensions: Sequence[x509.ExtensionType] = (LEAF, CLIENT_AUTH),
) -> x509.Certificate:
    """One certificate, signed by its own key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(_key(), hashes.SHA256())


def make_weakly_signed(*, oid_from: bytes, oid_to: bytes) -> bytes:
    """DER of an RSA-signed certificate that says it was signed with another algorithm (the signature is then false)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)
    der = der_of(builder.sign(key, hashes.SHA256()))
    assert der.count(oid_from) == 2
    return der.replace(oid_from, oid_to)


def pem_of(der: bytes) -> bytes:
    """One PEM block around any bytes."""
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"


def der_of(certificate: x509.Certificate) -> bytes:
    """The bytes that its hash covers."""
    return certificate.public_bytes(Encoding.DER)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Lowercase hex of the DER's SHA-256."""
    return sha256(der_of(certificate)).hexdigest()


def envoy_form(certificate: x509.Certificate) -> str:
    """URL-encoded PEM, as in `source.certificate`."""
    return envoy_encoded(certificate.public_bytes(Encoding.PEM))


def envoy_encoded(pem: bytes) -> str:
    """Any bytes in the encoding that Envoy uses for PEM."""
    return quote(pem, safe="")
