# SPDX-License-Identifier: Apache-2.0
"""`FileJournal` beyond the port's contract: its directory, its bounds, its groups."""

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.journal.committer import Committer
from iap_authz.adapters.journal.directory import measure
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.files import GROUP_MAX_RECORDS, FileJournal
from iap_authz.adapters.journal.reading import load_place, load_segments, segment_paths, writer_directories
from iap_authz.errors import ConfigInvalid, Corrupt, JournalFull, Malformed
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.ports import Appended
from iap_authz.records.findings import Place
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import FrameType, parse_header, read_frames
from iap_authz.records.record import service_record
from iap_authz.records.room import MIB, JournalBounds, Room
from tests.fakes.clock import START, ManualClock
from tests.fakes.disk import FailingDisk, FullDisk
from tests.fakes.journal import ORIGIN, FixedSigner, counted, record_id, start_record

SMALL = JournalBounds(bound_bytes=8 * MIB, reserve_bytes=MIB // 4, segment_bytes=MIB)


def large(writer: WriterId, sequence: Sequence) -> bytes:
    body = record_pb2.PolicyChunk(bytes=bytes(60_000))
    return service_record(body, writer=writer, sequence=sequence, record_id=record_id(sequence), time=START)


def run(directory: Path, work: Callable[[FileJournal], Awaitable[None]], **options: object) -> None:
    """Open, write record 0, work, close."""

    async def main() -> None:
        signer = options.pop("signer", FixedSigner())
        bounds = options.pop("bounds", SMALL)
        assert isinstance(signer, FixedSigner)
        journal = FileJournal.open(directory, origin=ORIGIN, signer=signer, bounds=bounds, **options)  # type: ignore[arg-type]
        try:
            first = journal.append_nowait(lambda _writer, _sequence: start_record(signer), room=Room.RESERVE)
            await asyncio.shield(first.durable)
            await work(journal)
        finally:
            await journal.close()

    asyncio.run(main())


async def nothing(_: FileJournal) -> None:
    pass


# ---- the directory


def test_files_and_directories_are_the_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b" / "journal"

    async def work(journal: FileJournal) -> None:
        names = {path.name for path in (directory / journal.writer.hex()).iterdir()}
        assert names >= {"00000000000000000000.segment"}
        for path in directory.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path

    run(directory, work)
    (writer,) = writer_directories(directory)
    assert [path.name for path in writer.iterdir()] == ["00000000000000000000.segment"]


def test_f5_each_new_name_is_synced_into_its_directory_before_anything_is_acknowledged(tmp_path: Path) -> None:
    class Recording(FailingDisk):
        def sync_directory(self, path: Path) -> None:
            super().sync_directory(path)
            self.calls[-1] = f"sync_directory {path.name}"

    disk = Recording()
    directory = tmp_path / "outer" / "journal"

    async def work(journal: FileJournal) -> None:
        folder = journal.writer.hex()
        made = [call for call in disk.calls if call not in ("create", "preallocate")]
        assert made[: made.index("sync") + 2] == [
            "make_directory",
            f"sync_directory {tmp_path.name}",
            "make_directory",
            "sync_directory outer",
            "make_directory",
            "sync_directory journal",
            "rename",
            "write",
            "sync",
            f"sync_directory {folder}",
        ]

    run(directory, work, disk=disk)


def test_a_second_process_is_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        with pytest.raises(ConfigInvalid, match="another process"):
            FileJournal.open(tmp_path, origin=ORIGIN, signer=FixedSigner("second"), bounds=SMALL)
        await asyncio.shield(journal.append_nowait(counted, room=Room.ALLOW).durable)

    run(tmp_path, work)
    run(tmp_path, nothing, signer=FixedSigner("third"))
    assert len(writer_directories(tmp_path)) == 2


def test_an_origin_that_is_no_key_name_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        FileJournal.open(tmp_path / "journal", origin="two words", signer=FixedSigner())
    assert not (tmp_path / "journal").exists()


def test_w1_one_key_is_one_writer_and_writes_once(tmp_path: Path) -> None:
    """A key that were used again would sign two trees of one size."""
    run(tmp_path, nothing)
    with pytest.raises(FileExistsError):
        run(tmp_path, nothing)


def test_w2_the_next_writer_knows_the_one_before(tmp_path: Path) -> None:
    notes: list[bytes] = []

    async def first(journal: FileJournal) -> None:
        assert (journal.predecessor, journal.predecessor_time) == (None, None)
        assert inspect_writer(load_segments(tmp_path / journal.writer.hex())).checkpoint == journal.checkpoint
        notes.append(journal.checkpoint)

    async def second(journal: FileJournal) -> None:
        assert journal.predecessor is not None
        assert journal.predecessor.writer == FixedSigner("first").writer
        assert journal.predecessor.checkpoint == notes[0]
        assert journal.predecessor_time == START

    run(tmp_path, first, signer=FixedSigner("first"))
    run(tmp_path, second, signer=FixedSigner("second"))


def test_a_writer_without_records_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        journal = FileJournal.open(tmp_path, origin=ORIGIN, signer=FixedSigner(), bounds=SMALL)
        assert journal.checkpoint == b""
        await journal.close()

    asyncio.run(main())
    run(tmp_path, nothing, signer=FixedSigner("next"))
    assert [path.name for path in writer_directories(tmp_path)] == [FixedSigner("next").writer.hex()]


def test_the_bytes_at_a_place_are_read_back(tmp_path: Path) -> None:
    run(tmp_path, nothing)
    (writer,) = writer_directories(tmp_path)
    place = inspect_writer(load_segments(writer)).places[0]
    assert load_place(writer, place) == start_record(FixedSigner())
    with pytest.raises(Corrupt):
        load_place(writer, Place(place.segment, place.offset, 1 << 20))


# ---- groups and segments


def test_w3_what_waits_is_one_group_of_at_most_256(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        given = [journal.append_nowait(counted, room=Room.ALLOW) for _ in range(2 * GROUP_MAX_RECORDS + 5)]
        await asyncio.wait([one.durable for one in given])

    run(tmp_path, work)
    (writer,) = writer_directories(tmp_path)
    groups, records = [], 0
    for _, segment in load_segments(writer):
        for frame in read_frames(segment):
            records += frame.type == FrameType.RECORD
            if frame.type == FrameType.CHECKPOINT:
                groups.append(records)
                records = 0
    assert groups == [1, GROUP_MAX_RECORDS, GROUP_MAX_RECORDS, 5]


def test_segments_follow_one_another_and_give_back_what_they_do_not_use(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        for _ in range(40):
            await asyncio.shield(journal.append_nowait(large, room=Room.ALLOW).durable)
        assert journal.used_bytes > 40 * 60_000

    run(tmp_path, work)
    (writer,) = writer_directories(tmp_path)
    inspection = inspect_writer(load_segments(writer), ORIGIN)
    assert (inspection.findings, inspection.size) == ((), 41)
    segments = dict(load_segments(writer))
    assert len(segments) == 3
    for number, (name, segment) in enumerate(segments.items()):
        frames = list(read_frames(segment))
        assert frames[-1].end == len(segment)
        header = parse_header(frames[0].payload)
        assert (header.number, f"{header.first:020d}.segment") == (number, name)


def test_a_burst_that_fills_segments_is_written_whole(tmp_path: Path) -> None:
    """Everything that was accepted finds its place, whatever the groups it falls into."""
    given: list[Appended] = []

    async def work(journal: FileJournal) -> None:
        while len(given) < 60:
            try:
                given.append(journal.append_nowait(large, room=Room.RESERVE))
            except JournalFull:
                # Until the next segment is there: the burst is faster than the disk.
                await asyncio.sleep(0)
        await asyncio.wait([one.durable for one in given])
        assert all(one.durable.exception() is None for one in given)

    run(tmp_path, work)
    (writer,) = writer_directories(tmp_path)
    hashes = [leaf.hex() for leaf in inspect_writer(load_segments(writer), ORIGIN).hashes]
    assert hashes[1:] == [one.audit_id for one in given]


# ---- bounds (rule R2) and full disks (CORPUS F3)


async def fill(journal: FileJournal, room: Room) -> int:
    """Append until there is no room; returns how many records were accepted."""
    for count in range(1_000):
        try:
            appended = journal.append_nowait(large, room=room)
        except JournalFull:
            return count
        await asyncio.shield(appended.durable)
    raise AssertionError("the journal has no bound")


def test_r2_each_room_ends_at_its_mark_and_the_reserve_is_left(tmp_path: Path) -> None:
    bounds = JournalBounds(bound_bytes=4 * MIB, high_water=0.5, reserve_bytes=MIB // 2, segment_bytes=2 * MIB)

    async def work(journal: FileJournal) -> None:
        await fill(journal, Room.REFUSAL)
        assert 1.7 * MIB < journal.used_bytes <= 2 * MIB
        await fill(journal, Room.ALLOW)
        assert 3.2 * MIB < journal.used_bytes <= 3.5 * MIB
        with pytest.raises(JournalFull):
            journal.append_nowait(large, room=Room.REFUSAL)
        await fill(journal, Room.RESERVE)
        assert 3.7 * MIB < journal.used_bytes <= 4 * MIB

    run(tmp_path, work, bounds=bounds)


def test_r2_a_record_without_room_is_not_built(tmp_path: Path) -> None:
    def build(_writer: WriterId, _sequence: Sequence) -> bytes:
        raise AssertionError("built")

    async def work(journal: FileJournal) -> None:
        await fill(journal, Room.RESERVE)
        with pytest.raises(JournalFull):
            journal.append_nowait(build, room=Room.RESERVE)

    run(tmp_path, work)


def test_r2_what_the_writers_before_have_left_counts(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        await fill(journal, Room.ALLOW)

    run(tmp_path, work, signer=FixedSigner("first"))
    before = measure(tmp_path)
    assert before > 7 * MIB

    async def full(journal: FileJournal) -> None:
        assert journal.used_bytes > before
        with pytest.raises(JournalFull):
            journal.append_nowait(counted, room=Room.ALLOW)

    run(tmp_path, full, signer=FixedSigner("second"))


def test_r2_room_that_an_operator_makes_is_seen_when_it_is_measured_again(tmp_path: Path) -> None:
    clock = ManualClock()

    async def first(journal: FileJournal) -> None:
        await fill(journal, Room.ALLOW)

    async def second(journal: FileJournal) -> None:
        assert await fill(journal, Room.ALLOW) == 0
        writer = tmp_path / FixedSigner("first").writer.hex()
        for path in segment_paths(writer):
            path.unlink()
        writer.rmdir()
        # An attempt starts a measurement; one after it finds the room.
        await eventually(lambda: has_room(journal) and journal.used_bytes < MIB, clock)
        assert await fill(journal, Room.ALLOW) > 90

    run(tmp_path, first, signer=FixedSigner("first"))
    run(tmp_path, second, signer=FixedSigner("second"), monotonic=clock.monotonic)


def has_room(journal: FileJournal) -> bool:
    try:
        journal.append_nowait(counted, room=Room.ALLOW)
    except JournalFull:
        return False
    return True


async def eventually(holds: Callable[[], bool], clock: ManualClock) -> None:
    """Let the loop, the committer's thread and the clock go on until it holds; the test's bound ends it otherwise."""
    while not holds():
        clock.advance(0.5)
        await asyncio.sleep(0)


def test_f3_a_full_disk_is_a_full_journal_and_no_failure(tmp_path: Path) -> None:
    clock, disk = ManualClock(), FullDisk(segments_left=2)

    async def work(journal: FileJournal) -> None:
        accepted = await fill(journal, Room.RESERVE)
        assert 25 < accepted < 35
        assert not journal.failed.done()
        tries = disk.tries
        for _ in range(50):
            assert await fill(journal, Room.REFUSAL) == 0
        assert disk.tries <= tries + 1
        disk.segments_left = 1
        await eventually(lambda: has_room(journal), clock)
        assert disk.segments_left == 0

    run(tmp_path, work, disk=disk, monotonic=clock.monotonic)
    (writer,) = writer_directories(tmp_path)
    assert inspect_writer(load_segments(writer), ORIGIN).findings == ()


def test_f3_a_disk_that_is_full_from_the_start_opens_and_takes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        journal = FileJournal.open(tmp_path, origin=ORIGIN, signer=FixedSigner(), bounds=SMALL, disk=FullDisk(0))
        with pytest.raises(JournalFull):
            journal.append_nowait(counted, room=Room.RESERVE)
        await journal.close()

    asyncio.run(main())


# ---- the pieces below


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: whole(descriptor, data[:7], offset))
    disk = Disk()
    descriptor = disk.create(tmp_path / "file")
    disk.write(descriptor, bytes(range(100)), offset=3)
    disk.close(descriptor)
    assert (tmp_path / "file").read_bytes() == bytes(3) + bytes(range(100))


def test_c6_a_file_is_not_renamed_over_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        Disk().rename(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_text() == "two"


def test_the_committer_tells_results_and_errors_in_order() -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "broken")

    async def main() -> None:
        told: list[object] = []
        done = asyncio.Event()
        committer = Committer(asyncio.get_running_loop())
        committer.submit(lambda: 1, lambda result, failure: told.append((result, failure)))
        committer.submit(fail, lambda result, failure: told.append((result, type(failure))))
        committer.submit(lambda: 2, lambda result, failure: told.append((result, failure)))
        committer.submit(lambda: 3, lambda _result, _failure: done.set())
        committer.stop()
        await done.wait()
        assert told == [(1, None), (None, OSError), (2, None)]

    asyncio.run(main())
