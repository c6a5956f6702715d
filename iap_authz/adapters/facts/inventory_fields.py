# SPDX-License-Identifier: Apache-2.0
"""The fields of an inventory file: for each, what a value read from JSON or YAML must be.

Invariant: a field's parser gives a value that fits `DeviceRecord` and the facts message (no NUL, no lone surrogate,
bounded, from a closed list where `facts.proto` has one), or raises Malformed saying what it got and what it wants.
Text is taken as it is: no trimming, no case folding, no Unicode forms (ids are compared byte for byte).
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from iap_authz.adapters.facts.timestamps import parse_timestamp
from iap_authz.errors import Malformed, shown
from iap_authz.facts.device import OPERATING_SYSTEMS, RISKS
from iap_authz.model.document import nearest

TEXT_MAX_CHARS: Final = 256
ITEMS_MAX: Final = 64
"""A device's facts stand in each record of its requests, and a log entry holds at most 65,535 bytes."""

REVISION_MAX: Final = 2**63 - 1
"""The field is a signed 64-bit integer."""

_CERTIFICATE = re.compile(r"[0-9a-f]{64}", re.ASCII)

FieldParser = Callable[[object], object]


class Doubled(dict[str, object]):
    """A mapping that came with a name twice; `names` are those. JSON's parsers disagree on which value counts."""

    def __init__(self, values: Mapping[str, object], names: tuple[str, ...]) -> None:
        super().__init__(values)
        self.names = names


class Unquoted(str):
    """A YAML scalar without quotes that is no text, boolean, null or decimal whole number: `15.10` is not `15.1`."""

    __slots__ = ()

    def __repr__(self) -> str:
        """As it stands in the file."""
        return str(self)


def parse_text(value: object, *, most: int = TEXT_MAX_CHARS) -> str:
    """Some text of at most so many characters, exactly as it is."""
    if not isinstance(value, str) or isinstance(value, Unquoted):
        hint = " (quote it)" if isinstance(value, Unquoted | int) and not isinstance(value, bool) else ""
        raise Malformed(f"got {shown(value)}, want text{hint}")
    if not 0 < len(value) <= most:
        raise Malformed(f"got {len(value)} characters, want 1 to {most}")
    if "\0" in value or not _encodes(value):
        raise Malformed(f"got {shown(value)}, want text without NUL and lone surrogates")
    return value


def _encodes(text: str) -> bool:
    """Whether UTF-8 has a spelling for `text`; JSON's escapes can write half a surrogate pair."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Malformed(f"got {shown(value)}, want true or false")
    return value


def parse_time(value: object) -> datetime:
    """A moment, as RFC 3339 writes it."""
    return parse_timestamp(parse_text(value))


def parse_revision(value: object) -> int:
    """The number of a file's generation."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= REVISION_MAX:
        raise Malformed(f"got {shown(value)}, want a whole number from 0 to {REVISION_MAX}")
    return value


def parse_list(value: object) -> list[object]:
    """A list, its items unjudged."""
    if not isinstance(value, list):
        raise Malformed(f"got {shown(value)}, want a list")
    return value


def _one_of(choices: tuple[str, ...]) -> FieldParser:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            hint = nearest(value, choices) if isinstance(value, str) else ""
            raise Malformed(f"got {shown(value)}, want one of {', '.join(choices)}{hint}")
        return value

    return parse


def _parse_certificates(value: object) -> tuple[str, ...]:
    for item in (found := parse_texts(value)):
        if not _CERTIFICATE.fullmatch(item):
            raise Malformed(f"got {shown(item)}, want 64 lowercase hex digits (the SHA-256 of the DER)")
    return found


def parse_texts(value: object) -> tuple[str, ...]:
    """A list of texts, each exactly as it is."""
    items = parse_list(value)
    if len(items) > ITEMS_MAX:
        raise Malformed(f"got {len(items)} items, want at most {ITEMS_MAX}")
    return tuple(parse_text(item) for item in items)


def _parse_text_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > ITEMS_MAX:
        raise Malformed(f"got {shown(value)}, want a mapping of at most {ITEMS_MAX} names to texts")
    if isinstance(value, Doubled):
        raise Malformed(f"got {shown(value.names[0])} twice, want each name once")
    return {parse_text(name): parse_text(item) for name, item in value.items()}


INVENTORY_FIELDS: Final[Mapping[str, FieldParser]] = {
    "revision": parse_revision,
    "taken": parse_time,
    "devices": parse_list,
}
DEVICE_FIELDS: Final[Mapping[str, FieldParser]] = {
    "id": parse_text,
    "certificate_sha256": _parse_certificates,
    "managed": _parse_flag,
    "owner": parse_text,
    "os": _one_of(OPERATING_SYSTEMS),
    "os_version": parse_text,
    "disk_encrypted": _parse_flag,
    "screen_lock": _parse_flag,
    "firewall": _parse_flag,
    "risk": _one_of(RISKS),
    "enrolled": _parse_flag,
    "revoked": _parse_flag,
    "lost": _parse_flag,
    "posture_time": parse_time,
    "tags": parse_texts,
    "labels": _parse_text_map,
    "model": parse_text,
}
