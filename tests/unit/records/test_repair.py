# SPDX-License-Identifier: Apache-2.0
"""Which single byte explains a damaged frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.records.journal_format import FrameType, render_frame
from iap_authz.records.repair import Change, apply_change, find_changes, find_stray


@given(st.binary(min_size=1, max_size=400), st.data())
def test_the_wrong_byte_is_among_the_changes(payload: bytes, data: st.DataObject) -> None:
    before, frame = b"before", render_frame(FrameType.RECORD, payload)
    segment = before + frame + bytes(data.draw(st.integers(0, 30)))
    offset = data.draw(st.integers(len(before), len(before) + len(frame) - 1))
    mask = data.draw(st.integers(1, 255))
    wrong = Change(offset=offset, got=segment[offset], want=segment[offset] ^ mask)
    want = Change(offset=offset, got=wrong.want, want=wrong.got)
    assert want in list(find_changes(apply_change(segment, wrong), len(before)))


def test_the_last_byte_of_the_largest_record_is_found() -> None:
    frame = render_frame(FrameType.RECORD, bytes(65_535))
    changed = frame[:-1] + b"\x07"
    assert list(find_changes(changed, 0)) == [Change(offset=len(frame) - 1, got=7, want=0)]


def test_a_frame_that_holds_needs_no_change() -> None:
    assert list(find_changes(render_frame(FrameType.RECORD, b"leaf"), 0)) == []


def test_two_wrong_bytes_are_not_explained() -> None:
    frame = bytearray(render_frame(FrameType.RECORD, b"a leaf of some length"))
    frame[12] ^= 1
    frame[20] ^= 1
    assert list(find_changes(bytes(frame), 0)) == []


@pytest.mark.parametrize("size", range(10))
def test_too_few_bytes_for_a_frame_are_not_explained(size: int) -> None:
    assert list(find_changes(bytes(size), 0)) == []


def test_a_single_byte_that_is_not_zero_is_stray() -> None:
    assert find_stray(bytes(20) + b"\x05" + bytes(20), 3) == Change(offset=20, got=5, want=0)


@pytest.mark.parametrize(
    "rest",
    [bytes(20), b"\x05\x06" + bytes(20), b"\x05" + bytes(20) + b"\x05", b"\x05"],
    ids=["none", "two-together", "two-apart", "no-room-for-a-frame"],
)
def test_anything_else_is_not_stray(rest: bytes) -> None:
    assert find_stray(b"frame" + rest, 5) is None
