# SPDX-License-Identifier: Apache-2.0
"""SPIFFE ids: the names of workloads, and the one that a certificate may carry.

The invariant: an id that passes has one spelling, and says which trust domain may vouch for it.

    spiffe://example.org/ns/prod/sa/orders
             ------------ ----------------
             trust domain path: may be empty, never ends in a slash

Specification: SPIFFE-ID, sections 2.1 to 2.4; X509-SVID, section 2: exactly one URI SAN, and it is the id.
"""

import re
from dataclasses import dataclass

from cryptography import x509

from iap_authz.errors import InvalidCredential, shown
from iap_authz.model.reason import Reason

SPIFFE_ID_MAX_CHARS = 2_048
"""SPIFFE-ID section 2.3."""

TRUST_DOMAIN_MAX_CHARS = 255
"""SPIFFE-ID section 2.1."""

SCHEME = "spiffe://"

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._-]+)*", re.ASCII)
_DOTS = re.compile(r"/\.{1,2}(?:/|$)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeId:
    """`text` is the whole id; the trust domain is the part that vouches for it."""

    text: str
    trust_domain: str


def is_trust_domain(text: str) -> bool:
    """Whether `text` names a trust domain."""
    return len(text) <= TRUST_DOMAIN_MAX_CHARS and _TRUST_DOMAIN.fullmatch(text) is not None


def parse_spiffe_id(text: str) -> SpiffeId:
    """Parse an id. Raises InvalidCredential(BAD_SPIFFE_ID) for every other spelling, and never repairs one."""
    rest = text.removeprefix(SCHEME)
    domain, slash, path = rest.partition("/")
    fits = len(text) <= SPIFFE_ID_MAX_CHARS and text.startswith(SCHEME) and is_trust_domain(domain)
    if not fits or not _PATH.fullmatch(slash + path) or _DOTS.search(slash + path):
        raise InvalidCredential(Reason.BAD_SPIFFE_ID, f"got {shown(text)}, want spiffe://trust-domain/path")
    return SpiffeId(text=text, trust_domain=domain)


def spiffe_id_of(certificate: x509.Certificate) -> SpiffeId | None:
    """The id that a leaf certificate carries; None for one that is no SVID.

    Raises InvalidCredential(BAD_SPIFFE_ID) where an id stands beside another URI, or is none: readers that take the
    first one, as Envoy does, and readers that take another would see two workloads.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not any(uri.lower().startswith(SCHEME) for uri in uris):
        return None
    if len(uris) != 1:
        raise InvalidCredential(Reason.BAD_SPIFFE_ID, f"got a certificate with {len(uris)} URIs, want one")
    return parse_spiffe_id(uris[0])
