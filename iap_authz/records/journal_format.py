# SPDX-License-Identifier: Apache-2.0
"""The bytes of a journal segment: a sequence of frames, each with a checksum of its own.

The invariant: a frame that `parse_frame` returns is byte for byte what was written, as far as CRC-32C can tell (it
finds every burst of up to 32 bits); whether it is also *true* is for the tree and its signatures to say (`inspect`).

    segment = frame* zero*                      the zeros are preallocated and unused
    frame   = length u32 | crc u32 | type u8 | payload        big-endian; length counts the payload, at least 1
    crc     = CRC-32C over type || payload

    type 1  header      magic (21) | writer id (32) | public key (32) | segment number u64 | first sequence u64
                        | count u8 | count * 32 hashes: the compact range of the tree before the first sequence
                        | the checkpoint note that ended the segment before, to the end; empty in segment 0
    type 2  record      the leaf
    type 3  companion   salt (32) | companion: what stands beside a sealed record, right after its frame; not hashed
    type 4  checkpoint  the writer's signed note over all records before it

A length of zero ends the used part. The header stands first and only there. A group commit is records, each sealed one
with its companion, and then one checkpoint frame, in one write, in one segment (rules W3, S2).

Forward compatibility: readers skip types from 128 on, and treat an unknown type below 128 as an error. So what a later
version adds above 128 may be ignored without changing what the records say; what may not be ignored goes below.

The public key and the compact range make a segment readable without the ones before it, once those are trimmed.
It does not open files, and repairs nothing (`repair` finds what to repair).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

from iap_authz.errors import Corrupt, Malformed
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.model.ids import WriterId
from iap_authz.records.started import writer_id
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES
from iap_authz.tlog.tree import CompactRange

MAGIC = b"iap-authz journal v1\n"
"""What a segment says it is; `head -c 30` shows it."""

FRAME_HEAD_BYTES = 9
"""Length, checksum and type."""

PAYLOAD_MAX_BYTES = 1 << 17
"""Twice the largest record: the length of any frame, of this version or a later one."""

CHECKPOINT_MAX_BYTES = 1_024
"""A writer's own note: origin and name of at most 255 bytes each, a size, a root, one signature; rounded up."""

IGNORABLE_FROM = 128
"""Frames of unknown type are skipped from this type on."""

CRC_AT, TYPE_AT = 4, 8
"""Where the checksum and the type stand in a frame."""

_HEAD = struct.Struct(">IIB")
_HEADER = struct.Struct(f">{len(MAGIC)}s32s32sQQB")


class DamagedFrame(Corrupt):
    """A frame whose bytes are not what was written, from `offset` of its segment on."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(f"byte {offset}", message)
        self.offset = offset


class FrameType(IntEnum):
    """What a frame holds."""

    HEADER = 1
    RECORD = 2
    COMPANION = 3
    CHECKPOINT = 4


KNOWN_TYPES = frozenset(int(one) for one in FrameType)
"""The types that this version understands."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was read: where it starts in its segment, its type, its payload."""

    offset: int
    type: int
    payload: bytes

    @property
    def end(self) -> int:
        """Where the next frame starts."""
        return self.offset + FRAME_HEAD_BYTES + len(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """The first frame of a segment. `before` is the tree over all records before the segment's first."""

    public_key: bytes
    number: int
    before: CompactRange
    checkpoint: bytes

    @property
    def writer(self) -> WriterId:
        """Whose segment it is."""
        return writer_id(self.public_key)

    @property
    def first(self) -> RecordSequence:
        """The sequence of the segment's first record."""
        return RecordSequence(self.before.end)


def checksum(type_and_payload: bytes) -> int:
    """CRC-32C (Castagnoli), RFC 3720 appendix B.4."""
    value: int = google_crc32c.value(type_and_payload)
    return value


def render_frame(frame_type: FrameType, payload: bytes) -> bytes:
    """The bytes of one frame."""
    if not 1 <= len(payload) <= PAYLOAD_MAX_BYTES:
        raise ValueError(f"got a payload of {len(payload)} bytes, want 1 to {PAYLOAD_MAX_BYTES}")
    crc = checksum(bytes([frame_type]) + payload)
    return _HEAD.pack(len(payload), crc, frame_type) + payload


def frame_bytes(payload_bytes: int) -> int:
    """How long the frame of a payload is."""
    return FRAME_HEAD_BYTES + payload_bytes


def parse_frame(segment: bytes, offset: int) -> Frame | None:
    """The frame that starts at `offset`, or None where the used part ends. Raises DamagedFrame."""
    if offset == len(segment):
        return None
    if len(segment) - offset < FRAME_HEAD_BYTES:
        if any(segment[offset:]):
            raise DamagedFrame(
                offset, f"got {len(segment) - offset} bytes, want a frame of at least {FRAME_HEAD_BYTES + 1}"
            )
        return None
    length, crc, frame_type = _HEAD.unpack_from(segment, offset)
    if length == 0:
        return None
    end = offset + FRAME_HEAD_BYTES + length
    if length > PAYLOAD_MAX_BYTES or end > len(segment):
        raise DamagedFrame(
            offset, f"got a payload of {length} bytes, want at most {PAYLOAD_MAX_BYTES}, inside the segment"
        )
    body = segment[offset + TYPE_AT : end]
    got = checksum(body)
    if got != crc:
        raise DamagedFrame(offset, f"got checksum {got:#010x}, want {crc:#010x}")
    return Frame(offset=offset, type=frame_type, payload=body[1:])


def read_frames(segment: bytes) -> Iterator[Frame]:
    """All frames of the used part in order, those of ignorable types too. Raises DamagedFrame at the first."""
    frame = parse_frame(segment, 0)
    while frame is not None:
        yield frame
        frame = parse_frame(segment, frame.end)


def render_header(header: SegmentHeader) -> bytes:
    """The header's payload."""
    hashes = header.before.hashes
    fixed = _HEADER.pack(MAGIC, header.writer, header.public_key, header.number, header.first, len(hashes))
    return b"".join([fixed, *hashes, header.checkpoint])


def parse_header(payload: bytes) -> SegmentHeader:
    """The header of a payload. Raises Malformed; that its note is signed is not checked here."""
    if len(payload) < _HEADER.size or not payload.startswith(MAGIC):
        raise Malformed(f"got a header of {len(payload)} bytes, want {MAGIC!r} and at least {_HEADER.size} bytes")
    _, writer, public_key, number, first, count = _HEADER.unpack_from(payload)
    end = _HEADER.size + count * HASH_BYTES
    if writer != writer_id(public_key):
        raise Malformed(f"got writer {writer.hex()} with another's key, want {writer_id(public_key).hex()}")
    if len(payload) < end or first >= SIZE_LIMIT_LEAVES:
        raise Malformed(f"got {len(payload)} bytes and first sequence {first}, want {count} hashes and below 2^63")
    hashes: Sequence[bytes] = [payload[at : at + HASH_BYTES] for at in range(_HEADER.size, end, HASH_BYTES)]
    header = SegmentHeader(
        public_key=public_key,
        number=number,
        before=CompactRange.parse(0, first, hashes=hashes),
        checkpoint=payload[end:],
    )
    if (header.first == 0) != (header.checkpoint == b"") or (header.first == 0) != (number == 0):
        raise Malformed(f"got segment {number} from record {first} on, want a note in every segment but number 0")
    return header


def segment_name(first: int) -> str:
    """The file name of the segment whose first record is `first`: they sort as they follow one another."""
    return f"{first:020d}.segment"
