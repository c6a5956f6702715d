# SPDX-License-Identifier: Apache-2.0
"""The strict profile of signed tokens: RFC 7515 and 7519 as RFC 8725 says to use them.

The invariant: `verify_token` returns claims only if the issuer that the token names, and no other, signed exactly these
bytes with an algorithm it is configured for, and `claims.judge_claims` finds them good at `now`.

    base64url(header) . base64url(payload) . base64url(signature)          at most 8 KiB, ASCII, no padding

The order of judgement is fixed, and each step reads only what the steps before it have bounded:

    parse_token    1 shape      size, three parts (five are an encrypted token), canonical base64url, JSON objects
                   2 header     alg, kid, typ, cty, crit and b64; what would fetch or carry keys
    verify_token   3 alg        against all issuers, before anything else of the token is believed
                   4 issuer     `iss` byte for byte; alg against that issuer; its keys (none: SourceUnavailable)
                   5 key        by kid in that issuer's set; without kid, the only key that fits
                   6 signature  one question to python-jose
                   7 claims     of a token that is known to be genuine

Up to step 6 a reason depends only on the token's own bytes, the configuration and public keys, so it tells a forger
nothing that he does not have. A signature that does not hold is tried on at most `DIAGNOSIS_MAX_CHECKS` other keys:
never to accept it, only to record whose it is. A kid that the issuer does not have and another issuer has is the
other's only if that key made the signature; else it is an unknown kid, which a fetch of keys may cure.

Deliberately not here: encrypted tokens, the JSON serialisation, detached or unencoded payloads, symmetric algorithms,
keys that a token brings along or points to (`jwk` and `x5c` are never read; `jku` and `x5u` are refused); revocation,
which `revocation` judges.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from iap_authz.errors import BadSignature, InvalidCredential, Malformed, SourceUnavailable
from iap_authz.facts.claims import Claims, judge_claims
from iap_authz.facts.encoding import (
    BadNumber,
    DuplicateName,
    JsonValue,
    NulCharacter,
    parse_base64url,
    parse_json_object,
)
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.keyset import KID_MAX_CHARS, Key, KeySet
from iap_authz.facts.signature import Algorithm, check_signature
from iap_authz.model.reason import Reason

__all__ = ["Claims", "Issuer", "Token", "parse_token", "verify_token"]

TOKEN_MAX_CHARS = 8192
"""Below what Envoy takes in a header (60 KiB for all of them by default), above any token that works elsewhere."""

SIGNED_PARTS = 3
"""RFC 7515 section 7.1: header, payload, signature."""

ENCRYPTED_PARTS = 5
"""RFC 7516 section 7.1: header, encrypted key, initialisation vector, ciphertext, tag."""

TOKEN_MAX_DEPTH = 16
"""Real tokens nest four deep (`resource_access.<client>.roles[]`)."""

DIAGNOSIS_MAX_CHECKS = 8
"""How many other keys a failed signature is tried on, so that a forger cannot buy more work than about 1 ms."""

_TYPES = frozenset({"jwt", "at+jwt", "jose"})
"""What `typ` may say, without `application/`: a JWT, an access token (RFC 9068), a compact JWS (RFC 7515 4.1.9)."""

_REGISTERED_HEADERS = frozenset(
    {"alg", "jku", "jwk", "kid", "x5u", "x5c", "x5t", "x5t#S256", "typ", "cty", "crit"}
    | {"enc", "zip", "epk", "apu", "apv", "iv", "tag", "p2s", "p2c"}
)
"""The names of RFC 7515, 7516 and 7518, which `crit` must not list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that has the right shape. Nothing in it is known to be true."""

    algorithm: str
    kid: str | None
    payload: Mapping[str, JsonValue] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse_token(text: str) -> Token:
    """Parse the compact form. Raises InvalidCredential; the result is not verified."""
    if len(text) > TOKEN_MAX_CHARS:
        raise InvalidCredential(
            Reason.TOKEN_TOO_LARGE, f"got a token of {len(text)} characters, want at most {TOKEN_MAX_CHARS}"
        )
    parts = text.split(".")
    if len(parts) == ENCRYPTED_PARTS:
        raise InvalidCredential(Reason.UNSUPPORTED_TOKEN, "got an encrypted token, want a signed one")
    if len(parts) != SIGNED_PARTS or text.startswith("{"):
        raise InvalidCredential(Reason.MALFORMED_TOKEN, "got a token that is not three parts joined by dots")
    try:
        header_json, payload_json, signature = (parse_base64url(part) for part in parts)
    except Malformed as error:
        raise InvalidCredential(Reason.NON_CANONICAL, f"token: {error}") from None
    header = _parse_json(header_json, "header", reasons=_HEADER_REASONS)
    algorithm, kid = _judge_header(header)
    return Token(
        algorithm=algorithm,
        kid=kid,
        payload=_parse_json(payload_json, "payload", reasons=_PAYLOAD_REASONS),
        signing_input=f"{parts[0]}.{parts[1]}".encode("ascii"),
        signature=signature,
    )


def verify_token(token: Token, issuers: Sequence[Issuer], *, now: datetime) -> Claims:
    """Verify `token` and judge its claims. Raises InvalidCredential, or SourceUnavailable without the issuer's keys.

    ValueError if two issuers have one `iss`: the configuration refuses that.
    """
    issuer, algorithm, keys = _choose_issuer(token, issuers)
    others = [other for other in issuers if other is not issuer]
    key = _choose_key(token, algorithm, keys=keys, others=others)
    try:
        check_signature(key.public, algorithm, signing_input=token.signing_input, signature=token.signature)
    except BadSignature as error:
        rivals = _rivals(key, algorithm, keys=keys, others=others)
        raise _explain(token, algorithm, rivals=rivals, otherwise=str(error)) from None
    return judge_claims(token.payload, issuer, algorithm=algorithm.value, key_id=key.kid, now=now)


# ---- steps 1 and 2


_HEADER_REASONS: Mapping[type[Malformed], Reason] = {
    DuplicateName: Reason.MALFORMED_TOKEN_HEADER,
    BadNumber: Reason.MALFORMED_TOKEN_HEADER,
    NulCharacter: Reason.MALFORMED_TOKEN_HEADER,
}
_PAYLOAD_REASONS: Mapping[type[Malformed], Reason] = {
    DuplicateName: Reason.DUPLICATE_CLAIM,
    BadNumber: Reason.BAD_CLAIM_TYPE,
    NulCharacter: Reason.FACT_WITH_NUL,
}


def _parse_json(content: bytes, part: str, *, reasons: Mapping[type[Malformed], Reason]) -> dict[str, JsonValue]:
    try:
        return parse_json_object(content, max_depth=TOKEN_MAX_DEPTH)
    except Malformed as error:
        raise InvalidCredential(reasons.get(type(error), Reason.MALFORMED_TOKEN), f"{part}: {error}") from None


def _judge_header(header: Mapping[str, JsonValue]) -> tuple[str, str | None]:
    """Returns alg and kid. Members that are not named here are ignored, as RFC 7515 section 4 says."""
    algorithm = _header_text(header, "alg")
    if algorithm is None:
        raise InvalidCredential(Reason.MALFORMED_TOKEN_HEADER, "got a header without alg")
    _judge_crit(header)
    for name in ("jku", "x5u"):
        if name in header:
            raise InvalidCredential(
                Reason.UNSUPPORTED_TOKEN, f"got a token that names a place to fetch keys from ({name})"
            )
    for name in ("enc", "zip"):
        if name in header:
            raise InvalidCredential(Reason.UNSUPPORTED_TOKEN, f"got a member of an encrypted token ({name})")
    kind = (_header_text(header, "typ") or "jwt").lower().removeprefix("application/")
    if kind not in _TYPES:  # RFC 8725 section 3.11: a statement made for another purpose is not an identity
        raise InvalidCredential(Reason.UNSUPPORTED_TOKEN, "got another typ, want JWT or at+jwt")
    content = (_header_text(header, "cty") or "").lower().removeprefix("application/")
    if content in _TYPES:
        raise InvalidCredential(Reason.UNSUPPORTED_TOKEN, "got a token inside a token")
    kid = _header_text(header, "kid")
    if kid is not None and not 0 < len(kid) <= KID_MAX_CHARS:
        raise InvalidCredential(Reason.MALFORMED_TOKEN_HEADER, f"want a kid of 1 to {KID_MAX_CHARS} characters")
    return algorithm, kid


def _header_text(header: Mapping[str, JsonValue], name: str) -> str | None:
    if name not in header:
        return None
    value = header[name]
    if not isinstance(value, str):
        raise InvalidCredential(Reason.MALFORMED_TOKEN_HEADER, f"got {name} in the header that is not text")
    return value


def _judge_crit(header: Mapping[str, JsonValue]) -> None:
    """RFC 7515 section 4.1.11 and RFC 7797: no extension is understood here, so a good `crit` is refused too."""
    if "crit" in header:
        names = header["crit"]
        listed = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        if not isinstance(names, list) or not names or len(set(listed)) != len(names):
            raise InvalidCredential(Reason.MALFORMED_TOKEN_HEADER, "want a crit that lists names, each once")
        if any(name in _REGISTERED_HEADERS or name not in header for name in listed):
            raise InvalidCredential(
                Reason.MALFORMED_TOKEN_HEADER, "got a crit that lists a registered or absent member"
            )
        raise InvalidCredential(Reason.UNSUPPORTED_CRIT, "got an extension that must be understood and is not")
    if "b64" in header:
        raise InvalidCredential(Reason.UNSUPPORTED_CRIT, "got b64, want a base64url payload and nothing said of it")


# ---- steps 3 to 5


def _choose_issuer(token: Token, issuers: Sequence[Issuer]) -> tuple[Issuer, Algorithm, KeySet]:
    if not any(token.algorithm in issuer.algorithms for issuer in issuers):
        raise InvalidCredential(Reason.BAD_ALG, "got an algorithm that no issuer is configured for")
    wanted = token.payload.get("iss", "")
    if not isinstance(wanted, str):
        raise InvalidCredential(Reason.BAD_CLAIM_TYPE, "got iss that is not text")
    named = [issuer for issuer in issuers if issuer.issuer == wanted]
    if not named:
        raise InvalidCredential(Reason.UNKNOWN_ISSUER, "got a token of an issuer that is not configured")
    if len(named) > 1:
        raise ValueError("got two issuers with one iss, want them distinct")
    issuer = named[0]
    if token.algorithm not in issuer.algorithms:
        raise InvalidCredential(Reason.BAD_ALG, f"got an algorithm that the issuer {issuer.name} is not configured for")
    if issuer.keys is None or not issuer.keys.keys:
        raise SourceUnavailable(f"no keys of the issuer {issuer.name}")
    return issuer, Algorithm(token.algorithm), issuer.keys


def _choose_key(token: Token, algorithm: Algorithm, *, keys: KeySet, others: Sequence[Issuer]) -> Key:
    if token.kid is None:
        return _only_key(algorithm, keys)
    if token.kid in keys.ambiguous:
        raise InvalidCredential(Reason.AMBIGUOUS_KEY, "got a kid that two keys of the issuer have")
    key = keys.by_kid.get(token.kid)
    if key is None and token.kid in keys.unfit:
        raise InvalidCredential(Reason.ALG_KEY_MISMATCH, "got the kid of a key that is not for verifying tokens here")
    if key is None:
        raise _explain_unknown_kid(token, algorithm, others=others)
    if algorithm not in key.algorithms:
        raise InvalidCredential(Reason.ALG_KEY_MISMATCH, f"got {algorithm.value} with a {key.public.kind} key")
    return key


def _only_key(algorithm: Algorithm, keys: KeySet) -> Key:
    fitting = [key for key in keys.keys if algorithm in key.algorithms]
    if not fitting:
        raise InvalidCredential(Reason.ALG_KEY_MISMATCH, f"got {algorithm.value}, which fits no key of the issuer")
    if len(fitting) > 1:
        raise InvalidCredential(Reason.AMBIGUOUS_KEY, f"got no kid, and {len(fitting)} keys fit")
    return fitting[0]


# ---- why a signature does not hold: for the record only


def _rivals(key: Key, algorithm: Algorithm, *, keys: KeySet, others: Sequence[Issuer]) -> Iterator[tuple[Reason, Key]]:
    """The keys that may have made a signature that `key` did not: the issuer's own first."""
    owned = [(Reason.KID_MISMATCH, keys)]
    owned += [(Reason.ISSUER_KEY_MISMATCH, other.keys) for other in others if other.keys is not None]
    for reason, rivals in owned:
        for rival in rivals.keys:
            if rival.public != key.public and algorithm in rival.algorithms:
                yield reason, rival


def _explain_unknown_kid(token: Token, algorithm: Algorithm, *, others: Sequence[Issuer]) -> InvalidCredential:
    namesakes = [other.keys.by_kid.get(token.kid or "") for other in others if other.keys is not None]
    rivals = ((Reason.ISSUER_KEY_MISMATCH, key) for key in namesakes if key is not None)
    reason = _maker(token, algorithm, rivals=rivals)
    if reason is None:
        return InvalidCredential(Reason.UNKNOWN_KID, "got a kid that no key of the issuer has")
    return InvalidCredential(reason, "the token is signed by a key of another issuer")


def _explain(
    token: Token, algorithm: Algorithm, *, rivals: Iterator[tuple[Reason, Key]], otherwise: str
) -> InvalidCredential:
    reason = _maker(token, algorithm, rivals=rivals)
    if reason is None:
        return InvalidCredential(Reason.BAD_SIGNATURE, otherwise)
    return InvalidCredential(reason, "the token is signed by another key than the one it names")


def _maker(token: Token, algorithm: Algorithm, *, rivals: Iterator[tuple[Reason, Key]]) -> Reason | None:
    """Whose signature it is, as a reason; None if it is nobody's that was tried."""
    for reason, rival in islice(rivals, DIAGNOSIS_MAX_CHECKS):
        try:
            check_signature(rival.public, algorithm, signing_input=token.signing_input, signature=token.signature)
        except BadSignature:
            continue
        return reason
    return None
