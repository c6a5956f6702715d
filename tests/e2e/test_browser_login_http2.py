# SPDX-License-Identifier: Apache-2.0
"""The browser login over HTTP/2, as browsers speak it: cookies come in crumbs. Skipped where `h2` is not installed."""

import socket
import ssl

import pytest

pytest.importorskip("h2", reason="h2 is not installed: it comes with envoy-data-plane and is no dependency of ours")

from tests.e2e.test_edge_http2 import TIMEOUT_SECONDS, Answer, exchange
from tests.fakes.login import HOST, LOGIN, Edge, running_edge


def ask(edge: Edge, *headers: tuple[str, str]) -> Answer:
    context = ssl.create_default_context(cafile=str(edge.folder / "edge" / "ca.pem"))
    context.set_alpn_protocols(["h2"])
    pseudo = ((":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/h2"))
    with (
        socket.create_connection(("127.0.0.1", edge.port), TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        return exchange(connection, [*pseudo, *headers])


def test_a_session_in_crumbs_is_one_session() -> None:
    with running_edge() as edge:
        start = ask(edge, ("accept", "text/html"))
        assert start.status == 302
        assert start.headers["location"].startswith(f"https://{LOGIN}/")
        session = edge.logged_in().cookies.values()
        edge.received()
        crumbs = [("cookie", f"{cookie.name}={cookie.value}") for cookie in session]
        assert ask(edge, ("cookie", "a=1"), *crumbs, ("cookie", "b=2")).status == 200
        (received,) = edge.received()
        cookies = "; ".join(value for name, value in received.headers if name == "cookie")
        assert sorted(cookies.split("; ")) == ["a=1", "b=2"]
        assert "x-iap-id-token" not in dict(received.headers)
        identity = edge.decisions()[-1].open.decision.facts.identity
        assert (identity.subject, identity.shown_in) == ("ada", "header:x-iap-id-token")
