# SPDX-License-Identifier: Apache-2.0
"""Records made and read: what is clear, what is refused, what is exact."""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Malformed
from iap_authz.model.decision import Decision, Shadow
from iap_authz.model.ids import PolicyDigest, Sequence, WriterId
from iap_authz.model.reason import Durability, Reason, Verdict
from iap_authz.records.record import (
    RecordTooLarge,
    audit_id,
    decision_record,
    new_record_id,
    parse_record,
    parse_time,
    render_duration,
    render_time,
    service_record,
    time_of,
)
from iap_authz.records.wire import parse_fields
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.clock import START

WRITER = WriterId(bytes(range(32)))
DECISION = Decision(
    verdict=Verdict.DENY,
    reason=Reason.FACT_ABSENT,
    rule="engineers",
    route="orders",
    missing=("device.managed", "identity.groups"),
    shadow=(Shadow(rule="tighter", verdict=Verdict.ALLOW), Shadow(rule="other", verdict=None)),
    durability=Durability.LOG,
    policy_digest=PolicyDigest(bytes(32)),
)


def render(decision: Decision = DECISION, facts: facts_pb2.Facts | None = None) -> bytes:
    return decision_record(
        decision,
        facts if facts is not None else facts_pb2.Facts(),
        writer=WRITER,
        sequence=Sequence(7),
        record_id=bytes(16),
        time=START,
        spent=timedelta(microseconds=1234),
        http_status=403,
        seal=None,
    )


def service(body: Message, personal: Message | None = None) -> bytes:
    said = None if personal is None else (personal, None)
    return service_record(body, writer=WRITER, sequence=Sequence(1), record_id=bytes(16), time=START, personal=said)


# ---- what is clear (rule S4)

CLEAR = {
    "identity.state",
    "identity.age",
    "identity.problem",
    "device.state",
    "device.age",
    "device.problem",
    "location.state",
    "location.age",
    "location.problem",
    "request.state",
    "request.age",
    "request.problem",
    "location.country",
    "device.managed",
    "device.disk_encrypted",
    "device.screen_lock",
    "device.firewall",
    "device.enrolled",
    "device.revoked",
    "device.lost",
}
"""The allow-list of the specification, spelled out: record.proto, Decision, fields 9 to 14."""

NOT_DISTINCT = {FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM}
"""Types whose values cannot be told from others in the bytes; that these are not copied is tested by field below."""


def fill(message: Message, marks: Iterator[int]) -> None:
    """Set every field of `message` to a value that no other field has."""
    for field in message.DESCRIPTOR.fields:
        mark = next(marks)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[f"key-{mark}"] = f"value-{mark}"
        elif field.message_type is not None and field.message_type.name in ("Timestamp", "Duration"):
            getattr(message, field.name).seconds = mark
        elif field.message_type is not None:
            fill(getattr(message, field.name), marks)
        elif field.is_repeated:
            getattr(message, field.name).append(f"text-{mark}")
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, f"text-{mark}")
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, f"bytes-{mark}".encode())
        elif field.type == FieldDescriptor.TYPE_ENUM:
            setattr(message, field.name, 1)
        elif field.type == FieldDescriptor.TYPE_BOOL:
            setattr(message, field.name, True)
        else:
            setattr(message, field.name, mark)


def full_facts() -> facts_pb2.Facts:
    facts = facts_pb2.Facts()
    fill(facts, iter(range(700_000_001, 800_000_000, 7)))
    return facts


def encodings(message: Message, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Each value that is set, as its bytes stand in a serialized message."""
    for field, value in message.ListFields():
        here = f"{path}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from ((here, text.encode()) for pair in value.items() for text in pair)
        elif field.message_type is not None and field.message_type.name in ("Timestamp", "Duration"):
            yield here, varint(value.seconds)
        elif field.message_type is not None:
            yield from encodings(value, f"{here}.")
        elif field.is_repeated:
            yield from ((here, text.encode()) for text in value)
        elif isinstance(value, str):
            yield here, value.encode()
        elif isinstance(value, bytes):
            yield here, value
        elif isinstance(value, float):
            yield here, struct.pack("<d", value)
        elif field.type not in NOT_DISTINCT:
            yield here, varint(value)


def varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def test_s4_no_value_of_a_filled_facts_shows_outside_the_personal_part() -> None:
    """PROTOCOL S4: "Clear fields are an allow-list [...] All else is sealed"."""
    facts = full_facts()
    found = list(encodings(facts))
    assert len(found) > 90
    leaf = render(facts=facts)
    assert all(value in leaf for _, value in found)
    record = parse_record(leaf)
    assert record.open.decision.facts == facts
    record.ClearField("open")
    clear = record.SerializeToString()
    distinct = {path for path, _ in found}
    assert {path for path, value in found if value in clear} == CLEAR & distinct


def test_s4_booleans_and_states_outside_the_allow_list_change_nothing_that_is_clear() -> None:
    def clear_part(facts: facts_pb2.Facts) -> bytes:
        record = parse_record(render(facts=facts))
        record.ClearField("open")
        return record.SerializeToString(deterministic=True)

    for family in ("identity", "device", "location", "request"):
        fields = [field for field in getattr(facts_pb2.Facts(), family).DESCRIPTOR.fields if field.type in NOT_DISTINCT]
        for field in fields:
            facts = facts_pb2.Facts()
            getattr(facts, family).SetInParent()
            unset = clear_part(facts)
            setattr(getattr(facts, family), field.name, 1)
            assert (clear_part(facts) != unset) is (f"{family}.{field.name}" in CLEAR), field.name


def test_a_redirect_of_a_challenge_stays_out_of_the_record() -> None:
    asks = {"redirect": "https://enrol.example.com/?who=alice"}
    decision = Decision(verdict=Verdict.CHALLENGE, reason=Reason.CHALLENGED_BY_RULE, asks=asks)
    assert b"enrol.example.com" not in render(decision)


@pytest.mark.parametrize(
    ("asks", "word"),
    [({}, "login"), ({"redirect": "https://a/"}, "enrol"), ({"acr": "mfa"}, "step-up"), ({"max_age": "60"}, "step-up")],
    ids=["nothing", "redirect", "acr", "max-age"],
)
def test_a_challenge_is_named_in_one_word(asks: dict[str, str], word: str) -> None:
    decision = Decision(verdict=Verdict.CHALLENGE, reason=Reason.CHALLENGED_BY_RULE, asks=asks)
    assert parse_record(render(decision)).decision.challenge == word


def test_a_decision_is_read_back_as_it_was_decided() -> None:
    facts = facts_pb2.Facts()
    facts.identity.state = facts_pb2.PRESENT
    facts.identity.age.seconds = 5
    facts.device.state = facts_pb2.ERROR
    facts.device.managed = False
    facts.location.country = "DE"
    record = parse_record(render(facts=facts))
    body = record.decision
    assert (record.writer, record.sequence, record.id, time_of(record)) == (WRITER, 7, bytes(16), START)
    assert (body.verdict, body.reason) == (record_pb2.DENY, Reason.FACT_ABSENT.value)
    assert (body.rule, body.route) == ("engineers", "orders")
    assert list(body.missing) == ["device.managed", "identity.groups"]
    assert [(one.rule, one.verdict) for one in body.shadow] == [
        ("tighter", record_pb2.ALLOW),
        ("other", record_pb2.VERDICT_UNSPECIFIED),
    ]
    assert (body.durability, body.http_status, body.spent.nanos) == (record_pb2.LOG, 403, 1_234_000)
    assert (body.identity.age.seconds, body.device.state, body.country) == (5, facts_pb2.ERROR, "DE")
    assert body.posture.HasField("managed")
    assert not body.posture.managed
    assert not body.posture.HasField("lost")
    assert not body.HasField("request")
    assert body.challenge == ""


# ---- size and shape


def test_a_record_that_is_too_large_is_refused_and_not_cut() -> None:
    facts = facts_pb2.Facts()
    facts.request.path = "/" * 65_000
    assert len(render(facts=facts)) <= 65_535
    facts.request.path = "/" * 65_536
    with pytest.raises(RecordTooLarge) as raised:
        render(facts=facts)
    assert raised.value.size_bytes > 65_535


@pytest.mark.parametrize("body", [field.name for field in record_pb2.Record.DESCRIPTOR.oneofs_by_name["body"].fields])
def test_every_body_but_a_decision_makes_a_service_record_even_when_it_is_empty(body: str) -> None:
    message = getattr(record_pb2.Record(), body)
    if body == "decision":
        with pytest.raises(ValueError, match="but Decision"):
            service(message)
        return
    record = parse_record(service(message))
    assert record.WhichOneof("body") == body
    assert record.WhichOneof("personal") is None


def test_a_personal_part_goes_to_its_one_place() -> None:
    record = parse_record(
        service(record_pb2.LogRead(method="GetRecord"), personal=record_pb2.LogReadPersonal(reader="eve"))
    )
    assert record.open.log_read.reader == "eve"


def test_a_body_of_no_record_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="want one of Record's"):
        service(facts_pb2.Facts())


BASE = service(record_pb2.Heartbeat(journal_bytes=1))
NEWER_BODY = b"\xca\x03\x02\x08\x01"  # field 57, two bytes
NEWER_FIELD = b"\x38\x01"  # field 7, a varint


def without(field: str) -> bytes:
    record = parse_record(BASE)
    record.ClearField(field)
    return record.SerializeToString()


def changed(**fields: object) -> bytes:
    record = parse_record(BASE)
    for name, value in fields.items():
        setattr(record, name, value)
    return record.SerializeToString()


ACCEPTED = {
    "a-known-body": BASE,
    "a-newer-body": without("heartbeat") + NEWER_BODY,
    "a-newer-field": BASE + NEWER_FIELD,
    "the-last-sequence": changed(sequence=(1 << 63) - 1),
}

SPARSE_MAP_ENTRY = b"\xda\x01\x05\x32\x03\x0a\x01k"  # field 27, Heartbeat: a source_age with a key only

REFUSED = {
    # Serialized again this has as many bytes: the entry grows by what the doubled field loses.
    "a-field-twice-made-up-for-by-a-sparse-map-entry": without("heartbeat") + SPARSE_MAP_ENTRY + b"\x18\x05",
    "empty": b"",
    "too-long": BASE + b"\x3a" + varint(65_536) + bytes(65_536),
    "no-body": without("heartbeat"),
    "two-bodies": BASE + b"\xea\x01\x00",
    "a-body-and-a-newer-one": BASE + NEWER_BODY,
    "the-same-body-twice": BASE + BASE[BASE.index(b"\xda\x01") :],
    "a-field-twice": BASE + b"\x18\x05",
    "two-personal-parts": BASE + b"\x2a\x00\x32\x00",
    "no-time": without("time"),
    "no-writer": without("writer"),
    "a-short-writer": changed(writer=bytes(31)),
    "a-short-id": changed(id=bytes(15)),
    "a-long-id": changed(id=bytes(17)),
    "a-sequence-of-2^63": changed(sequence=1 << 63),
    "cut": BASE[:-1],
    "trailing-byte": BASE + b"\x00",
    "a-group": BASE + b"\x3b\x3c",
    "field-zero": BASE + b"\x02\x00",
    "an-endless-number": BASE + b"\x38" + b"\xff" * 11,
    "text-that-is-not-utf-8": service(record_pb2.WriterStopped(cause="x")).replace(b"\x0a\x01x", b"\x0a\x01\xff"),
    "not-protobuf": b"GET / HTTP/1.1",
}


@pytest.mark.parametrize("leaf", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_records_of_this_and_newer_versions_are_read(leaf: bytes) -> None:
    assert parse_record(leaf).writer == WRITER


@pytest.mark.parametrize("leaf", REFUSED.values(), ids=REFUSED.keys())
def test_what_two_readers_could_read_differently_is_refused(leaf: bytes) -> None:
    with pytest.raises(Malformed):
        parse_record(leaf)


@given(st.binary(max_size=300))
def test_bytes_parse_or_are_malformed(leaf: bytes) -> None:
    try:
        record = parse_record(leaf)
    except Malformed:
        return
    assert len(record.writer) == 32


def test_the_fields_of_a_message_are_read_in_order() -> None:
    assert parse_fields(b"\x08\x01\x11" + bytes(8) + b"\x1a\x02ab\x25" + bytes(4)) == [(1, 0), (2, 1), (3, 2), (4, 5)]


def test_the_audit_id_is_the_leaf_hash_in_hex() -> None:
    assert audit_id(BASE) == leaf_hash(BASE).hex()


def test_record_ids_are_sixteen_bytes_and_differ() -> None:
    assert {len(new_record_id()) for _ in range(9)} == {16}
    assert len({new_record_id() for _ in range(99)}) == 99


# ---- times

moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments)
def test_times_are_exact(moment: datetime) -> None:
    rendered = render_time(moment)
    assert 0 <= rendered.nanos < 1_000_000_000
    assert parse_time(rendered) == moment


@given(st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)))
def test_durations_are_exact_and_of_one_sign(span: timedelta) -> None:
    """duration.proto: "must be of the same sign as the `seconds` field"."""
    rendered = render_duration(span)
    assert rendered.ToTimedelta() == span
    assert rendered.seconds * rendered.nanos >= 0
