# SPDX-License-Identifier: Apache-2.0
"""Location facts: states, named networks against a slow reference, and what is taken from a database's record."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import MalformedRequest
from iap_authz.facts.address import parse_address
from iap_authz.facts.location import Geography, NetworkList, Networks, establish_location
from iap_authz.model.reason import Reason, State
from tests.fakes.geography import BUILT, country_record, damaged_geography, geography_of, networks_of

DAY = timedelta(days=1)
NOW = BUILT + 10 * DAY
ADDRESS = "198.51.100.7"


OFFICE = networks_of(office=["198.51.100.0/24", "2001:db8:1::/48"], vpn=["10.8.0.0/16"])


def establish(
    address: str = ADDRESS,
    *,
    networks: Networks | None = None,
    geography: Geography | None = None,
    now: datetime = NOW,
    configured: bool | None = None,
    country_field: str = "country",
) -> facts_pb2.Location:
    return establish_location(
        address,
        networks if networks is not None else Networks(),
        geography,
        now,
        geography_configured=geography is not None if configured is None else configured,
        max_build_age=45 * DAY,
        country_field=country_field,
    )


def of_record(record: object) -> facts_pb2.Location:
    return establish(geography=geography_of({"198.51.100.0/24": record}))


def judged(location: facts_pb2.Location) -> tuple[int, int]:
    return location.state, location.problem


FULL = {
    "continent": {"code": "EU", "names": {"en": "Europe"}},
    "country": {"iso_code": "DE"},
    "registered_country": {"iso_code": "FR"},
    "represented_country": {"iso_code": "US", "type": "military"},
    "subdivisions": [{"iso_code": "BE"}, {"iso_code": "XX"}],
    "city": {"names": {"de": "Berlin (de)", "en": "Berlin"}},
    "location": {"latitude": 52.5, "longitude": 13.25, "accuracy_radius": 20, "time_zone": "Europe/Berlin"},
    "traits": {
        "autonomous_system_number": 64496,
        "autonomous_system_organization": "Example Net",
        "is_anonymous": True,
        "is_anonymous_vpn": False,
        "is_tor_exit_node": False,
        "is_hosting_provider": True,
        "is_public_proxy": False,
        "is_residential_proxy": True,
    },
}


def test_everything_a_record_knows_is_set() -> None:
    location = establish(networks=OFFICE, geography=geography_of({"198.51.100.0/24": FULL}))
    assert location == facts_pb2.Location(
        state=facts_pb2.PRESENT,
        age=10 * DAY,
        source="geo+office+vpn",
        address=ADDRESS,
        scope="documentation",
        networks=["office"],
        country="DE",
        registered_country="FR",
        continent="EU",
        region="DE-BE",
        city="Berlin",
        latitude=52.5,
        longitude=13.25,
        accuracy_km=20,
        time_zone="Europe/Berlin",
        asn=64496,
        as_organization="Example Net",
        anonymous=True,
        vpn=False,
        tor=False,
        hosting=True,
        proxy=True,
        database_built=BUILT,
    )


def test_flags_beside_the_place_are_read_too() -> None:
    location = of_record({"autonomous_system_number": 64497, "is_anonymous": True, "is_public_proxy": False})
    assert (location.asn, location.anonymous, location.proxy) == (64497, True, False)
    assert not location.HasField("vpn")


STATES = (
    pytest.param({}, State.ABSENT, 0, id="nothing-configured"),
    pytest.param({"networks": OFFICE}, State.PRESENT, 0, id="named-network"),
    pytest.param({"networks": OFFICE, "address": "192.0.2.1"}, State.ABSENT, 0, id="in-no-network"),
    pytest.param({"geography": geography_of({})}, State.ABSENT, 0, id="not-in-the-database"),
    pytest.param({"geography": geography_of({}), "networks": OFFICE}, State.PRESENT, 0, id="network-only"),
    pytest.param({"configured": True}, State.ERROR, Reason.SOURCE_ERROR, id="geography-missing"),
    pytest.param(
        {"configured": True, "networks": OFFICE}, State.ERROR, Reason.SOURCE_ERROR, id="missing-and-named-network"
    ),
    pytest.param({"geography": damaged_geography()}, State.ERROR, Reason.SOURCE_ERROR, id="geography-damaged"),
    pytest.param(
        {"geography": geography_of({}, built=NOW - 45 * DAY), "networks": OFFICE}, State.PRESENT, 0, id="at-its-limit"
    ),
    pytest.param(
        {"geography": geography_of({}, built=NOW - 46 * DAY), "networks": OFFICE},
        State.STALE,
        Reason.SOURCE_STALE,
        id="stale",
    ),
    pytest.param(
        {"geography": geography_of({}, built=NOW + DAY), "networks": OFFICE}, State.PRESENT, 0, id="built-tomorrow"
    ),
    pytest.param(
        {"geography": geography_of({}, built=NOW + 2 * DAY)}, State.ERROR, Reason.SOURCE_ERROR, id="built-in-the-future"
    ),
    pytest.param({"address": "10.1"}, State.INVALID, Reason.BAD_ADDRESS, id="bad-address"),
)


@pytest.mark.parametrize(("arguments", "state", "problem"), STATES)
def test_each_row_of_the_table(arguments: dict[str, object], state: State, problem: Reason | int) -> None:
    assert judged(establish(**arguments)) == (state, problem)  # type: ignore[arg-type]


def test_of_a_bad_address_nothing_is_said() -> None:
    location = establish("198.51.100.7:443", networks=OFFICE)
    assert {field.name for field, _ in location.ListFields()} == {"state", "problem"}


def test_networks_are_known_whenever_the_address_is() -> None:
    for geography, configured in ((None, False), (None, True), (geography_of({}, built=NOW - 99 * DAY), True)):
        location = establish("192.0.2.1", networks=OFFICE, geography=geography, configured=configured)
        assert list(location.empty) == ["networks"]
        assert (location.address, location.scope) == ("192.0.2.1", "documentation")
    assert list(establish(networks=OFFICE).empty) == []


def test_age_is_unset_without_a_database_and_never_negative() -> None:
    assert not establish(networks=OFFICE).HasField("age")
    assert establish(geography=geography_of({}, built=NOW + DAY)).age.ToTimedelta() == timedelta()


def test_a_mapped_address_is_the_address_inside() -> None:
    location = establish("::ffff:198.51.100.7", networks=OFFICE, geography=geography_of({"198.51.100.0/24": FULL}))
    assert (location.address, location.country, list(location.networks)) == (ADDRESS, "DE", ["office"])
    assert location.transition == "ipv4-mapped"


def test_a_list_is_named_once_and_in_the_order_of_the_file() -> None:
    lists = networks_of(
        b=["10.0.0.0/8", "10.8.0.0/16"], a=["10.8.0.1/32"], c=["11.0.0.0/8"], d=["0.0.0.0/0"], e=["::/0"]
    )
    assert lists.names_of(parse_address("10.8.0.1")) == ("b", "a", "d")
    assert lists.names_of(parse_address("12.0.0.1")) == ("d",)
    assert lists.names_of(parse_address("2001:db8::1")) == ("e",)


def test_two_lists_of_one_name_are_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="one name on two lists"):
        Networks([NetworkList(name="a", networks=()), NetworkList(name="a", networks=())])


PREFIXES_4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda p: IPv4Network(p, strict=False))
PREFIXES_6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(lambda p: IPv6Network(p, strict=False))


@given(st.lists(st.lists(PREFIXES_4 | PREFIXES_6, max_size=6), max_size=5), st.data())
def test_the_index_agrees_with_a_scan(lists: list[list[IPv4Network | IPv6Network]], data: st.DataObject) -> None:
    entries = [NetworkList(name=f"n{i}", networks=tuple(prefixes)) for i, prefixes in enumerate(lists)]
    chosen = [prefix for prefixes in lists for prefix in prefixes] or [IPv4Network("10.0.0.0/8")]
    prefix = data.draw(st.sampled_from(chosen))
    ip = prefix[data.draw(st.integers(0, prefix.num_addresses - 1))]
    try:
        client = parse_address(str(ip))
    except MalformedRequest:
        return
    want = tuple(entry.name for entry in entries if any(client.ip in network for network in entry.networks))
    assert Networks(entries).names_of(client) == want


def test_which_country_decides_is_the_operators_choice_and_stands_in_the_source() -> None:
    geography = geography_of({"198.51.100.0/24": FULL})
    here = establish(geography=geography)
    registered = establish(geography=geography, networks=OFFICE, country_field="registered_country")
    assert (here.country, here.registered_country, here.source) == ("DE", "FR", "geo")
    assert (registered.country, registered.registered_country) == ("FR", "FR")
    assert registered.source == "geo:registered_country+office+vpn"
    assert registered.region == "DE-BE"
    with pytest.raises(ValueError, match="want one of country, registered_country"):
        establish(country_field="represented_country")


NAN, INFINITY = float("nan"), float("inf")
WRONG_RECORDS = (
    pytest.param("Berlin", id="text"),
    pytest.param([FULL], id="list"),
    pytest.param(7, id="number"),
    pytest.param({}, id="empty"),
    pytest.param(
        {"country": "DE", "city": "Berlin", "location": "52,13", "traits": "vpn", "subdivisions": "BE"}, id="flat"
    ),
    pytest.param(
        {"country": {"iso_code": None}, "subdivisions": [], "city": {"names": ["Berlin"]}}, id="nothing-inside"
    ),
    pytest.param({"subdivisions": ["BE"], "continent": {"code": "Europe"}}, id="wrong-inside"),
    pytest.param({"location": {"latitude": NAN, "longitude": INFINITY, "accuracy_radius": -1}}, id="not-finite"),
    pytest.param({"location": {"latitude": 90.1, "longitude": 13.0}}, id="beyond-the-pole"),
    pytest.param({"location": {"latitude": 52.0, "longitude": -180.5}}, id="beyond-the-date-line"),
    pytest.param({"location": {"latitude": 10**400, "longitude": 1}}, id="beyond-a-double"),
    pytest.param(
        {"location": {"latitude": True, "longitude": False, "accuracy_radius": True}}, id="booleans-as-numbers"
    ),
    pytest.param({"location": {"time_zone": "Europe/Berlin\0", "accuracy_radius": 2**70}}, id="nul"),
    pytest.param({"city": {"names": {"en": "Ber\0lin"}}}, id="nul-in-a-name"),
    pytest.param({"city": {"names": {"en": "\ud800"}}}, id="lone-surrogate"),
    pytest.param({"city": {"names": {"en": "B" * 201}}}, id="long-name"),
    pytest.param(
        {"traits": {"is_anonymous": 1, "is_anonymous_vpn": "true", "is_public_proxy": None}}, id="not-boolean"
    ),
    pytest.param({"autonomous_system_number": 2**32, "autonomous_system_organization": b"Net"}, id="no-such-system"),
    pytest.param({"autonomous_system_number": 0}, id="system-zero"),
    pytest.param({1: 2, b"country": {}}, id="keys-that-are-no-text"),
)


@pytest.mark.parametrize("record", WRONG_RECORDS)
def test_what_is_wrong_in_a_record_stays_unset(record: object) -> None:
    location = of_record(record)
    assert judged(location) == (State.ABSENT, 0)
    assert {field.name for field, _ in location.ListFields()} == {
        "state", "age", "source", "empty", "address", "scope", "database_built",
    }  # fmt: skip


def test_half_a_position_is_none() -> None:
    location = of_record(country_record("DE", location={"latitude": 52.5, "longitude": 181, "accuracy_radius": 5}))
    assert not location.HasField("latitude")
    assert (location.country, location.accuracy_km) == ("DE", 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("iso_code", "code", "names", "en", "latitude", "longitude", "time_zone", "is_anonymous")),
            inner,
        )
    ),
    max_leaves=12,
)
KEYS = ("country", "registered_country", "continent", "subdivisions", "city", "location", "traits", "is_anonymous")


@given(JSON | st.dictionaries(st.sampled_from(KEYS), JSON))
def test_no_record_raises_and_every_fact_can_be_written(record: object) -> None:
    location = of_record(record)
    assert facts_pb2.Location.FromString(location.SerializeToString()).address == ADDRESS
    assert location.state in {facts_pb2.PRESENT, facts_pb2.ABSENT}


def test_the_built_time_is_in_utc() -> None:
    location = establish(geography=geography_of({}))
    assert location.database_built.ToDatetime(UTC) == BUILT
