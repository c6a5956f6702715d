# SPDX-License-Identifier: Apache-2.0
"""Which single byte explains a damaged frame.

The invariant: every change that `find_changes` yields makes the frame at that offset hold; a frame with exactly one
wrong byte is among them, wherever that byte is: in the length, the checksum, the type or the payload.

    length     each of the 4 * 255 other values: does the checksum hold over the frame of that length?
    checksum   does the stored one differ from the true one in one byte?
    payload    CRC is linear: the difference of the two checksums is that of the wrong byte alone, carried through the
               bytes after it. Walked back from the end, it is an entry of the CRC table exactly where the byte is.

A few of them may be accidents (about one in a thousand damaged frames of 10 KiB has a second one), so the caller lets
the tree and its signature decide. Nothing is repaired on disk here or anywhere: the change is what the operator is
told.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from iap_authz.records.journal_format import CRC_AT, FRAME_HEAD_BYTES, PAYLOAD_MAX_BYTES, TYPE_AT, checksum

POLYNOMIAL = 0x82F63B78
"""CRC-32C, bits reflected (RFC 3720 section 12.1)."""

_LENGTH_BYTES = 4


def _table() -> tuple[int, ...]:
    rows = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


_FORWARD = _table()
_BYTE_OF = {value: index for index, value in enumerate(_FORWARD)}
_INDEX_OF_TOP = {value >> 24: index for index, value in enumerate(_FORWARD)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One byte: where it is in the segment, what it is, and what it should be."""

    offset: int
    got: int
    want: int


def apply_change(segment: bytes, change: Change) -> bytes:
    """The segment with that byte as it should be."""
    return segment[: change.offset] + bytes([change.want]) + segment[change.offset + 1 :]


def find_stray(segment: bytes, offset: int) -> Change | None:
    """The one byte from `offset` on that is not zero; None if there is another, or none, or no room for a frame."""
    rest = segment[offset:].rstrip(b"\0")
    if len(segment) - offset < FRAME_HEAD_BYTES or not rest or any(rest[:-1]):
        return None
    return Change(offset=offset + len(rest) - 1, got=rest[-1], want=0)


def find_changes(segment: bytes, offset: int) -> Iterator[Change]:
    """Each change of one byte after which the frame at `offset` holds."""
    if len(segment) - offset <= FRAME_HEAD_BYTES:
        return
    yield from _in_length(segment, offset)
    length = int.from_bytes(segment[offset : offset + _LENGTH_BYTES])
    end = offset + FRAME_HEAD_BYTES + length
    if not 1 <= length <= PAYLOAD_MAX_BYTES or end > len(segment):
        return
    stored = int.from_bytes(segment[offset + CRC_AT : offset + TYPE_AT])
    body = segment[offset + TYPE_AT : end]
    difference = stored ^ checksum(body)
    if difference:
        yield from _in_checksum(segment, offset, difference=difference)
        yield from _in_body(body, offset + TYPE_AT, difference=difference)


def _in_length(segment: bytes, offset: int) -> Iterator[Change]:
    length = segment[offset : offset + _LENGTH_BYTES]
    stored = int.from_bytes(segment[offset + CRC_AT : offset + TYPE_AT])
    most = min(PAYLOAD_MAX_BYTES, len(segment) - offset - FRAME_HEAD_BYTES)
    for position in range(_LENGTH_BYTES):
        for value in range(256):
            other = int.from_bytes(length[:position] + bytes([value]) + length[position + 1 :])
            if value == length[position] or not 1 <= other <= most:
                continue
            if checksum(segment[offset + TYPE_AT : offset + FRAME_HEAD_BYTES + other]) == stored:
                yield Change(offset=offset + position, got=length[position], want=value)


def _in_checksum(segment: bytes, offset: int, *, difference: int) -> Iterator[Change]:
    row = difference.to_bytes(_LENGTH_BYTES)
    wrong = [position for position, byte in enumerate(row) if byte]
    if len(wrong) == 1:
        at = offset + CRC_AT + wrong[0]
        yield Change(offset=at, got=segment[at], want=segment[at] ^ row[wrong[0]])


def _in_body(body: bytes, start: int, *, difference: int) -> Iterator[Change]:
    carried = difference
    for position in range(len(body) - 1, -1, -1):
        flipped = _BYTE_OF.get(carried)
        if flipped:
            yield Change(offset=start + position, got=body[position], want=body[position] ^ flipped)
        index = _INDEX_OF_TOP[carried >> 24]
        carried = (carried ^ _FORWARD[index]) << 8 & 0xFFFFFFFF | index
