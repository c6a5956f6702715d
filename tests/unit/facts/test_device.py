# SPDX-License-Identifier: Apache-2.0
"""Device facts: every row of the table in `facts/device.py`, its order, and what is set beside the state."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Invalid
from iap_authz.facts.device import DeviceRecord, Inventory, check_succession, establish_device, os_version_key
from iap_authz.model.reason import Reason, State
from tests.fakes.certificates import NOT_AFTER, envoy_form, fingerprint_of, make_certificate

NOW = datetime(2026, 2, 1, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
CERTIFICATE = make_certificate()
SHOWN = envoy_form(CERTIFICATE)
FINGERPRINT = fingerprint_of(CERTIFICATE)
FULL = DeviceRecord(
    id="Laptop-1 ",
    certificate_sha256=(FINGERPRINT,),
    managed=True,
    owner="alice",
    os="macos",
    os_version="15.1",
    disk_encrypted=True,
    screen_lock=False,
    firewall=True,
    risk="low",
    enrolled=True,
    revoked=False,
    lost=False,
    posture_time=NOW - HOUR,
    tags=("eng", "berlin"),
    labels={"team": "core"},
    model="MacBook Pro",
)


def inventory_of(*records: DeviceRecord, taken: datetime = NOW, revision: int | None = 7) -> Inventory:
    return Inventory(name="corp", records=records, revision=revision, taken=taken)


def establish(inventory: Inventory | None, *, certificate: str = SHOWN, now: datetime = NOW) -> facts_pb2.Device:
    return establish_device(certificate, inventory, now, max_posture_age=2 * HOUR, max_inventory_age=24 * HOUR)


def judged(device: facts_pb2.Device) -> tuple[int, int]:
    return device.state, device.problem


def known(**fields: object) -> DeviceRecord:
    return DeviceRecord(id="d", certificate_sha256=(FINGERPRINT,), **fields)  # type: ignore[arg-type]


def test_everything_the_inventory_knows_is_set() -> None:
    device = establish(inventory_of(FULL))
    assert device == facts_pb2.Device(
        state=facts_pb2.PRESENT,
        age=HOUR,
        source="corp",
        id="Laptop-1 ",
        managed=True,
        owner="alice",
        os="macos",
        os_version="15.1",
        os_version_key=15_001_000_000,
        disk_encrypted=True,
        screen_lock=False,
        firewall=True,
        risk="low",
        enrolled=True,
        revoked=False,
        lost=False,
        posture_time=NOW - HOUR,
        certificate_sha256=FINGERPRINT,
        certificate_serial="0a1b",
        certificate_not_after=NOT_AFTER,
        tags=["eng", "berlin"],
        labels={"team": "core"},
        inventory_revision=7,
        model="MacBook Pro",
    )


def test_what_the_inventory_does_not_say_stays_unset() -> None:
    device = establish(inventory_of(known(), revision=None))
    assert judged(device) == (State.PRESENT, 0)
    assert {field.name for field, _ in device.ListFields()} == {
        "state", "source", "id", "certificate_sha256", "certificate_serial", "certificate_not_after",
    }  # fmt: skip


def test_no_tags_are_not_unknown_tags() -> None:
    assert list(establish(inventory_of(known(tags=(), labels={}))).empty) == ["tags", "labels"]
    assert list(establish(inventory_of(known(tags=("a",), labels=None))).empty) == []


ROWS = (
    pytest.param(None, State.ERROR, Reason.SOURCE_ERROR, id="no-inventory"),
    pytest.param(inventory_of(known(revoked=True)), State.INVALID, Reason.DEVICE_REVOKED, id="revoked"),
    pytest.param(inventory_of(known(lost=True)), State.INVALID, Reason.DEVICE_REVOKED, id="lost"),
    pytest.param(inventory_of(known(revoked=False, lost=False)), State.PRESENT, 0, id="neither"),
    pytest.param(
        inventory_of(known(posture_time=NOW + 61 * SECOND)), State.INVALID, Reason.POSTURE_FUTURE, id="posture-future"
    ),
    pytest.param(inventory_of(known(posture_time=NOW + 60 * SECOND)), State.PRESENT, 0, id="posture-skewed"),
    pytest.param(inventory_of(known(posture_time=NOW - 2 * HOUR)), State.PRESENT, 0, id="posture-at-its-limit"),
    pytest.param(
        inventory_of(known(posture_time=NOW - 2 * HOUR - SECOND)), State.STALE, Reason.SOURCE_STALE, id="posture-old"
    ),
    pytest.param(inventory_of(known(), taken=NOW - 24 * HOUR), State.PRESENT, 0, id="inventory-at-its-limit"),
    pytest.param(
        inventory_of(known(), taken=NOW - 24 * HOUR - SECOND), State.STALE, Reason.SOURCE_STALE, id="inventory-old"
    ),
    pytest.param(inventory_of(known(), taken=NOW + 60 * SECOND), State.PRESENT, 0, id="inventory-skewed"),
    pytest.param(
        inventory_of(known(), taken=NOW + 61 * SECOND), State.ERROR, Reason.SOURCE_ERROR, id="inventory-future"
    ),
    pytest.param(inventory_of(), State.ABSENT, Reason.DEVICE_UNKNOWN, id="unknown"),
    pytest.param(inventory_of(taken=NOW - 25 * HOUR), State.STALE, Reason.SOURCE_STALE, id="unknown-to-an-old-one"),
    pytest.param(
        inventory_of(known(revoked=True), taken=NOW - 25 * HOUR),
        State.INVALID,
        Reason.DEVICE_REVOKED,
        id="revoked-in-an-old-one",
    ),
)


@pytest.mark.parametrize(("inventory", "state", "problem"), ROWS)
def test_each_row_of_the_table(inventory: Inventory | None, state: State, problem: Reason | int) -> None:
    device = establish(inventory)
    assert judged(device) == (state, problem)
    assert device.certificate_sha256 == FINGERPRINT


def test_no_certificate_is_absent_whatever_the_inventory() -> None:
    for inventory in (None, inventory_of(FULL), inventory_of(FULL, taken=NOW - 99 * HOUR)):
        assert establish(inventory, certificate="") == facts_pb2.Device(state=facts_pb2.ABSENT)


def test_a_bad_certificate_is_invalid_and_nothing_else_is_said() -> None:
    device = establish(inventory_of(FULL), certificate="-----BEGIN")
    assert device == facts_pb2.Device(state=facts_pb2.INVALID, problem=Reason.BAD_CERTIFICATE)  # type: ignore[arg-type]


def test_an_expired_certificate_is_invalid_and_named() -> None:
    for now in (NOT_AFTER + SECOND, datetime(2025, 12, 31, tzinfo=UTC)):
        device = establish(inventory_of(FULL, taken=now), now=now)
        assert judged(device) == (State.INVALID, Reason.BAD_CERTIFICATE)
        assert device.certificate_sha256 == FINGERPRINT


def test_an_age_is_never_negative_and_unset_without_a_posture_time() -> None:
    assert establish(inventory_of(known(posture_time=NOW + 5 * SECOND))).age.ToTimedelta() == timedelta()
    without = establish(inventory_of(known(disk_encrypted=True)))
    assert not without.HasField("age")
    assert without.disk_encrypted


def test_one_certificate_on_two_devices_is_no_inventory() -> None:
    with pytest.raises(Invalid, match="on two devices"):
        inventory_of(known(), DeviceRecord(id="e", certificate_sha256=(FINGERPRINT,)))
    with pytest.raises(Invalid, match="device id on two devices"):
        inventory_of(DeviceRecord(id="e"), DeviceRecord(id="e"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("15", 15_000_000_000),
        ("15.1", 15_001_000_000),
        ("15.1.2", 15_001_000_002),
        ("15.1.2.3", 15_001_000_002),
        ("0", 0),
        ("22.04", 22_004_000_000),
        ("10.0.999999.999999999", 10_000_999_999),
        ("9223372035.999.999999", 9_223_372_035_999_999_999),
        ("9223372036", None),
        ("9999999999.0", None),
        ("10.0.22631", 10_000_022_631),
        ("10.0.22631.3007", 10_000_022_631),
        ("10.1000", None),
        ("10.0.1000000", None),
        ("1.2.3.4444444444", None),
        ("015.1", None),
        ("", None),
        (".1", None),
        ("15.", None),
        ("15..1", None),
        ("1.2.3.4.5", None),
        ("-1", None),
        ("+1", None),
        ("15.1\n", None),
        (" 15.1", None),
        ("1_5", None),
        ("15.1-beta", None),
        ("\u0661\u0665.1", None),
        ("\uff11\uff15", None),
    ],
)
def test_os_version_key(text: str, key: int | None) -> None:
    assert os_version_key(text) == key


VERSION = st.tuples(st.integers(0, 9_999), st.integers(0, 999), st.integers(0, 999_999))


@given(VERSION, VERSION)
def test_keys_order_as_versions_do(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    keys = [os_version_key(".".join(map(str, parts))) for parts in (left, right)]
    assert keys[0] is not None
    assert keys[1] is not None
    assert (keys[0] < keys[1]) == (left < right)


@given(st.text())
def test_a_key_fits_the_field_or_there_is_none(text: str) -> None:
    key = os_version_key(text)
    assert key is None or 0 <= key < 2**63


SUCCESSIONS = (
    (7, 0, 7, 0, ""),
    (7, 0, 8, 0, ""),
    (7, 1, 8, 0, ""),
    (None, 0, None, 0, ""),
    (None, 0, 1, 1, ""),
    (7, 0, 6, 1, "got revision 6, want at least 7"),
    (7, 0, None, 1, "got revision None, want at least 7"),
    (None, 1, None, 0, "taken at"),
)


@pytest.mark.parametrize(("before", "taken_before", "after", "taken_after", "problem"), SUCCESSIONS)
def test_an_inventory_does_not_go_back(
    before: int | None, taken_before: int, after: int | None, taken_after: int, problem: str
) -> None:
    previous = inventory_of(revision=before, taken=NOW + taken_before * SECOND)
    following = inventory_of(revision=after, taken=NOW + taken_after * SECOND)
    check_succession(following, None)
    if not problem:
        check_succession(following, previous)
        return
    with pytest.raises(Invalid, match=problem):
        check_succession(following, previous)
