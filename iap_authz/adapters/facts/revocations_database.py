# SPDX-License-Identifier: Apache-2.0
"""Revocations in PostgreSQL, as a source of facts: `ports.FactSource` over the tables of `revocations_schema`.

Invariant: a value is all rows of one revision, seen in one snapshot of the database, or nothing at all. A row that the
parser of the file would not take makes the list unusable, as it would there.

    version   one row of three columns     each look
    load      revision and all entries     when the version is another one

Names are those of the file. Times are read as text, by the file's parser: the database can hold what Python cannot.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import ColumnElement, Connection, Row, func, select

from iap_authz.adapters.facts import revocations as entries
from iap_authz.adapters.facts.inventory_fields import parse_revision
from iap_authz.adapters.facts.listing import Report
from iap_authz.adapters.facts.postgres import STATEMENT_MAX_SECONDS, Database
from iap_authz.adapters.facts.revocations_schema import revision, revocations
from iap_authz.errors import Invalid, Refused, SourceUnavailable
from iap_authz.facts.revocation import RevocationList
from iap_authz.model.document import Faults

_TIME_FORMAT: Final = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def rendered(time: ColumnElement[object]) -> ColumnElement[str]:
    """A time as RFC 3339 writes it, in UTC."""
    return func.to_char(func.timezone("UTC", time), _TIME_FORMAT)


class RevocationsDatabase:
    """Satisfies `ports.FactSource`. Its role needs SELECT on both tables and nothing else."""

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database

    @property
    def name(self) -> str:
        """For messages and metrics."""
        return self._name

    def version(self) -> object:
        """The revision and the id of the last write. Raises SourceUnavailable where they cannot be asked."""
        try:
            with self._database.transaction() as connection:
                number, change = self._revision(connection)
        except Refused as error:
            raise SourceUnavailable(str(error)) from None
        return number, change

    def load(self) -> RevocationList:
        """The whole list. Raises Invalid with the faults in it, or SourceUnavailable."""
        try:
            with self._database.transaction(answer_seconds=STATEMENT_MAX_SECONDS) as connection:
                number, _ = self._revision(connection)
                self._check_bounds(connection)
                columns = (revocations.c.id, revocations.c.kind, revocations.c.issuer, revocations.c.value)
                dates = (rendered(revocations.c.before).label("before"), rendered(revocations.c.until).label("until"))
                rows = connection.execute(select(*columns, *dates).order_by(revocations.c.id)).all()
        except Refused as error:
            raise SourceUnavailable(str(error)) from None
        report = Report(Faults(self._name), None)
        return entries.make_list(((row.id, as_entry(row)) for row in rows), number, report=report, name=self._name)

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._database.close()

    def _revision(self, connection: Connection) -> tuple[int, object]:
        found = connection.execute(select(revision.c.revision, revision.c.change)).one_or_none()
        if found is None:
            raise Invalid.of_file(self._name, "got no revision, want one: run `iap-authz revocations init`")
        parse_revision(found.revision)
        return found.revision, found.change

    def _check_bounds(self, connection: Connection) -> None:
        """Raise Invalid for a list that would be too large in memory, before it is there."""
        sizes = func.octet_length(revocations.c.issuer) + func.octet_length(revocations.c.value)
        count, size = connection.execute(select(func.count(), func.coalesce(func.sum(sizes), 0))).one()
        if count > entries.ENTRIES_MAX:
            raise Invalid.of_file(self._name, f"got {count} entries, want at most {entries.ENTRIES_MAX}")
        if size > entries.FILE_MAX_BYTES:
            raise Invalid.of_file(self._name, f"got {size} bytes of names, want at most {entries.FILE_MAX_BYTES}")


def as_entry(row: Row[*tuple[object, ...]]) -> Mapping[str, object]:
    """A row as the file has it."""
    found: dict[str, object] = {row.kind: row.value}
    optional = {"issuer": row.issuer or None, "before": row.before, "until": row.until}
    return {**found, **{name: value for name, value in optional.items() if value is not None}}
