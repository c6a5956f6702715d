# SPDX-License-Identifier: Apache-2.0
"""API keys in a file, JSON or YAML, in one shape: keyed hashes, never a key.

    revision: 3
    keys:
    - id: 9f86d081884c7d65
      name: nightly-export
      hmac_sha256: "<64 lowercase hex digits>"
      subject: nightly-export
      scopes: [orders:read]
      groups: []
      created: 2026-01-31T09:00:00Z
      expires: 2026-05-01T09:00:00Z

Invariant: a fault quotes nothing that stands where a hash or an id should: it may be the key itself.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from iap_authz.adapters.facts.files import FileSource
from iap_authz.adapters.facts.inventory_fields import (
    FieldParser,
    parse_list,
    parse_revision,
    parse_text,
    parse_texts,
    parse_time,
)
from iap_authz.adapters.facts.inventory_yaml import Steps
from iap_authz.adapters.facts.listing import Report, parse_fields, read_listing
from iap_authz.errors import Malformed, shown
from iap_authz.facts.apikey import ID_HEX_DIGITS, ApiKey, ApiKeys

KEYS_MAX: Final = 10_000
"""More machines than one application has; each key is about 1 KB in each process."""

FILE_MAX_BYTES: Final = 16 * 1024 * 1024
"""Above 10,000 keys with every field."""

NAME_MAX_CHARS: Final = 128
SUBJECT_MAX_CHARS: Final = 255
"""As long as that of a token."""

_ID = re.compile(rf"[0-9a-f]{{{ID_HEX_DIGITS}}}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", re.ASCII)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749 section 3.3: what a token's scopes are made of too."""


def parse_key_name(value: object) -> str:
    """The name of a key, as `identity.source` has it."""
    name = parse_text(value, most=NAME_MAX_CHARS)
    if not _NAME.fullmatch(name):
        raise Malformed(f"got {shown(name)}, want letters, digits, '_', '.' and '-'")
    return name


def parse_scopes(value: object) -> tuple[str, ...]:
    """Scope tokens."""
    scopes = parse_texts(value)
    if not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise Malformed("got a scope with a space, a quote, a backslash or a character beyond ASCII")
    return scopes


def parse_subject(value: object) -> str:
    """Whom a key stands for; without control characters, like the subject of a token."""
    subject = parse_text(value, most=SUBJECT_MAX_CHARS)
    if any(character < " " or "\x7f" <= character < "\xa0" for character in subject):
        raise Malformed("got a control character, want a subject without")
    return subject


def parse_key_id(value: object) -> str:
    """The id of a key, as it stands in the key between `iap_` and the next `_`."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Malformed(f"got another form, want the {ID_HEX_DIGITS} lowercase hex digits after iap_, in quotes")
    return str(value)


def _parse_hash(value: object) -> bytes:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise Malformed("got another form, want 64 lowercase hex digits in quotes, as `keys new api-key` printed them")
    return bytes.fromhex(value)


API_KEYS_FIELDS: Final[Mapping[str, FieldParser]] = {"revision": parse_revision, "keys": parse_list}
API_KEY_FIELDS: Final[Mapping[str, FieldParser]] = {
    "id": parse_key_id,
    "name": parse_key_name,
    "hmac_sha256": _parse_hash,
    "subject": parse_subject,
    "scopes": parse_scopes,
    "groups": parse_texts,
    "created": parse_time,
    "expires": parse_time,
}
_REQUIRED: Final = ("id", "name", "hmac_sha256", "subject", "created", "expires")


def api_keys_source(name: str, path: Path, *, pepper: bytes) -> FileSource[ApiKeys]:
    """The keys in the file at `path`, which were hashed with this pepper."""
    return FileSource(name, path, functools.partial(parse_api_keys, name=name, pepper=pepper), max_bytes=FILE_MAX_BYTES)


def parse_api_keys(content: bytes, file: str, *, pepper: bytes, name: str = "api-keys") -> ApiKeys:
    """Parse the whole file. Raises Invalid with the faults in it."""
    root, report = read_listing(content, file)
    values = parse_fields(root, API_KEYS_FIELDS, (), report=report, required=("keys",))
    listed = values.get("keys", [])
    if len(listed) > KEYS_MAX:
        report.add(("keys",), f"got {len(listed)} keys, want at most {KEYS_MAX}")
        listed = []
    keys = _parse_keys(listed, report)
    report.check()
    return ApiKeys(name=name, revision=values.get("revision"), keys=keys, pepper=pepper)


def _parse_keys(listed: list[object], report: Report) -> tuple[ApiKey, ...]:
    keys: list[ApiKey] = []
    by_id: dict[str, int] = {}
    for position, each in enumerate(listed):
        before = report.count()
        steps: Steps = ("keys", position)
        values = parse_fields(each, API_KEY_FIELDS, steps, report=report, required=_REQUIRED)
        if report.count() > before:
            continue
        key = ApiKey(**{"scopes": None, "groups": None, **values})
        keys.append(key)
        if (other := by_id.setdefault(key.id, position)) != position:
            report.add((*steps, "id"), f"got the id of keys[{other}], want one of its own")
        if key.expires <= key.created:
            report.add((*steps, "expires"), "got a time that is not after created")
    return tuple(keys)
