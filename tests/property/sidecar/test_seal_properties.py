# SPDX-License-Identifier: Apache-2.0
"""For any facts: nothing of a person stands readable in a leaf (rule S4), and there is always a leaf.

Facts are filled by their descriptors, so that a field that is added is covered without a change here.
"""

import asyncio
import itertools
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.policy.compile import load_policy
from iap_authz.policy.compiled import Policy
from iap_authz.policy.source import SourceFile
from iap_authz.ports import Answer
from iap_authz.records.record import RECORD_MAX_BYTES
from iap_authz.records.seal import PART_MAX_BYTES
from iap_authz.records.too_large import KEPT_MAX_BYTES
from iap_authz.sidecar.snapshot import Snapshot
from tests.unit.sidecar.test_check import NOW, Bench, asked

CLEAR = frozenset({"state", "age", "problem"})
"""Of each family (rule S4). Booleans are clear too, or single bits that cannot be searched for."""

FAMILIES = ("identity", "device", "location", "request")

COUNTRY = "location.country"

POLICY = load_policy(
    [
        SourceFile(
            name="p.yaml",
            content=b"""
kind: Policy
name: test
levels: {named: 'identity.subject != "nobody"'}
routes:
- name: everything
  match: {paths: ["/**"]}
  deny: [{id: lost, when: 'has(device.lost) && device.lost'}]
  challenge: [{id: step-up, when: 'identity.acr == "none"', with: {redirect: "https://enrol.example.com/", acr: mfa}}]
  allow:
  - {id: named, when: 'level.named && request.host == "nowhere"'}
  - {id: listed, when: '"eng" in identity.groups'}
  shadow: [{id: tighter, allow: 'identity.email == "x"'}]
  on_allow: {set_headers: {x-subject: identity.subject, x-path: request.path}}
""",
        )
    ]
)


class MadeSnapshot:
    """A generation that finds out what a test says."""

    def __init__(self, facts: facts_pb2.Facts) -> None:
        self.policy: Policy = POLICY
        self._facts = facts

    def establish(self, request: Request, now: datetime) -> facts_pb2.Facts:  # noqa: ARG002 -- the snapshot's
        return self._facts


async def decide(facts: facts_pb2.Facts, *, sealed: bool = True) -> tuple[Bench, Answer]:
    bench = Bench(sealed=sealed)
    bench.snapshot_in_force = cast("Snapshot", MadeSnapshot(facts))
    return bench, await bench.check_service.check(asked("/open"), bench.clock.monotonic() + 5)


# ---- canaries

Canaries = dict[str, bytes]
"""What the wire has of each value that was put in, by the path of its field."""


def fill(message: Message, path: str, canaries: Canaries, numbers: Iterator[int]) -> None:
    """Put a value that can be told apart into every field that is not clear."""
    for field in message.DESCRIPTOR.fields:
        if path.count(".") == 1 and field.name in CLEAR:
            continue
        fill_field(message, field, f"{path}{field.name}", canaries=canaries, numbers=numbers)


def fill_field(
    message: Message,
    field: Any,
    path: str,
    *,
    canaries: Canaries,
    numbers: Iterator[int],
) -> None:
    number = next(numbers)
    if is_map(field):
        key, value = f"key-{number:08x}-{path}", f"value-{number:08x}-{path}"
        getattr(message, field.name)[key] = value
        canaries[f"{path}[key]"], canaries[f"{path}[value]"] = key.encode(), value.encode()
    elif field.message_type is not None:
        assert not field.is_repeated, "no such field yet"
        fill(getattr(message, field.name), f"{path}.", canaries, numbers)
    elif field.type not in (FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM):
        content, canaries[path] = canary(field, path, number)
        if field.is_repeated:
            getattr(message, field.name).append(content)
        else:
            setattr(message, field.name, content)


def canary(field: Any, path: str, number: int) -> tuple[str | bytes | float, bytes]:
    """A value of the field's type, and what the wire has of it."""
    text = f"canary-{number:08x}-{path}"
    if field.type == FieldDescriptor.TYPE_STRING:
        return text, text.encode()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return text.encode(), text.encode()
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return number * 1.1, struct.pack("<d", number * 1.1)
    most = (1 << 30) if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32) else (1 << 37)
    if path.endswith(".nanos"):
        most = 999_000_000
    return most - number % (1 << 24), varint(most - number % (1 << 24))


def is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def varint(value: int) -> bytes:
    """As protobuf spells it."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def filled(start: int, state: "facts_pb2.State") -> tuple[facts_pb2.Facts, Canaries]:
    facts, canaries, numbers = facts_pb2.Facts(), Canaries(), itertools.count(start)
    for family in FAMILIES:
        part = getattr(facts, family)
        fill(part, f"{family}.", canaries, numbers)
        part.state = state
    facts.now.FromDatetime(NOW)
    return facts, canaries


TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def fields_of(family: str) -> list[Any]:
    """The descriptors of a family's fields."""
    descriptor: Any = facts_pb2.Facts.DESCRIPTOR.fields_by_name[family].message_type
    return list(descriptor.fields)


STATES = st.sampled_from([facts_pb2.PRESENT, facts_pb2.ABSENT, facts_pb2.STALE, facts_pb2.ERROR, facts_pb2.INVALID])


@given(st.integers(0, 1 << 31), STATES, st.booleans())
def test_s4_nothing_but_the_allow_list_stands_readable_in_a_leaf(
    start: int,
    state: "facts_pb2.State",
    matches: bool,  # noqa: FBT001 -- drawn
) -> None:
    facts, canaries = filled(start, state)
    if matches:  # the facts that choose a route and a rule, so that every part of a decision is filled
        facts.request.method, facts.request.host = "GET", "orders.example.com"
        facts.identity.groups.append("eng")
    bench, _ = asyncio.run(decide(facts))
    leaf, beside = bench.leaves[0], bench.journal.besides[1]
    assert bench.opened(0).decision.facts == facts
    readable = {path for path, value in canaries.items() if value in leaf or value in beside}
    assert readable <= {COUNTRY}


def test_the_search_finds_what_stands_in_the_open() -> None:
    """The control: without a seal every canary is found, and they cover every field that can hold a text."""
    facts, canaries = filled(7, facts_pb2.PRESENT)
    bench, _ = asyncio.run(decide(facts, sealed=False))
    assert {path for path, value in canaries.items() if value not in bench.leaves[0]} == set()
    texts = {f"{family}.{field.name}" for family in FAMILIES for field in fields_of(family) if field.type in TEXTS}
    assert texts <= canaries.keys()
    assert len(texts) >= 60


def test_an_allow_with_headers_made_of_facts_leaves_them_out_of_the_leaf() -> None:
    """Headers for the upstream hold what facts say. They are in the answer, and in no record."""
    facts, _ = filled(7, facts_pb2.PRESENT)
    facts.request.method, facts.request.host, facts.request.path = "GET", "orders.example.com", "/canary-path"
    del facts.request.segments[:]
    facts.request.segments.append("canary-path")
    facts.identity.groups.append("eng")
    facts.identity.acr, facts.location.country, facts.device.lost = "mfa", "DE", False
    bench, answer = asyncio.run(decide(facts))
    assert answer.decision.verdict is Verdict.ALLOW, answer.decision
    assert answer.decision.set_headers["x-subject"] == facts.identity.subject
    assert b"canary" not in bench.leaves[0]
    assert bench.records[0].decision.rule == "listed"


# ---- sizes

EDGES = (0, 1, 255, 16_000, KEPT_MAX_BYTES, PART_MAX_BYTES, RECORD_MAX_BYTES)
SIZES = st.sampled_from(EDGES).flatmap(lambda edge: st.integers(max(0, edge - 300), edge + 300)) | st.just(300_000)
PLACES = st.sampled_from(
    [
        (family, field.name)
        for family in FAMILIES
        for field in fields_of(family)
        if (field.type in TEXTS or is_map(field)) and f"{family}.{field.name}" != COUNTRY
    ]
)
"""Where a client or a source may put something large. A country is two letters, whatever the database says."""


def put(facts: facts_pb2.Facts, family: str, name: str, *, size: int) -> None:
    """A value of about so many bytes; lists and maps get many small ones."""
    part = getattr(facts, family)
    field = part.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        for number in range(size // 32):
            getattr(part, name)[f"key-{number:08}"] = "x" * 12
    elif field.is_repeated:
        getattr(part, name).extend(["x" * 30] * (size // 32))
    else:
        setattr(part, name, b"x" * size if field.type == FieldDescriptor.TYPE_BYTES else "x" * size)


@given(st.dictionaries(PLACES, SIZES, min_size=1, max_size=6), STATES)
def test_whatever_the_size_there_is_one_sealed_record(
    sizes: dict[tuple[str, str], int], state: "facts_pb2.State"
) -> None:
    facts = facts_pb2.Facts()
    facts.now.FromDatetime(NOW)
    for family in FAMILIES:
        getattr(facts, family).state = state
    for (family, name), size in sizes.items():
        put(facts, family, name, size=size)
    bench, answer = asyncio.run(decide(facts))
    (leaf,), (record,) = bench.leaves, bench.records
    assert (bench.refusals.waiting, record.WhichOneof("personal")) == (0, "sealed")
    assert len(leaf) <= RECORD_MAX_BYTES
    kept = bench.opened(0).decision.facts
    if kept != facts:
        assert (answer.decision.verdict, answer.decision.reason) == (Verdict.DENY, Reason.MALFORMED_REQUEST)
        assert facts.ByteSize() > PART_MAX_BYTES - 16
        assert record.decision.missing == list(answer.decision.missing) != []
        for path in record.decision.missing:
            family, name = path.split(".")
            getattr(facts, family).ClearField(name)
        assert kept == facts
