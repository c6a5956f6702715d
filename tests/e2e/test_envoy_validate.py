# SPDX-License-Identifier: Apache-2.0
"""A real Envoy reads what is rendered, and does what is written beside it."""

import http.client
import json
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from envoy.service.auth.v3 import external_auth_pb2

from iap_authz.bootstrap.render import render_bootstrap
from iap_authz.bootstrap.settings import EdgeSettings, HostSettings, TlsSettings, sidecar_settings
from tests.fakes.envoy import (
    Answering,
    Reply,
    RunningEnvoy,
    authorization_service,
    exchange,
    running_envoy,
    upstream_server,
    validate_bootstrap,
)

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = ("host", "orders.example.com")


@pytest.fixture
def run_folder() -> Iterator[Path]:
    """A folder with a short name: the path of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="iap-") as name:
        yield Path(name)


def write_certificates(folder: Path) -> TlsSettings:
    """A server's certificate that is its own authority: enough for Envoy to load."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orders.example.com")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for file, content in (("server.crt", pem), ("ca.crt", pem), ("server.key", private)):
        (folder / file).write_bytes(content)
    return TlsSettings(
        certificate_chain=str(folder / "server.crt"),
        private_key=str(folder / "server.key"),
        client_ca=str(folder / "ca.crt"),
    )


def write_secrets(folder: Path) -> None:
    """The two files of a browser login."""
    folder.mkdir()
    for name in ("client-secret", "hmac-secret"):
        (folder / name).write_text(name * 3)


# ---- Envoy loads them


@pytest.mark.parametrize("name", ["edge.yaml", "edge-oauth2.yaml", "sidecar.yaml"])
def test_the_files_in_the_repository_load(name: str, run_folder: Path) -> None:
    text = (ROOT / "envoy" / name).read_text()
    tls = write_certificates(run_folder / "tls")
    write_secrets(run_folder / "oauth2")
    config = run_folder / name
    text = text.replace("/run/iap/", f"{run_folder}/").replace("/etc/ssl/certs/ca-certificates.crt", str(tls.client_ca))
    config.write_text(text)
    result = validate_bootstrap(config)
    assert (result.returncode, "deprecated" in result.stderr) == (0, False), result.stderr


WORDS = (
    HostSettings(name="no", domains=("*.no.example.com", "y", "1e3", "[2001:db8::1]"), policy="on"),
    HostSettings(name="1", domains=("*",), policy="0x10"),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "load balancer in front": {"proxy_protocol": True, "trusted_hops": 2},
    "access log": {"access_log_socket": "/run/iap/als.sock"},
    "named upstream": {"upstream": "app.internal.example:8080"},
    "upstream on a socket": {"upstream": "unix:/run/iap/app.sock"},
    "IPv6": {"listener_address": "::1", "readiness_address": "::", "upstream": "[2001:db8::2]:80"},
    "workers on TCP": {"authz_sockets": ("127.0.0.1:9001", "[::1]:9002")},
    "no readiness": {"readiness_port": None},
    "no node id": {"node_id": None},
    "names that look like values": {"hosts": WORDS},
    "long deadline": {"authz_timeout": timedelta(seconds=10)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_setting_loads(name: str, run_folder: Path) -> None:
    tls = write_certificates(run_folder / "tls")
    for client_ca in (tls.client_ca, None):
        settings = replace(EdgeSettings(), **VARIANTS[name], tls=replace(tls, client_ca=client_ca))
        config = run_folder / "envoy.yaml"
        config.write_text(render_bootstrap(settings, "edge"))
        result = validate_bootstrap(config)
        assert (result.returncode, "deprecated" in result.stderr) == (0, False), result.stderr


# ---- and does what they say


def render(response: Any) -> bytes:
    """xds-protos has no types."""
    return bytes(response.SerializeToString())


def allow(_: bytes) -> bytes:
    response = external_auth_pb2.CheckResponse()
    response.ok_response.SetInParent()
    response.status.SetInParent()
    return render(response)


def refuse_for_now(_: bytes) -> bytes:
    response = external_auth_pb2.CheckResponse()
    response.status.code = 14
    denied = response.denied_response
    denied.status.code = 503
    denied.body = '{"code":"temporarily_unavailable"}'
    for name, value in (("content-type", "application/problem+json"), ("retry-after", "7")):
        header = denied.headers.add().header
        header.key, header.value = name, value
    return render(response)


def refuse(_: bytes) -> bytes:
    response = external_auth_pb2.CheckResponse()
    response.status.code = 7
    response.denied_response.status.code = 403
    return render(response)


@dataclass(frozen=True, kw_only=True)
class Stand:
    """What a test puts an Envoy between."""

    folder: Path
    upstream_port: int

    @property
    def settings(self) -> EdgeSettings:
        """Plain HTTP on a free port of loopback."""
        return replace(
            sidecar_settings(),
            node_id="test",
            listener_address="127.0.0.1",
            listener_port=0,
            readiness_address="127.0.0.1",
            readiness_port=0,
            authz_sockets=(str(self.folder / "authz.sock"),),
            authz_timeout=timedelta(seconds=5),
            upstream=f"127.0.0.1:{self.upstream_port}",
            admin_socket=str(self.folder / "admin.sock"),
        )

    def envoy(
        self, settings: EdgeSettings, *, change: tuple[str, str] = ("", "")
    ) -> AbstractContextManager[RunningEnvoy]:
        """Run an Envoy with `settings`, and one text of its bootstrap replaced."""
        text = render_bootstrap(settings, "sidecar")
        assert change[0] in text
        config = self.folder / "envoy.yaml"
        config.write_text(text.replace(*change))
        return running_envoy(config, settings.admin_socket)

    def authorize(self, answer: Answering) -> AbstractContextManager[list[bytes]]:
        """Serve checks where `settings` says."""
        return authorization_service(str(self.folder / "authz.sock"), answer)


@pytest.fixture
def stand(run_folder: Path) -> Iterator[Stand]:
    """An upstream and a folder for sockets."""
    with upstream_server() as port:
        yield Stand(folder=run_folder, upstream_port=port)


def names_upstream(reply: Reply) -> set[str]:
    """The header names that the upstream got."""
    assert reply.status == 200, reply
    return {name.lower() for name, _ in json.loads(reply.body)["headers"]}


FORGED = ("x-iap-audit-id", "X-Iap-User", "X.IAP.User", "x.iap-user", "x-IAP.groups", "x-iap-")
KEPT = ("x-iapx", "xx-iap-user", "x-iap", "x-other", "x.ia-p")


def test_forged_headers_of_ours_never_get_in(stand: Stand) -> None:
    sent = (HOST, *((name, "forged") for name in (*FORGED, *KEPT)))
    with stand.authorize(allow) as seen, stand.envoy(stand.settings) as envoy:
        got = names_upstream(exchange(envoy.ports["sidecar"], headers=sent))
    assert got.isdisjoint(name.lower() for name in FORGED)
    assert got.issuperset(KEPT)
    headers = external_auth_pb2.CheckRequest.FromString(seen[0]).attributes.request.http.header_map.headers
    assert {header.key for header in headers}.isdisjoint(name.lower() for name in FORGED)


UNDERSCORED = ("x_iap_user", "X_IAP_Audit_Id", "x-iap_user", "x_iap.user")


@pytest.mark.parametrize("name", UNDERSCORED)
def test_underscores_are_refused(stand: Stand, name: str) -> None:
    with stand.authorize(allow) as seen, stand.envoy(stand.settings) as envoy:
        assert exchange(envoy.ports["sidecar"], headers=(HOST, (name, "forged"))).status == 400
    assert seen == []


def test_and_would_be_removed_where_they_are_let_in(stand: Stand) -> None:
    change = ("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW")
    sent = (HOST, *((name, "forged") for name in UNDERSCORED), ("x_other", "kept"))
    with stand.authorize(allow), stand.envoy(stand.settings, change=change) as envoy:
        got = names_upstream(exchange(envoy.ports["sidecar"], headers=sent))
    assert got.isdisjoint(name.lower() for name in UNDERSCORED)
    assert "x_other" in got


def test_no_sidecar_is_503_with_retry_after(stand: Stand) -> None:
    with stand.envoy(stand.settings) as envoy:
        reply = exchange(envoy.ports["sidecar"], headers=(HOST,))
        assert envoy.counter("http.sidecar.ext_authz.iap.error") == 1
    assert (reply.status, reply.headers.get("retry-after"), reply.body) == (503, "1", b"")


def test_the_sidecars_own_503_stays_as_it_is(stand: Stand) -> None:
    with stand.authorize(refuse_for_now), stand.envoy(stand.settings) as envoy:
        reply = exchange(envoy.ports["sidecar"], headers=(HOST,))
    assert (reply.status, reply.headers.get("retry-after")) == (503, "7")
    assert reply.headers.get("content-type") == "application/problem+json"
    assert reply.body == b'{"code":"temporarily_unavailable"}'


def test_a_refusal_gets_no_retry_after(stand: Stand) -> None:
    with stand.authorize(refuse), stand.envoy(stand.settings) as envoy:
        reply = exchange(envoy.ports["sidecar"], headers=(HOST,))
    assert (reply.status, "retry-after" in reply.headers) == (403, False)


def test_an_upstream_that_is_down_gets_no_retry_after(stand: Stand) -> None:
    settings = replace(stand.settings, upstream=f"unix:{stand.folder}/nobody.sock")
    with stand.authorize(allow), stand.envoy(settings) as envoy:
        reply = exchange(envoy.ports["sidecar"], headers=(HOST,))
    assert (reply.status, "retry-after" in reply.headers) == (503, False)


def test_a_host_nobody_named_is_checked(stand: Stand) -> None:
    with stand.authorize(allow) as seen, stand.envoy(stand.settings) as envoy:
        assert exchange(envoy.ports["sidecar"], headers=(("host", "other.example.com"),)).status == 404
        assert exchange(envoy.ports["sidecar"], headers=(HOST,)).status == 200
    contexts = [dict(external_auth_pb2.CheckRequest.FromString(raw).attributes.context_extensions) for raw in seen]
    assert contexts == [{}, {"policy": "orders"}]


def test_the_readiness_listener_shows_nothing_else(stand: Stand) -> None:
    with stand.envoy(stand.settings) as envoy:
        port = envoy.ports["readiness"]
        replies = {path: exchange(port, headers=(HOST,), path=path) for path in ("/ready", "/stats", "/ready/", "/")}
        envoy.admin("/healthcheck/fail", method="POST")
        draining = exchange(port, headers=(HOST,), path="/ready")
    assert {path: reply.status for path, reply in replies.items()} == {
        "/ready": 200,
        "/stats": 404,
        "/ready/": 404,
        "/": 404,
    }
    assert replies["/ready"].body == b"LIVE\n"
    assert draining.status == 503


PROXY_V1 = b"PROXY TCP4 203.0.113.9 198.51.100.1 40000 443\r\n"
PROXY_V2 = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c cb007109 c6336401 9c40 01bb")


@pytest.mark.parametrize("preface", [PROXY_V1, PROXY_V2], ids=["version 1", "version 2"])
def test_the_proxy_header_names_the_peer(stand: Stand, preface: bytes) -> None:
    with stand.authorize(allow) as seen, stand.envoy(replace(stand.settings, proxy_protocol=True)) as envoy:
        assert exchange(envoy.ports["sidecar"], headers=(HOST,), preface=preface).status == 200
    attributes = external_auth_pb2.CheckRequest.FromString(seen[0]).attributes
    assert attributes.source.address.socket_address.address == "203.0.113.9"


def test_no_proxy_header_no_connection(stand: Stand) -> None:
    with stand.authorize(allow) as seen, stand.envoy(replace(stand.settings, proxy_protocol=True)) as envoy:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            exchange(envoy.ports["sidecar"], headers=(HOST,))
        assert envoy.counter("proxy_proto.not_found_disallowed") == 1
    assert seen == []
