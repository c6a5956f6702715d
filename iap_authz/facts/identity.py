# SPDX-License-Identifier: Apache-2.0
"""Who is asking: the identity family of facts, from the one `authorization` header, or from the one of API keys.

The invariant: the state is PRESENT only for a token that `token.verify_token` accepted at `now`, or for an API key that
`apikey.verify_api_key` did; a credential that was shown and is not good is INVALID with its reason, keys that are
missing are ERROR, and only a request that shows none is ABSENT. A header that two readers could read two ways, or two
credentials, are INVALID, so that nothing behind us sees a credential that we did not judge. What is revoked is
`revocation`'s to say, on each request.

    Bearer SP token       exactly this spelling, one space, no white space and no comma in the token
    other SP anything     another scheme: no token was shown (Basic, Negotiate, DPoP)
    anything else         ambiguous

A comma is refused in any scheme: Envoy joins two `authorization` headers with one.

Specification: RFC 6750 section 2.1, RFC 9110 section 11.6.2. Deliberately not read: tokens in the query, in a form or
in cookies; other headers that name a user. Nothing is skipped for any user agent.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, SourceUnavailable
from iap_authz.facts.apikey import SOURCE_PREFIX, ApiKey, ApiKeyAccess, read_api_key, verify_api_key
from iap_authz.facts.claims import Claims
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.token import parse_token, verify_token
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request

_CREDENTIAL = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: ([^,]*))?")
"""RFC 9110 section 11.4: a scheme, and after one space what it needs; without the comma that joins two headers."""

_WHITE_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class EstablishedIdentity:
    """The facts, and how long they hold.

    `good_until` (exclusive) is the earliest instant at which the answer may change with the same request, issuers and
    keys; None means that it must not be kept. What changes before is `identity.age`: whoever keeps a copy calls
    `stamp_age` on it. `detail` explains `identity.problem` to the operator; it quotes nothing of the token.
    `unknown_key_of` is the `iss` of an issuer of ours that has no key of the token's name: newer keys may have it.
    """

    identity: facts_pb2.Identity
    good_until: datetime | None = None
    detail: str = ""
    unknown_key_of: str = ""


def credential_of(request: Request, api_keys: ApiKeyAccess | None = None) -> str | None:
    """The whole credential that the request shows, unjudged: what a cache may use as its key, and nothing else may use.

    A token's own text, or an API key's behind a word and a space, which no token has in it: the one is never found as
    the other. None if there is none *or* if it is ambiguous: not an answer, only the advice not to look into a cache.
    """
    try:
        key = read_api_key(request, api_keys.header) if api_keys is not None else None
        return _read_credential(request) if key is None else f"api-key {key}"
    except InvalidCredential:
        return None


def establish_identity(
    request: Request, issuers: Sequence[Issuer], *, api_keys: ApiKeyAccess | None = None, now: datetime
) -> EstablishedIdentity:
    """Who is asking, at `now` (with a time zone). Raises nothing for anything that a client can send.

    `api_keys` None: API keys are not taken, and their header is one like any other.
    """
    if api_keys is not None and request.headers.get(api_keys.header):
        return _establish_machine(request, api_keys, now=now)
    try:
        text = _read_credential(request)
    except InvalidCredential as error:
        return _refused(facts_pb2.INVALID, error.reason, detail=str(error), shown=_shown_text(request))
    if text is None:
        return EstablishedIdentity(identity=facts_pb2.Identity(state=facts_pb2.ABSENT))
    issuer = ""
    try:
        token = parse_token(text)
        issuer = str(token.payload.get("iss", ""))
        claims = verify_token(token, issuers, now=now)
    except InvalidCredential as error:
        refused = _refused(facts_pb2.INVALID, error.reason, detail=str(error), shown=text)
        return replace(refused, unknown_key_of=issuer) if error.reason == Reason.UNKNOWN_KID else refused
    except SourceUnavailable as error:
        return _refused(facts_pb2.ERROR, Reason.NO_KEYS, detail=str(error), shown=text)
    identity = _present(claims)
    identity.token_sha256 = _digest(text)
    stamp_age(identity, now)
    return EstablishedIdentity(identity=identity, good_until=claims.good_until)


def _establish_machine(request: Request, api_keys: ApiKeyAccess, *, now: datetime) -> EstablishedIdentity:
    """The same for a request with the header of API keys."""
    shown = ",".join(request.headers[api_keys.header])
    try:
        key = verify_api_key(read_api_key(request, api_keys.header) or "", api_keys.keys, now=now)
    except InvalidCredential as error:
        return _refused(facts_pb2.INVALID, error.reason, detail=str(error), shown=shown)
    except SourceUnavailable as error:
        return _refused(facts_pb2.ERROR, Reason.SOURCE_ERROR, detail=str(error), shown=shown)
    identity = _machine(key)
    identity.token_sha256 = _digest(shown)
    stamp_age(identity, now)
    return EstablishedIdentity(identity=identity, good_until=key.expires)


def stamp_age(identity: facts_pb2.Identity, now: datetime) -> None:
    """Set `age` of a copy that was kept: `now` less the time of issue, never below zero; unset without one."""
    if identity.HasField("issued_at"):
        issued_at = identity.issued_at.ToDatetime(tzinfo=now.tzinfo)
        identity.age.FromTimedelta(max(now - issued_at, timedelta(0)))


def _read_credential(request: Request) -> str | None:
    values = request.headers.get("authorization", ())
    if not values:
        return None
    if len(values) > 1:
        raise InvalidCredential(Reason.AMBIGUOUS_CREDENTIALS, f"got {len(values)} authorization headers, want one")
    match = _CREDENTIAL.fullmatch(values[0])
    if match is None:
        raise InvalidCredential(Reason.AMBIGUOUS_CREDENTIALS, "got an authorization header that is not scheme SP token")
    scheme, rest = match.group(1), match.group(2)
    if scheme.lower() != "bearer":
        return None
    if scheme != "Bearer" or not rest or _WHITE_SPACE.search(rest):
        raise InvalidCredential(Reason.AMBIGUOUS_CREDENTIALS, 'want exactly "Bearer", one space and the token')
    return rest


def _shown_text(request: Request) -> str:
    """What an ambiguous header shows, so that its repetitions can be joined: all of it but a scheme's name."""
    text = ",".join(request.headers.get("authorization", ()))
    return text[len("bearer") :].strip() if text[: len("bearer")].lower() == "bearer" else text


def _refused(state: facts_pb2.State, reason: int, *, detail: str, shown: str) -> EstablishedIdentity:
    identity = facts_pb2.Identity(state=state, problem=Reason(reason).value, token_sha256=_digest(shown))
    return EstablishedIdentity(identity=identity, detail=detail)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def _machine(key: ApiKey) -> facts_pb2.Identity:
    identity = facts_pb2.Identity(
        state=facts_pb2.PRESENT,
        source=f"{SOURCE_PREFIX}{key.name}",
        kind="machine",
        subject=key.subject,
        groups=key.groups,
        scopes=key.scopes,
        token_id=key.id,
    )
    lists = {"groups": key.groups, "scopes": key.scopes}
    identity.empty.extend(name for name, elements in lists.items() if elements == ())
    identity.issued_at.FromDatetime(key.created)
    identity.expires.FromDatetime(key.expires)
    return identity


def _present(claims: Claims) -> facts_pb2.Identity:
    identity = facts_pb2.Identity(
        state=facts_pb2.PRESENT,
        source=f"jwt:{claims.source}",
        subject=claims.subject,
        issuer=claims.issuer,
        audiences=claims.audiences,
        groups=claims.groups,
        claims=claims.claims,
        email=claims.email,
        acr=claims.acr,
        amr=claims.amr,
        session_id=claims.session_id,
        token_id=claims.token_id,
        scopes=claims.scopes,
        algorithm=claims.algorithm,
        key_id=claims.key_id,
    )
    lists = {"groups": claims.groups, "amr": claims.amr, "scopes": claims.scopes}
    identity.empty.extend(name for name, elements in lists.items() if elements == ())
    identity.expires.FromDatetime(claims.expires)
    if claims.issued_at is not None:
        identity.issued_at.FromDatetime(claims.issued_at)
    if claims.auth_time is not None:
        identity.auth_time.FromDatetime(claims.auth_time)
    return identity
