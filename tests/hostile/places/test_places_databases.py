# SPDX-License-Identifier: Apache-2.0
"""Geography databases: corpus rows 197 to 202, and files that are damaged where nobody looks until a request does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter, TreeWriter
from netaddr import IPSet

from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.adapters.facts.maxmind import MaxmindSource, parse_geography
from iap_authz.demo.geography import DEMO_PLACES, Place, write_demo_database
from iap_authz.errors import Invalid, SourceUnavailable
from iap_authz.facts.location import Geography, Networks, establish_location

BUILT = datetime(2026, 1, 1, tzinfo=UTC)
NOW = BUILT + timedelta(days=10)
BUILT_SECONDS = int(BUILT.timestamp())
MARKER = b"\xab\xcd\xefMaxMind.com"


def establish(
    address: str, geography: Geography | None, *, now: datetime = NOW, country_field: str = "country"
) -> facts_pb2.Location:
    return establish_location(
        address, Networks(), geography, now,
        geography_configured=True, max_build_age=timedelta(days=45), country_field=country_field,
    )  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("places") / "demo.mmdb"
    write_demo_database(path, DEMO_PLACES, built=BUILT)
    return path.read_bytes()


@pytest.fixture(scope="module")
def geography(database: bytes) -> Geography:
    return parse_geography(database, "demo.mmdb", name="demo")


def write_database(
    path: Path, *, kind: str = "Test-City", version: int = 6, record: object = None, epoch: int = BUILT_SECONDS
) -> Path:
    """A database with one record for 192.0.2.0/24, and metadata as told."""
    writer = MMDBWriter(ip_version=version, ipv4_compatible=version == 6, database_type=kind)
    content: Any = record if record is not None else {"country": {"iso_code": "DE"}}
    writer.insert_network(IPSet(["192.0.2.0/24"]), content)
    metadata = {
        "ip_version": version, "database_type": kind, "languages": [], "binary_format_major_version": 2,
        "binary_format_minor_version": 0, "description": {},
        "build_epoch": epoch,
    }  # fmt: skip
    TreeWriter(writer.tree, metadata, "auto", "f64").write(str(path))
    return path


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.200", ("DE", "EU", "DE-BE", "Berlin", 64496)),
        ("::ffff:198.51.100.1", ("FR", "EU", "FR-IDF", "Paris", 64497)),
        ("203.0.113.9", ("US", "NA", "US-NY", "New York", 64498)),
        ("2001:db8:ffff::1", ("DE", "EU", "DE-BE", "Berlin", 64496)),
    ],
)
def test_the_demonstrations_database_is_read_like_a_real_one(
    geography: Geography, address: str, place: tuple[str, str, str, str, int]
) -> None:
    location = establish(address, geography)
    assert (location.country, location.continent, location.region, location.city, location.asn) == place
    assert location.state == facts_pb2.PRESENT
    assert location.age.ToTimedelta() == NOW - BUILT
    assert location.source == "demo"
    assert location.accuracy_km == 20


def test_a_longer_prefix_wins_in_whatever_order_they_are_written(tmp_path: Path) -> None:
    wide, narrow, host = Place(country="DE"), Place(country="FR"), Place(country="NL", registered_country="BE")
    path = tmp_path / "p.mmdb"
    write_demo_database(path, {"10.1.2.3/32": host, "10.1.0.0/16": narrow, "10.0.0.0/8": wide}, built=BUILT)
    found = MaxmindSource("demo", path).load()
    countries = [establish(address, found).country for address in ("10.9.9.9", "10.1.9.9", "10.1.2.3", "11.0.0.1")]
    assert countries == ["DE", "FR", "NL", ""]
    assert establish("10.1.2.3", found).registered_country == "BE"
    assert not establish("10.1.2.3", found).HasField("latitude")


def test_a_database_written_without_a_time_is_built_now(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    write_demo_database(tmp_path / "p.mmdb", DEMO_PLACES)
    assert before <= MaxmindSource("demo", tmp_path / "p.mmdb").load().built <= datetime.now(UTC)
    assert [path.name for path in tmp_path.iterdir()] == ["p.mmdb"]


def test_row197_an_address_not_in_the_database_has_no_place(geography: Geography) -> None:
    for address in ("8.8.8.8", "2a00::1", "10.0.0.1"):
        location = establish(address, geography)
        assert location.state == facts_pb2.ABSENT
        assert not location.HasField("country")


def test_row191_a_database_that_aliases_wrapped_addresses_is_not_asked(database: bytes) -> None:
    geography = parse_geography(database, "demo.mmdb", name="demo")
    for address in ("::192.0.2.1", "2002:c000:201::1", "64:ff9b::192.0.2.1"):
        assert not establish(address, geography).HasField("country")


def test_row198_a_missing_database_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        MaxmindSource("geo", tmp_path / "none.mmdb").load()
    location = establish("192.0.2.1", None)
    assert (location.state, location.problem) == (facts_pb2.ERROR, reason_pb2.REASON_SOURCE_ERROR)


def test_row198_a_database_of_ninety_days_is_stale(geography: Geography) -> None:
    location = establish("192.0.2.1", geography, now=BUILT + timedelta(days=90))
    assert (location.state, location.problem) == (facts_pb2.STALE, reason_pb2.REASON_SOURCE_STALE)
    assert location.database_built.ToDatetime(UTC) == BUILT


def test_row198_a_database_cut_anywhere_is_refused(database: bytes) -> None:
    start = database.rindex(MARKER)
    for end in (*range(0, start, 97), *range(start, len(database))):
        with pytest.raises(Invalid, match="truncated"):
            parse_geography(database[:end], "cut.mmdb", name="cut")


@pytest.mark.parametrize(
    "kind", ["GeoLite2-ASN", "GeoIP2-Anonymous-IP", "GeoIP2-Connection-Type", "ipinfo country", ""]
)
def test_row198_a_database_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_database(tmp_path / "p.mmdb", kind=kind)
    with pytest.raises(Invalid, match=f"got a database of type '{kind}', want one of countries or cities"):
        MaxmindSource("geo", path).load()


@pytest.mark.parametrize(
    "kind",
    [
        "GeoLite2-City",
        "GeoLite2-Country",
        "GeoIP2-City-Europe",
        "GeoIP2-Enterprise",
        "DBIP-Location (compat=Enterprise)",
    ],
)
def test_databases_that_know_countries_are_taken(tmp_path: Path, kind: str) -> None:
    found = MaxmindSource("geo", write_database(tmp_path / "p.mmdb", kind=kind)).load()
    assert establish("192.0.2.1", found).country == "DE"


@pytest.mark.parametrize("epoch", [2**40, 2**63, 2**64 - 1])
def test_row198_a_build_time_beyond_any_calendar_is_refused(tmp_path: Path, epoch: int) -> None:
    path = write_database(tmp_path / "p.mmdb", epoch=epoch)
    with pytest.raises(Invalid, match="truncated, or not a MaxMind DB file"):
        MaxmindSource("geo", path).load()


@pytest.mark.parametrize(
    "value", [b"\x44soon", b"\x00\x07", b"\xe0", b"\x68\x7f\xf0" + bytes(6), b"\x68\x7f\xf8" + bytes(6)]
)
def test_row198_a_build_time_of_another_type_is_refused(database: bytes, value: bytes) -> None:
    """In turn text, false, an empty map, infinity, not a number: the metadata is last, so lengths may change."""
    key = b"build_epoch"
    start = database.rindex(key) + len(key)
    assert database[start : start + 2] == b"\x04\x02"
    with pytest.raises(Invalid, match="truncated"):
        parse_geography(database[:start] + value + database[start + 6 :], "x.mmdb", name="x")


def test_an_ipv4_database_knows_nothing_of_ipv6(tmp_path: Path) -> None:
    found = MaxmindSource("geo", write_database(tmp_path / "p.mmdb", version=4)).load()
    assert establish("192.0.2.1", found).country == "DE"
    assert establish("2001:db8::1", found).state == facts_pb2.ABSENT


@pytest.mark.parametrize("record", ["DE", ["DE"], 7, True, {"country": "DE"}, {"country": {"iso_code": 5}}])
def test_a_record_of_another_layout_says_nothing(tmp_path: Path, record: object) -> None:
    found = MaxmindSource("geo", write_database(tmp_path / "p.mmdb", record=record)).load()
    assert establish("192.0.2.1", found).state == facts_pb2.ABSENT


def row200_record() -> dict[str, object]:
    return {
        "country": {"iso_code": "DE"},
        "registered_country": {"iso_code": "FR"},
        "represented_country": {"iso_code": "US"},
        "traits": {"is_anonymous": True, "is_hosting_provider": False},
    }


def test_row200_which_country_decides_is_configured_and_recorded(tmp_path: Path) -> None:
    found = MaxmindSource("geo", write_database(tmp_path / "p.mmdb", record=row200_record())).load()
    here = establish("192.0.2.1", found)
    registered = establish("192.0.2.1", found, country_field="registered_country")
    assert (here.country, here.registered_country, here.source) == ("DE", "FR", "geo")
    assert (registered.country, registered.registered_country, registered.source) == (
        "FR",
        "FR",
        "geo:registered_country",
    )
    for location in (here, registered):
        assert (location.anonymous, location.hosting) == (True, False)
        assert not location.HasField("vpn")


CODES = ["de", "De", "D", "DEU", "T1", "A1", "\uff24\uff25", "DE ", " DE", "D\u0415", "DE\n", "", "D\0"]


@pytest.mark.parametrize("code", [pytest.param(code, id=f"row202-{n}") for n, code in enumerate(CODES)])
def test_row202_a_country_is_two_capital_letters_or_unknown(tmp_path: Path, code: str) -> None:
    record = {"country": {"iso_code": code}, "registered_country": {"iso_code": code}}
    found = MaxmindSource("geo", write_database(tmp_path / "p.mmdb", record=record)).load()
    location = establish("192.0.2.1", found)
    assert location.state == facts_pb2.ABSENT
    assert not location.HasField("country")
    assert not location.HasField("registered_country")


def test_row202_codes_without_a_country_pass_as_they_are(tmp_path: Path) -> None:
    found = MaxmindSource("geo", write_database(tmp_path / "p.mmdb", record={"country": {"iso_code": "XX"}})).load()
    assert establish("192.0.2.1", found).country == "XX"


def opened(read: Callable[[], Geography]) -> Geography | None:
    try:
        return read()
    except Invalid:
        return None


@given(st.data())
def test_a_damaged_database_is_refused_or_its_facts_are_an_error_or_well_formed(
    database: bytes, data: st.DataObject
) -> None:
    content = bytearray(database)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    geography = opened(lambda: parse_geography(bytes(content), "damaged.mmdb", name="damaged"))
    if geography is None:
        return
    for address in ("192.0.2.1", "198.51.100.7", "203.0.113.7", "2001:db8::1", "8.8.8.8"):
        location = establish(address, geography, now=max(NOW, geography.built))
        assert location.state in {facts_pb2.PRESENT, facts_pb2.ABSENT, facts_pb2.STALE, facts_pb2.ERROR}
        assert facts_pb2.Location.FromString(location.SerializeToString()).address == location.address


@given(st.binary(max_size=200))
def test_any_bytes_after_the_marker_are_a_database_or_invalid(content: bytes) -> None:
    assert opened(lambda: parse_geography(MARKER + content, "x.mmdb", name="x")) is None


def test_damage_in_the_data_is_an_error_for_the_address_it_hits(database: bytes) -> None:
    content = database.replace(b"Berlin", b"\xff" * 6)
    geography = parse_geography(content, "damaged.mmdb", name="damaged")
    location = establish("192.0.2.1", geography)
    assert (location.state, location.problem) == (facts_pb2.ERROR, reason_pb2.REASON_SOURCE_ERROR)
    assert not location.HasField("country")
    assert establish("198.51.100.7", geography).state == facts_pb2.PRESENT
