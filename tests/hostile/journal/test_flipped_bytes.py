# SPDX-License-Identifier: Apache-2.0
"""One wrong byte anywhere in a journal is found, and named (CORPUS F19, for the writer's journal)."""

from dataclasses import dataclass

import pytest

from iap_authz.records.findings import Inspection, Kind
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.repair import Change, apply_change
from tests.fakes.journal import ORIGIN, FixedSigner, build_segments, sample_leaves

SIGNER = FixedSigner()
LEAVES = sample_leaves(SIGNER, 5)
UNUSED_BYTES = 40
SEGMENTS = build_segments(SIGNER, [[LEAVES[:2], LEAVES[2:3]], [LEAVES[3:5]]], unused_bytes=UNUSED_BYTES)
WHOLE = inspect_writer(SEGMENTS, ORIGIN)

FLIPS = {"lowest-bit": 0x01, "all-bits": 0xFF}


@dataclass(frozen=True)
class Found:
    inspection: Inspection
    want: Change


def flip(number: int, offset: int, mask: int) -> Found:
    name, segment = SEGMENTS[number]
    want = Change(offset=offset, got=segment[offset] ^ mask, want=segment[offset])
    changed = apply_change(segment, Change(offset=offset, got=want.want, want=want.got))
    segments = [(name, changed) if place == number else one for place, one in enumerate(SEGMENTS)]
    return Found(inspection=inspect_writer(segments, ORIGIN), want=want)


def test_the_whole_journal_has_no_findings() -> None:
    assert WHOLE.findings == ()
    assert WHOLE.size == 5


@pytest.mark.parametrize("number", range(len(SEGMENTS)), ids=["first-segment", "last-segment"])
@pytest.mark.parametrize("mask", FLIPS.values(), ids=FLIPS.keys())
def test_every_flipped_byte_is_named(number: int, mask: int) -> None:
    name, segment = SEGMENTS[number]
    used = len(segment) - UNUSED_BYTES
    for offset in range(len(segment)):
        found = flip(number, offset, mask)
        (finding,) = found.inspection.findings
        assert (finding.segment, finding.offset, finding.got, finding.want) == (
            name,
            offset,
            found.want.got,
            found.want.want,
        )
        assert finding.kind is (Kind.FLIPPED if offset < used else Kind.STRAY), str(finding)
        assert finding.blocks_start is (offset < used)
        assert found.inspection.faults == (finding,)
        assert (found.inspection.hashes, found.inspection.checkpoint) == (WHOLE.hashes, WHOLE.checkpoint)


def test_a_byte_that_became_zero_is_named_too() -> None:
    """Also in a length, which then looks like the end of the used part."""
    for number, (_, segment) in enumerate(SEGMENTS):
        last = len(segment.rstrip(b"\0")) - 1
        for offset, byte in enumerate(segment[: last + (number == 0)]):
            if byte:
                found = flip(number, offset, byte)
                (finding,) = found.inspection.findings
                assert (finding.kind, finding.offset) == (Kind.FLIPPED, offset), str(finding)


def test_the_last_byte_of_the_journal_as_a_zero_is_a_torn_write() -> None:
    """The one byte where both readings fit; the write that lacks it was not acknowledged in the likelier one."""
    _, segment = SEGMENTS[1]
    last = len(segment.rstrip(b"\0")) - 1
    (finding,) = flip(1, last, segment[last]).inspection.findings
    assert finding.kind is Kind.CUT


@pytest.mark.parametrize("second", range(0, 900, 53))
def test_two_flipped_bytes_in_different_frames_are_both_named(second: int) -> None:
    name, segment = SEGMENTS[0]
    first = len(SEGMENTS[0][1]) - UNUSED_BYTES - 40
    changed = bytearray(segment)
    changed[first] ^= 0x10
    changed[second] ^= 0x20
    found = inspect_writer([(name, bytes(changed)), SEGMENTS[1]], ORIGIN)
    assert [finding.offset for finding in found.findings] == [second, first]
    assert {finding.kind for finding in found.findings} == {Kind.FLIPPED}
    assert found.hashes == WHOLE.hashes


def test_two_flipped_bytes_in_one_frame_are_damage_and_hide_nothing() -> None:
    name, segment = SEGMENTS[0]
    changed = bytearray(segment)
    changed[400] ^= 0x10
    changed[410] ^= 0x20
    found = inspect_writer([(name, bytes(changed)), SEGMENTS[1]], ORIGIN)
    assert [finding.kind for finding in found.findings] == [Kind.DAMAGED]
    assert found.findings[0].offset <= 400
    assert found.damage


def test_damage_in_the_last_segment_is_damage_if_a_checkpoint_stands_after_it() -> None:
    name, segment = build_segments(SIGNER, [[LEAVES[:2], LEAVES[2:3]]])[0]
    changed = segment[:400] + bytes(30) + segment[430:]
    (finding,) = inspect_writer([(name, changed)], ORIGIN).findings
    assert finding.kind is Kind.DAMAGED
