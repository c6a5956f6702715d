# SPDX-License-Identifier: Apache-2.0
"""`SqlCompanions`: what stands beside sealed leaves, as the port `Companions` wants it, and how it comes in.

The invariant: a row that is there is never written again by what comes in, erased or not: adding rounds a second time
brings back nothing. A copy of an erased key that comes later is not kept: its row names the erasure, and is late.

Rows are added by the ledger, in its own transaction, so `size` is where the ledger stands.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, bindparam, func, insert, or_, select, update

from iap_authz.adapters.trail.seal_tables import KEY_DIGEST_BYTES, U32, U64, companions, subject_keys
from iap_authz.adapters.trail.standing import load_standing
from iap_authz.adapters.trail.store import reading, truncate_wal, writing
from iap_authz.errors import Malformed
from iap_authz.model.ids import WriterId
from iap_authz.ports import NO_ERASURE, KeptCompanion, SealedKey
from iap_authz.records.seal import SALT_BYTES, SEALED_KEY_BYTES, parse_beside
from iap_authz.tlog.hashing import LeafIndex

_ASKED_AT_ONCE = 500
"""Values in one statement; SQLite takes 32,766 parameters, other databases fewer."""

_NUMBERS_END = 1 << 63
"""No database has a larger number; a row that was changed may."""

_STANDING = "ledger"
_NO_ROUND = U32.pack(0)

_Row = tuple[Any, ...]
"""The values of a row in the order of the table's columns."""


class SqlCompanions:
    """What a trail's database has beside sealed leaves. Reads may come from any thread, writes from one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def size(self) -> int:
        """The companions of all leaves below this are here, as far as they ever came."""
        with reading(self._engine) as connection:
            return load_standing(connection, _STANDING)

    def find(self, indices: Collection[LeafIndex]) -> Mapping[LeafIndex, KeptCompanion]:
        """What there is beside these leaves. One that is late still has its key's number and its own salt."""
        columns = companions.c.log_index, companions.c.key, companions.c.salt, companions.c.erasure
        with reading(self._engine) as connection:
            rows = [
                row
                for some in _portions(indices)
                for row in connection.execute(select(*columns).where(companions.c.log_index.in_(some)))
            ]
        return {
            LeafIndex(index): KeptCompanion(key=_number(key, U64.size), salt=salt, erasure=erasure)
            for index, key, salt, erasure in rows
        }

    def keys(self, numbers: Collection[int]) -> Mapping[int, SealedKey]:
        """The subject keys of these numbers."""
        with reading(self._engine) as connection:
            rows = [
                row
                for some in _portions(number for number in numbers if 0 < number < _NUMBERS_END)
                for row in connection.execute(select(subject_keys).where(subject_keys.c.number.in_(some)))
            ]
        return {row.number: _parse_key(row) for row in rows}

    def count_keys(self) -> Mapping[int, int]:
        """How many keys that are not erased are sealed to each vault epoch. Reads an index of all of them."""
        epoch = subject_keys.c.vault_epoch
        wanted = select(epoch, func.count()).where(subject_keys.c.erasure == NO_ERASURE).group_by(epoch)
        with reading(self._engine) as connection:
            return {_number(value, U32.size): count for value, count in connection.execute(wanted)}

    def keys_to_reseal(self, epoch: int, *, limit: int) -> list[SealedKey]:
        """Some of the keys that are not erased and sealed to another epoch than this one."""
        column, value = subject_keys.c.vault_epoch, U32.pack(epoch)
        wanted = (
            select(subject_keys)
            .where(subject_keys.c.erasure == NO_ERASURE, or_(column < value, column > value))
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [_parse_key(row) for row in connection.execute(wanted)]

    def reseal(self, sealed: Mapping[int, bytes], *, epoch: int) -> None:
        """Put these newly sealed keys, by number, in the place of the old ones. An erased one stays erased.

        Raises ValueError for one of another length, which would move its row; Unavailable while others read on.
        """
        if any(len(one) != SEALED_KEY_BYTES for one in sealed.values()):
            raise ValueError(f"got sealed keys of {set(map(len, sealed.values()))} bytes, want {SEALED_KEY_BYTES}")
        if not sealed:
            return
        place = subject_keys.c.number == bindparam("at"), subject_keys.c.erasure == NO_ERASURE
        change = update(subject_keys).where(*place).values(sealed=bindparam("new"), vault_epoch=U32.pack(epoch))
        with writing(self._engine) as connection:
            connection.execute(change, [{"at": number, "new": one} for number, one in sealed.items()])
        truncate_wal(self._engine)


def keep_companions(connection: Connection, rows: Iterable[tuple[LeafIndex, WriterId, bytes]]) -> None:
    """Add what came beside leaves, in the order of the leaves. What is there, or was passed over, stays as it is."""
    last = connection.execute(select(func.max(companions.c.log_index))).scalar()
    new = [row for row in rows if last is None or row[0] > last]
    if not new:
        return
    digests = {(writer, beside[SALT_BYTES:]): b"" for _, writer, beside in new}
    for writer, content in digests:
        digests[writer, content] = sha256(writer + content).digest()[:KEY_DIGEST_BYTES]
    known = _find_keys(connection, list(digests.values()))
    known.update(_add_keys(connection, {digest: key for key, digest in digests.items() if digest not in known}))
    added = list[_Row]()
    for index, writer, beside in new:
        number, erasure = known[digests[writer, beside[SALT_BYTES:]]]
        added.append((index, number, beside[:SALT_BYTES], erasure, int(erasure != NO_ERASURE), _NO_ROUND))
    _insert(connection, companions, added)


def _find_keys(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
    """The number, as it stands in `companions`, and the erasure of each key that is there, by digest."""
    columns = subject_keys.c.digest, subject_keys.c.number, subject_keys.c.erasure
    return {
        digest: (U64.pack(number), erasure)
        for some in _portions(digests)
        for digest, number, erasure in connection.execute(select(*columns).where(subject_keys.c.digest.in_(some))).all()
    }


def _add_keys(connection: Connection, new: Mapping[bytes, tuple[WriterId, bytes]]) -> dict[bytes, tuple[bytes, bytes]]:
    """Give each new companion the next number; the same of them as `_find_keys` says."""
    last = connection.execute(select(func.max(subject_keys.c.number))).scalar() or 0
    rows, numbers = list[_Row](), dict[bytes, tuple[bytes, bytes]]()
    for number, (digest, (writer, content)) in enumerate(new.items(), last + 1):
        companion = parse_beside(bytes(SALT_BYTES) + content)
        epochs = U32.pack(companion.vault_epoch), U64.pack(companion.seal_epoch)
        rows.append((number, digest, writer, content, companion.sealed_subject_key, *epochs, NO_ERASURE))
        numbers[digest] = U64.pack(number), NO_ERASURE
    if rows:
        _insert(connection, subject_keys, rows)
    return numbers


def _insert(connection: Connection, table: Table, rows: Sequence[_Row]) -> None:
    """Tuples in the order of the table's columns, past SQLAlchemy's dictionaries (see `rows`)."""
    statement = insert(table).compile(dialect=connection.dialect)
    names = [column.name for column in table.columns]
    if list(statement.positiontup or ()) != names:
        raise ValueError(f"got a statement with {statement.positiontup}, want the columns in their order")
    connection.exec_driver_sql(str(statement), list(rows))


def _portions(values: Iterable[Any]) -> Iterable[list[Any]]:
    """The values in lists that one statement takes, in their order, each once."""
    distinct = list(dict.fromkeys(values))
    return (distinct[at : at + _ASKED_AT_ONCE] for at in range(0, len(distinct), _ASKED_AT_ONCE))


def _parse_key(row: Row[Any]) -> SealedKey:
    """A row as the port has it. One whose bytes were changed has no key id that opens it."""
    erased = row.erasure != NO_ERASURE
    return SealedKey(
        number=row.number,
        writer=WriterId(row.writer),
        key_id=b"" if erased else _key_id(row.companion),
        sealed=b"" if erased else row.sealed,
        vault_epoch=_number(row.vault_epoch, U32.size),
        seal_epoch=_number(row.seal_epoch, U64.size),
        erasure=row.erasure,
    )


def _key_id(companion: object) -> bytes:
    """Of a companion as it came; nothing of one that is none any more: what it sealed shows as tampered with."""
    try:
        return parse_beside(bytes(SALT_BYTES) + companion).key_id if isinstance(companion, bytes) else b""
    except Malformed:
        return b""


def _number(value: object, size: int) -> int:
    """A number of `size` bytes; 0, which names nothing, for what is none any more."""
    return int.from_bytes(value) if isinstance(value, bytes) and len(value) == size else 0
