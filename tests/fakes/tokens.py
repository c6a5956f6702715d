# SPDX-License-Identifier: Apache-2.0
"""A forge of tokens: real keys, made once a session, and every wrong way to use them.

Nothing here calls the code under test to make a token: base64url, JSON and signatures come from the standard library
and pyca/cryptography, so that a mistake of ours cannot agree with itself.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from iap_authz.facts.identity import EstablishedIdentity
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.keyset import KeySet, parse_jwks
from iap_authz.facts.signature import Algorithm
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request

NOW: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_S: Final = int(NOW.timestamp())
ISSUER: Final = "https://issuer.example"
OTHER_ISSUER: Final = "https://other.example"
AUDIENCE: Final = "orders"
SKEW: Final = timedelta(seconds=30)

ABSENT: Final = object()
"""As the value of a member: the member is not there."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Sign = Callable[[bytes], bytes]

_HASHES: Mapping[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
}


@functools.cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key called `name`: the same one all session."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def ec_key(name: str, curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    """The elliptic curve key called `name`: the same one all session."""
    assert name
    return ec.generate_private_key(_CURVES[curve])


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def uint(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key: PrivateKey, **members: object) -> dict[str, object]:
    """The public half of `key` as a JWK, with `members` changed, added, or (ABSENT) removed."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        made: dict[str, object] = {"kty": "RSA", "n": uint(numbers.n), "e": uint(numbers.e)}
    else:
        point = key.public_key().public_numbers()
        size = (key.curve.key_size + 7) // 8
        curve = next(name for name, each in _CURVES.items() if each.name == key.curve.name)
        made = {
            "kty": "EC",
            "crv": curve,
            "x": b64(point.x.to_bytes(size, "big")),
            "y": b64(point.y.to_bytes(size, "big")),
        }
    return changed(made, members)


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def key_set(*keys: object) -> KeySet:
    return parse_jwks(jwks(*keys))


def changed(base: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**base, **changes}.items() if value is not ABSENT}


def sign(key: PrivateKey, algorithm: str, signing_input: bytes) -> bytes:
    """A JWS signature (RFC 7518 sections 3.3 to 3.5); the algorithm need not fit the curve."""
    digest = _HASHES[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm.startswith("PS"):
            return key.sign(signing_input, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return key.sign(signing_input, padding.PKCS1v15(), digest)
    size = (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(signing_input, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def raw_rsa(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """The bare private operation (RFC 8017 RSASP1): a signature over whatever padding the forger likes."""
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    size = (modulus.bit_length() + 7) // 8
    return pow(int.from_bytes(message, "big"), numbers.d, modulus).to_bytes(size, "big")


def claims(**changes: object) -> dict[str, object]:
    """Good claims for ISSUER at NOW, with changes."""
    good = {
        "iss": ISSUER,
        "sub": "ada",
        "aud": AUDIENCE,
        "exp": NOW_S + 600,
        "iat": NOW_S - 60,
    }
    return changed(good, changes)


def compact(header: bytes, payload: bytes, sign_it: Sign) -> str:
    """The compact form of any bytes under any signature."""
    signing_input = f"{b64(header)}.{b64(payload)}"
    return f"{signing_input}.{b64(sign_it(signing_input.encode()))}"


def text_of(value: object) -> bytes:
    """JSON, or `value` itself where a test has written the bytes."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def forge(
    payload: object = None,
    *,
    key: PrivateKey | None = None,
    alg: str = "RS256",
    header: Mapping[str, object] | bytes | None = None,
    sign_it: Sign | None = None,
) -> str:
    """A token signed by `key` (the first RSA key) with `alg`. `header` adds to {alg, kid} or, as bytes, replaces it."""
    signer = key or rsa_key("one")
    content = header if isinstance(header, bytes) else text_of(changed({"alg": alg, "kid": "one"}, header or {}))
    return compact(
        content,
        text_of(claims() if payload is None else payload),
        sign_it or (lambda signing_input: sign(signer, alg, signing_input)),
    )


def hmac_signer(secret: bytes) -> Sign:
    """HS256 (RFC 7518 section 3.2), from the definition of HMAC, so that no library's key checks get in the way."""

    def sign_it(signing_input: bytes) -> bytes:
        block = hashlib.sha256(secret).digest() if len(secret) > 64 else secret
        block = block.ljust(64, b"\0")
        inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + signing_input).digest()
        return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()

    return sign_it


RS: Final = frozenset({Algorithm.RS256, Algorithm.RS384, Algorithm.RS512})
ES: Final = frozenset({Algorithm.ES256, Algorithm.ES384})


def issuer(keys: KeySet | None, **changes: Any) -> Issuer:
    """ISSUER, which signs with RSA for AUDIENCE, with changes."""
    arguments: dict[str, Any] = {
        "name": "corp",
        "issuer": ISSUER,
        "audiences": frozenset({AUDIENCE}),
        "algorithms": RS,
        "keys": keys,
        "skew": SKEW,
    }
    return Issuer(**{**arguments, **changes})


def other_issuer(keys: KeySet | None, **changes: Any) -> Issuer:
    return issuer(keys, **{"name": "partner", "issuer": OTHER_ISSUER, **changes})


@functools.cache
def rsa_issuer() -> Issuer:
    """ISSUER with two RSA keys, "one" and "two"."""
    return issuer(key_set(jwk(rsa_key("one"), kid="one"), jwk(rsa_key("two"), kid="two")))


@functools.cache
def ec_issuer() -> Issuer:
    """ISSUER with P-256 keys "one" and "two" and the P-384 key "long"."""
    keys = key_set(
        jwk(ec_key("one"), kid="one"), jwk(ec_key("two"), kid="two"), jwk(ec_key("long", "P-384"), kid="long")
    )
    return issuer(keys, algorithms=ES)


def bearer(token: str) -> Request:
    return shows(f"Bearer {token}")


def shows(*values: str, **others: Any) -> Request:
    """A request with these `authorization` headers."""
    return Request(headers={"authorization": values} if values else {}, **others)


def problem_of(established: EstablishedIdentity) -> Reason:
    """Why the identity is not PRESENT, as the enum of the model."""
    return Reason(established.identity.problem)
