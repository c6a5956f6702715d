# SPDX-License-Identifier: Apache-2.0
"""Every fault of a policy file, at its line and column, with the field and a suggestion; all of them at once."""

import pytest

from iap_authz.errors import Fault
from tests.unit.policy.building import faults_of

HEAD = "kind: Policy\nname: test\nroutes:\n- name: all\n  match: {paths: [/**]}\n"
"""Five good lines; what a test adds starts on line 6."""


def one_fault(content: str) -> tuple[int, int, str, str]:
    faults = faults_of(content)
    assert len(faults) == 1, [str(fault) for fault in faults]
    return faults[0].line, faults[0].column, faults[0].field, faults[0].message


@pytest.mark.parametrize("good", [HEAD, HEAD + "  deny:\n", HEAD + "  durability: log\n"])
def test_the_frame_of_these_tests_holds(good: str) -> None:
    assert faults_of(good) == []


@pytest.mark.parametrize(
    ("content", "line", "column", "field", "message"),
    [
        ("", 0, 0, "", "got nothing, want a mapping"),
        ("kind: Policy\nname: test\n", 1, 1, "routes", "missing"),
        ("kind: Polcy\nname: a\nroutes: []\n", 1, 7, "kind", "(did you mean Policy?)"),
        ("kind: Policy\nname: A b\nroutes: []\n", 2, 7, "name", "got 'A b', want lower-case letters, digits"),
        ("kind: Policy\nname: -a\nroutes: []\n", 2, 7, "name", "got '-a'"),
        (f"kind: Policy\nname: {'a' * 64}\nroutes: []\n", 2, 7, "name", "at most 63"),
        ("kind: Policy\nname: a\nrouts: []\nroutes: []\n", 3, 8, "routs", "(did you mean routes?)"),
        ("kind: Policy\nname: a\nlevels: {In: 'true'}\nroutes: []\n", 3, 14, "levels.In", "got 'In'"),
        ("kind: Policy\nname: a\nlevels: {in: 'true'}\nroutes: []\n", 3, 14, "levels.in", "no CEL word"),
        ("kind: Policy\nname: a\nroutes: [{name: b}]\n", 3, 10, "routes[0].match", "missing"),
        ("kind: Policy\nname: a\nroutes: [{name: b, match: {}}]\n", 3, 27, "routes[0].match.paths", "missing"),
        (HEAD + "  alow: []\n", 6, 9, "routes[0].alow", "(did you mean allow?)"),
        (HEAD + "  assertion: x\n", 6, 14, "routes[0].assertion", "unknown key"),
        (HEAD + "  durability: jornal\n", 6, 15, "routes[0].durability", "(did you mean journal?)"),
        (HEAD + "  allow: [{id: a}]\n", 6, 11, "routes[0].allow[0].when", "missing"),
        (HEAD + "  allow: [{when: 'true'}]\n", 6, 11, "routes[0].allow[0].id", "missing"),
        (HEAD + "  allow: [{id: A, when: 'true'}]\n", 6, 16, "routes[0].allow[0].id", "got 'A'"),
        (HEAD + "  allow: [{id: a, when: true}]\n", 6, 25, "routes[0].allow[0].when", "want text (quote it)"),
        (HEAD + "  allow: [{id: a, when: 'true', with: {}}]\n", 6, 39, "routes[0].allow[0].with", "unknown key"),
        (
            HEAD + "  deny: [{id: a, when: 'true'}]\n  allow: [{id: a, when: 'true'}]\n",
            7,
            16,
            "routes[0].allow[0].id",
            "got 'a' twice in this route, want unique ids (first at routes[0].deny[0].id)",
        ),
        (HEAD + "  shadow: [{id: a}]\n", 6, 12, "routes[0].shadow[0]", "got 0 conditions, want exactly one of"),
        (
            HEAD + "  shadow: [{id: a, allow: 'true', deny: 'true'}]\n",
            6,
            12,
            "routes[0].shadow[0]",
            "got 2 conditions, want exactly one of",
        ),
        (
            HEAD + "  on_allow: {set_header: {}}\n",
            6,
            26,
            "routes[0].on_allow.set_header",
            "(did you mean set_headers?)",
        ),
        (HEAD + "  on_allow: {asertion: true}\n", 6, 24, "routes[0].on_allow.asertion", "(did you mean assertion?)"),
        (HEAD + "  on_allow: {assertion: yes}\n", 6, 25, "routes[0].on_allow.assertion", "want true or false"),
        (HEAD + "  on_allow: {assertion: 'true'}\n", 6, 25, "routes[0].on_allow.assertion", "want true or false"),
        (HEAD + "  on_allow: {assertion: [orders]}\n", 6, 25, "routes[0].on_allow.assertion", "want true or false"),
        (
            HEAD + "  on_allow: {assertion: {}}\n",
            6,
            25,
            "routes[0].on_allow.assertion",
            "want true, or at least one of audience, request_binding",
        ),
        (
            HEAD + "  on_allow: {assertion: {audiences: [a]}}\n",
            6,
            37,
            "routes[0].on_allow.assertion.audiences",
            "unknown key, want one of audience, request_binding (did you mean audience?)",
        ),
        (HEAD + "  on_allow: {assertion: {audience: }}\n", 6, 25, "routes[0].on_allow.assertion.audience", "missing"),
        (
            HEAD + "  on_allow: {assertion: {audience: two words}}\n",
            6,
            36,
            "routes[0].on_allow.assertion.audience",
            "want 1 to 255 visible ASCII characters",
        ),
        (
            HEAD + f"  on_allow: {{assertion: {{audience: {'a' * 256}}}}}\n",
            6,
            36,
            "routes[0].on_allow.assertion.audience",
            "want 1 to 255 visible ASCII characters",
        ),
        (
            HEAD + "  on_allow: {assertion: {request_binding: off}}\n",
            6,
            43,
            "routes[0].on_allow.assertion.request_binding",
            "want true or false",
        ),
        (HEAD + '  allow: [{id: a, when: "\\ud800"}]\n', 6, 25, "", "got a lone surrogate"),
        (HEAD + '  allow: [{id: a, when: "\\0"}]\n', 6, 25, "routes[0].allow[0].when", "got a NUL character"),
        (HEAD + "- name: all\n  match: {paths: [/x]}\n", 6, 9, "routes[1].name", "got 'all' twice, want a unique name"),
    ],
)
def test_faults_of_the_file(content: str, line: int, column: int, field: str, message: str) -> None:
    if content.endswith('"\\ud800"}]\n'):
        faults = [(f.line, f.column, f.field, f.message) for f in faults_of(content)]
        got = faults[0]
    else:
        got = one_fault(content)
    assert got[:3] == (line, column, field)
    assert message in got[3]


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("paths: []", "got an empty list, want at least one"),
        ("paths: [a]", "got 'a', want a path that starts with /"),
        ("paths: [/a/../b]", "got the segment '..'"),
        ("paths: [/./b]", "got the segment '.'"),
        ("paths: [//b]", "got the segment ''"),
        ("paths: [/a//]", "got the segment ''"),
        ("paths: [/a//**]", "got the segment ''"),
        ("paths: [/**/a]", "got ** before the end"),
        ("paths: ['/a*']", "got '*' in segment 'a*'"),
        ("paths: ['/{a']", "got '{' in segment"),
        ("paths: ['/{A}']", "got '{' in segment"),
        ("paths: ['/x{a}']", "got '{' in segment"),
        ("paths: ['/{a}/{a}']", "want each name in braces once"),
        ("paths: [/a%20b]", "got '%' in segment"),
        ("paths: ['/a?b']", "got '?' in segment"),
        ("paths: ['/a#b']", "got '#' in segment"),
        ("paths: ['/a\\b']", "in segment"),
        ('paths: ["/a\\nb"]', "got '\\n' in segment"),
        ("paths: [/a;b=c]", "got ';' in segment"),
        (f"paths: [{'/a' * 65}]", "got 65 segments, want at most 64"),
        ("hosts: [], paths: [/]", "got an empty list, want at least one"),
        ("hosts: , paths: [/]", "got nothing, want a list, or no such key"),
        ("hosts: [A.example], paths: [/]", "did you mean 'a.example'?"),
        ("hosts: [a.example.], paths: [/]", "want a host name"),
        ("hosts: ['*'], paths: [/]", "want a host name"),
        ("hosts: ['a.*.example'], paths: [/]", "want a host name"),
        ("hosts: ['*example'], paths: [/]", "want a host name"),
        ("hosts: ['*.0.0.1'], paths: [/]", "want no wildcard in front of an address"),
        ("hosts: ['a.example:0'], paths: [/]", "want a port"),
        ("hosts: ['a.example:65536'], paths: [/]", "want a port"),
        ("hosts: ['a.example:'], paths: [/]", "want a port"),
        ("hosts: ['[::1'], paths: [/]", "want an IPv6 address"),
        ("hosts: ['[0:0::1]'], paths: [/]", "want the canonical form [::1]"),
        ("hosts: ['[::1]x'], paths: [/]", "want a port"),
        ("hosts: [a.example, a.example], paths: [/]", "got 'a.example' twice"),
        ("methods: [], paths: [/]", "got an empty list, want at least one"),
        ("methods: ~, paths: [/]", "got nothing, want a list"),
        ("methods: [get], paths: [/]", "did you mean GET?"),
        ("methods: ['GET '], paths: [/]", "want an HTTP method"),
        ("method: [GET], paths: [/]", "(did you mean methods?)"),
    ],
)
def test_faults_of_a_match(match: str, message: str) -> None:
    got = one_fault(f"kind: Policy\nname: test\nroutes:\n- name: all\n  match: {{{match}}}\n")
    assert got[0] == 5
    assert got[2].startswith("routes[0].match.")
    assert message in got[3]


@pytest.mark.parametrize(
    ("asks", "message"),
    [
        ("redirect: http://example.com/", "want an absolute https URL, or http on a loopback host"),
        ("redirect: /login", "want an absolute https URL"),
        ("redirect: //example.com/", "want an absolute https URL"),
        ("redirect: 'javascript:alert(1)'", "want an absolute https URL"),
        ("redirect: 'https://'", "want an absolute https URL"),
        ("redirect: 'https://user@example.com/'", "want an absolute https URL"),
        ("redirect: 'https://[::1/'", "want an absolute https URL"),
        ("redirect: 'https://example.com:99999/'", "want an absolute https URL"),
        ("redirect: 'https://example.com/\u00e4'", "want an absolute https URL"),
        ("redirect: 'https://example.com/ b'", "want an absolute https URL"),
        ('redirect: "https://example.com/\\r\\nx: y"', "want an absolute https URL"),
        ("redirect: 'https:\\\\example.com'", "want an absolute https URL"),
        ("redirect: 'http://127.0.0.1.example.com/'", "want an absolute https URL"),
        ("acr: 'a\"b'", "want visible ASCII without quotes"),
        ("acr: ''", "want visible ASCII"),
        ("max_age: -1", "want a whole number from 0 to 31536000"),
        ("max_age: '60'", "want a whole number"),
        ("max_age: 1h", "want a whole number"),
        ("maxage: 1", "(did you mean max_age?)"),
    ],
)
def test_faults_of_what_a_challenge_asks(asks: str, message: str) -> None:
    got = one_fault(HEAD + f"  challenge: [{{id: a, when: 'true', with: {{{asks}}}}}]\n")
    at = len("  challenge: [{id: a, when: 'true', with: {") + len(asks.partition(" ")[0]) + 2
    assert got[:2] == (6, at)
    assert message in got[3]


@pytest.mark.parametrize(
    "redirect", ["https://a.example/x?y=z", "http://localhost:8080/", "http://127.0.0.1/", "http://[::1]:1/"]
)
def test_redirects_that_hold(redirect: str) -> None:
    assert faults_of(HEAD + f"  challenge: [{{id: a, when: 'true', with: {{redirect: '{redirect}'}}}}]\n") == []


@pytest.mark.parametrize(
    "name",
    [
        "X-Team",
        "x_team",
        ":path",
        "host",
        "connection",
        "te",
        "transfer-encoding",
        "content-length",
        "x-envoy-retry-on",
        "x-iap-user",
        "x team",
        "x-t\u00e4am",
        "",
        "a" * 129,
    ],
)
def test_headers_that_no_policy_sets(name: str) -> None:
    got = one_fault(HEAD + f"  on_allow: {{set_headers: {{'{name}': '\"v\"'}}}}\n")
    assert got[0] == 6
    assert got[2] == f"routes[0].on_allow.set_headers.{name}"


# ---------------------------------------------------------------------------------------------------- conditions

NESTED = "identity.groups.exists(g, {})"


@pytest.mark.parametrize(
    ("condition", "offset", "message"),
    [
        ("device.mangd", 7, "unknown field mangd of device (did you mean managed?)"),
        ("location.cuntry == 'DE'", 9, "unknown field cuntry of location (did you mean country?)"),
        ("devise.managed", 0, "unknown name devise (did you mean device?)"),
        ("true && devise", 8, "unknown name devise (did you mean device?)"),
        ("device.state == ABSNT", 16, "unknown name ABSNT (did you mean ABSENT?)"),
        ("level.eu", 6, "unknown level eu, this file has none"),
        ("facts.device.managed", 0, "unknown name facts"),
        ("identity.groups.foo('x')", 16, "unknown name foo"),
        ("device.managed == 'x'", 15, "found no matching overload"),
        ("device.managed &&", 17, "syntax error"),
        ("'abc", 0, "syntax error"),
        ("1 + 1", 0, "got an expression of type int, want bool"),
        ("identity.subject", 0, "got an expression of type string, want bool"),
        ("true ? true : [null][0]", 5, "found no matching overload"),
        ("identity.subject == 'a\\u0000b'", 20, "got a NUL character in a constant"),
        ("'e\\u0301ng' in identity.groups", 0, "got a constant that is not in Unicode normalisation form C"),
        ("identity.auth_time == null", 22, "got null, want has(...)"),
        ("identity.subject.matches('(')", 25, "got '(' for matches: "),
        ("matches(identity.subject, '[')", 26, "got '[' for matches: "),
        ("device.age < duration('1 day')", 22, "got '1 day' for duration: "),
        ("now > timestamp('2020-01-01')", 16, "got '2020-01-01' for timestamp: "),
        ("identity.subject.matches(identity.acr)", 33, "got a pattern that is not a literal"),
        ("identity.subject.matches('a' + 'b')", 29, "got a pattern that is not a literal"),
        (NESTED.format("device.tags.exists(t, t == g)"), 44, "got an iteration inside an iteration"),
        ("identity.groups.exists(device, true)", 22, "got device as the name of a variable"),
        ("identity.groups.all(ABSENT, true)", 19, "got ABSENT as the name of a variable"),
        ("identity.groups.all(level, true)", 19, "got level as the name of a variable"),
        ("identity.groups.all(facts, true)", 19, "got facts as the name of a variable"),
        ("[device].exists(d, d.managed)", 1, "got device as a value, want one of its fields"),
        ("device == device", 0, "got device as a value"),
        ("type(device) == bool", 5, "got device as a value"),
        ("Device{managed: true}.managed", 0, "got a message that is made here"),
        ("[identity.claims].exists(c, c['a'] == 'b')", 29, "got an index into a map that is a value"),
        ("[identity.claims].exists(c, c.a == 'b')", 29, "got a selection from a value"),
        ("dyn(identity.claims)['a'] == 'b'", 20, "got an index into a map that is a value"),
        ("request.untrusted['x'] == 'y'", 7, "got request.untrusted, which no condition reads"),
        ("has(request.untrusted.x)", 3, "got request.untrusted, which no condition reads"),
        ("'groups' in identity.empty", 20, "got identity.empty, which no condition reads"),
        ("request.headers['X-A'] == 'b'", 7, "got header 'X-A', want lower case"),
        ("request.headers.size() == 0", 7, "got request.headers as a whole"),
        ("request.headers[identity.subject] == 'b'", 7, "got request.headers as a whole"),
        ("request.query_parameters.exists(p, p == 'a')", 7, "got request.query_parameters as a whole"),
        ("request.captures.id == 'x'", 17, "no path of this route names 'id'"),
        ("now.getHours('Europe/Berlin') == 1", 13, "got a named time zone"),
        ("(" * 300 + "true" + ")" * 300, 0, "nests deeper than CEL allows"),
        ("+".join(["1"] * 100) + " == 1", 0, "nests deeper than CEL allows"),
        ("true || " * 512 + "true", 0, "got 4100 characters, want at most 4096"),
    ],
)
def test_faults_of_a_condition(condition: str, offset: int, message: str) -> None:
    faults = faults_of(HEAD + f"  allow:\n  - id: a\n    when: |-\n      {condition}\n")
    assert faults, "it loads"
    got = faults[0]
    assert (got.line, got.column - 7, got.field) == (9, offset, "routes[0].allow[0].when")
    assert message in got.message
    assert len(str(got)) < 400


@pytest.mark.parametrize(
    "condition",
    [
        NESTED.format("['a', 'b'].exists(t, t == g)"),
        "[1, 2].all(x, " + NESTED.format("true") + ")",
        "identity.groups.filter(g, g != '').exists(g, g == 'eng')",
        "now.getHours('UTC') == 1 || now.getHours('+02:00') == 2 || now.getHours() == 3",
        "identity.subject.matches('^a{1,3}$') && duration('1h') < device.age",
        "identity.problem == Reason.REASON_EXPIRED || device.state == State.STALE || device.state == STALE",
    ],
)
def test_neighbours_of_these_faults_hold(condition: str) -> None:
    assert faults_of(HEAD + f"  allow:\n  - id: a\n    when: |-\n      {condition}\n") == []


def test_a_header_wants_text() -> None:
    got = one_fault(HEAD + "  on_allow: {set_headers: {x-a: device.managed}}\n")
    assert got == (6, 33, "routes[0].on_allow.set_headers.x-a", "got an expression of type bool, want string")


def test_misspelt_captures_have_a_suggestion() -> None:
    content = HEAD.replace("/**", "'/{order}'") + "  allow: [{id: a, when: 'request.captures.ordr == \"1\"'}]\n"
    got = one_fault(content)
    assert got[:2] == (6, 43)
    assert got[3] == "no path of this route names 'ordr' (did you mean order?)"


# ---------------------------------------------------------------------------------------------------- levels

LEVELS = "kind: Policy\nname: test\nroutes: []\nlevels:\n"


@pytest.mark.parametrize(
    ("levels", "line", "column", "message"),
    [
        ("  a: level.b\n  b: level.c\n  c: level.a\n", 5, 6, "got a level that needs itself: a -> b -> c -> a"),
        ("  a: level.a\n", 5, 6, "got a level that needs itself: a -> a"),
        ("  a: '1'\n", 5, 7, "got an expression of type int, want bool"),
        ("  a: device.mangd\n", 5, 13, "unknown field mangd of device (did you mean managed?)"),
        ("  eu: 'true'\n  b: level.ue2 || level.eu\n", 6, 12, "unknown level ue2, want one of eu, b"),
        ("  trusted: 'true'\n  b: level.trused\n", 6, 12, "unknown level trused (did you mean trusted?)"),
        (
            "  a: device.tags.exists(t, t == 'x')\n  b: identity.groups.exists(g, level.a)\n",
            6,
            37,
            "got level.a, which iterates, inside an iteration",
        ),
    ],
)
def test_faults_of_levels(levels: str, line: int, column: int, message: str) -> None:
    got = one_fault(LEVELS + levels)
    assert got[:2] == (line, column)
    assert message in got[3]


def test_levels_that_double_at_each_step_are_bounded() -> None:
    levels = "  l0: identity.subject == 'alice' && device.managed\n"
    levels += "".join(f"  l{n}: level.l{n - 1} && level.l{n - 1}\n" for n in range(1, 40))
    faults = faults_of(LEVELS + levels)
    assert faults
    assert "got more than 16384 characters with levels put in" in faults[0].message


def test_levels_that_nest_too_deep_are_a_fault() -> None:
    levels = "  l0: device.managed\n"
    levels += "".join(f"  l{n}: '!((((level.l{n - 1}))))'\n" for n in range(1, 12))
    faults = faults_of(LEVELS + levels)
    assert faults
    assert faults[0].message == "with its levels put in: got an expression that nests deeper than CEL allows, want less"


def test_a_faulty_level_is_reported_once_not_at_each_use() -> None:
    content = HEAD + "  allow: [{id: a, when: level.x}, {id: b, when: '!level.x'}]\nlevels: {x: device.mangd}\n"
    assert len(faults_of(content)) == 1


# ---------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("scalar", "line", "column"),
    [
        ("when: true && device.mangd", 8, 26),
        ("when: 'true && device.mangd'", 8, 27),
        ("when: '\"it''s\" == \"\" && device.mangd'", 8, 36),
        ('when: "true && device.mangd"', 8, 27),
        ('when: "\\"\\x41\\u0041\\U00000041\\\\\\"\\" == \'\' && device.mangd"', 8, 57),
        ("when: true &&\n      device.mangd", 9, 14),
        ("when: 'true &&\n\n      device.mangd'", 10, 14),
        ('when: "true && \\\n      device.mangd"', 9, 14),
        ("when: |\n      true &&\n        device.mangd\n", 10, 16),
        ("when: |-\n      true &&\n\n      device.mangd", 11, 14),
        ("when: >-\n      true &&\n      device.mangd", 10, 14),
        ("when: >-\n      true &&\n\n      device.mangd", 11, 14),
        ("when: |2-\n        true &&\n      device.mangd", 10, 14),
        ("when:\n      device.mangd", 9, 14),
        ('when: \'"\u00e9\U0001f600" == "" && device.mangd\'', 8, 33),
    ],
)
def test_the_place_of_a_fault_in_each_style_of_yaml(scalar: str, line: int, column: int) -> None:
    got = one_fault(HEAD + f"  allow:\n  - id: a\n    {scalar}\n")
    assert got[3] == "unknown field mangd of device (did you mean managed?)"
    assert got[:2] == (line, column)


def test_two_faults_of_one_condition_are_both_told() -> None:
    faults = faults_of(HEAD + "  allow: [{id: a, when: 'device.mangd && location.cuntry == \"DE\"'}]\n")
    assert [(fault.line, fault.column) for fault in faults] == [(6, 33), (6, 51)]


def test_all_faults_of_all_files_are_told_at_once() -> None:
    first = HEAD + "  durability: x\n  allow: [{id: a, when: device.mangd}]\n  alow: []\n"
    second = "kind: Policy\nname: test\nroutes:\n- name: all\n  match: {paths: [/**]}\n  deny: [{id: a, when: '1'}]\n"
    third = "- not a policy\n"
    places = [(fault.file, fault.line, fault.field) for fault in faults_of(first, second, third)]
    assert places == [
        ("0.yaml", 6, "routes[0].durability"),
        ("0.yaml", 7, "routes[0].allow[0].when"),
        ("0.yaml", 8, "routes[0].alow"),
        ("1.yaml", 2, "name"),
        ("1.yaml", 4, "routes[0].name"),
        ("1.yaml", 5, "routes[0].match.paths[0]"),
        ("1.yaml", 6, "routes[0].deny[0].when"),
        ("2.yaml", 1, ""),
    ]


def test_a_fault_reads_as_one_line() -> None:
    faults: list[Fault] = faults_of(HEAD + "  allow: [{id: a, when: device.mangd}]\n")
    assert [str(fault) for fault in faults] == [
        "0.yaml:6:32: routes[0].allow[0].when: unknown field mangd of device (did you mean managed?)"
    ]
