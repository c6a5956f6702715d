# SPDX-License-Identifier: Apache-2.0
"""`SqlLedger`: writers, batches and notes, as the port `Ledger` wants them.

The invariant: one call of `add` is one durable transaction, and a row that is read back is the row that was written,
or Corrupt: each carries a checksum over its other columns. What stands beside sealed leaves comes in with the rounds,
in the same transaction (`companions`); clearing the ledger keeps it, since no leaf has it.

What was signed is never replaced: the first note of a size stays, byte for byte, and a second one must say the same
(rule A3). Only its signatures may differ: a log that starts with a second key signs its head again. Batches are kept
likewise (rule A1). Whether a writer's tree leads to its note's root is for the log to check (rule A4).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, bindparam, delete, func, insert, select

from iap_authz.adapters.trail.companions import keep_companions
from iap_authz.adapters.trail.standing import load_standing, store_standing
from iap_authz.adapters.trail.store import reading, writing
from iap_authz.adapters.trail.tables import batches, notes, writers
from iap_authz.errors import Corrupt, shown
from iap_authz.model.ids import WriterId
from iap_authz.ports import BatchRow, RoundRows, WriterRow
from iap_authz.records.log_leaves import log_id
from iap_authz.tlog.hashing import HASH_BYTES, LeafIndex, NodeHash, TreeSize

CHECKSUM_BYTES = 16
"""Enough that no accident goes unseen; who can write the file can write checksums too."""

_STANDING = "ledger"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_Values = tuple[Any, ...]
"""The columns of a row in their order, without the checksum."""


class SqlLedger:
    """The ledger in a trail's database. It has no state in memory: reads may come from any thread, writes from one.

    `origin` is the log's. It is needed only where companions of leaves of the log's own are added.
    """

    def __init__(self, engine: Engine, *, origin: str | None = None) -> None:
        self._engine = engine
        self._own = None if origin is None else log_id(origin)

    def load(self) -> tuple[TreeSize, list[WriterRow]]:
        """The tree size up to which the ledger stands, and all writers as of then, by id."""
        with reading(self._engine) as connection:
            size = load_standing(connection, _STANDING)
            rows = connection.execute(select(writers).order_by(writers.c.writer)).all()
        return size, [_parse_writer(row) for row in rows]

    def add(self, rows: RoundRows) -> None:
        """Add rounds, in one durable transaction. The same rounds again change nothing.

        Raises ValueError for rounds before those that are there, Corrupt for another note or batch in the same place.
        """
        companions = list(_owned(rows, self._own))
        with writing(self._engine) as connection:
            size = load_standing(connection, _STANDING)
            if rows.size < size:
                raise ValueError(f"got rounds up to size {rows.size}, want at least {size}")
            _keep_writers(connection, rows.writers)
            _keep(connection, batches, [_batch_values(row) for row in rows.batches], keys=2)
            _keep(connection, notes, list(rows.notes), keys=1)
            keep_companions(connection, companions)
            store_standing(connection, _STANDING, rows.size)

    def batches(self, writer: WriterId, begin: int, end: int) -> list[BatchRow]:
        """The batches of a writer that overlap [begin, end), in order."""
        if begin >= end:
            return []
        of_writer = batches.c.writer == writer
        # A writer's batches do not overlap: only the last one that begins at or before `begin` may reach beyond it.
        first = select(func.max(batches.c.begin)).where(of_writer, batches.c.begin <= begin).scalar_subquery()
        wanted = (
            select(batches)
            .where(of_writer, batches.c.begin >= func.coalesce(first, 0), batches.c.begin < end)
            .where(batches.c.end > begin)
            .order_by(batches.c.begin)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(wanted).all()
        return [_parse_batch(row) for row in rows]

    def note(self, size: TreeSize) -> bytes | None:
        """The note that was signed at `size`, byte for byte."""
        with reading(self._engine) as connection:
            row = connection.execute(select(notes).where(notes.c.size == size)).one_or_none()
        if row is None:
            return None
        note: bytes = _checked("notes", row)[1]
        return note

    def clear(self) -> None:
        """Forget writers and batches, keep the notes and the companions."""
        with writing(self._engine) as connection:
            connection.execute(delete(writers))
            connection.execute(delete(batches))
            store_standing(connection, _STANDING, TreeSize(0))


def _owned(rows: RoundRows, own: WriterId | None) -> Iterator[tuple[LeafIndex, WriterId, bytes]]:
    """The companions of `rows`, with whose leaf each stands beside: a batch's, or else one of the log's own."""
    ends = sorted((row.first_index, row.first_index + row.end - row.begin, row.writer) for row in rows.batches)
    at, last = 0, -1
    for index, beside in rows.companions:
        if not last < index < rows.size:
            raise ValueError(f"got a companion of leaf {index} after {last}, want rising ones below {rows.size}")
        last = index
        while at < len(ends) and ends[at][1] <= index:
            at += 1
        writer = ends[at][2] if at < len(ends) and ends[at][0] <= index else own
        if writer is None:
            raise ValueError(f"got a companion of leaf {index}, which is of no batch, want the log's origin for it")
        yield index, writer, beside


def _keep_writers(connection: Connection, rows: Iterable[WriterRow]) -> None:
    """The last row of each writer takes the place of the former one."""
    last = {row.writer: _writer_values(row) for row in rows}
    if last:
        former = delete(writers).where(writers.c.writer == bindparam("former"))
        connection.execute(former, [{"former": writer} for writer in last])
        _insert(connection, writers, list(last.values()))


def _keep(connection: Connection, table: Table, rows: Iterable[_Values], *, keys: int) -> None:
    """Add rows that are never replaced: one that is there, by its first `keys` columns, must say the same."""
    columns = list(table.columns)[:keys]
    new = dict[_Values, _Values]()
    for row in rows:
        key = row[:keys]
        wanted = select(table).where(*(column == value for column, value in zip(columns, key, strict=True)))
        there = connection.execute(wanted).one_or_none()
        before = new.get(key) if there is None else _checked(table.name, there)
        if before is None:
            new[key] = row
        elif _said(before) != _said(row):
            raise Corrupt(table.name, f"got another row in the place of {shown(key)}, want the one that is there")
    if new:
        _insert(connection, table, list(new.values()))


def _said(row: _Values) -> _Values:
    """A row without the signatures of its note, if it has one: they follow the first empty line (C2SP signed-note)."""
    return tuple(value.partition(b"\n\n")[0] if isinstance(value, bytes) else value for value in row)


def _insert(connection: Connection, table: Table, rows: Iterable[_Values]) -> None:
    names = [column.name for column in table.columns]
    connection.execute(insert(table), [dict(zip(names, (*row, _checksum(row)), strict=True)) for row in rows])


def _checksum(row: _Values) -> bytes:
    """Over the values as Python writes them, which is one way for each tuple of numbers, texts and bytes."""
    return sha256(repr(row).encode()).digest()[:CHECKSUM_BYTES]


def _checked(table: str, row: Row[Any]) -> _Values:
    """The values of a row without its checksum, or Corrupt."""
    values = (*row[:-1],)
    if row[-1] != _checksum(values):
        raise Corrupt(table, f"got a row {shown(values)} that its checksum does not cover, want it as it was written")
    return values


def _writer_values(row: WriterRow) -> _Values:
    return (
        row.writer,
        row.public_key,
        row.workload,
        row.registered_index,
        row.retired_index,
        row.size,
        b"".join(row.tree),
        row.note,
        (row.last_seen - _EPOCH) // _MICROSECOND,
    )


def _parse_writer(row: Row[Any]) -> WriterRow:
    writer, public_key, workload, registered, retired, size, tree, note, last_seen = _checked("writers", row)
    return WriterRow(
        writer=WriterId(writer),
        public_key=public_key,
        workload=workload,
        registered_index=LeafIndex(registered),
        retired_index=None if retired is None else LeafIndex(retired),
        size=size,
        tree=tuple(NodeHash(tree[at : at + HASH_BYTES]) for at in range(0, len(tree), HASH_BYTES)),
        note=note,
        last_seen=_EPOCH + last_seen * _MICROSECOND,
    )


def _batch_values(row: BatchRow) -> _Values:
    return (row.writer, row.begin, row.end, row.first_index, row.round_size)


def _parse_batch(row: Row[Any]) -> BatchRow:
    writer, begin, end, first_index, round_size = _checked("batches", row)
    return BatchRow(
        writer=WriterId(writer),
        begin=begin,
        end=end,
        first_index=LeafIndex(first_index),
        round_size=TreeSize(round_size),
    )
