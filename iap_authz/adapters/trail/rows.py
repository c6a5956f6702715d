# SPDX-License-Identifier: Apache-2.0
"""Rows of `records`: computed from leaves, column by column, and written in one go.

The invariant: a row holds clear fields of rule S4 only, whatever the leaf holds.

SQLAlchemy's own way with many parameter sets is a dictionary for each, which took longer than all the rest: 53,000
rows a second against 82,000 with tuples in the order of the compiled statement. The statement is still SQLAlchemy's,
for dialects that number their parameters.
"""

from collections.abc import Sequence as Many
from typing import Any

from sqlalchemy import Connection, insert

from iap_authz.adapters.trail.tables import records
from iap_authz.adapters.trail.terms import Terms
from iap_authz.errors import Malformed
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import LeafIndex, leaf_hash

UNKNOWN_BODY = "unknown"
"""The body of a leaf that is no record, or of one with a body that this version does not know."""

AUDIT_KEY_BYTES = 8
"""The part of a leaf's hash that is indexed. Whoever makes two leaves share it by intent does 2^32 work for a search
that compares two rows."""

TERM_COLUMNS = ("writer", "body", "rule", "route", "country", "policy_digest")
"""Columns that hold the numbers of terms."""

Columns = dict[str, Many[Any]]
"""The values of a column for each leaf, by the column's name."""

_COLUMNS = ("audit_id", "audit_key", "sequence", "time", "verdict", "reason", *TERM_COLUMNS)
_SECOND_MICROSECONDS = 1_000_000
_UNKNOWN = UNKNOWN_BODY.encode()
_NOTHING = (None, None, None, None, None, _UNKNOWN, None, None, None, None)
_NO_DECISION = (None, None, None, None)


def audit_key(audit_id: bytes) -> int:
    """The first bytes of a leaf's hash as a number that a database holds."""
    return int.from_bytes(audit_id[:AUDIT_KEY_BYTES], "big", signed=True)


def parse_leaves(leaves: Many[bytes]) -> Columns:
    """The columns of `leaves`, of which there is at least one; those of `TERM_COLUMNS` still as bytes."""
    return dict(zip(_COLUMNS, zip(*map(_parse_leaf, leaves), strict=True), strict=True))


def insert_rows(connection: Connection, first: LeafIndex, columns: Columns, *, terms: Terms) -> dict[bytes, int]:
    """Write the rows of the leaves from `first` on; returns the numbers of their terms."""
    distinct = set[Any]().union(*(columns[name] for name in TERM_COLUMNS)) - {None}
    numbers = terms.number(connection, distinct)
    numbered = {name: list(map(numbers.get, columns[name])) for name in TERM_COLUMNS}
    places = range(first, first + len(columns["audit_id"]))
    ready: Columns = {**columns, **numbered, "log_index": places}
    statement = insert(records).compile(dialect=connection.dialect)
    order = statement.positiontup or ()
    connection.exec_driver_sql(str(statement), list(zip(*(ready[name] for name in order), strict=True)))
    return numbers


def _parse_leaf(leaf: bytes) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    audit_id = leaf_hash(leaf)
    key = audit_key(audit_id)
    try:
        record = parse_record(leaf)
    except Malformed:
        return audit_id, key, *_NOTHING
    time = record.time.seconds * _SECOND_MICROSECONDS + record.time.nanos // 1000
    name = record.WhichOneof("body")
    if name != "decision":
        body = _UNKNOWN if name is None else name.encode()
        return audit_id, key, record.sequence, time, None, None, record.writer, body, *_NO_DECISION
    decision = record.decision
    return (
        *(audit_id, key, record.sequence, time, decision.verdict, decision.reason, record.writer, b"decision"),
        *(decision.rule.encode(), decision.route.encode(), decision.country.encode(), decision.policy_digest),
    )
