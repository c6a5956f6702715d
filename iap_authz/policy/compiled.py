# SPDX-License-Identifier: Apache-2.0
"""The values that compiling ends in. A `Policy` is immutable and may be shared by all requests of a process.

Everything that does not depend on a request is worked out once: which reads must be set before CEL is asked, which
families they belong to, and one list expression per route that answers all its conditions in one call. A route numbers
the reads its conditions need; a set of them is an int with one bit each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cel_expr_python import cel

from iap_authz.model.decision import AssertionTerms
from iap_authz.model.ids import PolicyDigest
from iap_authz.model.reason import Durability, Verdict
from iap_authz.policy.reads import Kind, Read
from iap_authz.policy.routes import RouteIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One expression over `facts`.

    `needed` are the bits of what must be set before CEL is asked. `sourced` is what it reads, guarded or not, whose
    source must not be stale or broken; `families` are theirs. `slot` is its place in the route's list, or -1.
    """

    expression: cel.Expression
    needed: int
    sourced: frozenset[Read]
    families: frozenset[str]
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How one needed read is looked up in its family, and its bit."""

    bit: int
    kind: Kind
    field: str
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a row."""

    id: str
    condition: Condition
    asks: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRule:
    """A candidate rule: evaluated and recorded, never enforced."""

    id: str
    verdict: Verdict
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. Bit n of a condition's `needed` is `needed[n]`; `probes` are the same reads, by family.

    `guarded` are the guarded reads of all its conditions. `batch` is None where one condition alone gains nothing.
    """

    name: str
    durability: Durability
    deny: tuple[Rule, ...]
    challenge: tuple[Rule, ...]
    allow: tuple[Rule, ...]
    shadow: tuple[ShadowRule, ...]
    set_headers: tuple[tuple[str, Condition], ...]
    assertion: AssertionTerms | None
    batch: cel.Expression | None
    needed: tuple[Read, ...]
    probes: Mapping[str, tuple[Probe, ...]]
    guarded: tuple[Read, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """The route of a request, and the segments of its path that the pattern names."""

    route: Route
    captures: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A bundle that was checked as a whole. `name` joins the names of its policies with "+"; an empty bundle has none.

    `headers_read` and `query_parameters_read` are what the edge must put into `facts.request` for the conditions.
    `headers_set` are all names that reach the upstream as this policy sets them, or not at all: those that any route
    sets, and what the configuration adds.
    """

    name: str
    digest: PolicyDigest
    canonical: bytes
    routes: tuple[Route, ...]
    headers_read: frozenset[str]
    query_parameters_read: frozenset[str]
    headers_set: frozenset[str]
    index: RouteIndex

    def find_route(self, method: str, host: str, segments: Sequence[str]) -> RouteMatch | None:
        """The most specific route for a request (see `routes` for the order), or None."""
        found = self.index.find(method, host, segments=segments)
        return None if found is None else RouteMatch(route=self.routes[found.route], captures=found.captures)
