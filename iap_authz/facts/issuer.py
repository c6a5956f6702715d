# SPDX-License-Identifier: Apache-2.0
"""`Issuer`: whose tokens are believed, with which algorithms, for whom, and for how long.

The invariant: an `Issuer` that exists names at least one audience and one algorithm, all of one key family, so neither
"any audience" nor "whatever the token says" can be configured. Its keys belong to it alone.

Specification: RFC 8725 sections 3.1, 3.8 and 3.9. Deliberately not here: where keys come from, and messages for the
operator: the configuration reports its faults with their place before an `Issuer` is built.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from iap_authz.facts.keyset import KeySet
from iap_authz.facts.signature import Algorithm

SKEW_MAX = timedelta(minutes=5)
"""How far apart two clocks may be believed to be; more would only lengthen the life of every token."""

RESERVED_CLAIMS = frozenset({"email"})
"""Not copied by name: an email is a fact only where the issuer says that it is verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """That an issuer is a Kubernetes cluster, whose tokens are those of service accounts, and of nobody else.

    want_pod: only tokens that are bound to a pod are taken.
    """

    want_pod: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One issuer of tokens. Raises ValueError for a combination that must not exist.

    name: of the configuration, for `Identity.source`. issuer: `iss`, compared byte for byte. audiences: a token names
    at least one of them, exactly. keys: None until they are known. skew: tolerance for exp, nbf and iat, 0 to 5 min.
    max_lifetime: the longest allowed exp - iat. max_age: the longest allowed now - iat. Both need iat in the token.
    groups_claim: the path of member names that leads to the groups. claims: names of top-level claims to copy.
    email_domains: the only ones an email may be of, in lower case; without any, every domain that is plain ASCII.
    cluster: None for an issuer of people's tokens.
    """

    name: str
    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[Algorithm]
    keys: KeySet | None = field(repr=False)
    skew: timedelta
    max_lifetime: timedelta | None = None
    max_age: timedelta | None = None
    groups_claim: tuple[str, ...] = ("groups",)
    claims: tuple[str, ...] = ()
    email_domains: frozenset[str] = frozenset()
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        """Refuse what the configuration should have refused."""
        if not self.name or not self.issuer:
            raise ValueError("got an issuer without a name or without iss")
        if not self.audiences or "" in self.audiences:
            raise ValueError("got no audience or an empty one, want at least one")
        if len({algorithm.family for algorithm in self.algorithms}) != 1:
            raise ValueError("got no algorithm or algorithms of two key families, want those of one")
        if not timedelta(0) <= self.skew <= SKEW_MAX:
            raise ValueError(f"got a skew of {self.skew}, want 0 to {SKEW_MAX}")
        bounds = (self.max_lifetime, self.max_age)
        if any(bound is not None and bound <= timedelta(0) for bound in bounds):
            raise ValueError("got a max_lifetime or max_age that is not positive")
        if not self.groups_claim or not all(self.groups_claim):
            raise ValueError("got an empty groups_claim, want a path of names")
        if RESERVED_CLAIMS & set(self.claims) or not all(self.claims):
            raise ValueError(f"got an empty claim or one of {sorted(RESERVED_CLAIMS)} among the claims to copy")
