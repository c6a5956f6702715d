# SPDX-License-Identifier: Apache-2.0
"""Paths, hosts and methods that try to mean two things (hostile rows 90 to 114)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import MalformedRequest
from iap_authz.model.reason import Reason
from iap_authz.model.target import parse_host, parse_method, parse_target, wanted_form

REFUSED_PATHS = [
    pytest.param("//admin", Reason.PATH_NOT_NORMAL, id="90 two slashes"),
    pytest.param("///admin//x", Reason.PATH_NOT_NORMAL, id="90 many slashes"),
    pytest.param("/admin//", Reason.PATH_NOT_NORMAL, id="90 two slashes at the end"),
    pytest.param("/admin%2Fusers", Reason.PATH_ENCODED_SLASH, id="91 encoded slash"),
    pytest.param("/admin%2fusers", Reason.PATH_ENCODED_SLASH, id="91 encoded slash, lower case"),
    pytest.param("/admin%5Cusers", Reason.PATH_ENCODED_SLASH, id="91 encoded backslash"),
    pytest.param("/%252e%252e/admin", Reason.PATH_DOUBLE_ENCODED, id="94 double encoding"),
    pytest.param("/%25%32%65", Reason.PATH_DOUBLE_ENCODED, id="94 double encoding in pieces"),
    pytest.param("/admin%00.css", Reason.PATH_CONTROL, id="95 NUL"),
    pytest.param("/admin;x=1", Reason.PATH_PARAMETERS, id="97 parameters"),
    pytest.param("/public/..;/admin", Reason.PATH_PARAMETERS, id="97 parameters behind dots"),
    pytest.param("/admin%3bx=1", Reason.PATH_PARAMETERS, id="97 encoded parameters"),
    pytest.param("/admin#x", Reason.MALFORMED_PATH, id="98 fragment"),
    pytest.param("\\admin", Reason.MALFORMED_PATH, id="101 backslash first"),
    pytest.param("/a\\b", Reason.PATH_NOT_NORMAL, id="101 backslash"),
    pytest.param("/%5cadmin", Reason.PATH_ENCODED_SLASH, id="101 encoded backslash"),
    pytest.param("http://evil/admin", Reason.MALFORMED_PATH, id="102 absolute form"),
    pytest.param("*", Reason.MALFORMED_PATH, id="102 asterisk form"),
    pytest.param("", Reason.MALFORMED_PATH, id="102 empty"),
    pytest.param("/admin%09", Reason.PATH_CONTROL, id="107 encoded tab"),
    pytest.param("/admin%0d%0ax", Reason.PATH_CONTROL, id="107 encoded line break"),
    pytest.param("/admin%7f", Reason.PATH_CONTROL, id="107 encoded delete"),
    pytest.param("/adm\u0131n", Reason.PATH_NOT_ASCII, id="108 dotless i, raw"),
    pytest.param("/a\uff0fb", Reason.PATH_NOT_ASCII, id="108 full-width slash, raw"),
    pytest.param("/adm%C4%B1n", Reason.PATH_NOT_ASCII, id="108 dotless i"),
    pytest.param("/a%EF%BC%8Fb", Reason.PATH_NOT_ASCII, id="108 full-width slash"),
    pytest.param("/a%E2%80%A4%E2%80%A4/b", Reason.PATH_NOT_ASCII, id="108 one-dot leaders"),
    pytest.param("/%E2%84%AA", Reason.PATH_NOT_ASCII, id="108 Kelvin sign"),
    pytest.param("/a%E2%80%8Bb", Reason.PATH_CONTROL, id="108 zero-width space"),
    pytest.param("/a%E2%80%AEb", Reason.PATH_CONTROL, id="108 right-to-left override"),
    pytest.param("/%c0%af", Reason.PATH_NOT_ASCII, id="108 overlong slash"),
    pytest.param("/%ff", Reason.PATH_NOT_ASCII, id="108 not UTF-8"),
    pytest.param("/%zz", Reason.MALFORMED_PATH, id="94 broken escape"),
    pytest.param("/%", Reason.MALFORMED_PATH, id="94 lone percent sign"),
    pytest.param("/%2", Reason.MALFORMED_PATH, id="94 half an escape"),
    pytest.param("/./a", Reason.PATH_NOT_NORMAL, id="90 dot segment"),
    pytest.param("/a/..", Reason.PATH_NOT_NORMAL, id="90 dot dot at the end"),
    pytest.param("/%2e%2e/a", Reason.PATH_NOT_NORMAL, id="90 encoded dot segment"),
    pytest.param("/a?x=\x00", Reason.PATH_CONTROL, id="95 NUL in the query"),
    pytest.param("/a?b c", Reason.PATH_CONTROL, id="107 space in the query"),
    pytest.param("/" + "a" * 8_192, Reason.MALFORMED_PATH, id="55 too long"),
]

KEPT_PATHS = [
    pytest.param("/", ("",), "", id="root"),
    pytest.param("/admin", ("admin",), "", id="plain"),
    pytest.param("/Admin", ("Admin",), "", id="104 case kept"),
    pytest.param("/admin.", ("admin.",), "", id="107 trailing dot kept"),
    pytest.param("/admin%20", ("admin ",), "", id="107 trailing space kept"),
    pytest.param("/admin/", ("admin", ""), "", id="trailing slash kept"),
    pytest.param("/admin%23x", ("admin#x",), "", id="98 encoded number sign is part of the segment"),
    pytest.param("/caf%C3%A9", ("caf\u00e9",), "", id="letters beyond ASCII"),
    pytest.param("/a?x=%2f..%2f//;", ("a",), "x=%2f..%2f//;", id="the query is not a path"),
    pytest.param("/...", ("...",), "", id="three dots are a name"),
]


@pytest.mark.parametrize(("raw", "reason"), REFUSED_PATHS)
def test_refused_path_has_its_reason(raw: str, reason: Reason) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_target(raw)
    assert caught.value.reason is reason


@pytest.mark.parametrize(("raw", "segments", "query"), KEPT_PATHS)
def test_kept_path_is_not_changed(raw: str, segments: tuple[str, ...], query: str) -> None:
    target = parse_target(raw)
    assert target.path == raw.partition("?")[0]
    assert target.segments == segments
    assert target.query == query


@given(st.text(max_size=60) | st.text(alphabet="/.%;\\25eEfF0acCbB", max_size=40).map("/{}".format))
def test_what_is_kept_decodes_no_further(raw: str) -> None:
    try:
        target = parse_target(raw)
    except MalformedRequest:
        return
    for segment in target.segments:
        assert not set(segment) & set("/\\;\0\r\n\t")
        assert segment not in (".", "..")
    assert "" not in target.segments[:-1]


REFUSED_HOSTS = [
    pytest.param("a,b", Reason.AMBIGUOUS_HOST, id="111 two hosts"),
    pytest.param("host:0443", Reason.MALFORMED_HOST, id="110 leading zero"),
    pytest.param("host:99999", Reason.MALFORMED_HOST, id="110 no such port"),
    pytest.param("host:\u0664\u0664\u0663", Reason.MALFORMED_HOST, id="110 Arabic digits"),
    pytest.param("host:+443", Reason.MALFORMED_HOST, id="110 sign"),
    pytest.param("host:", Reason.MALFORMED_HOST, id="110 empty port"),
    pytest.param("u@host", Reason.MALFORMED_HOST, id="102 userinfo"),
    pytest.param("host..", Reason.MALFORMED_HOST, id="110 two final dots"),
    pytest.param("", Reason.MALFORMED_HOST, id="110 empty"),
    pytest.param("a b", Reason.MALFORMED_HOST, id="110 space"),
    pytest.param("host\n", Reason.MALFORMED_HOST, id="110 final line break"),
    pytest.param("h\u00f6st", Reason.MALFORMED_HOST, id="108 beyond ASCII"),
    pytest.param("\u212aost", Reason.MALFORMED_HOST, id="108 Kelvin sign folds to k"),
    pytest.param("a" * 254, Reason.MALFORMED_HOST, id="110 too long"),
]


@pytest.mark.parametrize(("raw", "reason"), REFUSED_HOSTS)
def test_refused_host_has_its_reason(raw: str, reason: Reason) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_host(raw)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        ("Httpbin.Foo", "httpbin.foo"),
        ("host.", "host"),
        ("host:443", "host"),
        ("host.:80", "host"),
        ("host:8443", "host:8443"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:443", "[2001:db8::1]"),
        ("192.0.2.1:8080", "192.0.2.1:8080"),
    ],
)
def test_row_110_host_is_compared_in_one_form(raw: str, host: str) -> None:
    assert parse_host(raw) == host


@pytest.mark.parametrize("raw", ["get", "GET\0", "GET ", "", "G" * 33, "10240" * 2048, "G\u00cbT", "GET\n"])
def test_row_114_method_is_an_upper_case_token(raw: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_method(raw)
    assert caught.value.reason is Reason.MALFORMED_METHOD


@pytest.mark.parametrize("raw", ["GET", "PROPFIND", "M-SEARCH"])
def test_row_114_listed_methods_are_for_the_policy(raw: str) -> None:
    assert parse_method(raw) == raw


@pytest.mark.parametrize(
    ("accept", "content_type", "form"),
    [
        (None, None, "json"),
        ("*/*", None, "json"),
        ("application/json, text/html", None, "json"),
        ("text/html,application/xhtml+xml;q=0.9", None, "html"),
        (" text/html;level=1", None, "html"),
        ("text/html2", None, "json"),
        ("text/html", "application/grpc+proto", "grpc"),
    ],
)
def test_form_of_a_refusal(accept: str | None, content_type: str | None, form: str) -> None:
    assert wanted_form(accept, content_type) == form
