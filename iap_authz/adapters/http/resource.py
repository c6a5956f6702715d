# SPDX-License-Identifier: Apache-2.0
"""What may be asked for over HTTP, and how it is sent: the request line and a few headers, parsed strictly.

The invariant: a target names a resource in the one spelling that C2SP tlog-tiles gives it, byte for byte, or nothing.
So nothing else of the store has a name here (`stage/`, the head, locks, directories), and caches hold one copy.

    /checkpoint                      text/plain; charset=utf-8, asked for again each time
    /tile/<L>/<N>[.p/<W>]            application/octet-stream, for ever
    /tile/entries/<N>[.p/<W>]        the same, and the only one that gzip makes smaller

Percent encoding, doubled slashes, a query: all 404, as if there were no such thing. Specification: C2SP tlog-tiles;
RFC 9110 12.5.3 (Accept-Encoding) and 13.1.2 (If-None-Match).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from iap_authz.errors import Malformed, NotFound, shown
from iap_authz.tlog.tiles import parse_bundle, parse_bundle_path, parse_tile, parse_tile_path

CHECKPOINT_MAX_BYTES = 64 * 1024
"""Of a signed checkpoint: far above sixteen signatures. A larger one has been damaged."""

FOREVER = "public, max-age=31536000, immutable"
"""A year, which is the longest that caches take seriously (RFC 9111 1.2.2 asks for no more than 2^31 s)."""

EVERY_TIME = "no-cache"
"""Kept by caches, but asked for again before each use: the entity tag makes that cheap."""

_ENTRIES = "tile/entries/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing of the store. `check` raises Malformed for content that cannot be what the path says."""

    path: str
    media_type: str
    cache_control: str
    compressible: bool
    check: Callable[[bytes], object]


def _check_checkpoint(content: bytes) -> None:
    if not 1 <= len(content) <= CHECKPOINT_MAX_BYTES:
        raise Malformed(f"got a checkpoint of {len(content)} bytes, want 1 to {CHECKPOINT_MAX_BYTES}")


CHECKPOINT = Resource(
    path="checkpoint",
    media_type="text/plain; charset=utf-8",
    cache_control=EVERY_TIME,
    compressible=False,
    check=_check_checkpoint,
)


def parse_target(target: bytes, *, serve_entries: bool) -> Resource:
    """The resource that a request target names, as it stands in the request line without its query.

    Raises Malformed, or NotFound for an entry bundle when these are not served.
    """
    try:
        path = target.decode("ascii").removeprefix("/")
    except UnicodeDecodeError:
        raise Malformed(f"got target {shown(target)}, want ASCII") from None
    if len(path) == len(target):
        raise Malformed(f"got target {shown(target)}, want one that starts with a slash")
    if path == CHECKPOINT.path:
        return CHECKPOINT
    if not path.startswith(_ENTRIES):
        width = parse_tile_path(path).width
        return _immutable(path, lambda content: parse_tile(content, width), compressible=False)
    width = parse_bundle_path(path).width
    if not serve_entries:
        raise NotFound("entry bundles are not served here")
    return _immutable(path, lambda content: parse_bundle(content, width), compressible=True)


def _immutable(path: str, check: Callable[[bytes], object], *, compressible: bool) -> Resource:
    return Resource(
        path=path,
        media_type="application/octet-stream",
        cache_control=FOREVER,
        compressible=compressible,
        check=check,
    )


def names_tag(if_none_match: Iterable[str], tag: str) -> bool:
    """Whether the If-None-Match lines of a request name this entity tag, by the weak comparison of RFC 9110 8.8.3.2.

    Our tags have no comma in them, so an odd tag of somebody else's, cut at one, can only fail to match.
    """
    named = {item.strip(" \t").removeprefix("W/") for line in if_none_match for item in line.split(",")}
    return tag in named or "*" in named


def accepts_gzip(accept_encoding: Iterable[str]) -> bool:
    """Whether the Accept-Encoding lines of a request ask for gzip. What does not parse does not ask."""
    weights: dict[str, float] = {}
    for line in accept_encoding:
        for item in line.split(","):
            coding, _, parameter = item.partition(";")
            weights[coding.strip(" \t").lower()] = _weight(parameter)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip(" \t").partition("=")
    if not name:
        return 1.0
    digits = value.replace(".", "", 1)
    plain = name.lower() == "q" and digits.isascii() and digits.isdecimal()
    return float(value) if plain else 0.0
