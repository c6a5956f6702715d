# SPDX-License-Identifier: Apache-2.0
"""Every call of the journal to its disk fails once, in each flavour (CORPUS F2, F22's two flavours; rule W4)."""

import asyncio
import contextlib
import errno
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.journal.directory import recover
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.journal.reading import load_segments, writer_directories
from iap_authz.errors import JournalFull
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.ports import Appended
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.record import service_record
from iap_authz.records.room import MIB, JournalBounds, Room
from tests.fakes.clock import START
from tests.fakes.disk import FailingDisk, When
from tests.fakes.journal import (
    ORIGIN,
    FixedSigner,
    build_segments,
    counted,
    record_id,
    sample_leaves,
    start_record,
    store_segments,
)

BOUNDS = JournalBounds(bound_bytes=8 * MIB, reserve_bytes=0, segment_bytes=MIB // 4)
BEFORE = FixedSigner("before")
LARGE_BYTES = 60_000


def predecessor_with_a_torn_tail(directory: Path) -> None:
    ((name, segment),) = build_segments(BEFORE, [[sample_leaves(BEFORE, 3)]])
    folder = store_segments(directory, BEFORE.writer, [(name, segment + b"torn" + bytes(100))])
    (folder / "next.prepared").write_bytes(bytes(100))


async def append_all(journal: FileJournal, given: list[Appended]) -> None:
    """Records in five groups and, since they are large, two segments."""
    given.append(journal.append_nowait(lambda _writer, _sequence: start_record(FixedSigner()), room=Room.RESERVE))
    await asyncio.shield(given[-1].durable)
    for _ in range(4):
        given.extend(journal.append_nowait(large, room=Room.RESERVE) for _ in range(2))
        await asyncio.wait([one.durable for one in given[-2:]])
        given[-1].durable.result()


def large(writer: WriterId, sequence: Sequence) -> bytes:
    """A record of 60,000 bytes: four of them fill a segment."""
    body = record_pb2.PolicyChunk(bytes=bytes(LARGE_BYTES))
    return service_record(body, writer=writer, sequence=sequence, record_id=record_id(sequence), time=START)


def run_life(directory: Path, disk: Disk, given: list[Appended]) -> bool:
    """Open, append to `given` what was accepted, close. Returns whether the journal said that it failed."""

    async def main() -> bool:
        journal = FileJournal.open(directory, origin=ORIGIN, signer=FixedSigner(), bounds=BOUNDS, disk=disk)
        try:
            with contextlib.suppress(OSError, JournalFull):
                await append_all(journal, given)
            failed = journal.failed.done()
            if failed:
                with pytest.raises(OSError, match="has failed"):
                    journal.append_nowait(counted, room=Room.RESERVE)
            return failed
        finally:
            await journal.close()

    return asyncio.run(main())


def calls_of_a_life(tmp_path: Path) -> list[str]:
    disk = FailingDisk()
    predecessor_with_a_torn_tail(tmp_path / "whole")
    given: list[Appended] = []
    assert not run_life(tmp_path / "whole", disk, given)
    assert len(given) == 9
    return disk.calls


def acknowledged(given: list[Appended]) -> list[str]:
    return [one.audit_id for one in given if one.durable.done() and one.durable.exception() is None]


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["eio", "enospc"])
def test_w4_after_any_failed_call_nothing_acknowledged_is_lost(tmp_path: Path, when: When, number: int) -> None:
    calls = calls_of_a_life(tmp_path)
    assert {"preallocate", "rename", "write", "sync", "sync_data", "sync_directory", "truncate", "remove"} <= set(calls)
    for fail_at, name in enumerate(calls):
        directory = tmp_path / f"{fail_at}"
        predecessor_with_a_torn_tail(directory)
        disk = FailingDisk(fail_at, when=when, number=number)
        given: list[Appended] = []
        failed = False
        with contextlib.suppress(OSError):
            failed = run_life(directory, disk, given)
        told = acknowledged(given)
        if name in ("write", "sync_data") or (name == "sync" and failed):
            assert failed, (fail_at, name)
            tail = disk.calls[fail_at + 1 :]
            assert not {"write", "sync", "sync_data", "truncate"} & set(tail), "nothing is written or retried after it"
        recover(directory, Disk())
        for writer in writer_directories(directory):
            inspection = inspect_writer(load_segments(writer), ORIGIN)
            assert inspection.findings == ()
            if writer.name == FixedSigner().writer.hex():
                kept = [leaf.hex() for leaf in inspection.hashes]
                assert kept[: len(told)] == told, (fail_at, name)
                assert kept == [one.audit_id for one in given][: len(kept)]
                told = []
            else:
                assert inspection.size == 3
        assert told == [], (fail_at, name)


def test_w4_all_who_wait_are_told_and_with_the_error(tmp_path: Path) -> None:
    async def main() -> None:
        disk = FailingDisk()
        journal = FileJournal.open(tmp_path, origin=ORIGIN, signer=FixedSigner(), bounds=BOUNDS, disk=disk)
        first = journal.append_nowait(lambda _writer, _sequence: start_record(FixedSigner()), room=Room.RESERVE)
        await asyncio.shield(first.durable)
        await prepared(disk)
        disk.fail_at = len(disk.calls) + 1
        given = [journal.append_nowait(counted, room=Room.ALLOW) for _ in range(3)]
        await asyncio.wait([journal.failed])
        later = [one.durable for one in given]
        for future in (*later, journal.failed):
            with pytest.raises(OSError, match="journal failed") as raised:
                await future
            assert raised.value.errno == errno.EIO
        await journal.close()

    async def prepared(disk: FailingDisk) -> None:
        """The second segment is there: no call but those of the next group follows."""
        while disk.calls.count("preallocate") < 2:  # noqa: ASYNC110 -- the disk's thread knows no event of this loop
            await asyncio.sleep(0)

    asyncio.run(main())


def test_w4_an_error_that_is_no_oserror_ends_the_journal_too(tmp_path: Path) -> None:
    class BrokenSigner(FixedSigner):
        broken = False

        def sign(self, message: bytes) -> bytes:
            return b"" if self.broken else super().sign(message)

    async def main() -> None:
        signer = BrokenSigner()
        journal = FileJournal.open(tmp_path, origin=ORIGIN, signer=signer, bounds=BOUNDS)
        first = journal.append_nowait(lambda _writer, _sequence: start_record(signer), room=Room.RESERVE)
        await asyncio.shield(first.durable)
        signer.broken = True
        second = journal.append_nowait(counted, room=Room.ALLOW)
        with pytest.raises(OSError, match="ValueError"):
            await second.durable
        await journal.close()
        assert journal.failed.done()

    asyncio.run(main())
