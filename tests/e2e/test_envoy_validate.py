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

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from envoy.service.auth.v3 import external_auth_pb2

from iap_authz.adapters.envoy.bootstrap import render_bootstrap
from iap_authz.adapters.envoy.bootstrap_settings import EdgeSettings, HostSettings, TlsSettings, sidecar_settings
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


# ---- Envoy loads them


@pytest.mark.parametrize("name", ["edge.yaml", "sidecar.yaml"])
def test_the_files_in_the_repository_load(name: str, run_folder: Path) -> None:
    text = (ROOT / "envoy" / name).read_text()
    write_certificates(run_folder / "tls")
    config = run_folder / name
    config.write_text(text.replace("/run/iap/", f"{run_folder}/"))
    result = validate_bootstrap(config)
    assert (result.returncode, "deprecated" in result.stderr) == (0, False), result.stderr


WORDS = (
    HostSettings(name="no", domains=("*.no.example.com", "y", "1e3", "[2001:db8::1]"), policy="on"),
    HostSettings(name="1", domains=("*",), policy="0x10"),
)
VARIANTS = {
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


def allow(_: bytes) -> bytes:
    response = external_auth_pb2.CheckResponse()
    response.ok_response.SetInParent()
    response.status.SetInParent()
    return response.SerializeToString()


def refuse_for_now(_: bytes) -> bytes:
    response = external_auth_pb2.CheckResponse()
    response.status.code = 14
    response.denied_response.status.code = 503
    response.denied_response.body = '{"code":"temporarily_unavailable"}'
    for name, value in (("content-type", "application/problem+json"), ("retry-after", "7")):
        response.denied_response.headers.add().header.MergeFrom(type(response.denied_response.headers.add().header)(key=name, value=value))
    return response.SerializeToString()


def refuse(_: bytes) -> bytes:
    response = external_auth_pb2.CheckResponse()
    response.status.code = 7
    response.denied_response.status.code = 403
    return response.SerializeToString()
