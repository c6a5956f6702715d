# SPDX-License-Identifier: Apache-2.0
"""What may be chosen about an Envoy in front of an application; everything else is fixed, for a measured reason.

Invariant: `check_settings` accepts only settings whose bootstrap Envoy loads and that leave no way around the check.
All faults are reported at once. Addresses are texts, as in the sidecar's own configuration: `unix:/run/iap/x.sock`
(or the bare absolute path) and `ADDRESS:PORT`, IPv6 in brackets.

It deliberately has no setting for failing open, for skipping the check on a path, or for an admin port on TCP.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from iap_authz.bootstrap.hosts import HOST_NAME, PORT_MAX, is_ip
from iap_authz.bootstrap.oauth2_settings import OAuth2Settings, oauth2_faults
from iap_authz.errors import ConfigInvalid, Fault, shown

SOCKET_PATH_MAX_BYTES = 107
"""`sun_path` of unix(7) is 108 bytes, with the zero at the end."""

TRUSTED_HOPS_MAX = 10
"""More proxies in front than anybody runs: a number above it is a slip, and would trust what the client wrote."""

NAME_UNKNOWN_HOST = "unknown"
"""The virtual host, and route, for hosts that no setting names: checked and recorded like any other, then 404."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_DOMAIN = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]", re.ASCII)
_UNIX_PREFIX = "unix:"
_TIMEOUT_LEAST, _TIMEOUT_MOST = timedelta(milliseconds=10), timedelta(seconds=10)
_STREAM_LEAST, _STREAM_MOST = timedelta(seconds=1), timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The listener's own certificate, and whom it believes about client certificates. Files are read by Envoy."""

    certificate_chain: str = "/run/iap/tls/server.crt"
    """PEM: the server's certificate, then its intermediates."""
    private_key: str = "/run/iap/tls/server.key"
    """PEM: the key of the first of them."""
    client_ca: str | None = "/run/iap/tls/ca.crt"
    """PEM: who may sign client certificates. A client without one is let in and the policy decides; one that is shown
    and does not verify ends the handshake. None: no client is asked for one, and no device is ever known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """One application: the domains it is reached under, and the policy that decides."""

    name: str
    """Of the virtual host and its route; also the `route` of the route metadata that the sidecar is given."""
    domains: tuple[str, ...]
    """As in the Host header, lower case, without a port. `*.example.com` takes subdomains; `*` everything else."""
    policy: str
    """Goes to the sidecar as the context extension `policy`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """One Envoy. The defaults are those of `envoy/edge.yaml`."""

    node_id: str | None = "edge-1"
    """Names this Envoy in its access log entries. None: `--service-node` on Envoy's command line does."""
    stat_prefix: str = "edge"
    """Of the listener's metrics: `http.edge.ext_authz.iap.denied`."""
    listener_address: str = "127.0.0.1"
    """IP address to listen on."""
    listener_port: int = 10_443
    """TCP port to listen on. 0 takes any free one, for tests."""
    tls: TlsSettings | None = TlsSettings()
    """None: plain HTTP, for an Envoy inside a pod or behind a TLS terminator that speaks the PROXY protocol."""
    proxy_protocol: bool = False
    """Every connection starts with a PROXY protocol header, version 1 or 2, and is closed if it does not. For a load
    balancer in front; whoever else reaches the port can then claim any address."""
    trusted_hops: int = 0
    """Proxies in front whose last X-Forwarded-For entries are believed. 0: the TCP (or PROXY protocol) peer is the
    client, and X-Forwarded-For is never."""
    forwarded_certificates: bool = False
    """TLS proxies in front say whose certificate they saw: their X-Forwarded-Client-Cert reaches the sidecar, behind it
    an element on who is connected. The sidecar's `client_certificate` says who is believed. Needs a client CA."""
    authz_sockets: tuple[str, ...] = ("/run/iap/authz-0.sock", "/run/iap/authz-1.sock")
    """Where the sidecar's workers listen, one address each: Unix sockets, or loopback ADDRESS:PORT."""
    authz_timeout: timedelta = timedelta(milliseconds=200)
    """Envoy's deadline for one check, above the sidecar's own of 150 ms. Past it the answer is 503."""
    max_stream_duration: timedelta = timedelta(hours=1)
    """How long one request may last, WebSockets, gRPC streams, uploads and downloads too. A connection is checked when
    it opens: what was allowed just before a session ended or was revoked lives at most this long."""
    upstream: str = "127.0.0.1:18080"
    """The application: ADDRESS:PORT, NAME:PORT (resolved by DNS), or a Unix socket."""
    hosts: tuple[HostSettings, ...] = (HostSettings(name="orders", domains=("orders.example.com",), policy="orders"),)
    """The applications. Any other host is checked too, and answered 404 if the policy lets it."""
    admin_socket: str = "/run/iap/admin.sock"
    """Unix socket of Envoy's admin interface, mode 0660. Never TCP: it can switch the check off."""
    readiness_address: str = "127.0.0.1"
    """IP address of the readiness listener. A kubelet probes the pod's address: there, 0.0.0.0."""
    readiness_port: int | None = 15_021
    """TCP port that answers `GET /ready` and nothing else, without a check. None: no such listener."""
    access_log_socket: str | None = None
    """Where an access log service listens: a Unix socket, or loopback ADDRESS:PORT. None: no access log."""
    oauth2: OAuth2Settings | None = None
    """The login of browsers, for all hosts. None: no login, and whoever brings no credential is refused."""


def sidecar_settings() -> EdgeSettings:
    """The defaults of `envoy/sidecar.yaml`: an Envoy in the pod of its application, reached in plain HTTP."""
    return EdgeSettings(
        node_id=None,
        stat_prefix="sidecar",
        listener_address="0.0.0.0",  # noqa: S104 -- the pod's one way in; the application itself is on loopback
        listener_port=8080,
        tls=None,
        authz_sockets=("/run/iap/authz-0.sock",),
        readiness_address="0.0.0.0",  # noqa: S104 -- the kubelet does not reach the pod's loopback
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """A Unix socket."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """A TCP endpoint. `host` is an IP address without brackets, or, where `named`, a name to be resolved."""

    host: str
    port: int
    named: bool


def parse_endpoint(text: str) -> UnixAddress | TcpAddress:
    """Parse `unix:/PATH`, `/PATH`, `ADDRESS:PORT`, `[ADDRESS]:PORT` or `NAME:PORT`. Raises ValueError."""
    path = text.removeprefix(_UNIX_PREFIX)
    if path.startswith("/"):
        _check_socket_path(path)
        return UnixAddress(path=path)
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= PORT_MAX):
        raise ValueError(f"got {shown(text)}, want unix:/PATH or ADDRESS:PORT")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if is_ip(bare) and (":" in bare) == (bare != host):
        return TcpAddress(host=bare, port=int(port), named=False)
    if not HOST_NAME.fullmatch(host):
        raise ValueError(f"got {shown(text)}, want an IP address (IPv6 in brackets) or a name before the port")
    return TcpAddress(host=host, port=int(port), named=True)


def check_settings(settings: EdgeSettings) -> None:
    """Raises ConfigInvalid with every fault of `settings`."""
    faults = [
        Fault(file="envoy settings", line=0, column=0, field=field, message=message)
        for field, message in _faults(settings)
    ]
    if faults:
        raise ConfigInvalid(faults)


def _faults(settings: EdgeSettings) -> Iterator[tuple[str, str]]:
    for field, address in (
        ("listener_address", settings.listener_address),
        ("readiness_address", settings.readiness_address),
    ):
        if not is_ip(address):
            yield field, f"got {shown(address)}, want an IP address"
    yield from _number_faults(settings)
    yield from _address_faults(settings)
    yield from _host_faults(settings.hosts)
    yield from _login_faults(settings)
    if settings.tls is not None:
        files = (settings.tls.certificate_chain, settings.tls.private_key, settings.tls.client_ca)
        for path in files:
            if path is not None and not path.startswith("/"):
                yield "tls", f"got {shown(path)}, want the absolute path of a file"
    if settings.forwarded_certificates and (settings.tls is None or settings.tls.client_ca is None):
        yield "forwarded_certificates", "got no client CA, want one: who is in front has to be proven"
    for field, name in (("stat_prefix", settings.stat_prefix), ("node_id", settings.node_id)):
        if name is not None and not _NAME.fullmatch(name):
            yield field, f"got {shown(name)}, want lower-case letters, digits and hyphens"


def _number_faults(settings: EdgeSettings) -> Iterator[tuple[str, str]]:
    if not 0 <= settings.listener_port <= PORT_MAX:
        yield "listener_port", f"got {settings.listener_port}, want 0 to {PORT_MAX}"
    if settings.readiness_port is not None and not 0 <= settings.readiness_port <= PORT_MAX:
        yield "readiness_port", f"got {settings.readiness_port}, want 0 to {PORT_MAX}"
    if settings.readiness_port == settings.listener_port != 0:
        yield "readiness_port", f"got {settings.readiness_port}, which the listener has"
    if not 0 <= settings.trusted_hops <= TRUSTED_HOPS_MAX:
        yield "trusted_hops", f"got {settings.trusted_hops}, want 0 to {TRUSTED_HOPS_MAX}"
    if not _TIMEOUT_LEAST <= settings.authz_timeout <= _TIMEOUT_MOST:
        yield "authz_timeout", f"got {settings.authz_timeout.total_seconds():g}s, want 0.01s to 10s"
    if not _STREAM_LEAST <= settings.max_stream_duration <= _STREAM_MOST:
        yield "max_stream_duration", f"got {settings.max_stream_duration.total_seconds():g}s, want 1s to 86400s"


def _address_faults(settings: EdgeSettings) -> Iterator[tuple[str, str]]:
    if not settings.authz_sockets:
        yield "authz_sockets", "got none, want at least one"
    private: list[tuple[str, str, Callable[[str], UnixAddress | TcpAddress]]] = [
        *(("authz_sockets", text, _parse_private) for text in settings.authz_sockets),
        ("admin_socket", settings.admin_socket, _parse_socket),
        ("upstream", settings.upstream, parse_endpoint),
    ]
    if settings.access_log_socket is not None:
        private.append(("access_log_socket", settings.access_log_socket, _parse_private))
    seen: set[UnixAddress | TcpAddress] = set()
    for field, text, parse in private:
        try:
            address = parse(text)
        except ValueError as error:
            yield field, str(error)
            continue
        if address in seen:
            yield field, f"got {shown(text)} twice, want an address for each purpose"
        seen.add(address)


def _host_faults(hosts: tuple[HostSettings, ...]) -> Iterator[tuple[str, str]]:
    if not hosts:
        yield "hosts", "got none, want at least one"
    for host in hosts:
        yield from _one_host_faults(host)
    for field, values in (
        ("hosts.name", [host.name for host in hosts]),
        ("hosts.domains", [domain for host in hosts for domain in host.domains]),
    ):
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield field, f"got {shown(value)} twice"


def _one_host_faults(host: HostSettings) -> Iterator[tuple[str, str]]:
    for field, name in (("name", host.name), ("policy", host.policy)):
        if not _NAME.fullmatch(name):
            yield f"hosts.{field}", f"got {shown(name)}, want lower-case letters, digits and hyphens"
    if host.name == NAME_UNKNOWN_HOST:
        yield "hosts.name", f"got {shown(host.name)}, which is the name for hosts nobody named"
    if not host.domains:
        yield "hosts.domains", f"got none for {shown(host.name)}, want at least one"
    for domain in host.domains:
        if not _DOMAIN.fullmatch(domain):
            yield "hosts.domains", f"got {shown(domain)}, want a lower-case domain without a port"


def _login_faults(settings: EdgeSettings) -> Iterator[tuple[str, str]]:
    if settings.oauth2 is None:
        return
    for field, message in oauth2_faults(settings.oauth2):
        yield f"oauth2.{field}", message
    for host in settings.hosts:
        if "*" in host.domains:
            yield "hosts.domains", f"got * for {shown(host.name)}, want names: a login must know where it may lead back"


def _parse_private(text: str) -> UnixAddress | TcpAddress:
    """An address that nobody on another machine can stand behind."""
    address = parse_endpoint(text)
    if isinstance(address, TcpAddress) and (address.named or not ipaddress.ip_address(address.host).is_loopback):
        raise ValueError(f"got {shown(text)}, want a Unix socket or a loopback ADDRESS:PORT")
    return address


def _parse_socket(text: str) -> UnixAddress:
    address = parse_endpoint(text)
    if isinstance(address, TcpAddress):
        raise ValueError(f"got {shown(text)}, want a Unix socket")  # noqa: TRY004 -- the text is wrong, not its type
    return address


def _check_socket_path(path: str) -> None:
    size = len(path.encode())
    if size > SOCKET_PATH_MAX_BYTES:
        raise ValueError(f"got a socket path of {size} bytes, want at most {SOCKET_PATH_MAX_BYTES}")
    if not path.isprintable():
        raise ValueError(f"got {shown(path)}, want a printable path")
