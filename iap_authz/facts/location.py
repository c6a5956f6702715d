# SPDX-License-Identifier: Apache-2.0
"""Location facts: where an address is, by the operator's own network lists and by a geography database.

Invariant: a field is set only from a value of the right type and range; anything else in a database leaves it unset
and never raises. A wrapped IPv4 address (6to4, NAT64, Teredo, IPv4-compatible) has no place: databases alias some of
these to the place of the address inside, which says nothing of who uses the relay.

    bad address                                  INVALID  BAD_ADDRESS
    geography configured and not there, damaged,
    or built in the future                       ERROR    SOURCE_ERROR
    geography built too long ago                 STALE    SOURCE_STALE
    a country or a named network is known        PRESENT
    otherwise                                    ABSENT

Names of networks are matched against the address itself, never against one wrapped in it: a list that lets an office
in must not let in whoever writes the office's address into a 6to4 prefix.

The layout read is MaxMind's (City, Country, Enterprise). `represented_country` is never read. Deliberately not done:
local time (needs the time zone database, which is a source of its own) and speed (needs the subject's last request).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Final

from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.errors import MalformedRequest, SourceUnavailable, shown
from iap_authz.facts.address import MAPPED, ClientAddress, parse_address

COUNTRY_FIELDS: Final = ("country", "registered_country")
"""Which of a record's two countries may decide: where the address is used, or where it is registered."""

FUTURE_SKEW: Final = timedelta(days=1)
"""How far a build time may lie ahead: databases carry a date at best, and a clock of ours may be behind."""

TEXT_MAX_CHARS: Final = 200
"""Of a name out of a database; the longest place name in use has 85 letters, organisations have more."""

ASN_MAX: Final = 2**32 - 1
ACCURACY_MAX_KM: Final = 20_040
"""Half of the Earth's circumference: no place is further away."""

_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_SUBDIVISION = re.compile(r"[A-Z0-9]{1,3}", re.ASCII)
_TIME_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,32}(?:/[A-Za-z0-9_+\-]{1,32}){0,2}", re.ASCII)
_TRAITS: Final = (
    ("anonymous", ("is_anonymous",)),
    ("vpn", ("is_anonymous_vpn",)),
    ("tor", ("is_tor_exit_node",)),
    ("hosting", ("is_hosting_provider",)),
    ("proxy", ("is_public_proxy", "is_residential_proxy")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkList:
    """Prefixes that the operator gave one name."""

    name: str
    networks: tuple[IPv4Network | IPv6Network, ...]


class Networks:
    """All network lists, indexed: a lookup costs one dictionary access for each prefix length in use."""

    __slots__ = ("_by_length_4", "_by_length_6", "lists", "source")

    def __init__(self, lists: Iterable[NetworkList] = ()) -> None:
        self.lists = tuple(lists)
        self.source = "+".join(entry.name for entry in self.lists)
        if len({entry.name for entry in self.lists}) != len(self.lists):
            raise ValueError(f"got one name on two lists, want one, in {shown(self.source)}")
        self._by_length_4 = self._index(IPv4Network)
        self._by_length_6 = self._index(IPv6Network)

    def _index(self, family: type[IPv4Network | IPv6Network]) -> tuple[tuple[int, dict[int, tuple[int, ...]]], ...]:
        """For each prefix length: how far to shift an address, and which lists (by position) hold the result."""
        by_shift: dict[int, dict[int, tuple[int, ...]]] = {}
        for position, entry in enumerate(self.lists):
            for network in entry.networks:
                if not isinstance(network, family):
                    continue
                shift = network.max_prefixlen - network.prefixlen
                holders = by_shift.setdefault(shift, {})
                prefix = int(network.network_address) >> shift
                known = holders.get(prefix, ())
                holders[prefix] = known if position in known else (*known, position)
        return tuple(by_shift.items())

    def names_of(self, address: ClientAddress) -> tuple[str, ...]:
        """The names of all lists that hold `address`, in the order of the lists."""
        index = self._by_length_4 if isinstance(address.ip, IPv4Address) else self._by_length_6
        number = int(address.ip)
        found: set[int] = set()
        for shift, holders in index:
            found.update(holders.get(number >> shift, ()))
        return tuple(self.lists[position].name for position in sorted(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Geography:
    """A database of places, whole and immutable.

    `lookup` takes a canonical address and gives the record in MaxMind's layout (read-only), or None where there is
    none; it does no I/O and raises SourceUnavailable where the database is damaged at this address.
    """

    name: str
    built: datetime
    lookup: Callable[[str], Mapping[str, object] | None]


def establish_location(
    address: str,
    networks: Networks,
    geography: Geography | None,
    now: datetime,
    *,
    geography_configured: bool,
    max_build_age: timedelta,
    country_field: str,
) -> facts_pb2.Location:
    """The location facts of a client at `address`. Raises nothing but ValueError for a `country_field` that is none.

    `country_field` says which of a record's two countries becomes `country`; "registered_country" is noted in `source`,
    so that a decision's record shows which one decided.
    """
    if country_field not in COUNTRY_FIELDS:
        raise ValueError(f"got {shown(country_field)}, want one of {', '.join(COUNTRY_FIELDS)}")
    try:
        client = parse_address(address)
    except MalformedRequest:
        return facts_pb2.Location(state=facts_pb2.INVALID, problem=reason_pb2.REASON_BAD_ADDRESS)
    location = facts_pb2.Location(address=client.text, scope=client.scope, networks=networks.names_of(client))
    if client.embedded:
        location.transition = client.embedded
    if not location.networks:
        location.empty.append("networks")
    location.source = _source(networks, geography, country_field)
    damaged = geography is not None and not _locate(location, client, geography, country_field)
    _judge(location, geography, now, max_build_age, broken=damaged or (geography is None and geography_configured))
    return location


def _source(networks: Networks, geography: Geography | None, country_field: str) -> str:
    database = geography.name if geography is not None else ""
    if database and country_field != "country":
        database = f"{database}:{country_field}"
    return "+".join(part for part in (database, networks.source) if part)


def _locate(location: facts_pb2.Location, client: ClientAddress, geography: Geography, country_field: str) -> bool:
    """Set what the database knows of `client`. False where the database is damaged; then nothing is set."""
    if client.embedded not in ("", MAPPED):
        return True
    try:
        record = geography.lookup(client.text)
    except SourceUnavailable:
        return False
    if isinstance(record, Mapping):
        _set_place(location, record, country_field)
        _set_position(location, _inside(record, "location"))
        _set_traits(location, record)
    return True


def _judge(
    location: facts_pb2.Location,
    geography: Geography | None,
    now: datetime,
    max_build_age: timedelta,
    *,
    broken: bool,
) -> None:
    age = now - geography.built if geography is not None else None
    if geography is not None and age is not None:
        location.database_built.FromDatetime(geography.built)
        location.age.FromTimedelta(max(age, timedelta()))
    if broken or (age is not None and -age > FUTURE_SKEW):
        location.state, location.problem = facts_pb2.ERROR, reason_pb2.REASON_SOURCE_ERROR
    elif age is not None and age > max_build_age:
        location.state, location.problem = facts_pb2.STALE, reason_pb2.REASON_SOURCE_STALE
    elif location.HasField("country") or location.networks:
        location.state = facts_pb2.PRESENT
    else:
        location.state = facts_pb2.ABSENT


def _set_place(location: facts_pb2.Location, record: Mapping[str, object], country_field: str) -> None:
    here = _matching(_inside(record, "country").get("iso_code"), _COUNTRY)
    registered = _matching(_inside(record, "registered_country").get("iso_code"), _COUNTRY)
    country = here if country_field == "country" else registered
    if country is not None:
        location.country = country
    if registered is not None:
        location.registered_country = registered
    continent = _matching(_inside(record, "continent").get("code"), _COUNTRY)
    if continent is not None:
        location.continent = continent
    subdivisions = record.get("subdivisions")
    first = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else None
    subdivision = _matching(first.get("iso_code"), _SUBDIVISION) if isinstance(first, Mapping) else None
    if here is not None and subdivision is not None:
        location.region = f"{here}-{subdivision}"
    city = _text(_inside(_inside(record, "city"), "names").get("en"))
    if city is not None:
        location.city = city


def _set_position(location: facts_pb2.Location, place: Mapping[str, object]) -> None:
    """Latitude and longitude are one fact: both or neither."""
    latitude, longitude = _degrees(place.get("latitude"), 90), _degrees(place.get("longitude"), 180)
    if latitude is not None and longitude is not None:
        location.latitude, location.longitude = latitude, longitude
    accuracy = _whole(place.get("accuracy_radius"), 0, ACCURACY_MAX_KM)
    if accuracy is not None:
        location.accuracy_km = accuracy
    time_zone = _matching(place.get("time_zone"), _TIME_ZONE)
    if time_zone is not None:
        location.time_zone = time_zone


def _set_traits(location: facts_pb2.Location, record: Mapping[str, object]) -> None:
    """Autonomous system and anonymity: beside the place in some databases, under `traits` in others."""
    traits = {**record, **_inside(record, "traits")}
    asn = _whole(traits.get("autonomous_system_number"), 1, ASN_MAX)
    if asn is not None:
        location.asn = asn
    organization = _text(traits.get("autonomous_system_organization"))
    if organization is not None:
        location.as_organization = organization
    for name, keys in _TRAITS:
        flags = [traits[key] for key in keys if isinstance(traits.get(key), bool)]
        if flags:
            setattr(location, name, any(flags))


def _inside(record: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _matching(value: object, pattern: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _text(value: object) -> str | None:
    """A name without control characters (NUL among them); lone surrogates are not printable either."""
    return value if isinstance(value, str) and 0 < len(value) <= TEXT_MAX_CHARS and value.isprintable() else None


def _whole(value: object, least: int, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else None


def _degrees(value: object, most: int) -> float | None:
    """NaN and the infinities are in no range."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if -most <= value <= most else None
