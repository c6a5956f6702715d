# SPDX-License-Identifier: Apache-2.0
"""Who is asking: the identity family of facts, from the one credential that the request shows.

The invariant: the state is PRESENT only for a token that `token.verify_token` accepted at `now`, or for an API key that
`apikey.verify_api_key` did; a credential that was shown and is not good is INVALID with its reason, keys that are
missing are ERROR, and only a request that shows none is ABSENT. Where credentials may stand, and that there is one, is
`credential`'s to say; what is revoked is `revocation`'s, on each request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, SourceUnavailable
from iap_authz.facts.apikey import ApiKey, ApiKeyAccess, verify_api_key
from iap_authz.facts.claims import Claims
from iap_authz.facts.credential import DEFAULT_SOURCES, Shown, TokenSource, read_credential, shown_text
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.token import parse_token, verify_token
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request


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


def credential_of(
    request: Request, api_keys: ApiKeyAccess | None = None, *, sources: Sequence[TokenSource] = DEFAULT_SOURCES
) -> str | None:
    """The whole credential that the request shows, unjudged: what a cache may use as its key, and nothing else may use.

    Its place, a space, and its text, in which there is none: what is found in one place is never taken for what was
    shown in another. None if there is none *or* if it is ambiguous: not an answer, only the advice not to look into a
    cache.
    """
    try:
        shown = read_credential(request, sources, api_key_header=_header_of(api_keys))
    except InvalidCredential:
        return None
    return None if shown is None else f"{shown.shown_in} {shown.text}"


def establish_identity(
    request: Request,
    issuers: Sequence[Issuer],
    *,
    sources: Sequence[TokenSource] = DEFAULT_SOURCES,
    api_keys: ApiKeyAccess | None = None,
    now: datetime,
) -> EstablishedIdentity:
    """Who is asking, at `now` (with a time zone). Raises nothing for anything that a client can send.

    `api_keys` None: API keys are not taken, and their header is one like any other.
    """
    header = _header_of(api_keys)
    try:
        shown = read_credential(request, sources, api_key_header=header)
    except InvalidCredential as error:
        text = shown_text(request, sources, api_key_header=header)
        return _refused(facts_pb2.INVALID, error.reason, detail=str(error), shown=Shown(text=text, shown_in=""))
    if shown is None:
        return EstablishedIdentity(identity=facts_pb2.Identity(state=facts_pb2.ABSENT))
    if api_keys is not None and shown.is_api_key:
        return _establish_machine(shown, api_keys, now=now)
    return _establish_bearer(shown, issuers, now=now)


def _header_of(api_keys: ApiKeyAccess | None) -> str:
    return "" if api_keys is None else api_keys.header


def _establish_bearer(shown: Shown, issuers: Sequence[Issuer], *, now: datetime) -> EstablishedIdentity:
    """Who shows this token."""
    issuer = ""
    try:
        token = parse_token(shown.text)
        issuer = str(token.payload.get("iss", ""))
        claims = verify_token(token, issuers, now=now)
    except InvalidCredential as error:
        refused = _refused(facts_pb2.INVALID, error.reason, detail=str(error), shown=shown)
        return replace(refused, unknown_key_of=issuer) if error.reason == Reason.UNKNOWN_KID else refused
    except SourceUnavailable as error:
        return _refused(facts_pb2.ERROR, Reason.NO_KEYS, detail=str(error), shown=shown)
    return _established(_present(claims), shown, now=now, good_until=claims.good_until)


def _establish_machine(shown: Shown, api_keys: ApiKeyAccess, *, now: datetime) -> EstablishedIdentity:
    """Who shows this API key."""
    try:
        key = verify_api_key(shown.text, api_keys.keys, now=now)
    except InvalidCredential as error:
        return _refused(facts_pb2.INVALID, error.reason, detail=str(error), shown=shown)
    except SourceUnavailable as error:
        return _refused(facts_pb2.ERROR, Reason.SOURCE_ERROR, detail=str(error), shown=shown)
    return _established(_machine(key), shown, now=now, good_until=key.expires)


def _established(
    identity: facts_pb2.Identity, shown: Shown, *, now: datetime, good_until: datetime
) -> EstablishedIdentity:
    identity.token_sha256, identity.shown_in = _digest(shown.text), shown.shown_in
    stamp_age(identity, now)
    return EstablishedIdentity(identity=identity, good_until=good_until)


def stamp_age(identity: facts_pb2.Identity, now: datetime) -> None:
    """Set `age` of a copy that was kept: `now` less the time of issue, never below zero; unset without one."""
    if identity.HasField("issued_at"):
        issued_at = identity.issued_at.ToDatetime(tzinfo=now.tzinfo)
        identity.age.FromTimedelta(max(now - issued_at, timedelta(0)))


def _refused(state: facts_pb2.State, reason: int, *, detail: str, shown: Shown) -> EstablishedIdentity:
    identity = facts_pb2.Identity(state=state, problem=Reason(reason).value, token_sha256=_digest(shown.text))
    if shown.shown_in:
        identity.shown_in = shown.shown_in
    return EstablishedIdentity(identity=identity, detail=detail)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def _machine(key: ApiKey) -> facts_pb2.Identity:
    identity = facts_pb2.Identity(
        state=facts_pb2.PRESENT,
        source=f"api-key:{key.name}",
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
        source=claims.source,
        kind=claims.kind,
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
