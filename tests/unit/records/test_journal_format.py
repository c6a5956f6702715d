# SPDX-License-Identifier: Apache-2.0
"""The bytes of a segment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import Corrupt, Malformed
from iap_authz.records.journal_format import (
    FRAME_HEAD_BYTES,
    PAYLOAD_MAX_BYTES,
    DamagedFrame,
    FrameType,
    SegmentHeader,
    checksum,
    parse_frame,
    parse_header,
    read_frames,
    render_frame,
    render_header,
    segment_name,
)
from iap_authz.tlog.hashing import leaf_hash
from iap_authz.tlog.tree import CompactRange
from tests.fakes.journal import FixedSigner, build_segments, sample_leaves

SIGNER = FixedSigner()


@pytest.mark.parametrize(
    ("data", "want"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"123456789", 0xE3069283)],
    ids=["zeros", "ones", "ascending", "digits"],
)
def test_the_checksum_is_crc_32c(data: bytes, want: int) -> None:
    """Known answers: RFC 3720 appendix B.4, and the check value of the CRC catalogues."""
    assert checksum(data) == want


def test_a_frame_is_length_checksum_type_payload() -> None:
    frame = render_frame(FrameType.RECORD, b"leaf")
    assert frame == b"\x00\x00\x00\x04" + checksum(b"\x02leaf").to_bytes(4) + b"\x02leaf"


@given(
    st.lists(st.tuples(st.sampled_from(FrameType), st.binary(min_size=1, max_size=90)), max_size=9), st.integers(0, 40)
)
def test_frames_are_read_back_with_their_offsets(frames: list[tuple[FrameType, bytes]], unused: int) -> None:
    rendered = [render_frame(kind, payload) for kind, payload in frames]
    segment = b"".join(rendered) + bytes(unused)
    found = list(read_frames(segment))
    assert [(frame.type, frame.payload) for frame in found] == frames
    assert [frame.offset for frame in found] == [len(b"".join(rendered[:number])) for number in range(len(rendered))]
    assert [segment[frame.offset : frame.end] for frame in found] == rendered


def test_a_length_of_zero_ends_the_used_part() -> None:
    frame = render_frame(FrameType.RECORD, b"leaf")
    assert len(list(read_frames(frame + bytes(FRAME_HEAD_BYTES) + frame))) == 1


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_frame_that_is_cut_is_damage_at_its_offset(cut: int) -> None:
    frame = render_frame(FrameType.RECORD, b"leaf")
    with pytest.raises(DamagedFrame) as raised:
        list(read_frames(frame + render_frame(FrameType.RECORD, b"leaf" * 20_000)[: cut + 3]))
    assert raised.value.offset == len(frame)
    assert isinstance(raised.value, Corrupt)


def test_a_length_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(DamagedFrame, match="want at most"):
        parse_frame((PAYLOAD_MAX_BYTES + 1).to_bytes(4) + bytes(PAYLOAD_MAX_BYTES * 2), 0)


@pytest.mark.parametrize("size", [0, PAYLOAD_MAX_BYTES + 1])
def test_a_payload_out_of_bounds_is_not_written(size: int) -> None:
    with pytest.raises(ValueError, match="want 1 to"):
        render_frame(FrameType.RECORD, bytes(size))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 1_000])
def test_headers_are_read_back(size: int) -> None:
    before = CompactRange.empty().extend([leaf_hash(str(number).encode()) for number in range(size)])
    header = SegmentHeader(
        public_key=SIGNER.public_key, number=min(size, 5), before=before, checkpoint=b"a note\n" if size else b""
    )
    payload = render_header(header)
    assert payload.startswith(b"iap-authz journal v1\n" + SIGNER.writer + SIGNER.public_key)
    assert parse_header(payload) == header
    assert (header.writer, header.first) == (SIGNER.writer, size)


def header_payload() -> bytes:
    segments = build_segments(SIGNER, [[sample_leaves(SIGNER, 3)], [sample_leaves(SIGNER, 1)]])
    frame = parse_frame(segments[1][1], 0)
    assert frame is not None
    return frame.payload


PAYLOAD = header_payload()
NUMBER_AT, FIRST_AT, COUNT_AT = 85, 93, 101

BAD_HEADERS = {
    "empty": b"",
    "another-magic": b"iap-authz journal v2\n" + PAYLOAD[21:],
    "cut-in-the-fixed-part": PAYLOAD[:100],
    "cut-in-the-hashes": PAYLOAD[:120],
    "another-key": PAYLOAD[:53] + bytes(32) + PAYLOAD[85:],
    "a-hash-too-few": PAYLOAD[:COUNT_AT] + b"\x01" + PAYLOAD[COUNT_AT + 1 :],
    "first-sequence-too-large": PAYLOAD[:FIRST_AT] + b"\xff" * 8 + PAYLOAD[COUNT_AT:],
    "number-0-with-records-before": PAYLOAD[:NUMBER_AT] + bytes(8) + PAYLOAD[FIRST_AT:],
    "no-note": PAYLOAD[: 102 + 64],
}


@pytest.mark.parametrize("payload", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_other_headers_are_malformed(payload: bytes) -> None:
    parse_header(PAYLOAD)
    with pytest.raises(Malformed):
        parse_header(payload)


def test_segment_names_sort_as_the_segments_follow() -> None:
    names = [segment_name(first) for first in (0, 9, 10, 99_999, 1 << 62)]
    assert names == sorted(names)
    assert names[0] == "00000000000000000000.segment"
