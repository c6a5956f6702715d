# SPDX-License-Identifier: Apache-2.0
"""What the measured sidecar works with: keys, a token, a device, ten routes, and the check that Envoy would send."""

import base64
import datetime as dt
import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from envoy.service.auth.v3 import external_auth_pb2

HOST = "orders.example.com"
ROUTES = 10
VAULT_KEY = "iap-vault+1+XjVZqejYnfhiEP/hhOFLDUpvVWzSd7vDiA1gnzbF8gk="
"""The public half of a key that was thrown away: what the measured sidecar seals to."""
LIFETIME = dt.timedelta(hours=2)

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384")
RSA_BITS = 2048
SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}

RULE = (
    '"eng" in identity.groups && device.managed && device.disk_encrypted && device.age < duration("240h")'
    ' && "office" in location.networks'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Paths and bytes of one benchmark. `check` is a serialized CheckRequest that is allowed."""

    folder: Path
    config: Path
    socket: str
    check: bytes


def make_world(folder: Path, *, algorithm: str = "ES256") -> World:
    """Write everything into `folder`. The token is signed with `algorithm`, one of ALGORITHMS."""
    folder.mkdir(parents=True)
    now = dt.datetime.now(dt.UTC)
    key = _signing_key(algorithm)
    certificate = _certificate(now)
    (folder / "jwks.json").write_text(json.dumps({"keys": [_jwk(key, algorithm)]}))
    (folder / "devices.json").write_text(json.dumps(_inventory(certificate, now)))
    (folder / "networks.yaml").write_text('networks: {office: ["192.0.2.0/24"]}\n')
    (folder / "policy.yaml").write_text(_policy())
    (folder / "sidecar.yaml").write_text(
        "kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: bench.example.com/log\n"
        "journal: {directory: journal, bound: 8 GiB}\npolicies: [policy.yaml]\n"
        f"seal: {{vault_key: '{VAULT_KEY}'}}\n"
        "identity: {issuers: [{name: corp, issuer: 'https://login.example.com/', audiences: [orders],"
        f" algorithms: [{algorithm}], jwks_file: jwks.json}}]}}\n"
        "device: {inventory_file: devices.json}\nlocation: {client_address: peer, networks_file: networks.yaml}\n"
        "deadline: 5s\nmax_in_flight: 4096\n"
    )
    check = _check(_token(key, algorithm, now), certificate)
    return World(folder=folder, config=folder / "sidecar.yaml", socket=f"unix:{folder}/authz.sock", check=check)


def grpc_frame(message: bytes) -> bytes:
    """One uncompressed gRPC message with its five-byte prefix."""
    return b"\0" + struct.pack(">I", len(message)) + message


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _signing_key(algorithm: str) -> SigningKey:
    if algorithm.startswith("RS"):
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return ec.generate_private_key(_CURVES[algorithm])


def _uint(number: int, size: int) -> str:
    return _b64(number.to_bytes(size, "big"))


def _jwk(key: SigningKey, algorithm: str) -> dict[str, str]:
    named = {"kid": "k1", "use": "sig", "alg": algorithm}
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _uint(public.n, RSA_BITS // 8), "e": _uint(public.e, 3), **named}
    point, size = key.public_key().public_numbers(), key.key_size // 8
    curve = f"P-{key.key_size}"
    return {"kty": "EC", "crv": curve, "x": _uint(point.x, size), "y": _uint(point.y, size), **named}


def _sign(key: SigningKey, algorithm: str, content: bytes) -> bytes:
    digest = _HASHES[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(content, padding.PKCS1v15(), digest)
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(digest)))
    return b"".join(number.to_bytes(key.key_size // 8, "big") for number in (r, s))


def _token(key: SigningKey, algorithm: str, now: dt.datetime) -> str:
    header = {"alg": algorithm, "typ": "JWT", "kid": "k1"}
    claims = {
        "iss": "https://login.example.com/",
        "sub": "u-1842",
        "aud": "orders",
        "iat": int(now.timestamp()),
        "exp": int((now + LIFETIME).timestamp()),
        "groups": ["eng", "oncall"],
        "email": "ana@example.com",
        "email_verified": True,
        "sid": "s-77",
    }
    signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
    return f"{signed}.{_b64(_sign(key, algorithm, signed.encode()))}"


def _certificate(now: dt.datetime) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "laptop-7")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1842)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )


def _inventory(certificate: x509.Certificate, now: dt.datetime) -> dict[str, object]:
    der = certificate.public_bytes(Encoding.DER)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    device = {
        "id": "laptop-7",
        "certificate_sha256": [hashlib.sha256(der).hexdigest()],
        "managed": True,
        "disk_encrypted": True,
        "os": "linux",
        "os_version": "6.1",
        "posture_time": stamp,
    }
    return {"revision": 1, "taken": stamp, "devices": [device]}


def _policy() -> str:
    routes = [
        f"- name: r{number}\n  match: {{hosts: [{HOST}], paths: ['/api/{number}/**']}}\n"
        f"  deny:\n  - {{id: revoked, when: 'device.state == PRESENT && has(device.revoked) && device.revoked'}}\n"
        f"  allow:\n  - {{id: engineers, when: '{RULE}'}}\n"
        for number in range(ROUTES)
    ]
    return "kind: Policy\nname: bench\nroutes:\n" + "".join(routes)


def _check(token: str, certificate: x509.Certificate) -> bytes:
    message = external_auth_pb2.CheckRequest()
    attributes = message.attributes
    attributes.source.address.socket_address.address = "192.0.2.7"
    attributes.source.address.socket_address.port_value = 40_000
    attributes.source.certificate = quote(certificate.public_bytes(Encoding.PEM).decode(), safe="")
    attributes.tls_session.sni = HOST
    http = attributes.request.http
    http.id, http.method, http.path, http.host = "7351906183", "GET", "/api/3/orders/1842", HOST
    http.scheme, http.protocol = "https", "HTTP/2"
    headers = {
        ":authority": HOST,
        ":path": http.path,
        ":method": "GET",
        ":scheme": "https",
        "authorization": f"Bearer {token}",
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64) bench",
        "accept": "application/json",
        "x-request-id": "0f0b6a5e-8f4e-4f8e-9d55-0b1de4b2f0a1",
        "x-forwarded-proto": "https",
        "cookie": "theme=dark",
    }
    for name, value in headers.items():
        http.header_map.headers.add(key=name, raw_value=value.encode())
    return bytes(message.SerializeToString())
