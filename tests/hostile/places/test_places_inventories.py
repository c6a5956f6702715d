# SPDX-License-Identifier: Apache-2.0
"""Hostile and broken inventories: corpus rows 204 to 214, and files that are not what they should be."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2, reason_pb2
from iap_authz.adapters.facts.inventory_file import inventory_source, parse_inventory
from iap_authz.adapters.facts.listing import FAULTS_MAX
from iap_authz.errors import Invalid
from iap_authz.facts.device import DeviceRecord, Inventory, check_succession, establish_device
from tests.fakes.certificates import envoy_form, fingerprint_of, make_certificate

TAKEN = "2026-01-31T09:00:00Z"
NOW = datetime(2026, 1, 31, 9, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CERTIFICATE = make_certificate()
FINGERPRINT = fingerprint_of(CERTIFICATE)


def file_of(*devices: object, **top: object) -> bytes:
    return json.dumps({"revision": 7, "taken": TAKEN, "devices": list(devices), **top}).encode()


def device(**fields: object) -> dict[str, object]:
    return {"id": "laptop-1", "certificate_sha256": [FINGERPRINT], **fields}


def establish(inventory: Inventory | None, *, certificate: str = "") -> facts_pb2.Device:
    return establish_device(
        certificate or envoy_form(CERTIFICATE), inventory, NOW, max_posture_age=DAY, max_inventory_age=DAY
    )


def faults_of(content: bytes, file: str = "devices.json") -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_inventory(content, file)
    return [str(fault) for fault in caught.value.faults]


FULL = device(
    managed=True, owner="alice", os="macos", os_version="15.1", disk_encrypted=True, screen_lock=False, firewall=True,
    risk="low", enrolled=True, revoked=False, lost=False, posture_time="2026-01-31T08:55:00.5+01:00", tags=["a", "b"],
    labels={"team": "core"}, model="MacBook",
)  # fmt: skip
FULL_RECORD = DeviceRecord(
    id="laptop-1", certificate_sha256=(FINGERPRINT,), managed=True, owner="alice", os="macos", os_version="15.1",
    disk_encrypted=True, screen_lock=False, firewall=True, risk="low", enrolled=True, revoked=False, lost=False,
    posture_time=datetime(2026, 1, 31, 7, 55, 0, 500_000, tzinfo=UTC), tags=("a", "b"), labels={"team": "core"},
    model="MacBook",
)  # fmt: skip
FULL_YAML = f"""
revision: 7
taken: {TAKEN}
devices:
- id: laptop-1
  certificate_sha256: [{FINGERPRINT}]
  managed: true
  owner: alice
  os: macos
  os_version: "15.1"
  disk_encrypted: true
  screen_lock: false
  firewall: true
  risk: low
  enrolled: true
  revoked: false
  lost: false
  posture_time: 2026-01-31T08:55:00.5+01:00
  tags: [a, b]
  labels: {{team: core}}
  model: MacBook
""".encode()


def test_both_spellings_say_the_same() -> None:
    want = Inventory(name="corp", records=(FULL_RECORD,), revision=7, taken=NOW)
    assert parse_inventory(file_of(FULL), "devices.json", name="corp") == want
    assert parse_inventory(FULL_YAML, "devices.yaml", name="corp") == want
    assert parse_inventory(b" \n" + file_of(FULL), "devices", name="corp") == want
    assert parse_inventory(FULL_YAML, "devices", name="corp") == want


@pytest.mark.parametrize("file", ["devices.json", "devices.yaml"])
def test_row210_what_a_record_does_not_say_is_not_known(file: str) -> None:
    partial = file_of(device(managed=None, tags=None, posture_time=None), {"id": "phone"}, revision=None)
    inventory = parse_inventory(partial, file)
    assert inventory.records == (
        DeviceRecord(id="laptop-1", certificate_sha256=(FINGERPRINT,)),
        DeviceRecord(id="phone"),
    )
    assert inventory.revision is None
    facts = establish(inventory)
    assert facts.state == facts_pb2.PRESENT
    for field in ("managed", "disk_encrypted", "owner", "os", "risk", "revoked", "lost", "age", "posture_time"):
        assert not facts.HasField(field)


def test_row204_a_posture_time_in_the_future_is_false() -> None:
    facts = establish(parse_inventory(file_of(device(posture_time="2026-01-31T09:01:01Z")), "d.json"))
    assert (facts.state, facts.problem) == (facts_pb2.INVALID, reason_pb2.REASON_POSTURE_FUTURE)


def test_row205_a_device_is_refused_with_the_first_load_after_it_was_revoked(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    path.write_bytes(file_of(device()))
    source = inventory_source("corp", path)
    before = source.version()
    assert establish(source.load()).state == facts_pb2.PRESENT
    (tmp_path / "new").write_bytes(file_of(device(revoked=True), revision=8))
    (tmp_path / "new").replace(path)
    assert source.version() != before
    facts = establish(source.load())
    assert (facts.state, facts.problem) == (facts_pb2.INVALID, reason_pb2.REASON_DEVICE_REVOKED)


VARIANTS = ["Laptop-1", "laptop-1 ", " laptop-1", "laptop\u20101", "laptop-\u00b9", "laptop-1\u200b", "lapto\u0440-1"]


def test_row207_ids_are_compared_byte_for_byte() -> None:
    ids = ["laptop-1", *VARIANTS, "caf\u00e9", "cafe\u0301"]
    inventory = parse_inventory(file_of(*({"id": name} for name in ids)), "d.json")
    assert [record.id for record in inventory.records] == ids
    assert establish(parse_inventory(file_of(device(id=" Laptop-1\u200b")), "d.json")).id == " Laptop-1\u200b"


@pytest.mark.parametrize("other", [FINGERPRINT.upper(), FINGERPRINT + " ", FINGERPRINT[:-1], ":".join(FINGERPRINT)])
def test_row207_a_hash_has_one_spelling(other: str) -> None:
    assert "want 64 lowercase hex digits" in faults_of(file_of(device(certificate_sha256=[other])))[0]


def test_row211_the_record_that_answers_is_the_one_that_holds_the_certificate() -> None:
    certificates = [make_certificate(common_name=f"d{number}", serial=number + 1) for number in range(20)]
    devices = [{"id": f"d{n}", "certificate_sha256": [fingerprint_of(c)]} for n, c in enumerate(certificates)]
    inventory = parse_inventory(file_of(*reversed(devices)), "d.json")
    for number, certificate in enumerate(certificates):
        facts = establish(inventory, certificate=envoy_form(certificate))
        assert (facts.id, facts.certificate_sha256) == (f"d{number}", fingerprint_of(certificate))
        found = inventory.find(facts.certificate_sha256)
        assert found is not None
        assert facts.certificate_sha256 in found.certificate_sha256


def test_row212_a_snapshot_put_back_is_refused() -> None:
    current = parse_inventory(file_of(device(revoked=True)), "d.json")
    for older in (file_of(device(), revision=6), file_of(device(), revision=None)):
        with pytest.raises(Invalid, match="want at least 7"):
            check_succession(parse_inventory(older, "d.json"), current)


def test_row214_a_device_whose_record_is_gone_is_unknown() -> None:
    facts = establish(parse_inventory(file_of({"id": "other"}), "d.json"))
    assert (facts.state, facts.problem) == (facts_pb2.ABSENT, reason_pb2.REASON_DEVICE_UNKNOWN)


def test_one_certificate_or_id_on_two_devices_is_refused_with_both_positions() -> None:
    found = faults_of(file_of(device(), {"id": "b"}, device(id="c"), {"id": "b"}))
    assert found == [
        "devices.json: devices[2].certificate_sha256: got a certificate of devices[0], want it on one device",
        "devices.json: devices[3].id: got the id of devices[1], want one of its own",
    ]


WRONG_FIELDS = [
    ("id", "", "got 0 characters, want 1 to 256"),
    ("id", 5, "got 5, want text (quote it)"),
    ("id", "a\0b", "want text without NUL"),
    ("id", "x" * 257, "got 257 characters"),
    ("owner", True, "got True, want text"),
    ("managed", "true", "got 'true', want true or false"),
    ("managed", 1, "got 1, want true or false"),
    ("disk_encrypted", [], "want true or false"),
    ("os", "MacOS", "want one of macos, windows"),
    ("os", ["macos"], "want one of macos"),
    ("risk", "medum", "(did you mean medium?)"),
    ("os_version", 15.1, "got 15.1, want text"),
    ("tags", "eng", "got 'eng', want a list"),
    ("tags", ["eng", 5], "got 5, want text"),
    ("tags", ["t"] * 65, "got 65 items, want at most 64"),
    ("labels", ["a"], "want a mapping"),
    ("labels", {"a": 1}, "got 1, want text"),
    ("certificate_sha256", FINGERPRINT, "want a list"),
    ("certificate_sha256", ["\uff11" * 64], "want 64 lowercase hex digits"),
    ("posture_time", 1_769_849_700, "want text"),
    ("posture_time", "2026-01-31T08:55:00", "want a time with a zone"),
    ("posture_time", "2026-01-31 08:55:00Z", "want a time with a zone"),
    ("posture_time", "2026-01-31", "want a time with a zone"),
    ("posture_time", "2026-02-30T00:00:00Z", "want a time with a zone"),
    ("posture_time", "2026-01-31T08:55:60Z", "want a time with a zone"),
    ("posture_time", "2026-01-31T24:00:00Z", "want a time with a zone"),
    ("posture_time", "2026-01-31T08:55:00+24:00", "want a time with a zone"),
    ("posture_time", "2026-01-31T08:55:00+05:99", "want a time with a zone"),
    ("posture_time", "0001-01-01T00:00:00+01:00", "want a time with a zone"),
    ("posture_time", "9999-12-31T23:59:59-01:00", "want a time with a zone"),
    ("posture_time", "\u0662026-01-31T08:55:00Z", "want a time with a zone"),
    ("posture_time", "2026-01-31T08:55:00Z\n", "want a time with a zone"),
    ("manged", True, "unknown key"),
    ("Managed", True, "(did you mean managed?)"),
    ("compliant", True, "unknown key, want one of id, certificate_sha256"),
]


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize(
    ("field", "value", "message"), [pytest.param(*row, id=f"{row[0]}-{n}") for n, row in enumerate(WRONG_FIELDS)]
)
def test_a_wrong_field_is_named_with_its_device(form: str, field: str, value: object, message: str) -> None:
    found = faults_of(file_of({"id": "first"}, device(**{field: value})), f"devices.{form}")
    assert len(found) == 1
    assert f": devices[1].{field}: " in found[0]
    assert message in found[0]
    assert len(found[0]) < 500


WRONG_TOPS: list[tuple[dict[str, object], str]] = [
    ({"taken": None}, "devices.json: taken: missing"),
    ({"devices": None}, "devices.json: devices: missing"),
    ({"devices": {}}, "devices.json: devices: got {}, want a list"),
    ({"devices": [5]}, "devices.json: devices[0]: got 5, want a mapping"),
    ({"devices": [None]}, "devices.json: devices[0]: got None, want a mapping"),
    ({"devices": [{}]}, "devices.json: devices[0].id: missing"),
    ({"revision": -1}, "devices.json: revision: got -1, want a whole number from 0 to 9223372036854775807"),
    ({"revision": 2**63}, "devices.json: revision: got 9223372036854775808, want a whole number"),
    ({"revision": True}, "devices.json: revision: got True, want a whole number"),
    ({"revision": 7.0}, "devices.json: revision: got 7.0, want a whole number"),
    ({"revision": "7"}, "devices.json: revision: got '7', want a whole number"),
    ({"device": []}, "devices.json: device: unknown key, want one of revision, taken, devices (did you mean devices?)"),
    ({"k" * 500: 1}, f"devices.json: {'k' * 64}...: unknown key"),
]


@pytest.mark.parametrize(("top", "message"), WRONG_TOPS)
def test_a_wrong_field_of_the_inventory_is_named(top: dict[str, object], message: str) -> None:
    found = faults_of(file_of(**top))
    assert len(found) == 1
    assert found[0].startswith(message)


def test_all_faults_are_reported_at_once_with_lines_for_yaml() -> None:
    content = (
        "revision: seven\n"
        "taken: yesterday\n"
        "devices:\n"
        "- id: a\n"
        "  managd: true\n"
        "- id: b\n"
        "  os_version: 15.10\n"
        "  managed: yes\n"
        "  managed: true\n"
        "- owner: c\n"
        "  labels: {a: x, a: y}\n"
        "  certificate_sha256: [0x10]\n"
    )
    found = faults_of(content.encode(), "devices.yaml")
    assert [line.split(": ", 2)[:2] for line in found] == [
        ["devices.yaml:1:11", "revision"],
        ["devices.yaml:2:8", "taken"],
        ["devices.yaml:5:11", "devices[0].managd"],
        ["devices.yaml:7:15", "devices[1].os_version"],
        ["devices.yaml:9:12", "devices[1].managed"],
        ["devices.yaml:10:3", "devices[2].id"],
        ["devices.yaml:11:11", "devices[2].labels"],
        ["devices.yaml:12:23", "devices[2].certificate_sha256"],
    ]
    assert "got 'yesterday', want a time with a zone" in found[1]
    assert "(did you mean managed?)" in found[2]
    assert "got 15.10, want text (quote it)" in found[3]
    assert "got this name twice" in found[4]


def test_an_export_that_is_wrong_everywhere_is_reported_up_to_a_bound() -> None:
    found = faults_of(file_of(*({"id": str(number), "managed": "no"} for number in range(1000))))
    assert len(found) == FAULTS_MAX + 1
    assert found[-1] == "devices.json: and 900 more faults"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b'{"taken": "x",\n "taken": }', "devices.json:2:11: not JSON", id="syntax"),
        pytest.param(file_of() + b"{}", "not JSON: Extra data", id="two-documents"),
        pytest.param(b"\xef\xbb\xbf" + file_of(), "not JSON", id="byte-order-mark"),
        pytest.param(file_of().decode().encode("utf-16"), "not UTF-8 at offset 0", id="utf-16"),
        pytest.param(b"{" + b'"a":[' * 200_000, "not JSON", id="deep"),
        pytest.param(b"[" * 200_000 + b"]" * 200_000, "not JSON: nested too deep", id="deep-and-closed"),
        pytest.param(file_of().replace(b"7", b"7" * 5000), "not JSON", id="a-long-number"),
        pytest.param(file_of().replace(b"7", b"NaN"), "got NaN", id="not-a-number"),
        pytest.param(file_of().replace(b"7", b"-Infinity"), "got -Infinity", id="infinity"),
        pytest.param(file_of().replace(b'"taken"', b'"taken": "x", "taken"'), "taken: got this name twice", id="twice"),
        pytest.param(
            file_of(device()).replace(b'"id"', b'"\\u0069d": "x", "id"'),
            "devices[0].id: got this name twice",
            id="escaped",
        ),
        pytest.param(file_of({"id": "\ud800"}), "lone surrogates", id="half-a-pair"),
        pytest.param(b"[]", "got [], want a mapping", id="a-list"),
        pytest.param(b'"' + b"x" * 10_000 + b'"', "(10002 characters), want a mapping", id="a-text"),
        pytest.param(b"null", "got None, want a mapping", id="null"),
    ],
)
def test_json_that_can_be_read_two_ways_or_none_is_refused(content: bytes, message: str) -> None:
    found = faults_of(content)
    assert message in found[0]
    assert len(found[0]) < 250


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"taken: &a x\ndevices: []\n", id="anchor"),
        pytest.param(b"taken: !!str x\ndevices: []\n", id="tag"),
        pytest.param(b"--- {}\n--- {}\n", id="two-documents"),
        pytest.param(b"? [a]\n: b\n", id="a-list-as-a-key"),
        pytest.param(b"- a\n", id="a-list"),
        pytest.param(b"", id="empty"),
        pytest.param(b"devices: [\n", id="unclosed"),
        pytest.param(b"[" * 5000, id="deep"),
        pytest.param(b"taken: \xff\n", id="not-utf-8"),
        pytest.param(b"taken: 2026-01-31T09:00:00Z\ntaken: 2026-01-31T09:00:00Z\ndevices: []\n", id="twice"),
    ],
)
def test_yaml_that_means_more_than_it_says_is_refused(content: bytes) -> None:
    assert faults_of(content, "devices.yaml")


def test_a_hundred_thousand_devices_load() -> None:
    devices = [
        {"id": f"d{n}", "certificate_sha256": [f"{n:064x}"], "managed": True, "os": "linux"} for n in range(100_000)
    ]
    inventory = parse_inventory(file_of(*devices), "devices.json")
    found = inventory.find(f"{99_999:064x}")
    assert found is not None
    assert found.id == "d99999"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
JSON: st.SearchStrategy[object] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("id", "taken", "devices", "tags", "labels", "managed")) | st.text(max_size=3), inner
        )
    ),
    max_leaves=10,
)


def only_invalid(read: Callable[[], Inventory]) -> Inventory | None:
    try:
        return read()
    except Invalid:
        return None


@given(JSON, st.sampled_from(["devices.json", "devices.yaml", "devices"]))
def test_whatever_is_in_the_file_it_is_an_inventory_or_invalid(value: object, file: str) -> None:
    only_invalid(lambda: parse_inventory(json.dumps(value).encode(), file))


@given(st.binary(max_size=60) | st.text(alphabet="{}[]:,-&*!?|>'\"% \n\tadt0", max_size=40).map(str.encode))
def test_whatever_the_bytes_are_they_are_an_inventory_or_invalid(content: bytes) -> None:
    for file in ("devices.json", "devices.yaml", "devices"):
        assert only_invalid(lambda file=file: parse_inventory(content, file)) is None  # type: ignore[misc]


@given(st.lists(st.fixed_dictionaries({"id": st.text(min_size=1, max_size=5)}), max_size=4))
def test_ids_come_out_as_they_went_in(devices: list[dict[str, str]]) -> None:
    inventory = only_invalid(lambda: parse_inventory(file_of(*devices), "devices.json"))
    if inventory is not None:
        assert [record.id for record in inventory.records] == [entry["id"] for entry in devices]
