# SPDX-License-Identifier: Apache-2.0
"""A raw HTTP/1.1 client behind a pretended load balancer: it says where it comes from and sends exactly these bytes.

    PROXY TCP4 192.0.2.10 127.0.0.1 40000 443 CRLF        PROXY protocol version 1, in front of TLS
    [TLS, with the device's certificate or without]
    GET /api/orders HTTP/1.1 CRLF ...                     not normalised, not checked, not completed

One request a connection. It is no general client: no redirects, no cookies, no retries.
"""

import re
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iap_authz.errors import Malformed, shown

TIMEOUT_SECONDS = 10.0
"""For each step of one exchange; Envoy answers a check that hangs after 0.2 s."""

_LENGTH = re.compile(rb"^content-length: *([0-9]{1,9})\r$", re.ASCII | re.IGNORECASE | re.MULTILINE)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [^\r\n]*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. Names of `headers` are lower case; a name may come more than once."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """All values of the header `name`."""
        return [value for key, value in self.headers if key == name]

    def value(self, name: str) -> str:
        """The one value of the header `name`, or nothing where there is none or more than one."""
        found = self.values(name)
        return found[0] if len(found) == 1 else ""


class Client:
    """Sends requests to the edge on `port` of this machine, trusting the authority in `authority_file`."""

    def __init__(self, port: int, *, host: str, authority_file: Path) -> None:
        self.port = port
        self._host = host
        self._authority_file = authority_file
        self._contexts: dict[Path | None, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def exchange(self, request: bytes, *, address: str, device: Path | None) -> Reply:
        """Send the bytes of one request as a client at `address`; `device` is a PEM file with certificate and key.

        Raises OSError, and Malformed where what comes back is no HTTP/1.1 response.
        """
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small writes, one after the other
            family = "TCP6" if ":" in address else "TCP4"
            proxy = "::1" if ":" in address else "127.0.0.1"
            plain.sendall(f"PROXY {family} {address} {proxy} 40000 443\r\n".encode("ascii"))
            with self._context(device).wrap_socket(plain, server_hostname=self._host) as connection:
                connection.sendall(request)
                return parse_reply(_read_all(connection))

    def _context(self, device: Path | None) -> ssl.SSLContext:
        with self._lock:
            if device not in self._contexts:
                context = ssl.create_default_context(cafile=str(self._authority_file))
                context.set_alpn_protocols(["http/1.1"])
                if device is not None:
                    context.load_cert_chain(device)
                self._contexts[device] = context
            return self._contexts[device]


def render_request(method: str, target: str, *, host: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """The bytes of a request without a body, after which the connection ends."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1")


def _read_all(connection: ssl.SSLSocket) -> bytes:
    """Until the connection ends, or what came is whole: after a refusal of its own Envoy waits a second for our end."""
    received = b""
    while not _is_whole(received) and (data := connection.recv(65_536)):
        received += data
    return received


def _is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    return bool(end) and length is not None and len(body) >= int(length[1])


def parse_reply(received: bytes) -> Reply:
    """Parse all that came until the connection ended. Raises Malformed."""
    head, end, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(status_line)
    if not end or status is None:
        raise Malformed(f"got {shown(received[:200])}, want an HTTP/1.1 response")
    pairs = [line.decode("latin-1").partition(":") for line in lines]
    headers = [(name.lower(), value.strip()) for name, _, value in pairs]
    if ("transfer-encoding", "chunked") in headers:
        body = _joined_chunks(body)
    return Reply(status=int(status[1]), headers=headers, body=body)


def _joined_chunks(framed: bytes) -> bytes:
    body = b""
    while True:
        size_line, _, framed = framed.partition(b"\r\n")
        size = int(size_line.split(b";")[0], 16)
        if size == 0:
            return body
        if len(framed) < size + 2:
            raise Malformed(f"got a chunk of {len(framed)} bytes, want {size + 2}")
        body, framed = body + framed[:size], framed[size + 2 :]
