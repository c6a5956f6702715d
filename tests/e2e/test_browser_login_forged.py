# SPDX-License-Identifier: Apache-2.0
"""What a client can make up, and what never gets through, at a browser login on a real Envoy."""

import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.test_browser_login import HTML, is_login, was_checked
from tests.fakes.browser import Browser
from tests.fakes.login import HOST, PREFIX, Edge, running_edge


@pytest.fixture(scope="module")
def running() -> Iterator[Edge]:
    with running_edge() as edge:
        yield edge


@pytest.fixture
def edge(running: Edge) -> Edge:
    """The one of the module, with the provider as it was."""
    running.provider.renews, running.provider.subject = True, "ada"
    running.received()
    return running


ID, HMAC, EXPIRES, REFRESH = (f"{PREFIX}{name}" for name in ("id", "hmac", "expires", "refresh"))
FAR_FUTURE = "9999999999"


def change(browser: Browser, name: str, value: str) -> None:
    browser.plant(HOST, name, value)


def own_token(edge: Edge, browser: Browser) -> None:
    """A token that the provider really signed, in the clear."""
    change(browser, ID, edge.provider.token(subject="admin"))


def of_another_user(edge: Edge, browser: Browser) -> None:
    edge.provider.subject = "admin"
    other = edge.logged_in()
    edge.provider.subject = "ada"
    change(browser, ID, other.cookies[HOST, ID].value)


def flip(_: Edge, browser: Browser, *, name: str = ID) -> None:
    value = browser.cookies[HOST, name].value
    middle = len(value) // 2
    change(browser, name, f"{value[:middle]}{'A' if value[middle] != 'A' else 'B'}{value[middle + 1 :]}")


def longer(_: Edge, browser: Browser) -> None:
    change(browser, EXPIRES, FAR_FUTURE)


FORGERIES: dict[str, Callable[[Edge, Browser], None]] = {
    "a token in the clear": own_token,
    "another user's cookie": of_another_user,
    "a flipped bit of the token": flip,
    "a flipped bit of the HMAC": lambda edge, browser: flip(edge, browser, name=HMAC),
    "a later expiry": longer,
    "no HMAC": lambda _, browser: change(browser, HMAC, ""),
    "no token": lambda _, browser: change(browser, ID, ""),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_cookies_that_were_not_made_together_are_worth_nothing(edge: Edge, name: str) -> None:
    edge.provider.renews = False
    browser = edge.logged_in()
    assert browser.get(f"https://{HOST}/").status == 200
    FORGERIES[name](edge, browser)
    before = len(edge.decisions())
    assert is_login(browser.get(f"https://{HOST}/"))
    assert len(edge.decisions()) == before


@pytest.mark.parametrize("name", FORGERIES)
def test_with_a_refresh_token_they_only_lead_back_to_who_it_is(edge: Edge, name: str) -> None:
    browser = edge.logged_in()
    FORGERIES[name](edge, browser)
    assert browser.get(f"https://{HOST}/").status == 200
    assert edge.provider.grants[-1] == "refresh_token"
    assert edge.decisions()[-1].open.decision.facts.identity.subject == "ada"


def test_a_forged_header_is_gone(edge: Edge) -> None:
    forged = ("x-iap-id-token", edge.provider.token(subject="admin"))
    assert is_login(edge.browser().get(f"https://{HOST}/", headers=(forged, HTML)))
    for headers in ((forged, HTML), (("X-IAP-ID-Token", forged[1]), HTML), (("x-iap.id-token", forged[1]), HTML)):
        assert edge.logged_in().get(f"https://{HOST}/", headers=headers).status == 200
        assert edge.decisions()[-1].open.decision.facts.identity.subject == "ada", "the header is that of the cookies"
    api = edge.browser().get(f"https://{HOST}/", headers=(forged, ("x-api-key", "k")))
    assert (api.status, was_checked(api)) == (401, True)
    assert not edge.decisions()[-1].open.decision.facts.identity.HasField("subject"), (
        "who passes has no token of cookies"
    )


def test_a_refresh_token_in_the_clear_is_the_providers_to_judge(edge: Edge) -> None:
    """Envoy takes what it cannot decrypt as it is. `__Host-` keeps neighbours from planting one in a browser."""
    browser = edge.browser()
    browser.plant(HOST, REFRESH, "made-up")
    assert is_login(browser.get(f"https://{HOST}/"))
    edge.logged_in()
    browser.plant(HOST, REFRESH, edge.provider.refresh_tokens[-1])
    assert browser.get(f"https://{HOST}/").status == 200


@pytest.mark.parametrize("name", [ID, HMAC, EXPIRES])
@pytest.mark.parametrize("first", [True, False], ids=["forged first", "forged last"])
def test_of_two_cookies_of_one_name_no_reader_takes_the_other(edge: Edge, name: str, *, first: bool) -> None:
    edge.provider.renews = False
    browser = edge.logged_in()
    own = [f"{cookie.name}={cookie.value}" for cookie in browser.cookies.values()]
    forged = f"{name}={ {ID: edge.provider.token(subject='admin'), HMAC: 'AAAA', EXPIRES: FAR_FUTURE}[name] }"
    pairs = [forged, *own] if first else [*own, forged]
    status = raw(edge, f"cookie: {'; '.join(pairs)}", "accept: text/html")
    assert status in {200, 302}
    assert edge.decisions()[-1].open.decision.facts.identity.subject == "ada"


# ---- the cookies that go on


def raw(edge: Edge, *lines: str) -> int:
    """The status of a request with these header lines, as they are."""
    context = ssl.create_default_context(cafile=str(edge.folder / "edge" / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", edge.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        head = "\r\n".join(("GET /raw HTTP/1.1", f"host: {HOST}", "connection: close", *lines, "", ""))
        connection.sendall(head.encode("latin-1"))
        return int(connection.makefile("rb").readline().split()[1])


COOKIES = {
    "own alone": ((f"{ID}=x",), None),
    "own first": ((f"{ID}=x; a=1",), "a=1"),
    "own last": ((f"a=1; b=2;{REFRESH}=y",), "a=1; b=2"),
    "own with spaces": ((f"a=1;   \t {HMAC}=z;b=2",), "a=1; b=2"),
    "own of a flow": ((f"{PREFIX}nonce.1f=x; {PREFIX}verifier=x; {PREFIX}other; a=1",), "a=1"),
    "own twice, own empty": ((f"{ID}=; {ID}=2; a=1; {ID}",), "a=1"),
    "several headers": ((f"a=1; {ID}=x", f"{HMAC}=y", "b=2"), "a=1; b=2"),
    "names that are like ours": ((f"x{ID}=1; __host-iap-id=2; __Host-iap=3; a={ID}=4; {ID}=x",), None),
    "nothing of ours": (("a=1;b=2;;  ;c",), "a=1;b=2;;  ;c"),
    "quotes": ((f'a="1; {ID}=x"; b=\\,~; {ID}=y',), 'a="1; b=\\,~'),
    "long and blank": ((f"a={'1' * 20_000};{' ' * 20_000}{ID}=x;{';' * 10_000} b=2",), f"a={'1' * 20_000}; b=2"),
}


@pytest.mark.parametrize("name", COOKIES)
def test_the_application_gets_its_own_cookies_alone(edge: Edge, name: str) -> None:
    sent, got = COOKIES[name]
    if name == "names that are like ours":
        got = f"x{ID}=1; __host-iap-id=2; __Host-iap=3; a={ID}=4"
    edge.received()
    token = edge.provider.token(subject="robot")
    assert raw(edge, f"authorization: Bearer {token}", *(f"cookie: {cookie}" for cookie in sent)) == 200
    headers = [value for name, value in edge.received()[-1].headers if name == "cookie"]
    assert headers == ([got] if got is not None else [])


def test_the_filter_that_does_it_has_not_failed_once(edge: Edge) -> None:
    edge.logged_in()
    assert edge.envoy.counter("http.edge.lua.errors") == 0
    assert edge.envoy.counter("http.edge.lua.executions") > 0
