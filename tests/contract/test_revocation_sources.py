# SPDX-License-Identifier: Apache-2.0
"""The two places of a revocation list, a file and a database: one contract."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iap_authz.adapters.facts.postgres import Database
from iap_authz.adapters.facts.revocations import revocations_source
from iap_authz.adapters.facts.revocations_database import RevocationsDatabase
from iap_authz.errors import Invalid, SourceUnavailable
from iap_authz.facts.revocation import Kind, Revocation, RevocationList, check_succession
from iap_authz.ports import FactSource
from iap_authz.sidecar.refresh import Slot
from tests.fakes.postgres import SIDECAR, SIDECAR_PASSWORD, Postgres

ISSUER = "https://login.example.com/"
NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
TEN = datetime(2026, 1, 31, 10, 0, 0, 250_000, tzinfo=UTC)

WRITTEN: Sequence[Mapping[str, str]] = (
    {"issuer": ISSUER, "sub": "ada", "before": "2026-01-31T09:00:00Z"},
    {"issuer": ISSUER, "sub": "Bj\u00f6rn \U0001f600 'quoted' %s {x} \\"},
    {"issuer": ISSUER, "sid": "s-1", "until": "2026-01-31T11:00:00.25+01:00"},
    {"issuer": ISSUER, "jti": "17"},
    {"issuer": ISSUER, "kid": "one"},
    {"api_key": "9f86d081884c7d65"},
    {"certificate_sha256": "ab" * 32},
    {"issuer": "CN=Example CA,O=Example\\, Inc.", "certificate_serial": "0a1b"},
)
READ = (
    Revocation(kind=Kind.SUBJECT, issuer=ISSUER, value="ada", before=NINE),
    Revocation(kind=Kind.SUBJECT, issuer=ISSUER, value="Bj\u00f6rn \U0001f600 'quoted' %s {x} \\"),
    Revocation(kind=Kind.SESSION, issuer=ISSUER, value="s-1", until=TEN),
    Revocation(kind=Kind.TOKEN_ID, issuer=ISSUER, value="17"),
    Revocation(kind=Kind.SIGNING_KEY, issuer=ISSUER, value="one"),
    Revocation(kind=Kind.API_KEY, value="9f86d081884c7d65"),
    Revocation(kind=Kind.CERTIFICATE, value="ab" * 32),
    Revocation(kind=Kind.SERIAL, issuer="CN=Example CA,O=Example\\, Inc.", value="0a1b"),
)
GOOD = WRITTEN[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A list somewhere. `replace` puts other entries there; `spoil` adds one that means nothing."""

    source: FactSource[RevocationList]
    replace: Callable[[Sequence[Mapping[str, str]]], None]
    spoil: Callable[[], None]
    put_back_older: Callable[[], None]
    lose: Callable[[], object]
    bring_back: Callable[[], object]


def file_place(folder: Path) -> Place:
    path, kept, written = folder / "revoked.json", folder / "kept", [0]

    def write(content: object) -> None:
        new = folder / "new"
        new.write_text(json.dumps(content))
        new.replace(path)

    def replace(entries: Sequence[Mapping[str, str]]) -> None:
        written[0] += 1
        write({"revision": written[0], "revoked": entries})

    return Place(
        source=revocations_source("revocations", path),
        replace=replace,
        spoil=lambda: write({"revision": written[0] + 1, "revoked": [{"sub": "without an issuer"}]}),
        put_back_older=lambda: write({"revision": 0, "revoked": []}),
        lose=lambda: path.replace(kept),
        bring_back=lambda: kept.replace(path),
    )


def render_insert(entry: Mapping[str, str]) -> str:
    """SQL, as an operator would write it by hand."""
    kind = next(name for name in entry if name not in ("issuer", "before", "until"))
    columns = {"kind": kind, "value": entry[kind], "issuer": entry.get("issuer", "")}
    columns |= {name: entry[name] for name in ("before", "until") if name in entry}
    values = ", ".join("'" + text.replace("'", "''") + "'" for text in columns.values())
    return f"INSERT INTO iap_authz.revocations ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 -- of this file


def database_place(postgres: Postgres) -> Place:
    name = postgres.make_database()
    url = postgres.url(name, role=SIDECAR, password=SIDECAR_PASSWORD)

    def replace(entries: Sequence[Mapping[str, str]]) -> None:
        postgres.run(name, ["; ".join(["DELETE FROM iap_authz.revocations", *map(render_insert, entries)])])

    def drop(constraint: str) -> str:
        return f"ALTER TABLE iap_authz.revocations DROP CONSTRAINT {constraint}"

    spoiled = "INSERT INTO iap_authz.revocations (kind, value) VALUES ('sub', 'without an issuer')"
    older = "UPDATE iap_authz.revocations_revision SET revision = 0, change = gen_random_uuid()"
    guard = "ALTER TABLE iap_authz.revocations_revision {} TRIGGER keep_revision"
    return Place(
        source=RevocationsDatabase("revocations", Database(lambda: url, read_only=True)),
        replace=replace,
        spoil=lambda: postgres.run(name, [drop("issuer_where_it_means_something"), spoiled]),
        put_back_older=lambda: postgres.run(name, [guard.format("DISABLE"), older, guard.format("ENABLE ALWAYS")]),
        lose=postgres.stop,
        bring_back=postgres.start,
    )


@pytest.fixture(params=["file", "database"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "file":
        yield file_place(tmp_path)
        return
    made = database_place(request.getfixturevalue("postgres"))
    yield made
    assert isinstance(made.source, RevocationsDatabase)
    made.source.close()


def served(slot: Slot[RevocationList]) -> tuple[Revocation, ...] | None:
    return None if slot.served is None else slot.served.entries


def slot_of(place: Place, *, max_stale_seconds: float = 60.0) -> Slot[RevocationList]:
    slot = Slot(place.source, max_stale_seconds=max_stale_seconds, check_succession=check_succession)
    slot.load(0.0)
    return slot


def test_all_kinds_are_read_as_they_were_written(place: Place) -> None:
    place.replace(WRITTEN)
    assert place.source.load().entries == READ


def test_an_empty_list_is_a_list(place: Place) -> None:
    place.replace([])
    assert place.source.load().entries == ()


def test_the_version_moves_with_each_change_and_not_without(place: Place) -> None:
    versions = []
    for entries in ([GOOD], [], [GOOD]):
        place.replace(entries)
        versions.append(place.source.version())
        assert place.source.version() == versions[-1]
    assert len(set(versions)) == 3


def test_a_change_is_loaded_by_the_next_look_and_only_then(place: Place) -> None:
    place.replace([])
    slot = slot_of(place)
    assert slot.refresh(1.0) is False
    place.replace([GOOD])
    assert slot.refresh(2.0) is True
    assert served(slot) == (READ[3],)
    assert slot.refresh(3.0) is False


def test_a_list_with_an_entry_that_cannot_be_read_is_not_taken_and_says_which(place: Place) -> None:
    place.replace([GOOD])
    slot = slot_of(place)
    place.spoil()
    assert slot.refresh(60.0) is False
    assert "got a sub without an issuer, want the iss of its tokens" in slot.problem
    assert "revoked[" in slot.problem
    assert served(slot) == (READ[3],)
    assert slot.refresh(60.1) is True
    assert served(slot) is None
    with pytest.raises(Invalid):
        place.source.load()


def test_an_older_revision_is_not_taken(place: Place) -> None:
    place.replace([GOOD])
    slot = slot_of(place)
    place.put_back_older()
    assert slot.refresh(1.0) is False
    assert "got revision 0, want at least" in slot.problem
    assert served(slot) == (READ[3],)


def test_a_list_that_is_away_counts_until_max_stale_and_comes_back_by_itself(place: Place) -> None:
    place.replace([GOOD])
    slot = slot_of(place)
    place.lose()
    try:
        looks = [(slot.refresh(seconds), served(slot)) for seconds in (1.0, 60.0, 60.1, 61.0)]
        with pytest.raises(SourceUnavailable):
            place.source.load()
    finally:
        place.bring_back()
    assert looks == [(False, (READ[3],)), (False, (READ[3],)), (True, None), (False, None)]
    for seconds in (62.0, 63.0):
        slot.refresh(seconds)
    assert served(slot) == (READ[3],)
    assert slot.problem == ""


def test_loading_works_from_any_thread_and_at_once(place: Place) -> None:
    place.replace([GOOD])
    with ThreadPoolExecutor(4) as pool:
        assert {found.entries for found in pool.map(lambda _: place.source.load(), range(12))} == {(READ[3],)}
