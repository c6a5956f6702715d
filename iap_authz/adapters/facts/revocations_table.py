# SPDX-License-Identifier: Apache-2.0
"""Writing revocations in PostgreSQL: what `iap-authz revocations` does to the tables of `revocations_schema`.

Invariant: nothing is written that a sidecar would not read. Each call is one transaction, and says which revision it
led to. Two writers wait for each other, at the row of the revision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import Connection, and_, delete, insert, select

from iap_authz.adapters.facts.listing import Report
from iap_authz.adapters.facts.postgres import STATEMENT_MAX_SECONDS, Database
from iap_authz.adapters.facts.revocations import parse_entry
from iap_authz.adapters.facts.revocations_database import as_entry, rendered
from iap_authz.adapters.facts.revocations_schema import SCHEMA, revision, revocations
from iap_authz.errors import Invalid, Malformed
from iap_authz.facts.distinguished import parse_name
from iap_authz.facts.revocation import Kind, Revocation
from iap_authz.model.document import Faults

T = TypeVar("T")

_INIT_LOCK: Final = int.from_bytes(b"IaRv", "big")
"""Of the advisory lock that makes two `init` at once one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One row, as the file would have it, whether or not a sidecar can read it."""

    id: int
    entry: Mapping[str, object]
    added: str
    added_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a call did: the ids of the rows it made or removed, and the revision afterwards."""

    ids: tuple[int, ...]
    revision: int


def parse_one(fields: Mapping[str, object]) -> Revocation:
    """The entry that these fields of the file say. Raises Invalid."""
    report = Report(Faults("entry"), None)
    entry = parse_entry(dict(fields), (), report)
    report.check()
    if entry is None:
        raise Invalid.of_file("entry", "got no entry, want one")
    return entry


class RevocationsTable:
    """The tables, for whoever may write them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def init(self) -> None:
        """Make what is not there yet, and put back functions and triggers that were changed. Safe at any time."""

        def make(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_INIT_LOCK})")
            connection.exec_driver_sql(SCHEMA, execution_options={"no_parameters": True})

        self._run(make)

    def add(self, entry: Revocation) -> Written:
        """Revoke. Nothing is added where the same is there already."""

        def write(connection: Connection) -> tuple[int, ...]:
            fields = {"kind": entry.kind.value, "issuer": entry.issuer, "value": entry.value}
            dates = {"before": entry.before, "until": entry.until}
            columns = revocations.c
            same = [columns[name].is_not_distinct_from(value) for name, value in {**fields, **dates}.items()]
            if connection.execute(select(columns.id).where(and_(*same)).limit(1)).first() is not None:
                return ()
            made = insert(revocations).values(**fields, **dates).returning(columns.id)
            return (connection.execute(made).scalar_one(),)

        return self._write(write)

    def remove(self, entry: Revocation) -> Written:
        """Take out all that names what `entry` names, whenever it counts."""

        def write(connection: Connection) -> tuple[int, ...]:
            named = and_(revocations.c.kind == entry.kind.value, revocations.c.value == entry.value)
            found = connection.execute(select(revocations.c.id, revocations.c.issuer).where(named)).all()
            return _delete(connection, [row.id for row in found if _same_issuer(row.issuer, entry)])

        return self._write(write)

    def remove_row(self, number: int) -> Written:
        """Take out one row, whatever is in it."""
        return self._write(lambda connection: _delete(connection, [number]))

    def entries(self) -> tuple[int, Sequence[Listed]]:
        """The revision, and all rows, the oldest first."""
        columns = revocations.c
        dates = {name: rendered(columns[name]).label(name) for name in ("before", "until", "added")}
        wanted = select(columns.id, columns.kind, columns.issuer, columns.value, columns.added_by, *dates.values())

        def read(connection: Connection) -> tuple[int, Sequence[Listed]]:
            rows = connection.execute(wanted.order_by(columns.id)).all()
            listed = [Listed(id=row.id, entry=as_entry(row), added=row.added, added_by=row.added_by) for row in rows]
            return _revision(connection), listed

        return self._run(read)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._database.close()

    def _write(self, write: Callable[[Connection], tuple[int, ...]]) -> Written:
        def both(connection: Connection) -> Written:
            ids = write(connection)
            return Written(ids=ids, revision=_revision(connection))

        return self._run(both)

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._database.transaction(answer_seconds=STATEMENT_MAX_SECONDS) as connection:
            return work(connection)


def _delete(connection: Connection, ids: Sequence[int]) -> tuple[int, ...]:
    if not ids:
        return ()
    gone = delete(revocations).where(revocations.c.id.in_(ids)).returning(revocations.c.id)
    return tuple(sorted(connection.execute(gone).scalars()))


def _revision(connection: Connection) -> int:
    found = connection.execute(select(revision.c.revision)).scalar_one_or_none()
    if found is None:
        raise Invalid.of_file("database", "got no revision, want one: run `iap-authz revocations init`")
    return int(found)


def _same_issuer(written: str, entry: Revocation) -> bool:
    """Whether a row of this issuer is found by the entry's name. An authority's name has many spellings."""
    if entry.kind is not Kind.SERIAL:
        return written == entry.issuer
    try:
        return parse_name(written) == parse_name(entry.issuer)
    except Malformed:
        return False
