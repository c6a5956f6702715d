# SPDX-License-Identifier: Apache-2.0
"""`PosixTileStore`: the log's bytes in a directory on a local disk.

The invariant: a name below `tile/` and `stage/` stands for whole bytes that were on stable storage before the name was
made, and it never stands for others (rule C6).

    <directory>/checkpoint              replaced with rename
                tile/..., stage/...     the resources, at their own paths (`paths`)
                unnamed/<random>        files that have no name yet; what a crash has left is removed by the first write

    create   bytes of all -> sync each -> names, in order -> sync each directory that has a new name
             crash before the names: leftovers, and no resource. Between them: the first ones, each whole; the next
             `create` of the same writes compares these and adds the rest.
    publish  bytes -> sync -> [compare -> rename] -> sync the directory
             the bracket is held with flock: a sequencer that is paused inside of it stops those who come after, and
             one paused before it finds another checkpoint than it expected (rule C4).

A directory's own name is synced the first time that a store uses it, whoever made it: its maker may have crashed before
its sync. Removing a stage is not synced: one that comes back after a power loss is removed again (rule C5).

Not here: which checkpoint may follow which (the caller's), and whether bytes are a tile of the tree (the reader's).
Opening for reading changes nothing, so tools may read the log while it is served.
"""

import contextlib
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock

from iap_authz.adapters.stores.files import Files, check_local, make_directories
from iap_authz.adapters.stores.paths import CHECKPOINT, STAGES, check_immutable, check_readable, check_stage
from iap_authz.errors import Corrupt, HeadMoved, Malformed
from iap_authz.tlog.batch import Write

UNNAMED = "unnamed"
"""The directory of files without a name yet; no resource's path starts with it."""

OPEN_MAX_FILES = 64
"""Files that are written and synced together; a process may have 1,024 open where nobody has changed that."""


class PosixTileStore:
    """Satisfies `ports.TileStore`. `directory` and what is above it are made by the first write.

    Raises ConfigInvalid where the directory is on a network file system.
    """

    def __init__(self, directory: Path, *, files: Files | None = None) -> None:
        self._directory = directory
        self._files = files or Files()
        self._opening = Lock()
        self._writable = False
        self._settled: set[Path] = set()
        check_local(directory, self._files)

    def read(self, path: str) -> bytes | None:
        """The bytes at `path`; None if there is nothing. Raises Malformed for a path of no known kind."""
        check_readable(path)
        return self._read(path)

    def create(self, writes: Sequence[Write]) -> None:
        """Write immutable resources, in order. Raises Corrupt for other bytes than are there; Malformed for a path."""
        for write in writes:
            check_immutable(write.path)
        self._open_for_writing()
        absent = [write for write in writes if not self._is_there(write)]
        unnamed = self._write_unnamed([write.content for write in absent])
        directories = tuple(dict.fromkeys(self._place(write.path).parent for write in writes))
        self._make(directories)
        for path, write in zip(unnamed, absent, strict=True):
            self._name(path, write)
        self._settle(directories)

    def publish(self, note: bytes, *, expected: bytes | None) -> None:
        """Replace the checkpoint, if it is `expected` (None: absent). Raises HeadMoved if it is not."""
        self._open_for_writing()
        (unnamed,) = self._write_unnamed([note])
        with self._files.locked(self._directory):
            if self._read(CHECKPOINT) != expected:
                with contextlib.suppress(FileNotFoundError):  # the other one has removed it already
                    self._files.remove(unnamed)
                raise HeadMoved("got another published checkpoint than the last one known here: this process must end")
            self._files.rename(unnamed, self._place(CHECKPOINT))
            self._files.sync_directory(self._directory)

    def stages(self) -> list[str]:
        """The paths of all stages, in order."""
        try:
            names = [f"{STAGES}/{place.name}" for place in self._place(STAGES).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _is_stage(name))

    def discard(self, path: str) -> None:
        """Remove a stage; absent is fine. Raises Malformed for anything else than a stage."""
        check_stage(path)
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(self._place(path))

    def _place(self, path: str) -> Path:
        return self._directory / path

    def _read(self, path: str) -> bytes | None:
        try:
            return self._place(path).read_bytes()
        except FileNotFoundError:
            return None

    def _is_there(self, write: Write) -> bool:
        """Whether the resource is there, with these bytes (C6)."""
        content = self._read(write.path)
        if content is not None and content != write.content:
            message = (
                f"got {len(content)} bytes that are not the {len(write.content)} to be written: run `iap-authz fsck`"
            )
            raise Corrupt(str(self._place(write.path)), message)
        return content is not None

    def _open_for_writing(self) -> None:
        """Make the directories, and remove what a crash has left without a name. Once in a store's life.

        A sequencer that is still writing loses its unnamed files by this, and ends with an OSError: another one has
        taken its place.
        """
        with self._opening:
            if self._writable:
                return
            make_directories(self._directory, self._files)
            unnamed = self._place(UNNAMED)
            self._files.make_directory(unnamed)
            for left in sorted(unnamed.iterdir()):
                self._files.remove(left)
            self._writable = True

    def _write_unnamed(self, contents: Sequence[bytes]) -> list[Path]:
        """Put the bytes on stable storage, each in a file of its own."""
        paths: list[Path] = []
        for start in range(0, len(contents), OPEN_MAX_FILES):
            paths += self._write_together(contents[start : start + OPEN_MAX_FILES])
        return paths

    def _write_together(self, contents: Sequence[bytes]) -> list[Path]:
        paths = [self._place(f"{UNNAMED}/{secrets.token_hex(16)}") for _ in contents]
        descriptors: list[int] = []
        try:
            for path, content in zip(paths, contents, strict=True):
                descriptors.append(self._files.create(path))
                self._files.write(descriptors[-1], content)
                self._files.start_write_back(descriptors[-1])
            for descriptor in descriptors:
                self._files.sync(descriptor)
        finally:
            for descriptor in descriptors:
                self._files.close(descriptor)
        return paths

    def _name(self, unnamed: Path, write: Write) -> None:
        try:
            self._files.link(unnamed, self._place(write.path))
        except FileExistsError:
            self._is_there(write)  # somebody was faster: the same bytes, or Corrupt
        self._files.remove(unnamed)

    def _make(self, directories: Iterable[Path]) -> None:
        for directory in directories:
            for path in reversed(self._unsettled(directory)):
                self._files.make_directory(path)

    def _settle(self, directories: Sequence[Path]) -> None:
        """Make the names in these directories durable, and those of the directories themselves."""
        fresh = [path for directory in directories for path in self._unsettled(directory)]
        for path in dict.fromkeys([*directories, *(path.parent for path in fresh)]):
            self._files.sync_directory(path)
        self._settled.update(fresh)

    def _unsettled(self, directory: Path) -> list[Path]:
        """The directory and those above it, up to the store's own, that are not known to be durable. Deepest first."""
        if directory in self._settled:
            return []
        above = [path for path in directory.parents if path.is_relative_to(self._directory)]
        return [path for path in (directory, *above) if path != self._directory and path not in self._settled]


def _is_stage(path: str) -> bool:
    try:
        check_stage(path)
    except Malformed:
        return False
    return True
