# SPDX-License-Identifier: Apache-2.0
"""A geography without a file: records by prefix, in MaxMind's layout, and one that is damaged everywhere.

The fake asserts what `Geography.lookup` may expect of its callers: a canonical address, never a mapped one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from iap_authz.errors import SourceUnavailable
from iap_authz.facts.location import Geography, NetworkList, Networks

BUILT = datetime(2026, 1, 1, tzinfo=UTC)


def geography_of(records: Mapping[str, object], *, built: datetime = BUILT, name: str = "geo") -> Geography:
    """The longest prefix of `records` that holds the address answers."""
    networks = sorted(
        ((ip_network(prefix), record) for prefix, record in records.items()), key=lambda e: -e[0].prefixlen
    )

    def lookup(address: str) -> Mapping[str, object] | None:
        parsed = ip_address(address)
        assert str(parsed) == address
        assert not address.startswith("::ffff:")
        # What stands for a record is handed out as it is, of the wrong type too: that is what is tested.
        return next((record for network, record in networks if parsed in network), None)  # type: ignore[return-value]

    return Geography(name=name, built=built, lookup=lookup)


def damaged_geography(*, built: datetime = BUILT) -> Geography:
    """A database whose every record is unreadable."""

    def lookup(address: str) -> Mapping[str, object] | None:
        raise SourceUnavailable(f"damaged at {ip_address(address)}")

    return Geography(name="geo", built=built, lookup=lookup)


def country_record(code: object, **more: object) -> dict[str, object]:
    """The least that a record of a country holds."""
    return {"country": {"iso_code": code}, "registered_country": {"iso_code": code}, **more}


def networks_of(**lists: list[str]) -> Networks:
    """Network lists by name, in the order given."""
    return Networks(
        NetworkList(name=name, networks=tuple(ip_network(prefix) for prefix in prefixes))
        for name, prefixes in lists.items()
    )
