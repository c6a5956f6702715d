# SPDX-License-Identifier: Apache-2.0
"""An issuer's web server on loopback, with a certificate of an authority of its own. What it answers is data."""

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes.tokens import jwk, rsa_key

PEM = serialization.Encoding.PEM

KNOWN_POLICY = """\
kind: Policy
name: p
routes:
- {name: all, match: {paths: ["/**"]}, allow: [{id: known, when: 'identity.subject != ""'}]}
"""
"""Whoever is known is allowed."""


def key_set(*kids: str) -> bytes:
    """What an issuer publishes: a key for each name. `old` is one key, and every other name the next one."""
    return json.dumps({"keys": [jwk(rsa_key("one" if kid == "old" else "two"), kid=kid) for kid in kids]}).encode()


HOLD_SECONDS = 100.0
"""A guard against a test that releases nothing; nothing is measured by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer. `etag` makes it conditional; `slow` holds it back until `release`, `half` the second half of it."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    slow: bool = False
    half: bool = False


@dataclass(slots=True, kw_only=True)
class Idp:
    """What it says at each path, and what it was asked: path and If-None-Match; and Authorization."""

    port: int = 0
    ca_file: Path
    answers: dict[str, Said] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    deaf: bool = False
    """Connections are taken, and nothing is read from them or said to them until `release`."""
    connected: int = 0
    holding: int = 0
    """How many of them wait for `release`."""

    def release(self) -> None:
        """Let what is held back go on; what comes next may be held back again."""
        released, self.ended = self.ended, threading.Event()
        released.set()

    def hold(self) -> None:
        """Wait for `release`, or the end of the server."""
        ended = self.ended
        self.holding += 1
        ended.wait(HOLD_SECONDS)
        self.holding -= 1

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}{path}"


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, *, by: tuple[x509.Name, ec.EllipticCurvePrivateKey], names: list[str]
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(by[0])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), critical=False)
    return builder.sign(by[1], hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make_tls(folder: Path, names: list[str]) -> ssl.SSLContext:
    """A server's context. Writes the authority's certificate to `ca.pem`, the server's and its key to `server.pem`."""
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    root = _certificate("authority", authority, by=(name, authority), names=[])
    leaf = _certificate("server", server, by=(name, authority), names=names)
    key = server.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(root.public_bytes(PEM))
    (folder / "server.pem").write_bytes(leaf.public_bytes(PEM) + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that refuses the certificate is none of the server's business."""


@contextmanager
def serving_idp(folder: Path, *, names: tuple[str, ...] = ("127.0.0.1", "localhost")) -> Iterator[Idp]:
    """Serve until the block ends; its certificate is for `names`."""
    idp = Idp(ca_file=folder / "ca.pem")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.headers.get("if-none-match", "")
            idp.asked.append((self.path, known))
            idp.tokens.append(self.headers.get("authorization", ""))
            said = idp.answers.get(self.path, Said(status=404))
            if said.slow:
                idp.hold()
            status = 304 if said.etag and said.etag == known else said.status
            body = b"" if status == 304 else said.body
            self.send_response(status)
            for name, value in {**said.headers, **({"etag": said.etag} if said.etag else {})}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            middle = len(body) // 2 if said.half else 0
            self.wfile.write(body[:middle])
            if said.half:
                idp.hold()
            self.wfile.write(body[middle:])

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Listener(_Server):
        def finish_request(self, request: Any, client_address: Any) -> None:
            idp.connected += 1
            if idp.deaf:
                idp.hold()
            else:
                super().finish_request(request, client_address)

    server, tls = Listener(("127.0.0.1", 0), Handler), make_tls(folder, list(names))
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    idp.port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield idp
    finally:
        idp.release()
        server.shutdown()
        server.server_close()
        thread.join()
