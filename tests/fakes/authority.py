# SPDX-License-Identifier: Apache-2.0
"""Certificate authorities of tests, and leaves that they sign."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.fakes.certificates import NOT_BEFORE, envoy_form

DAY = timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True, slots=True, kw_only=True)
class TestAuthority:
    """An authority with a key of its own; two of one name differ by their keys."""

    __test__ = False
    name: str = "authority"
    not_before: datetime = NOT_BEFORE
    days: int = 30
    extensions: Sequence[x509.ExtensionType] = (x509.BasicConstraints(ca=True, path_length=0),)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False)

    def pem(self) -> bytes:
        """Its own certificate."""
        builder = _builder(self.name, self.name, self.key, self.not_before, self.days)
        for one in self.extensions:
            builder = builder.add_extension(one, critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def leaf(self, *names: x509.GeneralName, extensions: Sequence[x509.ExtensionType] = ()) -> x509.Certificate:
        """A client's certificate with these alternative names, valid for a day from `NOT_BEFORE` on."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("leaf", self.name, key, NOT_BEFORE, 1)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        alternatives = [x509.SubjectAlternativeName(names)] if names else []
        for one in (*alternatives, usage, *extensions):
            builder = builder.add_extension(one, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def workload(self, spiffe_id: str) -> str:
        """The certificate of a workload, as Envoy shows it."""
        return envoy_form(self.leaf(x509.UniformResourceIdentifier(spiffe_id)))


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, not_before: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + days * DAY)
    )
