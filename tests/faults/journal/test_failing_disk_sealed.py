# SPDX-License-Identifier: Apache-2.0
"""Every disk call of a writer that drops an old seal epoch fails once, in each flavour (CORPUS F2; rules W4, S2, S5).

The life: records sealed in epoch 1, a new segment, records sealed in epoch 2, then the old segment is trimmed. What is
believed to be gone must be gone after a crash at any of these calls, and what was acknowledged must not.
"""

import asyncio
import contextlib
import errno
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from iap_authz.adapters.journal.backlog import FileBacklog
from iap_authz.adapters.journal.directory import recover
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.journal.reading import load_segments
from iap_authz.errors import JournalFull
from iap_authz.model.ids import WriterId
from iap_authz.ports import Appended
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.room import MIB, JournalBounds, Room
from tests.fakes.disk import FailingDisk, When
from tests.fakes.journal import ORIGIN, FixedSigner, fixed_seal, sealed_leaf, settled, start_record

BOUNDS = JournalBounds(bound_bytes=8 * MIB, reserve_bytes=0, segment_bytes=MIB // 4)
SIGNER = FixedSigner()
OLD, NEW = 1, 2


@dataclass(kw_only=True)
class Life:
    """What one process was told: appended records, and whether it was led to believe that the old epoch is gone."""

    given: list[Appended] = field(default_factory=list)
    believes_gone: bool = False
    failed: bool = False

    @property
    def told(self) -> list[str]:
        return [one.audit_id for one in self.given if one.durable.done() and one.durable.exception() is None]


async def append(journal: FileJournal, life: Life, *epochs: int) -> None:
    """So many records, sealed in these epochs, as one group."""
    given = []
    for epoch in epochs:
        seal = fixed_seal(len(life.given), seal_epoch=epoch)
        given.append(journal.append_nowait(partial(sealed_leaf, seal=seal), room=Room.RESERVE, beside=seal.beside))
        life.given.append(given[-1])
    await asyncio.gather(*(asyncio.shield(one.durable) for one in given))
    await settled(journal)


async def live(journal: FileJournal, backlog: FileBacklog, life: Life) -> None:
    life.given.append(journal.append_nowait(lambda _writer, _sequence: start_record(SIGNER), room=Room.RESERVE))
    await asyncio.shield(life.given[0].durable)
    await settled(journal)
    await append(journal, life, OLD, OLD)
    journal.begin_segment()
    await append(journal, life, NEW, NEW)
    mark = journal.segment_mark
    if mark is not None:
        await backlog.store_shipped(journal.writer, mark)
        await backlog.trim(journal.writer, mark)
        life.believes_gone = backlog.first(journal.writer) >= mark
        await settled(journal)
    await append(journal, life, NEW)


def run_life(directory: Path, disk: Disk, life: Life) -> None:
    async def main() -> None:
        journal = FileJournal.open(directory, origin=ORIGIN, signer=SIGNER, bounds=BOUNDS, disk=disk)
        try:
            with contextlib.suppress(OSError, JournalFull):
                await live(journal, FileBacklog(journal, disk=disk), life)
            life.failed = journal.failed.done()
        finally:
            await journal.close()

    asyncio.run(main())


def holds(directory: Path, companion: bytes) -> bool:
    return any(companion in path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_without_a_failure_the_old_epoch_is_gone(tmp_path: Path) -> None:
    life = Life()
    run_life(tmp_path, Disk(), life)
    assert (len(life.told), life.believes_gone, life.failed) == (6, True, False)
    assert not holds(tmp_path, fixed_seal(0, seal_epoch=OLD).key.companion)
    assert holds(tmp_path, fixed_seal(0, seal_epoch=NEW).key.companion)


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["eio", "enospc"])
def test_s5_after_any_failed_call_nothing_is_lost_and_nothing_is_wrongly_gone(
    tmp_path: Path, when: When, number: int
) -> None:
    whole = FailingDisk()
    run_life(tmp_path / "whole", whole, Life())
    assert {"rename", "write", "sync", "sync_data", "sync_directory", "truncate", "remove"} <= set(whole.calls)
    for fail_at in range(len(whole.calls)):
        directory, life = tmp_path / f"{fail_at}", Life()
        with contextlib.suppress(OSError):
            run_life(directory, FailingDisk(fail_at, when=when, number=number), life)
        check_after_crash(directory, life, writer=SIGNER.writer)


def check_after_crash(directory: Path, life: Life, *, writer: WriterId) -> None:
    if directory.exists():
        recover(directory, Disk())
    folder = directory / writer.hex()
    inspection = inspect_writer(load_segments(folder) if folder.exists() else [], ORIGIN)
    assert inspection.findings == (), directory.name
    kept = [leaf.hex() for leaf in inspection.hashes]
    assert kept == [one.audit_id for one in life.given][inspection.first : inspection.size]
    assert inspection.size >= len(life.told), directory.name
    # Only what lies before the mark may have been trimmed, and then nothing of it is left.
    assert inspection.first in (0, 3), directory.name
    if life.believes_gone:
        assert inspection.first == 3
        assert not holds(directory, fixed_seal(0, seal_epoch=OLD).key.companion), directory.name
