# SPDX-License-Identifier: Apache-2.0
"""CheckRequests that are malformed or try to mean two things (hostile rows 100 to 184)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.adapters.envoy.request import parse_check
from iap_authz.facts.request import establish_request
from iap_authz.model.reason import Reason, State
from iap_authz.model.request import Request
from tests.fakes.checks import check_request


def parsed(**arguments: object) -> Request:
    return parse_check(check_request(**arguments).SerializeToString())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b"", "trap 2: an empty message"), (b"\xff\xff\xff", "not protobuf"), (b"\n\x02\x12\x00", "no HTTP request")],
)
def test_no_request_at_all(raw: bytes, why: str) -> None:
    assert parse_check(raw).problem is Reason.MALFORMED_REQUEST, why


@given(st.binary(max_size=300))
def test_any_bytes_give_a_request(raw: bytes) -> None:
    request = parse_check(raw)
    assert request.problem is None or isinstance(request.problem, Reason)


def test_good_request_is_read_whole() -> None:
    request = parsed(
        path="/api/orders?x=1",
        headers=[("x-request-id", "abc"), ("cookie", "a=1"), ("cookie", "b=2")],
        context={"policy": "orders"},
    )
    assert request.problem is None
    assert (request.method, request.host, request.path, request.query) == (
        "GET",
        "orders.example.com",
        "/api/orders",
        "x=1",
    )
    assert request.segments == ("api", "orders")
    assert request.headers["cookie"] == ("a=1", "b=2")
    assert request.header("cookie") is None
    assert request.header("x-request-id") == "abc"
    assert (request.peer_address, request.tls, request.sni) == ("192.0.2.7", True, "orders.example.com")
    assert request.context == {"policy": "orders"}
    assert request.unseen == ()


def test_row_100_query_and_fragment_fields_are_not_read() -> None:
    message = check_request(path="/a?x=1")
    message.attributes.request.http.query = "x=2"
    message.attributes.request.http.fragment = "admin"
    request = parse_check(message.SerializeToString())
    assert (request.path, request.query, request.problem) == ("/a", "x=1", None)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("host", "other.example.com", Reason.AMBIGUOUS_HOST),
        (":authority", "other.example.com", Reason.AMBIGUOUS_HOST),
        (":path", "/admin", Reason.MALFORMED_PATH),
        (":method", "POST", Reason.MALFORMED_METHOD),
    ],
)
def test_row_111_headers_that_disagree_with_the_fields(name: str, value: str, reason: Reason) -> None:
    assert parsed(headers=[(name, value)]).problem is reason


def test_row_112_scheme_is_no_proof_of_tls() -> None:
    message = check_request()
    message.attributes.ClearField("tls_session")
    assert not parse_check(message.SerializeToString()).tls


def test_row_124_no_headers() -> None:
    message = check_request()
    message.attributes.request.http.ClearField("header_map")
    assert parse_check(message.SerializeToString()).problem is Reason.NO_HEADERS


@pytest.mark.parametrize("value", [b"\xff", b"a\x00b", b"a\nb", b"a\rb", b"\x1b[31m"])
def test_row_125_header_bytes(value: bytes) -> None:
    assert parsed(headers=[("x-any", value)]).problem is Reason.MALFORMED_HEADER


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "joined"])
def test_a_name_beyond_ascii_is_no_other_header(*, raw: bool) -> None:
    """The Kelvin sign in lower case is a k."""
    assert parsed(headers=[("x-api-\u212aey", "1")], raw=raw).problem is Reason.MALFORMED_HEADER


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "joined"])
def test_two_spellings_of_a_name_are_two_values(*, raw: bool) -> None:
    request = parsed(headers=[("Authorization", "Bearer a"), ("authorization", "Bearer b")], raw=raw)
    assert sorted(request.headers["authorization"]) == ["Bearer a", "Bearer b"]
    assert request.header("authorization") is None


def test_joined_headers_are_read_and_said_to_be_so() -> None:
    request = parsed(headers=[("authorization", "Bearer a")], raw=False)
    assert request.header("authorization") == "Bearer a"
    assert (request.source, request.unseen) == ("headers", ("raw-headers",))


def test_too_many_headers() -> None:
    assert parsed(headers=[(f"x-{number}", "1") for number in range(300)]).problem is Reason.MALFORMED_HEADER


def test_row_175_partial_body() -> None:
    message = check_request(headers=[("x-envoy-auth-partial-body", "true")])
    message.attributes.request.http.raw_body = b"half"
    request = parse_check(message.SerializeToString())
    assert request.body_partial
    assert request.body_bytes == 4


def facts(request: Request, *, headers: tuple[str, ...] = (), parameters: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return establish_request(request, headers_read=headers, parameters_read=parameters, captures={})


@pytest.mark.parametrize("values", [("user", "admin"), ("admin", "user"), ("admin", "admin")])
def test_rows_120_121_a_header_that_is_read_has_one_value(values: tuple[str, ...]) -> None:
    request = parsed(headers=[("x-role", value) for value in values])
    found = facts(request, headers=("x-role",))
    assert (found.state, found.problem) == (State.INVALID, Reason.AMBIGUOUS_HEADER)
    assert facts(request).state == State.PRESENT


def test_row_127_other_products_headers_are_recorded_and_never_read() -> None:
    request = parsed(headers=[("x-original-url", "/admin"), ("x-real-ip", "10.0.0.1"), ("x-forwarded-uri", "/admin")])
    found = facts(request)
    assert found.path == "/api/orders"
    assert dict(found.untrusted) == {"x-original-url": "/admin", "x-real-ip": "10.0.0.1", "x-forwarded-uri": "/admin"}


def test_a_query_parameter_that_is_read_comes_once() -> None:
    request = parsed(path="/a?role=user&role=admin")
    assert facts(request, parameters=("role",)).problem == Reason.AMBIGUOUS_HEADER
    assert facts(parsed(path="/a?role=user"), parameters=("role",)).query_parameters["role"] == "user"


def test_long_values_are_refused_where_read_and_cut_aloud_where_recorded() -> None:
    request = parsed(headers=[("x-role", "a" * 9_000), ("x-real-ip", "b" * 9_000)])
    assert facts(request, headers=("x-role",)).problem == Reason.MALFORMED_HEADER
    assert facts(request).state == State.PRESENT
    assert facts(request).untrusted["x-real-ip"] == "b" * 512 + "... (9000 characters)"


@pytest.mark.parametrize("name", ["user-agent", "content-type"])
def test_text_that_conditions_read_is_whole_or_the_request_is_refused(name: str) -> None:
    field = name.replace("-", "_")
    kept = facts(parsed(headers=[(name, "a" * 600 + "evil")]))
    assert (kept.state, getattr(kept, field)) == (State.PRESENT, "a" * 600 + "evil")
    refused = facts(parsed(headers=[(name, "a" * 9_000 + "evil")]))
    assert (refused.state, refused.problem) == (State.INVALID, Reason.MALFORMED_HEADER)


def test_context_that_conditions_read_is_whole_or_the_request_is_refused() -> None:
    assert facts(parsed(context={"policy": "a" * 600})).context["policy"] == "a" * 600
    assert facts(parsed(context={"policy": "a" * 9_000})).problem == Reason.MALFORMED_REQUEST


def test_rows_120_122_joined_values_are_not_one_value() -> None:
    joined = parsed(headers=[("x-role", "user,admin")], raw=False)
    assert facts(joined, headers=("x-role",)).problem == Reason.AMBIGUOUS_HEADER
    assert facts(joined).state == State.PRESENT
    apart = parsed(headers=[("x-role", "user,admin")])
    assert facts(apart, headers=("x-role",)).headers["x-role"] == "user,admin"


@pytest.mark.parametrize("name", ["origin", "expect", "grpc-timeout"])
def test_row_122_headers_that_envoy_joins_itself(name: str) -> None:
    assert facts(parsed(headers=[(name, "a,b")]), headers=(name,)).problem == Reason.AMBIGUOUS_HEADER


def test_row_122_two_content_types_look_like_one() -> None:
    assert (
        facts(parsed(headers=[("content-type", "text/plain,multipart/form-data")])).problem == Reason.AMBIGUOUS_HEADER
    )


def test_nul_in_what_envoy_says_is_refused() -> None:
    found = facts(parsed(context={"policy": "a\0b"}))
    assert (found.state, found.problem) == (State.INVALID, Reason.FACT_WITH_NUL)


def test_refused_request_keeps_its_raw_path() -> None:
    found = facts(parsed(path="/a/..;/admin"))
    assert (found.state, found.problem) == (State.INVALID, Reason.PATH_PARAMETERS)
    assert found.raw_path == "/a/..;/admin"
