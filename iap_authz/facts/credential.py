# SPDX-License-Identifier: Apache-2.0
"""The one credential that a request shows: where it may stand, and what it is when it stands there in one spelling.

The invariant: what is returned is the only credential of the request in all configured places, and every reader that
looks for it there finds this text or none. A place that two readers could read two ways, or two places, even with one
text, are AMBIGUOUS_CREDENTIALS, so that nothing behind us sees a credential that we did not judge.

    header authorization   Bearer SP token      exactly this spelling, one space, no white space and no comma
                           other SP anything    another scheme: no token was shown (Basic, Negotiate, DPoP)
                           anything else        ambiguous; a comma in any scheme: Envoy joins two such headers with one
    header x-...           token                alone, no white space and no comma
    cookie NAME            NAME=token           pairs parted by "; "; a pair that another parser would find, too, counts
    query NAME             NAME=token           pairs parted by "&"; the same; no percent-encoding in name or token

An API key comes in a header of its own and never beside a token. Only configured places are looked at; by default that
is `authorization`, so a token in a query or a cookie is never read unless somebody wants it to be.

Specification: RFC 6750 section 2, RFC 9110 section 11.6.2, RFC 6265 section 5.4. Deliberately not here: what the text
is worth (`token`, `apikey`); form bodies; other headers that name a user. Nothing is skipped for any user agent.
"""

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from iap_authz.errors import InvalidCredential
from iap_authz.model.reason import Reason
from iap_authz.model.request import UNTRUSTED_HEADERS, Request

HIDDEN_VALUE: Final = "hidden"
"""What a record has in the place of a token that came in the query."""

_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 11.4: a scheme; after one space comes what it needs, without the comma that joins two headers."""

_COOKIE_MARKS = re.compile(r"[;,]")
_QUERY_MARKS = re.compile(r"[&;]")
"""Where any parser, of whatever age, ends a pair."""


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
    names = {_folded(source.name) for source in sources if source.place is Place.QUERY}
    if not names:
        return request
    urls = {
        name: tuple(_hidden_in_url(value, names) for value in request.headers[name])
        for name in UNTRUSTED_HEADERS & request.headers.keys()
    }
    return replace(
        request,
        query=_hidden(request.query, names),
        raw_path=_hidden_in_url(request.raw_path, names),
        headers={**request.headers, **urls},
    )


def _hidden_in_url(url: str, names: set[str]) -> str:
    path, mark, query = url.partition("?")
    return path + mark + _hidden(query, names)


def _hidden(query: str, names: set[str]) -> str:
    parts = re.split(r"([&;])", query)
    for position in range(0, len(parts), 2):
        name, equals, _ = parts[position].partition("=")
        if equals and _folded(name) in names:
            parts[position] = f"{name}={HIDDEN_VALUE}"
    return "".join(parts)


def _ambiguous(message: str) -> InvalidCredential:
    return InvalidCredential(Reason.AMBIGUOUS_CREDENTIALS, message)


def _read_api_key(request: Request, sources: Sequence[TokenSource], header: str) -> Shown:
    if "authorization" in request.headers or any(
        next(iter(_ALL_SHOWN[source.place](request, source.name)), None) is not None for source in sources
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
    pairs = [pair for value in values for pair in value.split("; ")]
    return _only(pairs, [*_cookies(request, name)], name=name, what="cookie")


def _read_parameter(request: Request, name: str) -> str | None:
    if not request.query:
        return None
    return _only(request.query.split("&"), [*_parameters(request, name)], name=name, what="query parameter")


def _only(pairs: Sequence[str], everybodys: Sequence[str], *, name: str, what: str) -> str | None:
    """The value of `name` among `pairs`, read strictly; `everybodys`: all values that some other parser might find."""
    strict = [pair.removeprefix(f"{name}=") for pair in pairs if pair.startswith(f"{name}=")]
    if len(everybodys) > 1 or strict != list(everybodys):
        raise _ambiguous(f"got the {what} {name} more than once, or so that it can be read two ways, want it once")
    return strict[0] if strict else None


def _headers(request: Request, name: str) -> Iterator[str]:
    yield from request.headers.get(name, ())


def _cookies(request: Request, name: str) -> Iterator[str]:
    for value in request.headers.get("cookie", ()):
        yield from _values(_COOKIE_MARKS.split(value), name)


def _parameters(request: Request, name: str) -> Iterator[str]:
    yield from _values(_QUERY_MARKS.split(request.query), name)


def _values(pairs: Sequence[str], name: str) -> Iterator[str]:
    folded = _folded(name)
    for pair in pairs:
        found, equals, value = pair.partition("=")
        if equals and _folded(found) == folded:
            yield value


def _folded(name: str) -> str:
    """A name as the most generous parser reads it: decoded, trimmed, without case, punctuation all the same."""
    return re.sub(r"[-.\s]", "_", unquote_plus(name).partition("[")[0].strip().lower())


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
