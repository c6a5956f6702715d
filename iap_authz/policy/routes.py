# SPDX-License-Identifier: Apache-2.0
"""From (method, host, segments) to the most specific route, through a host map and a trie of path segments.

Among all patterns that match, the first in this order wins:

    1. an exact host, then the longest `*.` host, then any host
    2. segment by segment from the left: a literal, then `{name}` or `*`, then the end of the pattern, then `**`
    3. a route that lists the method by name, then one that lists no methods

The order is total: two patterns that tie have the same host, the same segments but for the names in braces, and a
method in common. Such a pair is a fault of the bundle (`add` tells it), so no request ever has two best routes.

A route whose host or path fits but whose methods do not is passed over, and a less specific one may take the request.
An empty list of segments is no path and matches nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from iap_authz.policy.source import METHODS_BY_DEFAULT, MatchSource, PathPattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path pattern of one route on one host. `route` is the route's position."""

    route: int
    pattern: PathPattern
    methods: frozenset[str]
    listed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best entry for a request, and the segments that its pattern names."""

    route: int
    captures: Mapping[str, str]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    any: "_Node | None" = None
    end: list[Entry] = field(default_factory=list)
    rest: list[Entry] = field(default_factory=list)


class RouteIndex:
    """Filled once by `add`, then only read."""

    def __init__(self) -> None:
        self._exact: dict[str, _Node] = {}
        self._wildcard: dict[str, _Node] = {}
        self._any = _Node()

    def add(self, route: int, match: MatchSource) -> list[tuple[Entry, Entry]]:
        """Enter all patterns of a route. Returns the pairs (earlier, this) that tie on some request."""
        ties: list[tuple[Entry, Entry]] = []
        methods = frozenset(match.methods or METHODS_BY_DEFAULT)
        for pattern in match.paths:
            entry = Entry(route=route, pattern=pattern, methods=methods, listed=bool(match.methods))
            tied = [earlier for tree in self._trees(match.hosts) for earlier in _insert(tree, entry)]
            once = {id(earlier): earlier for earlier in tied}  # two patterns may tie on several hosts
            ties += [(earlier, entry) for earlier in once.values()]
        return ties

    def _trees(self, hosts: Sequence[str]) -> Iterator[_Node]:
        if not hosts:
            yield self._any
        for host in hosts:
            if host.startswith("*."):
                yield self._wildcard.setdefault(host[2:], _Node())
            else:
                yield self._exact.setdefault(host, _Node())

    def find(self, method: str, host: str, *, segments: Sequence[str]) -> Found | None:
        """The best entry for a request, or None."""
        if not segments:
            return None
        for tree in self._candidates(host):
            entry = _search(tree, segments, 0, method=method)
            if entry is not None:
                captures = {name: segments[position] for position, name in entry.pattern.captures}
                return Found(route=entry.route, captures=captures)
        return None

    def _candidates(self, host: str) -> Iterator[_Node]:
        """The trees of a host, most specific first."""
        exact = self._exact.get(host)
        if exact is not None:
            yield exact
        if self._wildcard:
            dot = host.find(".", 1)
            while dot != -1:
                tree = self._wildcard.get(host[dot + 1 :])
                if tree is not None:
                    yield tree
                dot = host.find(".", dot + 1)
        yield self._any


def _insert(tree: _Node, entry: Entry) -> list[Entry]:
    """Enter one pattern into one tree. Returns the entries already there that tie with it."""
    node = tree
    for segment in entry.pattern.segments:
        if segment is None:
            node.any = node.any or _Node()
            node = node.any
        else:
            node = node.literals.setdefault(segment, _Node())
    entries = node.rest if entry.pattern.rest else node.end
    ties = [other for other in entries if other.listed == entry.listed and other.methods & entry.methods]
    entries.append(entry)
    entries.sort(key=lambda each: not each.listed)
    return ties


def _search(node: _Node, segments: Sequence[str], at: int, *, method: str) -> Entry | None:
    """The best entry below `node` for the segments from `at` on. No deeper than the longest pattern."""
    if at < len(segments):
        for child in (node.literals.get(segments[at]), node.any):
            found = _search(child, segments, at + 1, method=method) if child is not None else None
            if found is not None:
                return found
    else:
        for entry in node.end:
            if method in entry.methods:
                return entry
    for entry in node.rest:
        if method in entry.methods:
            return entry
    return None
