# SPDX-License-Identifier: Apache-2.0
"""`ports.FactSource`: one suite for every implementation."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iap_authz.adapters.facts.api_keys import api_keys_source
from iap_authz.adapters.facts.files import FileSource
from iap_authz.adapters.facts.inventory_file import inventory_source, parse_inventory
from iap_authz.adapters.facts.maxmind import MaxmindSource
from iap_authz.adapters.facts.network_lists import network_lists_source
from iap_authz.adapters.facts.revocations import revocations_source
from iap_authz.demo.geography import Place, write_demo_database
from iap_authz.errors import IapError, Invalid, SourceUnavailable
from iap_authz.facts.address import parse_address
from iap_authz.facts.apikey import ApiKeys
from iap_authz.facts.device import Inventory
from iap_authz.facts.location import Geography, Networks
from iap_authz.facts.revocation import RevocationList
from iap_authz.ports import FactSource

TAKEN = "2026-01-31T09:00:00Z"
FINGERPRINT = "ab" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One implementation: how to make it, to write a generation of its file, and to see which one a value is."""

    file: str
    make: Callable[[Path], FactSource[object]]
    write: Callable[[Path, int], None]
    generation: Callable[[object], int]


def write_json(path: Path, generation: int) -> None:
    device = {"id": "d", "certificate_sha256": [FINGERPRINT], "managed": True}
    path.write_text(json.dumps({"revision": generation, "taken": TAKEN, "devices": [device]}))


def write_yaml(path: Path, generation: int) -> None:
    path.write_text(f"revision: {generation}\ntaken: {TAKEN}\ndevices:\n- {{id: d, managed: true}}\n")


def write_lists(path: Path, generation: int) -> None:
    path.write_text(f"networks:\n  g{generation}: [192.0.2.0/24]\n")


def write_database(path: Path, generation: int) -> None:
    write_demo_database(
        path, {"192.0.2.0/24": Place(country="DE", city=str(generation))}, built=datetime(2026, 1, 1, tzinfo=UTC)
    )


def write_revocations(path: Path, generation: int) -> None:
    path.write_text(json.dumps({"revision": generation, "revoked": [{"issuer": "i", "sub": "s"}]}))


def write_api_keys(path: Path, generation: int) -> None:
    path.write_text(json.dumps({"revision": generation, "keys": []}))


def inventory_generation(value: object) -> int:
    assert isinstance(value, Inventory)
    return value.revision or 0


def networks_generation(value: object) -> int:
    assert isinstance(value, Networks)
    return int(value.names_of(parse_address("192.0.2.1"))[0].removeprefix("g"))


def geography_generation(value: object) -> int:
    assert isinstance(value, Geography)
    record = value.lookup("192.0.2.1")
    assert record is not None
    city = record["city"]
    assert isinstance(city, dict)
    return int(city["names"]["en"])


def revocations_generation(value: object) -> int:
    assert isinstance(value, RevocationList)
    return value.revision


def api_keys_generation(value: object) -> int:
    assert isinstance(value, ApiKeys)
    return value.revision or 0


def make_revocations(path: Path) -> FactSource[RevocationList]:
    return revocations_source("source", path)


def make_api_keys(path: Path) -> FactSource[ApiKeys]:
    return api_keys_source("source", path, pepper=bytes(32))


def make_inventory(path: Path) -> FactSource[Inventory]:
    return inventory_source("source", path)


def make_lists(path: Path) -> FactSource[Networks]:
    return network_lists_source("source", path)


def make_database(path: Path) -> FactSource[Geography]:
    return MaxmindSource("source", path)


KINDS = [
    pytest.param(
        Kind(file="devices.json", make=make_inventory, write=write_json, generation=inventory_generation), id="json"
    ),
    pytest.param(
        Kind(file="devices.yaml", make=make_inventory, write=write_yaml, generation=inventory_generation), id="yaml"
    ),
    pytest.param(
        Kind(file="networks.yaml", make=make_lists, write=write_lists, generation=networks_generation), id="networks"
    ),
    pytest.param(
        Kind(file="revoked.json", make=make_revocations, write=write_revocations, generation=revocations_generation),
        id="revocations",
    ),
    pytest.param(
        Kind(file="keys.json", make=make_api_keys, write=write_api_keys, generation=api_keys_generation),
        id="api-keys",
    ),
    pytest.param(
        Kind(file="places.mmdb", make=make_database, write=write_database, generation=geography_generation),
        id="maxmind",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A source with its file, which holds generation 1."""

    kind: Kind
    path: Path
    source: FactSource[object]

    def replace(self, generation: int) -> None:
        """Swap the file for another one, as a careful writer does."""
        new = self.path.with_name("new")
        self.kind.write(new, generation)
        new.replace(self.path)

    def loaded(self) -> int:
        return self.kind.generation(self.source.load())


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    kind: Kind = request.param
    path = tmp_path / kind.file
    kind.write(path, 1)
    return Case(kind=kind, path=path, source=kind.make(path))


def test_the_name_is_the_operators_and_holds_no_path(case: Case) -> None:
    assert case.source.name == "source"


def test_the_whole_source_is_read(case: Case) -> None:
    assert case.loaded() == 1


def test_loading_works_from_any_thread_and_at_once(case: Case) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: case.loaded(), range(12))) == {1}


def test_the_version_is_the_same_while_nothing_changes(case: Case) -> None:
    before = case.source.version()
    case.source.load()
    assert case.source.version() == before
    assert before is not None


def test_a_replaced_file_has_another_version_and_other_content(case: Case) -> None:
    before = case.source.version()
    case.replace(2)
    assert case.source.version() != before
    assert case.loaded() == 2


def test_a_file_changed_in_place_has_another_version(case: Case) -> None:
    before = case.source.version()
    with case.path.open("ab") as file:
        file.write(b"\n")
    assert case.source.version() != before


def test_a_deleted_file_is_unavailable_and_what_was_loaded_still_answers(case: Case) -> None:
    value = case.source.load()
    before = case.source.version()
    case.path.unlink()
    with pytest.raises(SourceUnavailable, match="cannot read"):
        case.source.load()
    assert case.source.version() != before
    assert case.kind.generation(value) == 1
    case.replace(3)
    assert case.loaded() == 3


def test_a_truncated_file_under_a_loaded_value_changes_nothing(case: Case) -> None:
    value = case.source.load()
    os.truncate(case.path, 0)
    assert case.kind.generation(value) == 1


@pytest.mark.parametrize("keep", [0, 1, 0.25, 0.5, 0.9])
def test_a_cut_file_is_refused(case: Case, keep: float) -> None:
    content = case.path.read_bytes()
    case.path.write_bytes(content[: int(keep) or int(keep * (len(content) - 2))])
    with pytest.raises(Invalid):
        case.source.load()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff\xfe", b"[]", b"null", b"- a\n", b"{", b"\xab\xcd\xefMaxMind.com", b"{}" * 50]
)
def test_content_of_another_kind_is_refused(case: Case, content: bytes) -> None:
    case.path.write_bytes(content)
    with pytest.raises(Invalid) as caught:
        case.source.load()
    assert caught.value.faults
    assert all(fault.file == str(case.path) for fault in caught.value.faults)


def test_a_folder_is_refused(case: Case) -> None:
    case.path.unlink()
    case.path.mkdir()
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count, of what is no file of ours
    for _ in range(3):
        with pytest.raises(Invalid, match="not a regular file"):
            case.source.load()
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208


def test_a_named_pipe_is_refused_without_waiting_for_its_writer(case: Case) -> None:
    case.path.unlink()
    os.mkfifo(case.path)
    with pytest.raises(Invalid, match="not a regular file"):
        case.source.load()


def test_links_that_lead_nowhere_or_in_circles_are_unavailable(case: Case) -> None:
    case.path.unlink()
    case.path.symlink_to(case.path.name)
    with pytest.raises(SourceUnavailable):
        case.source.load()
    case.path.unlink()
    case.path.symlink_to("nowhere")
    with pytest.raises(SourceUnavailable):
        case.source.load()


def test_a_mounted_config_map_is_followed_through_its_swap(case: Case, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    for generation in (1, 2):
        (mount / f"..{generation}").mkdir(parents=True)
        case.kind.write(mount / f"..{generation}" / case.kind.file, generation)
    (mount / "..data").symlink_to("..1")
    (mount / case.kind.file).symlink_to(f"..data/{case.kind.file}")
    source = case.kind.make(mount / case.kind.file)
    first = source.version()
    assert case.kind.generation(source.load()) == 1
    (mount / "..data_tmp").symlink_to("..2")
    (mount / "..data_tmp").rename(mount / "..data")
    assert source.version() != first
    assert case.kind.generation(source.load()) == 2


def test_a_file_over_its_bound_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    source = FileSource("source", path, parse_inventory, max_bytes=10)
    path.write_bytes(b"0" * 11)
    with pytest.raises(Invalid, match="got 11 bytes, want at most 10"):
        source.load()


def test_a_sparse_file_of_a_terabyte_is_refused_unread(case: Case) -> None:
    os.truncate(case.path, 2**40)
    with pytest.raises(Invalid, match="want at most"):
        case.source.load()


def test_a_file_that_changes_while_it_is_read_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "devices.json"
    write_json(path, 1)
    original = os.fstat
    calls = []

    def growing(descriptor: int) -> os.stat_result:
        result = original(descriptor)
        calls.append(descriptor)
        with path.open("ab") as file:
            file.write(b" ")
        return result

    monkeypatch.setattr(os, "fstat", growing)
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        inventory_source("source", path).load()
    assert calls


def test_whatever_the_path_names_only_our_errors_come_out(case: Case, tmp_path: Path) -> None:
    for path in (tmp_path / "a" / "b", case.path / "below-a-file", tmp_path / ("x" * 300), Path("/proc/self/mem")):
        source = case.kind.make(path)
        with pytest.raises(IapError):
            source.load()
        source.version()
