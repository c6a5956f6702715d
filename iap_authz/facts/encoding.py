# SPDX-License-Identifier: Apache-2.0
"""Strict base64url and strict JSON, for bytes that a stranger wrote.

The invariant: one value has one spelling in base64url, and a JSON text that is accepted means the same to every
reader. So no text with two members of one name, nothing past a depth, no number that a reader would round or refuse,
no character that protobuf or a C string would choke on.

    base64url   A-Z a-z 0-9 - _     no padding, no other character, unused bits zero (checked by encoding it again)
    JSON        UTF-8 without a byte order mark; depth bounded before the parser sees it; names unique once unescaped

Specification: RFC 7515 section 2 (base64url), RFC 8259 and RFC 7493 (JSON). Deliberately not here: what a member may
hold, which is the business of whoever reads it.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from iap_authz.errors import Malformed

NUMBER_MAX_CHARS = 64
"""Longer than any number in a token or a key set; far below the length at which Python refuses an integer."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
"""RFC 8259 section 6, in ASCII digits, with an exponent that cannot ask for a gigabyte."""

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""A whole string (an open one runs to the end, so that the scan is linear) or one structural bracket."""


class DuplicateName(Malformed):
    """An object with two members of one name, which readers resolve differently."""


class BadNumber(Malformed):
    """A number that is not JSON's (NaN, Infinity) or longer than anything sensible."""


class NulCharacter(Malformed):
    """A string with a NUL, which readers written in C cut there."""


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number, kept in its own spelling: nothing is rounded before somebody asks for a value."""

    text: str


JsonValue: TypeAlias = "str | bool | Number | list[JsonValue] | dict[str, JsonValue] | None"


def parse_base64url(text: str) -> bytes:
    """Decode `text` (no padding). Raises Malformed unless encoding the result gives `text` again."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise Malformed("got text that is not base64url") from None
    if render_base64url(decoded) != text:
        raise Malformed("got base64url that is not in its one canonical form")
    return decoded


def render_base64url(content: bytes) -> str:
    """The canonical base64url of `content`, without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def parse_json_object(content: bytes, *, max_depth: int) -> dict[str, JsonValue]:
    """Parse a JSON text whose root is an object. Numbers stay `Number`.

    Raises DuplicateName, BadNumber or NulCharacter for those, and Malformed for anything else.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"got a byte that is not UTF-8 at offset {error.start}, want JSON") from None
    _check_depth(text, max_depth)
    try:
        value: JsonValue = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise Malformed(f"got text that is not JSON at character {error.pos}") from None
    if not isinstance(value, dict):
        raise Malformed("got JSON that is not an object, want an object")
    if "\\u" in text:  # only an escape can spell a NUL or a lone surrogate: the parser refuses them raw
        _check_characters(value)
    return value


def _check_depth(text: str, max_depth: int) -> None:
    """Runs before the parser, which recurses: nesting is the one thing a short text can exhaust it with."""
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        mark = match.group()[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if depth > max_depth:
            raise Malformed(f"got JSON nested deeper than {max_depth}")


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateName("got an object with two members of one name")
    return members


def _number(text: str) -> Number:
    if len(text) > NUMBER_MAX_CHARS or not _NUMBER.fullmatch(text):
        raise BadNumber(f"got a number of {len(text)} characters, want a JSON number of at most {NUMBER_MAX_CHARS}")
    return Number(text)


def _constant(text: str) -> Number:
    raise BadNumber(f"got {text}, want a JSON number")


def _check_characters(value: JsonValue) -> None:
    for text in _strings(value):
        if "\0" in text:
            raise NulCharacter("got a string with a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Malformed("got a string with half of a surrogate pair")


def _strings(value: JsonValue) -> Iterator[str]:
    """All names and strings in `value`; the recursion is as deep as the text, which was bounded."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for element in value:
            yield from _strings(element)
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _strings(member)
