# SPDX-License-Identifier: Apache-2.0
"""The signed assertion that tells an application who was allowed to do what, and the key set it is checked with.

    x-iap-assertion: base64url(header) . base64url(claims) . base64url(r || s)        at most 4,096 characters

    header   {"alg":"ES256","kid":<RFC 7638 thumbprint>,"typ":"JWT"}
    always   iss  aud  iat  exp (60 s later)  jti  audit_id  route
    known    sub and identity_issuer, groups, device_id; groups_omitted instead of groups that did not fit
    binding  method  host  target_sha256: base64url(SHA-256(path, and "?" and the query where that is not empty))

The invariants: the algorithm is written here and chosen nowhere; what is not known has no claim, and nothing else is
said of it; a list is whole or left out. `sub` means nothing without `identity_issuer`: two issuers may have an alice.
The target is hashed, because a path may be longer than what servers take for one header.

Key, random id and time are arguments. Specification: RFC 7515, 7517, 7518 (3.4, 6.2.1), 7519, 7638. Not here: which key
signs and for how long it is published (`sidecar/assertions`), and how an application checks (`docs/policy.md`).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Malformed
from iap_authz.facts.encoding import render_base64url

ALGORITHM = "ES256"
"""The one algorithm: every JOSE library has it, and a signature takes 0.03 ms."""

LIFE_SECONDS = 60
"""From `iat` to `exp`: an application reads it right away, and clocks within a deployment differ by less."""

ASSERTION_MAX_CHARS = 4_096
"""As for every other header of a route. Servers take 8 KiB, some for all headers together, and the client's own are
among them."""

KEY_SET_MAX_AGE_SECONDS = 300
"""How long a key set may be cached. A key is published for longer than that before it signs."""

POINT_BYTES, COORDINATE_BYTES, SIGNATURE_BYTES = 65, 32, 64
"""P-256: a point as X9.62 writes it uncompressed, one coordinate, and r || s."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SIGNATURE_CHARS = 86
_UNCOMPRESSED = 4


class AssertionTooLarge(Malformed):
    """An assertion that does not fit in its header even without the groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an assertion says besides the facts. `issued_at` is in whole seconds since 1970."""

    issuer: str
    audience: str
    route: str
    audit_id: str
    token_id: str
    issued_at: int
    is_bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """A public key, its name, the thumbprint, which no other key has, and the header of what it signs, encoded."""

    kid: str
    x: str
    y: str
    header: str


def published_key(point: bytes) -> PublishedKey:
    """The key of an uncompressed point of P-256, 65 bytes. Raises ValueError for any other shape."""
    if len(point) != POINT_BYTES or point[0] != _UNCOMPRESSED:
        raise ValueError(f"got a point of {len(point)} bytes, want {POINT_BYTES} that begin with {_UNCOMPRESSED}")
    x = render_base64url(point[1 : 1 + COORDINATE_BYTES])
    y = render_base64url(point[1 + COORDINATE_BYTES :])
    kid = render_base64url(hashlib.sha256(_render_json({"crv": "P-256", "kty": "EC", "x": x, "y": y})).digest())
    header = render_base64url(_render_json({"alg": ALGORITHM, "kid": kid, "typ": "JWT"}))
    return PublishedKey(kid=kid, x=x, y=y, header=header)


def render_key_set(keys: Iterable[PublishedKey]) -> bytes:
    """The JSON Web Key Set of these keys, in their order."""
    members = [
        {"alg": ALGORITHM, "crv": "P-256", "kid": key.kid, "kty": "EC", "use": "sig", "x": key.x, "y": key.y}
        for key in keys
    ]
    return _render_json({"keys": members})


def render_assertion(
    facts: facts_pb2.Facts, statement: Statement, *, key: PublishedKey, sign: Callable[[bytes], bytes]
) -> str:
    """The compact form. `sign` gives the 64 bytes r || s of ES256. Raises AssertionTooLarge, and what `sign` raises."""
    room_chars = ASSERTION_MAX_CHARS - len(key.header) - _SIGNATURE_CHARS - 2
    claims = render_base64url(_fitting_claims(facts, statement, room_chars=room_chars))
    signing_input = f"{key.header}.{claims}"
    signature = sign(signing_input.encode("ascii"))
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"got a signature of {len(signature)} bytes, want {SIGNATURE_BYTES}")
    return f"{signing_input}.{render_base64url(signature)}"


def _fitting_claims(facts: facts_pb2.Facts, statement: Statement, *, room_chars: int) -> bytes:
    """The claims as JSON; without the groups, and with a word that they are left out, where they do not fit."""
    claims = _claims(facts, statement)
    groups = _groups(facts.identity)
    found = _render_json(claims | groups)
    if groups and _encoded_chars(found) > room_chars:
        found = _render_json(claims | {"groups_omitted": True})
    if _encoded_chars(found) > room_chars:
        raise AssertionTooLarge(
            f"got claims of {len(found)} bytes without groups, want room for {room_chars} characters"
        )
    return found


def _claims(facts: facts_pb2.Facts, statement: Statement) -> dict[str, object]:
    claims: dict[str, object] = {
        "iss": statement.issuer,
        "aud": statement.audience,
        "iat": statement.issued_at,
        "exp": statement.issued_at + LIFE_SECONDS,
        "jti": statement.token_id,
        "audit_id": statement.audit_id,
        "route": statement.route,
    }
    identity, device = facts.identity, facts.device
    if identity.state == facts_pb2.PRESENT and identity.subject:
        claims |= {"sub": identity.subject, "identity_issuer": identity.issuer}
    if device.state == facts_pb2.PRESENT and device.id:
        claims["device_id"] = device.id
    if statement.is_bound:
        claims |= _binding(facts.request)
    return claims


def _groups(identity: facts_pb2.Identity) -> dict[str, object]:
    """No claim where the groups are not known; an empty list where it is known that there are none."""
    if identity.state != facts_pb2.PRESENT or not (identity.groups or "groups" in identity.empty):
        return {}
    return {"groups": list(identity.groups)}


def _binding(request: facts_pb2.Request) -> Mapping[str, str]:
    target = f"{request.path}?{request.query}" if request.query else request.path
    digest = hashlib.sha256(target.encode("utf-8")).digest()
    return {"method": request.method, "host": request.host, "target_sha256": render_base64url(digest)}


def _encoded_chars(content: bytes) -> int:
    """The length of `content` in base64url without padding."""
    return (len(content) * 4 + 2) // 3


def _render_json(value: Mapping[str, object]) -> bytes:
    return _ENCODER.encode(value).encode("utf-8")
