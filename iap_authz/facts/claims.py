# SPDX-License-Identifier: Apache-2.0
"""What a token says, judged once its signature is known to be the issuer's.

The invariant: `Claims` exist only for a token that is meant for one of the issuer's audiences, is inside its validity
at `now`, and whose every claim that is read has the type its specification gives it. None is guessed, cut, folded,
normalised or coerced: `"1700000000"` is no number, `"eng"` is no list of characters, `"true"` is not true, and a text
that could be taken for another one is refused (`text`).

Order of judgement: times, audience, subject, kind of token, e-mail, groups, the rest. What is unknown is None; a list
that is known to have no element is ().

Specification: RFC 7519 section 4.1, RFC 8725, RFC 9068, OpenID Connect Core 2 and 5.1. Deliberately not here: claims
about a key that the client must prove (`cnf`): such a token is refused, because taking it from a bearer would undo it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from iap_authz.errors import InvalidCredential
from iap_authz.facts.encoding import JsonValue, Number
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.service_account import KIND, ServiceAccount, judge_service_account
from iap_authz.facts.text import check_plain
from iap_authz.model.reason import Reason

LIST_MAX_ELEMENTS = 200
"""The largest number of groups or scopes taken; issuers switch to an overage marker at about this number."""

SUBJECT_MAX_CHARS = 255
"""OpenID Connect Core section 2: `sub` must not exceed 255 characters."""

NUMERIC_DATE_MAX_SECONDS = 253_402_214_400
"""9999-12-31: a tolerance added to it still fits a datetime and a protobuf Timestamp."""

EMAIL_MAX_CHARS = 254
"""RFC 5321 sections 4.5.3.1.3: a path of 256 octets, less its angle brackets."""

_EMAIL_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_EMAIL_ATOM}(?:\.{_EMAIL_ATOM})*@{_EMAIL_LABEL}(?:\.{_EMAIL_LABEL})*")
"""RFC 5321's dot-string form with one @ and an ASCII domain; quoted and international addresses are not taken."""

_ACE_PREFIX = "xn--"
"""RFC 5890 section 2.3.2.5."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749 section 3.3: a scope token."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a good token says. `good_until` is when it stops being good (exclusive), everything else being equal."""

    source: str
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires: datetime
    good_until: datetime
    issued_at: datetime | None
    auth_time: datetime | None
    groups: tuple[str, ...] | None
    scopes: tuple[str, ...] | None
    amr: tuple[str, ...] | None
    claims: Mapping[str, str]
    email: str | None
    acr: str | None
    session_id: str | None
    token_id: str | None
    kind: str | None
    algorithm: str
    key_id: str | None


def is_email_domain(text: str) -> bool:
    """Whether an email may be of this domain: ASCII, in lower case, as it is compared."""
    return text == text.lower() and _EMAIL.fullmatch(f"a@{text}") is not None


def judge_claims(
    payload: Mapping[str, JsonValue], issuer: Issuer, *, algorithm: str, key_id: str | None, now: datetime
) -> Claims:
    """Judge the claims of a token that `issuer` signed. Raises InvalidCredential with the first thing wrong."""
    expires = _date(payload, "exp")
    if expires is None:
        raise InvalidCredential(Reason.MISSING_EXP, "got a token without exp")
    issued_at = _date(payload, "iat")
    good_until = _judge_times(payload, issuer, expires=expires, issued_at=issued_at, now=now)
    audiences = _audiences(payload, issuer)
    subject = _subject(payload)
    _refuse_other_kinds(payload)
    account = _account(payload, issuer, subject)
    return Claims(
        source=f"jwt:{issuer.name}" if account is None else f"service-account:{issuer.name}",
        issuer=issuer.issuer,
        subject=subject,
        audiences=audiences,
        expires=expires,
        good_until=good_until,
        issued_at=issued_at,
        auth_time=_auth_time(payload, issuer, now=now),
        email=_email(payload, issuer.email_domains),
        groups=_groups(payload, issuer.groups_claim) if account is None else account.groups,
        scopes=_scopes(payload),
        amr=_texts(payload, "amr"),
        claims=_copied(payload, issuer.claims) | ({} if account is None else account.claims),
        acr=_text(payload, "acr"),
        session_id=_text(payload, "sid"),
        token_id=_text(payload, "jti"),
        kind=None if account is None else KIND,
        algorithm=algorithm,
        key_id=key_id,
    )


def _bad_type(name: str, want: str) -> InvalidCredential:
    return InvalidCredential(Reason.BAD_CLAIM_TYPE, f"got another type or form in {name}, want {want}")


def _date(payload: Mapping[str, JsonValue], name: str) -> datetime | None:
    """A NumericDate (RFC 7519 section 2), fractions to the microsecond; None where there is none."""
    if name not in payload:
        return None
    value = payload[name]
    seconds = Decimal(value.text) if isinstance(value, Number) else Decimal(-1)
    if not 0 <= seconds <= NUMERIC_DATE_MAX_SECONDS:
        raise _bad_type(name, "a number of seconds from 1970 to 9999")
    return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000))


def _judge_times(
    payload: Mapping[str, JsonValue], issuer: Issuer, *, expires: datetime, issued_at: datetime | None, now: datetime
) -> datetime:
    """RFC 7519 sections 4.1.4 to 4.1.6, and the issuer's bounds. Returns when the token stops being good."""
    not_before = _date(payload, "nbf")
    if now >= expires + issuer.skew:
        raise InvalidCredential(Reason.EXPIRED, "the token has expired")
    if not_before is not None and not_before > now + issuer.skew:
        raise InvalidCredential(Reason.NOT_YET_VALID, "the token is not valid yet")
    if issued_at is not None and issued_at > now + issuer.skew:
        raise InvalidCredential(Reason.IAT_FUTURE, "the token was issued in the future")
    good_until = expires + issuer.skew
    if issuer.max_lifetime is None and issuer.max_age is None:
        return good_until
    if issued_at is None:
        raise InvalidCredential(Reason.TOKEN_TOO_OLD, "got a token without iat where its age is bounded")
    if issuer.max_lifetime is not None and expires - issued_at > issuer.max_lifetime:
        raise InvalidCredential(Reason.TOKEN_TOO_OLD, f"got a lifetime above {issuer.max_lifetime}")
    if issuer.max_age is None:
        return good_until
    if now - issued_at >= issuer.max_age:
        raise InvalidCredential(Reason.TOKEN_TOO_OLD, f"got a token as old as {issuer.max_age} or older")
    return min(good_until, issued_at + issuer.max_age)


def _audiences(payload: Mapping[str, JsonValue], issuer: Issuer) -> tuple[str, ...]:
    """RFC 7519 section 4.1.3: one text or a list of texts, of which one is ours, byte for byte."""
    if "aud" not in payload:
        raise InvalidCredential(Reason.MISSING_AUD, "got a token without aud")
    value = payload["aud"]
    audiences = (value,) if isinstance(value, str) else _texts(payload, "aud")
    if not audiences or "" in audiences:
        raise _bad_type("aud", "a text or a list of texts, none of them empty")
    if not issuer.audiences.intersection(audiences):
        raise InvalidCredential(Reason.WRONG_AUD, "the token is for other audiences")
    return audiences


def _subject(payload: Mapping[str, JsonValue]) -> str:
    value = payload.get("sub")
    if not isinstance(value, str) or not 0 < len(value) <= SUBJECT_MAX_CHARS:
        raise InvalidCredential(Reason.BAD_SUB, f"want a sub of 1 to {SUBJECT_MAX_CHARS} characters")
    if any(character < " " or "\x7f" <= character < "\xa0" for character in value):
        raise InvalidCredential(Reason.BAD_SUB, "got a control character in sub")
    check_plain(value, "sub")
    return value


def _account(payload: Mapping[str, JsonValue], issuer: Issuer, subject: str) -> ServiceAccount | None:
    """The service account, where the issuer is a cluster."""
    if issuer.cluster is None:
        return None
    return judge_service_account(payload, subject, want_pod=issuer.cluster.want_pod)


def _refuse_other_kinds(payload: Mapping[str, JsonValue]) -> None:
    """Statements that the same issuer signs with the same keys and that are no bearer's identity."""
    if "events" in payload:  # RFC 8417 section 2.2: security events and logout tokens
        raise InvalidCredential(
            Reason.UNSUPPORTED_TOKEN, "got a security event token, want an identity or access token"
        )
    if "cnf" in payload:  # RFC 7800, RFC 8705 section 3, RFC 9449 section 7.2
        raise InvalidCredential(Reason.BINDING_MISMATCH, "got a token bound to a key whose possession was not shown")


def _auth_time(payload: Mapping[str, JsonValue], issuer: Issuer, *, now: datetime) -> datetime | None:
    """A login in the future would make every bound on its age true for ever."""
    value = _date(payload, "auth_time")
    if value is not None and value > now + issuer.skew:
        raise InvalidCredential(Reason.IAT_FUTURE, "got an auth_time in the future")
    return value


def _email(payload: Mapping[str, JsonValue], domains: frozenset[str]) -> str | None:
    """The e-mail, byte for byte, if the issuer says that it is verified. A bad one is refused, verified or not.

    An internationalised domain (RFC 5890: a label `xn--...`) is what another one can be made to look like. It counts
    only where `domains` lists it; where that lists any, no other domain does.
    """
    if "email" not in payload:
        return None
    value = payload["email"]
    if not isinstance(value, str) or len(value) > EMAIL_MAX_CHARS or not _EMAIL.fullmatch(value):
        raise InvalidCredential(Reason.BAD_EMAIL, "want an email of ASCII characters with a single @")
    domain = value.partition("@")[2].lower()
    if domain not in domains and (domains or any(label.startswith(_ACE_PREFIX) for label in domain.split("."))):
        raise InvalidCredential(Reason.BAD_EMAIL, "got an email of an internationalised domain, or one not listed")
    return value if payload.get("email_verified") is True else None


def _groups(payload: Mapping[str, JsonValue], path: tuple[str, ...]) -> tuple[str, ...] | None:
    """The groups at `path`. A list that says of itself that it is not whole is not known, rather than short."""
    if _is_overage(payload, path[0]):
        return None
    inner = payload
    for name in path[:-1]:
        if name not in inner:
            return None
        step = inner[name]
        if not isinstance(step, dict):
            raise _bad_type(name, "an object on the way to the groups")
        inner = step
    groups = _texts(inner, path[-1])
    if groups is not None and "" in groups:
        raise _bad_type(path[-1], "texts that are not empty")
    return groups


def _is_overage(payload: Mapping[str, JsonValue], name: str) -> bool:
    """Too many groups for a token: `hasgroups`, or the distributed claims of OpenID Connect Core 5.6.2."""
    elsewhere = payload.get("_claim_names")
    return payload.get("hasgroups", False) is not False or (isinstance(elsewhere, dict) and name in elsewhere)


def _scopes(payload: Mapping[str, JsonValue]) -> tuple[str, ...] | None:
    """`scope` (RFC 9068 section 2.2.3), or `scp`, which issuers write as such a text or as a list."""
    name = "scope" if "scope" in payload else "scp"
    value = payload.get(name)
    if isinstance(value, str):
        scopes: tuple[str, ...] | None = _bounded(tuple(value.split(" ")), name) if value else ()
    else:
        scopes = _texts(payload, name)
    if scopes and not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise _bad_type(name, "scope tokens, in a text parted by single spaces")
    return scopes


def _copied(payload: Mapping[str, JsonValue], names: tuple[str, ...]) -> dict[str, str]:
    """The configured claims as text: numbers and booleans in JSON's spelling. Null is as good as not there."""
    copied: dict[str, str] = {}
    for name in names:
        value = payload.get(name)
        if isinstance(value, bool):
            copied[name] = "true" if value else "false"
        elif isinstance(value, Number):
            copied[name] = value.text
        elif isinstance(value, str):
            check_plain(value, "a configured claim")
            copied[name] = value
        elif value is not None:
            raise _bad_type("a configured claim", "a text, a number or a boolean")
    return copied


def _text(payload: Mapping[str, JsonValue], name: str) -> str | None:
    if name not in payload:
        return None
    value = payload[name]
    if not isinstance(value, str) or not value:
        raise _bad_type(name, "a text that is not empty")
    check_plain(value, name)
    return value


def _texts(payload: Mapping[str, JsonValue], name: str) -> tuple[str, ...] | None:
    """A list of texts; None where there is none. A text alone is not a list of one."""
    if name not in payload:
        return None
    value = payload[name]
    if not isinstance(value, list):
        raise _bad_type(name, "a list of texts")
    texts = tuple(element for element in value if isinstance(element, str))
    if len(texts) != len(value):
        raise _bad_type(name, "a list of texts")
    for text in _bounded(texts, name):
        check_plain(text, name)
    return texts


def _bounded(texts: tuple[str, ...], name: str) -> tuple[str, ...]:
    if len(texts) > LIST_MAX_ELEMENTS:
        raise InvalidCredential(Reason.TOKEN_TOO_LARGE, f"got {len(texts)} in {name}, want at most {LIST_MAX_ELEMENTS}")
    return texts
