# SPDX-License-Identifier: Apache-2.0
"""Keys, tokens and certificates of the demonstration, made in the process that uses them.

Invariant: nothing here outlives the demonstration's folder, and nothing here is used by the product: it makes what an
identity provider and a device authority would make, forgeries included. Tokens are put together by hand, because a
library rightly refuses to sign some of them (RFC 7515 section 3.1; an HMAC keyed with a public key).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

P256_BYTES = 32
"""Length of each half of an ES256 signature, and of a coordinate (RFC 7518 sections 3.4 and 6.2.1)."""

RSA_BITS = 2048
"""The least that RFC 7518 section 3.3 allows."""

LIFETIME = timedelta(days=1)
"""Of certificates: longer than any demonstration that is left up."""


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A key of an identity provider, and the name it goes by in its key set."""

    kid: str
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @classmethod
    def new_ec(cls, kid: str) -> "TokenKey":
        """A fresh P-256 key."""
        return cls(kid=kid, private=ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def new_rsa(cls, kid: str) -> "TokenKey":
        """A fresh RSA key."""
        return cls(kid=kid, private=rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))

    @property
    def algorithm(self) -> str:
        """The JWS algorithm that it signs with."""
        return "ES256" if isinstance(self.private, ec.EllipticCurvePrivateKey) else "RS256"

    @property
    def public_pem(self) -> bytes:
        """What everybody may know, as a file."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def jwk(self) -> Mapping[str, str]:
        """The entry of a key set (RFC 7517)."""
        common = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            point = self.private.public_key().public_numbers()
            coordinates = {name: _encoded(getattr(point, name).to_bytes(P256_BYTES, "big")) for name in ("x", "y")}
            return {**common, "kty": "EC", "crv": "P-256", **coordinates}
        numbers = self.private.public_key().public_numbers()
        return {**common, "kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}

    def sign(self, message: bytes) -> bytes:
        """The JWS signature of `message`."""
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(P256_BYTES, "big") + s.to_bytes(P256_BYTES, "big")
        return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())


def render_jwks(*keys: TokenKey) -> str:
    """A key set, as the provider publishes it."""
    return json.dumps({"keys": [key.jwk() for key in keys]}, indent=1)


def render_token(claims: Mapping[str, object], key: TokenKey) -> str:
    """A good token: `claims`, signed by `key`."""
    signed = _signing_input({"alg": key.algorithm, "kid": key.kid, "typ": "JWT"}, claims)
    return f"{signed}.{_encoded(key.sign(signed.encode('ascii')))}"


def render_confused_token(claims: Mapping[str, object], key: TokenKey) -> str:
    """A forgery that needs no secret: an HMAC whose key is the provider's *public* key (RFC 8725 section 2.1)."""
    signed = _signing_input({"alg": "HS256", "kid": key.kid, "typ": "JWT"}, claims)
    return f"{signed}.{_encoded(hmac.digest(key.public_pem, signed.encode('ascii'), 'sha256'))}"


def _signing_input(header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    return ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A certificate and its key, both as PEM, and what an inventory knows the certificate by."""

    certificate_pem: bytes
    key_pem: bytes
    sha256: str


class Authority:
    """Signs the server's certificate and those of the devices."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)

    def certify_server(self, host: str) -> Certified:
        """A certificate for a server called `host`."""
        return self._certify(host, ExtendedKeyUsageOID.SERVER_AUTH, x509.DNSName(host))

    def certify_device(self, name: str) -> Certified:
        """A certificate for a device, to be shown by its client."""
        return self._certify(
            name, ExtendedKeyUsageOID.CLIENT_AUTH, x509.UniformResourceIdentifier(f"urn:device:{name}")
        )

    def _certify(self, name: str, usage: x509.ObjectIdentifier, alternative: x509.GeneralName) -> Certified:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Certified(
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            sha256=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
