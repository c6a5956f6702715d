# SPDX-License-Identifier: Apache-2.0
"""The one credential that a request shows: where it may stand, and what it is when it stands there in one spelling.

The invariant: what is returned is the only credential of the request in all configured places, and every reader that
looks for it there finds this text or none. A place that two readers could read two ways, or two places, even with one
text, are AMBIGUOUS_CREDENTIALS, so that nothing behind us sees a credential that we did not judge.

    header authorization   Bearer SP token      exactly this spelling, one space, no white space and no comma
                           other SP anything    another scheme: no token (Basic, DPoP), and none may stand elsewhere
                           anything else        ambiguous; a comma in any scheme: Envoy joins two such headers with one
    header x-...           token                alone, no white space and no comma
    cookie NAME            NAME=token           pairs parted by "; "; a pair that another parser would find counts
    query NAME             NAME=token           pairs parted by "&"; the same; no percent-encoding in name or token

An API key comes in a header of its own and never beside a token. Only configured places are looked at; by default that
is `authorization`, so a token in a query or a cookie is never read unless somebody wants it to be.

Specification: RFC 6750 section 2, RFC 9110 section 11.6.2, RFC 6265 section 5.4. Deliberately not here: what the text
is worth (`token`, `apikey`); form bodies; other headers that name a user. Nothing is skipped for any user agent.
"""

import enum
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from iap_authz.errors import InvalidCredential
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request

LOGIN_HEADER: Final = "x-iap-id-token"
"""The one header of ours that a filter of Envoy may set: a client's own is removed before any filter runs."""

HIDDEN_VALUE: Final = "hidden"
"""What a record has in the place of a token that came in the query."""

_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 11.4: a scheme; after one space comes what it needs, without the comma that joins two headers."""

_COOKIE_MARKS = re.compile(r"[;,\s]")
_QUERY_MARKS = re.compile(r"[&;]")
"""Where any parser, of whatever age, ends a pair."""

PAIRS_MAX: Final = 200
"""Cookies or parameters that are looked through; browsers keep fewer cookies of a host. More could hide one."""

NAME_MAX_CHARS: Final = 64
"""Of a cookie or parameter that a token comes in (`config_tokens`)."""

_RAW_NAME_MAX_CHARS: Final = 6 * NAME_MAX_CHARS + 16
"""A longer name cannot be read as one of those: `%u0041` is the longest spelling of a character."""

_LONG_ESCAPE = re.compile(r"%u([0-9A-Fa-f]{4})")
_PUNCTUATION = re.compile(r"[-.\s]")
_BRACKETS = re.compile(r"[\[\]]+")


class Place(enum.StrEnum):
    """Where a token may stand; the value is its name in the configuration."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """One place. `name`: of the header in lower case, of the cookie or parameter exactly."""

    place: Place
    name: str
    label: str = field(init=False)
    """For `Identity.shown_in`, such as `header:authorization`."""

    def __post_init__(self) -> None:
        """Join the label once: each request asks for it."""
        object.__setattr__(self, "label", f"{self.place.value}:{self.name}")


AUTHORIZATION: Final = TokenSource(place=Place.HEADER, name="authorization")
DEFAULT_SOURCES: Final = (AUTHORIZATION,)


class Shown(NamedTuple):
    """A credential's text, unjudged, and where it stood. A tuple, because each request makes one."""

    text: str
    shown_in: str
    is_api_key: bool = False


def read_credential(request: Request, sources: Sequence[TokenSource], *, api_key_header: str = "") -> Shown | None:
    """What the request shows, None if nothing. Raises InvalidCredential(AMBIGUOUS_CREDENTIALS).

    `api_key_header` empty: API keys are not taken, and their header is one like any other.
    """
    if api_key_header and request.headers.get(api_key_header):
        return _read_api_key(request, sources, api_key_header)
    found: Shown | None = None
    for source in sources:
        text = _READERS[source.place](request, source.name)
        if text is None:
            continue
        if found is not None:
            raise _ambiguous(f"got a token in {found.shown_in} and in {source.label}, want one credential")
        found = Shown(text, source.label)
    if found is None or found.shown_in == AUTHORIZATION.label or AUTHORIZATION not in sources:
        return found
    if request.headers.get(AUTHORIZATION.name):
        raise _ambiguous(f"got a token in {found.shown_in} and an authorization header, want one credential")
    return found


def shown_text(request: Request, sources: Sequence[TokenSource], *, api_key_header: str = "") -> str:
    """What an ambiguous request shows, so that its repetitions can be joined: all of it but a scheme's name."""
    if api_key_header and request.headers.get(api_key_header):
        return ",".join(request.headers[api_key_header])
    text = ",".join(part for source in sources for part in _ALL_SHOWN[source.place](request, source.name))
    return text[len("bearer") :].strip() if text[: len("bearer")].lower() == "bearer" else text


def hide_query_tokens(request: Request, sources: Sequence[TokenSource]) -> Request:
    """The same request without the token, in its query and in what else of it says the URL: what records have.

    Pairs that any parser could take for the token lose their value, whatever it is. Without a source in the query this
    is `request` itself.
    """
    names = frozenset(source.name for source in sources if source.place is Place.QUERY)
    if not names:
        return request
    urls = {
        name: tuple(_hidden_in_url(value, names) for value in values)
        for name, values in request.headers.items()
        if any("?" in value for value in values)
    }
    return replace(
        request,
        query=_hidden(request.query, names),
        raw_path=_hidden_in_url(request.raw_path, names),
        headers={**request.headers, **urls},
    )


def _hidden_in_url(url: str, names: frozenset[str]) -> str:
    path, mark, query = url.partition("?")
    return path + mark + _hidden(query, names)


def _hidden(query: str, names: frozenset[str]) -> str:
    parts = re.split(r"([&;])", query)
    if len(parts) > 2 * PAIRS_MAX:
        return HIDDEN_VALUE
    for position in range(0, len(parts), 2):
        name, equals, _ = parts[position].partition("=")
        if equals and any(_may_be(name, token_name) for token_name in names):
            parts[position] = f"{name}={HIDDEN_VALUE}"
    return "".join(parts)


def _ambiguous(message: str) -> InvalidCredential:
    return InvalidCredential(Reason.AMBIGUOUS_CREDENTIALS, message)


def _read_api_key(request: Request, sources: Sequence[TokenSource], header: str) -> Shown:
    if "authorization" in request.headers or any(
        _READERS[source.place](request, source.name) is not None for source in sources
    ):
        raise _ambiguous(f"got {header} and another credential, want one")
    values = request.headers[header]
    if len(values) > 1 or "," in values[0]:
        raise _ambiguous(f"got more than one value of {header}, want one")
    return Shown(text=values[0], shown_in=f"header:{header}", is_api_key=True)


def _read_header(request: Request, name: str) -> str | None:
    values = request.headers.get(name, ())
    if not values:
        return None
    if len(values) > 1:
        raise _ambiguous(f"got {len(values)} {name} headers, want one")
    if name == AUTHORIZATION.name:
        return _bearer_token(values[0])
    (text,) = values
    if "," in text or (text and text.split() != [text]):
        raise _ambiguous(f"got a comma or white space in {name}, want the token alone")
    return text


def _bearer_token(value: str) -> str | None:
    scheme, _, rest = value.partition(" ")
    if "," in rest or not _SCHEME.fullmatch(scheme):
        raise _ambiguous("got an authorization header that is not scheme SP token")
    if scheme.lower() != "bearer":
        return None
    if scheme != "Bearer" or rest.split() != [rest]:
        raise _ambiguous('want exactly "Bearer", one space and the token')
    return rest


def _read_cookie(request: Request, name: str) -> str | None:
    values = request.headers.get("cookie", ())
    if not values:
        return None
    strict = [pair for value in values for pair in value.split("; ")]
    return _only(strict, _cookie_pairs(request), name=name, what="cookie")


def _read_parameter(request: Request, name: str) -> str | None:
    if not request.query:
        return None
    return _only(request.query.split("&"), _parameter_pairs(request), name=name, what="query parameter")


def _only(strict: Sequence[str], everybodys: Sequence[str], *, name: str, what: str) -> str | None:
    """The value of `name` in the pairs as they are read strictly, if all that others may read there is the same."""
    if len(everybodys) > PAIRS_MAX:
        raise _ambiguous(f"got more than {PAIRS_MAX} pairs where the {what} {name} may be")
    values = [pair.removeprefix(f"{name}=") for pair in strict if pair.startswith(f"{name}=")]
    if len(values) > 1 or values != [*_values(everybodys, name)]:
        raise _ambiguous(f"got the {what} {name} more than once, or so that it can be read two ways, want it once")
    return values[0] if values else None


def _headers(request: Request, name: str) -> Iterator[str]:
    yield from request.headers.get(name, ())


def _cookies(request: Request, name: str) -> Iterator[str]:
    yield from _values(_cookie_pairs(request)[:PAIRS_MAX], name)


def _parameters(request: Request, name: str) -> Iterator[str]:
    yield from _values(_parameter_pairs(request)[:PAIRS_MAX], name)


def _cookie_pairs(request: Request) -> list[str]:
    """Wherever somebody may see a pair. White space around an equals sign is nothing to most, and to none a mark."""
    values = ("=".join(part.strip() for part in value.split("=")) for value in request.headers.get("cookie", ()))
    return [pair for value in values for pair in _COOKIE_MARKS.split(value) if pair]


def _parameter_pairs(request: Request) -> list[str]:
    return _QUERY_MARKS.split(request.query)


def _values(pairs: Sequence[str], name: str) -> Iterator[str]:
    for pair in pairs:
        found, equals, value = pair.partition("=")
        if equals and _may_be(found, name):
            yield value


def _may_be(written: str, name: str) -> bool:
    """Whether some parser reads what is `written` as `name`."""
    if written == name:
        return True
    if len(written) > _RAW_NAME_MAX_CHARS:
        return False
    return not _readings(written).isdisjoint(_readings(name))


@functools.lru_cache(maxsize=1024)
def _readings(written: str) -> frozenset[str]:
    """What parsers make of a name: decoded, cut at NUL, trimmed, without case, punctuation all the same.

    Brackets are steps into a list or map to most, and nothing at the start; an open one is an underscore to PHP.
    """
    decoded = unquote_plus(_LONG_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), written))
    plain = _PUNCTUATION.sub("_", decoded.partition("\0")[0].strip().strip("\"'").strip().lower())
    steps = [step for step in _BRACKETS.split(plain) if step]
    return frozenset({*steps[:1], plain.replace("[", "_")})


_READERS: Final[Mapping[Place, Callable[[Request, str], str | None]]] = {
    Place.HEADER: _read_header,
    Place.COOKIE: _read_cookie,
    Place.QUERY: _read_parameter,
}
_ALL_SHOWN: Final[Mapping[Place, Callable[[Request, str], Iterator[str]]]] = {
    Place.HEADER: _headers,
    Place.COOKIE: _cookies,
    Place.QUERY: _parameters,
}
