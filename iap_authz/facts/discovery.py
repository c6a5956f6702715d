# SPDX-License-Identifier: Apache-2.0
"""Where an issuer's keys are: its discovery document, and which URLs anything is fetched from.

The invariant: a URL that passes names a host by https and nothing else: no user, no fragment, no second spelling. A
document counts only for the issuer that it names itself, byte for byte.

    https://login.example.com/tenant/  ->  https://login.example.com/tenant/.well-known/openid-configuration
    {"issuer": "https://login.example.com/tenant/", "jwks_uri": "https://keys.example.com/jwks", ...}

Specification: OpenID Connect Discovery 1.0 sections 4.1 and 4.3. Deliberately not read: all other members, algorithms
and endpoints among them; what is accepted is configured. That a name does not lead to a private address is for whoever
resolves it.
"""

import re

from iap_authz.errors import Malformed, shown
from iap_authz.facts.encoding import parse_json_object

DISCOVERY_PATH = "/.well-known/openid-configuration"
"""OpenID Connect Discovery 1.0 section 4."""

DISCOVERY_MAX_DEPTH = 8
"""Documents in use are two levels deep."""

URL_MAX_CHARS = 2_048
"""Longer than any URL of a key set; what other software takes."""

_URL = re.compile(
    r"https://(?P<host>[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[1-9][0-9]{0,4}))?(?P<rest>/[!-~]*)?"
)
"""Lower case, ASCII, without user; the rest is judged by its characters."""

_PORT_MAX = 65_535


def check_https_url(text: str) -> None:
    """Raise Malformed unless `text` is a URL that keys may be fetched from."""
    match = _URL.fullmatch(text) if len(text) <= URL_MAX_CHARS else None
    if match is None or set('#\\"<>^`{|}').intersection(match["rest"] or ""):
        raise Malformed(f"got {shown(text)}, want an https URL in lower case, without a user and a fragment")
    if int(match["port"] or 0) > _PORT_MAX:
        raise Malformed(f"got {shown(text)}, want a port up to {_PORT_MAX}")


def discovery_url(issuer: str) -> str:
    """Where the document of an issuer is. Raises Malformed for one that is no https URL."""
    url = issuer.removesuffix("/") + DISCOVERY_PATH
    check_https_url(url)
    if "?" in issuer:
        raise Malformed(f"got the issuer {shown(issuer)}, want one without a query")
    return url


def parse_discovery(content: bytes, *, issuer: str) -> str:
    """The URL of the issuer's key set. Raises Malformed for another issuer's document, or none."""
    members = parse_json_object(content, max_depth=DISCOVERY_MAX_DEPTH)
    said, url = members.get("issuer"), members.get("jwks_uri")
    if said != issuer:
        got = shown(said) if isinstance(said, str) else "none"
        raise Malformed(f"got a discovery document of the issuer {got}, want {shown(issuer)}, byte for byte")
    if not isinstance(url, str):
        raise Malformed("got a discovery document without a jwks_uri")
    check_https_url(url)
    return url
