# SPDX-License-Identifier: Apache-2.0
"""`SqliteHeadStore` beyond the port's contract: its file, its settings, flipped bytes, and racing processes."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from iap_authz.adapters.stores.files import Files
from iap_authz.adapters.stores.head_sqlite import SqliteHeadStore
from iap_authz.errors import ConfigInvalid, Corrupt, IapError
from iap_authz.ports import Freeze, Head
from iap_authz.tlog.hashing import NodeHash, TreeSize
from tests.fakes.clock import START

HEAD = Head(size=TreeSize(70_000), root=NodeHash(bytes(range(32))), time=START, stage_sha256=bytes(range(100, 132)))
NEXT = replace(HEAD, size=TreeSize(70_001), time=START + timedelta(seconds=1))
FREEZE = Freeze(because="two notes of one size", evidence=(b"note one\n", b"note two\n"))


@contextmanager
def opened(file: Path, **options: Any) -> Iterator[SqliteHeadStore]:
    with closing(SqliteHeadStore(file, **options)) as store:
        yield store


@contextmanager
def database(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "head.db"


def write_log(file: Path) -> None:
    with opened(file) as store:
        store.swap(HEAD, expected=None)
        store.freeze(FREEZE)


# ---- the file


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_the_files_are_for_their_owner_only(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_log(tmp_path / "a" / "b" / "head.db")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o700, "b": 0o700, "head.db": 0o600} | {
        name: 0o600 for name in modes if name.startswith("head.db-")
    }


def test_an_empty_file_is_a_new_one(file: Path) -> None:
    file.touch()
    write_log(file)
    with opened(file) as store:
        assert store.load() == HEAD


def test_rows_can_be_read_without_us(file: Path) -> None:
    """The bytes of the module's picture, spelled out a second time."""
    write_log(file)
    with database(file) as connection:
        ((*values, checksum),) = connection.execute("SELECT * FROM head").fetchall()
        ((because, evidence, _),) = connection.execute("SELECT * FROM freeze").fetchall()
    micros = int(START.timestamp()) * 1_000_000 + START.microsecond
    assert values == [70_000, HEAD.root, micros, HEAD.stage_sha256]
    parts = [(70_000).to_bytes(8, "big"), HEAD.root, micros.to_bytes(8, "big"), HEAD.stage_sha256]
    sealed = b"head\n" + b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    assert checksum == sha256(sealed).digest()
    assert because == b"two notes of one size"
    assert evidence == b"\0\0\0\x09note one\n\0\0\0\x09note two\n"


def test_close_may_be_called_twice(file: Path) -> None:
    store = SqliteHeadStore(file)
    store.close()
    store.close()


def test_only_an_operator_thaws(file: Path) -> None:
    write_log(file)
    with opened(file) as store:
        store.thaw()
        assert (store.load(), store.load_freeze()) == (HEAD, None)
        store.thaw()
        later = Freeze(because="later", evidence=())
        store.freeze(later)
        assert store.load_freeze() == later


# ---- what is refused


def other_program(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE head (size INTEGER)")
    connection.execute("PRAGMA application_id = 1")


def other_program_without_id(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE mine (x)")


def newer_version(connection: sqlite3.Connection) -> None:
    SqliteHeadStore(Path(connection.execute("PRAGMA database_list").fetchone()[2])).close()
    connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_program, "another program"),
        (other_program_without_id, "another program"),
        (newer_version, "got a head store of version 2, want 1"),
    ],
)
def test_other_files_are_refused_and_left_alone(
    file: Path, make: Callable[[sqlite3.Connection], None], message: str
) -> None:
    with database(file) as connection:
        make(connection)
        connection.execute("PRAGMA journal_mode = WAL")
    before = file.read_bytes()
    with pytest.raises(ConfigInvalid, match=message):
        SqliteHeadStore(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"x", bytes(100), bytes(511), bytes(4096), b"no database" * 999])
def test_what_is_no_database_is_refused_and_left_alone(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Corrupt):
        SqliteHeadStore(file)
    assert file.read_bytes() == content


def test_a_file_that_was_cut_is_no_new_one(file: Path) -> None:
    write_log(file)
    whole = file.read_bytes()
    for size in (1, 15, 16, 99, 511, 512, 4_095, 4_096, 8_192, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert isinstance(loaded(file), Corrupt), f"{size} bytes"
        assert file.read_bytes() == whole[:size]


def test_a_database_without_tables_is_no_new_one(file: Path) -> None:
    with database(file) as connection:
        connection.execute("CREATE TABLE mine (x)")
        connection.execute("DROP TABLE mine")
    before = file.read_bytes()
    assert before
    with pytest.raises(Corrupt, match="has no tables"):
        SqliteHeadStore(file)
    assert file.read_bytes() == before


def test_a_network_file_system_is_refused(file: Path) -> None:
    class Mounted(Files):
        def mounts(self) -> str:
            return "1 0 0:1 / / rw - nfs4 host:/x rw\n"

    with pytest.raises(ConfigInvalid, match="got a directory on nfs4"):
        SqliteHeadStore(file, files=Mounted())
    assert not file.exists()


# ---- settings


def connection_of(store: SqliteHeadStore) -> sqlite3.Connection:
    return next(value for value in vars(store).values() if isinstance(value, sqlite3.Connection))


def settings_of(store: SqliteHeadStore) -> tuple[str, int]:
    connection = connection_of(store)
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    return mode.decode(), synchronous


def test_f27_synchronous_is_full_and_the_truth_is_in_the_file(file: Path) -> None:
    with opened(file) as store:
        assert settings_of(store) == ("truncate", 2)


def test_f27_a_file_that_was_set_to_wal_is_set_back(file: Path) -> None:
    write_log(file)
    with database(file) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with opened(file) as store:
        assert settings_of(store) == ("truncate", 2)
        assert store.load() == HEAD


class Stubborn(sqlite3.Connection):
    """A SQLite that takes no settings."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        return super().execute("SELECT 1" if sql == self.ignored else sql, *arguments)

    ignored = ""


@pytest.mark.parametrize(
    ("ignored", "before", "message"),
    [
        ("PRAGMA journal_mode = TRUNCATE", "", "got journal_mode b'delete', synchronous 2"),
        ("PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL", "got journal_mode b'truncate', synchronous 1"),
    ],
)
def test_f27_settings_that_are_not_in_force_are_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, ignored: str, before: str, message: str
) -> None:
    connect = sqlite3.connect
    made: list[sqlite3.Connection] = []

    def stubborn(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*arguments, **options, factory=type("Set", (Stubborn,), {"ignored": ignored})))
        made[0].execute(before)
        return made[0]

    monkeypatch.setattr(sqlite3, "connect", stubborn)
    with pytest.raises(ConfigInvalid, match=message):
        SqliteHeadStore(file)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_a_wal_that_is_in_use_is_not_taken_over(file: Path) -> None:
    write_log(file)
    with database(file) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("SELECT * FROM head").fetchall()
        with pytest.raises(OSError, match="database is locked"):
            SqliteHeadStore(file, busy_seconds=0.01)


# ---- locks and errors


def test_a_lock_that_stays_is_an_oserror_and_nothing_is_done(file: Path) -> None:
    write_log(file)
    with opened(file, busy_seconds=0.01) as store, database(file) as other:
        other.execute("BEGIN EXCLUSIVE")
        for call in (
            lambda: store.swap(NEXT, expected=HEAD),
            lambda: store.freeze(FREEZE),
            store.load,
            store.load_freeze,
        ):
            with pytest.raises(OSError, match="database is locked"):
                call()
        other.execute("ROLLBACK")
        assert store.load() == HEAD
        store.swap(NEXT, expected=HEAD)
        assert store.load() == NEXT


def test_a_commit_that_fails_is_not_taken_up_by_the_next_one(file: Path) -> None:
    """A reader that holds its lock lets a transaction begin, and not commit."""
    write_log(file)
    with opened(file, busy_seconds=0.01) as store, database(file) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM head").fetchall()
        with pytest.raises(OSError, match="database is locked"):
            store.swap(NEXT, expected=HEAD)
        reader.execute("COMMIT")
        store.freeze(FREEZE)
        assert store.load() == HEAD


def test_nobody_can_write_between_compare_and_update(file: Path) -> None:
    """A transaction that took its lock only to write would find another's commit as a lock, not as HeadMoved."""
    write_log(file)
    refused: list[str] = []
    with opened(file) as store, closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as other:

        def interfere(statement: str) -> None:
            if statement.startswith("SELECT"):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
                refused.append(statement)

        connection_of(store).set_trace_callback(interfere)
        store.swap(NEXT, expected=HEAD)
        store.freeze(FREEZE)
    assert len(refused) == 2


def test_a_closed_store_is_a_defect(file: Path) -> None:
    store = SqliteHeadStore(file)
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.load()


# ---- damage


def loaded(file: Path) -> object:
    """Head and freeze as they are read, or the error that says they are damaged."""
    try:
        with opened(file) as store:
            return store.load(), store.load_freeze()
    except (Corrupt, ConfigInvalid) as error:
        return error


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_f19_no_flipped_bit_is_believed(file: Path, bit: int) -> None:
    """Every byte that is not zero, and of the zeros (mostly unused space) each seventh."""
    write_log(file)
    whole = file.read_bytes()
    found = 0
    for at, byte in enumerate(whole):
        if byte or at % 7 == 0:
            file.write_bytes(whole[:at] + bytes([byte ^ bit]) + whole[at + 1 :])
            result = loaded(file)
            assert isinstance(result, IapError) or result == (HEAD, FREEZE), f"byte {at}"
            found += isinstance(result, IapError)
    assert found > 300


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM head",
        "DROP TABLE head",
        "INSERT INTO head SELECT * FROM head",
        "UPDATE head SET size = size + 1",
        "UPDATE head SET size = 'seventy thousand'",
        "UPDATE head SET size = 70000.5",
        "UPDATE head SET time_us = time_us + 1",
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET stage_sha256 = root, root = stage_sha256",
        "UPDATE head SET size = NULL, root = NULL, time_us = NULL, stage_sha256 = NULL",
        "UPDATE head SET sha256 = zeroblob(32)",
        "UPDATE head SET sha256 = (SELECT sha256 FROM freeze)",
    ],
)
def test_f19_a_head_that_was_not_written_so_is_corrupt(file: Path, statement: str) -> None:
    write_log(file)
    with database(file) as connection:
        connection.execute(statement)
    with opened(file) as store:
        with pytest.raises(Corrupt) as caught:
            store.load()
        assert caught.value.where == str(file)
        with pytest.raises(Corrupt):
            store.swap(NEXT, expected=HEAD)
        assert store.load_freeze() == FREEZE


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM freeze",
        "DROP TABLE freeze",
        "UPDATE freeze SET because = NULL, evidence = NULL",
        "UPDATE freeze SET because = ''",
        "UPDATE freeze SET evidence = x''",
    ],
)
def test_f19_a_freeze_does_not_go_unseen(file: Path, statement: str) -> None:
    write_log(file)
    with database(file) as connection:
        connection.execute(statement)
    with opened(file) as store:
        with pytest.raises(Corrupt):
            store.load_freeze()
        with pytest.raises(Corrupt):
            store.freeze(FREEZE)


# ---- processes

RACER = """
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from iap_authz.adapters.stores.head_sqlite import SqliteHeadStore
from iap_authz.errors import HeadMoved
from iap_authz.tlog.hashing import TreeSize

number = int(sys.argv[2])
with closing(SqliteHeadStore(Path(sys.argv[1]))) as store:
    for _ in sys.stdin:
        head = store.load()
        print("ready", flush=True)
        sys.stdin.readline()
        mine = replace(head, size=TreeSize(head.size + 1 + number), time=head.time + timedelta(seconds=1))
        try:
            store.swap(mine, expected=head)
            print("won", flush=True)
        except HeadMoved:
            print("moved", flush=True)
"""

RACES = 20


def ask(racers: list["subprocess.Popen[str]"]) -> list[str]:
    """Send each a line, then read each one's answer."""
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    return [racer.stdout.readline().strip() if racer.stdout else "" for racer in racers]


def test_of_racing_processes_one_wins(file: Path) -> None:
    with opened(file) as store:
        store.swap(HEAD, expected=None)
        command = [sys.executable, "-c", RACER, str(file)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        racers = [subprocess.Popen([*command, str(number)], **pipes) for number in range(2)]
        size = HEAD.size
        for _ in range(RACES):
            assert ask(racers) == ["ready", "ready"]
            results = ask(racers)
            assert sorted(results) == ["moved", "won"]
            size = TreeSize(size + 1 + results.index("won"))
            head = store.load()
            assert head is not None
            assert head.size == size
        for racer in racers:
            assert racer.communicate(timeout=30) == ("", None)
            assert racer.returncode == 0


def test_processes_may_make_the_file_together(file: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from iap_authz.adapters.stores.head_sqlite import SqliteHeadStore;"
        " store = SqliteHeadStore(Path(sys.argv[1])); print(store.load()); store.close()"
    )
    command = [sys.executable, "-c", program, str(file)]
    makers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [maker.communicate(timeout=30)[0] for maker in makers] == ["None\n"] * 3
