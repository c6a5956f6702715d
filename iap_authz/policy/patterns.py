# SPDX-License-Identifier: Apache-2.0
"""The small languages inside a policy: hosts, methods, paths, header names, redirect addresses.

    host     orders.example.com   *.example.com   10.0.0.7:8443   [2001:db8::1]
    path     /api/orders/{id}/items/*    /api/**    /
    header   x-team

Each `parse_*` takes text and raises `Malformed`, with what was got and what was wanted; the caller knows the place.

Paths are compared segment by segment with *decoded* segments: "/" is one empty segment, "/a/" is "a" and an empty
one. `*` and `{name}` take exactly one segment, also an empty one; `**` stands last and takes any number, also none.
Nothing here matches anything; `routes` does.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from iap_authz.errors import Malformed, shown
from iap_authz.model.document import Text
from iap_authz.policy.source import METHODS_BY_DEFAULT, PathPattern

HOST_MAX_CHARS = 253 + 6
"""A DNS name in text (RFC 1035 2.3.4) and a port with its colon."""

PATH_MAX_SEGMENTS = 64
"""Deeper than any interface seen; bounds the recursion of a look-up."""

HEADER_NAME_MAX_CHARS = 128
"""Longer than any registered field name."""

PORT_MAX = 65_535
"""Of the 16 bits of a TCP port."""

AUDIENCE_MAX_CHARS = 255
"""Longer than any name or address of an application; bounds the header that it goes into."""

REDIRECT_MAX_CHARS = 2_048
"""What every browser takes in a Location field."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_LEVEL = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_CAPTURE = re.compile(r"\{([a-z_][a-z0-9_]{0,62})\}", re.ASCII)
_NOT_IN_SEGMENT = re.compile(r"[%?#\\*{};\x00-\x1f\x7f]")
_HEADER = re.compile(r"[!#$%&'*+.^`|~0-9a-z-]+", re.ASCII)
_HEADER_REFUSED = re.compile(r"x-envoy-.*|x-iap-.*")
_HEADERS_REFUSED = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
"""RFC 9110 7.6.1 and what frames or routes a message: never a policy's to set."""

_CEL_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ]
)
"""Words that CEL's grammar does not take as a name (langdef, "Syntax")."""

_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
_ACR = re.compile(r"[!#-\[\]-~](?:[ !#-\[\]-~]{0,254}[!#-\[\]-~])?", re.ASCII)


def parse_name(text: str) -> str:
    """The name of a policy, route or rule: `[a-z0-9][a-z0-9-]*`, at most 63 characters."""
    if not _NAME.fullmatch(text):
        raise Malformed(f"got {shown(text)}, want lower-case letters, digits and hyphens, at most 63")
    return text


def parse_level_name(text: str) -> str:
    """The name of a level: what CEL takes after `level.`, in lower case, at most 63 characters."""
    if not _LEVEL.fullmatch(text) or text in _CEL_RESERVED:
        raise Malformed(f"got {shown(text)}, want lower-case letters, digits and underscores, at most 63, no CEL word")
    return text


def parse_method(text: str) -> str:
    """An HTTP method. Methods are compared exactly, and requests with another than an upper-case one are refused."""
    if not _METHOD.fullmatch(text):
        hint = f" (did you mean {text.upper()}?)" if text.upper() in METHODS_BY_DEFAULT else ""
        raise Malformed(f"got {shown(text)}, want an HTTP method in upper case{hint}")
    return text


def parse_host(text: str) -> str:
    """A host in the form in which requests carry it after normalisation, or `*.` and the end of such a host."""
    if text != text.lower():
        raise Malformed(f"got {shown(text)}, want lower case (did you mean {shown(text.lower())}?)")
    name, port = _split_port(text)
    if port is not None and (not _PORT.fullmatch(port) or int(port) > PORT_MAX):
        raise Malformed(f"got {shown(text)}, want a port from 1 to 65535 after the colon")
    if name.startswith("["):
        return _parse_ipv6(text, name)
    if len(text) > HOST_MAX_CHARS or not _HOST.fullmatch(name):
        raise Malformed(f"got {shown(text)}, want a host name, an address, or *. and the end of a host name")
    if name.startswith("*.") and name.rpartition(".")[2].isdigit():
        raise Malformed(f"got {shown(text)}, want no wildcard in front of an address")
    return text


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        name, bracket, after = text.partition("]")
        return name + bracket, after[1:] if after.startswith(":") else (after or None)
    name, colon, port = text.partition(":")
    return name, port if colon else None


def _parse_ipv6(text: str, name: str) -> str:
    try:
        address = ipaddress.IPv6Address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise Malformed(f"got {shown(text)}, want an IPv6 address in brackets") from None
    if not name.endswith("]"):
        raise Malformed(f"got {shown(text)}, want an IPv6 address in brackets")
    if f"[{address.compressed}]" != name:
        raise Malformed(f"got {shown(text)}, want the canonical form [{address.compressed}]")
    return text


def parse_path(text: Text) -> PathPattern:
    """A path pattern over decoded segments."""
    if not text.value.startswith("/"):
        raise Malformed(f"got {shown(text.value)}, want a path that starts with /")
    parts = text.value[1:].split("/")
    if len(parts) > PATH_MAX_SEGMENTS:
        raise Malformed(f"got {len(parts)} segments, want at most {PATH_MAX_SEGMENTS}")
    rest = parts[-1] == "**"
    if rest:
        del parts[-1]
    segments: list[str | None] = []
    captures: list[tuple[int, str]] = []
    for position, part in enumerate(parts):
        capture = _CAPTURE.fullmatch(part)
        if capture:
            captures.append((position, capture[1]))
        segments.append(
            None if capture or part == "*" else _parse_segment(part, last=position == len(parts) - 1 and not rest)
        )
    if len({name for _, name in captures}) != len(captures):
        raise Malformed(f"got {shown(text.value)}, want each name in braces once")
    return PathPattern(text=text, segments=tuple(segments), captures=tuple(captures), rest=rest)


def _parse_segment(part: str, *, last: bool) -> str:
    if part == "**":
        raise Malformed("got ** before the end, want it as the last segment only")
    bad = _NOT_IN_SEGMENT.search(part)
    if bad:
        raise Malformed(
            f"got {shown(bad[0])} in segment {shown(part)}, want decoded text, * or {{name}} as a whole segment, or **"
        )
    if part in (".", "..") or (not part and not last):
        raise Malformed(f"got the segment {shown(part)}, want a path as it is after normalisation")
    return part


def parse_header_name(text: str) -> str:
    """A header that a route may set for the upstream: a lower-case token that does not steer the proxy itself.

    No underscore: upstreams that fold it into a hyphen would take one client header for another.
    """
    if len(text) > HEADER_NAME_MAX_CHARS or not _HEADER.fullmatch(text):
        raise Malformed(f"got {shown(text)}, want a lower-case header name without underscores")
    if text in _HEADERS_REFUSED or _HEADER_REFUSED.fullmatch(text):
        raise Malformed(f"got {shown(text)}, want a header that a policy may set")
    return text


def parse_audience(text: str) -> str:
    """The `aud` of an assertion: a name or address in visible ASCII, compared byte for byte by who is meant."""
    if len(text) > AUDIENCE_MAX_CHARS or not _VISIBLE.fullmatch(text):
        want = f"1 to {AUDIENCE_MAX_CHARS} visible ASCII characters without a blank"
        raise Malformed(f"got {shown(text)}, want {want}")
    return text


def parse_redirect(text: str) -> str:
    """An absolute https address without credentials; plain http only for a loopback host."""
    want = "an absolute https URL, or http on a loopback host"
    if len(text) > REDIRECT_MAX_CHARS or not _VISIBLE.fullmatch(text) or re.search(r'[\\"<>^`{|}]', text):
        raise Malformed(f"got {shown(text)}, want {want}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise Malformed(f"got {shown(text)}, want {want}") from None
    scheme_holds = text.startswith("https://") or (text.startswith("http://") and _is_loopback(host))
    if not scheme_holds or not host or "@" in parts.netloc or "%" in parts.netloc:
        raise Malformed(f"got {shown(text)}, want {want}")
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_acr(text: str) -> str:
    """Authentication context values as they stand in a quoted string of a challenge (RFC 9470)."""
    if not _ACR.fullmatch(text):
        raise Malformed(f"got {shown(text)}, want visible ASCII without quotes and backslashes, at most 256 characters")
    return text
