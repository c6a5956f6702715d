# SPDX-License-Identifier: Apache-2.0
"""The values of parsed policy files: what the operator wrote, normalised, with the places of its conditions.

Invariant: names, hosts, methods, paths, header names and `asks` are valid here; conditions are still text.
Nothing here is compiled; `condition` and `routes` do that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from iap_authz.model.decision import AssertionTerms
from iap_authz.model.document import Text
from iap_authz.model.reason import Durability, Verdict

METHODS_BY_DEFAULT = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""What a route answers for when it lists no methods. TRACE and CONNECT must be asked for by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a bundle. `name` only serves messages; it is no part of the digest."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPattern:
    """A path of a route. `segments` holds literals, and None for one segment of any text.

    `captures` pairs a position in `segments` with the name given to it. With `rest`, any number of segments may follow.
    """

    text: Text
    segments: tuple[str | None, ...]
    captures: tuple[tuple[int, str], ...]
    rest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSource:
    """Which requests a route is for. No hosts: any host. No methods: `METHODS_BY_DEFAULT`."""

    hosts: tuple[str, ...]
    methods: tuple[str, ...]
    paths: tuple[PathPattern, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSource:
    """One rule. `asks` is what a challenge wants (`redirect`, `acr`, `max_age`), as text."""

    id: str
    condition: Text
    asks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSource:
    """A candidate rule: `verdict` (ALLOW, DENY or CHALLENGE) is what it would have said."""

    id: str
    verdict: Verdict
    condition: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSource:
    """One route with its rows of rules, in the order of the file."""

    name: Text
    match: MatchSource
    deny: tuple[RuleSource, ...]
    challenge: tuple[RuleSource, ...]
    allow: tuple[RuleSource, ...]
    shadow: tuple[ShadowSource, ...]
    durability: Durability
    set_headers: Mapping[str, Text]
    assertion: AssertionTerms | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySource:
    """One parsed file. `levels` are named conditions that this file's conditions may use as `level.<name>`."""

    name: Text
    levels: Mapping[str, Text]
    routes: tuple[RouteSource, ...]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSource:
    """All files that decide together, in the order of their policies' names."""

    policies: tuple[PolicySource, ...]
