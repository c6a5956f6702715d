# SPDX-License-Identifier: Apache-2.0
"""`identity.token_sources` of a sidecar's configuration: where tokens may stand. The docstrings are the manual.

A part of `config_identity`, which takes the section.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iap_authz.errors import shown
from iap_authz.facts.credential import AUTHORIZATION, DEFAULT_SOURCES, LOGIN_HEADER, NAME_MAX_CHARS, Place, TokenSource
from iap_authz.model.document import Section
from iap_authz.model.request import UNTRUSTED_HEADERS

_HEADER = re.compile(r"x-[a-z0-9][a-z0-9-]{0,61}", re.ASCII)
_HEADERS_TAKEN = re.compile(r"x-(?:iap|envoy|forwarded)-.*|x-request-id", re.ASCII)
"""Headers that say something else to us, and of which records keep the value."""

_COOKIE = re.compile(rf"[A-Za-z0-9_.-]{{1,{NAME_MAX_CHARS}}}", re.ASCII)
_PARAMETER = re.compile(rf"[A-Za-z0-9_-]{{1,{NAME_MAX_CHARS}}}", re.ASCII)

_WANTED: Final[Mapping[Place, str]] = {
    Place.HEADER: f"authorization, {LOGIN_HEADER}, or a name x-... in lower case that nothing else uses",
    Place.COOKIE: "1 to 64 letters, digits, dots, hyphens and underscores",
    Place.QUERY: "1 to 64 letters, digits, hyphens and underscores",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSourceConfig:
    """`identity.token_sources[]`: one place where a token may stand; one of the three. Default: `authorization`."""

    header: str
    """`authorization` (`Bearer` and the token), or `x-...`: the token alone, which never reaches the upstream."""
    cookie: str
    """Name of a cookie, exactly. Browsers send it with requests that other sites make, too: see operations.md."""
    query: str
    """Name of a query parameter, exactly. Whoever logs URLs, logs it; records do not hold it."""


def is_free_header(name: str) -> bool:
    """Whether a credential may come in this header."""
    return bool(_HEADER.fullmatch(name)) and not _HEADERS_TAKEN.fullmatch(name) and name not in UNTRUSTED_HEADERS


def take_token_sources(identity: Section) -> tuple[TokenSource, ...]:
    """The list; without it the one place that RFC 6750 wants."""
    sections = identity.take_sections("token_sources")
    if not sections:
        if identity.has("token_sources") and not identity.holds_items("token_sources"):
            identity.fault("token_sources", "got an empty list, want at least one place, such as header: authorization")
        return DEFAULT_SOURCES
    sources = tuple(source for section in sections if (source := _take_source(section)) is not None)
    for label in sorted({source.label for source in sources if sources.count(source) > 1}):
        identity.fault("token_sources", f"got {label} twice")
    return sources or DEFAULT_SOURCES


def _take_source(section: Section) -> TokenSource | None:
    config = TokenSourceConfig(**{place.value: section.take_text(place.value, "") for place in Place})
    section.finish()
    named = [TokenSource(place=place, name=name) for place in Place if (name := str(getattr(config, place.value)))]
    if len(named) != 1:
        section.fault("", f"got {len(named)} of {', '.join(Place)}, want exactly one")
        return None
    (source,) = named
    if not _is_name(source):
        section.fault(source.place.value, f"got {shown(source.name)}, want {_WANTED[source.place]}")
    return source


def _is_name(source: TokenSource) -> bool:
    match source.place:
        case Place.HEADER:
            return source == AUTHORIZATION or source.name == LOGIN_HEADER or is_free_header(source.name)
        case Place.COOKIE:
            return _COOKIE.fullmatch(source.name) is not None
        case Place.QUERY:
            return _PARAMETER.fullmatch(source.name) is not None
