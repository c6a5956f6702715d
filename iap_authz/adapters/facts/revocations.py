# SPDX-License-Identifier: Apache-2.0
"""Revocations in a file, JSON or YAML, in one shape.

    revision: 7
    revoked:
    - {issuer: "https://login.example.com/", sub: ada, before: 2026-01-31T09:00:00Z}
    - {issuer: "https://login.example.com/", sid: session-1, until: 2026-02-01T09:00:00Z}
    - {api_key: 9f86d081884c7d65}

Invariant: an entry names one thing and says of it what it means; a file with an entry that could be read as something
else is not taken. How it is read and how its faults are told is `listing`'s.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from iap_authz.adapters.facts.api_keys import parse_key_id
from iap_authz.adapters.facts.files import FileSource
from iap_authz.adapters.facts.inventory_fields import FieldParser, parse_list, parse_revision, parse_text, parse_time
from iap_authz.adapters.facts.inventory_yaml import Steps
from iap_authz.adapters.facts.listing import Report, parse_fields, read_listing
from iap_authz.errors import Malformed, shown
from iap_authz.facts.revocation import DATED, Kind, Revocation, RevocationList

ENTRIES_MAX: Final = 100_000
"""About 60 MB in each process. Whoever has more revokes by `before`, or lets entries end by `until`."""

FILE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Above 100,000 entries in JSON with every field and room to spare."""

VALUE_MAX_CHARS: Final = 4_096
"""Half a token: longer ids are in none that works."""


def _parse_value(value: object) -> str:
    return parse_text(value, most=VALUE_MAX_CHARS)


REVOCATIONS_FIELDS: Final[Mapping[str, FieldParser]] = {"revision": parse_revision, "revoked": parse_list}
REVOKED_FIELDS: Final[Mapping[str, FieldParser]] = {
    "issuer": _parse_value,
    **{kind.value: _parse_value for kind in Kind},
    Kind.API_KEY.value: parse_key_id,
    "before": parse_time,
    "until": parse_time,
}


def revocations_source(name: str, path: Path) -> FileSource[RevocationList]:
    """The list in the file at `path`."""
    return FileSource(name, path, functools.partial(parse_revocations, name=name), max_bytes=FILE_MAX_BYTES)


def parse_revocations(content: bytes, file: str, *, name: str = "revocations") -> RevocationList:
    """Parse the whole file. Raises Invalid with the faults in it."""
    root, report = read_listing(content, file)
    values = parse_fields(root, REVOCATIONS_FIELDS, (), report=report, required=("revision", "revoked"))
    revoked = values.get("revoked", [])
    if len(revoked) > ENTRIES_MAX:
        report.add(("revoked",), f"got {len(revoked)} entries, want at most {ENTRIES_MAX}")
        revoked = []
    entries = [_parse_entry(entry, ("revoked", position), report) for position, entry in enumerate(revoked)]
    report.check()
    kept = tuple(entry for entry in entries if entry is not None)
    return RevocationList(name=name, revision=values["revision"], entries=kept)


def _parse_entry(entry: object, steps: Steps, report: Report) -> Revocation | None:
    before = report.count()
    values = parse_fields(entry, REVOKED_FIELDS, steps, report=report, required=())
    if report.count() > before:
        return None
    try:
        return _made(values)
    except Malformed as error:
        report.add(steps, str(error))
        return None


def _made(values: Mapping[str, Any]) -> Revocation:
    """The entry that these fields say. Raises Malformed for a combination that means nothing."""
    named = [kind for kind in Kind if kind.value in values]
    if len(named) != 1:
        names = ", ".join(kind.value for kind in Kind)
        raise Malformed(f"got {len(named)} of {names}, want exactly one")
    (kind,) = named
    issuer = values.get("issuer", "")
    if kind is Kind.API_KEY and issuer:
        raise Malformed(f"got the issuer {shown(issuer)} of an API key, want none")
    if kind is not Kind.API_KEY and not issuer:
        raise Malformed(f"got a {kind.value} without an issuer, want the iss of its tokens")
    if "before" in values and kind not in DATED:
        raise Malformed(
            f"got before for a {kind.value}, want it for {' and '.join(sorted(k.value for k in DATED))} only"
        )
    dates = {name: values.get(name) for name in ("before", "until")}
    return Revocation(kind=kind, issuer=issuer, value=values[kind.value], **dates)
