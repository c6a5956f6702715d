# SPDX-License-Identifier: Apache-2.0
r"""The trail's file: opened, recognised, and its transactions. The one module that knows SQLite.

The invariant: a connection that anyone gets keeps what the ledger promises, because each setting was read back after
it was made. A file that is not a trail is refused before anything is written to it.

    header   "SQLite format 3\0" ... user_version at 60, application_id "IaTr" at 68, both 32 bits, big-endian

What a returned write transaction has written is on stable storage (WAL, synchronous=FULL). Deleted content is
overwritten (rule S6). Readers and one writer do not wait for each other; a second writer waits `BUSY_MAX_MS`.

Crash states of the creation: no name; an empty file; a stamped one without tables; all tables and the version, in one
transaction. The next opening goes on from each of them. A trail of version 1, which knew nothing sealed, becomes one of
version 2 in one transaction too: it gets the new tables, and its index, which has no tokens, is to be built anew.

What was overwritten still stands in the WAL until `truncate_wal`. Temporary copies are kept in memory, never in a file.
File format: SQLite, "Database File Format", section 1.3.
"""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, Table, create_engine, delete, event, select
from sqlalchemy.exc import DBAPIError, OperationalError

from iap_authz.adapters.trail import erasure_tables, postings_tables, seal_tables
from iap_authz.adapters.trail.tables import metadata, records, spans, standing, terms
from iap_authz.errors import ConfigInvalid, Corrupt, Unavailable

APPLICATION_ID = int.from_bytes(b"IaTr", "big")
"""Says that a file is a trail of ours (SQLite keeps a place for it in the header)."""

SCHEMA_VERSION = 3
"""Raised with every change of the tables."""

OLDER_VERSIONS = (1, 2)
"""Without tokens, and without a mark of the key that they were made with: their index is built anew."""

TABLE_MODULES = (seal_tables, erasure_tables, postings_tables)
"""Which put their tables into the same `metadata` when they are imported."""

BUSY_MAX_MS = 10_000
"""How long a writer waits for the other one: longer than any transaction of 2,048 leaves on a slow disk."""

CACHE_KIB = 32_768
"""Pages a connection keeps: the inner pages of the indexes of some hundred million records."""

WAL_PAGES = 4_000
"""Pages in the WAL before they are moved into the file, 16 MB: at SQLite's own 1,000 inserts took 20% longer."""

CONNECTIONS = 2
"""One for the ledger's thread, one for the index's."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_APPLICATION_ID_AT = slice(68, 72)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE = 0xFF
"""The low byte of an extended error code is the primary one (sqlite.org/rescode.html)."""

_SETTINGS: dict[str, tuple[str | int, str | int]] = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "secure_delete": ("ON", 1),
    "trusted_schema": ("OFF", 0),
    "temp_store": ("MEMORY", 2),
    "busy_timeout": (BUSY_MAX_MS, BUSY_MAX_MS),
    "cache_size": (-CACHE_KIB, -CACHE_KIB),
    "wal_autocheckpoint": (WAL_PAGES, WAL_PAGES),
}
"""Each setting of a connection: what is asked for, and what must be read back."""

_BEGIN = "sqlite_begin"


def open_trail(file: Path) -> Engine:
    """Open the trail, or make it where there is no file. Call `dispose` on what is returned when done with it.

    Raises ConfigInvalid for a file that others may read or that is no trail, or one of another version; Corrupt for a
    damaged one; OSError.
    """
    _make_private(file)
    _check_private(file)
    _check_ours(file)
    url = URL.create("sqlite", database=str(file))
    engine = create_engine(url, pool_size=CONNECTIONS, hide_parameters=True)  # a message must not quote a sealed key
    event.listen(engine, "connect", _connect_hook(file))
    event.listen(engine, "begin", _begin)
    try:
        _make_schema(engine, file)
        _check_private(file)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the trail. Raises Corrupt for a damaged file, Unavailable for a failing one.

    What the database says of a failure names no value: keys and tokens are among them.
    """
    with _damage_named(engine), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is durable when this returns, or never was. Raises like `reading`.

    It is a writer from its first statement on: one that began by reading could find that the other writer was faster.
    """
    with _damage_named(engine), engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


def truncate_wal(engine: Engine) -> None:
    """Move the whole WAL into the file and empty it: what was overwritten before is then nowhere any more (rule S6).

    Call it outside a transaction. Raises Unavailable if a reader or a writer is in its way for `BUSY_MAX_MS`.
    """
    with _damage_named(engine):
        pooled = engine.raw_connection()
        try:
            cursor = pooled.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, *_ = cursor.fetchone() or (1,)
        finally:
            pooled.close()
    if busy:
        raise Unavailable(f"the trail was in use for {BUSY_MAX_MS / 1000:g} s: its WAL could not be emptied")


@contextmanager
def _damage_named(engine: Engine) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:  # the driver's, over a message of SQLite's that quotes a damaged schema
        raise Corrupt(str(engine.url.database), "got a damaged schema, want text") from error
    except (DBAPIError, sqlite3.DatabaseError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DAMAGED:
            raise Corrupt(str(engine.url.database), f"got a damaged database, want a sound one ({cause})") from error
        if isinstance(error, OperationalError):  # a full disk, a failed read, a lock that nobody gives back
            raise Unavailable(f"the trail {engine.url.database} cannot be used: {cause}") from None
        raise


def _make_private(file: Path) -> None:
    """A new file is empty and ours alone before SQLite sees it; its -wal and -shm files take its mode."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check_private(file: Path) -> None:
    found = file.lstat().st_mode
    if not stat.S_ISREG(found):
        raise ConfigInvalid.of_file(file, "got something that is no regular file, want a trail")
    if stat.S_IMODE(found) & 0o077:
        raise ConfigInvalid.of_file(file, f"got mode {stat.S_IMODE(found):04o}, want 0600")


def _check_ours(file: Path) -> None:
    """Read the header without SQLite, which could change a file it opens; stamp one that is empty."""
    with file.open("rb") as stream:
        header = stream.read(_HEADER_BYTES)
    if not header:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        return
    if not header.startswith(_MAGIC):
        raise ConfigInvalid.of_file(file, "got a file that is no SQLite database, want a trail")
    found = int.from_bytes(header[_APPLICATION_ID_AT], "big")
    if found != APPLICATION_ID:
        raise ConfigInvalid.of_file(file, f"got the application id {found:#x}, want a trail's, {APPLICATION_ID:#x}")


def _connect_hook(file: Path) -> Callable[[sqlite3.Connection, object], None]:
    def connect(connection: sqlite3.Connection, _record: object) -> None:
        """Make each setting and read it back. Transactions are begun by `_begin`, not by the driver."""
        connection.isolation_level = None
        connection.text_factory = _text
        for name, (value, want) in _SETTINGS.items():
            connection.execute(f"PRAGMA {name} = {value}").fetchall()
            (found,) = connection.execute(f"PRAGMA {name}").fetchone()
            if found != want:
                raise ConfigInvalid.of_file(file, f"got {name} {found}, want {want}")

    return connect


def _text(content: bytes) -> str:
    """Text from a column. What is no text any more shall reach whoever compares it, not stop the driver."""
    return content.decode("utf-8", "replace")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _make_schema(engine: Engine, file: Path) -> None:
    with writing(engine) as connection:
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found == 0:
            metadata.create_all(connection, checkfirst=False)
        elif found in OLDER_VERSIONS:
            _take_index_away(connection)
            metadata.create_all(connection)
        elif found != SCHEMA_VERSION:
            raise ConfigInvalid.of_file(file, f"got a trail of version {found}, want {SCHEMA_VERSION}")
        if found != SCHEMA_VERSION:
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for table in metadata.sorted_tables:
            _check_columns(connection, table, file)


def _take_index_away(connection: Connection) -> None:
    """What an index has is derived: it is built anew from leaf 0."""
    metadata.drop_all(connection, tables=[records, spans, terms, postings_tables.postings])
    connection.execute(delete(standing).where(standing.c.name == "index"))


def _check_columns(connection: Connection, table: Table, file: Path) -> None:
    """The schema is text in the file, and a byte of it can flip too: found here, not by the first request."""
    try:
        connection.execute(select(table).limit(0))
    except OperationalError as error:
        raise Corrupt(str(file), f"got another table than {table.name} as it was made ({error.orig})") from error
