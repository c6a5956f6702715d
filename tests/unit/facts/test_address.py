# SPDX-License-Identifier: Apache-2.0
"""Client addresses: kinds, wrappings, spellings; and which text of a request names the client."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import MalformedRequest
from iap_authz.facts.address import ClientAddress, client_address, parse_address
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request

SCOPES = (
    ("8.8.8.8", "public"),
    ("9.255.255.255", "public"),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "private"),
    ("11.0.0.0", "public"),
    ("0.1.2.3", "reserved"),
    ("100.63.255.255", "public"),
    ("100.64.0.1", "shared"),
    ("100.127.255.255", "shared"),
    ("100.128.0.0", "public"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.169.254", "link-local"),
    ("172.15.255.255", "public"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("172.32.0.0", "public"),
    ("192.0.0.8", "reserved"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "reserved"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "reserved"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.7", "documentation"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.254", "reserved"),
    ("::1", "loopback"),
    ("2a00:1450:4001::1", "public"),
    ("2001:db8::1", "documentation"),
    ("3fff:fff::1", "documentation"),
    ("3fff:1000::1", "public"),
    ("2001:2::1", "reserved"),
    ("2001:4:112::1", "public"),
    ("2001:200::1", "public"),
    ("100::1", "reserved"),
    ("5f00::1", "reserved"),
    ("fc00::1", "private"),
    ("fdff::1", "private"),
    ("fe80::1", "link-local"),
    ("fec0::1", "reserved"),
    ("4000::1", "reserved"),
)

# The Teredo address is the example of RFC 4380 section 4 as worked through in RFC 5991 and elsewhere:
# server 65.54.227.120, client 192.0.2.45.
WRAPPED = (
    ("::ffff:8.8.8.8", "ipv4-mapped", "8.8.8.8", "public"),
    ("::ffff:a00:1", "ipv4-mapped", "10.0.0.1", "private"),
    ("::10.0.0.1", "ipv4-compatible", "::a00:1", "private"),
    ("::2", "ipv4-compatible", "::2", "reserved"),
    ("64:ff9b::10.0.0.1", "nat64", "64:ff9b::a00:1", "private"),
    ("64:ff9b::8.8.8.8", "nat64", "64:ff9b::808:808", "public"),
    ("64:ff9b:1:abcd::1", "nat64", "64:ff9b:1:abcd::1", "reserved"),
    ("2002:a00:1::1", "6to4", "2002:a00:1::1", "private"),
    ("2002:7f00:1::", "6to4", "2002:7f00:1::", "loopback"),
    ("2002:808:808::1", "6to4", "2002:808:808::1", "public"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "documentation"),
    ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "teredo", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "private"),
)


@pytest.mark.parametrize(("text", "scope"), SCOPES)
def test_the_kind_of_an_address(text: str, scope: str) -> None:
    parsed = parse_address(text)
    assert (parsed.scope, parsed.embedded, parsed.text) == (scope, "", text)


@pytest.mark.parametrize(("text", "embedded", "canonical", "scope"), WRAPPED)
def test_a_wrapped_ipv4_address(text: str, embedded: str, canonical: str, scope: str) -> None:
    assert parse_address(text) == ClientAddress(
        text=canonical, ip=ip_address(canonical), embedded=embedded, scope=scope
    )


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("0:0:0:0:0:FFFF:0A00:0001", "10.0.0.1"),
    ],
)
def test_one_address_has_one_text(text: str, canonical: str) -> None:
    assert parse_address(text).text == canonical


def address_or_reason(text: str) -> ClientAddress | int:
    try:
        return parse_address(text)
    except MalformedRequest as error:
        return error.reason


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1))
def test_every_good_address_parses_to_itself(low: int, high: int) -> None:
    for ip in (IPv4Address(low), IPv6Address(high), IPv6Address((0xFFFF << 32) | low)):
        parsed = address_or_reason(str(ip))
        if not isinstance(parsed, ClientAddress):
            assert parsed == Reason.BAD_ADDRESS
            continue
        assert parse_address(parsed.text).ip == parsed.ip
        assert parsed.ip not in IPv4Network("224.0.0.0/4")
        assert parsed.ip not in IPv6Network("::ffff:0:0/96")


@given(st.text() | st.text(alphabet="0123456789abcdefABCDEF:.%/[] \n\0", max_size=50))
def test_any_text_is_an_address_or_malformed(text: str) -> None:
    parsed = address_or_reason(text)
    if not isinstance(parsed, ClientAddress):
        assert parsed == Reason.BAD_ADDRESS
    else:
        assert parse_address(parsed.text).text == parsed.text
        assert parsed.text.isascii()


HEADER = "x-envoy-external-address"


@pytest.mark.parametrize(
    ("headers", "source", "want"),
    [
        ({HEADER: ("198.51.100.7",)}, "envoy", "198.51.100.7"),
        ({HEADER: ("198.51.100.7",)}, "peer", "192.0.2.9"),
        ({HEADER: ("198.51.100.7", "198.51.100.8")}, "peer", "192.0.2.9"),
        ({}, "envoy", "192.0.2.9"),
        ({}, "peer", "192.0.2.9"),
        ({HEADER: ("",)}, "envoy", ""),
    ],
)
def test_who_names_the_client(headers: dict[str, tuple[str, ...]], source: str, want: str) -> None:
    assert client_address(Request(headers=headers, peer_address="192.0.2.9"), source=source) == want


def test_envoys_header_twice_is_ambiguous() -> None:
    request = Request(headers={HEADER: ("198.51.100.7", "198.51.100.7")}, peer_address="192.0.2.9")
    with pytest.raises(MalformedRequest, match="got 2 values") as caught:
        client_address(request, source="envoy")
    assert caught.value.reason == Reason.AMBIGUOUS_HEADER


def test_another_source_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="want envoy or peer"):
        client_address(Request(), source="x-forwarded-for")
