# SPDX-License-Identifier: Apache-2.0
"""TLS proxies in a row, all real Envoys, before a real sidecar; certificates that are valid now; a client that resumes.

client --TLS--> front --TLS--> [next --TLS-->] our Envoy --> upstream
                                                  |
                                                  +--> sidecar --> journal
"""

import http.client
import json
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.bootstrap.render import render_bootstrap
from iap_authz.bootstrap.settings import EdgeSettings, HostSettings, TlsSettings
from iap_authz.demo.audit import load_trails
from iap_authz.demo.files import LOG_ORIGIN
from iap_authz.demo.processes import running
from iap_authz.model.ids import AuditId
from tests.fakes.certificates import fingerprint_of
from tests.fakes.envoy import START_SECONDS, Reply, running_envoy, upstream_server

HOST = "orders.example.com"
TRUST_DOMAIN = "example.org"
FRONT, NEXT, ORDERS, MALLORY = (f"spiffe://{TRUST_DOMAIN}/{name}" for name in ("front", "next", "orders", "mallory"))

POLICY = """\
kind: Policy
name: orders
routes:
- name: orders
  match: {paths: ["/orders"]}
  allow: [{id: orders, when: 'identity.spiffe_id == "spiffe://example.org/orders" && device.managed'}]
- name: anybody
  match: {paths: ["/anybody"]}
  allow: [{id: all, when: 'true'}]
"""


class LiveAuthority:
    """Signs what is needed, valid from an hour ago until tomorrow; keeps each certificate and key in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        authority = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.file = folder / "ca.crt"
        self.file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))

    def certify(
        self, name: str, *uris: str, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH
    ) -> x509.Certificate:
        """A certificate with these URIs, or for the server `HOST` where there are none; stored with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName(HOST)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        extensions = (x509.ExtendedKeyUsage([usage]), x509.SubjectAlternativeName(names))
        certificate = self._sign(subject, key, *extensions)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.path(name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
        return certificate

    def path(self, name: str) -> Path:
        """The file with the certificate and the key of `name`."""
        return self.folder / f"{name}.pem"

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())


def render_proxy(
    name: str, *, authority: LiveAuthority, forward: str, admin: Path, upstream_port: int, is_first: bool
) -> str:
    """An Envoy that ends TLS, forwards by `forward`, and shows the certificate of its own name to the next one."""

    def pem(file: Path) -> dict[str, str]:
        return {"filename": str(file)}

    def tls(kind: str, certificate: str, **more: object) -> dict[str, object]:
        own = {"certificate_chain": pem(authority.path(certificate)), "private_key": pem(authority.path(certificate))}
        common = {"tls_certificates": [own], "validation_context": {"trusted_ca": pem(authority.file)}}
        message = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}TlsContext"
        typed = {"@type": message, "common_tls_context": common, **more}
        return {"name": "envoy.transport_sockets.tls", "typed_config": typed}

    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "behind"}}]
    network = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    manager = {
        "@type": network,
        "stat_prefix": name,
        "forward_client_cert_details": forward,
        "set_current_client_cert_details": {"cert": is_first, "uri": True, "subject": True, "dns": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    chain = {"filters": filters, "transport_socket": tls("Downstream", "server")}
    endpoint = {"endpoint": {"address": _tcp(upstream_port)}}
    cluster = {
        "name": "behind",
        "load_assignment": {"cluster_name": "behind", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": tls("Upstream", name, sni=HOST),
    }
    listener = {"name": "edge", "address": _tcp(0), "filter_chains": [chain]}
    return json.dumps(
        {
            "admin": {"address": {"pipe": {"path": str(admin)}}},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        }
    )


def _tcp(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply, its request's record, what reached the upstream, and the TLS session it came over."""

    reply: Reply
    record: record_pb2.Record | None
    session: ssl.SSLSession | None
    resumed: bool

    @property
    def received(self) -> list[str]:
        """Names of the headers that the upstream got, lower case; of an allowed request."""
        return [name.lower() for name, _ in json.loads(self.reply.body)["headers"]]


class Row:
    """The running row. `front` and `ours` are ports to ask at."""

    def __init__(self, folder: Path, *, authority: LiveAuthority, front: int, ours: int) -> None:
        self.authority = authority
        self.front = front
        self.ours = ours
        self._journal = folder / "journal"

    def context(self, certificate: str = "", *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client that shows a certificate, or none."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        if certificate:
            context.load_cert_chain(self.authority.path(certificate))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def ask(
        self,
        port: int,
        path: str,
        *,
        by: ssl.SSLContext,
        headers: Sequence[tuple[str, str]] = (),
        session: ssl.SSLSession | None = None,
    ) -> Answer:
        """GET `path` over a new connection, resuming `session` where there is one."""
        lines = [f"GET {path} HTTP/1.1", f"host: {HOST}", *(f"{name}: {value}" for name, value in headers)]
        with (
            socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as plain,
            by.wrap_socket(plain, server_hostname=HOST, session=session) as connection,
        ):
            connection.sendall("\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1"))
            response = http.client.HTTPResponse(connection, method="GET")
            response.begin()
            fields = {name.lower(): value for name, value in response.getheaders()}
            reply = Reply(status=response.status, headers=fields, body=response.read())
            after, resumed = connection.session, bool(connection.session_reused)
        return Answer(reply=reply, record=self._record(reply), session=after, resumed=resumed)

    def _record(self, reply: Reply) -> record_pb2.Record | None:
        audit_id = reply.headers.get("x-iap-audit-id")
        found = [trail.records().get(AuditId(audit_id or "")) for trail in load_trails(self._journal)]
        return next((record for record in found if record is not None), None)


def _write_files(folder: Path, authority: LiveAuthority, *, hops: int) -> None:
    """The sidecar's files, and the certificates of everybody."""
    authority.certify("server", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    for name, uri in (("front", FRONT), ("next", NEXT), ("mallory", MALLORY)):
        authority.certify(name, uri)
    device = {
        "id": "laptop",
        "managed": True,
        "certificate_sha256": [fingerprint_of(authority.certify("orders", ORDERS))],
    }
    taken = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    (folder / "inventory.json").write_text(json.dumps({"revision": 1, "taken": taken, "devices": [device]}))
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "sidecar.yaml").write_text(
        f"kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: {LOG_ORIGIN}\njournal: {{directory: journal}}\n"
        f"deadline: 5s\npolicies: [policy.yaml]\nseal: none\ndevice: {{inventory_file: inventory.json}}\n"
        f"identity: {{trust_domains: [{{name: {TRUST_DOMAIN}, bundle_file: {authority.file}}}]}}\n"
        f"client_certificate: {{proxies: ['{FRONT}', '{NEXT}'], trusted_hops: {hops}}}\n"
    )


def _render_ours(folder: Path, authority: LiveAuthority, upstream_port: int) -> str:
    server = str(authority.path("server"))
    settings = EdgeSettings(
        listener_port=0,
        tls=TlsSettings(certificate_chain=server, private_key=server, client_ca=str(authority.file)),
        forwarded_certificates=True,
        authz_sockets=(str(folder / "authz.sock"),),
        upstream=f"127.0.0.1:{upstream_port}",
        hosts=(HostSettings(name="orders", domains=(HOST,), policy="orders"),),
        admin_socket=str(folder / "edge.sock"),
        readiness_port=None,
    )
    return render_bootstrap(settings, "edge")


@contextmanager
def start_row(folder: Path, *, proxies: Sequence[str], forward: str = "SANITIZE_SET") -> Iterator[Row]:
    """Everything up; `proxies` from the front on, the first of which forwards by `forward`. `folder` is short."""
    authority = LiveAuthority(folder / "tls")
    _write_files(folder, authority, hops=len(proxies))
    with ExitStack() as stack:
        upstream = stack.enter_context(upstream_server())
        command = [sys.executable, "-m", "iap_authz", "serve", "sidecar", "--config", str(folder / "sidecar.yaml")]
        is_there = (folder / "authz.sock").exists
        output = folder / "sidecar.log"
        stack.enter_context(running("the sidecar", command, output=output, is_ready=lambda _: is_there()))
        (folder / "edge.yaml").write_text(_render_ours(folder, authority, upstream))
        ours = port = stack.enter_context(running_envoy(folder / "edge.yaml", str(folder / "edge.sock"))).ports["edge"]
        for place, name in reversed(list(enumerate(proxies))):
            admin, config = folder / f"{name}.sock", folder / f"{name}.yaml"
            mode = forward if place == 0 else "APPEND_FORWARD"
            text = render_proxy(
                name, authority=authority, forward=mode, admin=admin, upstream_port=port, is_first=place == 0
            )
            config.write_text(text)
            port = stack.enter_context(running_envoy(config, str(admin))).ports["edge"]
        yield Row(folder, authority=authority, front=port, ours=ours)
