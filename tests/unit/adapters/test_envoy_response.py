# SPDX-License-Identifier: Apache-2.0
"""What goes back to Envoy, asserted on the wire bytes (hostile rows 134, 137, 138, 142, 164, 165, 170)."""

import itertools
import json

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2

from iap_authz.adapters.envoy.request import parse_check
from iap_authz.adapters.envoy.response import canonical_name, render_answer, render_failure
from iap_authz.model.decision import AssertionTerms, Decision
from iap_authz.model.ids import PolicyDigest
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.ports import Answer
from tests.fakes.checks import check_request

AUDIT_ID = "ab" * 32
HTML = ("accept", "text/html")
GRPC = ("content-type", "application/grpc")


def request(*headers: tuple[str, str]) -> Request:
    return parse_check(check_request(headers=headers).SerializeToString())


def rendered(decision: Decision, *headers: tuple[str, str]) -> external_auth_pb2.CheckResponse:
    raw = render_answer(Answer(decision=decision, audit_id=AUDIT_ID), request(*headers))
    return external_auth_pb2.CheckResponse.FromString(raw)


def sent(response: external_auth_pb2.CheckResponse) -> dict[str, str]:
    return {option.header.key: option.header.value for option in response.denied_response.headers}


def decision(verdict: Verdict, reason: Reason, **more: object) -> Decision:
    return Decision(verdict=verdict, reason=reason, policy_digest=PolicyDigest(b"\1" * 32), **more)  # type: ignore[arg-type]


REFUSALS = [verdict for verdict in Verdict if verdict is not Verdict.ALLOW]


@pytest.mark.parametrize(
    ("verdict", "reason", "form"), tuple(itertools.product(REFUSALS, Reason, ("html", "json", "grpc")))
)
def test_rows_164_165_170_every_refusal_says_no_in_both_places(verdict: Verdict, reason: Reason, form: str) -> None:
    headers = {"html": (HTML,), "grpc": (GRPC,), "json": ()}[form]
    response = rendered(decision(verdict, reason), *headers)
    assert response.status.code != 0
    assert response.WhichOneof("http_response") == "denied_response"
    assert response.denied_response.status.code in (302, 400, 401, 403, 503)
    assert sent(response)["x-iap-audit-id"] == AUDIT_ID
    assert AUDIT_ID in response.denied_response.body
    assert reason.name not in response.denied_response.body


def test_allow_says_yes_in_both_places() -> None:
    response = rendered(decision(Verdict.ALLOW, Reason.ALLOWED, set_headers={"x-team": "red"}))
    assert response.status.code == 0
    assert response.WhichOneof("http_response") == "ok_response"
    assert [(h.header.key, h.header.value) for h in response.ok_response.headers] == [
        ("x-iap-audit-id", AUDIT_ID),
        ("x-team", "red"),
    ]
    to_client = response.ok_response.response_headers_to_add
    assert [(h.header.key, h.header.value) for h in to_client] == [("x-iap-audit-id", AUDIT_ID)]
    # appending is the default there: an upstream's forged audit id would survive beside ours
    assert to_client[0].append_action == base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def test_row_134_forged_headers_are_removed_in_every_spelling() -> None:
    names = [
        "x-iap-user",
        "X-IAP-User",
        "x_iap_user",
        "x.iap.user",
        "x-iap.user",
        "x-iap-audit-id",
        "X_Team",
        "x.team",
        "x-team",
    ]
    response = rendered(
        decision(Verdict.ALLOW, Reason.ALLOWED, set_headers={"x-team": "red"}, remove_headers=("x-mail",)),
        *((name, "forged") for name in names),
        ("x-mail", "forged"),
        ("x-iapetus", "a moon"),
    )
    assert set(response.ok_response.headers_to_remove) == {
        "x-iap-user",
        "x_iap_user",
        "x.iap.user",
        "x-iap.user",
        "x_team",
        "x.team",
        "x-mail",
    }


def test_row_127_headers_that_replace_what_was_judged_do_not_pass() -> None:
    forged = ["x-original-url", "X-Rewrite-URL", "x.original.url", "x-http-method-override"]
    response = rendered(decision(Verdict.ALLOW, Reason.ALLOWED), *((name, "/admin") for name in forged), ("x-any", "1"))
    assert set(response.ok_response.headers_to_remove) == {name.lower() for name in forged}


SPELLINGS = [
    "x-iap-assertion",
    "X-IAP-Assertion",
    "x_iap_assertion",
    "x.iap.assertion",
    "X-Iap_Assertion",
    "x-iap.assertion",
]
PROMISED = decision(Verdict.ALLOW, Reason.ALLOWED, assertion=AssertionTerms())


def asserted(*headers: tuple[str, str]) -> external_auth_pb2.CheckResponse:
    answer = Answer(decision=PROMISED, audit_id=AUDIT_ID, assertion="a.b.c")
    return external_auth_pb2.CheckResponse.FromString(render_answer(answer, request(*headers)))


def test_rows_134_141_the_assertion_takes_the_place_of_a_clients_own_in_every_spelling() -> None:
    response = asserted(*((name, "forged") for name in SPELLINGS))
    assert [(h.header.key, h.header.value) for h in response.ok_response.headers] == [
        ("x-iap-audit-id", AUDIT_ID),
        ("x-iap-assertion", "a.b.c"),
    ]
    assert response.ok_response.headers[1].append_action == base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    removed = {"x_iap_assertion", "x.iap.assertion", "x-iap_assertion", "x-iap.assertion"}
    assert set(response.ok_response.headers_to_remove) == removed
    assert "a.b.c" not in str(response.ok_response.response_headers_to_add) + str(response.dynamic_metadata)


def test_rows_134_141_without_an_assertion_a_clients_own_is_removed_in_every_spelling() -> None:
    response = rendered(decision(Verdict.ALLOW, Reason.ALLOWED), *((name, "forged") for name in SPELLINGS))
    assert set(response.ok_response.headers_to_remove) == {name.lower() for name in SPELLINGS}


@pytest.mark.parametrize(("of", "assertion"), [(PROMISED, ""), (decision(Verdict.ALLOW, Reason.ALLOWED), "a.b.c")])
def test_no_allow_without_the_assertion_that_it_promises_nor_with_another(of: Decision, assertion: str) -> None:
    with pytest.raises(ValueError, match="want the one, or none"):
        render_answer(Answer(decision=of, audit_id=AUDIT_ID, assertion=assertion), request())


@pytest.mark.parametrize("verdict", REFUSALS)
def test_a_refusal_shows_no_assertion_whatever_it_is_given(verdict: Verdict) -> None:
    answer = Answer(decision=decision(verdict, Reason.NO_RULE_MATCHED), audit_id=AUDIT_ID, assertion="a.b.c")
    assert b"a.b.c" not in render_answer(answer, request())


@pytest.mark.parametrize("name", ["X-Iap-User", "x_iap_user", "x.IAP.user", "x~iap!user", "x+iap-user"])
def test_canonical_name(name: str) -> None:
    assert canonical_name(name) == "x-iap-user"


def test_row_142_metadata_stands_in_the_outer_message_only() -> None:
    for response in (
        rendered(decision(Verdict.ALLOW, Reason.ALLOWED, rule="engineers")),
        rendered(decision(Verdict.DENY, Reason.DENIED_BY_RULE, rule="engineers")),
    ):
        assert not response.ok_response.HasField("dynamic_metadata")
        metadata = response.dynamic_metadata.fields["iap_authz"].struct_value
        assert metadata["audit_id"] == AUDIT_ID
        assert metadata["rule"] == "engineers"
        assert metadata["policy_digest"] == "01" * 32
        assert set(metadata.fields) == {"audit_id", "verdict", "reason", "rule", "policy_digest"}


@pytest.mark.parametrize(
    ("verdict", "reason", "status", "code"),
    [
        (Verdict.DENY, Reason.DENIED_BY_RULE, 403, "access_denied"),
        (Verdict.DENY, Reason.MALFORMED_PATH, 400, "invalid_request"),
        (Verdict.DENY, Reason.BAD_SIGNATURE, 401, "invalid_token"),
        (Verdict.CHALLENGE, Reason.IDENTITY_ABSENT, 401, "login_required"),
        (Verdict.UNDECIDED, Reason.JOURNAL_FULL, 503, "temporarily_unavailable"),
    ],
)
def test_json_refusal_is_a_problem_document(verdict: Verdict, reason: Reason, status: int, code: str) -> None:
    response = rendered(decision(verdict, reason))
    assert response.denied_response.status.code == status
    assert sent(response)["content-type"] == "application/problem+json"
    problem = json.loads(response.denied_response.body)
    assert (problem["status"], problem["code"], problem["audit_id"]) == (status, code, AUDIT_ID)


def test_www_authenticate_follows_the_specifications() -> None:
    plain = rendered(decision(Verdict.CHALLENGE, Reason.IDENTITY_ABSENT))
    assert sent(plain)["www-authenticate"] == 'Bearer realm="iap-authz"'
    invalid = rendered(decision(Verdict.DENY, Reason.EXPIRED))
    assert sent(invalid)["www-authenticate"] == 'Bearer realm="iap-authz", error="invalid_token"'
    step_up = rendered(
        decision(Verdict.CHALLENGE, Reason.CHALLENGED_BY_RULE, asks={"acr": 'mf"a\r\n', "max_age": "3600"})
    )
    assert sent(step_up)["www-authenticate"] == (
        'Bearer realm="iap-authz", error="insufficient_user_authentication", acr_values="mf\\"a", max_age="3600"'
    )


def test_only_browsers_are_redirected() -> None:
    ask = decision(Verdict.CHALLENGE, Reason.CHALLENGED_BY_RULE, asks={"redirect": "https://login.example.com/"})
    browser, program = rendered(ask, HTML), rendered(ask)
    assert (browser.denied_response.status.code, sent(browser)["location"]) == (302, "https://login.example.com/")
    assert program.denied_response.status.code == 401
    assert "location" not in sent(program)


def test_cannot_decide_asks_to_come_again() -> None:
    assert sent(rendered(decision(Verdict.UNDECIDED, Reason.OVERLOADED)))["retry-after"] == "1"


def test_grpc_clients_get_one_line() -> None:
    response = rendered(decision(Verdict.DENY, Reason.NO_ROUTE), GRPC)
    assert response.denied_response.body == f"access_denied (audit id {AUDIT_ID})"


def test_answer_without_an_audit_id_has_no_such_header() -> None:
    raw = render_answer(Answer(decision=decision(Verdict.UNDECIDED, Reason.OVERLOADED), audit_id=""), request())
    assert "x-iap-audit-id" not in sent(external_auth_pb2.CheckResponse.FromString(raw))


def test_failure_needs_nothing() -> None:
    response = external_auth_pb2.CheckResponse.FromString(render_failure(AUDIT_ID))
    assert (response.status.code, response.denied_response.status.code) == (14, 503)
