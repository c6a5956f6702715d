# SPDX-License-Identifier: Apache-2.0
"""What a search asks for: the one predicate over records, and which questions there are.

The invariant: `matches` and an index's SQL say the same of every record (tests/unit/trail/test_match.py). So a hit of
an index can be checked against its leaf, and following new records finds what a search would.

All fields that are set must hold; a list holds if one of its values does. A time matches from `from` on and before
`to`, both in whole microseconds. A leaf that is no record, or one whose body this version does not know, has the body
"unknown". Pure; not here: pages, and the order of answers.
"""

from collections.abc import Callable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Malformed, shown
from iap_authz.records.record import parse_record, parse_time
from iap_authz.tlog.hashing import HASH_BYTES

UNKNOWN_BODY = "unknown"
"""The body of a leaf that is no record, or of one with a body that this version does not know."""

BODIES = frozenset(field.name for field in record_pb2.Record.DESCRIPTOR.oneofs_by_name["body"].fields) | {UNKNOWN_BODY}
"""What `bodies` may name."""

PERSONAL_FIELDS = frozenset(
    {"subject", "device", "address_or_network", "host", "path_prefix", "asn", "request_id", "trace_id"}
)
"""Fields of a search over the personal part of records (rule S4)."""

PAGE_FIELDS = frozenset({"page_size", "page_token", "newest_first", "with_evidence"})
"""Fields that say how the answer is given, not what is in it."""

VALUES_MAX = 256
"""Values in one list: more than there are verdicts, reasons or bodies."""

NAME_MAX_BYTES = 1_024
"""Of a rule, a route or a country: longer than any that a policy may have."""

Query = log_pb2.SearchRecordsRequest
_Test = Callable[[Query, record_pb2.Record], bool]


def parse_or_none(leaf: bytes) -> record_pb2.Record | None:
    """The record of a leaf, or None for a leaf that is none."""
    try:
        return parse_record(leaf)
    except Malformed:
        return None


def body_of(record: record_pb2.Record | None) -> str:
    """The name of a record's body."""
    return (record.WhichOneof("body") if record is not None else None) or UNKNOWN_BODY


def check_query(query: Query) -> None:
    """Raise Malformed for a search that this version cannot answer, or that no record could ever match."""
    if len(UnknownFieldSet(query)):
        raise Malformed("got a search with fields of a newer version, want one that this version knows whole")
    for field, value in query.ListFields():
        name = field.name
        if name in PERSONAL_FIELDS:
            raise Malformed(f"got a search by {name}, want one by clear fields: it is not in this version")
        if field.is_repeated and len(value) > VALUES_MAX:
            raise Malformed(f"got {len(value)} values of {name}, want at most {VALUES_MAX}")
        if name in ("writer", "policy_digest") and len(value) != HASH_BYTES:
            raise Malformed(f"got a {name} of {len(value)} bytes, want {HASH_BYTES}")
        if name in ("rule", "route", "country") and len(value.encode()) > NAME_MAX_BYTES:
            raise Malformed(f"got a {name} of {len(value.encode())} bytes, want at most {NAME_MAX_BYTES}")
    for body in query.bodies:
        if body not in BODIES:
            raise Malformed(f"got the body {shown(body)}, want a field of Record.body or {UNKNOWN_BODY}")
    _check_times(query)


def matches(query: Query, record: record_pb2.Record | None) -> bool:
    """Whether a record, or a leaf that is none, is what `query` asks for. The query has been checked."""
    if record is None:
        names = {field.name for field, _ in query.ListFields()} - PAGE_FIELDS
        return not names or (names == {"bodies"} and UNKNOWN_BODY in query.bodies)
    return all(_TESTS[field.name](query, record) for field, _ in query.ListFields() if field.name not in PAGE_FIELDS)


def _check_times(query: Query) -> None:
    begin, end = (parse_time(getattr(query, name)) if query.HasField(name) else None for name in ("from", "to"))
    if begin is not None and end is not None and begin > end:
        raise Malformed(f"got a search from {begin.isoformat()} to {end.isoformat()}, want an end that is not before")


def _microseconds(time: Timestamp) -> tuple[int, int]:
    """A time without what is below a microsecond, in an order that is that of time."""
    return time.seconds, time.nanos // 1000


def _of_decision(name: str, listed: str = "") -> _Test:
    """A field of a Decision that equals that of the query, or is in its list."""

    def test(query: Query, record: record_pb2.Record) -> bool:
        if record.WhichOneof("body") != "decision":
            return False
        value = getattr(record.decision, name)
        return value in getattr(query, listed) if listed else value == getattr(query, name)

    return test


_TESTS: Mapping[str, _Test] = {
    "verdicts": _of_decision("verdict", "verdicts"),
    "reasons": _of_decision("reason", "reasons"),
    "rule": _of_decision("rule"),
    "route": _of_decision("route"),
    "country": _of_decision("country"),
    "policy_digest": _of_decision("policy_digest"),
    "writer": lambda query, record: record.writer == query.writer,
    "bodies": lambda query, record: body_of(record) in query.bodies,
    "from": lambda query, record: _microseconds(record.time) >= _microseconds(getattr(query, "from")),
    "to": lambda query, record: _microseconds(record.time) < _microseconds(query.to),
}
"""What each field asks of a record."""
