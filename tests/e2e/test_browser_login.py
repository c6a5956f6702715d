# SPDX-License-Identifier: Apache-2.0
"""A browser's login through a real Envoy, a provider that checks what it is asked, and a real sidecar."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from iap_authz.model.reason import Verdict
from tests.fakes.browser import NAVIGATION, Page
from tests.fakes.edge import wait_until
from tests.fakes.login import (
    API_KEY_HEADER,
    ELSEWHERE,
    HOST,
    LOGIN,
    NEIGHBOUR,
    PREFIX,
    SESSION,
    WORKLOAD,
    Edge,
    running_edge,
)

HTML = ("accept", "text/html")
GCM_BYTES = 12 + 16
"""Of AES-GCM: nonce and tag."""


@pytest.fixture(scope="module")
def running() -> Iterator[Edge]:
    with running_edge(pass_workloads=True) as edge:
        yield edge


@pytest.fixture
def edge(running: Edge) -> Iterator[Edge]:
    """The one of the module, with the provider as it was, and nothing that it found wrong."""
    running.provider.token_seconds, running.provider.subject, running.provider.renews = 600, "ada", True
    running.provider.grants.clear()
    running.provider.logouts.clear()
    running.received()
    yield running
    assert running.provider.wrong == []


def parameters(page: Page) -> dict[str, str]:
    """Those of the address that an answer leads to."""
    return dict(parse_qsl(urlsplit(page.location).query, strict_parsing=True))


def is_login(page: Page) -> bool:
    return page.status == 302 and urlsplit(page.location).hostname == LOGIN and "code_challenge=" in page.location


def was_checked(page: Page) -> bool:
    """Whether the sidecar has judged: its audit id is on every answer to a check."""
    return "x-iap-audit-id" in page.headers


# ---- the way in


def test_a_browser_logs_in_and_is_who_the_provider_says(edge: Edge) -> None:
    browser, before = edge.browser(), len(edge.decisions())
    browser.plant(HOST, "theme", "dark")
    start, at_provider, back, page = browser.visit(f"https://{HOST}/a/b?c=d&e=%20")
    assert is_login(start)
    assert parameters(start)["redirect_uri"] == f"https://{HOST}/oauth2/callback"
    assert parameters(start)["scope"] == "openid email profile"
    assert parameters(start)["kind"] == "test", "the provider's own parameters stay"
    assert at_provider.location.startswith(f"https://{HOST}/oauth2/callback?code=")
    assert (back.status, back.location) == (302, f"https://{HOST}/a/b?c=d&e=%20")
    assert page.status == 200
    assert [was_checked(each) for each in (start, back, page)] == [False, False, True]

    (received,) = edge.received()
    headers = dict(received.headers)
    assert received.target == "/a/b?c=d&e=%20"
    assert headers["cookie"] == "theme=dark", "the application gets its own cookies and none of the login's"
    assert "x-iap-id-token" not in headers
    assert "authorization" not in headers

    (record,) = edge.decisions()[before:]
    assert record.decision.verdict == Verdict.ALLOW.value
    identity = record.open.decision.facts.identity
    assert (identity.subject, identity.issuer) == ("ada", edge.provider.issuer)
    assert identity.shown_in == "header:x-iap-id-token"
    kept, tokens = edge.journal_bytes(), (edge.provider.id_tokens[-1], edge.provider.access_tokens[-1])
    assert [token for token in (*tokens, edge.provider.refresh_tokens[-1]) if token.encode() in kept] == []


def test_its_cookies_are_bound_encrypted_and_out_of_reach(edge: Edge) -> None:
    browser = edge.browser()
    start, _, back, _ = browser.visit(f"https://{HOST}/")
    flow = {cookie.name.removeprefix(PREFIX).partition(".")[0]: cookie for cookie in start.set_cookies}
    session = {cookie.name: cookie for cookie in back.set_cookies if cookie.value != "deleted"}
    assert set(flow) == {"nonce", "verifier"}
    assert set(session) == SESSION
    for cookie in (*flow.values(), *session.values()):
        assert cookie.name.startswith(PREFIX)
        assert {name: cookie.attributes.get(name) for name in ("secure", "httponly", "samesite", "path", "domain")} == {
            "secure": "",
            "httponly": "",
            "samesite": "Lax",
            "path": "/",
            "domain": None,
        }
    encrypted = (flow["verifier"], session[f"{PREFIX}id"], session[f"{PREFIX}refresh"])
    assert [cookie.value[:4] for cookie in encrypted] == ["gcm."] * 3
    assert browser.names(HOST) == SESSION, "those of the login itself are gone after it"
    assert browser.dropped == []
    sealed = len(edge.provider.id_tokens[-1]) + GCM_BYTES
    assert len(session[f"{PREFIX}id"].value) == len("gcm.") + -(-sealed * 4 // 3), "what docs/operations.md counts with"


def test_tokens_that_have_run_out_are_renewed_without_asking(edge: Edge) -> None:
    edge.provider.token_seconds = 2
    browser = edge.logged_in()
    edge.provider.subject = "ada-renewed"
    edge.provider.token_seconds = 600
    pages: list[Page] = []

    def look() -> bool:
        pages.append(browser.get(f"https://{HOST}/x"))
        return "refresh_token" in edge.provider.grants

    wait_until(look)
    assert edge.provider.grants == ["authorization_code", "refresh_token"]
    assert {page.status for page in pages} == {200}, "not one request notices"
    assert {cookie.name for cookie in pages[-1].set_cookies} == SESSION
    assert edge.decisions()[-1].open.decision.facts.identity.subject == "ada-renewed"


def test_a_client_that_keeps_its_cookies_longer_gains_nothing(edge: Edge) -> None:
    edge.provider.token_seconds, edge.provider.renews = 5, False
    browser = edge.logged_in()
    keeper = edge.browser()  # whatever their Max-Age says
    for (_, name), cookie in browser.cookies.items():
        keeper.plant(HOST, name, cookie.value)
    assert keeper.get(f"https://{HOST}/").status == 200
    wait_until(lambda: keeper.get(f"https://{HOST}/").status == 302)
    assert is_login(keeper.get(f"https://{HOST}/")), "Envoy keeps the time itself"


def test_a_provider_that_renews_no_more_ends_the_session(edge: Edge) -> None:
    browser = edge.logged_in()
    for name in SESSION - {f"{PREFIX}refresh"}:
        browser.cookies.pop((HOST, name))  # as after their Max-Age
    edge.provider.refresh_tokens.clear()
    assert is_login(browser.get(f"https://{HOST}/"))
    assert browser.get(f"https://{HOST}/", headers=(("accept", "application/json"),)).status == 401


def test_an_id_token_too_long_for_a_cookie_is_renewed_with_each_request(edge: Edge) -> None:
    edge.provider.padding = 3_000
    try:
        browser = edge.logged_in()
        assert {cookie.name for cookie in browser.dropped} == {f"{PREFIX}id"}
        grants = list(edge.provider.grants)
        assert browser.get(f"https://{HOST}/").status == 200
        assert edge.provider.grants == [*grants, "refresh_token"]
    finally:
        edge.provider.padding = 0


# ---- the way out


def test_who_signs_out_is_asked_again(edge: Edge) -> None:
    browser = edge.logged_in()
    kept = dict(browser.cookies)
    pages = browser.visit(f"https://{HOST}/oauth2/sign-out")
    assert urlsplit(pages[0].location).hostname == LOGIN
    assert edge.provider.logouts == [
        {
            "id_token_hint": edge.provider.id_tokens[-2],
            "client_id": "orders",
            "post_logout_redirect_uri": f"https://{HOST}/",
        }
    ]
    assert {cookie.name for cookie in pages[0].set_cookies} >= SESSION
    assert pages[1].location == f"https://{HOST}/"
    assert is_login(pages[2])
    assert not was_checked(pages[0])

    thief = edge.browser()
    thief.cookies.update(kept)
    assert thief.get(f"https://{HOST}/").status == 200, "a copy lives on: signing out is no revocation"


# ---- other clients


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", (("accept", "application/json"),)),
        ("GET", (("accept", "*/*"),)),
        ("GET", ()),
        ("GET", (HTML, ("x-requested-with", "xmlhttprequest"))),
        ("GET", (HTML, ("sec-fetch-mode", "cors"))),
        ("POST", (*NAVIGATION, ("content-length", "0"))),
    ],
    ids=["JSON", "script", "tool", "XHR", "fetch", "form"],
)
def test_who_cannot_show_a_login_page_gets_none(edge: Edge, method: str, headers: tuple[tuple[str, str], ...]) -> None:
    page = edge.browser().get(f"https://{HOST}/", headers=headers, method=method)
    assert (page.status, page.location, page.set_cookies) == (401, "", ())
    assert not was_checked(page)


def test_grpc_gets_its_own_kind_of_refusal(edge: Edge) -> None:
    headers = (("content-type", "application/grpc"), ("te", "trailers"))
    page = edge.browser().get(f"https://{HOST}/", headers=headers)
    unauthenticated = "16"
    assert (page.headers.get("grpc-status"), page.location) == (unauthenticated, "")


def test_a_bearer_token_goes_on_to_the_check(edge: Edge) -> None:
    token = edge.provider.token(subject="robot")
    page = edge.browser().get(f"https://{HOST}/", headers=(("authorization", f"Bearer {token}"),))
    assert page.status == 200
    identity = edge.decisions()[-1].open.decision.facts.identity
    assert (identity.subject, identity.shown_in) == ("robot", "header:authorization")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bad_one_is_refused_with_a_record(edge: Edge, scheme: str) -> None:
    before = len(edge.decisions())
    page = edge.browser().get(f"https://{HOST}/", headers=(("authorization", f"{scheme} x.y.z"), HTML))
    assert (page.status, page.location, was_checked(page)) == (401, "", True)
    assert len(edge.decisions()) == before + 1


def test_a_bearer_token_comes_before_the_session(edge: Edge) -> None:
    browser = edge.logged_in()
    token = edge.provider.token(subject="robot")
    assert browser.get(f"https://{HOST}/", headers=(("authorization", f"Bearer {token}"),)).status == 200
    assert edge.decisions()[-1].open.decision.facts.identity.subject == "robot"
    assert "cookie" not in dict(edge.received()[-1].headers), "not even the encrypted ones"


def test_an_api_key_goes_on_to_the_check(edge: Edge) -> None:
    page = edge.browser().get(f"https://{HOST}/", headers=((API_KEY_HEADER, "k"), HTML))
    assert (page.status, was_checked(page)) == (401, True)


def test_a_workload_goes_on_to_the_check_where_the_settings_say_so(edge: Edge) -> None:
    workload = edge.browser(certificate=edge.folder / "edge" / "workload.pem")
    page = workload.get(f"https://{HOST}/")
    assert (page.status, page.location, was_checked(page)) == (401, "", True)
    assert edge.decisions()[-1].open.decision.facts.request.principal == WORKLOAD
    claimed = ("x-forwarded-client-cert", f"URI={WORKLOAD}")
    assert is_login(edge.browser().get(f"https://{HOST}/", headers=(claimed, HTML)))


def test_another_scheme_is_dropped_not_believed(edge: Edge) -> None:
    headers = (("authorization", "Basic YTpi"), *NAVIGATION)
    assert is_login(edge.browser().get(f"https://{HOST}/", headers=headers))
    edge.received()
    assert edge.logged_in().get(f"https://{HOST}/", headers=headers).status == 200
    assert "authorization" not in dict(edge.received()[-1].headers)


# ---- hosts


def test_a_host_that_nobody_named_leads_nowhere_and_is_recorded(edge: Edge) -> None:
    before = len(edge.decisions())
    for path in ("/", "/oauth2/callback?code=a&state=b", "/oauth2/sign-out"):
        page = edge.browser().get(f"https://{ELSEWHERE}{path}")
        assert (page.status, page.location, page.set_cookies, was_checked(page)) == (401, "", (), True)
    assert len(edge.decisions()) == before + 3


def test_a_session_is_one_hosts_alone(edge: Edge) -> None:
    edge.provider.renews = False
    browser = edge.logged_in(HOST)
    pages = []
    for host in (HOST, NEIGHBOUR):
        other = edge.browser()
        for name in browser.names(HOST):
            other.plant(host, name, browser.cookies[HOST, name].value)
        pages.append(other.get(f"https://{host}/"))
    assert pages[0].status == 200
    assert is_login(pages[1])


def with_url(start: Page, url: str) -> str:
    """The callback of a login whose state was changed to lead to `url`."""
    state = parameters(start)["state"]
    content = json.loads(base64.urlsafe_b64decode(state + "=" * (-len(state) % 4)))
    content["url"] = url
    changed = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
    return f"https://{HOST}/oauth2/callback?{urlencode({'code': 'made-up', 'state': changed})}"


@pytest.mark.parametrize(
    "url", [f"https://{ELSEWHERE}/", f"https://{NEIGHBOUR}/", f"https://{HOST}@{ELSEWHERE}/", "javascript:alert(1)"]
)
def test_no_login_leads_anywhere_else(edge: Edge, url: str) -> None:
    browser = edge.browser()
    start = browser.get(f"https://{HOST}/")
    page = browser.get(with_url(start, url))
    assert (page.status, page.location) == (401, "")
    assert edge.provider.grants == [], "the code was not even tried"


def test_nobody_can_finish_a_login_that_another_has_begun(edge: Edge) -> None:
    attacker, victim = edge.browser(), edge.browser()
    start = attacker.get(f"https://{HOST}/")
    callback = attacker.get(start.location).location
    assert victim.get(callback).status == 401, "a browser without the cookies of this login"
    victim.get(f"https://{HOST}/")
    assert victim.get(callback).status == 401, "a browser with those of another"
    assert not victim.names(HOST) & SESSION
    assert edge.provider.grants == []
