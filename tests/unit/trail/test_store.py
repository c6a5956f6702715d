# SPDX-License-Identifier: Apache-2.0
"""The trail's file: private, recognised, and with the settings that the ledger's promise needs."""

import os
import sqlite3
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, insert
from sqlalchemy.exc import IntegrityError

from iap_authz.adapters.trail import store
from iap_authz.adapters.trail.companions import SqlCompanions
from iap_authz.adapters.trail.index import SqlIndex
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.seal_epochs import SqlSealEpochs
from iap_authz.adapters.trail.store import APPLICATION_ID, SCHEMA_VERSION, open_trail, reading, writing
from iap_authz.adapters.trail.tables import metadata, notes
from iap_authz.errors import ConfigInvalid, Corrupt, Unavailable
from iap_authz.ports import RoundRows
from iap_authz.records.log_leaves import log_id
from iap_authz.records.seal import parse_beside
from iap_authz.tlog.hashing import LeafIndex, TreeSize
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import seal_of
from tests.fakes.trail import mixed_leaves


def test_a_new_trail_is_ours_alone_and_marked(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        engine = open_trail(tmp_path / "trail")
        SqlIndex(engine).add(LeafIndex(0), mixed_leaves(3), [()] * 3)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"trail": 0o600, "trail-wal": 0o600, "trail-shm": 0o600}
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / "trail")) as other:
        assert other.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert other.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        tables = {row[0] for row in other.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == set(metadata.tables)


def test_s6_every_connection_overwrites_and_syncs(tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "trail")
    with reading(engine) as one, reading(engine) as two:
        for connection in (one, two):
            got = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "secure_delete", "busy_timeout", "temp_store")
            }
            assert got.pop("temp_store") == 2, "what a statement sets aside is in memory"
            assert got == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "busy_timeout": 10_000}
    engine.dispose()


def test_a_setting_that_does_not_hold_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store._SETTINGS, "journal_mode", ("DELETE", "wal"))  # noqa: SLF001 - as a file system would
    with pytest.raises(ConfigInvalid, match="got journal_mode delete, want wal"):
        open_trail(tmp_path / "trail")


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    open_trail(tmp_path / "trail").dispose()
    before = (tmp_path / "trail").read_bytes()
    open_trail(tmp_path / "trail").dispose()
    assert (tmp_path / "trail").read_bytes() == before


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    open_trail(tmp_path / "trail").dispose()
    (tmp_path / "trail").chmod(0o640)
    with pytest.raises(ConfigInvalid, match="got mode 0640, want 0600"):
        open_trail(tmp_path / "trail")


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE precious (value TEXT)")


def foreign_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA application_id = 7")


def no_database(path: Path) -> None:
    path.write_bytes(b"a letter, or a key")


def newer_trail(path: Path) -> None:
    open_trail(path).dispose()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


OLD_TABLES = ("standing", "writers", "batches", "notes", "terms", "records", "spans")


def old_trail(path: Path) -> None:
    """A trail of version 1, with a note and three leaves indexed."""
    engine = open_trail(path)
    ledger = RoundRows(size=TreeSize(3), notes=((TreeSize(3), b"a note"),), batches=(), writers=())
    SqlLedger(engine).add(ledger)
    SqlIndex(engine).add(LeafIndex(0), mixed_leaves(3), [()] * 3)
    engine.dispose()
    with closing(sqlite3.connect(path)) as other, other:
        for name in set(metadata.tables) - set(OLD_TABLES):
            other.execute(f"DROP TABLE {name}")
        other.execute("PRAGMA user_version = 1")


def test_a_trail_of_version_1_keeps_its_ledger_and_is_indexed_anew(tmp_path: Path) -> None:
    old_trail(tmp_path / "trail")
    for _ in range(2):
        engine = open_trail(tmp_path / "trail")
        assert (SqlLedger(engine).load()[0], SqlLedger(engine).note(TreeSize(3))) == (3, b"a note")
        assert (SqlIndex(engine).size(), SqlCompanions(engine).size(), SqlSealEpochs(engine).load()) == (0, 3, (0, 0))
        engine.dispose()
    engine = open_trail(tmp_path / "trail")
    SqlIndex(engine).add(LeafIndex(0), mixed_leaves(3), [(1, 2)] * 3)
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / "trail")) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign_database, "got the application id 0x0, want a trail's"),
        (foreign_application, "got the application id 0x7, want a trail's"),
        (no_database, "got a file that is no SQLite database"),
        (newer_trail, "got a trail of version 4, want 3"),
    ],
)
def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "trail"
    make(path)  # type: ignore[operator]
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(ConfigInvalid, match=message):
        open_trail(path)
    assert path.read_bytes() == before
    assert {other.name for other in tmp_path.iterdir()} == {"trail"}


def test_a_folder_and_a_link_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no regular file"):
        open_trail(tmp_path)
    open_trail(tmp_path / "trail").dispose()
    (tmp_path / "link").symlink_to(tmp_path / "trail")
    with pytest.raises(ConfigInvalid, match="no regular file"):
        open_trail(tmp_path / "link")


def test_a_missing_folder_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_trail(tmp_path / "missing" / "trail")


def test_a_creation_that_was_interrupted_is_taken_up(tmp_path: Path) -> None:
    """The crash states of the module's story: an empty file; a stamped one without tables."""
    for name, stamp in (("empty", False), ("stamped", True)):
        path = tmp_path / name
        path.touch(0o600)
        if stamp:
            with closing(sqlite3.connect(path)) as other, other:
                other.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        engine = open_trail(path)
        assert SqlIndex(engine).size() == 0
        engine.dispose()


def test_a_reader_sees_one_state_while_another_writes(tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "trail")
    with reading(engine) as before:
        assert before.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0
        with writing(engine) as other:
            other.exec_driver_sql("INSERT INTO notes VALUES (1, x'00', x'00')")
        assert before.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0
    with reading(engine) as after:
        assert after.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 1
    engine.dispose()


def test_a_writer_that_fails_changes_nothing(tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "trail")

    def fail() -> None:
        with writing(engine) as connection:
            connection.exec_driver_sql("INSERT INTO notes VALUES (1, x'00', x'00')")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    with reading(engine) as after:
        assert after.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0
    engine.dispose()


def test_f3_a_full_disk_is_said_without_a_word_of_what_was_to_be_written(tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "trail.sqlite")

    def fill(connection: sqlite3.Connection, *_: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(engine, "checkout", fill)
    besides = [seal_of(ORIGIN, log_id(ORIGIN)).beside for _ in range(100)]
    companions = tuple((LeafIndex(index), beside) for index, beside in enumerate(besides))
    with pytest.raises(Unavailable, match="database or disk is full") as caught:
        SqlLedger(engine, origin=ORIGIN).add(
            RoundRows(size=TreeSize(100), notes=(), batches=(), writers=(), companions=companions)
        )
    said = "".join(traceback.format_exception(caught.value))
    for beside in besides:
        key = parse_beside(beside).sealed_subject_key
        assert not any(repr(secret)[2:-1] in said for secret in (key, beside[:32]))
    assert "sealed" not in said.partition("Unavailable")[2]
    engine.dispose()


def test_an_error_of_ours_quotes_no_value(tmp_path: Path) -> None:
    engine, rows = open_trail(tmp_path / "trail.sqlite"), [{"size": 1, "note": b"K" * 40, "checksum": b""}] * 2
    with pytest.raises(IntegrityError) as caught, writing(engine) as connection:
        connection.execute(insert(notes), rows)
    assert "K" * 40 not in "".join(traceback.format_exception(caught.value))
    engine.dispose()


def test_f19_damaged_pages_are_named_damage(tmp_path: Path) -> None:
    path = tmp_path / "trail"
    engine = open_trail(path)
    SqlIndex(engine).add(LeafIndex(0), mixed_leaves(100), [()] * 100)
    engine.dispose()
    with closing(sqlite3.connect(path)) as other:
        roots = [row[0] for row in other.execute("SELECT rootpage FROM sqlite_master WHERE type = 'table'")]
    content = bytearray(path.read_bytes())
    for page in roots:
        content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    engine = open_trail(path)
    with pytest.raises(Corrupt, match="got a damaged database"):
        SqlIndex(engine).size()
    engine.dispose()
