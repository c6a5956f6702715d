# SPDX-License-Identifier: Apache-2.0
"""A writer's segments, read one at a time; nothing is changed and no lock is needed.

A journal that a process is writing can be read too: at worst it ends in a group that is not finished yet.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from iap_authz.errors import Corrupt
from iap_authz.records.findings import Place

_SEGMENT = re.compile(r"[0-9]{20}\.segment", re.ASCII)
_WRITER = re.compile(r"[0-9a-f]{64}", re.ASCII)


def writer_directories(directory: Path) -> list[Path]:
    """The directories of all writers in a journal directory, by name."""
    return sorted(path for path in directory.iterdir() if _WRITER.fullmatch(path.name) and path.is_dir())


def segment_paths(writer_directory: Path) -> list[Path]:
    """The segments of a writer, in their order."""
    return sorted(path for path in writer_directory.iterdir() if _SEGMENT.fullmatch(path.name))


def load_segments(writer_directory: Path) -> Iterator[tuple[str, bytes]]:
    """Each segment's name and content, in order, as `records.inspect.inspect_writer` takes them."""
    for path in segment_paths(writer_directory):
        yield path.name, path.read_bytes()


def load_place(writer_directory: Path, place: Place) -> bytes:
    """The bytes of a record of an inspected journal. Raises Corrupt if they are gone."""
    with (writer_directory / place.segment).open("rb") as segment:
        segment.seek(place.offset)
        found = segment.read(place.length)
    if len(found) != place.length:
        raise Corrupt(f"{place.segment}: byte {place.offset}", f"got {len(found)} bytes, want {place.length}")
    return found
