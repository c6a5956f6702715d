# SPDX-License-Identifier: Apache-2.0
"""Small policies and facts for the tests of `iap_authz.policy`."""

import json
from collections.abc import Mapping, Sequence

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Fault, PolicyInvalid
from iap_authz.model.decision import Decision
from iap_authz.model.reason import State
from iap_authz.policy.compile import load_policy
from iap_authz.policy.compiled import Policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile

NOW_SECONDS = 1_700_000_000


def known_facts() -> facts_pb2.Facts:
    """Everything shown and good: a managed device of the group "eng" in Germany asks for /."""
    facts = facts_pb2.Facts()
    facts.now.seconds = NOW_SECONDS
    for family in (facts.identity, facts.device, facts.location, facts.request):
        family.state = facts_pb2.PRESENT
    facts.identity.subject = "alice"
    facts.identity.groups.append("eng")
    facts.identity.claims["team"] = "payments"
    facts.identity.age.seconds = 60
    facts.device.managed = True
    facts.device.age.seconds = 3_600
    facts.device.tags.append("blue")
    facts.location.country = "DE"
    facts.request.method = "GET"
    facts.request.host = "app.example.com"
    facts.request.segments.append("")
    return facts


def put_state(facts: facts_pb2.Facts, family: str, state: int) -> None:
    """Put a family into a state, whatever it holds."""
    message = getattr(facts, family)
    message.state = state


def set_state(facts: facts_pb2.Facts, family: str, state: int) -> None:
    """Put a family into a state; with ABSENT, what it held is gone."""
    message = getattr(facts, family)
    if state == State.ABSENT:
        message.Clear()
    message.state = state


def route(rows: Mapping[str, Sequence[str]], **more: object) -> dict[str, object]:
    """A route for every request whose rules are called after their row and place: deny-0, allow-1."""
    document: dict[str, object] = {"name": "all", "match": {"paths": ["/**"]}, **more}
    for row, conditions in rows.items():
        document[row] = [{"id": f"{row}-{place}", "when": text} for place, text in enumerate(conditions)]
    return document


def load(*routes: Mapping[str, object], levels: Mapping[str, str] | None = None, name: str = "test") -> Policy:
    """Load a policy of these routes; JSON is YAML."""
    return load_policy([source(*routes, levels=levels, name=name)])


def source(
    *routes: Mapping[str, object], levels: Mapping[str, str] | None = None, name: str = "test", file: str = "p.yaml"
) -> SourceFile:
    """The file of a policy of these routes."""
    document = {"kind": "Policy", "name": name, "levels": dict(levels or {}), "routes": list(routes)}
    return SourceFile(name=file, content=json.dumps(document, ensure_ascii=False).encode())


def decide(facts: facts_pb2.Facts, levels: Mapping[str, str] | None = None, /, **rows: Sequence[str]) -> Decision:
    """What a policy of one route with these rows says of `facts`."""
    return evaluate(load(route(rows), levels=levels), facts)


def faults_of(*contents: str) -> list[Fault]:
    """The faults of a bundle of files called 0.yaml, 1.yaml, and so on; none if it loads."""
    try:
        load_policy([SourceFile(name=f"{n}.yaml", content=text.encode()) for n, text in enumerate(contents)])
    except PolicyInvalid as error:
        return list(error.faults)
    return []
