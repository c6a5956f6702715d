# SPDX-License-Identifier: Apache-2.0
"""Which route a request takes, and which pairs of routes no bundle may have."""

import itertools

import pytest

from iap_authz.policy.source import METHODS_BY_DEFAULT
from tests.unit.policy.building import faults_of, load


def segments_of(path: str) -> list[str]:
    return path[1:].split("/")


def found(matches: dict[str, dict[str, list[str]]], method: str, host: str, path: str) -> str:
    """The name of the route that takes a request, or nothing."""
    policy = load(*({"name": name, "match": match} for name, match in matches.items()))
    match = policy.find_route(method, host, segments_of(path))
    return match.route.name if match is not None else ""


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/", "/", True),
        ("/", "/a", False),
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("/a/", "/a/", True),
        ("/a/", "/a", False),
        ("/a", "/A", False),
        ("/admin", "/administrator", False),
        ("/admin/**", "/administrator", False),
        ("/admin/**", "/admin", True),
        ("/admin/**", "/admin/", True),
        ("/admin/**", "/admin/a/b/c", True),
        ("/**", "/", True),
        ("/**", "/a/b", True),
        ("/*", "/a", True),
        ("/*", "/", True),
        ("/*", "/a/b", False),
        ("/*/b", "/a/b", True),
        ("/{x}", "/a", True),
        ("/a/{x}/c", "/a/b/c", True),
        ("/a/{x}/c", "/a/b/d", False),
        ("/a b/\u00e4", "/a b/\u00e4", True),
        ("/**", "/a\nb", True),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:  # noqa: FBT001
    assert found({"r": {"paths": [pattern]}}, "GET", "any", path) == ("r" if matches else "")


def test_no_segments_are_no_path() -> None:
    assert load({"name": "r", "match": {"paths": ["/**"]}}).find_route("GET", "a", []) is None


def test_captures_are_named_segments() -> None:
    policy = load({"name": "r", "match": {"paths": ["/orders/{order}/*/{item}/**"]}})
    match = policy.find_route("GET", "a", ["orders", "7", "x", "9", "more"])
    assert match is not None
    assert match.captures == {"order": "7", "item": "9"}


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.a.example", False),
        ("a.example", "a.example:8443", False),
        ("a.example:8443", "a.example:8443", True),
        ("*.example", "a.example", True),
        ("*.example", "b.a.example", True),
        ("*.example", "example", False),
        ("*.example", ".example", False),
        ("*.example", "aexample", False),
        ("*.example:8443", "a.example:8443", True),
        ("*.example:8443", "a.example", False),
        ("[::1]", "[::1]", True),
        ("10.0.0.7", "10.0.0.7", True),
        ("a.example", "", False),
    ],
)
def test_hosts(pattern: str, host: str, matches: bool) -> None:  # noqa: FBT001
    assert found({"r": {"hosts": [pattern], "paths": ["/"]}}, "GET", host, "/") == ("r" if matches else "")


@pytest.mark.parametrize("method", [*METHODS_BY_DEFAULT, "TRACE", "CONNECT", "get", "PROPFIND", ""])
def test_methods(method: str) -> None:
    by_default = found({"r": {"paths": ["/"]}}, method, "a", "/")
    assert by_default == ("r" if method in METHODS_BY_DEFAULT else "")
    listed = found({"r": {"paths": ["/"], "methods": ["TRACE", "PROPFIND"]}}, method, "a", "/")
    assert listed == ("r" if method in ("TRACE", "PROPFIND") else "")


def match(path: str, host: str = "", method: str = "") -> dict[str, list[str]]:
    parts = {"paths": path, "hosts": host, "methods": method}
    return {key: [value] for key, value in parts.items() if value}


FALLING = [
    match("/a/b", "x.y.example", "GET"),
    match("/a/b", "x.y.example"),
    match("/a/{n}", "x.y.example"),
    match("/a/**", "x.y.example"),
    match("/*/b", "x.y.example"),
    match("/**", "x.y.example"),
    match("/a/b", "*.y.example"),
    match("/a/b", "*.example", "GET"),
    match("/a/b", "*.example"),
    match("/a/b", "", "GET"),
    match("/a/b"),
    match("/a/*"),
    match("/a/**", "", "GET"),
    match("/a/**"),
    match("/*/b"),
    match("/{m}/{n}"),
    match("/*/**"),
    match("/**"),
]
"""All take GET x.y.example/a/b; the most specific first."""


@pytest.mark.parametrize(("better", "worse"), list(itertools.combinations(range(len(FALLING)), 2)))
def test_the_most_specific_wins_in_either_order_of_the_file(better: int, worse: int) -> None:
    names = {better: f"r{better}", worse: f"r{worse}"}
    for order in ((better, worse), (worse, better)):
        routes = {names[place]: FALLING[place] for place in order}
        assert found(routes, "GET", "x.y.example", "/a/b") == names[better]


def test_a_pattern_that_ends_is_more_specific_than_one_that_goes_on() -> None:
    """Otherwise "/a" could never be reached beside "/a/**"."""
    routes = {"exact": match("/a"), "tree": match("/a/**")}
    assert found(routes, "GET", "h", "/a") == "exact"
    assert found(routes, "GET", "h", "/a/") == "tree"


def test_what_matches_only_in_part_is_passed_over() -> None:
    routes = {
        "narrow": match("/a/b", "x.example", "POST"),
        "wide": match("/**"),
        "dead-end": match("/a/b/c", "x.example"),
    }
    assert found(routes, "GET", "x.example", "/a/b") == "wide"
    assert found(routes, "POST", "x.example", "/a/b") == "narrow"
    assert found(routes, "GET", "x.example", "/a/b/d") == "wide"


ROUTE = "- name: {}\n  match: {}\n"


def ambiguous(first: str, second: str) -> bool:
    content = "kind: Policy\nname: t\nroutes:\n" + ROUTE.format("one", first) + ROUTE.format("two", second)
    faults = faults_of(content)
    if not faults:
        return False
    assert len(faults) == 1
    assert faults[0].line == 7
    assert faults[0].field == "routes[1].match.paths[0]"
    assert faults[0].message.startswith("ambiguous routes: ")
    assert "'one'" in faults[0].message
    assert "'two'" in faults[0].message
    assert "0.yaml:5" in faults[0].message
    return True


@pytest.mark.parametrize(
    ("first", "second", "tie"),
    [
        ("{paths: [/a]}", "{paths: [/a]}", True),
        ("{paths: [/a/*]}", "{paths: ['/a/{x}']}", True),
        ("{paths: ['/{y}/**']}", "{paths: ['/{x}/**']}", True),
        ("{hosts: [a.example], paths: [/a]}", "{hosts: [b.example, a.example], paths: [/a]}", True),
        ("{hosts: ['*.example'], paths: [/a]}", "{hosts: ['*.example'], paths: [/a]}", True),
        ("{methods: [GET, PUT], paths: [/a]}", "{methods: [PUT], paths: [/a]}", True),
        ("{methods: [GET], paths: [/a]}", "{methods: [PUT], paths: [/a]}", False),
        ("{methods: [GET], paths: [/a]}", "{paths: [/a]}", False),
        ("{paths: [/a]}", "{paths: [/a/]}", False),
        ("{paths: [/a]}", "{paths: [/a/**]}", False),
        ("{paths: [/a/*]}", "{paths: [/a/**]}", False),
        ("{paths: [/a/*]}", "{paths: [/*/a]}", False),
        ("{hosts: [a.example], paths: [/a]}", "{paths: [/a]}", False),
        ("{hosts: [a.example], paths: [/a]}", "{hosts: ['*.example'], paths: [/a]}", False),
    ],
)
def test_routes_that_tie_are_a_fault(first: str, second: str, tie: bool) -> None:  # noqa: FBT001
    assert ambiguous(first, second) is tie


def test_patterns_of_one_route_that_tie_are_a_fault() -> None:
    content = "kind: Policy\nname: t\nroutes:\n" + ROUTE.format("one", "{paths: [/a/*, '/a/{x}']}")
    assert [fault.line for fault in faults_of(content)] == [5]


def test_routes_of_two_files_that_tie_are_a_fault() -> None:
    files = [f"kind: Policy\nname: p{n}\nroutes:\n{ROUTE.format(f'r{n}', '{paths: [/a]}')}" for n in range(2)]
    faults = faults_of(*files)
    assert [(fault.file, fault.line) for fault in faults] == [("1.yaml", 5)]
    assert "'r0' (0.yaml:5)" in faults[0].message


def test_a_policy_of_a_thousand_routes() -> None:
    routes = [
        {
            "name": f"r{n}",
            "match": {"hosts": [f"h{n % 50}.example"], "paths": [f"/api/{n}/**", f"/{{x}}/{n}"]},
            "allow": [{"id": "a", "when": f'"g{n}" in identity.groups'}],
        }
        for n in range(1_000)
    ]
    policy = load(*routes)
    assert len(policy.routes) == 1_000
    for n in (0, 7, 999):
        match = policy.find_route("GET", f"h{n % 50}.example", ["api", str(n), "x"])
        assert match is not None
        assert match.route.name == f"r{n}"
    assert policy.find_route("GET", "h1.example", ["api", "0", "x"]) is None
