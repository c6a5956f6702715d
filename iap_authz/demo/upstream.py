# SPDX-License-Identifier: Apache-2.0
"""A small application behind Envoy, which keeps what it was sent, byte for byte, and lies in its answers.

Invariant: `received` holds the head and the body of every request that got this far, exactly as they came over the
wire, before anything is answered. Each answer carries headers that only the proxy may set, so that whoever looks at the
client's side sees whether they got through.

It speaks as much HTTP/1.1 as Envoy speaks to it; it is no server for anybody else.
"""

import json
import re
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

FORGED_AUDIT_ID = "forged"
"""What the application writes into `x-iap-audit-id`; no client may ever see it."""

HEAD_MAX_BYTES = 128 * 1024
"""Above what Envoy lets through by default (60 KiB)."""

IDLE_SECONDS = 30.0
"""How long a connection may say nothing: longer than the demonstration takes."""

_LENGTH = re.compile(rb"^content-length: *([0-9]{1,9})\r$", re.ASCII | re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding: *chunked\r$", re.ASCII | re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it arrived: the head up to and with its empty line, and the body with its framing."""

    head: bytes
    body: bytes

    @property
    def target(self) -> str:
        """The request target: path and query."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header line, in order; names as they were spelt."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]


class Upstream:
    """The application. `with Upstream() as upstream:` serves on a free loopback port until the block ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: list[Received] = []
        self._server = _Server(self._keep)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="upstream", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._server.server_address[1])

    def take(self) -> list[Received]:
        """What has been received since the last call."""
        with self._lock:
            taken, self._received = self._received, []
        return taken

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more connections; those that are open end with their peers."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _keep(self, received: Received) -> None:
        with self._lock:
            self._received.append(received)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, keep: Callable[[Received], None]) -> None:
        self.keep = keep
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS
    server: _Server

    def handle(self) -> None:
        """Requests of one connection, one after the other."""
        try:
            while (head := self._read_head()) != b"":
                received = Received(head=head, body=self._read_body(head))
                self.server.keep(received)
                self.wfile.write(_render_answer(received))
        except (ConnectionError, TimeoutError):
            return  # Envoy keeps its connections as long as it likes

    def _read_head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline(HEAD_MAX_BYTES)
            if not line or len(head) > HEAD_MAX_BYTES:
                return b""
            head += line
        return head

    def _read_body(self, head: bytes) -> bytes:
        length = _LENGTH.search(head)
        if length is not None:
            return self.rfile.read(int(length[1]))
        if not _CHUNKED.search(head):
            return b""
        body = b""
        while True:
            line = self.rfile.readline(HEAD_MAX_BYTES)
            size = int(line.split(b";")[0], 16)
            body += line + self.rfile.read(size + 2)
            if size == 0:
                return body


def _render_answer(received: Received) -> bytes:
    """JSON that repeats what was asked; the last three headers are the lies."""
    seen = {name: value for name, value in received.headers if not name.lower().startswith(("x-envoy", "x-forwarded"))}
    seen.pop("authorization", None)
    body = json.dumps({"served": received.target, "headers": seen}).encode()
    lines = [
        "HTTP/1.1 200 OK",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-iap-audit-id: {FORGED_AUDIT_ID}",
        "x-iap-user: nobody",
        "keep-alive: timeout=5",
    ]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (b"" if received.head.startswith(b"HEAD ") else body)
