# SPDX-License-Identifier: Apache-2.0
"""`FileSource`: a file that facts come from.

Invariant: a value is made from the bytes of one regular file as it stood at one moment, or not at all. A file that
changes while it is read is not there yet: whoever writes it in place is expected to be done by the next try.

Symbolic links are followed on every call, because that is how Kubernetes updates a mounted ConfigMap or Secret:

    inventory.json -> ..data/inventory.json      the link never changes
    ..data         -> ..2026_01_01.1/            swapped with one rename

so the version is that of the file at the end of the chain. Deliberately not done: watching; the caller asks
`version()` as often as it likes, which costs one `stat`.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from iap_authz.errors import Invalid, SourceUnavailable

T = TypeVar("T")

FILE_MAX_BYTES: Final = 256 * 1024 * 1024
"""An inventory of 100,000 devices has about 60 MiB; bounds what a wrong file name can cost."""


class FileSource(Generic[T]):
    """Satisfies `ports.FactSource`. Holds no state: every `load` reads the file anew.

    `parse` gets the content and the file's path as text (for faults), and raises Invalid or Malformed.
    """

    def __init__(
        self, name: str, path: Path, parse: Callable[[bytes, str], T], *, max_bytes: int = FILE_MAX_BYTES
    ) -> None:
        self._name = name
        self._path = path
        self._parse = parse
        self._max_bytes = max_bytes

    @property
    def name(self) -> str:
        """For messages, facts and metrics."""
        return self._name

    def load(self) -> T:
        """Read and parse the whole file. Raises Invalid or Malformed, or SourceUnavailable where there is none."""
        try:
            content = read_regular_file(self._path, max_bytes=self._max_bytes)
        except OSError as error:
            raise SourceUnavailable(f"cannot read {self._path}: {error.strerror or error}") from error
        return self._parse(content, str(self._path))

    def version(self) -> object:
        """(inode, size, mtime_ns, ctime_ns) of the file at the end of all links; None where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_regular_file(path: Path, *, max_bytes: int) -> bytes:
    """The whole content of a regular file. Raises OSError, Invalid or SourceUnavailable; never waits for a writer.

    Opened without blocking: a named pipe at this path would otherwise hold the thread until somebody writes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise Invalid.of_file(path, "not a regular file")
        if before.st_size > max_bytes:
            raise Invalid.of_file(path, f"got {before.st_size} bytes, want at most {max_bytes}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(before.st_size + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or len(content) != before.st_size:
        raise SourceUnavailable(f"{path} changed while it was read")
    return content
