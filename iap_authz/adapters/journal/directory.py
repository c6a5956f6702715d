# SPDX-License-Identifier: Apache-2.0
"""A journal directory: its lock, the writers that were here before, and what a crash has left of them.

    <directory>/lock                               held with flock by the one process that writes here
    <directory>/<writer id, hex>/                  one for each incarnation
        <first sequence, 20 digits>.segment        the first ones may be gone: shipped, and trimmed (rule G1)
        next.prepared                              the segment after, preallocated and without a name yet
        shipped                                    how far the audit log has proven to have it (`shipped`)

The invariant: recovery takes away only what was never acknowledged (rule W3). Each step leaves a journal that the next
recovery treats alike: cut the last segment at its last valid checkpoint, sync it, remove segments after it, sync the
directory. A writer without any checkpoint acknowledged nothing, or was trimmed as a whole: what is left of it goes. No
dead writer's tree is extended.

Damage before a valid checkpoint is not recovery's to mend: the process refuses to start.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.reading import load_segments, segment_paths, writer_directories
from iap_authz.adapters.journal.shipped import FRESH_NAME, SHIPPED_NAME
from iap_authz.errors import ConfigInvalid, Corrupt
from iap_authz.records.findings import Inspection
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.started import Predecessor

LOCK_NAME = "lock"
PREPARED_NAME = "next.prepared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A writer before, as it stands after recovery: how many records it has, trimmed ones included."""

    predecessor: Predecessor
    last_time: datetime
    size: int


def make_directories(directory: Path, disk: Disk) -> None:
    """Make `directory` and what is missing above it, each synced into its parent."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        disk.make_directory(path)
        disk.sync_directory(path.parent)


def lock_directory(directory: Path) -> int:
    """Hold the directory for this process, until the descriptor that is returned is closed. Raises ConfigInvalid."""
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        message = "got a journal directory that another process writes to, want one for each worker"
        raise ConfigInvalid.of_file(directory, message) from error
    return descriptor


def recover(directory: Path, disk: Disk) -> Recovered | None:
    """Recover every writer that was here before; returns the one that wrote last. Raises Corrupt for damage."""
    return next(reversed(recover_all(directory, disk)), None)


def recover_all(directory: Path, disk: Disk) -> tuple[Recovered, ...]:
    """Recover every writer that was here before; the one that wrote last stands last. Raises Corrupt for damage."""
    found = [one for path in writer_directories(directory) if (one := _recover_writer(path, disk)) is not None]
    return tuple(sorted(found, key=lambda one: one.last_time))


def measure(directory: Path, *, leave_out: frozenset[Path] = frozenset()) -> int:
    """How many bytes the segments of all writers are long. What an operator removes meanwhile counts as gone."""
    total = 0
    for writer in writer_directories(directory):
        with contextlib.suppress(FileNotFoundError):
            for path in segment_paths(writer):
                total += 0 if path in leave_out else _size(path)
    return total


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _recover_writer(path: Path, disk: Disk) -> Recovered | None:
    inspection = inspect_writer(load_segments(path))
    _check_undamaged(path, inspection)
    prepared = path / PREPARED_NAME
    if prepared.exists():
        disk.remove(prepared)
    if inspection.end is None or inspection.writer is None or inspection.last_time is None:
        remove_writer(path, reversed(segment_paths(path)), disk=disk)
        return None
    name, size_bytes = inspection.end
    _cut(path, name, size_bytes=size_bytes, disk=disk)
    return Recovered(
        predecessor=Predecessor(writer=inspection.writer, checkpoint=inspection.checkpoint),
        last_time=inspection.last_time,
        size=inspection.size,
    )


def _check_undamaged(path: Path, inspection: Inspection) -> None:
    if inspection.damage:
        first = inspection.damage[0]
        where = f"{path / first.segment}: byte {first.offset}"
        raise Corrupt(where, f"{first.message}; run `iap-authz fsck` on the journal before it is used again")
    if inspection.writer is not None and inspection.writer.hex() != path.name:
        raise Corrupt(str(path), f"got the journal of writer {inspection.writer.hex()}, want that of {path.name}")


def _cut(path: Path, name: str, *, size_bytes: int, disk: Disk) -> None:
    """Leave nothing after the last valid checkpoint."""
    if (path / name).stat().st_size > size_bytes:
        descriptor = disk.open(path / name)
        try:
            disk.truncate(descriptor, size_bytes)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
    for later in segment_paths(path):
        if later.name > name:
            disk.remove(later)
    disk.sync_directory(path)


def remove_writer(path: Path, segments: Iterable[Path], *, disk: Disk) -> None:
    """Remove a writer's directory; `segments` are all of its own, in the order in which they go.

    What is left at a crash is still a journal: where nothing was acknowledged the last goes first, where everything is
    in the audit log the first. What nobody here has made stays, and the directory with it.
    """
    for segment in segments:
        disk.remove(segment)
    disk.sync_directory(path)
    for name in (SHIPPED_NAME, FRESH_NAME):
        if (path / name).exists():
            disk.remove(path / name)
    if not any(path.iterdir()):
        disk.remove_directory(path)
    disk.sync_directory(path.parent)
