# SPDX-License-Identifier: Apache-2.0
"""`FileBacklog`: what of a journal directory is yet to be shipped, and how what was shipped leaves it.

The invariant: a segment goes only after everything in it has been covered by `shipped`, which is durable, and only if
a later segment of the same writer holds a durable group: so the journal of a writer that runs never loses its end, and
a journal that was trimmed at any moment, and then crashed, is recovered as any other.

    store_shipped   shipped.new, fsync, rename, fsync of the directory     crash: the records are offered again
    trim            oldest segment first, each whole; then the directory is fsynced     crash: some more are left
    a dead writer   its segments, then `shipped`, then its directory       crash: what is left goes at the next recovery

`first` says what is gone: it grows only after the directory was synced, so no crash brings back what is below it.

Each call works in a thread. It does not decide what may go: the shipper does (rule G1).
"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from iap_authz.adapters.journal.directory import remove_writer
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.journal.groups import GroupReader
from iap_authz.adapters.journal.reading import segment_paths
from iap_authz.adapters.journal.shipped import load_shipped, store_shipped
from iap_authz.errors import Corrupt
from iap_authz.model.ids import WriterId
from iap_authz.records.journaled import FirstRecord, JournaledBatch


class FileBacklog:
    """Satisfies the port `Backlog` for the directory of an open journal."""

    def __init__(self, journal: FileJournal, *, disk: Disk | None = None) -> None:
        self._journal = journal
        self._disk = disk or Disk()
        self._dead = {one.predecessor.writer: one.size for one in journal.dead}
        self._readers = {
            writer: GroupReader(self._directory(writer), writer) for writer in (*self._dead, journal.writer)
        }
        self._first = {writer: _first_left(self._directory(writer), self.size(writer)) for writer in self._readers}

    @property
    def writers(self) -> Sequence[WriterId]:
        """The dead ones oldest first, then the one that runs."""
        return (*self._dead, self._journal.writer)

    def size(self, writer: WriterId) -> int:
        """How many durable records a writer has, trimmed ones included."""
        return self._journal.growth.size if writer == self._journal.writer else self._dead[writer]

    def first(self, writer: WriterId) -> int:
        """See the port. The size of a writer of whom nothing is left."""
        return self._first[writer]

    async def wait_beyond(self, size: int) -> None:
        """Until the running writer has more than `size` durable records."""
        await self._journal.growth.wait_beyond(size)

    async def read(self, writer: WriterId, begin: int, *, end: int | None = None) -> JournaledBatch:
        """See the port."""
        reader, durable = self._readers[writer], self.size(writer)
        return await asyncio.to_thread(reader.read, begin, end=end, durable=durable)

    async def read_first(self, writer: WriterId) -> FirstRecord:
        """See the port."""
        return await asyncio.to_thread(self._readers[writer].read_first)

    async def load_shipped(self, writer: WriterId) -> int:
        """See the port. Raises Corrupt if it is less than what was trimmed: then the file was lost or changed."""
        return await asyncio.to_thread(_load_position, self._directory(writer))

    async def store_shipped(self, writer: WriterId, sequence: int) -> None:
        """See the port."""
        await asyncio.to_thread(store_shipped, self._directory(writer), sequence, disk=self._disk)

    async def trim(self, writer: WriterId, sequence: int) -> None:
        """See the port."""
        size, directory = self.size(writer), self._directory(writer)
        if writer != self._journal.writer and sequence >= size:
            await asyncio.to_thread(_remove_whole, directory, self._disk)
            del self._dead[writer], self._readers[writer]
            self._first[writer] = size
        else:
            before, below = self._first[writer], min(sequence, size - 1)
            left = await asyncio.to_thread(_remove_below, below, directory, before=before, disk=self._disk)
            if left == before:
                return
            self._first[writer] = left
        self._journal.remeasure()

    def _directory(self, writer: WriterId) -> Path:
        return self._journal.directory / writer.hex()


def _load_position(directory: Path) -> int:
    shipped, first = load_shipped(directory), _first_left(directory, 0)
    if shipped < first:
        raise Corrupt(str(directory), f"got {shipped} as what was shipped, want at least {first}, which was trimmed")
    return shipped


def _first_left(directory: Path, size: int) -> int:
    """The first record of the first segment that is there; `size` if there is none."""
    return next((int(path.stem) for path in segment_paths(directory)), size)


def _remove_below(sequence: int, directory: Path, *, before: int, disk: Disk) -> int:
    """Remove each segment whose successor begins at or below `sequence`. The first record that is left, for good.

    `before` is what was left for good so far: a call that failed may have removed more than it could sync.
    """
    segments = segment_paths(directory)
    gone = [path for path, after in pairwise(segments) if int(after.stem) <= sequence]
    for path in gone:
        disk.remove(path)
    left = _first_left(directory, before)
    if left != before:
        disk.sync_directory(directory)
    return left


def _remove_whole(directory: Path, disk: Disk) -> None:
    remove_writer(directory, segment_paths(directory), disk=disk)
