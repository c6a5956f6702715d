# SPDX-License-Identifier: Apache-2.0
"""The table of verdicts, cell by cell; what is asked before it and after it."""

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.model.decision import AssertionTerms, Decision, Shadow
from iap_authz.model.reason import Durability, Reason, State, Verdict
from iap_authz.policy.compile import load_policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile
from tests.unit.policy.building import decide, known_facts, load, put_state, route, set_state

TRUE = "device.managed"
FALSE = "!device.managed"
UNKNOWN = 'location.country == "DE"'  # with the location stale
ABSENT_DEVICE = 'device.os == "linux"'
ABSENT_IDENTITY = 'identity.subject == "alice"'  # with no identity shown


def facts_of_the_table() -> facts_pb2.Facts:
    facts = known_facts()
    set_state(facts, "location", State.STALE)
    set_state(facts, "identity", State.ABSENT)
    return facts


ROWS = [
    ("deny", Verdict.DENY, Reason.DENIED_BY_RULE),
    ("challenge", Verdict.CHALLENGE, Reason.CHALLENGED_BY_RULE),
    ("allow", Verdict.ALLOW, Reason.ALLOWED),
]


@pytest.mark.parametrize(("row", "verdict", "reason"), ROWS)
@pytest.mark.parametrize("others", [[], [UNKNOWN], [ABSENT_IDENTITY], [UNKNOWN, ABSENT_DEVICE, FALSE]])
def test_any_true_decides_its_row(row: str, verdict: Verdict, reason: Reason, others: list[str]) -> None:
    conditions = [*others, TRUE, TRUE]
    decision = decide(facts_of_the_table(), **{row: conditions})
    assert (decision.verdict, decision.reason) == (verdict, reason)
    assert decision.rule == f"{row}-{len(others)}"
    assert decision.missing == ()


@pytest.mark.parametrize("row", ["deny", "challenge", "allow"])
@pytest.mark.parametrize("others", [[], [FALSE], [ABSENT_IDENTITY], [ABSENT_DEVICE, FALSE]])
def test_else_any_unknown_is_undecided(row: str, others: list[str]) -> None:
    decision = decide(facts_of_the_table(), **{row: [*others, UNKNOWN, UNKNOWN]})
    assert (decision.verdict, decision.reason) == (Verdict.UNDECIDED, Reason.SOURCE_STALE)
    assert decision.rule == f"{row}-{len(others)}"
    assert decision.missing == ("location.country",)


@pytest.mark.parametrize("row", ["deny", "challenge", "allow"])
def test_else_any_absent_denies(row: str) -> None:
    decision = decide(facts_of_the_table(), **{row: [FALSE, ABSENT_DEVICE, 'device.model == "x"']})
    assert (decision.verdict, decision.reason) == (Verdict.DENY, Reason.FACT_ABSENT)
    assert decision.rule == f"{row}-1"
    assert decision.missing == ("device.model", "device.os")


@pytest.mark.parametrize("row", ["deny", "challenge", "allow"])
def test_else_any_absent_challenges_where_the_identity_is_what_is_absent(row: str) -> None:
    decision = decide(facts_of_the_table(), **{row: [ABSENT_DEVICE, ABSENT_IDENTITY]})
    assert (decision.verdict, decision.reason) == (Verdict.CHALLENGE, Reason.IDENTITY_ABSENT)
    assert decision.rule == f"{row}-1"
    assert decision.missing == ("device.os", "identity.subject")
    assert decision.asks == {}


def test_an_absent_field_of_a_shown_identity_denies() -> None:
    decision = decide(known_facts(), allow=['identity.email == "a@example.com"'])
    assert (decision.verdict, decision.reason) == (Verdict.DENY, Reason.FACT_ABSENT)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ({"deny": [TRUE], "challenge": [TRUE], "allow": [TRUE]}, Verdict.DENY),
        ({"deny": [FALSE], "challenge": [TRUE], "allow": [TRUE]}, Verdict.CHALLENGE),
        ({"deny": [FALSE], "challenge": [FALSE], "allow": [TRUE]}, Verdict.ALLOW),
        ({"deny": [FALSE], "challenge": [UNKNOWN], "allow": [TRUE]}, Verdict.UNDECIDED),
        ({"deny": [ABSENT_DEVICE], "challenge": [TRUE], "allow": [TRUE]}, Verdict.DENY),
        ({"deny": [UNKNOWN], "allow": [TRUE]}, Verdict.UNDECIDED),
        ({"challenge": [ABSENT_IDENTITY], "allow": [TRUE]}, Verdict.CHALLENGE),
    ],
)
def test_the_first_row_that_decides_decides(rows: dict[str, list[str]], verdict: Verdict) -> None:
    assert decide(facts_of_the_table(), **rows).verdict is verdict


@pytest.mark.parametrize("rows", [{}, {"deny": [FALSE], "challenge": [FALSE], "allow": [FALSE]}])
def test_nothing_matched_is_deny(rows: dict[str, list[str]]) -> None:
    decision = decide(known_facts(), **rows)
    assert (decision.verdict, decision.reason) == (Verdict.DENY, Reason.NO_RULE_MATCHED)
    assert (decision.rule, decision.route) == ("", "all")


def test_no_route_is_deny() -> None:
    facts = known_facts()
    facts.request.method = "TRACE"
    decision = decide(facts, allow=[TRUE])
    assert (decision.verdict, decision.reason, decision.route) == (Verdict.DENY, Reason.NO_ROUTE, "")


def test_an_empty_bundle_denies() -> None:
    policy = load_policy([])
    decision = evaluate(policy, known_facts())
    assert (decision.verdict, decision.reason) == (Verdict.DENY, Reason.NO_ROUTE)
    assert decision.policy_digest == policy.digest
    assert len(policy.digest) == 32


@pytest.mark.parametrize(
    ("family", "unsaid"),
    [
        ("request", Reason.MALFORMED_REQUEST),
        ("identity", Reason.BAD_SIGNATURE),
        ("device", Reason.BAD_CERTIFICATE),
        ("location", Reason.BAD_ADDRESS),
    ],
)
@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (reason_pb2.REASON_EXPIRED, Reason.EXPIRED),
        (reason_pb2.REASON_UNSPECIFIED, None),
        (reason_pb2.REASON_ALLOWED, None),
        (9_999, None),
    ],
)
def test_invalid_is_deny_before_any_rule(family: str, unsaid: Reason, problem: int, told: Reason | None) -> None:
    facts = known_facts()
    set_state(facts, family, State.INVALID)
    getattr(facts, family).problem = problem
    decision = decide(facts, allow=["true"])
    assert (decision.verdict, decision.reason) == (Verdict.DENY, told or unsaid)


def test_an_invalid_request_is_told_before_an_invalid_identity() -> None:
    facts = known_facts()
    set_state(facts, "identity", State.INVALID)
    set_state(facts, "request", State.INVALID)
    assert decide(facts, allow=["true"]).reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("state", [0, State.ABSENT, State.STALE, State.ERROR, 77])
def test_a_request_that_is_neither_present_nor_invalid_is_undecided(state: int) -> None:
    facts = known_facts()
    put_state(facts, "request", state)
    decision = decide(facts, allow=["true"])
    assert (decision.verdict, decision.reason) == (Verdict.UNDECIDED, Reason.INTERNAL_ERROR)


def test_a_challenge_carries_what_its_rule_asks() -> None:
    rule = {"id": "up", "when": TRUE, "with": {"redirect": "https://x.example/", "acr": "mfa", "max_age": 3600}}
    decision = evaluate(load(route({}, challenge=[rule])), known_facts())
    assert decision.verdict is Verdict.CHALLENGE
    assert decision.asks == {"redirect": "https://x.example/", "acr": "mfa", "max_age": "3600"}


def test_every_decision_carries_digest_route_and_durability() -> None:
    policy = load(route({"deny": [FALSE]}, durability="log"))
    decision = evaluate(policy, known_facts())
    expected = Decision(
        verdict=Verdict.DENY,
        reason=Reason.NO_RULE_MATCHED,
        route="all",
        durability=Durability.LOG,
        policy_digest=policy.digest,
    )
    assert decision == expected


# ---------------------------------------------------------------------------------------------------- why unknown


@pytest.mark.parametrize(
    ("family", "state", "problem", "reason"),
    [
        ("identity", State.STALE, 0, Reason.SOURCE_STALE),
        ("identity", State.ERROR, 0, Reason.SOURCE_ERROR),
        ("identity", State.ERROR, reason_pb2.REASON_NO_KEYS, Reason.NO_KEYS),
        ("identity", State.STALE, reason_pb2.REASON_NO_KEYS, Reason.SOURCE_STALE),
        ("device", State.ERROR, reason_pb2.REASON_NO_KEYS, Reason.SOURCE_ERROR),
        ("device", 0, 0, Reason.SOURCE_ERROR),
        ("device", 99, 0, Reason.SOURCE_ERROR),
    ],
)
def test_the_cause_of_unknown_is_told(family: str, state: int, problem: int, reason: Reason) -> None:
    facts = known_facts()
    getattr(facts, family).state = state
    getattr(facts, family).problem = problem
    condition = {"identity": 'identity.subject == "alice"', "device": "device.managed"}[family]
    decision = decide(facts, allow=[condition])
    assert (decision.verdict, decision.reason) == (Verdict.UNDECIDED, reason)


def test_of_several_causes_in_one_condition_the_gravest_is_told() -> None:
    facts = known_facts()
    set_state(facts, "device", State.STALE)
    set_state(facts, "location", State.ERROR)
    decision = decide(facts, allow=['device.managed && location.country == "DE" && identity.subject == "alice"'])
    assert decision.reason is Reason.SOURCE_ERROR
    assert decision.missing == ("device.managed", "location.country")


@pytest.mark.parametrize(
    "condition",
    [
        "1 / (identity.groups.size() - 1) == 1",
        'identity.groups[7] == "eng"',
        "timestamp(identity.subject) < now",
        "duration(identity.subject) < device.age",
    ],
)
def test_an_error_of_cel_is_unknown(condition: str) -> None:
    decision = decide(known_facts(), allow=[condition])
    assert (decision.verdict, decision.reason) == (Verdict.UNDECIDED, Reason.CONDITION_ERROR)
    assert (decision.rule, decision.missing) == ("allow-0", ())


def test_one_condition_that_fails_leaves_the_others_their_answers() -> None:
    failing = 'identity.groups[7] == "eng"'
    decision = decide(known_facts(), deny=[FALSE], challenge=[FALSE, FALSE], allow=[failing, TRUE])
    assert (decision.verdict, decision.rule) == (Verdict.ALLOW, "allow-1")
    assert decide(known_facts(), deny=[failing], allow=[TRUE]).verdict is Verdict.UNDECIDED


def test_an_exhausted_iteration_budget_is_unknown() -> None:
    ten = "[1,2,3,4,5,6,7,8,9,10]"
    nested = "true"
    for variable in "abcde":
        nested = f"{ten}.all({variable}, {nested})"
    decision = decide(known_facts(), allow=[nested])
    assert (decision.verdict, decision.reason) == (Verdict.UNDECIDED, Reason.CONDITION_ERROR)


# ---------------------------------------------------------------------------------------------------- shadow rules


def test_shadow_rules_say_what_they_would_have_said() -> None:
    shadow = [
        {"id": "s-true", "deny": TRUE},
        {"id": "s-false", "allow": FALSE},
        {"id": "s-unknown", "challenge": UNKNOWN},
        {"id": "s-absent", "deny": ABSENT_DEVICE},
        {"id": "s-error", "deny": 'device.tags[7] == "x"'},
    ]
    decision = evaluate(load(route({"allow": [TRUE]}, shadow=shadow)), facts_of_the_table())
    assert decision.verdict is Verdict.ALLOW
    assert decision.shadow == (
        Shadow(rule="s-true", verdict=Verdict.DENY),
        Shadow(rule="s-false", verdict=None),
        Shadow(rule="s-unknown", verdict=Verdict.UNDECIDED),
        Shadow(rule="s-absent", verdict=Verdict.UNDECIDED),
        Shadow(rule="s-error", verdict=Verdict.UNDECIDED),
    )


# ---------------------------------------------------------------------------------------------------- headers


def headers(facts: facts_pb2.Facts, **texts: str) -> Decision:
    named = {name.replace("_", "-"): text for name, text in texts.items()}
    return evaluate(load(route({"allow": [TRUE]}, on_allow={"set_headers": named})), facts)


def test_headers_of_an_allow_are_set() -> None:
    decision = headers(known_facts(), x_team='identity.claims["team"]', x_who='"user " + identity.subject')
    assert decision.set_headers == {"x-team": "payments", "x-who": "user alice"}
    assert decision.remove_headers == ()


def test_a_header_without_a_value_is_taken_from_the_client() -> None:
    facts = known_facts()
    facts.identity.claims["empty"] = ""
    decision = headers(facts, x_none='identity.claims["none"]', x_empty="identity.claims.empty", x_ok='"v"')
    assert decision.verdict is Verdict.ALLOW
    assert decision.set_headers == {"x-ok": "v"}
    assert decision.remove_headers == ("x-empty", "x-none")


@pytest.mark.parametrize(
    "value", ["a\r\nx-admin: 1", "a\nb", " a", "a ", "\u00e4", "a\tb", "a\x7f", "a\0b", "a" * 4_097]
)
def test_a_value_that_is_no_header_value_is_undecided(value: str) -> None:
    facts = known_facts()
    facts.identity.claims["team"] = value
    decision = headers(facts, x_team='identity.claims["team"]', x_ok='"v"')
    assert (decision.verdict, decision.reason) == (Verdict.UNDECIDED, Reason.CONDITION_ERROR)
    assert decision.set_headers == {}
    assert decision.rule == "allow-0"


def test_the_longest_header_value_passes() -> None:
    facts = known_facts()
    facts.identity.claims["team"] = "a" * 4_096
    assert headers(facts, x_team='identity.claims["team"]').verdict is Verdict.ALLOW


def test_an_unknown_header_is_undecided() -> None:
    facts = known_facts()
    set_state(facts, "location", State.STALE)
    decision = headers(facts, x_country="location.country")
    assert (decision.verdict, decision.reason) == (Verdict.UNDECIDED, Reason.CONDITION_ERROR)
    assert decision.missing == ("location.country",)


def test_the_text_of_an_error_is_no_header_value() -> None:
    decision = headers(known_facts(), x_group="identity.groups[7]")
    assert (decision.verdict, decision.set_headers) == (Verdict.UNDECIDED, {})


@pytest.mark.parametrize("conditions", [TRUE, FALSE, UNKNOWN, ABSENT_DEVICE, ABSENT_IDENTITY])
@pytest.mark.parametrize("row", ["deny", "challenge", "allow"])
def test_an_assertion_is_promised_by_an_allow_only(row: str, conditions: str) -> None:
    policy = load(route({row: [conditions]}, on_allow={"assertion": {"audience": "orders"}}))
    decision = evaluate(policy, facts_of_the_table())
    assert decision.assertion == (AssertionTerms(audience="orders") if decision.verdict is Verdict.ALLOW else None)
    assert (decision.verdict is Verdict.ALLOW) == ((row, conditions) == ("allow", TRUE))


def test_no_assertion_where_a_header_cannot_be_told() -> None:
    on_allow = {"assertion": True, "set_headers": {"x-group": "identity.groups[7]"}}
    decision = evaluate(load(route({"allow": [TRUE]}, on_allow=on_allow)), known_facts())
    assert (decision.verdict, decision.assertion) == (Verdict.UNDECIDED, None)


def test_no_assertion_where_the_policy_says_nothing_of_one() -> None:
    assert decide(known_facts(), allow=[TRUE]).assertion is None


def test_headers_are_of_an_allow_only() -> None:
    policy = load(route({"challenge": [TRUE]}, on_allow={"set_headers": {"x-a": 'identity.claims["none"]'}}))
    decision = evaluate(policy, known_facts())
    assert (decision.set_headers, decision.remove_headers) == ({}, ())


# ---------------------------------------------------------------------------------------------------- levels, captures


def test_levels_count_as_if_they_stood_in_the_condition() -> None:
    levels = {
        "eu": 'location.country in ["DE", "FR"] // a comment ends at its line',
        "good": "device.managed && level.eu",
    }
    facts = known_facts()
    assert decide(facts, levels, allow=["level.good || false"]).verdict is Verdict.ALLOW
    assert decide(facts, levels, allow=["!level.good"]).verdict is Verdict.DENY
    assert decide(facts, levels, allow=["( level . good )"]).verdict is Verdict.ALLOW
    assert decide(facts, levels, allow=[".level.good && .device.managed"]).verdict is Verdict.ALLOW
    facts.location.ClearField("country")
    assert decide(facts, levels, allow=["level.good"]).missing == ("location.country",)


def test_names_inside_texts_comments_and_fields_are_left_alone() -> None:
    condition = 'identity.claims["device.managed"] == "now level.x identity" // device.managed'
    facts = known_facts()
    facts.identity.claims["device.managed"] = "now level.x identity"
    assert decide(facts, {"x": "true"}, allow=[condition]).verdict is Verdict.ALLOW


def test_a_level_binds_as_a_whole() -> None:
    decision = decide(known_facts(), {"either": "false || true"}, allow=["false && level.either"])
    assert decision.verdict is Verdict.DENY


def test_captures_are_read_from_the_facts() -> None:
    policy = load(route({"allow": ['request.captures["team"] == "payments"']}, match={"paths": ["/t/{team}"]}))
    facts = known_facts()
    facts.request.segments[:] = ["t", "payments"]
    assert evaluate(policy, facts).reason is Reason.FACT_ABSENT
    match = policy.find_route("GET", "any", ["t", "payments"])
    assert match is not None
    facts.request.captures.update(match.captures)
    assert evaluate(policy, facts).verdict is Verdict.ALLOW


def test_evaluating_changes_no_argument() -> None:
    facts = known_facts()
    set_state(facts, "location", State.ABSENT)
    facts.location.vpn = True
    before = facts.SerializeToString(deterministic=True)
    decide(facts, allow=["has(location.vpn)"])
    assert facts.SerializeToString(deterministic=True) == before


def test_headers_that_another_route_vouches_for_do_not_pass_as_the_clients_own() -> None:
    content = b"""
kind: Policy
name: two
routes:
- {name: a, match: {paths: ["/a"]}, allow: [{id: all, when: "true"}], on_allow: {set_headers: {x-team: '"red"'}}}
- {name: b, match: {paths: ["/b"]}, allow: [{id: all, when: "true"}]}
"""
    policy = load_policy([SourceFile(name="p.yaml", content=content)])

    def decided(path: str) -> Decision:
        request = facts_pb2.Request(state=facts_pb2.PRESENT, method="GET", host="h", path=f"/{path}", segments=[path])
        return evaluate(policy, facts_pb2.Facts(request=request))

    assert (decided("a").set_headers, decided("a").remove_headers) == ({"x-team": "red"}, ())
    assert (decided("b").set_headers, decided("b").remove_headers) == ({}, ("x-team",))
    assert decided("c").remove_headers == ()
