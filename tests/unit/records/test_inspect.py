# SPDX-License-Identifier: Apache-2.0
"""Intact bytes that say something false, and journals that are not whole."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from iap_authz.model.ids import AuditId, WriterId
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.records.findings import Inspection, Kind, NoSuchRecord
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import FrameType, SegmentHeader, render_frame, render_header
from iap_authz.records.record import parse_record, service_record
from iap_authz.records.writerlog import start_writer_log
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.clock import START
from tests.fakes.journal import (
    ORIGIN,
    FixedSigner,
    build_segments,
    counted,
    ids_of,
    record_id,
    sample_leaves,
    start_record,
)

SIGNER, OTHER = FixedSigner(), FixedSigner("other")
LEAVES = sample_leaves(SIGNER, 6)
GROUPS = [[LEAVES[:1], LEAVES[1:3]], [LEAVES[3:4]], [LEAVES[4:6]]]
SEGMENTS = build_segments(SIGNER, GROUPS, unused_bytes=32)


def inspect_groups(groups: Sequence[Sequence[bytes]]) -> Inspection:
    return inspect_writer(build_segments(SIGNER, [groups]), ORIGIN)


def test_a_whole_journal_is_what_was_written() -> None:
    found = inspect_writer(SEGMENTS, ORIGIN)
    assert found.findings == ()
    assert (found.writer, found.first, found.size) == (SIGNER.writer, 0, 6)
    assert [leaf.hex() for leaf in found.hashes] == ids_of(LEAVES)
    assert found.last_time == START + timedelta(seconds=5)
    assert found.end == (SEGMENTS[2][0], len(SEGMENTS[2][1]) - 32)
    contents = dict(SEGMENTS)
    for place, leaf in zip(found.places, LEAVES, strict=True):
        assert contents[place.segment][place.offset : place.offset + place.length] == leaf
    assert found.sequence_of(AuditId(ids_of(LEAVES)[4])) == 4
    with pytest.raises(NoSuchRecord):
        found.sequence_of(AuditId("00" * 32))


@pytest.mark.parametrize("unused", [0, 1, 8, 9, 100, 5_000])
def test_zeros_after_the_used_part_are_nothing(unused: int) -> None:
    assert inspect_writer(build_segments(SIGNER, GROUPS, unused_bytes=unused)).findings == ()


def test_no_segments_are_an_empty_journal() -> None:
    found = inspect_writer([])
    assert (found.writer, found.size, found.end, found.last_time, found.findings) == (None, 0, None, None, ())


def test_an_empty_last_segment_is_one_that_was_only_started() -> None:
    assert inspect_writer([*SEGMENTS, ("00000000000000000006.segment", bytes(100))]).findings == ()


@pytest.mark.parametrize("kept", [1, 2])
def test_a_journal_without_its_first_segments_is_read_from_the_next_header(kept: int) -> None:
    """What trimming leaves; the note in the header and the key are the writer's own."""
    whole = inspect_writer(SEGMENTS)
    found = inspect_writer(SEGMENTS[kept:], ORIGIN)
    assert found.findings == ()
    assert (found.first, found.size, found.checkpoint) == ((3, 4)[kept - 1], 6, whole.checkpoint)
    assert found.hashes == whole.hashes[found.first :]
    assert inspect_writer(SEGMENTS[kept:], "another.example.com").damage


def test_a_missing_segment_in_the_middle_is_found() -> None:
    found = inspect_writer([SEGMENTS[0], SEGMENTS[2]])
    assert found.damage
    assert "want number 1" in found.damage[0].message


def test_a_segment_of_another_writer_is_found() -> None:
    others = build_segments(OTHER, [[sample_leaves(OTHER, 3)], [[counted(OTHER.writer, RecordSequence(3))]]])
    found = inspect_writer([SEGMENTS[0], others[1]])
    assert found.damage


def test_swapped_segments_are_found() -> None:
    assert inspect_writer([SEGMENTS[0], SEGMENTS[2], SEGMENTS[1]]).damage
    assert inspect_writer([SEGMENTS[1], SEGMENTS[0]]).damage


def test_another_log_than_the_wanted_one_is_found() -> None:
    found = inspect_writer(SEGMENTS, "another.example.com")
    assert "want one of 'another.example.com'" in found.damage[0].message


def late(sequence: int, seconds: float) -> bytes:
    return counted(SIGNER.writer, RecordSequence(sequence), time=START + timedelta(seconds=seconds))


def second_start() -> bytes:
    body = parse_record(LEAVES[0]).writer_started
    return service_record(body, writer=SIGNER.writer, sequence=RecordSequence(1), record_id=record_id(1), time=START)


FALSE_GROUPS = {
    "a-sequence-left-out": ([[LEAVES[0], LEAVES[2]]], "record 1: got sequence 2, want 1"),
    "a-record-twice": ([[LEAVES[0], LEAVES[1], LEAVES[1]]], "record 2: got sequence 1, want 2"),
    "another-writer": ([[LEAVES[0], counted(OTHER.writer, RecordSequence(1))]], "got a record of writer"),
    "no-start": ([[counted(SIGNER.writer, RecordSequence(0))]], "want WriterStarted as 0"),
    "a-start-of-another": ([[start_record(OTHER)]], f"got a record of writer {OTHER.writer.hex()}"),
    "time-that-goes-back": ([[LEAVES[0], late(1, 5), late(2, 4.5)]], "record 2: got time"),
    "bytes-that-are-no-record": ([[LEAVES[0], b"not a record"]], "record 1: "),
    "a-second-start": ([[LEAVES[0], second_start()]], "record 1: got a second WriterStarted"),
}


@pytest.mark.parametrize(("groups", "message"), FALSE_GROUPS.values(), ids=FALSE_GROUPS.keys())
def test_intact_records_that_cannot_be_true_are_found(groups: Sequence[Sequence[bytes]], message: str) -> None:
    found = inspect_groups(groups)
    assert {finding.kind for finding in found.findings} == {Kind.INVALID}
    assert any(message in finding.message for finding in found.findings), found.findings


def frames(*parts: tuple[FrameType | int, bytes]) -> bytes:
    """A first segment with these frames after its header."""
    log = start_writer_log(ORIGIN, SIGNER.public_key, sign=SIGNER.sign)
    header = SegmentHeader(public_key=SIGNER.public_key, number=0, before=log.tree, checkpoint=b"")
    rendered = [render_frame(FrameType.HEADER, render_header(header))]
    rendered += [render_frame(kind, payload) for kind, payload in parts]  # type: ignore[arg-type]
    return b"".join(rendered)


def note_over(leaves: Sequence[bytes], signer: FixedSigner = SIGNER, writer: WriterId | None = None) -> bytes:
    log = start_writer_log(ORIGIN, signer.public_key, sign=signer.sign)
    assert writer is None or writer == signer.writer
    return log.commit([leaf_hash(leaf) for leaf in leaves])[1]


FIRST = (FrameType.RECORD, LEAVES[0])
NOTE = (FrameType.CHECKPOINT, note_over(LEAVES[:1]))
FALSE_FRAMES = {
    "a-checkpoint-of-another": ([FIRST, (FrameType.CHECKPOINT, note_over(LEAVES[:1], OTHER))], "want one of"),
    "a-checkpoint-of-other-records": ([FIRST, (FrameType.CHECKPOINT, note_over(LEAVES[1:2]))], "got root"),
    "a-checkpoint-too-far": (
        [FIRST, (FrameType.CHECKPOINT, note_over(LEAVES[:2]))],
        "got a checkpoint at 2, want one at 1",
    ),
    "a-checkpoint-without-records": ([FIRST, NOTE, NOTE], "after at least one record"),
    "a-checkpoint-before-the-start": ([NOTE], "has not started"),
    "a-checkpoint-that-is-no-note": ([FIRST, (FrameType.CHECKPOINT, b"text")], "want a text"),
    "a-second-header": ([FIRST, (FrameType.HEADER, b"x"), NOTE], "got a frame of type 1"),
    "an-unknown-type-below-128": ([FIRST, (5, b"x"), NOTE], "got a frame of type 5"),
    "the-last-type-below-128": ([FIRST, (127, b"x"), NOTE], "got a frame of type 127"),
}


@pytest.mark.parametrize(("parts", "message"), FALSE_FRAMES.values(), ids=FALSE_FRAMES.keys())
def test_intact_frames_that_cannot_be_true_are_found(
    parts: Sequence[tuple[FrameType | int, bytes]], message: str
) -> None:
    found = inspect_writer([("s", frames(*parts))], ORIGIN)
    assert {finding.kind for finding in found.findings} == {Kind.INVALID}
    assert any(message in finding.message for finding in found.findings), found.findings


@pytest.mark.parametrize("kind", [128, 200, 255])
def test_ignorable_frames_are_passed_over(kind: int) -> None:
    found = inspect_writer([("s", frames((kind, b"x"), FIRST, (kind, b"y"), NOTE))], ORIGIN)
    assert (found.findings, found.size) == ((), 1)


def test_a_segment_that_starts_with_another_frame_is_found() -> None:
    found = inspect_writer([("s", render_frame(FrameType.RECORD, LEAVES[0]))])
    assert "want a header first" in found.damage[0].message


def test_an_empty_segment_before_another_one_is_damage() -> None:
    found = inspect_writer([SEGMENTS[0], ("a", bytes(50)), SEGMENTS[1]])
    assert [finding.kind for finding in found.findings] == [Kind.DAMAGED]


def test_a_group_without_a_checkpoint_before_another_segment_is_damage() -> None:
    name, segment = SEGMENTS[0]
    group_end = segment.rfind(ORIGIN.encode(), 0, segment.rfind(ORIGIN.encode())) - 9
    found = inspect_writer([(name, segment[:group_end]), SEGMENTS[1]])
    assert [finding.kind for finding in found.findings] == [Kind.DAMAGED]


def test_a_finding_says_where_and_what() -> None:
    name, segment = SEGMENTS[0]
    found = inspect_writer([(name, segment[:40] + b"\xff" + segment[41:]), *SEGMENTS[1:]])
    assert str(found.findings[0]).startswith(f"{name}: byte 40: flipped: got 0xff, want {segment[40]:#04x}; ")
