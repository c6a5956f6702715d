# SPDX-License-Identifier: Apache-2.0
"""What is rendered says what a bootstrap written by hand says, field by field, and no setting weakens it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from iap_authz.bootstrap.render import build_bootstrap, render_bootstrap, render_document
from iap_authz.bootstrap.settings import (
    EdgeSettings,
    HostSettings,
    TcpAddress,
    TlsSettings,
    UnixAddress,
    check_settings,
    parse_endpoint,
    sidecar_settings,
)
from iap_authz.errors import ConfigInvalid
from tests.fakes.envoy_config import flatten, parse_bootstrap

REFERENCE = Path(__file__).with_name("envoy_reference.yaml")
ROOT = Path(__file__).resolve().parent.parent.parent.parent

MANAGER = ".static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
AUTHZ = f"{MANAGER}.http_filters[0].typed_config"
OWN_HEADERS = f"{MANAGER}.early_header_mutation_extensions[0].typed_config.mutations[0].remove_on_match.key_matcher"
LOCAL_REPLY = f"{MANAGER}.local_reply_config"
STREAM = f"{MANAGER}.common_http_protocol_options.max_stream_duration"


def rendered(settings: EdgeSettings) -> dict[str, object]:
    return flatten(parse_bootstrap(render_bootstrap(settings, "edge")))


def test_it_is_the_reference_but_for_three_improvements() -> None:
    expected = flatten(parse_bootstrap(REFERENCE.read_text()))
    got = rendered(replace(EdgeSettings(), access_log_socket="unix:/run/iap/als.sock"))
    assert expected.pop(f"{OWN_HEADERS}.prefix") == "x-iap-"
    assert got.pop(f"{OWN_HEADERS}.safe_regex.regex") == r"(?i)x[-._]iap[-._].*"
    assert got.pop(f"{OWN_HEADERS}.safe_regex:") == "envoy.type.matcher.v3.RegexMatcher"
    assert got[f"{STREAM}.seconds"] == 3600
    added = {path for path in got if path.startswith((LOCAL_REPLY, STREAM))}
    assert f"{LOCAL_REPLY}.mappers[0].headers_to_add[0].header.value" in added
    assert {path: value for path, value in got.items() if path not in added} == expected


@pytest.mark.parametrize(
    ("settings", "name"), [(EdgeSettings(), "edge"), (sidecar_settings(), "sidecar")], ids=["edge", "sidecar"]
)
def test_the_files_in_the_repository_are_the_defaults(settings: EdgeSettings, name: str) -> None:
    assert (ROOT / "envoy" / f"{name}.yaml").read_text() == render_bootstrap(settings, name)


def test_without_an_access_log_service_there_is_nothing_of_it() -> None:
    assert not [
        path for path, value in rendered(EdgeSettings()).items() if "iap_als" in str(value) or "access_log" in path
    ]


def test_certificates_of_proxies_are_appended_to_and_never_reach_the_application() -> None:
    default, got = rendered(EdgeSettings()), rendered(replace(EdgeSettings(), forwarded_certificates=True))
    changed = {path: value for path, value in got.items() if default.get(path) != value}
    assert changed == {
        f"{MANAGER}.forward_client_cert_details": 2,
        f"{MANAGER}.route_config.request_headers_to_remove[0]": "x-forwarded-client-cert",
    }
    assert default.keys() <= got.keys()


FORBIDDEN = ("disabled", "failure_mode_allow", "failure_mode_allow_header_add", "shadow_mode", "with_request_body")


@pytest.mark.parametrize("settings", [EdgeSettings(), sidecar_settings()], ids=["edge", "sidecar"])
def test_nothing_fails_open(settings: EdgeSettings) -> None:
    got = rendered(settings)
    assert got[f"{AUTHZ}:"] == "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
    assert got[f"{AUTHZ}.status_on_error.code"] == 503
    assert got[f"{AUTHZ}.deny_at_disable.default_value.value"] is True
    assert [path for path in got if path.rpartition(".")[2] in FORBIDDEN] == []
    assert [path for path, value in got.items() if value == "ACCEPT_UNTRUSTED"] == []


def test_a_sidecar_listens_in_plain_http_and_takes_no_word_for_an_address() -> None:
    got = rendered(sidecar_settings())
    assert not [path for path in got if "transport_socket" in path or "listener_filters" in path]
    assert got[".static_resources.listeners[0].address.socket_address.address"] == "0.0.0.0"
    assert got[".static_resources.listeners[0].address.socket_address.port_value"] == 8080
    assert f"{MANAGER}.xff_num_trusted_hops" not in got
    assert ".node.id" not in got
    assert got[".admin.address.pipe.mode"] == 0o660


def test_the_proxy_header_comes_first() -> None:
    got = rendered(replace(EdgeSettings(), proxy_protocol=True, trusted_hops=2))
    filters = ".static_resources.listeners[0].listener_filters"
    assert got[f"{filters}[0].name"] == "envoy.filters.listener.proxy_protocol"
    assert got[f"{filters}[1].name"] == "envoy.filters.listener.tls_inspector"
    assert f"{filters}[0].typed_config.allow_requests_without_proxy_protocol" not in got
    assert got[f"{MANAGER}.xff_num_trusted_hops"] == 2


def test_the_deadline_bounds_each_try() -> None:
    got = rendered(replace(EdgeSettings(), authz_timeout=timedelta(milliseconds=350)))
    service = f"{AUTHZ}.grpc_service"
    assert got[f"{service}.timeout.nanos"] == 350_000_000
    assert got[f"{service}.retry_policy.retry_back_off.max_interval.nanos"] == 350_000_000


def test_no_client_authority_no_client_certificates() -> None:
    tls = TlsSettings(certificate_chain="/a.crt", private_key="/a.key", client_ca=None)
    assert not [path for path in rendered(replace(EdgeSettings(), tls=tls)) if "validation_context" in path]


@pytest.mark.parametrize(
    ("upstream", "kind", "path", "value"),
    [
        ("app.internal:8080", 1, "socket_address.address", "app.internal"),
        ("[2001:db8::2]:80", 0, "socket_address.address", "2001:db8::2"),
        ("unix:/run/app.sock", 0, "pipe.path", "/run/app.sock"),
    ],
    ids=["name", "IPv6", "socket"],
)
def test_the_upstream(upstream: str, kind: int, path: str, value: str) -> None:
    got = rendered(replace(EdgeSettings(), upstream=upstream))
    cluster = ".static_resources.clusters[1]"
    assert got[f"{cluster}.name"] == "app"
    assert got[f"{cluster}.type"] == kind
    assert got[f"{cluster}.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.{path}"] == value


def test_a_host_that_takes_all_leaves_none_unknown() -> None:
    got = rendered(replace(EdgeSettings(), hosts=(HostSettings(name="all", domains=("*",), policy="main"),)))
    hosts = f"{MANAGER}.route_config.virtual_hosts"
    assert got[f"{hosts}[0].domains[0]"] == "*"
    assert f"{hosts}[1].name" not in got


# ---- settings that are refused

LONG = "/" + "x" * 107
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no worker": ({"authz_sockets": ()}, "authz_sockets: got none, want at least one"),
    "worker elsewhere": ({"authz_sockets": ("192.0.2.1:9001",)}, "authz_sockets: got '192.0.2.1:9001', want a Unix"),
    "worker by name": ({"authz_sockets": ("localhost:9001",)}, "authz_sockets: got 'localhost:9001', want a Unix"),
    "worker twice": ({"authz_sockets": ("/a", "unix:/a")}, "authz_sockets: got 'unix:/a' twice"),
    "worker on the admin socket": (
        {"admin_socket": "/run/iap/authz-0.sock"},
        "admin_socket: got '/run/iap/authz-0.sock'",
    ),
    "admin on TCP": ({"admin_socket": "127.0.0.1:9901"}, "admin_socket: got '127.0.0.1:9901', want a Unix socket"),
    "admin nowhere": ({"admin_socket": ""}, "admin_socket: got '', want unix:/PATH or ADDRESS:PORT"),
    "long socket": ({"admin_socket": LONG}, "admin_socket: got a socket path of 108 bytes, want at most 107"),
    "control character": ({"admin_socket": "/a\n"}, "admin_socket: got '/a\\n', want a printable path"),
    "access log elsewhere": ({"access_log_socket": "als.example.com:443"}, "access_log_socket: got 'als.example.com"),
    "upstream without port": ({"upstream": "app"}, "upstream: got 'app', want unix:/PATH or ADDRESS:PORT"),
    "upstream port 0": ({"upstream": "app:0"}, "upstream: got 'app:0', want"),
    "upstream port above": ({"upstream": "app:65536"}, "upstream: got 'app:65536', want"),
    "upstream port in other digits": ({"upstream": "app:٨٠"}, "upstream: got 'app:\\u0668\\u0660', want"),
    "upstream IPv6 bare": ({"upstream": "::1:80"}, "upstream: got '::1:80', want an IP address"),
    "upstream IPv4 in brackets": ({"upstream": "[127.0.0.1]:80"}, "upstream: got '[127.0.0.1]:80', want an IP address"),
    "upstream with a zone": (
        {"upstream": "[fe80::1%eth0]:80"},
        "upstream: got '[fe80::1%eth0]:80', want an IP address",
    ),
    "upstream URL": ({"upstream": "http://app:80"}, "upstream: got 'http://app:80', want an IP address"),
    "listener by name": ({"listener_address": "localhost"}, "listener_address: got 'localhost', want an IP address"),
    "listener port": ({"listener_port": 65_536}, "listener_port: got 65536, want 0 to 65535"),
    "readiness port": ({"readiness_port": -1}, "readiness_port: got -1, want 0 to 65535"),
    "readiness on the listener": ({"readiness_port": 10_443}, "readiness_port: got 10443, which the listener has"),
    "certificates of proxies without TLS": (
        {"forwarded_certificates": True, "tls": None},
        "forwarded_certificates: got no client CA, want one: who is in front has to be proven",
    ),
    "certificates of proxies that nobody asks for": (
        {"forwarded_certificates": True, "tls": TlsSettings(client_ca=None)},
        "forwarded_certificates: got no client CA, want one: who is in front has to be proven",
    ),
    "hops": ({"trusted_hops": 11}, "trusted_hops: got 11, want 0 to 10"),
    "negative hops": ({"trusted_hops": -1}, "trusted_hops: got -1, want 0 to 10"),
    "no time": ({"authz_timeout": timedelta(0)}, "authz_timeout: got 0s, want 0.01s to 10s"),
    "too much time": ({"authz_timeout": timedelta(seconds=11)}, "authz_timeout: got 11s, want 0.01s to 10s"),
    "no stream": ({"max_stream_duration": timedelta(0)}, "max_stream_duration: got 0s, want 1s to 86400s"),
    "endless stream": ({"max_stream_duration": timedelta(days=2)}, "max_stream_duration: got 172800s, want 1s to"),
    "relative key": ({"tls": TlsSettings(private_key="server.key")}, "tls: got 'server.key', want the absolute path"),
    "stat prefix": ({"stat_prefix": "a.b"}, "stat_prefix: got 'a.b', want lower-case letters"),
    "node id": ({"node_id": ""}, "node_id: got '', want lower-case letters"),
    "no host": ({"hosts": ()}, "hosts: got none, want at least one"),
}
HOST_FAULTS = {
    "no domain": (HostSettings(name="a", domains=(), policy="p"), "hosts.domains: got none for 'a', want at least one"),
    "port": (HostSettings(name="a", domains=("a:443",), policy="p"), "hosts.domains: got 'a:443', want a lower-case"),
    "upper case": (HostSettings(name="a", domains=("A.example",), policy="p"), "hosts.domains: got 'A.example', want"),
    "star inside": (HostSettings(name="a", domains=("a.*.b",), policy="p"), "hosts.domains: got 'a.*.b', want"),
    "trailing dot": (HostSettings(name="a", domains=("a.",), policy="p"), "hosts.domains: got 'a.', want"),
    "domain twice": (HostSettings(name="a", domains=("a", "a"), policy="p"), "hosts.domains: got 'a' twice"),
    "reserved name": (HostSettings(name="unknown", domains=("a",), policy="p"), "hosts.name: got 'unknown', which is"),
    "policy": (HostSettings(name="a", domains=("a",), policy=""), "hosts.policy: got '', want lower-case letters"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str) -> None:
    changes, message = FAULTS[name]
    with pytest.raises(ConfigInvalid) as caught:
        build_bootstrap(replace(EdgeSettings(), **changes))
    assert [f"{fault.field}: {fault.message}"[: len(message)] for fault in caught.value.faults] == [message]


@pytest.mark.parametrize("name", HOST_FAULTS)
def test_a_fault_of_a_host_is_named(name: str) -> None:
    host, message = HOST_FAULTS[name]
    with pytest.raises(ConfigInvalid) as caught:
        check_settings(replace(EdgeSettings(), hosts=(host,)))
    assert [f"{fault.field}: {fault.message}"[: len(message)] for fault in caught.value.faults] == [message]


def test_faults_come_together() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        check_settings(replace(EdgeSettings(), hosts=(), trusted_hops=-1, authz_sockets=()))
    assert {fault.field for fault in caught.value.faults} == {"hosts", "trusted_hops", "authz_sockets"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/a", UnixAddress(path="/run/a")),
        ("unix:/run/a", UnixAddress(path="/run/a")),
        ("127.0.0.1:1", TcpAddress(host="127.0.0.1", port=1, named=False)),
        ("[::1]:65535", TcpAddress(host="::1", port=65_535, named=False)),
        ("app-1.example:80", TcpAddress(host="app-1.example", port=80, named=True)),
    ],
    ids=["path", "unix", "IPv4", "IPv6", "name"],
)
def test_an_endpoint(text: str, address: UnixAddress | TcpAddress) -> None:
    assert parse_endpoint(text) == address


# ---- the text

LOOKALIKES = (
    "no",
    "on",
    "Y",
    "null",
    "~",
    "1",
    "0x1f",
    "1e3",
    ".5",
    "inf",
    "2001-01-01",
    "1:30",
    "=",
    "<<",
    "",
    " a",
    "a: b",
    "a\nb\n",
    "- a\n\n  b: #c\n---\n",
    "a\n b \n",
    "a\nb\n\n",
    " a\nb\n",
    "a\n\tb\n",
)


@given(st.sampled_from(LOOKALIKES) | st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_string_stays_a_string_for_every_reader(text: str) -> None:
    """YAML 1.1 reads `no`, `1:30` and `0x1f` as other things than YAML 1.2; what is rendered is the same in both."""
    for version in ((1, 1), (1, 2)):
        reader = YAML(typ="safe", pure=True)
        reader.version = version
        assert reader.load(render_document({text: [text]})) == {text: [text]}


def test_equal_settings_render_equal_bytes() -> None:
    assert render_bootstrap(EdgeSettings(), "edge") == render_bootstrap(EdgeSettings(), "edge")
