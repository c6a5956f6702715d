# SPDX-License-Identifier: Apache-2.0
"""The edge over HTTP/2, where a client can say what HTTP/1.1 has no way to say. Skipped where `h2` is not installed."""

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from iap_authz.demo.files import HOST
from iap_authz.demo.live import Live
from iap_authz.model.ids import AuditId
from iap_authz.model.reason import Reason
from tests.fakes.edge import start_edge, trails_of

pytest.importorskip("h2", reason="h2 is not installed: it comes with envoy-data-plane and is no dependency of ours")

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

TIMEOUT_SECONDS = 10.0
STREAM = 1

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one stream. No status: Envoy ended the stream or the connection without a response."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with start_edge(tmp_path_factory.mktemp("edge")) as live:
        yield live


def ask(live: Live, *more: tuple[str, str], pseudo: Mapping[str, str] | None = None) -> Answer:
    """One request on a connection of its own, by an engineer in Berlin; nothing is checked or put right on our side."""
    assert live.client is not None
    live.upstream.take()
    fields = {":method": "GET", ":scheme": "https", ":authority": HOST, ":path": "/api/orders", **(pseudo or {})}
    headers = [*fields.items(), ("authorization", f"Bearer {live.world.tokens['alice']}"), *more]
    context = ssl.create_default_context(cafile=str(live.world.authority_file))
    context.load_cert_chain(live.world.device_file("laptop"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", live.client.port), TIMEOUT_SECONDS) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.10 127.0.0.1 40000 443\r\n")
        with context.wrap_socket(plain, server_hostname=HOST) as connection:
            assert connection.selected_alpn_protocol() == "h2"
            return exchange(connection, headers)


def exchange(connection: ssl.SSLSocket, headers: Fields) -> Answer:
    """Send the headers on the first stream and read until it ends."""
    raw = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8")
    h2 = H2Connection(config=raw)
    h2.initiate_connection()
    h2.send_headers(STREAM, list(headers), end_stream=True)
    connection.sendall(h2.data_to_send())
    status, fields, body = None, dict[str, str](), b""
    while data := connection.recv(65_536):
        events: list[Event] = h2.receive_data(data)
        for event in events:
            match event:
                case ResponseReceived(headers=found):
                    fields = {str(name): str(value) for name, value in found}
                    status = int(fields[":status"])
                case DataReceived(data=part):
                    body += part
                case StreamEnded() | StreamReset() | ConnectionTerminated():
                    return Answer(status=status, headers=fields, body=body)
        connection.sendall(h2.data_to_send())
    return Answer(status=status, headers=fields, body=body)


def reason_of(live: Live, answer: Answer) -> Reason:
    """The reason in the record that the answer names."""
    (trail,) = trails_of(live)
    return Reason(trail.records()[AuditId(answer.headers["x-iap-audit-id"])].decision.reason)


def test_an_engineer_is_allowed_and_only_our_headers_get_through(live: Live) -> None:
    answer = ask(live, ("x-iap-user", "root"), ("x.iap.user", "root"), ("x-team", "root"))
    (received,) = live.upstream.take()
    assert answer.status == 200
    assert b"root" not in received.head
    assert [value for name, value in received.headers if name == "x-team"] == ["platform"]
    assert reason_of(live, answer) is Reason.ALLOWED


@pytest.mark.parametrize("name", ["x_iap_user", "x-iap_audit_id", "x_team"])
def test_an_underscore_ends_the_stream(live: Live, name: str) -> None:
    assert ask(live, (name, "root")).status in (None, 400)
    assert live.upstream.take() == []


@pytest.mark.parametrize(
    ("pseudo", "reason"),
    [
        ({":method": "get"}, Reason.MALFORMED_METHOD),
        ({":path": "/api/%252e%252e/admin"}, Reason.PATH_DOUBLE_ENCODED),
        ({":path": "/api/\u00ff"}, None),
        ({":path": "/api/..;/admin"}, Reason.NO_RULE_MATCHED),
        ({":authority": "intranet.example.com,other.example.com"}, Reason.AMBIGUOUS_HOST),
        ({":authority": "other.example.com"}, Reason.NO_ROUTE),
    ],
    ids=["lower-case-method", "double-encoding", "bytes-beyond-ascii", "parameters", "two-hosts", "other-host"],
)
def test_what_http_2_can_say_is_refused_and_recorded(
    live: Live, pseudo: Mapping[str, str], reason: Reason | None
) -> None:
    answer = ask(live, pseudo=pseudo)
    if reason is None:  # Envoy encodes the bytes: the policy judges what the application gets
        (received,) = live.upstream.take()
        assert (answer.status, received.target) == (200, "/api/%C3%BF")
    else:
        assert live.upstream.take() == []
        assert answer.status in (400, 403)
        assert reason_of(live, answer) is reason


@pytest.mark.parametrize(
    "field",
    [("X-Iap-User", "root"), ("connection", "close"), ("x-iap-user", "a\r\nx-team: root")],
    ids=["upper-case", "connection", "line-end"],
)
def test_fields_that_http_2_forbids_reach_nobody(live: Live, field: tuple[str, str]) -> None:
    """RFC 9113 section 8.2."""
    assert ask(live, field).status in (None, 400)
    assert live.upstream.take() == []


def test_two_credentials_are_ambiguous_in_any_case(live: Live) -> None:
    answer = ask(live, ("authorization", "Basic cm9vdDpyb290"))
    assert answer.status == 401
    assert live.upstream.take() == []
    assert reason_of(live, answer) is Reason.AMBIGUOUS_CREDENTIALS
