# SPDX-License-Identifier: Apache-2.0
"""The client's leaf certificate as Envoy shows it in `source.certificate`.

Invariant: what passes is one X.509 certificate, in one spelling, that may stand for a TLS client; its hash covers
exactly the bytes that Envoy verified.

    -----BEGIN%20CERTIFICATE-----%0AMIIB...%3D%0A-----END%20CERTIFICATE-----%0A
        percent-encoded (RFC 3986)  ->  one PEM block (RFC 7468, strict)  ->  DER (RFC 5280)

Deliberately not done: the chain. That this certificate leads to a trusted root was Envoy's to check in the handshake;
nothing here repeats it, and a listener that accepts untrusted certificates makes all of this the client's own word.
"""

import base64
import binascii
import functools
import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

from iap_authz.errors import InvalidCredential
from iap_authz.model.reason import Reason

CERTIFICATE_MAX_CHARS: Final = 64 * 1024
"""Of the encoded text. Leaf certificates have 1 to 4 KiB; Envoy's whole header limit is 60 KiB."""

PARSED_CACHE_CERTIFICATES: Final = 512
"""A connection shows the same certificate with each request; bounds the memo to some megabytes."""

_ENCODED = re.compile(r"(?:[A-Za-z0-9\-._~/=]|%[0-9A-Fa-f]{2})+", re.ASCII)
"""No raw `+`: form decoders read it as a space, and then two readers would see two certificates."""

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\n((?:[A-Za-z0-9+/=]{1,76}\n)+)-----END CERTIFICATE-----\n?",
)
_PARSE_ERRORS: Final = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension)
"""What the library raises on bad DER. Of a serial that is not positive it warns, and a warning may be an error."""

_WEAK_HASHES = frozenset({"md5", "sha1"})
"""Hashes for which two certificates with one signature have been made in public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """One leaf certificate. `sha256` and `serial` are lowercase hex, `serial` in whole bytes as Envoy logs it."""

    sha256: str
    serial: str
    not_before: datetime
    not_after: datetime
    der: bytes


def parse_certificate(url_encoded_pem: str) -> ClientCertificate:
    """Parse what Envoy sent. Raises InvalidCredential(BAD_CERTIFICATE) and nothing else."""
    return _parse(url_encoded_pem)


@functools.lru_cache(maxsize=PARSED_CACHE_CERTIFICATES)
def _parse(url_encoded_pem: str) -> ClientCertificate:
    der = _parse_pem(url_encoded_pem)
    try:
        certificate = x509.load_der_x509_certificate(der)
        _check_use(certificate)
        serial = certificate.serial_number
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (*_PARSE_ERRORS, CryptographyDeprecationWarning) as error:
        raise _refused("does not parse") from error
    except (UnsupportedAlgorithm, x509.UnsupportedGeneralNameType) as error:
        raise _refused("uses something unsupported") from error
    if serial <= 0:
        raise _refused("has a serial number that is not positive")
    return ClientCertificate(
        sha256=sha256(der).hexdigest(),
        serial=serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex(),
        not_before=not_before,
        not_after=not_after,
        der=der,
    )


def check_certificate_time(certificate: ClientCertificate, now: datetime) -> None:
    """Raise InvalidCredential(BAD_CERTIFICATE) outside the validity; both its ends are inside (RFC 5280 4.1.2.5)."""
    if now < certificate.not_before:
        raise _refused(f"is not valid before {certificate.not_before.isoformat()}")
    if now > certificate.not_after:
        raise _refused(f"has expired at {certificate.not_after.isoformat()}")


def _refused(what: str) -> InvalidCredential:
    return InvalidCredential(Reason.BAD_CERTIFICATE, f"the client certificate {what}")


def _parse_pem(text: str) -> bytes:
    if len(text) > CERTIFICATE_MAX_CHARS:
        raise _refused(f"has {len(text)} characters, want at most {CERTIFICATE_MAX_CHARS}")
    if not _ENCODED.fullmatch(text):
        raise _refused("is not percent-encoded")
    block = _PEM.fullmatch(unquote_to_bytes(text))
    if block is None:
        raise _refused("is not exactly one PEM block")
    encoded = block[1].replace(b"\n", b"")
    try:
        der = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise _refused("is not base64") from error
    if base64.b64encode(der) != encoded:
        raise _refused("is not canonical base64")
    return der


def _check_use(certificate: x509.Certificate) -> None:
    """Refuse what may not stand for a TLS client. Reads every extension, so that one that does not parse is refused."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK_HASHES:
        raise _refused(f"is signed over {algorithm.name}")
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise _refused("is one of an authority")
        if isinstance(value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in value:
            raise _refused("is not for client authentication")
