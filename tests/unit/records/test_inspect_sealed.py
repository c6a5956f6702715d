# SPDX-License-Identifier: Apache-2.0
"""What stands beside sealed records in a journal, inspected (PROTOCOL rule S2): one fitting companion, right after."""

from collections.abc import Sequence
from hashlib import sha256

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.records.findings import Inspection, Kind
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import FrameType, SegmentHeader, parse_frame, render_frame, render_header
from iap_authz.records.record import parse_record, service_record
from iap_authz.records.seal import SALT_BYTES
from iap_authz.records.writerlog import start_writer_log
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.clock import START
from tests.fakes.journal import (
    ORIGIN,
    FixedSigner,
    build_segments,
    counted,
    fixed_seal,
    record_id,
    sealed_leaf,
    sealed_leaves,
    start_record,
)

SIGNER = FixedSigner()
FIRST = start_record(SIGNER)
PLAIN = counted(SIGNER.writer, RecordSequence(1))
SEALED = sealed_leaf(SIGNER.writer, RecordSequence(1))
SEALED_TOO = sealed_leaf(SIGNER.writer, RecordSequence(2))
OPEN = service_record(
    record_pb2.Outcome(kind=record_pb2.Outcome.REQUEST_FINISHED, decision=bytes(32)),
    writer=SIGNER.writer,
    sequence=RecordSequence(1),
    record_id=record_id(1),
    time=START,
    personal=(record_pb2.OutcomePersonal(upstream_address="192.0.2.7:443"), None),
)
BESIDE, BESIDE_TOO = fixed_seal(1).beside, fixed_seal(2).beside

Part = tuple[FrameType | int, bytes]
RECORD_0 = (FrameType.RECORD, FIRST)


def record(leaf: bytes) -> Part:
    return (FrameType.RECORD, leaf)


def companion(beside: bytes) -> Part:
    return (FrameType.COMPANION, beside)


def segment_of(parts: Sequence[Part]) -> bytes:
    """One segment, one group: these frames, and the checkpoint of the records among them."""
    log = start_writer_log(ORIGIN, SIGNER.public_key, sign=SIGNER.sign)
    header = SegmentHeader(public_key=SIGNER.public_key, number=0, before=log.tree, checkpoint=b"")
    _, note = log.commit([leaf_hash(payload) for kind, payload in parts if kind == FrameType.RECORD])
    whole = [(FrameType.HEADER, render_header(header)), *parts, (FrameType.CHECKPOINT, note)]
    return b"".join(render_frame(kind, payload) for kind, payload in whole)  # type: ignore[arg-type]


def offset_of(parts: Sequence[Part], position: int) -> int:
    """Where the frame of `parts[position]` stands in its segment."""
    at, segment = 0, segment_of(parts)
    for _ in range(position + 1):
        frame = parse_frame(segment, at)
        assert frame is not None
        at = frame.end
    return at


def inspect_parts(parts: Sequence[Part]) -> Inspection:
    return inspect_writer([("s", segment_of(parts))], ORIGIN)


def test_s2_a_journal_of_sealed_and_other_records_is_whole() -> None:
    leaves, besides = sealed_leaves(SIGNER, 9)
    for groups in ([[leaves]], [[leaves[:2], leaves[2:3]], [leaves[3:]]], [[[leaf] for leaf in leaves]]):
        found = inspect_writer(build_segments(SIGNER, groups, besides=besides, unused_bytes=32), ORIGIN)
        assert (found.findings, found.size) == ((), 9)
        assert [leaf.hex() for leaf in found.hashes] == [leaf_hash(leaf).hex() for leaf in leaves]


def test_s2_companions_change_no_leaf_and_no_note() -> None:
    """They are not hashed: the writer's tree is the same with and without them."""
    leaves, besides = sealed_leaves(SIGNER, 4)
    whole = inspect_writer(build_segments(SIGNER, [[leaves]], besides=besides), ORIGIN)
    without = inspect_writer(build_segments(SIGNER, [[leaves]]), ORIGIN)
    assert (whole.hashes, whole.checkpoint) == (without.hashes, without.checkpoint)
    contents = dict(build_segments(SIGNER, [[leaves]], besides=besides))
    for place, leaf in zip(whole.places, leaves, strict=True):
        assert contents[place.segment][place.offset : place.offset + place.length] == leaf


def with_sealed(**changed: object) -> bytes:
    """The sealed record with another sealed part."""
    message = parse_record(SEALED)
    for name, value in changed.items():
        setattr(message.sealed, name, value)
    return message.SerializeToString(deterministic=True)


OTHER_SALT = bytes(SALT_BYTES) + BESIDE[SALT_BYTES:]
NO_COMPANION = bytes(SALT_BYTES) + b"not a companion"
MISSING = "record 1: got a sealed part, want its companion right after"
STRAY = "got a companion, want at most one, right after the frame of its record"
CASES: dict[str, tuple[list[Part], list[tuple[int, str]]]] = {
    "missing": ([RECORD_0, record(SEALED)], [(1, MISSING)]),
    "missing-of-two": ([RECORD_0, record(SEALED), record(SEALED_TOO), companion(BESIDE_TOO)], [(1, MISSING)]),
    "of-another-record": (
        [RECORD_0, record(SEALED), companion(BESIDE_TOO)],
        [(2, "record 1: got a companion that is not the one its record names")],
    ),
    "swapped": (
        [RECORD_0, record(SEALED), companion(BESIDE_TOO), record(SEALED_TOO), companion(BESIDE)],
        [(2, "record 1: got a companion that is not"), (4, "record 2: got a companion that is not")],
    ),
    "with-another-salt": ([RECORD_0, record(SEALED), companion(OTHER_SALT)], [(2, "record 1: got a companion that")]),
    "of-another-epoch": (
        [RECORD_0, record(SEALED), companion(fixed_seal(1, seal_epoch=2).beside)],
        [(2, "record 1: got a companion that is not")],
    ),
    "no-companion-at-all": (
        [RECORD_0, record(SEALED), companion(NO_COMPANION)],
        [(2, "record 1: got bytes beside a record that are no companion")],
    ),
    "a-salt-only": ([RECORD_0, record(SEALED), companion(BESIDE[:SALT_BYTES])], [(2, "record 1: got 32 bytes beside")]),
    "one-byte": ([RECORD_0, record(SEALED), companion(b"x")], [(2, "record 1: got 1 bytes beside")]),
    "too-long": ([RECORD_0, record(SEALED), companion(BESIDE + bytes(300))], [(2, "record 1: got ")]),
    "beside-an-open-part": (
        [RECORD_0, record(OPEN), companion(BESIDE)],
        [(2, "record 1: got a companion of a record without a sealed part")],
    ),
    "beside-no-person": (
        [RECORD_0, record(PLAIN), companion(BESIDE)],
        [(2, "record 1: got a companion of a record without a sealed part")],
    ),
    "beside-the-start": (
        [RECORD_0, companion(BESIDE)],
        [(1, "record 0: got a companion of a record without a sealed part")],
    ),
    "before-every-record": ([companion(BESIDE), RECORD_0], [(0, STRAY)]),
    "twice": ([RECORD_0, record(SEALED), companion(BESIDE), companion(BESIDE)], [(3, STRAY)]),
    "after-another-frame": (
        [RECORD_0, record(SEALED), (200, b"later"), companion(BESIDE)],
        [(1, MISSING), (3, STRAY)],
    ),
    "before-its-record": (
        [RECORD_0, companion(BESIDE), record(SEALED)],
        [(1, "record 0: got a companion of a record without"), (2, MISSING)],
    ),
    "a-sealed-part-of-another-version": (
        [RECORD_0, record(with_sealed(version=2)), companion(BESIDE)],
        [(1, "record 1: got a sealed part of version 2")],
    ),
    "a-sealed-part-of-another-size": (
        [RECORD_0, record(with_sealed(ciphertext=bytes(100))), companion(BESIDE)],
        [(1, "record 1: got a ciphertext of 100 bytes")],
    ),
    "a-short-hash": (
        [RECORD_0, record(with_sealed(companion_sha256=sha256(BESIDE).digest()[:31])), companion(BESIDE)],
        [(1, "record 1: got a sealed part of version 1"), (2, "record 1: got a companion that is not")],
    ),
}


@pytest.mark.parametrize(("parts", "want"), CASES.values(), ids=CASES.keys())
def test_s2_what_does_not_fit_is_found_with_its_place(parts: list[Part], want: list[tuple[int, str]]) -> None:
    found = inspect_parts(parts)
    assert [(one.kind, one.offset) for one in found.findings] == [
        (Kind.INVALID, offset_of(parts, position)) for position, _ in want
    ]
    for finding, (_, message) in zip(found.findings, want, strict=True):
        assert message in finding.message
        assert finding.blocks_start
    # What the records themselves say is verified all the same.
    assert found.size == len(found.hashes) == sum(kind == FrameType.RECORD for kind, _ in parts)


def test_beside_a_record_that_cannot_be_read_nothing_more_is_said() -> None:
    parts = [RECORD_0, record(b"not a record"), companion(BESIDE)]
    assert [one.offset for one in inspect_parts(parts).findings] == [offset_of(parts, 1)]


def test_s2_a_companion_is_looked_for_in_its_own_group_only() -> None:
    """The checkpoint ends the group; a companion after it stands beside nothing."""
    log = start_writer_log(ORIGIN, SIGNER.public_key, sign=SIGNER.sign)
    _, note = log.commit([leaf_hash(FIRST), leaf_hash(SEALED)])
    segment = segment_of([RECORD_0, record(SEALED)]) + render_frame(FrameType.COMPANION, BESIDE)
    found = inspect_writer([("s", segment)], ORIGIN)
    assert found.checkpoint == note
    assert [one.kind for one in found.findings] == [Kind.INVALID, Kind.CUT]
    assert MISSING in found.findings[0].message
