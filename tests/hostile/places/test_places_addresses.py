# SPDX-License-Identifier: Apache-2.0
"""Hostile client addresses: corpus rows 131, 190 to 195, and their neighbours."""

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import MalformedRequest
from iap_authz.facts.address import client_address, parse_address
from iap_authz.facts.location import Networks, establish_location
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request
from tests.fakes.geography import BUILT, country_record, geography_of, networks_of

REFUSED = [
    *((192, text) for text in (
        "010.0.0.1", "10.0.0.01", "10.00.0.1", "10.1", "10.0.1", "167772161", "0x0a.0.0.1", "0x0a000001",
        "0xa.0x0.0x0.0x1",        "012.0.0.1", "\uff11\uff10.0.0.1", "10.0.0.\u0661", "10\u30020\u30020\u30021",
        "10.0.0.1.", ".10.0.0.1", "10..0.1", "256.0.0.1",
        "10.0.0.-1", "10.0.0.+1", "1_0.0.0.1", "10.0.0.1/32", "10.0.0.1:443", "[::1]", "[10.0.0.1]", "::ffff:010.0.0.1",
        "::ffff:10.1", "1:2:3:4:5:6:7:8:9", "1:2:3", ":::", "::1::", "12345::", "g::1", "::1.2.3", "localhost",
        "unknown", "_hidden", "", " ", "10.0.0.1 ", " 10.0.0.1", "10.0.0.1\n", "10.0.0.1\0", "\t10.0.0.1",
        "10.0.0.1,10.0.0.2",
        "10.0.0.1, 192.0.2.1", "for=10.0.0.1", "\ud800", "1" * 46, "1" * 100_000,
    )),
    *((194, text) for text in (
        "0.0.0.0", "::", "0:0:0:0:0:0:0:0", "255.255.255.255", "224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1",
        "::ffff:0.0.0.0", "::ffff:255.255.255.255", "::ffff:224.0.0.1", "64:ff9b::0.0.0.0", "64:ff9b::255.255.255.255",
        "2002:e000:1::1", "2002:ffff:ffff::1", "2002::1", "::255.255.255.255", "::224.0.0.1",
        "2001:0:4136:e378:8000:63bf:0:0", "2001:0:4136:e378:8000:63bf:ffff:ffff",
    )),
    *((195, text) for text in ("fe80::1%eth0", "fe80::1%", "fe80::1%25eth0", "::1%lo", "2001:db8::1%1", "10.0.0.1%e")),
]  # fmt: skip


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=f"row{row}-{number}") for number, (row, text) in enumerate(REFUSED)]
)
def test_an_address_that_no_client_writes_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_address(text)
    assert caught.value.reason == Reason.BAD_ADDRESS
    assert len(str(caught.value)) < 250
    assert str(caught.value).isascii()
    assert (
        establish_location(
            text,
            Networks(),
            None,
            BUILT,
            geography_configured=False,
            max_build_age=BUILT - BUILT,
            country_field="country",
        ).state
        == facts_pb2.INVALID
    )


LISTS = networks_of(private=["10.0.0.0/8", "127.0.0.0/8"], office=["198.51.100.0/24"], everyone=["0.0.0.0/0"])
GEOGRAPHY = geography_of({"0.0.0.0/0": country_record("US"), "::/0": country_record("DE")})


def establish(address: str, networks: Networks = LISTS) -> facts_pb2.Location:
    return establish_location(
        address, networks, GEOGRAPHY, BUILT,
        geography_configured=True, max_build_age=BUILT - BUILT, country_field="country",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "networks", "scope"),
    [
        pytest.param("::ffff:10.0.0.1", ["private", "everyone"], "private", id="row190-private"),
        pytest.param("::ffff:a00:1", ["private", "everyone"], "private", id="row190-private-in-hex"),
        pytest.param("::ffff:8.8.8.8", ["everyone"], "public", id="row190-public"),
        pytest.param("::FFFF:127.0.0.1", ["private", "everyone"], "loopback", id="row190-loopback"),
        pytest.param("0:0:0:0:0:ffff:198.51.100.7", ["office", "everyone"], "documentation", id="row190-office"),
    ],
)
def test_a_mapped_address_meets_every_check_as_ipv4(text: str, networks: list[str], scope: str) -> None:
    location = establish(text)
    assert list(location.networks) == networks
    assert (location.scope, location.country) == (scope, "US")
    assert "." in location.address


@pytest.mark.parametrize(
    ("text", "transition", "scope"),
    [
        pytest.param("::10.0.0.1", "ipv4-compatible", "private", id="row191-compatible"),
        pytest.param("::127.0.0.1", "ipv4-compatible", "loopback", id="row191-compatible-loopback"),
        pytest.param("64:ff9b::10.0.0.1", "nat64", "private", id="row191-nat64"),
        pytest.param("64:ff9b::198.51.100.7", "nat64", "documentation", id="row191-nat64-office"),
        pytest.param("64:ff9b:1::10.0.0.1", "nat64", "reserved", id="row191-nat64-local"),
        pytest.param("2002:a00:1::1", "6to4", "private", id="row191-6to4"),
        pytest.param("2002:7f00:1::1", "6to4", "loopback", id="row191-6to4-loopback"),
        pytest.param("2002:c633:6407::1", "6to4", "documentation", id="row191-6to4-office"),
        pytest.param("2001:0:4136:e378:8000:63bf:f5ff:fffe", "teredo", "private", id="row191-teredo"),
        pytest.param("2001:0:a00:1::f7f7:f7f7", "teredo", "public", id="row191-teredo-private-server"),
    ],
)
def test_a_wrapped_address_has_no_country_and_is_in_no_list_of_the_inner_one(
    text: str, transition: str, scope: str
) -> None:
    location = establish(text)
    assert (location.transition, location.scope) == (transition, scope)
    assert not location.HasField("country")
    assert list(location.networks) == []
    assert location.state == facts_pb2.ABSENT


def test_a_list_may_name_the_wrapped_addresses_themselves() -> None:
    location = establish("2002:c633:6407::1", networks_of(relays=["2002::/16"]))
    assert list(location.networks) == ["relays"]


OTHER_HEADERS = (
    "x-real-ip", "true-client-ip", "cf-connecting-ip", "forwarded", "x-forwarded-for", "x-client-ip",
    "x-cluster-client-ip", "fastly-client-ip", "x-original-forwarded-for", "x-forwarded", "client-ip",
    "x-envoy-original-src", "via",
)  # fmt: skip


@pytest.mark.parametrize("header", [pytest.param(name, id=f"row131-{name}") for name in OTHER_HEADERS])
@pytest.mark.parametrize("source", ["envoy", "peer"])
def test_no_other_header_names_the_client(header: str, source: str) -> None:
    forged = Request(headers={header: ("198.51.100.7", "10.0.0.1")}, peer_address="192.0.2.9")
    assert client_address(forged, source=source) == "192.0.2.9"


def test_a_mapped_prefix_in_a_list_matches_nobody_and_no_one_else() -> None:
    lists = networks_of(mapped=["::ffff:0:0/96"])
    assert lists.names_of(parse_address("::ffff:10.0.0.1")) == ()
    assert lists.names_of(parse_address("10.0.0.1")) == ()
