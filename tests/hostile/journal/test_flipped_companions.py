# SPDX-License-Identifier: Apache-2.0
"""One wrong byte in a companion's frame is found, and named, as anywhere in a journal (CORPUS F19; rule S2)."""

import pytest

from iap_authz.records.findings import Inspection, Kind
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import FrameType, read_frames
from tests.fakes.journal import ORIGIN, FixedSigner, build_segments, sealed_leaves

SIGNER = FixedSigner()
LEAVES, BESIDES = sealed_leaves(SIGNER, 5)
SEGMENTS = build_segments(SIGNER, [[LEAVES[:2], LEAVES[2:3]], [LEAVES[3:]]], besides=BESIDES, unused_bytes=40)
WHOLE = inspect_writer(SEGMENTS, ORIGIN)


def inspect_changed(number: int, changed: bytes) -> Inspection:
    segments = [(name, changed if place == number else segment) for place, (name, segment) in enumerate(SEGMENTS)]
    return inspect_writer(segments, ORIGIN)


def test_the_whole_journal_has_no_findings_and_a_companion_in_each_segment() -> None:
    assert (WHOLE.findings, WHOLE.size) == ((), 5)
    for _, segment in SEGMENTS:
        assert FrameType.COMPANION in {frame.type for frame in read_frames(segment)}


@pytest.mark.parametrize("number", range(len(SEGMENTS)), ids=["first-segment", "last-segment"])
@pytest.mark.parametrize("mask", [0x01, 0xFF], ids=["lowest-bit", "all-bits"])
def test_every_flipped_byte_is_named(number: int, mask: int) -> None:
    name, segment = SEGMENTS[number]
    frames = [frame for frame in read_frames(segment) if frame.type == FrameType.COMPANION]
    for offset in (offset for frame in frames for offset in range(frame.offset, frame.end)):
        changed = bytearray(segment)
        changed[offset] ^= mask
        found = inspect_changed(number, bytes(changed))
        (finding,) = found.findings
        assert (finding.kind, finding.segment, finding.offset) == (Kind.FLIPPED, name, offset), str(finding)
        assert (finding.got, finding.want) == (segment[offset] ^ mask, segment[offset])
        assert (found.hashes, found.checkpoint) == (WHOLE.hashes, WHOLE.checkpoint)


def test_a_companion_that_was_overwritten_is_damage() -> None:
    """Also with a checkpoint after it: what was acknowledged is not what was written."""
    for number, (_, segment) in enumerate(SEGMENTS):
        (frame, *_) = (frame for frame in read_frames(segment) if frame.type == FrameType.COMPANION)
        changed = segment[: frame.end - 60] + bytes(60) + segment[frame.end :]
        found = inspect_changed(number, changed)
        assert found.damage
        assert found.damage[0].kind is Kind.DAMAGED
        assert found.damage[0].offset == frame.offset


def test_a_companion_that_was_taken_out_is_found() -> None:
    """All checksums, leaves and notes hold without it; its record says that it was there."""
    name, segment = SEGMENTS[1]
    (frame, *_) = (frame for frame in read_frames(segment) if frame.type == FrameType.COMPANION)
    found = inspect_changed(1, segment[: frame.offset] + segment[frame.end :])
    (finding,) = found.findings
    assert (finding.kind, finding.segment) == (Kind.INVALID, name)
    assert "want its companion" in finding.message
