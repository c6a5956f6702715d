# SPDX-License-Identifier: Apache-2.0
"""A segment that was asked for: where it begins, what never stands in it, what a full disk makes of it (rule S5)."""

import asyncio
from pathlib import Path

import pytest

from iap_authz.adapters.journal.files import GROUP_MAX_RECORDS, FileJournal
from iap_authz.adapters.journal.mark import SegmentMark
from iap_authz.adapters.journal.reading import load_segments, segment_paths
from iap_authz.errors import JournalFull
from iap_authz.model.ids import Sequence
from iap_authz.ports import Appended
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import FrameType, read_frames
from iap_authz.records.room import MIB, JournalBounds, Room
from tests.fakes.clock import ManualClock
from tests.fakes.disk import FullDisk
from tests.fakes.journal import ORIGIN, FixedSigner, counted, settled, start_record
from tests.unit.adapters.test_journal_files import SMALL, eventually, fill, has_room, large, run


def firsts(directory: Path) -> list[int]:
    """The first record of each segment."""
    return [int(path.stem) for path in segment_paths(directory / FixedSigner().writer.hex())]


def check_whole(directory: Path, size: int) -> None:
    inspection = inspect_writer(load_segments(directory / FixedSigner().writer.hex()), ORIGIN)
    assert (inspection.findings, inspection.size) == ((), size)


def append(journal: FileJournal, count: int = 1) -> list[Appended]:
    return [journal.append_nowait(counted, room=Room.RESERVE) for _ in range(count)]


async def durable(appended: list[Appended]) -> None:
    await asyncio.gather(*(asyncio.shield(one.durable) for one in appended))


def mark_of(journal: FileJournal) -> int | None:
    """Asked anew each time."""
    return journal.segment_mark


# ---- the mark by itself


def test_a_mark_that_was_never_asked_for_is_the_start() -> None:
    mark = SegmentMark()
    assert (mark.is_wanted, mark.begun(0), mark.begun(1)) == (False, None, 0)
    assert mark.most(7, most=256) == 256
    mark.begin(7)
    assert mark.begun(100) == 0


@pytest.mark.parametrize(("first", "most"), [(5, 4), (8, 1), (9, 256), (12, 256)])
def test_no_group_straddles_a_mark(first: int, most: int) -> None:
    mark = SegmentMark()
    mark.want(Sequence(9))
    assert mark.most(first, most=256) == most
    assert mark.is_due(first) is (first >= 9)


def test_a_mark_is_met_by_a_segment_at_it_or_behind_it_once_that_is_durable() -> None:
    mark = SegmentMark()
    mark.want(Sequence(9))
    mark.begin(8)
    assert (mark.is_wanted, mark.begun(100)) == (True, None)
    mark.begin(11)
    assert [mark.begun(size) for size in (9, 11, 12)] == [None, None, 11]
    mark.want(Sequence(20))
    assert mark.begun(100) is None


# ---- in a journal


def test_s5_what_waits_goes_into_the_old_segment_and_what_comes_into_the_new(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        await settled(journal)
        assert mark_of(journal) == 0
        before = append(journal, 3)
        assert journal.begin_segment() == 4
        assert mark_of(journal) is None
        after = append(journal, 2)
        await durable(before + after)
        assert mark_of(journal) == 4

    run(tmp_path, work)
    assert firsts(tmp_path) == [0, 4]
    check_whole(tmp_path, 6)
    groups = [
        [frame.type for frame in read_frames(segment)]
        for _, segment in load_segments(tmp_path / FixedSigner().writer.hex())
    ]
    record, note, header = FrameType.RECORD, FrameType.CHECKPOINT, FrameType.HEADER
    assert groups == [[header, record, note, record, record, record, note], [header, record, record, note]]


def test_s5_a_mark_inside_many_groups_is_kept_to_the_record(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        await settled(journal)
        before = append(journal, 2 * GROUP_MAX_RECORDS + 7)
        mark = journal.begin_segment()
        await durable(before + append(journal, GROUP_MAX_RECORDS + 9))
        assert mark == mark_of(journal) == 2 * GROUP_MAX_RECORDS + 8

    run(tmp_path, work)
    assert firsts(tmp_path) == [0, 2 * GROUP_MAX_RECORDS + 8]
    check_whole(tmp_path, 3 * GROUP_MAX_RECORDS + 17)


def test_a_mark_before_the_first_record_is_the_first_segment(tmp_path: Path) -> None:
    async def main() -> None:
        journal = FileJournal.open(tmp_path, origin=ORIGIN, signer=FixedSigner(), bounds=SMALL)
        assert mark_of(journal) is None
        assert journal.begin_segment() == 0
        first = journal.append_nowait(lambda _writer, _sequence: start_record(FixedSigner()), room=Room.RESERVE)
        assert mark_of(journal) is None
        await asyncio.shield(first.durable)
        assert mark_of(journal) == 0
        await journal.close()

    asyncio.run(main())
    assert firsts(tmp_path) == [0]


def test_a_mark_without_a_record_after_it_stays_pending_and_takes_nothing(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        await durable(append(journal))
        assert journal.begin_segment() == journal.begin_segment() == 2
        await journal.close()
        assert mark_of(journal) is None

    run(tmp_path, work)
    assert firsts(tmp_path) == [0]
    check_whole(tmp_path, 2)


def test_the_later_of_two_marks_counts(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        await settled(journal)
        given = append(journal)
        assert journal.begin_segment() == 2
        given += append(journal, 2)
        assert journal.begin_segment() == 4
        await durable(given + append(journal))
        assert mark_of(journal) == 4

    run(tmp_path, work)
    assert firsts(tmp_path) == [0, 4]
    check_whole(tmp_path, 5)


def test_a_segment_that_begins_because_the_one_before_is_full_meets_the_mark_too(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        await settled(journal)
        await durable([journal.append_nowait(large, room=Room.RESERVE) for _ in range(16)])
        assert journal.begin_segment() == 17
        await durable([journal.append_nowait(large, room=Room.RESERVE)])
        assert mark_of(journal) == 17

    run(tmp_path, work)
    assert firsts(tmp_path) == [0, 17]


def test_marks_one_after_the_other_each_begin_a_segment(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        for number in range(1, 6):
            await settled(journal)
            assert journal.begin_segment() == number
            await durable(append(journal))
            assert mark_of(journal) == number

    run(tmp_path, work)
    assert firsts(tmp_path) == [0, 1, 2, 3, 4, 5]
    check_whole(tmp_path, 6)
    for _, segment in load_segments(tmp_path / FixedSigner().writer.hex()):
        assert len(segment) < 2_000


# ---- a disk that gives nothing


def test_f3_a_mark_that_the_disk_has_no_segment_for_moves_and_says_so(tmp_path: Path) -> None:
    """Nothing that was accepted is lost and nothing is refused for it; the first group after there is one begins it."""
    clock, disk = ManualClock(), FullDisk(segments_left=1)
    marks: list[int] = []

    async def work(journal: FileJournal) -> None:
        before = append(journal, 2)
        assert journal.begin_segment() == 3
        await durable(before + append(journal, 4))
        assert mark_of(journal) is None
        assert disk.segments_left == 0
        disk.segments_left = 1

        while (mark := mark_of(journal)) is None:
            clock.advance(0.5)
            await durable(append(journal))
        assert mark > 6
        marks.append(mark)

    run(tmp_path, work, disk=disk, monotonic=clock.monotonic)
    assert firsts(tmp_path) == [0, marks[0]]
    inspection = inspect_writer(load_segments(tmp_path / FixedSigner().writer.hex()), ORIGIN)
    assert inspection.findings == ()


def test_f3_a_pending_mark_asks_a_full_disk_twice_a_second_at_most(tmp_path: Path) -> None:
    clock, disk = ManualClock(), FullDisk(segments_left=1)

    async def work(journal: FileJournal) -> None:
        await durable(append(journal))
        clock.advance(0.5)
        while has_room_for_refusals(journal):  # noqa: ASYNC110 -- until the survey has found the disk full
            await asyncio.sleep(0)
        journal.begin_segment()
        tries = disk.tries
        for _ in range(20):
            await durable(append(journal))
        assert disk.tries <= tries + 1

    run(tmp_path, work, disk=disk, monotonic=clock.monotonic)


def has_room_for_refusals(journal: FileJournal) -> bool:
    try:
        journal.append_nowait(counted, room=Room.REFUSAL)
    except JournalFull:
        return False
    return True


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_r2_whatever_was_accepted_finds_its_place_whatever_is_asked_for(tmp_path: Path, every: int) -> None:
    """Bursts of the largest records, a mark after some of them, on a disk that gives segments late or not at all."""
    clock, disk = ManualClock(), FullDisk(segments_left=3)
    given: list[Appended] = []

    async def work(journal: FileJournal) -> None:
        for turn in range(60):
            if turn % every == 0:
                journal.begin_segment()
            try:
                given.append(journal.append_nowait(large, room=Room.RESERVE))
            except JournalFull:
                clock.advance(0.5)
                disk.segments_left += turn % 5 == 0
                await asyncio.sleep(0)
        await asyncio.wait([one.durable for one in given])
        assert not journal.failed.done()

    run(tmp_path, work, disk=disk, monotonic=clock.monotonic)
    assert all(one.durable.exception() is None for one in given)
    inspection = inspect_writer(load_segments(tmp_path / FixedSigner().writer.hex()), ORIGIN)
    assert inspection.findings == ()
    assert [leaf.hex() for leaf in inspection.hashes[1:]] == [one.audit_id for one in given]


def test_r2_a_segment_begun_early_gives_back_what_it_did_not_use(tmp_path: Path) -> None:
    bounds = JournalBounds(bound_bytes=4 * MIB, reserve_bytes=0, segment_bytes=MIB)
    clock = ManualClock()

    async def work(journal: FileJournal) -> None:
        for _ in range(10):
            await settled(journal)
            journal.begin_segment()
            await durable(append(journal))
        assert journal.used_bytes < 20_000
        await eventually(lambda: has_room(journal), clock)
        assert await fill(journal, Room.RESERVE) > 50

    run(tmp_path, work, bounds=bounds, monotonic=clock.monotonic)
