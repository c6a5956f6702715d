# SPDX-License-Identifier: Apache-2.0
"""No connection outlives the bound: a real Envoy cuts WebSockets and streams that are in use."""

import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e.test_envoy_validate import Stand, allow
from tests.fakes.envoy import RunningEnvoy

BOUND = timedelta(seconds=2)
PATIENCE_SECONDS = 20.0
"""For what must end by itself: far above the bound, below Envoy's other timeouts."""

CUTS = "http.sidecar.downstream_rq_max_duration_reached"
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455, 1.3."""


class Handler(socketserver.StreamRequestHandler):
    """Upgrades whoever asks, and sends every byte back. Anything else it reads to the end, without an answer."""

    def handle(self) -> None:
        lines = iter(self.rfile.readline, b"\r\n")
        head = dict(line.rstrip(b"\r\n").lower().partition(b": ")[::2] for line in lines if b": " in line)
        if head.get(b"upgrade") == b"websocket":
            answer = ("HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: upgrade")
            self.wfile.write("\r\n".join((*answer, f"sec-websocket-accept: {ACCEPT}", "", "")).encode())
        with suppress(ConnectionError):
            while content := self.request.recv(4096):
                if b"upgrade" in head:
                    self.request.sendall(content)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@pytest.fixture
def stand() -> Iterator[Stand]:
    with tempfile.TemporaryDirectory(prefix="iap-") as name, Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Stand(folder=Path(name), upstream_port=int(server.server_address[1]))
        finally:
            server.shutdown()
            thread.join()


def connect(envoy: RunningEnvoy, *lines: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", envoy.ports["sidecar"]), timeout=PATIENCE_SECONDS)
    connection.sendall("\r\n".join((*lines, "host: orders.example.com", "", "")).encode())
    return connection


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    return head


def use_until_cut(connection: socket.socket) -> float:
    """Send and read back, over and over, until the other side ends it. When the last answer came, in seconds."""
    began = last = time.monotonic()
    with suppress(ConnectionError):
        while last < began + PATIENCE_SECONDS:
            connection.sendall(b"ping")
            if connection.recv(4096) == b"":
                break
            last = time.monotonic()
    return last - began


def test_a_websocket_in_use_ends_with_the_bound(stand: Stand) -> None:
    settings = replace(stand.settings, max_stream_duration=BOUND)
    with stand.authorize(allow) as seen, stand.envoy(settings) as envoy:
        upgrade = (
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            f"sec-websocket-key: {KEY}",
        )
        with connect(envoy, "GET /socket HTTP/1.1", *upgrade) as connection:
            assert read_head(connection).startswith(b"HTTP/1.1 101 ")
            lived = use_until_cut(connection)
        assert envoy.counter(CUTS) == 1
    assert BOUND.total_seconds() * 0.9 < lived < PATIENCE_SECONDS, "used all the time, and cut all the same"
    assert len(seen) == 1, "checked when it opened, never again"


def test_an_upload_that_never_ends_does(stand: Stand) -> None:
    settings = replace(stand.settings, max_stream_duration=BOUND)
    with stand.authorize(allow), stand.envoy(settings) as envoy:
        with connect(envoy, "POST /upload HTTP/1.1", "content-length: 1000000") as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert envoy.counter(CUTS) == 1
