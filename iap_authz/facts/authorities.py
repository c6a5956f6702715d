# SPDX-License-Identifier: Apache-2.0
"""Certificate authorities that are believed, and whether one of them issued a leaf.

The invariant: what passes was signed by a certificate of the configured file, which is an authority's and is valid now.
Envoy has verified the chain too; but a listener may be set to accept untrusted certificates, and no flag says so.

Envoy shows the leaf only. So the file holds the certificates that sign leaves: intermediates, where there are some.
Their own issuers are not asked for: being in the file is what makes them trusted.

Specification: RFC 5280 sections 4.2.1.3, 4.2.1.9 and 6.1; RFC 7468 for the file. Deliberately not here: name
constraints of authorities, revocation lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from iap_authz.errors import Invalid, InvalidCredential
from iap_authz.model.reason import Reason

AUTHORITIES_MAX = 100
"""More than any mesh has at one moment; bounds what a wrong file can cost."""

_PARSE_ERRORS = (ValueError, TypeError, UnsupportedAlgorithm, CryptographyDeprecationWarning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The certificates of one file, by their subject's bytes."""

    certificates: tuple[x509.Certificate, ...]
    _by_subject: Mapping[bytes, tuple[x509.Certificate, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the index."""
        found: dict[bytes, tuple[x509.Certificate, ...]] = {}
        for one in self.certificates:
            subject = one.subject.public_bytes()
            found[subject] = (*found.get(subject, ()), one)
        object.__setattr__(self, "_by_subject", MappingProxyType(found))

    def check_issued(self, der: bytes, now: datetime) -> x509.Certificate:
        """The leaf, if one of these certificates signed it and is valid at `now`.

        Raises InvalidCredential(UNTRUSTED_CERTIFICATE), or BAD_CERTIFICATE for bytes that are none.
        """
        try:
            leaf = x509.load_der_x509_certificate(der)
            issuer = leaf.issuer.public_bytes()
        except _PARSE_ERRORS as error:
            raise InvalidCredential(Reason.BAD_CERTIFICATE, "the client certificate does not parse") from error
        if any(_signed(leaf, one, now) for one in self._by_subject.get(issuer, ())):
            return leaf
        raise InvalidCredential(
            Reason.UNTRUSTED_CERTIFICATE, "the client certificate was issued by none of the configured authorities"
        )


def parse_authorities(content: bytes, file: str) -> Authorities:
    """The certificates of a PEM file. Raises Invalid for a file with none, with a leaf, or that does not parse."""
    try:
        certificates = tuple(x509.load_pem_x509_certificates(content))
        wrong = [number for number, one in enumerate(certificates, 1) if not _may_issue(one)]
    except (*_PARSE_ERRORS, x509.DuplicateExtension) as error:
        raise Invalid.of_file(file, "got no PEM file of certificates that parse, want those of authorities") from error
    if not 0 < len(certificates) <= AUTHORITIES_MAX:
        raise Invalid.of_file(file, f"got {len(certificates)} certificates, want 1 to {AUTHORITIES_MAX}")
    if wrong:
        raise Invalid.of_file(file, f"got certificate {wrong[0]}, which is no authority's, want CA certificates only")
    return Authorities(certificates=certificates)


def _may_issue(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _signed(leaf: x509.Certificate, authority: x509.Certificate, now: datetime) -> bool:
    if not authority.not_valid_before_utc <= now <= authority.not_valid_after_utc:
        return False
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, *_PARSE_ERRORS):
        return False
    return True
