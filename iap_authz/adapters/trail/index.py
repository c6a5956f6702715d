# SPDX-License-Identifier: Apache-2.0
"""`SqlIndex`: where records are, as the port `Index` wants it. Derived and disposable.

The invariant: what stands here was computed from the leaves [0, size), and from nothing else. Answers are hints: who
asks reads the leaf and compares (F19: a flipped byte in a row is found on read, or hides the row).

A leaf that is no record has its hash and the body "unknown", and nothing more. Completeness of a search is not proved
(rule O1). What is personal is found by tokens only (rule S9): which ones a search or a leaf has is said by whoever asks
or adds.
"""

from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Many
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import ColumnElement, Connection, Engine, delete, select

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.trail.postings import Stretch, find_leaves, forget_postings, insert_postings
from iap_authz.adapters.trail.postings_tables import postings
from iap_authz.adapters.trail.rows import audit_key, insert_rows, parse_leaves
from iap_authz.adapters.trail.spans import find_stretch, widen
from iap_authz.adapters.trail.standing import load_standing, store_standing
from iap_authz.adapters.trail.store import reading, writing
from iap_authz.adapters.trail.tables import records, spans, terms
from iap_authz.adapters.trail.terms import Terms
from iap_authz.errors import Malformed
from iap_authz.model.ids import WriterId
from iap_authz.records.record import parse_time, render_time
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, LeafIndex, TreeSize

VALUES_MAX = 256
"""Values in one list of a search: more than there are verdicts, reasons or bodies; databases bound their parameters."""

CANDIDATES_MAX = 500
"""Leaves of a block with the tokens of a search whose rows are looked up one by one. Of more, the block's rows are
read, which is faster then; and databases bound their parameters."""

_STANDING = "index"
_SECOND_MICROSECONDS = 1_000_000

_Render = Callable[[Any], list[bytes]]
_TERMS: dict[str, tuple[str, _Render]] = {
    "rule": ("rule", lambda text: [text.encode()]),
    "route": ("route", lambda text: [text.encode()]),
    "country": ("country", lambda text: [text.encode()]),
    "writer": ("writer", lambda value: [value]),
    "policy_digest": ("policy_digest", lambda value: [value]),
    "bodies": ("body", lambda names: [name.encode() for name in names]),
}
"""Fields of a search over terms: the column, and the values that match."""

_NUMBERS = {"verdicts": "verdict", "reasons": "reason"}
_TIMES = frozenset({"from", "to"})
_NO_FILTERS = frozenset({"page_size", "page_token", "newest_first", "with_evidence"})
_BY_TOKENS = frozenset(
    {"subject", "device", "address_or_network", "host", "path_prefix", "asn", "request_id", "trace_id"}
)
"""Fields that have no column: whoever asks gives their tokens."""


class SqlIndex:
    """The index in a trail's database. `add` and `clear` are for one thread; all else may be asked from any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._terms = Terms()

    def size(self) -> TreeSize:
        """Leaves below this are indexed."""
        with reading(self._engine) as connection:
            return load_standing(connection, _STANDING)

    def add(self, first: LeafIndex, leaves: Many[bytes], tokens: Many[Collection[int]]) -> None:
        """Index the leaves from `first` on, in one transaction; `tokens` are those of each leaf.

        Raises ValueError unless `first` is `size()`, and there is a collection for each leaf.
        """
        if len(leaves) != len(tokens):
            raise ValueError(f"got tokens of {len(tokens)} leaves, want those of {len(leaves)}")
        columns = parse_leaves(leaves) if leaves else {}
        with writing(self._engine) as connection:
            size = load_standing(connection, _STANDING)
            if int(first) != size:
                raise ValueError(f"got leaves from {first} on, want those from {size} on")
            if not columns:
                return
            numbers = insert_rows(connection, first, columns, terms=self._terms)
            insert_postings(connection, first, tokens)
            widen(connection, first, columns["time"])
            store_standing(connection, _STANDING, TreeSize(first + len(leaves)))
        self._terms.keep(numbers)

    def clear(self) -> None:
        """Forget everything: the index is built anew from leaf 0."""
        with writing(self._engine) as connection:
            for table in (records, postings, spans, terms):
                connection.execute(delete(table))
            store_standing(connection, _STANDING, TreeSize(0))
        self._terms.forget()

    def forget(self, indices: Many[LeafIndex]) -> None:
        """Remove every token of these leaves. Their clear fields stay. Durable; idempotent."""
        forget_postings(self._engine, indices)

    def find(self, audit_id: bytes) -> LeafIndex | None:
        """The index of the first leaf with this hash."""
        with reading(self._engine) as connection:
            return _first(connection, records.c.audit_key == audit_key(audit_id), records.c.audit_id == audit_id)

    def find_position(self, writer: WriterId, sequence: int) -> LeafIndex | None:
        """The index of a writer's record; of the first one, should a log have more."""
        if not 0 <= sequence < SIZE_LIMIT_LEAVES:
            return None
        with reading(self._engine) as connection:
            number = self._terms.find(connection, [writer]).get(writer)
            if number is None:
                return None
            return _first(connection, records.c.writer == number, records.c.sequence == sequence)

    def search(
        self,
        query: log_pb2.SearchRecordsRequest,
        *,
        tokens: Many[Collection[int]],
        after: LeafIndex | None,
        limit: int,
    ) -> list[LeafIndex]:
        """Indices of matching leaves in the order asked for, those after (or, newest first, before) `after` only.

        Of each collection in `tokens` a leaf has at least one. Times match from `from` on and before `to`, in whole
        microseconds. Raises Malformed for what has no column, and for a personal field without any tokens.
        """
        place = records.c.log_index
        with reading(self._engine) as connection:
            conditions = [*self._matching(connection, query, tokens=tokens), *_in_time(query)]
            stretch = _stretch(connection, query, after=after)
            if tokens:
                return _having(connection, find_leaves(connection, tokens, stretch), conditions, limit=limit)
            if _asks_time(query) or after is not None:
                conditions += [place >= stretch.first, place < stretch.end]
            order = place.desc() if query.newest_first else place.asc()
            wanted = select(place).where(*conditions).order_by(order).limit(limit)
            return [LeafIndex(index) for index in connection.execute(wanted).scalars()]

    def _matching(
        self, connection: Connection, query: log_pb2.SearchRecordsRequest, *, tokens: Many[Collection[int]]
    ) -> Iterable[ColumnElement[bool]]:
        """What the rows fulfil in all fields but the times."""
        for field, value in query.ListFields():
            name = field.name
            if name in _TERMS:
                column, render = _TERMS[name]
                numbers = self._terms.find(connection, _bounded(name, render(value)))
                yield records.c[column].in_(sorted(numbers.values()))
            elif name in _NUMBERS:
                yield records.c[_NUMBERS[name]].in_(sorted(_bounded(name, value)))
            elif name not in _TIMES and name not in _NO_FILTERS and not (name in _BY_TOKENS and tokens):
                raise Malformed(f"got a search by {name} without its tokens, want one by clear fields")


def _having(
    connection: Connection,
    candidates: Iterable[list[LeafIndex]],
    conditions: Many[ColumnElement[bool]],
    *,
    limit: int,
) -> list[LeafIndex]:
    """The first of the candidates whose rows fulfil the conditions. Each list of them is of one block, in order."""
    place, found = records.c.log_index, list[LeafIndex]()
    for leaves in candidates:
        if conditions:
            few = len(leaves) <= CANDIDATES_MAX
            which = place.in_(leaves) if few else place.between(min(leaves), max(leaves))
            there = frozenset(connection.execute(select(place).where(*conditions, which)).scalars())
            found += (leaf for leaf in leaves if leaf in there)
        else:
            found += leaves
        if len(found) >= limit:
            break
    return found[:limit]


def _first(connection: Connection, *conditions: ColumnElement[bool]) -> LeafIndex | None:
    wanted = select(records.c.log_index).where(*conditions).order_by(records.c.log_index).limit(1)
    index = connection.execute(wanted).scalar_one_or_none()
    return None if index is None else LeafIndex(index)


def _bounded(name: str, values: Iterable[Any]) -> set[Any]:
    distinct = set(values)
    if len(distinct) > VALUES_MAX:
        raise Malformed(f"got {len(distinct)} values of {name}, want at most {VALUES_MAX}")
    return distinct


def _asks_time(query: log_pb2.SearchRecordsRequest) -> bool:
    return query.HasField("from") or query.HasField("to")


def _in_time(query: log_pb2.SearchRecordsRequest) -> Iterable[ColumnElement[bool]]:
    """What the rows fulfil in time."""
    begin, end = _times(query)
    if begin is not None:
        yield records.c.time >= begin
    if end is not None:
        yield records.c.time < end


def _stretch(connection: Connection, query: log_pb2.SearchRecordsRequest, *, after: LeafIndex | None) -> Stretch:
    """Outside it no leaf has a time that is asked for, or is one of the pages to come."""
    first, end = 0, int(load_standing(connection, _STANDING))
    if _asks_time(query):
        begin, until = _times(query)
        first, last = find_stretch(connection, begin=begin, end=until)
        end = min(end, last)
    if after is not None and query.newest_first:
        end = min(end, after)
    elif after is not None:
        first = max(first, after + 1)
    return Stretch(first=first, end=end, newest_first=query.newest_first)


def _times(query: log_pb2.SearchRecordsRequest) -> tuple[int | None, int | None]:
    begin, end = (_microseconds(getattr(query, name)) if query.HasField(name) else None for name in ("from", "to"))
    return begin, end


def _microseconds(time: Timestamp) -> int:
    """Whole microseconds since 1970, as they stand in `records`. Raises Malformed for no time at all."""
    whole = render_time(parse_time(time))
    return whole.seconds * _SECOND_MICROSECONDS + whole.nanos // 1000
