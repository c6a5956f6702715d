# SPDX-License-Identifier: Apache-2.0
"""Where a credential may stand: one place, one spelling, one text; and what of it a record keeps."""

import itertools
from http.cookies import CookieError, SimpleCookie
from typing import Final

import pytest

from iap_authz.errors import InvalidCredential
from iap_authz.facts.credential import (
    AUTHORIZATION,
    DEFAULT_SOURCES,
    Place,
    Shown,
    TokenSource,
    hide_query_tokens,
    read_credential,
    shown_text,
)
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request

LOGIN: Final = TokenSource(place=Place.HEADER, name="x-iap-id-token")
COOKIE: Final = TokenSource(place=Place.COOKIE, name="__Host-iap")
QUERY: Final = TokenSource(place=Place.QUERY, name="access_token")
EVERYWHERE: Final = (AUTHORIZATION, LOGIN, COOKIE, QUERY)
KEYS: Final = "x-api-key"


def asks(query: str = "", **headers: str | tuple[str, ...]) -> Request:
    values = {name.replace("_", "-"): (value,) if isinstance(value, str) else value for name, value in headers.items()}
    return Request(query=query, raw_path=f"/a?{query}" if query else "/a", path="/a", headers=values)


def read(request: Request, sources: tuple[TokenSource, ...] = EVERYWHERE) -> Shown | None:
    return read_credential(request, sources, api_key_header=KEYS)


def refuse(request: Request) -> None:
    with pytest.raises(InvalidCredential) as caught:
        read(request)
    assert caught.value.reason == Reason.AMBIGUOUS_CREDENTIALS
    assert "s3cret" not in str(caught.value)
    assert isinstance(shown_text(request, EVERYWHERE, api_key_header=KEYS), str)


@pytest.mark.parametrize(
    ("request_", "shown_in"),
    [
        (asks(authorization="Bearer s3cret"), "header:authorization"),
        (asks(x_iap_id_token="s3cret"), "header:x-iap-id-token"),
        (asks(cookie="__Host-iap=s3cret"), "cookie:__Host-iap"),
        (asks(cookie="a=b; __Host-iap=s3cret; c=d,e; f"), "cookie:__Host-iap"),
        (asks(cookie=("a=b", "__Host-iap=s3cret")), "cookie:__Host-iap"),
        (asks("access_token=s3cret"), "query:access_token"),
        (asks("a=1&access_token=s3cret&b=%20;c=+"), "query:access_token"),
        (asks("a=1&access_token=s3cret", authorization=(), cookie="a=b"), "query:access_token"),
    ],
    ids=str,
)
def test_a_token_in_each_place(request_: Request, shown_in: str) -> None:
    assert read(request_) == Shown(text="s3cret", shown_in=shown_in)
    assert read(asks()) is None


def test_a_place_that_is_not_configured_is_not_read() -> None:
    everywhere = asks("access_token=q", cookie="__Host-iap=c", x_iap_id_token="h")
    assert read(everywhere, DEFAULT_SOURCES) is None
    assert read(asks(authorization="Bearer s3cret"), (COOKIE,)) is None


@pytest.mark.parametrize(
    "cookie",
    [
        "__Host-iap=s3cret; __Host-iap=s3cret",
        "__Host-iap=s3cret; __Host-iap=",
        "a=b;__Host-iap=s3cret",
        "a=b,__Host-iap=s3cret",
        "a=b; __Host-iap =s3cret",
        "a=b;  __Host-iap=s3cret",
        "a=b;\t__Host-iap=s3cret",
        "__host-iap=s3cret",
        "__Host-iap=s3cret; __HOST-IAP=other",
        "__Host-iap=s3cret; __Host.iap=other",
        "__Host-iap=s3cret; __Host%2Diap=other",
        "__Host-iap=s3cret; __Host-iap[]=other",
        "__Host-iap=s3cret;__Host-iap=other",
        "__Host-iap=s3cret,__Host-iap=other",
        '__Host-iap="s3cret; __Host-iap=other"',
        ("__Host-iap=s3cret", "__Host-iap=s3cret"),
        ("__Host-iap=s3cret", "__host_iap=other"),
        "__Host-iap=s3cret; a=b __Host-iap=other",
        "__Host-iap=s3cret; a=b\t__Host-iap=other",
        '__Host-iap=s3cret; a="x" __Host-iap=other',
        "a=b __Host-iap=s3cret",
        "__Host-iap=s3cret; __Host[iap=other",
        "__Host-iap=s3cret; [__Host-iap]=other",
        "__Host-iap=s3cret" + "; a=b" * 200,
    ],
)
def test_a_cookie_that_can_be_read_two_ways_is_ambiguous(cookie: str | tuple[str, ...]) -> None:
    refuse(asks(cookie=cookie))


@pytest.mark.parametrize(
    "query",
    [
        "access_token=s3cret&access_token=s3cret",
        "access_token=s3cret&access_token=",
        "%61ccess_token=s3cret",
        "access_token=s3cret&%61ccess_token=other",
        "access_token=s3cret&Access_Token=other",
        "access_token=s3cret&access-token=other",
        "access_token=s3cret&access+token=other",
        "access_token=s3cret&access_token[]=other",
        "access_token=s3cret&access_token[a]=other",
        "a=1;access_token=s3cret",
        "access_token=s3cret;access_token=other",
        "+access_token=s3cret",
        "access_token=s3cret&access[token=other",
        "access_token=s3cret&[access_token]=other",
        "access_token=s3cret&access_token]=other",
        "access_token=s3cret&access_token%00x=other",
        "access_token=s3cret&%u0061ccess_token=other",
        "access_token=s3cret&" + "".join(f"%{ord(letter):02x}" for letter in "access_token") + "=other",
        "access_token=s3cret" + "&a=b" * 200,
    ],
)
def test_a_parameter_that_can_be_read_two_ways_is_ambiguous(query: str) -> None:
    refuse(asks(query))


@pytest.mark.parametrize("value", ["a,b", "a b", " ", " a", "a\t", "a,", "a\u00a0b", "Bearer s3cret"])
def test_a_header_of_ours_holds_the_token_alone(value: str) -> None:
    refuse(asks(x_iap_id_token=value))


def test_two_places_are_ambiguous_even_with_one_token() -> None:
    shows = {
        "authorization": "Bearer s3cret",
        "x_iap_id_token": "s3cret",
        "cookie": "__Host-iap=s3cret",
        "query": "access_token=s3cret",
        "x_api_key": "s3cret",
    }
    for first, second in itertools.permutations(shows.items(), 2):
        refuse(asks(**dict([first, second])))
    refuse(asks(x_iap_id_token=("a", "b")))


def test_an_api_key_beside_a_broken_place_is_ambiguous() -> None:
    for other in (asks("access_token=", x_api_key="k"), asks(cookie="__host_iap=", x_api_key="k")):
        refuse(other)
    assert read(asks(x_api_key="k")) == Shown(text="k", shown_in="header:x-api-key", is_api_key=True)


def test_the_text_of_a_token_is_not_mended() -> None:
    assert read(asks("access_token=a%2Eb")) == Shown(text="a%2Eb", shown_in="query:access_token")
    assert read(asks("access_token=a+b")) == Shown(text="a+b", shown_in="query:access_token")
    assert read(asks(cookie='__Host-iap="a"')) == Shown(text='"a"', shown_in="cookie:__Host-iap")
    assert read(asks(x_iap_id_token="")) == Shown(text="", shown_in="header:x-iap-id-token")


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("a=1&access_token=s3cret&b=2", "a=1&access_token=hidden&b=2"),
        ("access_token=s3cret;access_token=s3cret", "access_token=hidden;access_token=hidden"),
        ("%61ccess_token=s3cret&access.token[]=s3cret", "%61ccess_token=hidden&access.token[]=hidden"),
        ("access_token=s3=cret", "access_token=hidden"),
        ("[access_token]=s3cret&access[token=s3cret", "[access_token]=hidden&access[token=hidden"),
        ("access_token%00x=s3cret&%u0061ccess_token=s3cret", "access_token%00x=hidden&%u0061ccess_token=hidden"),
        ("access_token=s3cret" + "&a=b" * 200, "hidden"),
        ("access_token&a=access_token", "access_token&a=access_token"),
        ("", ""),
    ],
)
def test_what_is_recorded_has_no_token_of_the_query(query: str, kept: str) -> None:
    hidden = hide_query_tokens(asks(query), EVERYWHERE)
    assert (hidden.query, hidden.raw_path) == (kept, f"/a?{kept}" if kept else "/a")


def test_headers_that_repeat_the_url_have_no_token_either() -> None:
    url = "https://a/b?access_token=s3cret"
    hidden = hide_query_tokens(asks(x_original_url=url, x_forwarded_uri=(url, url), accept="?a=x"), (QUERY,))
    kept = "https://a/b?access_token=hidden"
    assert hidden.headers == {
        "x-original-url": (kept,),
        "x-forwarded-uri": (kept, kept),
        "accept": ("?a=x",),
    }


def test_without_a_source_in_the_query_nothing_is_hidden() -> None:
    request = asks("access_token=s3cret")
    assert hide_query_tokens(request, (AUTHORIZATION, COOKIE)) is request


def test_another_scheme_beside_a_token_elsewhere_is_another_credential() -> None:
    for other in ("Basic YTpi", "Token x", "DPoP x"):
        refuse(asks(cookie="__Host-iap=s3cret", authorization=other))
        alone = read_credential(asks(cookie="__Host-iap=s3cret", authorization=other), (COOKIE,))
        assert alone == Shown("s3cret", "cookie:__Host-iap")
        assert read(asks(authorization=other)) is None


@pytest.mark.parametrize("before", ["", "a=b", 'a="x"', "a=b; c", "a", "a=b,c=d"])
@pytest.mark.parametrize("mark", ["; ", ";", ", ", ",", " ", "\t", "; \t", '"; ', "'; "])
@pytest.mark.parametrize("name", ["__Host-iap", "__host-iap", " __Host-iap", "__Host-iap ", '"__Host-iap"'])
def test_no_cookie_is_read_that_another_parser_reads_otherwise(before: str, mark: str, name: str) -> None:
    """The other one is Python's own, which is as generous as they come."""
    for header in (f"{before}{mark}{name}=other", f"__Host-iap=s3cret; {before}{mark}{name}=other"):
        try:
            found = read(asks(cookie=header))
        except InvalidCredential:
            continue
        try:
            others = SimpleCookie(header)
        except CookieError:
            continue
        other = others.get("__Host-iap")
        assert other is None or found is not None, "a token that only the application would see"
        assert other is None or found is None or other.coded_value == found.text
