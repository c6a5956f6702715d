# SPDX-License-Identifier: Apache-2.0
"""The top level of a protobuf message, read without its schema: which fields stand there, and in which order.

The invariant: what `parse_fields` returns is every byte of the message, each in exactly one field.

    message = (tag, value)*     tag = varint(field number << 3 | wire type)
    value   = varint | 8 bytes | varint length, bytes | 4 bytes, by wire type 0, 1, 2, 5

Why: protobuf parsers take the last of two values of one field and drop the others in silence, so one leaf could be
two records to two readers. Specification: Protocol Buffers, "Encoding". Groups (wire types 3 and 4) are refused.
"""

from iap_authz.errors import Malformed

VARINT_MAX_BYTES = 10
"""A 64-bit number has at most this many groups of seven bits (Protocol Buffers, "Encoding")."""

FIELD_NUMBER_MAX = (1 << 29) - 1
"""The largest field number (Protocol Buffers, "Assigning Field Numbers")."""

VARINT, BYTES = 0, 2
_FIXED64, _FIXED32 = 1, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


Field = tuple[int, int]
"""The number of a field and its wire type. Where the type is not the schema's, protobuf calls the field unknown."""


def parse_fields(message: bytes) -> list[Field]:
    """Each field at the top level of `message`, in the order of the bytes. Raises Malformed."""
    fields, at = list[Field](), 0
    while at < len(message):
        tag, at = _parse_varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number <= FIELD_NUMBER_MAX:
            raise Malformed(f"got field number {number} at byte {at}, want 1 to {FIELD_NUMBER_MAX}")
        fields.append((number, wire_type))
        if wire_type == VARINT:
            _, at = _parse_varint(message, at)
        elif wire_type == BYTES:
            length, at = _parse_varint(message, at)
            at += length
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        else:
            raise Malformed(f"got wire type {wire_type} at byte {at}, want 0, 1, 2 or 5")
    if at != len(message):
        raise Malformed(f"got {len(message)} bytes, want {at}: the last field is cut")
    return fields


def _parse_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, and where what follows it starts."""
    value = 0
    for position, byte in enumerate(message[at : at + VARINT_MAX_BYTES]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:  # noqa: PLR2004 - the top bit says whether another group follows
            return value, at + position + 1
    raise Malformed(f"got no end of the number at byte {at}, want one within {VARINT_MAX_BYTES} bytes")
