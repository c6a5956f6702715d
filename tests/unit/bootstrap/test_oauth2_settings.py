# SPDX-License-Identifier: Apache-2.0
"""The file `kind: OAuth2`: what it says is what is meant, and all that is wrong with it is said at once."""

from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from iap_authz.bootstrap.oauth2_settings import (
    OAuth2Settings,
    load_oauth2,
    oauth2_faults,
    parse_oauth2,
    sample_settings,
    split_endpoint,
)
from iap_authz.errors import ConfigInvalid

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FULL = """\
kind: OAuth2
authorization_endpoint: "https://login.example.com:8443/realms/a/authorize?prompt=login"
token_endpoint: "https://192.0.2.7/token"
end_session_endpoint: https://login.example.com/logout
client_id: urn:shop/1@x_y.z~
client_secret_file: /run/a
hmac_secret_file: /run/b
client_authentication: basic
scopes: [openid, "https://scope.example/read", offline_access]
ca_file: /run/ca.pem
redirect_path: /back
signout_path: /_out/now
public_port: 8443
pass_headers: [x-key, x-other]
pass_workloads: true
refresh: false
expires_in: 5m
refresh_expires_in: 30d
cookie_prefix: shop2
same_site: strict
"""


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse_oauth2(text.encode(), "o.yaml")
    return [str(fault) for fault in caught.value.faults]


def test_everything_can_be_said() -> None:
    settings = parse_oauth2(FULL.encode(), "o.yaml")
    assert settings == OAuth2Settings(
        authorization_endpoint="https://login.example.com:8443/realms/a/authorize?prompt=login",
        token_endpoint="https://192.0.2.7/token",
        end_session_endpoint="https://login.example.com/logout",
        client_id="urn:shop/1@x_y.z~",
        client_secret_file="/run/a",
        hmac_secret_file="/run/b",
        client_authentication="basic",
        scopes=("openid", "https://scope.example/read", "offline_access"),
        ca_file="/run/ca.pem",
        redirect_path="/back",
        signout_path="/_out/now",
        public_port=8443,
        pass_headers=("x-key", "x-other"),
        pass_workloads=True,
        refresh=False,
        expires_in=timedelta(minutes=5),
        refresh_expires_in=timedelta(days=30),
        cookie_prefix="shop2",
        same_site="strict",
    )
    sample = sample_settings()
    assert [each.name for each in fields(sample) if getattr(settings, each.name) == getattr(sample, each.name)] == [
        "end_session_endpoint"
    ], "every default is another value here, so that none goes untested"
    assert settings.own_cookies == "__Host-shop2-"


def test_the_sample_in_the_repository_says_the_defaults() -> None:
    assert load_oauth2(ROOT / "envoy" / "oauth2.yaml") == sample_settings()


def test_what_must_be_said_is_missed_all_at_once() -> None:
    missing = ("authorization_endpoint", "token_endpoint", "client_id", "client_secret_file", "hmac_secret_file")
    assert faults_of("kind: OAuth2\n") == [f"o.yaml:1:1: {field}: missing" for field in missing]


def test_faults_of_all_kinds_come_together_with_their_places() -> None:
    text = (
        FULL.replace("/back", "/back%2f").replace("8443\npass", "70000\npass").replace("refresh: false", "refersh: no")
    )
    assert faults_of(text) == [
        (
            "o.yaml:11:16: redirect_path: got '/back%2f', "
            "want a path such as /oauth2/callback: letters, digits and _.~-, no / at its end"
        ),
        "o.yaml:13:14: public_port: got '70000', want a whole number from 1 to 65535",
        faults_of(text)[2],
    ]
    assert faults_of(text)[2].startswith("o.yaml:16:10: refersh: unknown key, want one of ")
    assert faults_of(text)[2].endswith("(did you mean refresh?)")


def test_another_kind_is_refused() -> None:
    assert "o.yaml:1:7: kind: got 'Sidecar', want one of OAuth2" in faults_of("kind: Sidecar\n")


def test_a_fault_is_reported_once() -> None:
    text = FULL.replace("same_site: strict", "same_site: none")
    assert faults_of(text) == ["o.yaml:20:12: same_site: got 'none', want one of lax, strict"]
    start = FULL.index("scopes: [")
    text = f"{FULL[:start]}scopes: [1]{FULL[FULL.index(chr(10), start) :]}"
    assert faults_of(text) == ["o.yaml:9:10: scopes[0]: got '1', want text"]


def test_a_file_that_is_not_there_is_a_fault_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_oauth2(tmp_path / "none.yaml")
    assert str(caught.value.faults[0]) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"


URLS = (
    "http://login.example.com/x",
    "https:///x",
    "https://login.example.com",
    "https://user@login.example.com/x",
    "https://Login.example.com/x",
    "https://login.example.com:0/x",
    "https://login.example.com:99999/x",
    "https://login.example.com:a/x",
    "https://login.example.com/x#y",
    "https://login.example.com/x#",
    "https://login.example.com/x y",
    "https://login.example.com/\r\nx",
    "https://login_example/x",
    "https://[::1/x",
    "https://[fe80::1%25eth0]/x",
    "//login.example.com/x",
    "",
)


@pytest.mark.parametrize("field", ["authorization_endpoint", "token_endpoint", "end_session_endpoint"])
@pytest.mark.parametrize("url", URLS)
def test_an_endpoint_that_is_none(field: str, url: str) -> None:
    changes: dict[str, Any] = {field: url}
    assert [name for name, _ in oauth2_faults(replace(sample_settings(), **changes))] == [field]


@pytest.mark.parametrize("field", ["token_endpoint", "end_session_endpoint"])
@pytest.mark.parametrize("query", ["?", "?a=b"])
def test_a_query_only_where_envoy_adds_to_it(field: str, query: str) -> None:
    changes: dict[str, Any] = {field: f"https://login.example.com/x{query}"}
    assert [name for name, _ in oauth2_faults(replace(sample_settings(), **changes))] == [field]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://login.example.com/t", ("login.example.com", 443, False)),
        ("https://login.example.com:8443/", ("login.example.com", 8443, False)),
        ("https://192.0.2.1/t", ("192.0.2.1", 443, True)),
        ("https://[2001:db8::1]:444/t", ("2001:db8::1", 444, True)),
    ],
)
def test_where_an_endpoint_is(url: str, place: tuple[str, int, bool]) -> None:
    assert list(oauth2_faults(replace(sample_settings(), token_endpoint=url))) == []
    assert split_endpoint(url) == place


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "client id": ({"client_id": "a b"}, "client_id: got 'a b', want 1 to 256 letters, digits and ._~:/@-"),
    "client id that adds a parameter": ({"client_id": "a&b=c"}, "client_id: got 'a&b=c', want"),
    "no client id": ({"client_id": ""}, "client_id: got '', want"),
    "relative secret": ({"client_secret_file": "a"}, "client_secret_file: got 'a', want the absolute path of a file"),
    "relative HMAC secret": ({"hmac_secret_file": "a"}, "hmac_secret_file: got 'a', want the absolute path of a file"),
    "relative authority": ({"ca_file": "ca.pem"}, "ca_file: got 'ca.pem', want the absolute path of a file"),
    "one secret for both": (
        {"hmac_secret_file": sample_settings().client_secret_file},
        "hmac_secret_file: got the file of the client's secret, want another",
    ),
    "no openid": ({"scopes": ("email",)}, "scopes: got no openid, want it: without it there is no ID token"),
    "two scopes in one": ({"scopes": ("openid", "a b")}, "scopes: got 'a b', want a scope of RFC 6749"),
    "a command of the formatter": ({"redirect_path": "/%REQ(host)%"}, "redirect_path: got '/%REQ(host)%', want a path"),
    "the root": ({"redirect_path": "/"}, "redirect_path: got '/', want a path"),
    "a path that is normalised": ({"signout_path": "/a/../b"}, "signout_path: got '/a/../b', want a path"),
    "a path that is merged": ({"signout_path": "/a//b"}, "signout_path: got '/a//b', want a path"),
    "a query": ({"redirect_path": "/a?b"}, "redirect_path: got '/a?b', want a path"),
    "one path for both": ({"signout_path": "/oauth2/callback"}, "signout_path: got '/oauth2/callback', which is"),
    "everybody passes": ({"pass_headers": ("accept",)}, "pass_headers: got 'accept', want a name x-..."),
    "scripts pass": (
        {"pass_headers": ("x-requested-with",)},
        "pass_headers: got 'x-requested-with', want a name x-...",
    ),
    "our own header": ({"pass_headers": ("x-iap-id-token",)}, "pass_headers: got 'x-iap-id-token', want a name x-..."),
    "Envoy's header": ({"pass_headers": ("x-envoy-a",)}, "pass_headers: got 'x-envoy-a', want a name x-..."),
    "upper case": ({"pass_headers": ("X-Key",)}, "pass_headers: got 'X-Key', want a name x-..."),
    "prefix": ({"cookie_prefix": "a-b"}, "cookie_prefix: got 'a-b', want 1 to 32 lower-case letters and digits"),
    "no prefix": ({"cookie_prefix": ""}, "cookie_prefix: got '', want"),
    "same site": ({"same_site": "none"}, "same_site: got 'none', want one of lax, strict"),
    "authentication": ({"client_authentication": "x"}, "client_authentication: got 'x', want one of body, basic"),
    "port": ({"public_port": 0}, "public_port: got 0, want 1 to 65535"),
    "no time": ({"expires_in": timedelta(0)}, "expires_in: got 0ms, want 1m to 30d"),
    "for ever": ({"refresh_expires_in": timedelta(days=31)}, "refresh_expires_in: got 31d, want 1m to 30d"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str) -> None:
    changes, message = FAULTS[name]
    faults = [f"{field}: {said}" for field, said in oauth2_faults(replace(sample_settings(), **changes))]
    assert [fault[: len(message)] for fault in faults] == [message]
