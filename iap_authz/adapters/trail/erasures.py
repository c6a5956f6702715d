# SPDX-License-Identifier: Apache-2.0
"""`SqlErasures`: erasures and what they destroy, as the port `ErasureStore` wants them.

The invariant: each call is one transaction, and calling it again after a crash does no harm. What is secret is
overwritten with zeros of the same length, in its place, and leaves the write-ahead log before a round is finished.

Destroying goes part by part of the plan, each in one transaction with how far it is. A part overwrites

    subject_keys   sealed, companion    zeros; the erasure's id: copies of the key that come later are known by it
    companions     key, salt            no key; the salt of the leaf in the Erasure record (S8); the erasure, the round

and marks as late whatever was sealed with the same keys and came after the plan was made. A key that seals records of
other people too, which only a lying writer makes, is gone for them as well: the plan has those records.
"""

import json
from collections.abc import Collection, Iterator
from collections.abc import Sequence as Many
from datetime import UTC, datetime, timedelta
from itertools import islice
from struct import Struct
from typing import Any, cast

from sqlalchemy import Connection, Engine, Row, Select, Table, bindparam, delete, func, insert, or_, select, update

from iap_authz.adapters.trail.erasure_tables import erasure_plans, erasure_rounds, erasure_secrets, erasures
from iap_authz.adapters.trail.seal_tables import IS_ERASED, NO_KEY, U32, U64, companions, subject_keys
from iap_authz.adapters.trail.store import reading, truncate_wal, writing
from iap_authz.adapters.trail.tables import records
from iap_authz.errors import Conflict, Corrupt, NotFound
from iap_authz.ports import NO_ERASURE, CoveredRow, ErasureRound, ErasureRow, Stage
from iap_authz.records.erasure import erasure_salt
from iap_authz.tlog.hashing import LeafHash, LeafIndex, NodeHash, TreeSize

PART_LEAVES = 1_024
"""Leaves that one transaction destroys: some milliseconds, and no more than a few hundred pages of the WAL."""

LATE_LEAVES_MAX = 8_192
"""Late leaves in one answer; the next round takes the others."""

NOT_LOGGED = -1
"""In the place of the index of a record that is not known to be in the log."""

_ASKED_AT_ONCE = 500
"""Values in one statement; SQLite takes 32,766 parameters, other databases fewer."""

_UNFINISHED = (Stage.COUNTING, Stage.WAITS_APPROVAL, Stage.ERASING, Stage.ERASED)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LEAF = Struct(">Q")


class SqlErasures:
    """Erasures in a trail's database. For one thread, the one of the trail's index."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, row: ErasureRow) -> None:
        """Add an erasure, or replace what is known of it."""
        with writing(self._engine) as connection:
            _put(connection, row)

    def find(self, erasure: bytes) -> ErasureRow | None:
        """An erasure by its id."""
        with reading(self._engine) as connection:
            row = connection.execute(_ROWS.where(erasures.c.erasure == erasure)).one_or_none()
        return None if row is None else _parse_row(row)

    def unfinished(self) -> list[ErasureRow]:
        """Those that have not come to an end, in the order they came."""
        with reading(self._engine) as connection:
            wanted = _ROWS.where(erasures.c.stage.in_(_UNFINISHED)).order_by(erasures.c.number)
            return [_parse_row(row) for row in connection.execute(wanted)]

    def end(self, erasure: bytes, stage: Stage) -> None:
        """It came to its end; what said whose it was is overwritten."""
        with writing(self._engine) as connection:
            number = _number(connection, erasure)
            connection.execute(update(erasures).where(erasures.c.number == number).values(stage=int(stage)))
            kept = connection.execute(select(erasure_secrets).where(erasure_secrets.c.number == number)).one()
            zeros = {"whose": bytes(len(kept.whose)), "secret": bytes(len(kept.secret))}
            connection.execute(update(erasure_secrets).where(erasure_secrets.c.number == number).values(zeros))
        truncate_wal(self._engine)

    def rounds(self, erasure: bytes) -> list[ErasureRound]:
        """The rounds of an erasure, in order."""
        wanted = select(erasure_rounds).where(erasure_rounds.c.erasure == erasure).order_by(erasure_rounds.c.number)
        with reading(self._engine) as connection:
            return [_parse_round(row) for row in connection.execute(wanted)]

    def begin_round(self, row: ErasureRow, begun: ErasureRound, *, plan: Many[LeafIndex]) -> None:
        """Store a round and its plan. Raises Conflict for a round that is there."""
        with writing(self._engine) as connection:
            if connection.execute(_this(begun)).one_or_none() is not None:
                raise Conflict(f"got round {begun.number} of an erasure that has it, want the next one")
            _put(connection, row)
            number = _next(connection, erasure_rounds, "id")
            connection.execute(insert(erasure_rounds), {"id": number, **_round_values(begun)})
            parts = [
                {"round": number, "part": part, "leaves": b"".join(map(_LEAF.pack, leaves))}
                for part, leaves in enumerate(_parts(plan))
            ]
            if parts:
                connection.execute(insert(erasure_plans), parts)

    def set_index(self, begun: ErasureRound, index: LeafIndex) -> None:
        """The Erasure record of this round is in the log."""
        with writing(self._engine) as connection:
            _set(connection, begun, log_index=index)

    def destroy_next(self, begun: ErasureRound) -> tuple[int, list[int]]:
        """Destroy the next part of the plan; how many are done, and which keys went."""
        with writing(self._engine) as connection:
            stored = connection.execute(_this(begun)).one()
            leaves = _load_part(connection, stored.id, stored.done // PART_LEAVES)
            numbers = _destroy_keys(connection, begun, leaves)
            secret = _secret_of(connection, begun.erasure)
            _cover(connection, begun, leaves, secret=secret)
            done = stored.done + len(leaves)
            _set(connection, begun, done=done)
        return done, numbers

    def plan(self, begun: ErasureRound, part: int) -> list[LeafIndex]:
        """A part of the plan; empty behind the last, and once the round is finished."""
        with reading(self._engine) as connection:
            stored = connection.execute(_this(begun)).one()
            return _load_part(connection, stored.id, part)

    def finish_round(self, begun: ErasureRound) -> None:
        """The plan goes, then what was overwritten leaves the write-ahead log, then the round is finished."""
        with writing(self._engine) as connection:
            stored = connection.execute(_this(begun)).one()
            connection.execute(delete(erasure_plans).where(erasure_plans.c.round == stored.id))
        truncate_wal(self._engine)
        with writing(self._engine) as connection:
            _set(connection, begun, finished=1)

    def late(self, erasure: bytes) -> list[LeafIndex]:
        """Leaves that came after their key had been erased, and that no round has taken."""
        wanted = (
            select(companions.c.log_index)
            .where(IS_ERASED, companions.c.erasure == erasure, companions.c.late == 1)
            .order_by(companions.c.log_index)
            .limit(LATE_LEAVES_MAX)
        )
        with reading(self._engine) as connection:
            return [LeafIndex(index) for index in connection.execute(wanted).scalars()]

    def sharing(self, keys: Collection[int], begin: int, end: int) -> list[LeafIndex]:
        """Leaves in [begin, end) that are sealed with these keys and not erased."""
        place, found = companions.c.log_index, list[LeafIndex]()
        with reading(self._engine) as connection:
            for some in _some(sorted(keys), _ASKED_AT_ONCE):
                wanted = select(place).where(place >= begin, place < end, companions.c.key.in_(map(U64.pack, some)))
                rows = connection.execute(wanted.where(companions.c.erasure == NO_ERASURE))
                found += [LeafIndex(index) for index in rows.scalars()]
        return sorted(found)

    def taken_by(self, index: LeafIndex) -> tuple[bytes, int] | None:
        """Which erasure took a leaf, and in which round."""
        wanted = select(companions.c.erasure, companions.c.round).where(companions.c.log_index == index)
        with reading(self._engine) as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None or row.erasure == NO_ERASURE else (row.erasure, int.from_bytes(row.round))

    def covered(self, erasure: bytes, number: int, *, after: int, limit: int) -> list[CoveredRow]:
        """The leaves that a round took, with their hashes as the index has them."""
        wanted = (
            select(companions.c.log_index, companions.c.salt, records.c.audit_id)
            .select_from(companions.outerjoin(records, records.c.log_index == companions.c.log_index))
            .where(IS_ERASED, companions.c.erasure == erasure, companions.c.round == U32.pack(number))
            .where(companions.c.log_index > after)
            .order_by(companions.c.log_index)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [_covered(*row) for row in connection.execute(wanted)]


_ROWS = select(erasures, erasure_secrets.c.whose, erasure_secrets.c.secret).join_from(
    erasures, erasure_secrets, erasure_secrets.c.number == erasures.c.number
)


def _put(connection: Connection, row: ErasureRow) -> None:
    values = {
        "erasure": row.erasure,
        "stage": int(row.stage),
        "seal_epoch": row.seal_epoch,
        "authority": row.authority,
        "officers": json.dumps(row.officers),
        "asked": (row.asked - _EPOCH) // _MICROSECOND,
    }
    secrets = {"whose": row.whose, "secret": row.secret}
    there = connection.execute(select(erasures.c.number).where(erasures.c.erasure == row.erasure)).scalar_one_or_none()
    if there is None:
        number = _next(connection, erasures, "number")
        connection.execute(insert(erasures), {"number": number, **values})
        connection.execute(insert(erasure_secrets), {"number": number, **secrets})
        return
    connection.execute(update(erasures).where(erasures.c.number == there).values(values))
    connection.execute(update(erasure_secrets).where(erasure_secrets.c.number == there).values(secrets))


def _number(connection: Connection, erasure: bytes) -> int:
    wanted = select(erasures.c.number).where(erasures.c.erasure == erasure)
    number: int | None = connection.execute(wanted).scalar_one_or_none()
    if number is None:
        raise NotFound(f"got erasure {erasure.hex()}, want one that is stored")
    return number


def _secret_of(connection: Connection, erasure: bytes) -> bytes:
    number = _number(connection, erasure)
    wanted = select(erasure_secrets.c.secret).where(erasure_secrets.c.number == number)
    secret: bytes = connection.execute(wanted).scalar_one()
    return secret


def _next(connection: Connection, table: Table, column: str) -> int:
    """The number after the highest, so that rows are only ever appended."""
    return (connection.execute(select(func.max(table.c[column]))).scalar() or 0) + 1


def _this(begun: ErasureRound) -> Select[*tuple[Any, ...]]:
    of_round = erasure_rounds.c.erasure == begun.erasure, erasure_rounds.c.number == begun.number
    return select(erasure_rounds).where(*of_round)


def _set(connection: Connection, begun: ErasureRound, **values: int) -> None:
    of_round = erasure_rounds.c.erasure == begun.erasure, erasure_rounds.c.number == begun.number
    connection.execute(update(erasure_rounds).where(*of_round).values(values))


def _parts(plan: Many[LeafIndex]) -> Iterator[Many[LeafIndex]]:
    for at in range(0, len(plan), PART_LEAVES):
        yield plan[at : at + PART_LEAVES]


def _some(values: Many[int], count: int) -> Iterator[list[int]]:
    rest = iter(values)
    while some := list(islice(rest, count)):
        yield some


def _load_part(connection: Connection, number: int, part: int) -> list[LeafIndex]:
    wanted = select(erasure_plans.c.leaves).where(erasure_plans.c.round == number, erasure_plans.c.part == part)
    content: bytes = connection.execute(wanted).scalar_one_or_none() or b""
    return [LeafIndex(index) for (index,) in _LEAF.iter_unpack(content)]


def _destroy_keys(connection: Connection, begun: ErasureRound, leaves: Many[LeafIndex]) -> list[int]:
    """Overwrite the keys of these leaves that are not erased yet, and mark what else they sealed since the plan."""
    numbers = set[int]()
    for some in _some(leaves, _ASKED_AT_ONCE):
        keys = connection.execute(select(companions.c.key).where(companions.c.log_index.in_(some))).scalars()
        numbers |= {int.from_bytes(key) for key in keys} - {0}
    for some in _some(sorted(numbers), _ASKED_AT_ONCE):
        wanted = select(subject_keys.c.number, subject_keys.c.companion, subject_keys.c.sealed)
        alive = subject_keys.c.number.in_(some), subject_keys.c.erasure == NO_ERASURE
        zeros = [
            {
                "at": row.number,
                "companion": bytes(len(row.companion)),
                "sealed": bytes(len(row.sealed)),
                "erasure": begun.erasure,
            }
            for row in connection.execute(wanted.where(*alive))
        ]
        if zeros:
            connection.execute(update(subject_keys).where(subject_keys.c.number == bindparam("at")), zeros)
        _mark_late(connection, begun, some)
    return sorted(numbers)


def _mark_late(connection: Connection, begun: ErasureRound, numbers: Many[int]) -> None:
    """In the transaction that destroys the keys: what the ledger adds later, it marks by itself."""
    since = companions.c.log_index >= begun.log_size, companions.c.erasure == NO_ERASURE
    of_keys = companions.c.key.in_([U64.pack(number) for number in numbers])
    connection.execute(update(companions).where(*since, of_keys).values(erasure=begun.erasure, late=1))


def _cover(connection: Connection, begun: ErasureRound, leaves: Many[LeafIndex], *, secret: bytes) -> None:
    rows = [
        {
            "at": index,
            "key": NO_KEY,
            "salt": erasure_salt(secret, index),
            "erasure": begun.erasure,
            "late": 0,
            "round": U32.pack(begun.number),
        }
        for index in leaves
    ]
    if not rows:
        return
    ours = or_(companions.c.erasure == NO_ERASURE, companions.c.erasure == begun.erasure)
    changed = connection.execute(update(companions).where(companions.c.log_index == bindparam("at"), ours), rows)
    if changed.rowcount != len(rows):
        got = f"got {changed.rowcount} leaves of an erasure's part"
        raise Corrupt("companions", f"{got}, want {len(rows)}: another erasure has taken the others, or rows are gone")


def _round_values(begun: ErasureRound) -> dict[str, object]:
    return {
        "erasure": begun.erasure,
        "number": begun.number,
        "log_size": begun.log_size,
        "records": begun.records,
        "root": begun.root,
        "log_index": NOT_LOGGED if begun.index is None else begun.index,
        "done": begun.done,
        "finished": int(begun.finished),
    }


def _parse_row(row: Row[Any]) -> ErasureRow:
    return ErasureRow(
        erasure=row.erasure,
        stage=cast("Stage", row.stage),
        seal_epoch=row.seal_epoch,
        authority=row.authority,
        officers=tuple(json.loads(row.officers)),
        asked=_EPOCH + row.asked * _MICROSECOND,
        whose=row.whose,
        secret=row.secret,
    )


def _parse_round(row: Row[Any]) -> ErasureRound:
    return ErasureRound(
        erasure=row.erasure,
        number=row.number,
        log_size=TreeSize(row.log_size),
        records=row.records,
        root=NodeHash(row.root),
        index=None if row.log_index == NOT_LOGGED else LeafIndex(row.log_index),
        done=row.done,
        finished=bool(row.finished),
    )


def _covered(index: int, salt: bytes, audit_id: bytes | None) -> CoveredRow:
    hashed = None if audit_id is None else LeafHash(audit_id)
    return CoveredRow(index=LeafIndex(index), salt=salt, leaf_hash=hashed)
