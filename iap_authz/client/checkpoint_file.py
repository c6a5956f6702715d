# SPDX-License-Identifier: Apache-2.0
"""The last verified checkpoint of the audit log, in a file of its own (PROTOCOL rule G2).

The invariant: the file holds one whole note at any moment, before, during and after a crash; and a `store` that
returned is on stable storage, name and bytes.

    .<name>.<pid>.new   written, fsynced          crash here: the old note stands, and a file that nothing reads
    <name>              renamed over the old one  crash here: the old note or the new one, either is whole
    its directory       fsynced                   crash here: the new note

It does not look at the note: who stores has verified it, and who loads verifies it again (`view`). One process owns
a file; two that share one each overwrite what the other has verified.
"""

import os
from pathlib import Path

from iap_authz.tlog.note import NOTE_MAX_BYTES

FILE_MODE = 0o600
"""The note is no secret, but whoever can write it can make this side accept less than was proven to it."""


class CheckpointFile:
    """Satisfies the port `CheckpointStore`. The directory of `path` exists; the file need not. Blocking."""

    def __init__(self, path: Path, *, max_bytes: int = NOTE_MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes

    def __str__(self) -> str:
        return str(self._path)

    def load(self) -> bytes | None:
        """The bytes of the file, at most one more than it may have; None if there is no file. Raises OSError."""
        try:
            with self._path.open("rb") as file:
                return file.read(self._max_bytes + 1)
        except FileNotFoundError:
            return None

    def store(self, note: bytes) -> None:
        """Replace the note, durably. Raises OSError; then either note may be the one that stands."""
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            _write(fresh, note)
            fresh.rename(self._path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        _sync_directory(self._path.parent)


def _write(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
