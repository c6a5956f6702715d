# SPDX-License-Identifier: Apache-2.0
"""A small geography database, written on the spot: real ones may not be redistributed.

Invariant: the file is a MaxMind DB (version 2.0) in the layout of their City databases, so that the demonstration reads
it with the code that reads a real one. The places are documentation prefixes; nobody lives there.

The writer is the package `mmdb-writer`, of the extra `demo`; nothing else needs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

DATABASE_TYPE: Final = "iap-authz-demo-City"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the addresses of one prefix are. Empty text and None stand for what the database does not say."""

    country: str
    registered_country: str = ""
    continent: str = ""
    region: str = ""
    city: str = ""
    latitude: float | None = None
    longitude: float | None = None
    accuracy_km: int | None = None
    time_zone: str = ""
    asn: int | None = None
    as_organization: str = ""
    anonymous: bool | None = None
    hosting: bool | None = None


_BERLIN = Place(
    country="DE", continent="EU", region="BE", city="Berlin", latitude=52.52, longitude=13.405, accuracy_km=20,
    time_zone="Europe/Berlin", asn=64496, as_organization="Example Net",
)  # fmt: skip
_PARIS = Place(
    country="FR", continent="EU", region="IDF", city="Paris", latitude=48.8566, longitude=2.3522, accuracy_km=20,
    time_zone="Europe/Paris", asn=64497, as_organization="Exemple SA",
)  # fmt: skip
_NEW_YORK = Place(
    country="US", continent="NA", region="NY", city="New York", latitude=40.7128, longitude=-74.006, accuracy_km=20,
    time_zone="America/New_York", asn=64498, as_organization="Example Hosting", anonymous=True, hosting=True,
)  # fmt: skip

DEMO_PLACES: Final[Mapping[str, Place]] = {
    "192.0.2.0/24": _BERLIN,
    "198.51.100.0/24": _PARIS,
    "203.0.113.0/24": _NEW_YORK,
    "2001:db8::/32": _BERLIN,
}
"""Prefixes (RFC 5737, RFC 3849) and autonomous systems (RFC 5398) that are set aside for documentation."""


def write_demo_database(path: Path, places: Mapping[str, Place], *, built: datetime | None = None) -> None:
    """Write `places`, by prefix, to `path`; a longer prefix wins. `built` is now where it is not given.

    Raises ValueError for a prefix that is none, and ImportError without the extra `demo`.
    """
    from mmdb_writer import MMDBWriter, TreeWriter  # noqa: PLC0415  # an extra: only the demonstration has it
    from netaddr import IPSet  # noqa: PLC0415  # comes with mmdb-writer

    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=DATABASE_TYPE, languages=["en"])
    networks = {ip_network(prefix): place for prefix, place in places.items()}
    for network in sorted(networks, key=_bits):
        writer.insert_network(IPSet([str(network)]), _record(networks[network]))
    metadata = {
        "ip_version": writer.ip_version,
        "database_type": writer.database_type,
        "languages": writer.languages,
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "description": {"en": "places of the demonstration"},
        "build_epoch": int((built or datetime.now(UTC)).timestamp()),
    }
    new = path.with_name(f".{path.name}.new")
    TreeWriter(writer.tree, metadata, "auto", "f64").write(str(new))
    new.replace(path)


def _bits(network: IPv4Network | IPv6Network) -> int:
    """Length of the prefix in the tree: the writer lets the last one written win, so the longest comes last."""
    return network.prefixlen + 128 - network.max_prefixlen


def _record(place: Place) -> dict[str, object]:
    """The place in MaxMind's layout, without what it does not say."""
    traits = {
        "autonomous_system_number": place.asn,
        "autonomous_system_organization": place.as_organization or None,
        "is_anonymous": place.anonymous,
        "is_hosting_provider": place.hosting,
    }
    location = {
        "latitude": place.latitude,
        "longitude": place.longitude,
        "accuracy_radius": place.accuracy_km,
        "time_zone": place.time_zone or None,
    }
    record: dict[str, object] = {
        "country": {"iso_code": place.country},
        "registered_country": {"iso_code": place.registered_country or place.country},
        "location": {key: value for key, value in location.items() if value is not None},
        "traits": {key: value for key, value in traits.items() if value is not None},
    }
    if place.continent:
        record["continent"] = {"code": place.continent}
    if place.region:
        record["subdivisions"] = [{"iso_code": place.region}]
    if place.city:
        record["city"] = {"names": {"en": place.city}}
    return record
