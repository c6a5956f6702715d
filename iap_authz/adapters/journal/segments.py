# SPDX-License-Identifier: Apache-2.0
"""The files of one writer: the segment that is written, and the next one, whose space the disk has already given.

The invariant: `write` and `start` return only after their bytes, and the name of the file they are in, are on stable
storage. What is true at a crash inside `start`, between its steps:

    rename   next.prepared is <first>.segment, all zeros: an empty last segment, removed by recovery
    write    as after any write: a torn tail, cut by recovery
    sync     the group holds, if the name does; nobody was told of it
    sync the directory: the group is durable
    cut the segment before to what it uses: gives space back, changes no byte that is used

A crash before that cut leaves zeros at the end of the segment before. They count as used until it is trimmed: as much
as a segment, where one was begun on request (`FileJournal.begin_segment`) before the one before was full.

Space is taken ahead, in `prepare`: only there can the disk be full without an accepted record being lost.
Owned by the committer thread once the journal is open.
"""

import errno
from pathlib import Path

from iap_authz.adapters.journal.directory import PREPARED_NAME
from iap_authz.adapters.journal.disk import Disk
from iap_authz.records.journal_format import segment_name

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""How a disk says that it gives no more."""


class SegmentFiles:
    """The segments of a new writer in its own directory, which is made here."""

    def __init__(self, directory: Path, *, segment_bytes: int, disk: Disk) -> None:
        self.directory = directory
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._current: tuple[Path, int] | None = None
        self._used_bytes = 0
        self._prepared: int | None = None
        disk.make_directory(directory)
        disk.sync_directory(directory.parent)

    @property
    def current(self) -> Path | None:
        """The segment that is written."""
        return None if self._current is None else self._current[0]

    def prepare(self) -> bool:
        """Have the next segment ready. False: the disk is full."""
        if self._prepared is not None:
            return True
        path = self.directory / PREPARED_NAME
        descriptor: int | None = None
        try:
            descriptor = self._disk.create(path)
            self._disk.preallocate(descriptor, self._segment_bytes)
        except OSError as error:
            if descriptor is not None:
                self._disk.close(descriptor)
                self._disk.remove(path)
            if error.errno not in FULL:
                raise
            return False
        self._prepared = descriptor
        return True

    def write(self, group: bytes) -> None:
        """Append one group to the segment that is written."""
        _, descriptor = self._opened()
        self._disk.write(descriptor, group, offset=self._used_bytes)
        self._disk.sync_data(descriptor)
        self._used_bytes += len(group)

    def start(self, first: int, group: bytes) -> None:
        """Make the prepared segment the current one and write its header and first group."""
        if self._prepared is None:
            raise RuntimeError("no segment was prepared")
        before, used_bytes = self._current, self._used_bytes
        path = self.directory / segment_name(first)
        self._disk.rename(self.directory / PREPARED_NAME, path)
        self._current, self._prepared, self._used_bytes = (path, self._prepared), None, len(group)
        self._disk.write(self._current[1], group, offset=0)
        self._disk.sync(self._current[1])
        self._disk.sync_directory(self.directory)
        if before is not None:
            self._disk.truncate(before[1], used_bytes)
            self._disk.close(before[1])

    def finish(self) -> None:
        """Give back what is not used, and close. Nothing is written after it."""
        try:
            if self._prepared is not None:
                self._disk.remove(self.directory / PREPARED_NAME)
            if self._current is not None:
                _, descriptor = self._current
                self._disk.truncate(descriptor, self._used_bytes)
                self._disk.sync(descriptor)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close, and touch nothing (rule W4)."""
        opened = [self._prepared, None if self._current is None else self._current[1]]
        self._prepared = self._current = None
        for descriptor in opened:
            if descriptor is not None:
                self._disk.close(descriptor)

    def _opened(self) -> tuple[Path, int]:
        if self._current is None:
            raise RuntimeError("no segment was started")
        return self._current
