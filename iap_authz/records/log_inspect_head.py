# SPDX-License-Identifier: Apache-2.0
"""Whose record a leaf is, which one, and what kind, without parsing the rest: all that most leaves of a log are asked.

The invariant: where `read_head` returns something, `parse_head` returns the same, if the leaf parses at all. It reads
the one way in which our own writers serialize a record; whatever looks different is left to the full parser.

    0a 10 id | 12 20 writer | 18 sequence (left out if 0) | 22 length time | 2a or 32 length personal, or nothing
    | tag of the body (field 20 or above) length body | the end

What stands inside the fields is not looked at. Specification: Protocol Buffers, "Encoding"; record.proto.
"""

import re

from iap_authz.records.record import FIRST_BODY_FIELD, parse_record
from iap_authz.records.wire import parse_fields

_HEAD = re.compile(rb"\x0a\x10[\s\S]{16}\x12\x20([\s\S]{32})(?:\x18([\x80-\xff]{0,8}[\x01-\x7f]))?\x22([\x00-\x7f])")
_OPEN_TAG, _SEALED_TAG = 0x2A, 0x32
_BODY_MIN_TAG = FIRST_BODY_FIELD << 3 | 2

Head = tuple[bytes, int, int]
"""Writer, sequence, and the field number of the body."""


def read_head(leaf: bytes) -> Head | None:
    """The head of a record that is serialized like ours; None if it is not, or if its body does not end it."""
    found = _HEAD.match(leaf)
    if found is None:
        return None
    writer, digits, span = found.groups()
    try:
        at = found.end() + span[0]
        if leaf[at] == _OPEN_TAG or leaf[at] == _SEALED_TAG:
            length, at = _varint(leaf, at + 1)
            at += length
        tag, at = _varint(leaf, at)
        length, at = _varint(leaf, at)
    except IndexError:
        return None
    if tag < _BODY_MIN_TAG or tag & 7 != 2 or at + length != len(leaf):  # noqa: PLR2004 - a message, by wire type
        return None
    sequence = _varint(digits, 0)[0] if digits else 0
    return writer, sequence, tag >> 3


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, and where what follows it starts. Raises IndexError at the end."""
    byte = data[at]
    if byte < 0x80:  # noqa: PLR2004 - the top bit says whether another group follows
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - as above
            return value, at + 1
        shift += 7


def parse_head(leaf: bytes) -> Head:
    """The same for any record, by a full parse. Raises Malformed."""
    record = parse_record(leaf)
    (body,) = (number for number, _ in parse_fields(leaf) if number >= FIRST_BODY_FIELD)
    return record.writer, record.sequence, body
