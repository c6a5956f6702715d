# SPDX-License-Identifier: Apache-2.0
"""What the log's index has in place of what is sealed: numbers that only the index key makes (PROTOCOL rule S9).

The invariant: a record has the token of a search if and only if its personal part says what is searched for, but for
two searches that one token cannot say whole (below); there the opened record decides.

    K     = HKDF-Expand-SHA256(index key, "iap-authz/index/v1" || origin, 32)
    token = the first 8 bytes of HMAC-SHA256(K, kind || 0x00 || value), as a signed number

    kind                  value                                     one token for each
    subject, device,      the text, UTF-8                           text
    host, request_id
    trace_id              the text, ASCII letters in lower case     text
    asn                   the number in decimal                     number
    network               4 or 6 || prefix length || prefix bytes   /8 /16 /24 /32; IPv6 /32 /40 /48 /56 /64 /128
    path                  (u32 length || segment)*                  prefix of the path's segments, from none up to 16

A search in another network asks for any of the tokens that make it up: 10.0.0.0/13 is eight of /16, and none is more
than 128. So a record has a quarter of the tokens that every length of a prefix would be. An IPv6 network from /65 to
/120 is asked for by its /64, a path of more than 16 segments by its first 16: these find too much, never too little.

The index key stays with the log; the same one never gives two logs the same tokens. What a token does tell whoever
reads the index without the key: which records have something in common, and how many.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Malformed, shown
from iap_authz.model.target import parse_host, parse_target

INDEX_LABEL = b"iap-authz/index/v1"
"""Keeps the keys of tokens apart from every other use of an index key."""

INDEX_KEY_BYTES = 32
"""256 bits, as of every secret here."""

TOKEN_BYTES = 8
"""As many as a database's number holds. Two of 2^32 values may share a token; a hit is compared with its record."""

PREFIXES_BITS = {4: (8, 16, 24, 32), 6: (32, 40, 48, 56, 64, 128)}
"""The prefixes of an address that have a token, by IP version (rule S9, in whole bytes)."""

EXPANDED_BITS_MAX = 7
"""A network between two of these prefixes is asked for by at most 128 tokens of the longer one."""

PATH_DEPTH_MAX = 16
"""Segments of a path that have tokens: more than the paths of an application that anybody searches by."""

NETWORK_MAX_CHARS = 49
"""The longest spelling of an address, 45 characters, and a prefix length of four."""

ASN_MAX = (1 << 32) - 1
"""Numbers of autonomous systems have 32 bits (RFC 6793)."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Query = log_pb2.SearchRecordsRequest

_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+", re.ASCII)
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_MAPPED = IPv6Network("::ffff:0:0/96")
_IPV4_BITS_MASK = (1 << 32) - 1
_LENGTH_BYTES = 4
_PARSED_NETWORKS = 64
"""Searches of one moment; each is compared with many records."""


class TokenKey:
    """The key of one log's tokens: a secret, as the index key is that it comes from."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        """For `derive`. HMAC's two halves are prepared here (RFC 2104): a record has some twenty tokens."""
        block = secret.ljust(sha256().block_size, b"\x00")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    @classmethod
    def derive(cls, index_key: bytes, origin: str) -> "TokenKey":
        """The key of the log named `origin`. Raises Malformed for an index key of another length."""
        if len(index_key) != INDEX_KEY_BYTES:
            raise Malformed(f"got an index key of {len(index_key)} bytes, want {INDEX_KEY_BYTES}")
        return cls(HKDFExpand(hashes.SHA256(), INDEX_KEY_BYTES, INDEX_LABEL + origin.encode()).derive(index_key))

    def token(self, kind: bytes, value: bytes) -> int:
        """The token of a value of some kind."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(kind + b"\x00" + value)
        outer.update(inner.digest())
        return int.from_bytes(outer.digest()[:TOKEN_BYTES], signed=True)

    def mark(self) -> bytes:
        """16 bytes that say whether two keys are the same, and nothing else of them."""
        halves = (self.token(b"key-mark", number) for number in (b"1", b"2"))
        return b"".join(half.to_bytes(TOKEN_BYTES, signed=True) for half in halves)

    def __repr__(self) -> str:
        return "TokenKey(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("the key of an index lives in memory only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findable:
    """What a personal part says that can be searched for, in the one spelling that a search is brought to, too."""

    subjects: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    hosts: tuple[str, ...] = ()
    paths: tuple[tuple[str, ...], ...] = ()
    asns: tuple[int, ...] = ()
    request_ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()


def findable(part: record_pb2.PersonalPart) -> Findable:
    """What can be searched for in `part`. An address that is none is passed over."""
    match part.WhichOneof("part"):
        case "decision":
            return _of_decision(part.decision)
        case "outcome":
            outcome = part.outcome
            return Findable(request_ids=_set(outcome.request_id), trace_ids=_set(lower(outcome.trace_id)))
        case "log_read":
            return Findable(subjects=_set(part.log_read.reader), addresses=_addresses(part.log_read.address))
        case "alert":
            alert = part.alert
            addresses = _addresses(alert.address)
            return Findable(subjects=_set(alert.subject), devices=_set(alert.device), addresses=addresses)
        case "external":
            event = part.external
            ids = _set(event.request_id), _set(lower(event.trace_id))
            return Findable(subjects=_set(event.subject), request_ids=ids[0], trace_ids=ids[1])
        case _:
            return Findable()


def tokens_of(key: TokenKey, part: record_pb2.PersonalPart) -> list[int]:
    """The tokens of a personal part, each once."""
    return list({key.token(kind, value) for kind, value in _terms_of(findable(part))})


def query_tokens(key: TokenKey, query: Query) -> list[frozenset[int]]:
    """A collection for each personal field of `query`: a record that matches has at least one token of each.

    Raises Malformed for a value that no record can have, or a network that has no tokens.
    """
    return [frozenset(key.token(kind, value) for value in values) for kind, values in _terms_asked(query)]


def meets(asked: Iterable[frozenset[int]], tokens: Iterable[int]) -> bool:
    """Whether `tokens` has one of each collection that is asked for."""
    there = frozenset(tokens)
    return all(not there.isdisjoint(one) for one in asked)


def lower(text: str) -> str:
    """ASCII letters in lower case; other text stays as it is, whatever a version of Unicode says of it."""
    return text.lower() if text.isascii() else text


def parse_address(text: str) -> Address | None:
    """The address, an IPv4 one inside `::ffff:0:0/96` as such (as the facts have it); None for what is none."""
    if not _ADDRESS.fullmatch(text):
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


@lru_cache(_PARSED_NETWORKS)
def parse_network(text: str) -> Network:
    """The network that a search names; an address is a network of one.

    Raises Malformed, also for one that is larger than the largest that has a token.
    """
    address, slash, prefix = text.partition("/")
    plain = len(text) <= NETWORK_MAX_CHARS and _ADDRESS.fullmatch(address) and (not slash or _PREFIX.fullmatch(prefix))
    try:
        network = _unmapped(ip_network(text)) if plain else None
    except ValueError:
        network = None
    if network is None:
        raise Malformed(f"got {shown(text)}, want an address, or a network such as 192.0.2.0/24 without host bits")
    shortest = PREFIXES_BITS[network.version][0]
    if network.prefixlen < shortest:
        message = f"got {shown(text)}, want a network of IPv{network.version} of /{shortest} or longer"
        raise Malformed(f"{message}: larger ones are not in the index")
    return network


@lru_cache(_PARSED_NETWORKS)
def parse_path_prefix(text: str) -> tuple[str, ...]:
    """The segments that a path begins with, decoded as those of a request are; none for "/". Raises Malformed."""
    if "?" in text:
        raise Malformed(f"got {shown(text)}, want a path without a query")
    segments = parse_target(text).segments
    return segments if segments[-1] else segments[:-1]


def parse_asn(number: int) -> int:
    """The number of an autonomous system. Raises Malformed."""
    if not 1 <= number <= ASN_MAX:
        raise Malformed(f"got the number {number} of an autonomous system, want 1 to {ASN_MAX}")
    return number


def _of_decision(part: record_pb2.DecisionPersonal) -> Findable:
    facts = part.facts
    device, location, request = facts.device, facts.location, facts.request
    return Findable(
        subjects=_set(facts.identity.subject),
        devices=_set(device.id, device.certificate_sha256, device.spiffe_id),
        addresses=_addresses(location.address),
        hosts=_set(request.host),
        paths=(tuple(request.segments),) if request.segments else (),
        asns=(location.asn,) if location.HasField("asn") else (),
        request_ids=_set(request.id),
        trace_ids=_set(lower(request.trace_id)),
    )


def _set(*texts: str) -> tuple[str, ...]:
    """Those that say something."""
    return tuple(filter(None, texts))


def _addresses(text: str) -> tuple[Address, ...]:
    address = parse_address(text)
    return () if address is None else (address,)


def _terms_of(found: Findable) -> Iterator[tuple[bytes, bytes]]:
    """Kind and value of each token."""
    texts = (
        (b"subject", found.subjects),
        (b"device", found.devices),
        (b"host", found.hosts),
        (b"request_id", found.request_ids),
        (b"trace_id", found.trace_ids),
    )
    for kind, values in texts:
        for text in values:
            yield kind, text.encode()
    for number in found.asns:
        yield b"asn", b"%d" % number
    for address in found.addresses:
        for bits in PREFIXES_BITS[address.version]:
            yield b"network", bytes((address.version, bits)) + address.packed[: bits // 8]
    for segments in found.paths:
        yield from ((b"path", value) for value in _path_values(segments[:PATH_DEPTH_MAX]))


def _path_values(segments: tuple[str, ...]) -> list[bytes]:
    """The value of each prefix, shortest first."""
    values = [b""]
    for segment in segments:
        content = segment.encode()
        values.append(values[-1] + len(content).to_bytes(_LENGTH_BYTES) + content)
    return values


def _terms_asked(query: Query) -> Iterator[tuple[bytes, list[bytes]]]:
    """For each personal field that is set: the kind, and the values of which a record has one."""
    if query.subject:
        yield b"subject", [query.subject.encode()]
    if query.device:
        yield b"device", [query.device.encode()]
    if query.address_or_network:
        yield b"network", _network_values(parse_network(query.address_or_network))
    if query.host:
        yield b"host", [parse_host(query.host).encode()]
    if query.path_prefix:
        yield b"path", _path_values(parse_path_prefix(query.path_prefix)[:PATH_DEPTH_MAX])[-1:]
    if query.asn:
        yield b"asn", [b"%d" % parse_asn(query.asn)]
    if query.request_id:
        yield b"request_id", [query.request_id.encode()]
    if query.trace_id:
        yield b"trace_id", [lower(query.trace_id).encode()]


def _network_values(network: Network) -> list[bytes]:
    """The prefixes that make up the network; where those would be too many, the one that it lies in."""
    stored, size, asked_bits = PREFIXES_BITS[network.version], network.max_prefixlen, network.prefixlen
    bits = min(bits for bits in stored if bits >= asked_bits)
    if bits - asked_bits > EXPANDED_BITS_MAX:
        bits = max(bits for bits in stored if bits <= asked_bits)
    first, count = int(network.network_address) >> (size - bits), 1 << max(bits - asked_bits, 0)
    head = bytes((network.version, bits))
    return [head + prefix.to_bytes(bits // 8) for prefix in range(first, first + count)]


def _unmapped(network: Network) -> Network:
    """A network inside `::ffff:0:0/96` as the one of IPv4 that it is."""
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    first = int(network.network_address) & _IPV4_BITS_MASK
    return IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
