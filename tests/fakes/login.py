# SPDX-License-Identifier: Apache-2.0
"""An edge with a browser login: a provider, a real Envoy, a real sidecar process, an application, and browsers."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.bootstrap.oauth2_settings import OAuth2Settings
from iap_authz.bootstrap.render import render_bootstrap
from iap_authz.bootstrap.settings import EdgeSettings, HostSettings, TlsSettings
from iap_authz.demo.audit import load_trails
from iap_authz.demo.files import LOG_ORIGIN
from iap_authz.demo.processes import running
from iap_authz.demo.upstream import Received, Upstream
from tests.fakes.browser import Browser, Place
from tests.fakes.envoy import RunningEnvoy, running_envoy
from tests.fakes.idp import make_tls
from tests.fakes.oidc import CLIENT_ID, CLIENT_SECRET, SIGNING_KEY, Provider, serving_provider
from tests.fakes.tokens import jwk, rsa_key

HOST, NEIGHBOUR, ELSEWHERE, LOGIN = "orders.example.com", "shop.example.com", "evil.example.com", "login.example.com"
"""Two hosts of the edge; one that nobody named; the provider."""

PREFIX = "__Host-iap-"
SESSION = frozenset(f"{PREFIX}{name}" for name in ("hmac", "expires", "id", "refresh"))
"""The cookies of somebody who is logged in."""

WORKLOAD = "spiffe://example.com/robot"
API_KEY_HEADER = "x-api-key"
POLICY = """\
kind: Policy
name: orders
routes:
- {name: all, match: {paths: ["/**"]}, allow: [{id: known, when: 'identity.subject != ""'}]}
"""
SIDECAR = """\
kind: Sidecar
listen: unix:authz.sock
log_origin: %(origin)s
journal: {directory: journal}
seal: none
deadline: 5s
policies: [policy.yaml]
identity:
  issuers: [{name: login, issuer: "%(issuer)s", audiences: [%(audience)s], algorithms: [RS256], jwks_file: keys.json}]
  token_sources: [{header: authorization}, {header: x-iap-id-token}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Everything that runs."""

    folder: Path
    provider: Provider
    upstream: Upstream
    envoy: RunningEnvoy

    @property
    def port(self) -> int:
        return self.envoy.ports["edge"]

    def browser(self, *, certificate: Path | None = None) -> Browser:
        """A new one, without a cookie."""
        edge = Place(port=self.port, ca_file=self.folder / "edge" / "ca.pem")
        provider = Place(port=self.provider.port, ca_file=self.provider.ca_file)
        return Browser(places={HOST: edge, NEIGHBOUR: edge, ELSEWHERE: edge, LOGIN: provider}, certificate=certificate)

    def logged_in(self, host: str = HOST, path: str = "/") -> Browser:
        """One that has been through the login."""
        browser = self.browser()
        last = browser.visit(f"https://{host}{path}")[-1]
        assert last.status == 200, last
        return browser

    def decisions(self) -> list[record_pb2.Record]:
        """Those in the journal, which has no findings."""
        trails = load_trails(self.folder / "journal")
        assert [finding for trail in trails for finding in trail.inspection.findings] == []
        records = [record for trail in trails for record in trail.records().values()]
        return [record for record in records if record.WhichOneof("body") == "decision"]

    def journal_bytes(self) -> bytes:
        """Every byte that the sidecar keeps."""
        return b"".join(path.read_bytes() for path in (self.folder / "journal").rglob("*") if path.is_file())

    def received(self) -> list[Received]:
        """What the application got since the last call."""
        return self.upstream.take()


def login_settings(folder: Path, provider: Provider, **changes: Any) -> OAuth2Settings:
    """The provider's endpoints; browsers know it by name. A change may be a function of the provider."""
    (folder / "client-secret").write_text(CLIENT_SECRET)
    (folder / "hmac-secret").write_bytes(bytes(range(32)))
    settings = OAuth2Settings(
        authorization_endpoint=f"https://{LOGIN}/authorize?kind=test",
        token_endpoint=f"{provider.issuer}/token",
        end_session_endpoint=f"https://{LOGIN}/logout",
        client_id=CLIENT_ID,
        client_secret_file=str(folder / "client-secret"),
        hmac_secret_file=str(folder / "hmac-secret"),
        ca_file=str(provider.ca_file),
    )
    return replace(settings, **{name: value(provider) if callable(value) else value for name, value in changes.items()})


def edge_settings(folder: Path, upstream_port: int, oauth2: OAuth2Settings) -> EdgeSettings:
    """TLS on a free port of loopback, with two hosts."""
    (folder / "edge").mkdir()
    make_tls(folder / "edge", [HOST, NEIGHBOUR, ELSEWHERE])
    server, workload = str(folder / "edge" / "server.pem"), folder / "edge" / "workload.pem"
    write_workload(workload)
    return EdgeSettings(
        listener_port=0,
        readiness_port=None,
        tls=TlsSettings(certificate_chain=server, private_key=server, client_ca=str(workload)),
        authz_sockets=(str(folder / "authz.sock"),),
        authz_timeout=timedelta(seconds=10),
        upstream=f"127.0.0.1:{upstream_port}",
        hosts=(
            HostSettings(name="orders", domains=(HOST,), policy="orders"),
            HostSettings(name="shop", domains=(NEIGHBOUR,), policy="orders"),
        ),
        admin_socket=str(folder / "admin.sock"),
        oauth2=oauth2,
    )


def write_workload(path: Path) -> None:
    """A client certificate that names a SPIFFE id and is its own authority, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "workload")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(WORKLOAD)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)


@contextmanager
def running_sidecar(folder: Path, provider: Provider) -> Iterator[None]:
    """`serve sidecar` in `folder`, until the block ends."""
    (folder / "keys.json").write_text(json.dumps({"keys": [jwk(rsa_key(SIGNING_KEY), kid=SIGNING_KEY)]}))
    (folder / "policy.yaml").write_text(POLICY)
    values: Mapping[str, str] = {"origin": LOG_ORIGIN, "issuer": provider.issuer, "audience": CLIENT_ID}
    (folder / "sidecar.yaml").write_text(SIDECAR % values)
    command = [sys.executable, "-m", "iap_authz", "serve", "sidecar", "--config", str(folder / "sidecar.yaml")]
    serves = folder / "authz.sock"
    with running("the sidecar", command, output=folder / "sidecar.jsonl", is_ready=lambda _: _serves(serves)):
        yield


def _serves(socket: Path) -> bool:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def running_edge(*, names: tuple[str, ...] = ("127.0.0.1", LOGIN), **changes: Any) -> Iterator[Edge]:
    """Everything, with `changes` to the settings of the login; everything gone afterwards.

    `names` are those of the provider's certificate.
    """
    with tempfile.TemporaryDirectory(prefix="iap-") as name:
        folder = Path(name)
        (folder / "provider").mkdir()
        with serving_provider(folder / "provider", names=names) as provider, Upstream() as upstream:
            provider.redirect_uris = tuple(f"https://{host}/oauth2/callback" for host in (HOST, NEIGHBOUR))
            settings = edge_settings(folder, upstream.port, login_settings(folder, provider, **changes))
            (folder / "envoy.yaml").write_text(render_bootstrap(settings, "edge"))
            with (
                running_sidecar(folder, provider),
                running_envoy(folder / "envoy.yaml", settings.admin_socket) as envoy,
            ):
                yield Edge(folder=folder, provider=provider, upstream=upstream, envoy=envoy)
