# SPDX-License-Identifier: Apache-2.0
"""`MaxmindSource`: a geography database in the MaxMind DB format (version 2.0), held in memory.

Invariant: a `Geography` never touches its file again: replacing or truncating the file under a running process changes
nothing until the next load (a mapped file would end the process with SIGBUS). Each process holds its own copy.

The reader is the pure-Python one; the most recent answers are kept, so that a client costs one walk of the tree, not
one a request. The format has no checksum: damage inside the tree or the data shows only where it is read, and is then
SourceUnavailable for that address.
"""

import functools
import io
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from maxminddb import MODE_FD, InvalidDatabaseError, Reader, open_database

from iap_authz.adapters.facts.files import FileSource
from iap_authz.errors import Invalid, SourceUnavailable, shown
from iap_authz.facts.location import Geography

DATABASE_MAX_BYTES: Final = 1024 * 1024 * 1024
"""The largest databases that are sold have some 500 MiB."""

FORMAT_BORN: Final = datetime(2012, 1, 1, tzinfo=UTC)
"""No database is older than its format. The reader takes a number that is cut short for a smaller number, and the build
time may be the last number in the file."""

ANSWERS_CACHED: Final = 4096
"""Addresses whose record is kept; a record has about 2 KiB as Python objects."""

_KNOWS_COUNTRY = re.compile(r"\b(?:Country|City|Enterprise|Insights)\b", re.ASCII)
"""Words in the types of databases with MaxMind's `country` layout, of MaxMind and of others that are compatible."""

_DAMAGE: Final = (InvalidDatabaseError, ValueError, TypeError, LookupError, OverflowError, struct.error)
"""What the reader raises on bytes that are not what was written."""

_IP_VERSION_4: Final = 4
_IP_VERSION_6: Final = 6


class MaxmindSource(FileSource[Geography]):
    """The database in the file at `path`. Satisfies `ports.FactSource`."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name, path, functools.partial(parse_geography, name=name), max_bytes=DATABASE_MAX_BYTES)


def parse_geography(content: bytes, file: str, *, name: str) -> Geography:
    """Check the database's metadata and give its lookup. Raises Invalid."""
    try:
        reader = open_database(io.BytesIO(content), MODE_FD)
        metadata = reader.metadata()
        kind, version = metadata.database_type, metadata.ip_version
        built = datetime.fromtimestamp(metadata.build_epoch, UTC)
        knows_country = _KNOWS_COUNTRY.search(kind) is not None
    except (*_DAMAGE, OSError) as error:
        raise Invalid.of_file(file, "truncated, or not a MaxMind DB file") from error
    if built < FORMAT_BORN:
        raise Invalid.of_file(file, f"truncated: got a build time of {built.isoformat()}, before the format was there")
    if version not in (_IP_VERSION_4, _IP_VERSION_6):
        raise Invalid.of_file(file, f"got IP version {shown(version)}, want 4 or 6")
    if not knows_country:
        raise Invalid.of_file(file, f"got a database of type {shown(kind)}, want one of countries or cities")
    lookup = _lookup_in(reader, name=name, only_ipv4=version == _IP_VERSION_4)
    return Geography(name=name, built=built, lookup=functools.lru_cache(maxsize=ANSWERS_CACHED)(lookup))


def _lookup_in(reader: Reader, *, name: str, only_ipv4: bool) -> Callable[[str], Mapping[str, object] | None]:
    def lookup(address: str) -> Mapping[str, object] | None:
        if only_ipv4 and ":" in address:
            return None
        try:
            record = reader.get(address)
        except _DAMAGE as error:
            raise SourceUnavailable(f"the database {name} is damaged") from error
        return record if isinstance(record, dict) else None

    return lookup
