# SPDX-License-Identifier: Apache-2.0
"""JSON Web Key Sets: which public keys an issuer publishes, and what each may be used for.

The invariant: every key in a `KeySet` can verify at least one algorithm of ours, is large enough, lies on its curve and
was published for verifying. A key that is not like this is left out by itself, with a line in `problems`, and never
costs its neighbours; a set that cannot be read one way only (no JSON, doubled names) is refused whole, so that the
caller keeps the one it has.

    {"keys": [{"kty": "RSA", "n": ..., "e": ..., "kid": ..., "use": "sig", "key_ops": ["verify"], "alg": "RS256"}, ...]}

Specification: RFC 7517, RFC 7518 section 6. Stricter in these points: a private key or a shared secret in a public set
is not used even for its public half (it may be in anybody's hands); coordinates, moduli and exponents are in their one
canonical encoding; a `kid` that two different keys claim names neither.

Deliberately not here: fetching (an adapter), and `x5c`, `x5u` and `x5t`, which are never read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from iap_authz.errors import Malformed, shown
from iap_authz.facts.encoding import JsonValue, parse_base64url, parse_json_object
from iap_authz.facts.signature import CURVES, Algorithm, PublicKey, prepare_ec, prepare_rsa

JWKS_MAX_BYTES = 1 << 20
"""Larger than any key set in use; bounds what a hostile or broken endpoint can cost."""

KEYS_MAX = 100
"""More than any issuer publishes; a larger set is refused rather than cut, because any choice would be a guess."""

KID_MAX_CHARS = 256
"""Longer than any key id in use (a SHA-512 thumbprint in hexadecimal has 128)."""

JWKS_MAX_DEPTH = 8
"""Set, list, key and its lists are four levels; the rest is room for members that are not read."""

_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
"""The members of RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1: none of them belongs in public."""


class _Unfit(Malformed):
    """A sound key that was published for something other than verifying with an algorithm of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of an issuer: its name in the set, and the algorithms it may verify (never empty)."""

    kid: str | None
    public: PublicKey
    algorithms: frozenset[Algorithm]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one issuer that may be used.

    `ambiguous` are key ids that two different keys claim: they name none, though the keys are in `keys`. `unfit` are
    key ids of keys that were published for another use, type, curve or algorithm. `problems` say what was left out and
    why, in the order of the set, without key material.
    """

    keys: tuple[Key, ...]
    ambiguous: frozenset[str] = frozenset()
    unfit: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()
    by_kid: Mapping[str, Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the index that a check of a token looks into."""
        named = {key.kid: key for key in self.keys if key.kid is not None and key.kid not in self.ambiguous}
        object.__setattr__(self, "by_kid", MappingProxyType(named))


def parse_jwks(content: bytes) -> KeySet:
    """Parse a key set. Raises Malformed for a set as a whole; single keys that cannot be used are left out.

    The result may be empty: whether that is a fault is the caller's to say.
    """
    if len(content) > JWKS_MAX_BYTES:
        raise Malformed(f"got a key set of {len(content)} bytes, want at most {JWKS_MAX_BYTES}")
    members = parse_json_object(content, max_depth=JWKS_MAX_DEPTH).get("keys")
    if not isinstance(members, list):
        raise Malformed('got a key set without a list "keys"')
    if len(members) > KEYS_MAX:
        raise Malformed(f"got {len(members)} keys, want at most {KEYS_MAX}")
    found: list[Key] = []
    unfit: set[str] = set()
    problems: list[str] = []
    for position, member in enumerate(members):
        try:
            found.append(_parse_key(member))
        except Malformed as error:
            problems.append(f"key {position}{_called(member)}: {error}")
            if isinstance(error, _Unfit) and isinstance(member, dict) and isinstance(kid := member.get("kid"), str):
                unfit.add(kid)
    keys = _merge(found)
    ambiguous = _ambiguous(keys)
    problems += [f"kid {shown(kid)}: two different keys have it, so it names neither" for kid in sorted(ambiguous)]
    usable_kids = {key.kid for key in keys}
    return KeySet(
        keys=keys,
        ambiguous=ambiguous,
        unfit=frozenset(unfit - usable_kids),
        problems=tuple(problems),
    )


def _called(member: JsonValue) -> str:
    kid = member.get("kid") if isinstance(member, dict) else None
    return f" (kid {shown(kid)})" if isinstance(kid, str) else ""


def _parse_key(member: JsonValue) -> Key:
    if not isinstance(member, dict):
        raise Malformed("got a key that is not an object")
    kid = member.get("kid")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= KID_MAX_CHARS):
        raise Malformed(f"got a kid that is not text of 1 to {KID_MAX_CHARS} characters")
    private = [name for name in _PRIVATE_MEMBERS if name in member]
    if private:
        raise Malformed(f"private or secret key material ({', '.join(private)}) is published: the key must be replaced")
    _check_purpose(member)
    public = _parse_public(member)
    algorithms = frozenset(public.prepared)
    if "alg" in member:
        declared = member["alg"]
        if not isinstance(declared, str):
            raise Malformed("got an alg that is not text")
        algorithms = frozenset(each for each in algorithms if each == declared)
        if not algorithms:
            raise _Unfit(f"it is for the algorithm {shown(declared)}, which a {public.kind} key is not used with here")
    return Key(kid=kid, public=public, algorithms=algorithms)


def _check_purpose(member: Mapping[str, JsonValue]) -> None:
    """RFC 7517 sections 4.2 and 4.3; a key for something else must not verify (cross-protocol use)."""
    use = member.get("use", "sig")
    if not isinstance(use, str):
        raise Malformed("got a use that is not text")
    if use != "sig":
        raise _Unfit(f"it is for the use {shown(use)}, want sig")
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or not all(isinstance(each, str) for each in operations):
        raise Malformed("got key_ops that are not a list of texts")
    if len({str(each) for each in operations}) != len(operations):
        raise Malformed("got key_ops with one operation twice")
    if "verify" not in operations:
        raise _Unfit("its key_ops do not contain verify")


def _parse_public(member: Mapping[str, JsonValue]) -> PublicKey:
    kind = member.get("kty")
    if kind == "RSA":
        return prepare_rsa(modulus=_integer(member, "n"), exponent=_integer(member, "e"))
    if kind == "EC":
        name = member.get("crv")
        curve = CURVES.get(name) if isinstance(name, str) else None
        if curve is None:
            raise _Unfit(f"got the curve {_text_or_kind(name)}, want {' or '.join(CURVES)}")
        x, y = (_integer(member, name, size_bytes=curve.coordinate_bytes) for name in ("x", "y"))
        return prepare_ec(curve, x=x, y=y)
    raise _Unfit(f"got the key type {_text_or_kind(kind)}, want RSA or EC")


def _text_or_kind(value: JsonValue) -> str:
    return shown(value) if isinstance(value, str) else f"of type {type(value).__name__}"


def _integer(member: Mapping[str, JsonValue], name: str, *, size_bytes: int | None = None) -> int:
    """A Base64urlUInt (RFC 7518 section 2: no leading zero), or a coordinate of exactly `size_bytes`."""
    text = member.get(name)
    if not isinstance(text, str):
        raise Malformed(f"got no text in {name}")
    try:
        content = parse_base64url(text)
    except Malformed as error:
        raise Malformed(f"{name}: {error}") from None
    if size_bytes is not None and len(content) != size_bytes:
        raise Malformed(f"got {len(content)} bytes in {name}, want {size_bytes}")
    if size_bytes is None and (not content or content[0] == 0):
        raise Malformed(f"got {name} empty or with a leading zero byte")
    return int.from_bytes(content, "big")


def _merge(found: Sequence[Key]) -> tuple[Key, ...]:
    """One entry for each (kid, key): some issuers list a key once for each algorithm."""
    merged: dict[tuple[str | None, PublicKey], Key] = {}
    for key in found:
        place = (key.kid, key.public)
        seen = merged.get(place)
        algorithms = key.algorithms | (seen.algorithms if seen else frozenset())
        merged[place] = Key(kid=key.kid, public=key.public, algorithms=algorithms)
    return tuple(merged.values())


def _ambiguous(keys: Sequence[Key]) -> frozenset[str]:
    kids = [key.kid for key in keys if key.kid is not None]
    return frozenset(kid for kid in kids if kids.count(kid) > 1)
