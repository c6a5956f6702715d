# SPDX-License-Identifier: Apache-2.0
"""The canonical form round-trips; the route index agrees with a scan of all patterns; evaluating is total."""

from collections.abc import Sequence
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import IapError
from iap_authz.model.decision import Decision
from iap_authz.model.reason import Verdict
from iap_authz.policy.bundle import join_chunks, load_canonical, split_chunks
from iap_authz.policy.compile import load_policy
from iap_authz.policy.environment import FAMILIES
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile
from tests.unit.policy.building import load, put_state, route

words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=12)
conditions = words.map(lambda word: "identity.subject == " + '"' + word.replace("\\", "").replace('"', "") + '"')

audiences = st.text("ab:/", min_size=1, max_size=9).map(lambda text: f"x{text}")
assertions = st.booleans() | st.fixed_dictionaries({"request_binding": st.booleans()}, optional={"audience": audiences})


@settings(max_examples=60, deadline=None)
@given(st.lists(conditions, max_size=3), st.lists(conditions, max_size=3), st.booleans(), assertions)
def test_canonical_bytes_round_trip(deny: list[str], allow: list[str], log: bool, assertion: object) -> None:  # noqa: FBT001
    on_allow = {"assertion": assertion}
    policy = load(route({"deny": deny, "allow": allow}, durability="log" if log else "journal", on_allow=on_allow))
    again = load_canonical(policy.canonical)
    assert (again.digest, again.canonical) == (policy.digest, policy.canonical)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 100))
def test_chunks_round_trip(content: bytes, size_bytes: int) -> None:
    assert join_chunks(split_chunks(content, size_bytes)) == content


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_load_or_are_refused_by_name(content: bytes) -> None:
    with suppress(IapError):
        load_policy([SourceFile(name="p", content=content)])
    with suppress(IapError):
        load_canonical(content)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="aedvlx.()[]{}'\"&|!=<>?:, 01\n", max_size=30) | st.text(max_size=12))
def test_any_condition_compiles_or_is_refused_by_name(condition: str) -> None:
    try:
        load(route({"allow": ["true", condition]}), levels={"a": "true"})
    except (IapError, UnicodeEncodeError):
        return


segment = st.sampled_from(["", "a", "b"])
pattern_segment = st.sampled_from(["a", "b", "*", "{x}"])
patterns = st.builds(
    lambda parts, end: "/" + "/".join([*parts, *end]),
    st.lists(pattern_segment, max_size=3).filter(lambda parts: parts.count("{x}") <= 1),
    st.sampled_from([[], ["**"]]),
)


def shape(pattern: str) -> tuple[str, ...]:
    return tuple("*" if part == "{x}" else part for part in pattern[1:].split("/"))


def obvious_match(pattern: Sequence[str], segments: Sequence[str]) -> tuple[int, ...] | None:
    """The rank of a pattern that matches (smaller is better), segment by segment, or None."""
    rank: list[int] = []
    for place, part in enumerate(pattern):
        if part == "**":
            return (*rank, 3)
        if place == len(segments) or (part != "*" and part != segments[place]):
            return None
        rank.append(1 if part == "*" else 0)
    return (*rank, 2) if len(pattern) == len(segments) else None


@settings(max_examples=200, deadline=None)
@given(st.lists(patterns, min_size=1, max_size=6, unique_by=shape), st.lists(segment, min_size=1, max_size=4))
def test_the_index_agrees_with_a_scan(given_patterns: list[str], segments: list[str]) -> None:
    policy = load(*({"name": f"r{n}", "match": {"paths": [text]}} for n, text in enumerate(given_patterns)))
    match = policy.find_route("GET", "h", segments)
    ranked = [(obvious_match(shape(text), segments), f"r{n}") for n, text in enumerate(given_patterns)]
    best = min((rank, name) for rank, name in [*ranked, ((9,), "")] if rank is not None)[1]
    assert (match.route.name if match is not None else "") == best


EVERYTHING = load(
    route(
        {
            "deny": ["device.lost", 'identity.claims["a"] == "b"', "has(location.vpn) && location.vpn"],
            "challenge": ['identity.groups[1] == "x"', "device.age > duration('1h')"],
            "allow": ["now > identity.issued_at", 'request.headers["x"] == "y"', 'request.user_agent.matches("a+")'],
        },
        on_allow={"set_headers": {"x-a": "identity.subject + device.os"}},
        shadow=[{"id": "s", "allow": "location.networks.exists(n, n in identity.groups)"}],
    )
)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.lists(st.integers(0, 7), min_size=4, max_size=4))
def test_evaluating_is_total_and_repeatable(noise: bytes, family_states: list[int]) -> None:
    facts = facts_pb2.Facts()
    try:
        facts.ParseFromString(noise)
    except Exception:  # noqa: BLE001  what is not a message leaves it as far as it got
        facts.Clear()
    for family, state in zip(FAMILIES, family_states, strict=True):
        put_state(facts, family, state)
    facts.request.method = facts.request.method or "GET"
    facts.request.segments.append("a")
    decision = evaluate(EVERYTHING, facts)
    assert isinstance(decision, Decision)
    assert decision == evaluate(EVERYTHING, facts)
    assert decision.policy_digest == EVERYTHING.digest
    if any(state != facts_pb2.PRESENT for state in family_states[:3]):
        assert decision.verdict is not Verdict.ALLOW
