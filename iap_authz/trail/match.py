# SPDX-License-Identifier: Apache-2.0
"""What a search asks for: the one predicate over records, and which questions there are.

The invariant: `matches` and an index say the same of every record, its SQL of the clear fields, its tokens of the
personal ones (`records.tokens`; where tokens find too much, this decides). So a hit of an index can be checked against
its leaf, and following new records finds what a search would.

All fields that are set must hold; a list holds if one of its values does. A time matches from `from` on and before
`to`, both in whole microseconds. A leaf that is no record, or one whose body this version does not know, has the body
"unknown". A record whose personal part is not at hand (erased, or never there) fits no search by a personal field.
Pure; not here: pages, and the order of answers.
"""

from collections.abc import Callable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Malformed, shown
from iap_authz.model.target import parse_host
from iap_authz.records.record import parse_record, parse_time
from iap_authz.records.tokens import Findable, findable, lower, parse_asn, parse_network, parse_path_prefix
from iap_authz.tlog.hashing import HASH_BYTES

UNKNOWN_BODY = "unknown"
"""The body of a leaf that is no record, or of one with a body that this version does not know."""

BODIES = frozenset(field.name for field in record_pb2.Record.DESCRIPTOR.oneofs_by_name["body"].fields) | {UNKNOWN_BODY}
"""What `bodies` may name."""

PAGE_FIELDS = frozenset({"page_size", "page_token", "newest_first", "with_evidence"})
"""Fields that say how the answer is given, not what is in it."""

VALUES_MAX = 256
"""Values in one list: more than there are verdicts, reasons or bodies."""

NAME_MAX_BYTES = 1_024
"""Of a rule, a route or a country: longer than any that a policy may have."""

PERSONAL_MAX_BYTES = 8_192
"""Of a value that a personal part is searched for: as long as a path may be (`model.target`)."""

Query = log_pb2.SearchRecordsRequest
_Test = Callable[[Query, record_pb2.Record], bool]
_PersonalTest = Callable[[Query, Findable], bool]


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
            _check_personal(name, value)
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


def matches(query: Query, record: record_pb2.Record | None, personal: record_pb2.PersonalPart | None) -> bool:
    """Whether a record, or a leaf that is none, is what `query` asks for. The query has been checked.

    `personal` is its personal part, opened.
    """
    names = {field.name for field, _ in query.ListFields()} - PAGE_FIELDS
    if record is None:
        return not names or (names == {"bodies"} and UNKNOWN_BODY in query.bodies)
    if not all(_TESTS[name](query, record) for name in names - PERSONAL_FIELDS):
        return False
    asked = names & PERSONAL_FIELDS
    if not asked or personal is None:
        return not asked
    found = findable(personal)
    return all(_PERSONAL_TESTS[name](query, found) for name in asked)


def has_personal(record: record_pb2.Record) -> bool:
    """Whether a record has a personal part, sealed or open."""
    return record.WhichOneof("personal") is not None


def asks_personal(query: Query) -> bool:
    """Whether `query` is one by a personal field: no record is known to fit it until it is opened."""
    return any(field.name in PERSONAL_FIELDS for field, _ in query.ListFields())


def clear_part(query: Query) -> Query:
    """What `query` asks of the clear fields."""
    clear = Query()
    clear.CopyFrom(query)
    for name in PERSONAL_FIELDS:
        clear.ClearField(name)
    return clear


def _check_personal(name: str, value: str | int) -> None:
    """Of one personal field. Values that no record can have are refused where that is known."""
    if isinstance(value, int):
        parse_asn(value)
        return
    if len(value.encode()) > PERSONAL_MAX_BYTES:
        raise Malformed(f"got a {name} of {len(value.encode())} bytes, want at most {PERSONAL_MAX_BYTES}")
    if name == "address_or_network":
        parse_network(value)
    elif name == "host":
        parse_host(value)
    elif name == "path_prefix":
        parse_path_prefix(value)


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


def _in_network(query: Query, found: Findable) -> bool:
    network = parse_network(query.address_or_network)
    return any(address in network for address in found.addresses)


def _below_path(query: Query, found: Findable) -> bool:
    prefix = parse_path_prefix(query.path_prefix)
    return any(segments[: len(prefix)] == prefix for segments in found.paths)


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

_PERSONAL_TESTS: Mapping[str, _PersonalTest] = {
    "subject": lambda query, found: query.subject in found.subjects,
    "device": lambda query, found: query.device in found.devices,
    "address_or_network": _in_network,
    "host": lambda query, found: parse_host(query.host) in found.hosts,
    "path_prefix": _below_path,
    "asn": lambda query, found: query.asn in found.asns,
    "request_id": lambda query, found: query.request_id in found.request_ids,
    "trace_id": lambda query, found: lower(query.trace_id) in found.trace_ids,
}
"""What each personal field asks of an opened part."""

PERSONAL_FIELDS = frozenset(_PERSONAL_TESTS)
"""Fields of a search over the personal part of records (rule S4)."""
