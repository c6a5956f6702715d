# SPDX-License-Identifier: Apache-2.0
"""Browser logins that are set up in other ways, and providers that are not as they should be, on a real Envoy."""

from typing import Any

import pytest

from tests.e2e.test_browser_login import parameters, was_checked
from tests.fakes.login import HOST, LOGIN, PREFIX, SESSION, running_edge
from tests.fakes.oidc import Provider


def test_every_other_choice_works_too() -> None:
    changes: dict[str, Any] = {
        "public_port": 8443,
        "token_endpoint": lambda provider: f"https://localhost:{provider.port}/token",
        "client_authentication": "basic",
        "same_site": "strict",
        "cookie_prefix": "shop",
        "redirect_path": "/back",
        "signout_path": "/out",
        "scopes": ("openid", "offline_access"),
    }
    with running_edge(names=("localhost", LOGIN), **changes) as edge:
        edge.provider.in_body = False
        edge.provider.redirect_uris = (f"https://{HOST}:8443/back",)
        browser = edge.browser()
        start, _, back, page = browser.visit(f"https://{HOST}:8443/a?b")
        assert (page.status, page.url) == (200, f"https://{HOST}:8443/a?b")
        assert "cookie" not in dict(edge.received()[0].headers)
        assert parameters(start)["scope"] == "openid offline_access"
        assert {cookie.attributes["samesite"] for cookie in start.set_cookies} == {"Lax"}
        session = [cookie for cookie in back.set_cookies if cookie.value != "deleted"]
        assert {cookie.attributes["samesite"] for cookie in session} == {"Strict"}
        assert {cookie.name.replace("__Host-shop-", PREFIX) for cookie in session} == SESSION
        out = browser.get(f"https://{HOST}:8443/out")
        assert parameters(out)["post_logout_redirect_uri"] == f"https://{HOST}:8443/"
        assert edge.provider.wrong == []


def test_without_renewal_a_login_ends_with_its_tokens() -> None:
    with running_edge(refresh=False, end_session_endpoint=None) as edge:
        browser = edge.logged_in()
        assert browser.names(HOST) == SESSION - {f"{PREFIX}refresh"}
        out = browser.get(f"https://{HOST}/oauth2/sign-out")
        assert out.location == f"https://{HOST}/", "nowhere else to sign out"
        assert browser.names(HOST) == set()


def test_a_renewal_without_an_id_token_leaves_nobody() -> None:
    with running_edge() as edge:
        edge.provider.renews_identity = False
        browser = edge.logged_in()
        for name in SESSION - {f"{PREFIX}refresh"}:
            browser.cookies.pop((HOST, name))  # as after their Max-Age
        for _ in range(2):
            page = browser.get(f"https://{HOST}/")
            assert (page.status, was_checked(page)) == (401, True), "the check decides, and sees no identity"
        browser.get(f"https://{HOST}/oauth2/sign-out")
        assert browser.visit(f"https://{HOST}/")[-1].status == 200, "which is the way out of it"


def other_authority(provider: Provider) -> str:
    """That of the edge."""
    return str(provider.ca_file.parent.parent / "edge" / "ca.pem")


BAD_ENDPOINTS: dict[str, dict[str, Any]] = {
    "a certificate of another authority": {"ca_file": other_authority},
    "a certificate for another name": {"names": (LOGIN,)},
    "nobody there": {"token_endpoint": "https://127.0.0.1:1/token"},
}


@pytest.mark.parametrize("name", BAD_ENDPOINTS)
def test_code_and_secret_go_to_the_right_server_alone(name: str) -> None:
    with running_edge(**BAD_ENDPOINTS[name]) as edge:
        browser = edge.browser()
        last = browser.visit(f"https://{HOST}/")[-1]
        assert (last.status, was_checked(last)) == (401, False)
        assert edge.provider.grants == []
        assert browser.names(HOST) == set()


def empty_file(provider: Provider) -> str:
    path = provider.ca_file.with_name("empty")
    path.write_bytes(b"")
    return str(path)


@pytest.mark.parametrize("field", ["client_secret_file", "hmac_secret_file"])
def test_an_empty_secret_serves_nobody(field: str) -> None:
    """With an empty key anybody could make cookies."""
    changes: dict[str, Any] = {field: empty_file}
    with running_edge(**changes) as edge:
        page = edge.browser().get(f"https://{HOST}/")
        assert (page.status, page.location) == (503, "")
