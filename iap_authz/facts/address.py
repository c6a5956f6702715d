# SPDX-License-Identifier: Apache-2.0
"""Client addresses: which text names the client, and what kind of address that is.

Invariant: every address that passes has one spelling, one meaning, and may be the address of a client. An IPv4
address inside `::ffff:0:0/96` *is* that IPv4 address and leaves here as such, because `::ffff:10.0.0.1` is in no list
that names `10.0.0.0/8`. The other ways to wrap an IPv4 address in an IPv6 one are recognised, not unwrapped: whoever
holds the outer address is not known to hold the inner one.

    ::ffff:a.b.c.d         ipv4-mapped       unwrapped
    ::a.b.c.d              ipv4-compatible   deprecated (RFC 4291 2.5.5.1)
    64:ff9b::a.b.c.d       nat64             RFC 6052; 64:ff9b:1::/48 (RFC 8215) puts the inner address where it likes
    2002:aabb:ccdd::       6to4              RFC 3056
    2001:0:server::client  teredo            RFC 4380; the client's address is in the last 32 bits, inverted

What kind an address is (`scope`) comes from the tables below and not from the `ipaddress` module, whose answers change
with Python's version: replay on another Python must see the same facts. The tables follow the IANA special-purpose
address registries as of 2025.

Deliberately not done: no header but the one that Envoy writes itself is ever read; names are not resolved.
"""

import functools
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from iap_authz.errors import MalformedRequest, shown
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request

EXTERNAL_ADDRESS_HEADER: Final = "x-envoy-external-address"
"""Where Envoy puts the client's address as it sees it, after its own trusted hops; it overwrites a forged one."""

ADDRESS_MAX_CHARS: Final = 45
"""The longest spelling: six groups of four digits and a dotted IPv4 address."""

PARSED_CACHE_ADDRESSES: Final = 4096
"""Clients reuse their addresses; bounds the memo of `parse_address` to about a megabyte."""

_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+", re.ASCII)

_SCOPES_4: Final = (
    (IPv4Network("0.0.0.0/32"), "unspecified"),
    (IPv4Network("0.0.0.0/8"), "reserved"),
    (IPv4Network("10.0.0.0/8"), "private"),
    (IPv4Network("100.64.0.0/10"), "shared"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("169.254.0.0/16"), "link-local"),
    (IPv4Network("172.16.0.0/12"), "private"),
    (IPv4Network("192.0.0.0/24"), "reserved"),
    (IPv4Network("192.0.2.0/24"), "documentation"),
    (IPv4Network("192.88.99.0/24"), "reserved"),
    (IPv4Network("192.168.0.0/16"), "private"),
    (IPv4Network("198.18.0.0/15"), "reserved"),
    (IPv4Network("198.51.100.0/24"), "documentation"),
    (IPv4Network("203.0.113.0/24"), "documentation"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("255.255.255.255/32"), "broadcast"),
    (IPv4Network("240.0.0.0/4"), "reserved"),
)
_SCOPES_6: Final = (
    (IPv6Network("::/128"), "unspecified"),
    (IPv6Network("::1/128"), "loopback"),
    (IPv6Network("2001:db8::/32"), "documentation"),
    (IPv6Network("3fff::/20"), "documentation"),
    (IPv6Network("2001:3::/32"), "public"),
    (IPv6Network("2001:4:112::/48"), "public"),
    (IPv6Network("2001::/23"), "reserved"),
    (IPv6Network("2000::/3"), "public"),
    (IPv6Network("fc00::/7"), "private"),
    (IPv6Network("fe80::/10"), "link-local"),
    (IPv6Network("ff00::/8"), "multicast"),
)
"""First match decides; what no row holds is reserved."""

_NOBODY: Final = frozenset({"unspecified", "broadcast", "multicast"})
"""No client sends from these; the first two never leave here, so `facts.proto` does not list them."""

MAPPED: Final = "ipv4-mapped"
_IN_LAST_32_BITS: Final = (
    (IPv6Network("::ffff:0:0/96"), MAPPED),
    (IPv6Network("::/96"), "ipv4-compatible"),
    (IPv6Network("64:ff9b::/96"), "nat64"),
)
_UNSPECIFIED_OR_LOOPBACK: Final = IPv6Network("::/127")
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAddress:
    """One address that a client may have.

    `text` is canonical (RFC 5952 for IPv6); `embedded` says how an IPv4 address is or was wrapped, empty if none was;
    `scope` is the word of `facts.proto`, for a wrapped address that of the IPv4 address inside.
    """

    text: str
    ip: IPv4Address | IPv6Address
    embedded: str
    scope: str


def client_address(request: Request, *, source: str) -> str:
    """The text that names the client: `source` is "envoy" (Envoy's own header, else the peer) or "peer".

    Raises MalformedRequest where the header came more than once. The text is not parsed yet.
    """
    if source == "peer":
        return request.peer_address
    if source != "envoy":
        raise ValueError(f"got {shown(source)}, want envoy or peer")
    values = request.headers.get(EXTERNAL_ADDRESS_HEADER, ())
    if len(values) > 1:
        raise MalformedRequest(
            Reason.AMBIGUOUS_HEADER, f"got {len(values)} values of {EXTERNAL_ADDRESS_HEADER}, want one"
        )
    return values[0] if values else request.peer_address


def parse_address(text: str) -> ClientAddress:
    """Parse one bare IPv4 or IPv6 address. Raises MalformedRequest(BAD_ADDRESS) and nothing else.

    Refused: ports, brackets, zones, leading zeros, shortened, octal or hexadecimal IPv4, anything beyond ASCII, and
    addresses that no client has (unspecified, broadcast, multicast), wrapped ones too.
    """
    return _parse(text)


@functools.lru_cache(maxsize=PARSED_CACHE_ADDRESSES)
def _parse(text: str) -> ClientAddress:
    if len(text) > ADDRESS_MAX_CHARS or not _ADDRESS.fullmatch(text):
        raise _refused(text, "an IPv4 or IPv6 address")
    try:
        ip = ip_address(text)
    except ValueError:
        raise _refused(text, "an IPv4 or IPv6 address") from None
    embedded, inner = _unwrap(ip)
    scope = _scope(inner if inner is not None else ip)
    if scope in _NOBODY:
        raise _refused(text, f"an address that a client can have, not one that is {scope}")
    if embedded == MAPPED and inner is not None:
        ip = inner
    return ClientAddress(text=str(ip), ip=ip, embedded=embedded, scope=scope)


def _refused(text: str, want: str) -> MalformedRequest:
    return MalformedRequest(Reason.BAD_ADDRESS, f"got {shown(text)}, want {want}")


def _unwrap(ip: IPv4Address | IPv6Address) -> tuple[str, IPv4Address | None]:
    """How `ip` wraps an IPv4 address, and which; the address is None where its place in `ip` is not fixed."""
    if isinstance(ip, IPv4Address) or ip in _UNSPECIFIED_OR_LOOPBACK:
        return "", None
    for network, kind in _IN_LAST_32_BITS:
        if ip in network:
            return kind, IPv4Address(int(ip) & 0xFFFF_FFFF)
    if ip in _NAT64_LOCAL:
        return "nat64", None
    if ip.sixtofour is not None:
        return "6to4", ip.sixtofour
    return ("teredo", ip.teredo[1]) if ip.teredo is not None else ("", None)


def _scope(ip: IPv4Address | IPv6Address) -> str:
    if isinstance(ip, IPv4Address):
        return next((scope for network, scope in _SCOPES_4 if ip in network), "public")
    return next((scope for network, scope in _SCOPES_6 if ip in network), "reserved")
