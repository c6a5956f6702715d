# SPDX-License-Identifier: Apache-2.0
"""Absent is not false: what a condition reads decides whether it is asked at all."""

from collections.abc import Callable

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.model.reason import Reason, State, Verdict
from iap_authz.policy.environment import FAMILIES, check_environment, compile_text
from iap_authz.policy.reads import Read, collect_reads
from tests.unit.policy.building import decide, known_facts, put_state, set_state

ALLOW, FALSE = "allow", "false"
ABSENT, UNKNOWN = "absent", "unknown"


def outcome(facts: facts_pb2.Facts, condition: str) -> str:
    """What became of one condition, read off the verdict of a policy that allows by it."""
    decision = decide(facts, allow=[condition])
    named = {
        Reason.ALLOWED: ALLOW,
        Reason.NO_RULE_MATCHED: FALSE,
        Reason.FACT_ABSENT: ABSENT,
        Reason.IDENTITY_ABSENT: ABSENT,
    }
    return named.get(decision.reason, UNKNOWN)


def clear_device(facts: facts_pb2.Facts) -> None:
    facts.device.Clear()
    facts.device.state = facts_pb2.PRESENT


@pytest.mark.parametrize(
    "condition",
    [
        "device.managed",
        "!device.managed",
        'location.country != "RU"',
        'device.os == ""',
        "device.os_version_key < 5",
        'device.age < duration("24h")',
        "identity.auth_time < now",
        "device.posture_time < now",
        'identity.token_sha256 == b""',
        "request.body_sha256 != b'x'",
        '!("red" in device.tags)',
        "device.tags.size() == 0",
        'identity.claims["none"] != "x"',
        'identity.claims.none != "x"',
        "identity.amr.all(m, m == 'pwd')",
        "device.labels.size() == 0",
        'device.managed || "1" == "1"',
        "true || device.managed",
        "device.managed ? true : true",
        "[1].all(x, !device.managed)",
        "type(device.managed) == bool",
    ],
)
def test_a_condition_on_nothing_is_never_true(condition: str) -> None:
    facts = known_facts()
    clear_device(facts)
    facts.location.ClearField("country")
    assert outcome(facts, condition) == ABSENT


@pytest.mark.parametrize(
    ("family", "condition"),
    [
        ("identity", 'identity.subject == "alice"'),
        ("device", "device.managed"),
        ("location", 'location.country == "DE"'),
    ],
)
@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.PRESENT, ALLOW), (State.ABSENT, ABSENT), (State.STALE, UNKNOWN), (State.ERROR, UNKNOWN), (0, UNKNOWN)],
)
def test_the_state_of_a_family_rules_its_fields(family: str, condition: str, state: int, expected: str) -> None:
    facts = known_facts()
    getattr(facts, family).state = state  # its fields stay set: the state alone must do
    assert outcome(facts, condition) == expected


@pytest.mark.parametrize("state", list(State)[:4])
@pytest.mark.parametrize(
    "condition", ["device.state == {}", 'device.source == "" && device.state == {}', "int(device.problem) == 0"]
)
def test_state_problem_and_source_are_read_in_every_state(state: State, condition: str) -> None:
    facts = known_facts()
    put_state(facts, "device", state)
    assert outcome(facts, condition.format(state.name)) == ALLOW


@pytest.mark.parametrize("state", list(State)[:4])
def test_age_is_read_in_every_state_if_it_is_set(state: State) -> None:
    facts = known_facts()
    put_state(facts, "device", state)
    assert outcome(facts, 'device.age < duration("24h")') == ALLOW
    facts.device.ClearField("age")
    assert outcome(facts, 'device.age < duration("24h")') == ABSENT
    assert outcome(facts, '!has(device.age) || device.age < duration("24h")') == ALLOW


def test_now_is_absent_if_nobody_set_it() -> None:
    facts = known_facts()
    assert outcome(facts, 'now > timestamp("2020-01-01T00:00:00Z")') == ALLOW
    facts.ClearField("now")
    assert outcome(facts, 'now < timestamp("2020-01-01T00:00:00Z")') == ABSENT


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("has(device.lost) && device.lost", FALSE),
        ("!has(device.lost)", ALLOW),
        ("has(device.managed) && device.managed", ALLOW),
        ("has(device.lost) && device.managed", FALSE),
        ("has(device.managed) && device.lost", ABSENT),
        ('has(identity.claims.none) && identity.claims.none == "x"', FALSE),
        ('has(identity.claims.none) && identity.claims["none"] == "x"', FALSE),
        ('"none" in identity.claims && identity.claims.none == "x"', FALSE),
        ('"team" in identity.claims && identity.claims["team"] == "payments"', ALLOW),
        ('has(identity.claims) && identity.claims["none"] == "x"', ABSENT),
        ('"team" in identity.claims && identity.claims["none"] == "x"', ABSENT),
        ("has(device.labels) && device.labels.size() > 0", FALSE),
        ("has(identity.amr) && identity.amr.all(m, m == 'pwd')", FALSE),
        ("has(identity.token_sha256) && identity.token_sha256 == b'x'", FALSE),
        ("identity.claims.exists(k, identity.claims[k] == 'payments')", ALLOW),
        ("identity.claims[identity.subject] == 'x'", UNKNOWN),
        ("device.labels[identity.subject] == 'x'", ABSENT),
        ("identity.subject in identity.claims", FALSE),
        ("identity.subject in device.labels", ABSENT),
        ('"eng" in identity.groups', ALLOW),
    ],
)
def test_guards(condition: str, expected: str) -> None:
    assert outcome(known_facts(), condition) == expected


def test_a_guard_in_a_level_guards_the_whole_condition() -> None:
    levels = {"lost": "has(device.lost)"}
    decision = decide(known_facts(), levels, allow=["!level.lost || device.lost"])
    assert decision.verdict is Verdict.ALLOW


@pytest.mark.parametrize("state", [State.STALE, State.ERROR])
@pytest.mark.parametrize("condition", ["has(device.lost)", "!has(device.lost)", '"a" in device.labels'])
def test_has_on_a_broken_source_is_no_answer(state: State, condition: str) -> None:
    facts = known_facts()
    set_state(facts, "device", state)
    assert outcome(facts, condition) == UNKNOWN


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("has(location.networks)", FALSE),
        ("!has(location.networks)", ALLOW),
        ('has(location.networks) && "office" in location.networks', FALSE),
        ('"office" in location.networks', ABSENT),
        ("has(location.vpn) ? location.vpn : true", ALLOW),
    ],
)
def test_has_on_an_absent_family_is_false_whatever_it_holds(condition: str, expected: str) -> None:
    """An address without a place has networks all the same."""
    facts = known_facts()
    facts.location.state = facts_pb2.ABSENT
    facts.location.networks.append("office")
    facts.location.vpn = False
    assert outcome(facts, condition) == expected


def test_unknown_wins_over_absent_within_one_condition() -> None:
    facts = known_facts()
    set_state(facts, "location", State.STALE)
    assert outcome(facts, 'device.os == "linux" && location.country == "DE"') == UNKNOWN


@pytest.mark.parametrize(
    ("prepare", "condition"),
    [
        (lambda facts: facts.device.empty.append("tags"), '!("red" in device.tags) || device.tags.size() > 0'),
        (lambda facts: facts.device.empty.append("labels"), "device.labels.size() == 0"),
        (lambda facts: facts.identity.empty.append("amr"), "identity.amr.all(m, m == 'pwd')"),
    ],
)
def test_a_list_that_is_known_to_be_empty_is_set(prepare: Callable[[facts_pb2.Facts], None], condition: str) -> None:
    facts = known_facts()
    facts.device.ClearField("tags")
    assert outcome(facts, condition) == ABSENT
    prepare(facts)
    assert outcome(facts, condition) == ALLOW


def test_a_key_of_a_map_known_to_be_empty_is_absent() -> None:
    facts = known_facts()
    facts.device.empty.append("labels")
    assert outcome(facts, 'device.labels["a"] != "x"') == ABSENT


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kind_of_every_field_is_known(family: str) -> None:
    """A field that the proto gains later must not fall through: each gives a kind and can be looked up."""
    facts = known_facts()
    for name in facts_pb2.DESCRIPTOR.message_types_by_name[family.title()].fields_by_name:
        assert Read(family, name).kind is not None
        if name in ("empty", "untrusted", "headers", "query_parameters"):
            continue
        assert decide(facts, allow=[f"has({family}.{name}) && false"]).reason is Reason.NO_RULE_MATCHED


@pytest.mark.parametrize(
    ("text", "plain", "guarded"),
    [
        ("device.managed", ["device.managed"], []),
        ('identity.claims["team"] == identity.claims.org', ["identity.claims[org]", "identity.claims[team]"], []),
        ("has(device.lost) && device.lost", ["device.lost"], ["device.lost"]),
        ('"k" in identity.claims', [], ["identity.claims[k]"]),
        ("now > identity.auth_time", ["identity.auth_time", "now"], []),
        ("identity.groups.exists(g, g in device.tags)", ["device.tags", "identity.groups"], []),
        ('{"a": true}[device.os] && ["b"] == [device.model]', ["device.model", "device.os"], []),
        ("identity.claims[device.os] == request.method", ["device.os", "identity.claims", "request.method"], []),
    ],
)
def test_reads(text: str, plain: list[str], guarded: list[str]) -> None:
    reads = collect_reads(compile_text(check_environment([]), text).checked)
    assert sorted(read.path for read in reads.plain) == plain
    assert sorted(read.path for read in reads.guarded) == guarded
