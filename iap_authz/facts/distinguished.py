# SPDX-License-Identifier: Apache-2.0
r"""Distinguished names, so far that one written by an operator is found to be the one in a certificate.

The invariant: one name has one canonical form, however it is written, so a revocation that names an authority is not
lost over a space, a capital letter or the order of the parts. Where two names come out the same here and are not, more
is refused, never less.

    CN=Example CA,O=Example\, Inc.,C=DE      RFC 4514, as openssl prints it with `-nameopt RFC2253`
    C = DE, O = "..."                        spaces around `=` and `,` do not count; quotes are refused

Compared are object identifiers and texts, after NFKC, case folding and with white space made one space each, about as
RFC 5280 section 7.1 says; the ASN.1 type of a text does not count. RFC 4514 reverses the order and other tools do not,
so the order does not count either.

Deliberately not done: `#` values (BER in hex). Whoever has one in an issuer's name revokes by the certificate's hash.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Final, NewType

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from iap_authz.errors import InvalidCredential, Malformed, shown
from iap_authz.model.reason import Reason

CanonicalName = NewType("CanonicalName", str)
"""The form that names are compared in. Shown to nobody."""

NAMES_CACHED: Final = 512
"""Issuers of entries, and certificates. Both repeat: an authority issues many, a connection shows one all the time."""

_IDENTIFIERS: Final = {
    "cn": "2.5.4.3",
    "sn": "2.5.4.4",
    "serialnumber": "2.5.4.5",
    "c": "2.5.4.6",
    "l": "2.5.4.7",
    "st": "2.5.4.8",
    "street": "2.5.4.9",
    "o": "2.5.4.10",
    "ou": "2.5.4.11",
    "title": "2.5.4.12",
    "postalcode": "2.5.4.17",
    "gn": "2.5.4.42",
    "initials": "2.5.4.43",
    "generationqualifier": "2.5.4.44",
    "dnqualifier": "2.5.4.46",
    "pseudonym": "2.5.4.65",
    "organizationidentifier": "2.5.4.97",
    "uid": "0.9.2342.19200300.100.1.1",
    "dc": "0.9.2342.19200300.100.1.25",
    "emailaddress": "1.2.840.113549.1.9.1",
}
"""RFC 4514 section 3, and the names that openssl prints for others that authorities have. Any other: by its number."""

_PART = re.compile(
    r"\s*(?P<type>[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)\s*="
    r"(?P<value>(?:\\[0-9A-Fa-f]{2}|\\[ \"#+,;<=>\\]|[^\\\"+,;<>\0])*)(?P<end>[+,]|\Z)"
)
_ESCAPED = re.compile(rb"\\([0-9A-Fa-f]{2}|[ \"#+,;<=>\\])")
_HEX_DIGITS = 2

Part = tuple[str, str]
"""Object identifier and text."""


@functools.lru_cache(maxsize=NAMES_CACHED)
def parse_name(text: str) -> CanonicalName:
    """The name that an operator wrote. Raises Malformed."""
    parts: list[list[Part]] = [[]]
    at, end = 0, "more"
    while end:
        found = _PART.match(text, at)
        if found is None:
            want = "a name such as CN=Example CA,O=Example (RFC 4514), with a backslash before a comma in a part"
            raise Malformed(f"got {shown(text[at:])}, want {want}")
        parts[-1].append((_identifier(found["type"]), _unescape(found["value"])))
        at, end = found.end(), found["end"]
        if end == ",":
            parts.append([])
    return _canonical(parts)


@functools.lru_cache(maxsize=NAMES_CACHED)
def issuer_of(der: bytes) -> CanonicalName:
    """The issuer of a certificate that parses. Raises InvalidCredential(BAD_CERTIFICATE) for a name that does not."""
    try:
        issuer = x509.load_der_x509_certificate(der).issuer
    except (ValueError, TypeError, CryptographyDeprecationWarning) as error:
        raise InvalidCredential(Reason.BAD_CERTIFICATE, "the client certificate's issuer does not parse") from error
    return _canonical([(one.oid.dotted_string, _text(one.value)) for one in part] for part in issuer.rdns)


def _canonical(name: Iterable[Iterable[Part]]) -> CanonicalName:
    parts = [sorted([identifier, _folded(text)] for identifier, text in part) for part in name]
    return CanonicalName(json.dumps(sorted(parts)))


def _folded(text: str) -> str:
    once = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", once).split())


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex()


def _identifier(written: str) -> str:
    if written[0].isdigit():
        return written
    identifier = _IDENTIFIERS.get(written.lower())
    if identifier is None:
        raise Malformed(f"got the attribute {shown(written)}, want its number, such as 2.5.4.3 for CN")
    return identifier


def _unescape(value: str) -> str:
    if value.lstrip().startswith("#"):
        raise Malformed(f"got {shown(value)}, want text; or the certificate's hash in the place of its serial number")

    def plain(escaped: re.Match[bytes]) -> bytes:
        found = escaped[1]
        return bytes.fromhex(found.decode()) if len(found) == _HEX_DIGITS else found

    try:
        return _ESCAPED.sub(plain, value.encode()).decode()
    except UnicodeError:
        raise Malformed(f"got {shown(value)}, want escapes that are UTF-8") from None
