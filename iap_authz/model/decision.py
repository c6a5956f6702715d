# SPDX-License-Identifier: Apache-2.0
"""`Decision`: what the policy, or the service itself, answers to one check."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from iap_authz.model.ids import PolicyDigest
from iap_authz.model.reason import Durability, Reason, Verdict

NO_POLICY = PolicyDigest(b"")
"""The digest of a decision that no policy took part in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What a candidate rule would have said. `verdict` is None where its condition is false."""

    rule: str
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionTerms:
    """What a route says of the assertion that an ALLOW of it carries. No audience: the one that is configured.

    With `request_binding` it holds for the request that was judged and for no other.
    """

    audience: str = ""
    request_binding: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One verdict with everything that explains it. `rule` and `route` are empty where none decided.

    `set_headers` are headers for the upstream, of an ALLOW only; `remove_headers` are those that the route would have
    set and that had no value: a client's own must not pass in their place. `assertion` is set where an ALLOW must not
    be answered without one. `asks` holds what a challenge rule wants (`redirect`, `acr`, `max_age`), as text.
    """

    verdict: Verdict
    reason: Reason
    rule: str = ""
    route: str = ""
    missing: tuple[str, ...] = ()
    shadow: tuple[Shadow, ...] = ()
    durability: Durability = Durability.JOURNAL
    set_headers: Mapping[str, str] = field(default_factory=dict)
    remove_headers: tuple[str, ...] = ()
    assertion: AssertionTerms | None = None
    asks: Mapping[str, str] = field(default_factory=dict)
    policy_digest: PolicyDigest = NO_POLICY


def undecided(reason: Reason, policy_digest: PolicyDigest = NO_POLICY) -> Decision:
    """The refusal of a service that cannot decide or cannot keep the record."""
    return Decision(verdict=Verdict.UNDECIDED, reason=reason, policy_digest=policy_digest)


def denied(reason: Reason, policy_digest: PolicyDigest = NO_POLICY) -> Decision:
    """The refusal of what is malformed or forged."""
    return Decision(verdict=Verdict.DENY, reason=reason, policy_digest=policy_digest)
