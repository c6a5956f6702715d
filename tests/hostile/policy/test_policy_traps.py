# SPDX-License-Identifier: Apache-2.0
"""What CEL and its library do that no policy may suffer from.

Each test first shows that the trap is there, so that it tells when a new release of the library has closed it, and then
that a policy does not step into it. Numbers are rows of the list of hostile inputs, group I.
"""

import pytest
from cel_expr_python import cel

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.model.reason import Reason, State, Verdict
from iap_authz.policy.environment import facts_environment
from iap_authz.policy.evaluate import evaluate
from tests.unit.policy.building import decide, faults_of, known_facts, load, route, set_state

FRAME = (
    "kind: Policy\nname: t\nroutes:\n- name: all\n  match: {{paths: [/**]}}\n"
    "  allow:\n  - id: a\n    when: |-\n      {}\n"
)


def raw(text: str, facts: facts_pb2.Facts) -> cel.Value:
    """What CEL itself says of a text over `facts`."""
    environment = facts_environment()
    return environment.compile(text).eval(environment.Activation({"facts": facts}))


@pytest.mark.parametrize(
    ("over_facts", "condition"),
    [
        ("!facts.device.managed", "!device.managed"),
        ('facts.location.country != "RU"', 'location.country != "RU"'),
        ('facts.device.age < duration("24h")', 'device.age < duration("24h")'),
        ("facts.device.posture_time < facts.now", "device.posture_time < now"),
    ],
)
@pytest.mark.parametrize("state", [State.PRESENT, State.ABSENT, State.STALE, State.ERROR])
def test_what_cel_calls_true_of_nothing_is_not_true(over_facts: str, condition: str, state: State) -> None:
    facts = known_facts()
    for family in ("device", "location"):
        getattr(facts, family).Clear()
        set_state(facts, family, state)
    assert raw(over_facts, facts).plain_value() is True
    assert decide(facts, allow=[condition]).verdict in (Verdict.DENY, Verdict.UNDECIDED)
    assert decide(facts, deny=[condition], allow=["true"]).verdict in (Verdict.DENY, Verdict.UNDECIDED)


def test_217_an_error_that_cel_absorbs_does_not_allow() -> None:
    facts = known_facts()
    assert raw('facts.identity.claims["none"] == "x" || true', facts).plain_value() is True
    decision = decide(facts, allow=['identity.claims["none"] == "x" || true'])
    assert (decision.verdict, decision.reason) == (Verdict.DENY, Reason.FACT_ABSENT)
    assert decision.missing == ("identity.claims[none]",)


def test_218_not_equal_on_a_missing_field_in_a_deny_rule_denies() -> None:
    decision = decide(known_facts(), deny=['identity.claims["none"] != "x"'], allow=["true"])
    assert (decision.verdict, decision.rule) == (Verdict.DENY, "deny-0")


def test_220_nested_iterations_are_bounded() -> None:
    constant = "true"
    for variable in "abcdefgh":
        constant = f"[1,2,3,4,5,6,7,8].all({variable}, {constant})"
    assert decide(known_facts(), allow=[constant]).reason is Reason.CONDITION_ERROR
    dynamic = "true"
    for variable in "abcdefgh":
        dynamic = f"identity.groups.all({variable}, {dynamic})"
    assert "got an iteration inside an iteration" in faults_of(FRAME.format(dynamic))[0].message


@pytest.mark.parametrize("pattern", ["request.user_agent", "identity.claims['re']", "'a' + request.path"])
def test_221_patterns_from_the_request_are_refused_at_load(pattern: str) -> None:
    fault = faults_of(FRAME.format(f"identity.subject.matches({pattern})"))[0]
    assert "got a pattern that is not a literal" in fault.message


@pytest.mark.parametrize(
    "condition",
    ["(" * 300 + "true" + ")" * 300, "[" * 300 + "]" * 300 + " == []", "-(" * 300 + "1" + ")" * 300 + " == 1"],
)
def test_222_three_hundred_levels_are_a_load_error(condition: str) -> None:
    faults = faults_of(FRAME.format(condition))
    assert [fault.message for fault in faults] == ["got an expression that nests deeper than CEL allows, want less"]


@pytest.mark.parametrize("policy", [load(), load(route({})), load(route({"shadow": []}))])
def test_225_without_rules_everything_is_denied(policy: object) -> None:
    assert evaluate(policy, known_facts()).verdict is Verdict.DENY  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["now()", "timestamp()", "random()", "http.get('x')", "env.HOME", "getenv('HOME')"])
def test_227_there_is_no_clock_network_or_environment(name: str) -> None:
    assert faults_of(FRAME.format(f"{name} == {name}"))


def test_227_named_time_zones_are_files_of_the_machine() -> None:
    moment = raw('facts.now.getHours("Europe/Berlin") == 23', known_facts()).plain_value()
    assert isinstance(moment, bool)
    assert "named time zone" in faults_of(FRAME.format("now.getHours('Europe/Berlin') == 1"))[0].message


def test_228_the_same_facts_give_the_same_decision() -> None:
    policy = load(route({"allow": ['identity.claims["none"] == "x"', "device.os == 'y' && device.model == 'z'"]}))
    first = evaluate(policy, known_facts())
    copy = facts_pb2.Facts.FromString(known_facts().SerializeToString(deterministic=True))
    assert evaluate(policy, copy) == first


def test_strings_cut_at_nul_cannot_pass_for_a_group() -> None:
    environment = cel.NewEnv(variables={"groups": cel.Type.List(cel.Type.STRING)})
    cut = environment.compile('"eng" in groups').eval(environment.Activation({"groups": ["eng\0x"]}))
    assert cut.plain_value() is True
    facts = known_facts()
    facts.identity.groups[:] = ["eng\0x"]
    facts.identity.subject = "alice\0"
    assert decide(facts, allow=['"eng" in identity.groups']).verdict is Verdict.DENY
    assert decide(facts, allow=['identity.subject == "alice"']).verdict is Verdict.DENY


def test_an_error_is_a_truthy_text() -> None:
    error = raw("1 / 0 == 1", known_facts()).plain_value()
    assert error
    assert isinstance(error, str)
    assert decide(known_facts(), allow=["1 / 0 == 1"]).verdict is Verdict.UNDECIDED
    assert decide(known_facts(), allow=["1 / 0 == 1", "1 / 0 == 2"]).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("condition", ["null", "[null][0]", "{'a': null}.a", "'true'", "1", "[true]", "dyn(true)"])
def test_what_is_not_a_boolean_is_refused_at_load(condition: str) -> None:
    assert faults_of(FRAME.format(condition))


@pytest.mark.parametrize(
    "text", ['"a".matches("(")', 'duration("1 day") < duration("1h")', 'timestamp("x") < timestamp("y")']
)
def test_bad_constants_compile_and_are_found_at_load(text: str) -> None:
    assert raw(text, known_facts()).type() == cel.Type.ERROR
    assert " for " in faults_of(FRAME.format(text))[0].message


def test_absorbed_errors_between_conditions_stay_with_their_own() -> None:
    """One condition that fails must not take the row's list expression, and so the other answers, with it."""
    failing = "identity.groups[5] == 'x'"
    decision = decide(known_facts(), deny=["false"], challenge=["false"], allow=[failing, "false", "true"])
    assert (decision.verdict, decision.rule) == (Verdict.ALLOW, "allow-2")


def test_a_family_cannot_be_read_behind_the_back_of_the_compiler() -> None:
    for condition in (
        "[device].exists(d, !d.managed)",
        "[device][0].managed == false",
        "{'d': device}['d'].managed == false",
        "dyn(device).managed == false",
        "(true ? device : device).managed == false",
        "device == Device{}",
        "[facts].size() == 1",
        "[identity.claims][0].none != 'x' || true",
        "identity.groups.map(facts, facts).size() == 0",
    ):
        assert faults_of(FRAME.format(condition)), condition


def test_a_lone_surrogate_in_a_file_is_a_fault() -> None:
    content = 'kind: Policy\nname: t\nroutes: [{name: a, match: {paths: ["/\\ud800"]}}]\n'
    assert faults_of(content)[0].message == "got a lone surrogate, want characters"


@pytest.mark.parametrize(
    "content",
    [
        "kind: Policy\nname: t\nroutes: &a []\nlevels: *a\n",
        "kind: !!python/object:os.system Policy\n",
        "kind: Policy\nkind: Policy\nname: t\nroutes: []\n",
        "--- {kind: Policy, name: t, routes: []}\n--- {kind: Policy, name: u, routes: []}\n",
        "{" * 100,
        "kind: Policy\nname: t\nroutes: {a: b}\n",
        "kind: Policy\nname: t\nroutes: [1, [], null]\n",
        "kind: Policy\nname: t\nroutes: []\n? [a]\n: b\n",
        "\x00",
    ],
)
def test_files_that_are_not_what_they_seem_are_refused(content: str) -> None:
    assert faults_of(content)


def test_times_outside_what_python_knows_are_no_defect() -> None:
    facts = known_facts()
    facts.identity.auth_time.seconds = -(2**62)
    facts.device.age.seconds = 2**62
    conditions = ["now - identity.auth_time > duration('1h')", "device.age > duration('1h')"]
    for condition in conditions:
        assert decide(facts, allow=[condition]).verdict in (Verdict.ALLOW, Verdict.UNDECIDED)
