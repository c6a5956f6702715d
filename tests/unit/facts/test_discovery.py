# SPDX-License-Identifier: Apache-2.0
"""Which URLs keys are fetched from, and whose discovery document counts (row 87)."""

import json

import pytest

from iap_authz.errors import Malformed
from iap_authz.facts.discovery import URL_MAX_CHARS, check_https_url, discovery_url, parse_discovery

ISSUER = "https://login.example.com/tenant"
KEYS = "https://keys.example.com/jwks?tenant=1"


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com",
        "https://login.example.com/",
        "https://login.example.com:8443/a/b?c=d&e=%20",
        "https://[2001:db8::1]/keys",
        "https://192.0.2.1:443/keys",
        "https://a/" + "x" * (URL_MAX_CHARS - 10),
    ],
)
def test_a_url_that_names_a_host_by_https_passes(url: str) -> None:
    check_https_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://login.example.com/keys",
        "HTTPS://login.example.com/keys",
        "https://LOGIN.example.com/keys",
        "https://user@login.example.com/keys",
        "https://user:pass@login.example.com/keys",
        "https://login.example.com@evil.example/keys",
        "https://login.example.com/keys#x",
        "https:///keys",
        "https://login.example.com?x",
        "https://login.example.com:0/keys",
        "https://login.example.com:070/keys",
        "https://login.example.com:70000/keys",
        "https://login.example.com/ke ys",
        "https://login.example.com/keys\n",
        "https://login.example.com/k\u00e9ys",
        "https://l\u00f6gin.example.com/keys",
        "https://login.example.com\\.evil.example/keys",
        "https://login.example.com/<keys>",
        "file:///etc/passwd",
        "//login.example.com/keys",
        "https://a/" + "x" * URL_MAX_CHARS,
    ],
)
def test_84_every_other_url_is_refused(url: str) -> None:
    with pytest.raises(Malformed):
        check_https_url(url)


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        (ISSUER, f"{ISSUER}/.well-known/openid-configuration"),
        (f"{ISSUER}/", f"{ISSUER}/.well-known/openid-configuration"),
        ("https://login.example.com", "https://login.example.com/.well-known/openid-configuration"),
    ],
)
def test_the_document_is_below_the_issuer(issuer: str, url: str) -> None:
    assert discovery_url(issuer) == url


@pytest.mark.parametrize(
    "issuer", ["http://login.example.com", "corp", "https://login.example.com/?a=b", f"{ISSUER}#x"]
)
def test_an_issuer_that_is_no_url_has_no_document(issuer: str) -> None:
    with pytest.raises(Malformed):
        discovery_url(issuer)


def document(**members: object) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": KEYS, "scopes_supported": ["openid"], **members}).encode()


def test_the_issuers_own_document_says_where_its_keys_are() -> None:
    assert parse_discovery(document(), issuer=ISSUER) == KEYS


@pytest.mark.parametrize(
    "content",
    [
        document(issuer=f"{ISSUER}/"),
        document(issuer=ISSUER.upper()),
        document(issuer="https://evil.example"),
        document(issuer=None),
        document(issuer=[ISSUER]),
        document(jwks_uri="http://keys.example.com/jwks"),
        document(jwks_uri=None),
        document(jwks_uri=[KEYS]),
        b"{}",
        b"[]",
        b"",
        b"<html>",
        b'{"issuer": "https://evil.example", "issuer": "%s", "jwks_uri": "%s"}' % (ISSUER.encode(), KEYS.encode()),
        b'{"a": ' * 20 + b"1" + b"}" * 20,
    ],
)
def test_87_every_other_document_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        parse_discovery(content, issuer=ISSUER)
