# SPDX-License-Identifier: Apache-2.0
"""The calls that change a disk, in one place: what a store may do, and what a test may let fail.

The invariant: each method is one step after which a crash is thinkable; an order of several is the caller's. Every
failure is an OSError, and nothing is retried: after an fsync that failed, the kernel may believe what is not so.

A name that is made with `link` never replaces another (rule C6). File systems that are known not to keep `link`,
`rename`, `flock` or `fsync` as a local disk does are refused by `check_local`, by the names that the kernel gives them.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from iap_authz.errors import ConfigInvalid

FILE_MODE = 0o600
"""Bundles hold personal data: for the owner only."""

DIRECTORY_MODE = 0o700
"""The same."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gpfs", "lustre", "nfs", "nfs4", "orangefs"}
    | {"smb2", "smb3", "smbfs"}
)
"""As the kernel calls them in /proc/self/mountinfo. Each type `fuse.<program>` counts as well."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


class Files:
    """The real ones. Blocking; safe to use from several threads, since it keeps nothing."""

    def mounts(self) -> str:
        """The mounts of this process, as in proc_pid_mountinfo(5)."""
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")

    def make_directory(self, path: Path) -> None:
        """Make a directory that only its owner may enter; one that is there already is left as it is."""
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)

    def create(self, path: Path) -> int:
        """Make and open a file that is not there yet. Returns its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of `data` from the start of the file on."""
        view, offset = memoryview(data), 0
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written

    def start_write_back(self, descriptor: int) -> None:
        """Let the kernel begin to write the file, without waiting.

        On Linux this advice does so. Files begun together share a commit of the file system's journal when they are
        synced one after the other: measured, a fifth to a third less time for nine files. Threads that sync gained
        nothing more.
        """
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self, descriptor: int) -> None:
        """Wait until the file's bytes and its size are on stable storage."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close the descriptor."""
        os.close(descriptor)

    def link(self, path: Path, target: Path) -> None:
        """Give a file another name. Raises FileExistsError, atomically, if something has that name (rule C6)."""
        os.link(path, target)

    def rename(self, path: Path, target: Path) -> None:
        """Give a file the name `target` instead; what had it is replaced, at once."""
        path.rename(target)

    def remove(self, path: Path) -> None:
        """Remove a name of a file."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in a directory are on stable storage."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """Hold a directory against everyone else who asks for it so, thread or process. Waits for who holds it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def make_directories(directory: Path, files: Files) -> None:
    """Make `directory` and what is missing above it, each durable in its parent.

    The name of one that was there is synced too: whoever made it may have crashed before. A parent that may not be read
    is the operator's, and so is the name in it.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        files.make_directory(path)
        files.sync_directory(path.parent)
    if not missing:
        with contextlib.suppress(PermissionError):
            files.sync_directory(directory.parent)


def check_local(directory: Path, files: Files) -> None:
    """Raise ConfigInvalid if `directory`, which may be missing yet, is on a file system that is not a local disk's."""
    try:
        mounts = files.mounts()
    except OSError as error:
        message = f"cannot tell which file system it is on ({error.strerror or error}): mount /proc"
        raise ConfigInvalid.of_file(directory, message) from error
    kind = file_system_of(directory, mounts)
    if kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse."):
        message = (
            f"got a directory on {kind}, want one on a local disk (ext4, xfs): link, rename and fsync cannot be relied"
            " on there; move it to a local disk, or keep the log in an object store"
        )
        raise ConfigInvalid.of_file(directory, message)


def file_system_of(directory: Path, mounts: str) -> str:
    """The type of the file system that a directory is on: that of the nearest mount, the last one of those stacked."""
    resolved = directory.resolve()
    places = {resolved, *resolved.parents}
    found = [(len(point.parts), kind) for point, kind in _parse_mounts(mounts) if point in places]
    deepest = max((depth for depth, _ in found), default=0)
    return next((kind for depth, kind in reversed(found) if depth == deepest), "")


def _parse_mounts(mounts: str) -> Iterator[tuple[Path, str]]:
    """Mount point and type of each line: `id parent device root POINT options [tag...] - TYPE source options`."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) > 4 and kinds[0]:  # noqa: PLR2004 - the fifth field, as in the picture above
            yield Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])), kinds[0]
