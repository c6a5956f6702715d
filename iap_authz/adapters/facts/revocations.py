# SPDX-License-Identifier: Apache-2.0
"""Revocations in a file, JSON or YAML, in one shape.

    revision: 7
    revoked:
    - {issuer: "https://login.example.com/", sub: ada, before: 2026-01-31T09:00:00Z}
    - {issuer: "https://login.example.com/", sid: session-1, until: 2026-02-01T09:00:00Z}
    - {api_key: 9f86d081884c7d65}
    - {issuer: "CN=Example CA,O=Example", certificate_serial: "0a1b", until: 2026-05-01T09:00:00Z}

Invariant: an entry names one thing and says of it what it means; a list with an entry that could be read as something
else is not taken. How a file is read and how its faults are told is `listing`'s. What an entry may say is the same
wherever a list is kept.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from iap_authz.adapters.facts.api_keys import parse_key_id
from iap_authz.adapters.facts.files import FileSource
from iap_authz.adapters.facts.inventory_fields import FieldParser, parse_list, parse_revision, parse_text, parse_time
from iap_authz.adapters.facts.inventory_yaml import Steps
from iap_authz.adapters.facts.listing import Report, parse_fields, read_listing
from iap_authz.errors import Malformed, shown
from iap_authz.facts.distinguished import parse_name
from iap_authz.facts.revocation import DATED, WITHOUT_ISSUER, Kind, Revocation, RevocationList

ENTRIES_MAX: Final = 100_000
"""About 60 MB in each process. Whoever has more revokes by `before`, or lets entries end by `until`."""

FILE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Above 100,000 entries in JSON with every field and room to spare."""

VALUE_MAX_CHARS: Final = 4_096
"""Half a token: longer ids are in none that works."""


SERIAL_MAX_BYTES: Final = 64
"""RFC 5280 section 4.1.2.2 allows 20; authorities have made longer ones."""

_NAMED: Final[Mapping[Kind, str]] = {
    Kind.API_KEY: "an API key",
    Kind.CERTIFICATE: "a certificate's hash",
    Kind.SERIAL: "a serial number",
}

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SERIAL = re.compile(rf"(?!00)(?:[0-9a-f]{{2}}){{1,{SERIAL_MAX_BYTES}}}", re.ASCII)


def _parse_value(value: object) -> str:
    return parse_text(value, most=VALUE_MAX_CHARS)


def _parse_hash(value: object) -> str:
    text = parse_text(value)
    if not _HASH.fullmatch(text):
        raise Malformed(f"got {shown(text)}, want 64 lowercase hex digits (the SHA-256 of the DER)")
    return text


def _parse_serial(value: object) -> str:
    text = parse_text(value)
    if not _SERIAL.fullmatch(text):
        raise Malformed(f"got {shown(text)}, want lowercase hex digits in whole bytes, without 00 before them")
    return text


REVOCATIONS_FIELDS: Final[Mapping[str, FieldParser]] = {"revision": parse_revision, "revoked": parse_list}
REVOKED_FIELDS: Final[Mapping[str, FieldParser]] = {
    "issuer": _parse_value,
    **{kind.value: _parse_value for kind in Kind},
    Kind.API_KEY.value: parse_key_id,
    Kind.CERTIFICATE.value: _parse_hash,
    Kind.SERIAL.value: _parse_serial,
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
    return make_list(enumerate(revoked), values.get("revision", 0), report=report, name=name)


def make_list(entries: Iterable[tuple[int, object]], revision: int, *, report: Report, name: str) -> RevocationList:
    """The list of these entries, each with the number that a fault calls it by. Raises Invalid with all faults."""
    parsed = [parse_entry(entry, ("revoked", number), report) for number, entry in entries]
    report.check()
    kept = tuple(entry for entry in parsed if entry is not None)
    return RevocationList(name=name, revision=revision, entries=kept)


def parse_entry(entry: object, steps: Steps, report: Report) -> Revocation | None:
    """One entry, or None with its faults in `report`."""
    before = report.count()
    values = parse_fields(entry, REVOKED_FIELDS, steps, report=report, required=())
    if report.count() > before:
        return None
    try:
        return _made(values)
    except Malformed as error:
        report.add(steps, str(error))
        return None


def _wanted_issuer(kind: Kind) -> str:
    return "the authority's name, such as CN=Example CA" if kind is Kind.SERIAL else "the iss of its tokens"


def _made(values: Mapping[str, Any]) -> Revocation:
    """The entry that these fields say. Raises Malformed for a combination that means nothing."""
    named = [kind for kind in Kind if kind.value in values]
    if len(named) != 1:
        names = ", ".join(kind.value for kind in Kind)
        raise Malformed(f"got {len(named)} of {names}, want exactly one")
    (kind,) = named
    issuer = values.get("issuer", "")
    if kind in WITHOUT_ISSUER and issuer:
        raise Malformed(f"got the issuer {shown(issuer)} of {_NAMED[kind]}, want none")
    if kind not in WITHOUT_ISSUER and not issuer:
        raise Malformed(f"got {_NAMED.get(kind, f'a {kind.value}')} without an issuer, want {_wanted_issuer(kind)}")
    if kind is Kind.SERIAL:
        parse_name(issuer)
    if "before" in values and kind not in DATED:
        raise Malformed(
            f"got before for a {kind.value}, want it for {' and '.join(sorted(k.value for k in DATED))} only"
        )
    dates = {name: values.get(name) for name in ("before", "until")}
    return Revocation(kind=kind, issuer=issuer, value=values[kind.value], **dates)
