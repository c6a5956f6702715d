# SPDX-License-Identifier: Apache-2.0
"""The table against a slow and obvious interpreter, and what must hold of every policy.

The interpreter knows atoms (one comparison of one field each) and three-valued rows; it shares nothing with the
compiler or the evaluator.
"""

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.model.reason import Verdict
from iap_authz.policy.evaluate import evaluate
from tests.unit.policy.building import known_facts, load, route

FIELDS = {
    "identity.subject": ('identity.subject == "alice"', "alice"),
    "identity.claims[team]": ('identity.claims["team"] == "alice"', "alice"),
    "device.managed": ("device.managed", True),
    "device.lost": ("!device.lost", False),
    "location.country": ('location.country != "RU"', "alice"),
}
"""Path, condition, and the value that makes it true."""

Rows = Mapping[str, Sequence[tuple[str, ...]]]
"""Row -> rules; a rule is the paths whose conditions it joins with and."""

Known = Mapping[str, bool | None]
"""Path -> whether its condition holds; None if the field is not set."""

States = Mapping[str, int]

PRESENT, ABSENT, STALE, ERROR = facts_pb2.PRESENT, facts_pb2.ABSENT, facts_pb2.STALE, facts_pb2.ERROR
paths = st.sampled_from(sorted(FIELDS))
rules = st.lists(paths, min_size=1, max_size=3, unique=True).map(tuple)
rows = st.fixed_dictionaries({row: st.lists(rules, max_size=3) for row in ("deny", "challenge", "allow")})
known = st.fixed_dictionaries({path: st.sampled_from([True, False, None]) for path in FIELDS})
states = st.fixed_dictionaries(
    {
        family: st.sampled_from([PRESENT, PRESENT, PRESENT, ABSENT, STALE, ERROR])
        for family in ("identity", "device", "location")
    }
)


def build_facts(values: Known, family_states: States) -> facts_pb2.Facts:
    facts = known_facts()
    for family, state in family_states.items():
        message = getattr(facts, family)
        message.Clear()
        message.state = state
    for path, holds in values.items():
        family, _, name = path.partition(".")
        message = getattr(facts, family)
        if family_states[family] == ABSENT or holds is None:
            continue
        good = FIELDS[path][1]
        bad = (not good) if isinstance(good, bool) else "RU"
        value = good if holds else bad
        if name.endswith("]"):
            message.claims["team"] = value
        else:
            setattr(message, name, value)
    return facts


def policy_of(given_rows: Rows, **more: object) -> dict[str, object]:
    texts = {row: [" && ".join(FIELDS[path][0] for path in rule) for rule in each] for row, each in given_rows.items()}
    return route(texts, **more)


def verdict_of(given_rows: Rows, values: Known, family_states: States) -> Verdict:
    return evaluate(load(policy_of(given_rows)), build_facts(values, family_states)).verdict


def obvious_rule(rule: Sequence[str], values: Known, family_states: States) -> str:
    families = {path.partition(".")[0] for path in rule}
    if any(family_states[family] in (STALE, ERROR) for family in families):
        return "unknown"
    lacking = [path for path in rule if values[path] is None or family_states[path.partition(".")[0]] == ABSENT]
    if any(path.startswith("identity.") and family_states["identity"] == ABSENT for path in lacking):
        return "nobody"
    if lacking:
        return "absent"
    return "true" if all(values[path] for path in rule) else "false"


def obvious(given_rows: Rows, values: Known, family_states: States) -> Verdict:
    for row, verdict in (("deny", Verdict.DENY), ("challenge", Verdict.CHALLENGE), ("allow", Verdict.ALLOW)):
        answers = {obvious_rule(rule, values, family_states) for rule in given_rows[row]}
        if "true" in answers:
            return verdict
        if "unknown" in answers:
            return Verdict.UNDECIDED
        if "nobody" in answers:
            return Verdict.CHALLENGE
        if "absent" in answers:
            return Verdict.DENY
    return Verdict.DENY


@settings(max_examples=300, deadline=None)
@given(rows, known, states)
def test_the_evaluator_agrees_with_the_obvious_interpreter(
    given_rows: Rows, values: Known, family_states: States
) -> None:
    assert verdict_of(given_rows, values, family_states) is obvious(given_rows, values, family_states)


@settings(max_examples=100, deadline=None)
@given(rows, known, states, st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_change_the_verdict(
    given_rows: dict[str, list[tuple[str, ...]]], values: Known, family_states: States, random: object
) -> None:
    before = verdict_of(given_rows, values, family_states)
    for each in given_rows.values():
        random.shuffle(each)  # type: ignore[attr-defined]
    assert verdict_of(given_rows, values, family_states) is before


@settings(max_examples=100, deadline=None)
@given(rows, rules, known, states)
def test_one_more_deny_rule_never_allows_more(
    given_rows: dict[str, list[tuple[str, ...]]], rule: tuple[str, ...], values: Known, family_states: States
) -> None:
    more = {**given_rows, "deny": [*given_rows["deny"], rule]}
    if verdict_of(more, values, family_states) is Verdict.ALLOW:
        assert verdict_of(given_rows, values, family_states) is Verdict.ALLOW


@settings(max_examples=100, deadline=None)
@given(rows, st.lists(rules, min_size=1, max_size=3), st.sampled_from(["allow", "deny", "challenge"]), known, states)
def test_shadow_rules_never_change_the_decision(
    given_rows: Rows, candidates: list[tuple[str, ...]], kind: str, values: Known, family_states: States
) -> None:
    shadow = [
        {"id": f"s{place}", kind: " && ".join(FIELDS[path][0] for path in rule)}
        for place, rule in enumerate(candidates)
    ]
    facts = build_facts(values, family_states)
    plain = evaluate(load(policy_of(given_rows)), facts)
    shadowed = evaluate(load(policy_of(given_rows, shadow=shadow)), facts)
    assert (shadowed.verdict, shadowed.reason, shadowed.rule, shadowed.missing) == (
        plain.verdict,
        plain.reason,
        plain.rule,
        plain.missing,
    )
    assert [each.rule for each in shadowed.shadow] == [f"s{place}" for place in range(len(candidates))]


@settings(max_examples=200, deadline=None)
@given(rows, known, states, paths)
def test_taking_a_fact_away_never_turns_a_refusal_into_an_allow(
    given_rows: Rows, values: Known, family_states: States, path: str
) -> None:
    """True of conditions without guards and without `state`: those say themselves what absence means to them."""
    before = verdict_of(given_rows, values, family_states)
    less = verdict_of(given_rows, {**values, path: None}, family_states)
    fewer = verdict_of(given_rows, values, {**family_states, path.partition(".")[0]: ABSENT})
    worse = verdict_of(given_rows, values, {**family_states, path.partition(".")[0]: STALE})
    if before is not Verdict.ALLOW:
        assert Verdict.ALLOW not in (less, fewer, worse)
