# SPDX-License-Identifier: Apache-2.0
"""Records made and read: one record is one leaf of its writer's log, and of the audit log after it.

The invariant: a record's bytes are made once. They are the leaf in both trees, and nothing serializes a record again;
whoever needs a field parses the leaf and throws the parsed message away.

    leaf     = serialized iap.audit.v1.Record, 1 to 65,535 bytes
    audit id = SHA-256(0x00 || leaf) in lowercase hex, known before any byte is written

Clear are only the fields that proto/iap/audit/v1/record.proto lists (rule S4); everything about a person goes through
`personal.put_personal`. A record that is too large is refused with a typed error and never cut: see `too_large` for
what takes its place. Time and randomness are arguments; `new_record_id` is here so that every caller draws it alike.
"""

import secrets
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Malformed
from iap_authz.model.decision import Decision
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.model.reason import Verdict
from iap_authz.records.personal import put_personal
from iap_authz.records.seal import PART_MAX_BYTES, Seal
from iap_authz.records.wire import BYTES, VARINT, Field, parse_fields
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES, leaf_hash

RECORD_MAX_BYTES = 65_535
"""An entry of a tile's bundle has a 16-bit length (C2SP tlog-tiles)."""

RECORD_ID_BYTES = 16
"""As in record.proto: enough random bits that two records never share an id."""

FIRST_BODY_FIELD = 20
"""Fields of `Record` from here on are bodies, also those that this version does not know (record.proto)."""


def _names_by_type(message: type[Message], oneof: str) -> dict[str, str]:
    """Which field of a oneof holds a message of which type; every type stands there once."""
    fields = message.DESCRIPTOR.oneofs_by_name[oneof].fields
    return {field.message_type.full_name: field.name for field in fields if field.message_type is not None}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z (timestamp.proto)."""
_SECONDS_A_DAY = 86_400
_NANOSECONDS_A_SECOND = 1_000_000_000
_PERSONAL_FIELDS = frozenset(field.number for field in record_pb2.Record.DESCRIPTOR.oneofs_by_name["personal"].fields)
_ENVELOPE_FIELDS = frozenset(one.number for one in record_pb2.Record.DESCRIPTOR.fields if one.number < FIRST_BODY_FIELD)
_SEQUENCE_FIELD = record_pb2.Record.DESCRIPTOR.fields_by_name["sequence"].number
_PERSONAL_PARTS = _names_by_type(record_pb2.PersonalPart, "part")
_BODIES = _names_by_type(record_pb2.Record, "body")
_POSTURE = tuple(field.name for field in record_pb2.Posture.DESCRIPTOR.fields)


class RecordTooLarge(Malformed):
    """A record that does not fit in a leaf. For a decision the caller answers and records a refusal instead."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"got a record of {size_bytes} bytes, want 1 to {RECORD_MAX_BYTES}")
        self.size_bytes = size_bytes


def new_record_id() -> bytes:
    """16 fresh random bytes."""
    return secrets.token_bytes(RECORD_ID_BYTES)


def audit_id(leaf: bytes) -> AuditId:
    """The audit id of a record's bytes."""
    return AuditId(leaf_hash(leaf).hex())


def decision_record(  # noqa: PLR0913 -- one parameter a field of the envelope
    decision: Decision,
    facts: facts_pb2.Facts,
    *,
    writer: WriterId,
    sequence: Sequence,
    record_id: bytes,
    time: datetime,
    spent: timedelta,
    http_status: int,
    seal: Seal | None,
) -> bytes:
    """The record of one check. `time` is in UTC; `spent` runs from the arrival of the check to here.

    Without a seal the facts stay readable in it. Raises RecordTooLarge if they do not fit.
    """
    record = _envelope(writer=writer, sequence=sequence, record_id=record_id, time=time)
    body = record.decision
    _fill_verdict(body, decision)
    _fill_clear_facts(body, facts)
    body.http_status = http_status
    body.spent.CopyFrom(render_duration(spent))
    part = record_pb2.PersonalPart()
    part.decision.facts.CopyFrom(facts)
    _put_personal(record, part, seal)
    return _render(record)


def service_record(
    body: Message,
    *,
    writer: WriterId,
    sequence: Sequence,
    record_id: bytes,
    time: datetime,
    personal: tuple[Message, Seal | None] | None = None,
) -> bytes:
    """The record of what the service itself did or saw: any body but Decision, and what it says of a person, if any.

    `personal` is a message that PersonalPart has a field for, and what seals it. Raises RecordTooLarge.
    """
    name = _BODIES.get(body.DESCRIPTOR.full_name)
    if name is None or name == "decision":
        raise ValueError(f"got a body of type {body.DESCRIPTOR.full_name}, want one of Record's but Decision")
    record = _envelope(writer=writer, sequence=sequence, record_id=record_id, time=time)
    getattr(record, name).CopyFrom(body)
    getattr(record, name).SetInParent()
    if personal is not None:
        message, seal = personal
        part = record_pb2.PersonalPart()
        getattr(part, _PERSONAL_PARTS[message.DESCRIPTOR.full_name]).CopyFrom(message)
        _put_personal(record, part, seal)
    return _render(record)


def parse_record(leaf: bytes) -> record_pb2.Record:
    """The record of a leaf. Raises Malformed unless every reader would see the same one.

    A body that a newer version has added is accepted and stays unparsed; two bodies, two personal parts or a field that
    stands twice are not.
    """
    if not 1 <= len(leaf) <= RECORD_MAX_BYTES:
        raise RecordTooLarge(len(leaf))
    record = record_pb2.Record()
    try:
        record.ParseFromString(leaf)
    except DecodeError as error:
        raise Malformed("got bytes that are no Record, want a serialized iap.audit.v1.Record") from error
    if not _is_plain(record, leaf):
        _check_fields(parse_fields(leaf))
    _check_envelope(record)
    return record


def time_of(record: record_pb2.Record) -> datetime:
    """When the record was made, by its writer's clock; UTC, to the microsecond."""
    return parse_time(record.time)


def parse_time(time: Timestamp) -> datetime:
    """A protobuf time as a datetime in UTC. Raises Malformed outside the years 1 to 9999."""
    _check_time(time)
    return _EPOCH + timedelta(seconds=time.seconds, microseconds=time.nanos // 1000)


def render_time(time: datetime) -> Timestamp:
    """A datetime with a zone as a protobuf time, exactly."""
    since = time - _EPOCH
    return Timestamp(seconds=since.days * _SECONDS_A_DAY + since.seconds, nanos=since.microseconds * 1000)


def render_duration(span: timedelta) -> Duration:
    """A span as a protobuf duration, exactly; a negative one has both parts negative (duration.proto)."""
    seconds, nanos = span.days * _SECONDS_A_DAY + span.seconds, span.microseconds * 1000
    if seconds < 0 and nanos:
        seconds, nanos = seconds + 1, nanos - _NANOSECONDS_A_SECOND
    return Duration(seconds=seconds, nanos=nanos)


def _check_time(time: Timestamp) -> None:
    """The bounds of timestamp.proto, which are those of `datetime` too."""
    if not 0 <= time.nanos < _NANOSECONDS_A_SECOND or not _FIRST_SECOND <= time.seconds <= _LAST_SECOND:
        raise Malformed(f"got a time of {time.seconds} s and {time.nanos} ns, want a year from 1 to 9999")


def _envelope(*, writer: WriterId, sequence: Sequence, record_id: bytes, time: datetime) -> record_pb2.Record:
    if len(writer) != HASH_BYTES or len(record_id) != RECORD_ID_BYTES:
        raise ValueError(f"got a writer of {len(writer)} and an id of {len(record_id)} bytes, want 32 and 16")
    return record_pb2.Record(id=record_id, writer=writer, sequence=sequence, time=render_time(time))


def _fill_verdict(body: record_pb2.Decision, decision: Decision) -> None:
    body.verdict = decision.verdict.value
    body.reason = decision.reason.value
    body.rule = decision.rule
    body.route = decision.route
    body.policy_digest = decision.policy_digest
    body.durability = decision.durability.value
    body.missing.extend(decision.missing)
    for shadow in decision.shadow:
        verdict = record_pb2.VERDICT_UNSPECIFIED if shadow.verdict is None else shadow.verdict.value
        body.shadow.add(rule=shadow.rule, verdict=verdict)
    if decision.verdict is Verdict.CHALLENGE:
        body.challenge = _challenge_of(decision)


def _challenge_of(decision: Decision) -> str:
    """What a challenge asks for, in one word: never the redirect itself, whose query may name a person."""
    if "acr" in decision.asks or "max_age" in decision.asks:
        return "step-up"
    return "enrol" if "redirect" in decision.asks else "login"


def _fill_clear_facts(body: record_pb2.Decision, facts: facts_pb2.Facts) -> None:
    """The allow-list of rule S4: states, ages and problems, the country, and the posture's booleans."""
    for name in ("identity", "device", "location", "request"):
        if not facts.HasField(name):
            continue
        family, clear = getattr(facts, name), getattr(body, name)
        clear.state = family.state
        clear.problem = family.problem
        if family.HasField("age"):
            clear.age.CopyFrom(family.age)
    if facts.location.HasField("country"):
        body.country = facts.location.country
    device = facts.device
    for name in _POSTURE:
        if device.HasField(name):
            setattr(body.posture, name, getattr(device, name))


def _put_personal(record: record_pb2.Record, part: record_pb2.PersonalPart, seal: Seal | None) -> None:
    if seal is not None and part.ByteSize() > PART_MAX_BYTES:
        raise RecordTooLarge(part.ByteSize())
    put_personal(record, part, seal)


def _render(record: record_pb2.Record) -> bytes:
    leaf = record.SerializeToString(deterministic=True)
    if len(leaf) > RECORD_MAX_BYTES:
        raise RecordTooLarge(len(leaf))
    return leaf


def _is_plain(record: record_pb2.Record, leaf: bytes) -> bool:
    """Whether the leaf needs no closer look: all of it is known, and it is what we would have written, byte for byte.

    A field that stood twice, or a second body, would be gone or merged by now. Another spelling is no fault by itself.
    """
    return (
        record.WhichOneof("body") is not None
        and len(UnknownFieldSet(record)) == 0
        and record.SerializeToString(deterministic=True) == leaf
    )


def _check_fields(fields: list[Field]) -> None:
    """A field of another wire type than its own would be there for one reader and unknown to the next."""
    numbers = [number for number, _ in fields]
    for number, wire_type in fields:
        known = number in _ENVELOPE_FIELDS or number >= FIRST_BODY_FIELD
        want = VARINT if number == _SEQUENCE_FIELD else BYTES
        if known and wire_type != want:
            raise Malformed(f"got field {number} of wire type {wire_type} in a record, want {want}")
    if len(numbers) != len(set(numbers)):
        raise Malformed(f"got the fields {numbers} in a record, want each at most once")
    bodies = [number for number in numbers if number >= FIRST_BODY_FIELD]
    if len(bodies) != 1:
        raise Malformed(f"got {len(bodies)} bodies in a record, want 1")
    personal = [number for number in numbers if number in _PERSONAL_FIELDS]
    if len(personal) > 1:
        raise Malformed(f"got {len(personal)} personal parts in a record, want at most 1")


def _check_envelope(record: record_pb2.Record) -> None:
    if len(record.id) != RECORD_ID_BYTES:
        raise Malformed(f"got a record id of {len(record.id)} bytes, want {RECORD_ID_BYTES}")
    if len(record.writer) != HASH_BYTES:
        raise Malformed(f"got a writer id of {len(record.writer)} bytes, want {HASH_BYTES}")
    if record.sequence >= SIZE_LIMIT_LEAVES:
        raise Malformed(f"got sequence {record.sequence}, want 0 to 2^63 - 1")
    if not record.HasField("time"):
        raise Malformed("got a record without a time, want one")
    _check_time(record.time)
