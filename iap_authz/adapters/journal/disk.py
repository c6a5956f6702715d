# SPDX-License-Identifier: Apache-2.0
"""The calls that change a disk, in one place: what the journal may do, and what a test may let fail.

The invariant: each method is one step after which a crash is thinkable; `store` of more than one step is the caller's.
Every failure is an OSError. Nothing is retried (rule W4): a short write is continued, because the part that was
written has been taken; an error is final.
"""

import os
from pathlib import Path

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700


class Disk:
    """The real one. Blocking; used by one thread at a time."""

    def make_directory(self, path: Path) -> None:
        """Make a directory that is not there yet; only its owner may enter."""
        path.mkdir(mode=_DIRECTORY_MODE)

    def create(self, path: Path) -> int:
        """Make and open a file that is not there yet. Returns its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)

    def open(self, path: Path) -> int:
        """Open a file that is there, to change it. Returns its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def preallocate(self, descriptor: int, size_bytes: int) -> None:
        """Give the file `size_bytes` of zeros that writing them over cannot fail for lack of space."""
        os.posix_fallocate(descriptor, 0, size_bytes)

    def write(self, descriptor: int, data: bytes, *, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written

    def sync_data(self, descriptor: int) -> None:
        """Wait until the file's bytes are on stable storage."""
        os.fdatasync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Wait until the file's bytes and its size are on stable storage."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, size_bytes)

    def close(self, descriptor: int) -> None:
        """Close the descriptor."""
        os.close(descriptor)

    def rename(self, path: Path, target: Path) -> None:
        """Give a file its name, which no other has (rule C6)."""
        if target.exists():
            raise FileExistsError(f"got a file {target.name}, want none of that name")
        path.rename(target)

    def replace(self, path: Path, target: Path) -> None:
        """Give a file the name of another, which is no more. Only for what is not immutable."""
        path.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory are on stable storage."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
