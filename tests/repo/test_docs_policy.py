# SPDX-License-Identifier: Apache-2.0
"""What docs/policy.md and docs/reasons.md say is what the policy does: facts, conditions, the table, the answers."""

import json
import re

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.envoy.response import render_answer
from iap_authz.errors import PolicyInvalid
from iap_authz.model.decision import Decision
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.model.status import http_status
from iap_authz.policy.compile import load_policy
from iap_authz.policy.compiled import Policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile
from iap_authz.ports import Answer
from tests.repo.pages import DOCS, blocks, code, rows_with, tables
from tests.repo.tree import PACKAGE, package_sources

POLICY, REASONS = DOCS / "policy.md", DOCS / "reasons.md"
FAMILIES = ("identity", "device", "location", "request")

# ---- facts

SCALARS = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_INT64: "number",
    FieldDescriptor.TYPE_DOUBLE: "decimal",
    FieldDescriptor.TYPE_BYTES: "bytes",
}
MESSAGES = {"Timestamp": "time", "Duration": "duration", "State": "state", "Reason": "reason"}


def type_of(field: FieldDescriptor) -> str:
    """A field's type as the page calls it."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return "text map"
    named = message or field.enum_type
    word = MESSAGES[named.name] if named is not None else SCALARS[field.type]
    return f"{word} list" if field.is_repeated else word


@pytest.mark.parametrize("family", FAMILIES)
def test_every_fact_is_in_the_table_with_its_type(family: str) -> None:
    (table,) = [table for table in tables(POLICY) if table.heading == family]
    fields = facts_pb2.DESCRIPTOR.message_types_by_name[family.title()].fields
    assert [(code(row["field"]), row["type"]) for row in table.rows] == [(each.name, type_of(each)) for each in fields]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fact_that_nothing_sets_is_said_to_be_so(family: str) -> None:
    (table,) = [table for table in tables(POLICY) if table.heading == family]
    modules = ("identity", "workload") if family == "identity" else (family,)
    texts = [(PACKAGE / "facts" / f"{module}.py").read_text() for module in modules]
    source = re.sub(r'"""(?:.|\n)*?"""', "", "".join(texts))
    unset = {name for row in table.rows if not re.search(rf"\b{(name := code(row['field']))}\b", source)}
    assert {code(row["field"]) for row in table.rows if row["from"] == "—"} == unset


# ---- conditions


def bundle(rules: dict[str, str]) -> Policy:
    """A policy of one route with one rule for each row that is given."""
    route: dict[str, object] = {"name": "r", "match": {"paths": ["/{id}"]}}
    route |= {row: [{"id": row, "when": condition}] for row, condition in rules.items()}
    content = json.dumps({"kind": "Policy", "name": "p", "routes": [route]})
    return load_policy([SourceFile(name="p.yaml", content=content.encode())])


def decide(rules: dict[str, str], facts_text: str) -> Decision:
    """What the rules say where these facts, and nothing else, are known."""
    facts = text_format.Parse(facts_text, facts_pb2.Facts())
    for family in ("identity", "device", "location"):
        part = getattr(facts, family)
        part.state = part.state or facts_pb2.PRESENT
    facts.request.state = facts_pb2.PRESENT
    facts.request.method, facts.request.host = "GET", "a.example"
    facts.request.segments.append("x")
    return evaluate(bundle(rules), facts)


RESULTS = {
    Reason.ALLOWED: "TRUE",
    Reason.NO_RULE_MATCHED: "FALSE",
    Reason.FACT_ABSENT: "ABSENT",
    Reason.IDENTITY_ABSENT: "ABSENT",
    Reason.SOURCE_STALE: "UNKNOWN",
    Reason.SOURCE_ERROR: "UNKNOWN",
    Reason.CONDITION_ERROR: "UNKNOWN",
}


@pytest.mark.parametrize(
    "row", rows_with(POLICY, "condition", "facts", "result"), ids=lambda row: f"{row['condition']} of {row['facts']}"
)
def test_absent_and_unknown_are_as_shown(row: dict[str, str]) -> None:
    assert RESULTS[decide({"allow": code(row["condition"])}, code(row["facts"])).reason] == row["result"]


def shown_conditions() -> list[str]:
    """The conditions that the page shows, a line each."""
    return [line for block in blocks(POLICY) if block.language == "cel" for line in block.text.splitlines()]


@pytest.mark.parametrize("condition", shown_conditions())
def test_a_condition_that_is_shown_loads(condition: str) -> None:
    assert len(bundle({"allow": condition}).routes) == 1


@pytest.mark.parametrize("row", rows_with(POLICY, "condition", "because"), ids=lambda row: row["condition"])
def test_a_condition_that_is_refused_is_refused_for_that(row: dict[str, str]) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        bundle({"allow": code(row["condition"])})
    assert row["because"] in str(caught.value)


def test_the_decision_table_is_that_of_the_code() -> None:
    header = ("row", "any rule TRUE", "else any UNKNOWN", "else any ABSENT", "else")
    rows = {code(row["row"]): row for row in rows_with(POLICY, *header)}
    assert list(rows) == ["deny", "challenge", "allow"]
    for name, row in rows.items():
        managed = {name: "device.managed"}
        assert decide(managed, "device { managed: true }").verdict.name == row["any rule TRUE"]
        assert decide(managed, "device { state: STALE }").verdict.name == row["else any UNKNOWN"]
        assert decide(managed, "device { state: ABSENT }").verdict is Verdict.DENY
        assert decide({name: 'identity.subject == "a"'}, "identity { state: ABSENT }").verdict is Verdict.CHALLENGE
        later = decide({"allow": "true", **managed}, "device { managed: false }")
        assert row["else"] == ("DENY `no_rule_matched`" if name == "allow" else "next row")
        assert (later.verdict, later.reason) == (
            (Verdict.DENY, Reason.NO_RULE_MATCHED) if name == "allow" else (Verdict.ALLOW, Reason.ALLOWED)
        )
    assert rows["deny"]["else any ABSENT"] == "CHALLENGE if it is the identity that is absent, else DENY"
    assert {rows[name]["else any ABSENT"] for name in ("challenge", "allow")} == {"the same"}


@pytest.mark.parametrize("row", rows_with(POLICY, "request", "route"), ids=lambda row: row["request"])
def test_a_request_gets_the_route_that_is_shown(row: dict[str, str]) -> None:
    (text,) = [block.text for block in blocks(POLICY) if "name: example\n" in block.text]
    policy = load_policy([SourceFile(name="p.yaml", content=text.encode())])
    method, host, path = code(row["request"]).split()
    found = policy.find_route(method, host, path.split("/")[1:])
    assert row["route"] == (f"`{found.route.name}`" if found is not None else "none")


# ---- reasons.md

ROWS = {int(row["number"]): row for row in rows_with(REASONS, "number", "code", "verdict", "answer", "meaning")}


def reasons_given() -> set[str]:
    """The names of the reasons that some module gives; those that only list or range over them do not count."""
    listing = {PACKAGE / "model" / "reason.py", PACKAGE / "model" / "status.py"}
    texts = [path.read_text() for path in package_sources() if path not in listing and "demo" not in path.parts]
    return {name for text in texts for name in re.findall(r"\b(?:Reason\.|REASON_)([A-Z_]+)\b", text)}


def test_every_reason_is_in_the_table() -> None:
    assert [(number, row["code"]) for number, row in ROWS.items()] == [(each.value, each.code) for each in Reason]


def test_reasons_that_nothing_gives_are_said_to_be_so() -> None:
    assert {row["code"].upper() for row in ROWS.values() if row["answer"] == "—"} == {
        reason.name for reason in Reason
    } - reasons_given()


@pytest.mark.parametrize("reason", [reason for reason in Reason if ROWS[reason.value]["answer"] != "—"])
def test_the_answer_to_a_reason_is_that_of_the_code(reason: Reason) -> None:
    row = ROWS[reason.value]
    decision = Decision(verdict=Verdict[row["verdict"]], reason=reason)
    assert str(http_status(decision, wants="json")) == row["answer"]


@pytest.mark.parametrize("row", rows_with(REASONS, "HTTP", "`code` in the body", "from"), ids=lambda row: row["from"])
def test_what_a_client_sees_is_what_it_gets(row: dict[str, str]) -> None:
    verdict, reason, asks = {
        ("302", "login_required"): (Verdict.CHALLENGE, Reason.CHALLENGED_BY_RULE, {"redirect": "https://a.example/"}),
        ("400", "invalid_request"): (Verdict.DENY, Reason.MALFORMED_PATH, {}),
        ("401", "login_required"): (Verdict.CHALLENGE, Reason.IDENTITY_ABSENT, {}),
        ("401", "invalid_token"): (Verdict.DENY, Reason.EXPIRED, {}),
        ("403", "access_denied"): (Verdict.DENY, Reason.NO_RULE_MATCHED, {}),
        ("503", "temporarily_unavailable"): (Verdict.UNDECIDED, Reason.NO_KEYS, {}),
    }[row["HTTP"], row["`code` in the body"]]
    answer = Answer(decision=Decision(verdict=verdict, reason=reason, asks=asks), audit_id="")
    request = Request(headers={"accept": ("text/html",)} if row["HTTP"] == "302" else {})
    response = external_auth_pb2.CheckResponse.FromString(render_answer(answer, request))
    assert str(response.denied_response.status.code) == row["HTTP"]
    assert row["`code` in the body"] in response.denied_response.body
