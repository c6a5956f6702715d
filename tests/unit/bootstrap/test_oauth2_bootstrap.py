# SPDX-License-Identifier: Apache-2.0
"""The browser login as it is rendered: in front of the check, for named hosts only, and leading nowhere else.

Read back as plain YAML: the other library's messages are older than this filter's. The real Envoy is in tests/e2e.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from iap_authz.bootstrap.oauth2 import TOKEN_REQUESTS_MAX
from iap_authz.bootstrap.oauth2_settings import sample_settings
from iap_authz.bootstrap.render import render_bootstrap
from iap_authz.bootstrap.settings import EdgeSettings, HostSettings, check_settings, sidecar_settings
from iap_authz.cli.envoy import app
from iap_authz.errors import ConfigInvalid

ROOT = Path(__file__).resolve().parent.parent.parent.parent
LOGIN, COOKIES = "envoy.filters.http.oauth2", "envoy.filters.http.lua"
SHOPS = (
    HostSettings(name="shop", domains=("shop.example.com", "*.shop.example.com"), policy="shop"),
    HostSettings(name="six", domains=("[2001:db8::1]",), policy="six"),
)


def rendered(settings: EdgeSettings | None = None, **changes: Any) -> Any:
    base = EdgeSettings() if settings is None else settings
    text = render_bootstrap(replace(base, oauth2=replace(sample_settings(), **changes)), "edge")
    return YAML(typ="safe", pure=True).load(text)


def manager(found: Any) -> Any:
    return found["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def hosts(found: Any) -> Any:
    return manager(found)["route_config"]["virtual_hosts"]


def login(settings: EdgeSettings | None = None, **changes: Any) -> Any:
    """The login of the first host."""
    return hosts(rendered(settings, **changes))[0]["typed_per_filter_config"][LOGIN]["config"]


def keys(value: Any) -> Iterator[str]:
    """Every key, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.mark.parametrize("settings", [EdgeSettings(), sidecar_settings()], ids=["edge", "sidecar"])
def test_the_login_the_cookies_the_check_in_this_order(settings: EdgeSettings) -> None:
    names = [each["name"] for each in manager(rendered(settings))["http_filters"]]
    assert names == [LOGIN, COOKIES, "envoy.filters.http.ext_authz", "envoy.filters.http.router"]


def test_without_it_there_is_nothing_of_it() -> None:
    text = render_bootstrap(EdgeSettings(), "edge")
    assert [word for word in ("http.oauth2", "lua", "iap_idp", "secrets", "id-token") if word in text] == []


def test_the_file_in_the_repository_is_the_sample_and_so_is_what_the_command_makes_of_it() -> None:
    written = (ROOT / "envoy" / "edge-oauth2.yaml").read_text()
    settings = replace(EdgeSettings(), oauth2=sample_settings())
    assert written == render_bootstrap(settings, "edge --oauth2 envoy/oauth2.yaml")
    made = CliRunner().invoke(app, ["render", "edge", "--oauth2", str(ROOT / "envoy" / "oauth2.yaml")])
    assert made.exit_code == 0, made.output
    assert made.stdout.splitlines()[1:] == written.splitlines()[1:]


def test_a_file_with_faults_is_refused_with_their_places(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("kind: OAuth2\n")
    made = CliRunner().invoke(app, ["render", "edge", "--oauth2", str(file)])
    assert isinstance(made.exception, ConfigInvalid)
    assert str(made.exception.faults[0]) == f"{file}:1:1: authorization_endpoint: missing"


def test_each_host_leads_back_to_its_own_domains_and_unknown_hosts_have_no_login() -> None:
    found = rendered(replace(EdgeSettings(), hosts=SHOPS))
    shop, six, unknown = hosts(found)
    allowed = [host["typed_per_filter_config"][LOGIN]["config"]["allowed_redirect_domains"] for host in (shop, six)]
    assert allowed == [["shop.example.com", "*.shop.example.com"], ["2001:db8::1"]], "Envoy wants no brackets"
    assert unknown["name"] == "unknown"
    assert "typed_per_filter_config" not in unknown
    assert list(manager(found)["http_filters"][0]["typed_config"]) == ["@type"], "no login but that of a host"


def test_a_host_that_takes_all_cannot_say_where_a_login_may_lead() -> None:
    everything = (HostSettings(name="all", domains=("*",), policy="p"),)
    with pytest.raises(ConfigInvalid) as caught:
        check_settings(replace(EdgeSettings(), hosts=everything, oauth2=sample_settings()))
    assert [fault.field for fault in caught.value.faults] == ["hosts.domains"]


def test_faults_of_the_login_come_with_all_others() -> None:
    wrong = replace(sample_settings(), client_id="", scopes=())
    with pytest.raises(ConfigInvalid) as caught:
        check_settings(replace(EdgeSettings(), trusted_hops=-1, oauth2=wrong))
    assert [fault.field for fault in caught.value.faults] == ["trusted_hops", "oauth2.client_id", "oauth2.scopes"]


FORBIDDEN = {
    "forward_bearer_token",
    "preserve_authorization_header",
    "disable_token_encryption",
    "disable_id_token_set_cookie",
    "allow_failed_matcher",
    "cookie_domain",
    "disabled",
}
"""Each would hand a token on, keep it in the clear, or let a request through that has failed."""


def test_nothing_weakens_it() -> None:
    found = rendered(refresh=False, same_site="strict", pass_workloads=True)
    assert FORBIDDEN.isdisjoint(keys(found))
    config = hosts(found)[0]["typed_per_filter_config"][LOGIN]["config"]
    assert config["forward_id_token"] == {"header": "x-iap-id-token"}
    assert config["disable_access_token_set_cookie"] is True
    runtime = found["layered_runtime"]["layers"][0]["static_layer"]
    assert runtime["envoy.reloadable_features.oauth2_use_gcm_encryption"] is True
    assert runtime["envoy.reloadable_features.oauth2_legacy_cbc_decrypt_compat"] is False


def test_every_cookie_is_bound_to_its_host_and_has_same_site() -> None:
    config = login(cookie_prefix="shop", same_site="strict")
    names = list(config["credentials"]["cookie_names"].values())
    assert len(set(names)) == 7
    assert all(name.startswith("__Host-shop-") for name in names)
    sites = {name: cookie["same_site"] for name, cookie in config["cookie_configs"].items()}
    assert {name for name, site in sites.items() if site == "LAX"} == {
        "oauth_nonce_cookie_config",
        "code_verifier_cookie_config",
    }, "those must come back from the provider's site"
    assert list(sites.values()).count("STRICT") == 5
    assert {cookie["path"] for cookie in config["cookie_configs"].values()} == {"/"}
    assert {site["same_site"] for site in login()["cookie_configs"].values()} == {"LAX"}


def test_cookies_of_the_login_are_named_to_the_filter_that_takes_them_away() -> None:
    script = manager(rendered(cookie_prefix="shop"))["http_filters"][1]["typed_config"]["default_source_code"]
    assert 'local own = "__Host-shop-"\n' in script["inline_string"]


@pytest.mark.parametrize(("port", "base"), [(443, ""), (8443, ":8443")])
def test_addresses_are_those_that_browsers_see(port: int, base: str) -> None:
    config, host = login(public_port=port), f"https://%REQ(:authority)%{base}"
    assert config["redirect_uri"] == f"{host}/oauth2/callback"
    assert config["original_request_uri"] == host
    assert config["post_logout_redirect_uri"] == {"uri": f"{host}/"}
    assert config["redirect_path_matcher"] == {"path": {"exact": "/oauth2/callback"}}
    assert config["signout_path"] == {"path": {"exact": "/oauth2/sign-out"}}


def test_settings_become_the_filters() -> None:
    config = login(
        end_session_endpoint=None,
        client_authentication="basic",
        scopes=("openid", "x"),
        refresh=False,
        expires_in=timedelta(minutes=7),
        refresh_expires_in=timedelta(hours=3),
    )
    assert "end_session_endpoint" not in config
    assert config["auth_type"] == "BASIC_AUTH"
    assert config["auth_scopes"] == ["openid", "x"]
    assert (config["default_expires_in"], config["default_refresh_token_expires_in"]) == ("420s", "10800s")
    assert (config["use_refresh_token"], login()["use_refresh_token"]) == (False, True)
    assert config["credentials"]["client_id"] == "orders"


def test_who_passes_without_a_login() -> None:
    matchers = login(pass_headers=("x-a", "x-b"), pass_workloads=True)["pass_through_matcher"]
    assert matchers == [
        {"name": "authorization", "string_match": {"prefix": "Bearer ", "ignore_case": True}},
        {"name": "x-a", "present_match": True},
        {"name": "x-b", "present_match": True},
        {"name": "x-forwarded-client-cert", "string_match": {"contains": "URI=spiffe://"}},
    ]
    assert [matcher["name"] for matcher in login(pass_headers=())["pass_through_matcher"]] == ["authorization"]


@pytest.mark.parametrize(
    ("url", "sni", "name", "kind"),
    [
        ("https://login.example.com:8443/t", "login.example.com", "login.example.com", "DNS"),
        ("https://192.0.2.1/t", None, "192.0.2.1", "IP_ADDRESS"),
    ],
    ids=["name", "address"],
)
def test_the_token_endpoint_is_reached_over_tls_that_checks_its_name(
    url: str, sni: str | None, name: str, kind: str
) -> None:
    clusters = rendered(token_endpoint=url, ca_file="/ca.pem")["static_resources"]["clusters"]
    (idp,) = [cluster for cluster in clusters if cluster["name"] == "iap_idp"]
    tls = idp["transport_socket"]["typed_config"]
    assert tls.get("sni") == sni
    assert tls["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": "/ca.pem"},
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": name}}],
    }
    (threshold,) = idp["circuit_breakers"]["thresholds"]
    assert threshold == dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), TOKEN_REQUESTS_MAX)
    assert tls["common_tls_context"]["tls_params"] == {"tls_minimum_protocol_version": "TLSv1_2"}


def test_secrets_are_files_of_envoys() -> None:
    found = rendered(client_secret_file="/a", hmac_secret_file="/b")
    files = {each["name"]: each["generic_secret"]["secret"] for each in found["static_resources"]["secrets"]}
    credentials = hosts(found)[0]["typed_per_filter_config"][LOGIN]["config"]["credentials"]
    assert files[credentials["token_secret"]["name"]] == {"filename": "/a"}
    assert files[credentials["hmac_secret"]["name"]] == {"filename": "/b"}
