# SPDX-License-Identifier: Apache-2.0
"""Revocation: credentials that are genuine and must not be believed any more.

The invariant: an identity that leaves `judge_revocation` PRESENT was looked up in a list that is in force, by each of
its names, and none of them was revoked at `now`. A list that is missing or too old revokes nobody and clears nobody:
"not on the list" is then not known, so a PRESENT identity becomes ERROR.

    sub  sid  jti  kid    of one issuer, byte for byte as the token has them
    api_key               the id of an API key; no issuer
    certificate_sha256    a client certificate, no issuer; judged in `revoked_certificate`
    certificate_serial    the same, of the authority that `issuer` names

    no `before`           revoked, whenever it was issued
    `before`              revoked if issued before it, or if the token does not say when: "log out everywhere"
    `until`               from then on the entry counts as not there: it is for credentials that have expired by then

It is asked on each request, after the cache of verified tokens, so a new list reaches a cached token at once. Look-ups
do not depend on the length of the list.

Specification: RFC 7009 leaves the means open; `sid` is that of OpenID Connect Back-Channel Logout 2.1. Deliberately not
here: `before` for a signing key, because whoever has stolen it writes any time of issue.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, Malformed, SourceUnavailable
from iap_authz.facts.distinguished import parse_name
from iap_authz.facts.revision import check_revision
from iap_authz.model.reason import Reason


class Kind(enum.StrEnum):
    """What an entry names; the value is its name in the file, and for a token the claim or header member."""

    SUBJECT = "sub"
    SESSION = "sid"
    TOKEN_ID = "jti"  # noqa: S105 -- the name of a claim
    SIGNING_KEY = "kid"
    API_KEY = "api_key"
    CERTIFICATE = "certificate_sha256"
    SERIAL = "certificate_serial"


DATED: Final = frozenset({Kind.SUBJECT, Kind.SESSION})
"""Kinds that may have `before`: many tokens are issued to one of them, and none of those can change its own iat."""

WITHOUT_ISSUER: Final = frozenset({Kind.API_KEY, Kind.CERTIFICATE})
"""Kinds whose value is unique by itself."""

CERTIFICATE_KINDS: Final = frozenset({Kind.CERTIFICATE, Kind.SERIAL})
"""Kinds that name a client certificate."""

Name = tuple[Kind, str, str]
"""Kind, issuer and value: what identities are looked up by. The issuer of a serial number is in its canonical form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One entry. `issuer` is empty for what needs none. Raises ValueError for a combination that must not exist.

    The issuer of a serial number is a distinguished name (RFC 4514) as somebody wrote it.
    """

    kind: Kind
    value: str
    issuer: str = ""
    before: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what the parser of the file should have refused."""
        if not self.value or bool(self.issuer) is (self.kind in WITHOUT_ISSUER):
            raise ValueError(
                "got an entry without a value, without an issuer that it needs, or with one that it has not"
            )
        if self.before is not None and self.kind not in DATED:
            raise ValueError(f"got `before` for a {self.kind.value}")
        try:
            self.name()
        except Malformed as error:
            raise ValueError(str(error)) from error

    def name(self) -> Name:
        """What it is found by."""
        issuer = parse_name(self.issuer) if self.kind is Kind.SERIAL else self.issuer
        return self.kind, issuer, self.value

    def counts(self, issued_at: datetime | None, now: datetime) -> bool:
        """Whether it revokes, at `now`, what was issued then (None: not known when)."""
        if self.until is not None and now >= self.until:
            return False
        return self.before is None or issued_at is None or issued_at < self.before

    def covers(self, other: "Revocation") -> bool:
        """Whether it revokes, of the same name, all that `other` revokes."""
        lasts = self.until is None or (other.until is not None and other.until <= self.until)
        return lasts and (self.before is None or (other.before is not None and other.before <= self.before))


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """All entries in force. Two of one name both count; one that another covers is left out."""

    name: str = "revocations"
    revision: int = 0
    entries: tuple[Revocation, ...] = ()
    kinds: frozenset[Kind] = field(init=False, repr=False, compare=False)
    """What the entries name, so that nothing is looked up, or parsed for it, that no entry could name."""
    _index: dict[Name, tuple[Revocation, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the index."""
        index: dict[Name, tuple[Revocation, ...]] = {}
        for entry in self.entries:
            name = entry.name()
            kept = index.get(name, ())
            if not any(other.covers(entry) for other in kept):
                index[name] = (*(other for other in kept if not entry.covers(other)), entry)
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "kinds", frozenset(kind for kind, _, _ in index))

    def find(self, name: Name) -> tuple[Revocation, ...]:
        """The entries of this name."""
        return self._index.get(name, ())

    def revokes(self, name: Name, issued_at: datetime | None, now: datetime) -> bool:
        """Whether an entry of this name counts, at `now`, for what was issued then (None: not known when)."""
        return any(entry.counts(issued_at, now) for entry in self.find(name))


NOBODY_REVOKED: Final = RevocationList()
"""What is in force where no revocations are configured."""


def check_succession(revocations: RevocationList, previous: RevocationList | None) -> None:
    """Raise Invalid if this list is older than the one in use: one put back would revive what was revoked since."""
    if previous is not None:
        check_revision(revocations.name, revocations.revision, previous.revision)


def judge_revocation(identity: facts_pb2.Identity, revocations: RevocationList | None, *, now: datetime) -> None:
    """Make a PRESENT `identity` INVALID if it is revoked at `now`, ERROR if that is not known. Others stay as they are.

    What is refused keeps its hash and nothing else, like any credential that is not good.
    """
    if identity.state != facts_pb2.PRESENT:
        return
    try:
        check_not_revoked(identity, revocations, now=now)
    except InvalidCredential as error:
        refuse_identity(identity, facts_pb2.INVALID, Reason(error.reason))
    except SourceUnavailable:
        refuse_identity(identity, facts_pb2.ERROR, Reason.SOURCE_ERROR)


def check_not_revoked(identity: facts_pb2.Identity, revocations: RevocationList | None, *, now: datetime) -> None:
    """Raise InvalidCredential if what proved `identity` is revoked at `now`, or SourceUnavailable without a list."""
    if revocations is None:
        raise SourceUnavailable("got no list of revocations, want one before a credential is believed")
    if not revocations.entries:
        return
    for name in _names(identity):
        if not revocations.find(name):
            continue
        issued_at = identity.issued_at.ToDatetime(tzinfo=UTC) if identity.HasField("issued_at") else None
        if revocations.revokes(name, issued_at, now):
            raise InvalidCredential(Reason.TOKEN_REVOKED, f"its {name[0].value} is revoked")


def _names(identity: facts_pb2.Identity) -> Sequence[Name]:
    """What an identity may be revoked by: an API key by its id alone, a token by whatever its issuer says in it.

    What the token does not say is an empty text here, which no entry has.
    """
    issuer = identity.issuer
    if not issuer:
        return ((Kind.API_KEY, "", identity.token_id),)
    return (
        (Kind.SUBJECT, issuer, identity.subject),
        (Kind.SESSION, issuer, identity.session_id),
        (Kind.TOKEN_ID, issuer, identity.token_id),
        (Kind.SIGNING_KEY, issuer, identity.key_id),
    )


def refuse_identity(identity: facts_pb2.Identity, state: facts_pb2.State, reason: Reason) -> None:
    """Leave nothing of an identity but that it is not believed, why, and the hash of what was shown."""
    shown = identity.token_sha256
    identity.Clear()
    identity.state, identity.problem, identity.token_sha256 = state, reason.value, shown
