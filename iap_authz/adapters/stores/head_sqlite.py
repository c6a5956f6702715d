# SPDX-License-Identifier: Apache-2.0
r"""`SqliteHeadStore`: the head of a log and its freeze, in one file of SQLite.

The invariant: what was committed is what is loaded. Each of the two tables has exactly one row, from the first moment
on, and each row a SHA-256 over all of it; so a byte that changed, or a row that is gone, is Corrupt, not "no head".

    head    size | root | time_us            | stage_sha256 | sha256      all NULL but the last: there is none yet
    freeze  because | evidence               | sha256                     all NULL but the last: not frozen

    time_us    microseconds since 1970 in UTC
    evidence   for each note: u32 big-endian length || note
    sha256     of the table's name and "\n", then for each value: "-" if NULL, else u64 big-endian length || value
               (a number is 8 bytes, big-endian)

The settings, read back at open (CORPUS F27):

    synchronous = FULL       COMMIT returns after the sync
    journal_mode = TRUNCATE  the truth is in the file itself. With WAL, a changed byte in the log would end it early and
                             bring an older head back, silently. DELETE needs synchronous = EXTRA to be durable.

A swap is BEGIN IMMEDIATE, compare, update, COMMIT: of two processes one wins, and the other finds HeadMoved. It may be
used from another thread than it was made in, by one thread at a time.

Not here: what a head means. The rows prove nothing against somebody who may write the file.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from struct import Struct

from iap_authz.adapters.stores.files import Files, check_local, make_directories
from iap_authz.errors import ConfigInvalid, Corrupt, HeadMoved, shown
from iap_authz.ports import Freeze, Head
from iap_authz.tlog.hashing import HASH_BYTES, NodeHash, TreeSize

APPLICATION_ID = 0x69415A48
"""In the header of the file: "iAZH"."""

SCHEMA_VERSION = 1
"""The user_version of the file: the tables above."""

BUSY_SECONDS = 5.0
"""How long another process's transaction is waited for. It takes milliseconds, unless the process was stopped in it."""

_SCHEMA = (
    "CREATE TABLE head (size INTEGER, root BLOB, time_us INTEGER, stage_sha256 BLOB, sha256 BLOB NOT NULL)",
    "CREATE TABLE freeze (because BLOB, evidence BLOB, sha256 BLOB NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_SELECT_HEAD = "SELECT size, root, time_us, stage_sha256, sha256 FROM head"
_INSERT_HEAD = "INSERT INTO head VALUES (?, ?, ?, ?, ?)"
_UPDATE_HEAD = "UPDATE head SET size = ?, root = ?, time_us = ?, stage_sha256 = ?, sha256 = ?"
_SELECT_FREEZE = "SELECT because, evidence, sha256 FROM freeze"
_INSERT_FREEZE = "INSERT INTO freeze VALUES (?, ?, ?)"
_UPDATE_FREEZE = "UPDATE freeze SET because = ?, evidence = ?, sha256 = ?"

_NO_HEAD = (None, None, None, None)
_NO_FREEZE = (None, None)

_JOURNAL_MODE = b"truncate"
_SYNCHRONOUS_FULL = 2
_PRIMARY_CODE = 0xFF
"""The part of SQLite's error code that every version knows; what is above says more."""

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH})
"""What our statements only end in if the file is not as it was written; a column that is missing is SQLITE_ERROR."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_U32 = Struct(">I")
_U64 = Struct(">Q")
_I64 = Struct(">q")

Value = int | bytes | None


class SqliteHeadStore:
    """Satisfies `ports.HeadStore`. `file` and the directories above it are made if they are not there.

    Raises ConfigInvalid for a file of another program or version, for one on a network file system, and where the
    settings above are not in force; Corrupt for a file that is no database.
    """

    def __init__(self, file: Path, *, files: Files | None = None, busy_seconds: float = BUSY_SECONDS) -> None:
        self._file = file
        _make_file(file, files or Files())
        with self._translated():
            self._connection = sqlite3.connect(
                file, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
        # Text is given as it is: a changed byte is for the checksum to find, not for a decoder.
        self._connection.text_factory = bytes
        try:
            with self._translated():
                self._check_ours()
                self._set_up()
                self._create()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()

    def load(self) -> Head | None:
        """The committed head; None if there never was one. Raises Corrupt, OSError."""
        with self._translated():
            return self._load_head()

    def swap(self, head: Head, *, expected: Head | None) -> None:
        """Commit `head`, if the head is `expected`. Raises HeadMoved if not; after anything else the process must end.

        Raises ValueError, before anything is done, for a head that does not follow `expected` (rule T3).
        """
        values = _head_values(head)
        _check_follows(head, expected)
        with self._transaction():
            if self._load_head() != expected:
                raise HeadMoved("another sequencer has committed to this log: this process must end")
            self._connection.execute(_UPDATE_HEAD, _sealed("head", values))

    def load_freeze(self) -> Freeze | None:
        """Whether the log is frozen. Raises Corrupt, OSError."""
        with self._translated():
            return self._load_freeze()

    def freeze(self, freeze: Freeze) -> None:
        """Freeze the log durably. The first freeze stays."""
        evidence = b"".join(_U32.pack(len(note)) + note for note in freeze.evidence)
        with self._transaction():
            if self._load_freeze() is None:
                self._connection.execute(_UPDATE_FREEZE, _sealed("freeze", (freeze.because.encode(), evidence)))

    def thaw(self) -> None:
        """Remove the freeze: for an operator who has looked at the evidence, and for nobody else."""
        with self._transaction():
            self._connection.execute(_UPDATE_FREEZE, _sealed("freeze", _NO_FREEZE))

    def _load_head(self) -> Head | None:
        values = self._load_row("head", _SELECT_HEAD)
        match values:
            case (int(size), bytes(root), int(time_us), bytes(stage)):
                time = _EPOCH + time_us * _MICROSECOND
                return Head(size=TreeSize(size), root=NodeHash(root), time=time, stage_sha256=stage)
            case _:
                self._check_none(values, "head")
                return None

    def _load_freeze(self) -> Freeze | None:
        values = self._load_row("freeze", _SELECT_FREEZE)
        match values:
            case (bytes(because), bytes(evidence)):
                return Freeze(because=because.decode(), evidence=tuple(_split(evidence)))
            case _:
                self._check_none(values, "freeze")
                return None

    def _load_row(self, table: str, select: str) -> tuple[Value, ...]:
        """The values of the one row of a table, whose checksum holds."""
        rows = self._connection.execute(select).fetchall()
        if len(rows) != 1:
            raise self._corrupt(f"got {len(rows)} rows in table {table}, want 1")
        values = tuple(rows[0][:-1])
        if not all(value is None or isinstance(value, int | bytes) for value in values):
            raise self._corrupt(f"got a value of another type in table {table}")
        if rows[0] != _sealed(table, values):
            raise self._corrupt(f"got a row in table {table} that is not its checksum's")
        return values

    def _check_none(self, values: tuple[Value, ...], table: str) -> None:
        if any(value is not None for value in values):
            raise self._corrupt(f"got values of other types in table {table}")

    def _corrupt(self, message: str) -> Corrupt:
        return Corrupt(str(self._file), f"{message}: put back the newest copy, and never start without one")

    def _check_ours(self) -> None:
        """Refuse a file of another program or version, before anything in it is changed."""
        application, version, tables = self._state()
        if (application, version, tables) == (0, 0, 0):
            return
        if application != APPLICATION_ID:
            raise ConfigInvalid.of_file(self._file, "got a database of another program, want a head store's or no file")
        if version != SCHEMA_VERSION:
            message = f"got a head store of version {version}, want {SCHEMA_VERSION}: use the program that wrote it"
            raise ConfigInvalid.of_file(self._file, message)

    def _create(self) -> None:
        """Make the tables of a new file and their rows, unless another process does so at this moment."""
        if self._state() != (0, 0, 0):
            return
        with self._transaction():
            if self._state() != (0, 0, 0):
                return
            if self._file.stat().st_size:
                raise self._corrupt("got a file that was cut off or has no tables, want a head store's")
            for statement in _SCHEMA:
                self._connection.execute(statement)
            self._connection.execute(_INSERT_HEAD, _sealed("head", _NO_HEAD))
            self._connection.execute(_INSERT_FREEZE, _sealed("freeze", _NO_FREEZE))

    def _state(self) -> tuple[int, int, int]:
        """Application id, version and count of tables."""
        return (
            self._number("PRAGMA application_id"),
            self._number("PRAGMA user_version"),
            self._number("SELECT count(*) FROM sqlite_master"),
        )

    def _set_up(self) -> None:
        """Set how commits are made, and read it back (CORPUS F27)."""
        self._connection.execute("PRAGMA journal_mode = TRUNCATE")
        self._connection.execute("PRAGMA synchronous = FULL")
        mode, synchronous = self._value("PRAGMA journal_mode"), self._value("PRAGMA synchronous")
        if (mode, synchronous) != (_JOURNAL_MODE, _SYNCHRONOUS_FULL):
            message = (
                f"got journal_mode {shown(mode)}, synchronous {shown(synchronous)}, want b'truncate' and 2 (FULL):"
                " close what else has this file open, and use a SQLite that can"
            )
            raise ConfigInvalid.of_file(self._file, message)

    def _number(self, query: str) -> int:
        return int(self._value(query) or 0)

    def _value(self, query: str) -> Value:
        """The one value that a query gives."""
        row: tuple[Value] = self._connection.execute(query).fetchone()
        return row[0]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends; alone from its start on."""
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # What COMMIT left open must not be taken up by the next one.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as ours: damage is Corrupt, and what a disk or a lock refuses is an OSError."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:  # a defect: not SQLite's answer, but Python's to a wrong call
                raise
            if code & _PRIMARY_CODE in _DAMAGE:
                raise self._corrupt(f"got {shown(str(error))} from SQLite") from error
            raise OSError(errno.EIO, f"{error} ({error.sqlite_errorname})", str(self._file)) from error
        except UnicodeDecodeError as error:  # in a message of SQLite's that quotes the damage
            raise self._corrupt("got a schema that is no text") from error


def _make_file(file: Path, files: Files) -> None:
    """Make the file if it is not there, for its owner only; SQLite's own files get the same mode."""
    check_local(file.parent, files)
    make_directories(file.parent, files)
    with contextlib.suppress(FileExistsError):
        files.close(files.create(file))
    files.sync_directory(file.parent)


def _check_follows(head: Head, expected: Head | None) -> None:
    """Raise ValueError unless `head` may come after `expected` (rule T3); a caller that asks otherwise has a defect."""
    if expected is None:
        return
    if head.time <= expected.time:
        raise ValueError(f"got a head of time {head.time}, want one after {expected.time}")
    if head.size <= expected.size:
        raise ValueError(f"got a head of size {head.size}, want one above {expected.size}")


def _head_values(head: Head) -> tuple[Value, ...]:
    if head.time.tzinfo is None or len(head.root) != HASH_BYTES or len(head.stage_sha256) != HASH_BYTES:
        raise ValueError(f"got {shown(head)}, want a time with its zone and digests of {HASH_BYTES} bytes")
    return head.size, head.root, (head.time - _EPOCH) // _MICROSECOND, head.stage_sha256


def _sealed(table: str, values: Sequence[Value]) -> tuple[Value, ...]:
    """A row: the values, and their checksum."""
    digest = sha256(f"{table}\n".encode())
    for value in values:
        digest.update(_sealable(value))
    return (*values, digest.digest())


def _sealable(value: Value) -> bytes:
    if value is None:
        return b"-"
    data = _I64.pack(value) if isinstance(value, int) else value
    return _U64.pack(len(data)) + data


def _split(evidence: bytes) -> Iterator[bytes]:
    """The notes of a column whose checksum holds."""
    at = 0
    while at < len(evidence):
        start = at + _U32.size
        at = start + int(_U32.unpack_from(evidence, at)[0])
        yield evidence[start:at]
