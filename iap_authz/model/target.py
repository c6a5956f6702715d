# SPDX-License-Identifier: Apache-2.0
"""Method, host and path of a request, read the one safe way or refused.

The policy must see what the upstream will see. Envoy normalises first (dot segments, doubled slashes, backslashes,
unreserved escapes); whatever is still doubtful after that is refused here, because some upstream reads it in another
way. Nothing is trimmed, folded or decoded twice.

    raw path  ->  "/" segment *("/" segment) ["?" query]      RFC 9112 section 3.2.1 origin-form, RFC 3986 section 3.3
    segment   ->  decoded once, UTF-8, no control character, nothing that decodes or folds any further

It deliberately does not normalise: a path that is not normal is evidence that Envoy is not configured as it must be.
"""

import re
import unicodedata
from dataclasses import dataclass

from iap_authz.errors import MalformedRequest, shown
from iap_authz.model.reason import Reason

PATH_MAX_BYTES = 8_192
"""Common limit of servers and proxies for a request target (RFC 9110 section 4.1 asks for at least 8,000)."""

METHOD_MAX_CHARS = 32
"""Longer than any method of the IANA registry."""

HOST_MAX_CHARS = 253
"""The longest DNS name in text (RFC 1035 section 2.3.4)."""

DEFAULT_PORTS = ("80", "443")
"""Ports that say nothing beyond the scheme."""

_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*", re.ASCII)
_HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_IPV6_LITERAL = re.compile(r"\[[0-9a-f:.]{2,45}\]", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)
_QUERY_CHARACTERS = re.compile(r"[\x21-\x7e]*", re.ASCII)
_PORT_MAX = 65_535
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A path as the upstream gets it, its segments decoded once, and the raw query without its question mark."""

    path: str
    segments: tuple[str, ...]
    query: str


def parse_method(text: str) -> str:
    """The method, exactly. Raises MalformedRequest for anything but an upper-case token."""
    if len(text) > METHOD_MAX_CHARS or not _METHOD.fullmatch(text):
        raise MalformedRequest(Reason.MALFORMED_METHOD, f"got method {shown(text)}, want an upper-case token")
    return text


def parse_host(text: str) -> str:
    """The host in lower case without a default port and one final dot.

    Raises MalformedRequest where it is not one host name or address literal with an optional port: a comma (Envoy
    joins two Host headers with one), userinfo, spaces, a port with leading zeros.
    """
    if "," in text:
        raise MalformedRequest(Reason.AMBIGUOUS_HOST, f"got host {shown(text)}, want one host")
    host, port = _split_port(text.lower() if text.isascii() else text)
    name = host.removesuffix(".")
    literal = _IPV6_LITERAL.fullmatch(name)
    labels = name.split(".")
    if len(name) > HOST_MAX_CHARS or not (literal or all(_HOST_LABEL.fullmatch(label) for label in labels)):
        raise MalformedRequest(Reason.MALFORMED_HOST, f"got host {shown(text)}, want a host name with an optional port")
    return name if port is None or port in DEFAULT_PORTS else f"{name}:{port}"


def _split_port(text: str) -> tuple[str, str | None]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, None
    if not _PORT.fullmatch(port) or int(port) > _PORT_MAX:
        raise MalformedRequest(Reason.MALFORMED_HOST, f"got port {shown(port)}, want 1 to {_PORT_MAX}")
    return host, port


def parse_target(raw: str) -> Target:
    """Split and judge the raw `:path`. Raises MalformedRequest with the reason that names the trick."""
    if not raw.startswith("/") or len(raw) > PATH_MAX_BYTES:
        what = f"{len(raw)} characters" if raw.startswith("/") else shown(raw)
        raise MalformedRequest(Reason.MALFORMED_PATH, f"got path {what}, want an absolute path up to {PATH_MAX_BYTES}")
    if not raw.isascii():
        raise MalformedRequest(Reason.PATH_NOT_ASCII, f"got path {shown(raw)}, want ASCII")
    path, _, query = raw.partition("?")
    if not _QUERY_CHARACTERS.fullmatch(query):
        raise MalformedRequest(Reason.PATH_CONTROL, "got a control character or space in the query")
    if "#" in raw:
        raise MalformedRequest(Reason.MALFORMED_PATH, f"got path {shown(raw)} with a fragment, want none")
    raw_segments = path[1:].split("/")
    segments = tuple(_parse_segment(segment) for segment in raw_segments)
    if "" in segments[:-1]:
        raise MalformedRequest(Reason.PATH_NOT_NORMAL, f"got path {shown(path)} with an empty segment")
    return Target(path=path, segments=segments, query=query)


def _parse_segment(raw: str) -> str:
    """One segment, decoded once; the checks are ordered so that each trick has one reason."""
    if "\\" in raw:
        raise MalformedRequest(Reason.PATH_NOT_NORMAL, f"got segment {shown(raw)} with a backslash")
    text = _decode_once(raw)
    if any(unicodedata.category(character) in _INVISIBLE for character in text):
        raise MalformedRequest(Reason.PATH_CONTROL, f"got segment {shown(raw)} with a control character")
    if text in (".", ".."):
        raise MalformedRequest(Reason.PATH_NOT_NORMAL, f"got dot segment {shown(raw)}")
    if "/" in text or "\\" in text:
        raise MalformedRequest(Reason.PATH_ENCODED_SLASH, f"got segment {shown(raw)} with an encoded slash")
    if ";" in text:
        raise MalformedRequest(Reason.PATH_PARAMETERS, f"got segment {shown(raw)} with path parameters")
    if _ESCAPE.search(text):
        raise MalformedRequest(Reason.PATH_DOUBLE_ENCODED, f"got segment {shown(raw)}, which decodes twice")
    if not text.isascii():
        _check_unfolded(raw, text)
    return text


def _decode_once(raw: str) -> str:
    """Behind the percent escapes, UTF-8."""
    if "%" not in raw:
        return raw
    if raw.count("%") != len(_ESCAPE.findall(raw)):
        raise MalformedRequest(Reason.MALFORMED_PATH, f"got segment {shown(raw)} with a broken percent escape")
    decoded = re.sub(rb"%[0-9A-Fa-f]{2}", lambda match: bytes((int(match[0][1:], 16),)), raw.encode("ascii"))
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        message = f"got segment {shown(raw)}, want UTF-8 behind its escapes"
        raise MalformedRequest(Reason.PATH_NOT_ASCII, message) from None


def _check_unfolded(raw: str, text: str) -> None:
    """Refuse what some upstream would fold into other text: a full-width slash, a Kelvin sign, a dotless i."""
    if unicodedata.normalize("NFKC", text) != text:
        raise MalformedRequest(Reason.PATH_NOT_ASCII, f"got segment {shown(raw)}, want Unicode in normal form NFKC")
    for character in text:
        if not character.isascii() and any(
            folded.isascii() for folded in (character.upper(), character.lower(), character.casefold())
        ):
            raise MalformedRequest(Reason.PATH_NOT_ASCII, f"got segment {shown(raw)}, which folds to ASCII")


HTML_PREFERRED = re.compile(r"\s*text/html\s*(?:;|,|$)", re.ASCII)
"""A browser that navigates names text/html first."""


def wanted_form(accept: str | None, content_type: str | None) -> str:
    """Who a refusal is rendered for: "grpc", "html" or "json"."""
    if content_type is not None and content_type.startswith("application/grpc"):
        return "grpc"
    if accept is not None and HTML_PREFERRED.match(accept):
        return "html"
    return "json"
