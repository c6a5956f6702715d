# SPDX-License-Identifier: Apache-2.0
"""Does this signature, by this key, with this algorithm, cover these bytes? The only place that calls python-jose.

The invariant: `check_signature` returns only for a signature of exactly the length that the key makes, whose numbers
lie in the key's range, that python-jose verified with an algorithm this key was prepared for. python-jose never sees a
token, a header, a key set or the name of an algorithm that somebody else chose.

    RSA    one number below the modulus, as long as the modulus               RFC 7518 section 3.3, RFC 8017 8.2.2
    ECDSA  r || s, each 1 .. order-1 and as long as the order                 RFC 7518 section 3.4

An ECDSA signature has a twin, (r, n - s), that is as valid; nothing may use signature bytes as a name of a token.
Deliberately not here: which key and which algorithm to use (`keyset`, `token`).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurve, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from jose.backends.cryptography_backend import CryptographyECKey, CryptographyRSAKey

from iap_authz.errors import BadSignature, Malformed, shown

RSA_MIN_BITS = 2048
"""RFC 7518 section 3.3: a key of this size or larger must be used."""

RSA_MAX_BITS = 8192
"""Bounds what one signature check can cost; OpenSSL itself stops at 16,384."""

RSA_MIN_EXPONENT = 65537
"""NIST SP 800-56B section 6.2; smaller exponents make forged paddings cheap where a verifier is lax."""

RSA_EXPONENT_END = 1 << 32
"""One beyond the largest exponent taken; a larger one only makes verifying slow."""


class KeyFamily(enum.StrEnum):
    """What kind of key an algorithm needs: the `kty` of RFC 7518 section 6.1."""

    RSA = "RSA"
    EC = "EC"


class Algorithm(enum.StrEnum):
    """The JWS algorithms that are verified here, all of them asymmetric (RFC 7518 section 3.1)."""

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    ES256 = "ES256"
    ES384 = "ES384"

    @property
    def family(self) -> KeyFamily:
        """The kind of key that this algorithm needs."""
        return KeyFamily.RSA if self.name.startswith("RS") else KeyFamily.EC


class _JoseKey(Protocol):
    def verify(self, msg: bytes, sig: bytes) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key that was checked and is ready. Equal keys have equal numbers; the prepared objects do not count.

    `numbers` are (modulus, exponent) or (x, y). `bound` is the modulus or the order of the curve's group.
    """

    kind: str
    family: KeyFamily
    numbers: tuple[int, int]
    bound: int
    signature_bytes: int
    prepared: Mapping[Algorithm, _JoseKey] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A curve of RFC 7518 section 6.2.1.1: its group's order (SEC 2), and the one algorithm that goes with it."""

    name: str
    curve: EllipticCurve
    order: int
    coordinate_bytes: int
    algorithm: Algorithm


CURVES: Mapping[str, Curve] = MappingProxyType(
    {
        "P-256": Curve(
            name="P-256",
            curve=SECP256R1(),
            order=0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551,
            coordinate_bytes=32,
            algorithm=Algorithm.ES256,
        ),
        "P-384": Curve(
            name="P-384",
            curve=SECP384R1(),
            order=0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_C7634D81_F4372DDF_581A0DB2_48B0A77A_ECEC196A_CCC52973,
            coordinate_bytes=48,
            algorithm=Algorithm.ES384,
        ),
    }
)
"""The curves that python-jose can verify and that are in use; P-521 and secp256k1 are not."""


def prepare_rsa(*, modulus: int, exponent: int) -> PublicKey:
    """An RSA key for RS256, RS384 and RS512. Raises Malformed for one that must not be used."""
    bits = modulus.bit_length()
    if not RSA_MIN_BITS <= bits <= RSA_MAX_BITS:
        raise Malformed(f"got an RSA key of {bits} bits, want {RSA_MIN_BITS} to {RSA_MAX_BITS}")
    if modulus % 2 == 0:
        raise Malformed("got an even RSA modulus, want an odd one")
    if exponent % 2 == 0 or not RSA_MIN_EXPONENT <= exponent < RSA_EXPONENT_END:
        raise Malformed(f"got the RSA exponent {shown(exponent)}, want an odd one from 65537 to 2^32")
    try:
        key = RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise Malformed(f"got an RSA key that cannot be used: {shown(str(error))}") from None
    algorithms = (Algorithm.RS256, Algorithm.RS384, Algorithm.RS512)
    return PublicKey(
        kind=f"RSA-{bits}",
        family=KeyFamily.RSA,
        numbers=(modulus, exponent),
        bound=modulus,
        signature_bytes=(bits + 7) // 8,
        prepared=MappingProxyType({each: CryptographyRSAKey(key, each.value) for each in algorithms}),
    )


def prepare_ec(curve: Curve, *, x: int, y: int) -> PublicKey:
    """An elliptic curve key for the one algorithm of its curve. Raises Malformed for a point that is not on it."""
    try:
        key = EllipticCurvePublicNumbers(x, y, curve.curve).public_key()
    except ValueError:
        raise Malformed(f"got a point that is not on {curve.name}") from None
    return PublicKey(
        kind=curve.name,
        family=KeyFamily.EC,
        numbers=(x, y),
        bound=curve.order,
        signature_bytes=2 * curve.coordinate_bytes,
        prepared=MappingProxyType({curve.algorithm: CryptographyECKey(key, curve.algorithm.value)}),
    )


def check_signature(key: PublicKey, algorithm: Algorithm, *, signing_input: bytes, signature: bytes) -> None:
    """Return only if `signature` is by `key` with `algorithm` and covers `signing_input`; else raise BadSignature."""
    prepared = key.prepared.get(algorithm)
    if prepared is None:
        raise BadSignature(f"got {algorithm.value}, want an algorithm of a {key.kind} key")
    if len(signature) != key.signature_bytes:
        raise BadSignature(f"got a signature of {len(signature)} bytes, want {key.signature_bytes}")
    _check_range(key, signature)
    if prepared.verify(signing_input, signature) is not True:
        raise BadSignature(f"the signature does not cover the token under the {key.kind} key")


def _check_range(key: PublicKey, signature: bytes) -> None:
    """Libraries have accepted zero (CVE-2022-21449) and numbers that were not reduced: not left to one."""
    parts = [signature]
    if key.family is KeyFamily.EC:
        half = key.signature_bytes // 2
        parts = [signature[:half], signature[half:]]
    for part in parts:
        if not 0 < int.from_bytes(part, "big") < key.bound:
            raise BadSignature(f"got a number outside the range of a {key.kind} key in the signature")
