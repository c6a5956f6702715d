# SPDX-License-Identifier: Apache-2.0
"""Base64 and decimals, read the one strict way that renders back to the same text.

The invariant: `render(parse(x)) == x`, so a value has one spelling and a signature covers one reading of it.

Specification: RFC 4648 section 4 with padding and without stray bits; decimals as in C2SP tlog-checkpoint (ASCII
digits, no sign, no leading zero). Python's own `int` and `b64decode` accept more, which is why they are wrapped here.
"""

import re
from base64 import b64decode, b64encode

from iap_authz.errors import Malformed, shown
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, NodeHash, parse_node_hash

DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,18})", re.ASCII)
"""At most 19 digits: 2^63 - 1 has 19, and a longer text is refused before it becomes a number."""

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters other than the newline, and the two other characters that some readers take for a line's end."""


def parse_base64(text: str) -> bytes:
    """The bytes of a padded, canonical, standard base64 text."""
    try:
        value = b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed(f"got {shown(text)}, want padded standard base64") from error
    if render_base64(value) != text:
        raise Malformed(f"got {shown(text)}, want base64 without stray bits")
    return value


def render_base64(value: bytes) -> str:
    """The padded standard base64 text of `value`."""
    return b64encode(value).decode("ascii")


def parse_base64_hash(text: str) -> NodeHash:
    """The 32-byte hash of a base64 text."""
    return parse_node_hash(parse_base64(text))


def parse_decimal(text: str) -> int:
    """A number from 0 to 2^63 - 1 in ASCII digits without a leading zero."""
    if not DECIMAL.fullmatch(text) or int(text) >= SIZE_LIMIT_LEAVES:
        raise Malformed(f"got {shown(text)}, want a decimal from 0 to 2^63 - 1 without leading zeros")
    return int(text)


def parse_utf8(data: bytes) -> str:
    """The text of valid UTF-8 bytes that hold no control character but newlines."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"got a byte {data[error.start]:#04x} at {error.start}, want valid UTF-8") from error
    found = CONTROL.search(text)
    if found:
        raise Malformed(f"got the character {shown(found.group())}, want none but newlines below U+0020")
    return text
