# SPDX-License-Identifier: Apache-2.0
"""Network lists: a YAML file that gives names to prefixes.

    networks:
      office: ["198.51.100.0/24", "2001:db8:1::/48"]
      vpn: ["10.8.0.0/16"]

Invariant: a prefix means what it says. One with host bits set, without a length, with a netmask for a length, or in
the IPv4-in-IPv6 notation (which no client address has, see `facts/address.py`) is refused, and the fault says what to
write.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

from iap_authz.adapters.facts.files import FileSource
from iap_authz.errors import Invalid, Malformed, shown
from iap_authz.facts.location import NetworkList, Networks
from iap_authz.model.document import DOCUMENT_MAX_BYTES, Faults, Section, parse_document

LISTS_MAX: Final = 256
"""All names stand in each record's `source`: 256 names of 63 characters are a quarter of what a log entry may hold."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}", re.ASCII)
_PREFIX = re.compile(r"([0-9A-Fa-f:.]{2,45})/(0|[1-9][0-9]{0,2})", re.ASCII)
_BARE = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_MAPPED_BITS: Final = 96


def network_lists_source(name: str, path: Path) -> FileSource[Networks]:
    """The lists in the file at `path`."""
    return FileSource(name, path, parse_network_lists, max_bytes=DOCUMENT_MAX_BYTES)


def parse_network_lists(content: bytes, file: str) -> Networks:
    """Parse the whole file. Raises Invalid with every fault in it."""
    faults = Faults(file)
    document = parse_document(content, faults)
    lists: list[NetworkList] = []
    if document is not None:
        section = document.take_section("networks", required=True)
        document.finish()
        if section is not None:
            lists = _parse_lists(section)
    faults.check(Invalid)
    return Networks(lists)


def _parse_lists(section: Section) -> list[NetworkList]:
    names = section.keys()
    if len(names) > LISTS_MAX:
        section.fault("", f"got {len(names)} lists, want at most {LISTS_MAX}")
    lists = []
    for name in names:
        if not _NAME.fullmatch(name):
            section.fault(name, f"got {shown(name)} as a name, want letters, digits, '_', '.' and '-', at most 63")
        networks = []
        for text in section.take_placed_texts(name, required=True) or []:
            try:
                networks.append(parse_prefix(text.value))
            except Malformed as error:
                section.faults.add(text.node, text.path, str(error))
        lists.append(NetworkList(name=name, networks=tuple(networks)))
    return lists


def parse_prefix(text: str) -> IPv4Network | IPv6Network:
    """`198.51.100.0/24` -> the network. Raises Malformed, with what to write instead where that is clear."""
    if _BARE.fullmatch(text):
        network = _network(text, text)
        raise Malformed(f"got {shown(text)} without a length, want {_unmapped(network)}")
    if not _PREFIX.fullmatch(text):
        raise Malformed(f"got {shown(text)}, want a prefix such as 10.0.0.0/8 or 2001:db8::/32")
    network = _network(text, text)
    address = text.partition("/")[0]
    fixed = _unmapped(network)
    if fixed is not network:
        raise Malformed(f"got {shown(text)}, an IPv4 prefix in IPv6 notation, want {fixed}")
    if _network(f"{address}/{network.max_prefixlen}", text).network_address != network.network_address:
        raise Malformed(f"got {shown(text)} with host bits set, want {network}")
    return network


def _network(text: str, original: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise Malformed(f"got {shown(original)}, want a prefix such as 10.0.0.0/8 or 2001:db8::/32") from None


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """The IPv4 network that `network` wraps, or `network` itself."""
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    inner = int(network.network_address) & 0xFFFF_FFFF
    return IPv4Network((inner, network.prefixlen - _MAPPED_BITS))
