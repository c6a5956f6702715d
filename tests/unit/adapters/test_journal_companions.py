# SPDX-License-Identifier: Apache-2.0
"""Companions on their way: into the journal, out of it into a request, and off the disk (PROTOCOL rules S2, S6)."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.journal import groups
from iap_authz.adapters.journal.backlog import FileBacklog
from iap_authz.adapters.journal.files import BESIDE_MAX_BYTES, GROUP_MAX_BYTES, GROUP_MAX_RECORDS, FileJournal
from iap_authz.adapters.journal.reading import load_segments, segment_paths
from iap_authz.adapters.journal.segments import SegmentFiles
from iap_authz.adapters.journal.space import Space, Survey
from iap_authz.errors import Corrupt, JournalFull
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.ports import Appended
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import FrameType, read_frames, render_frame
from iap_authz.records.record import RECORD_MAX_BYTES, parse_record, service_record
from iap_authz.records.room import MIB, JournalBounds, Room
from iap_authz.records.seal import check_beside, derive_opening, open_part, seal_context
from iap_authz.sidecar.lanes import append_request
from tests.fakes.clock import START, ManualClock
from tests.fakes.disk import FailingDisk
from tests.fakes.journal import (
    ORIGIN,
    FixedSigner,
    build_segments,
    counted,
    fixed_seal,
    record_id,
    sealed_leaf,
    sealed_leaves,
    start_record,
    store_segments,
)
from tests.unit.adapters.test_journal_backlog import DEAD, RUNS, names, read_all
from tests.unit.adapters.test_journal_backlog import run as run_backlog
from tests.unit.adapters.test_journal_files import SMALL, run

SIGNER = FixedSigner()
WRITER = SIGNER.writer.hex()


def append_sealed(journal: FileJournal, sequence: int, *, seal_epoch: int = 1) -> Appended:
    seal = fixed_seal(sequence, seal_epoch=seal_epoch)
    return journal.append_nowait(partial(sealed_leaf, seal=seal), room=Room.ALLOW, beside=seal.beside)


def before(directory: Path, *group_sizes: list[int]) -> tuple[list[bytes], dict[bytes, bytes]]:
    """A dead writer with segments of groups of these sizes: every second record is sealed. Leaves and companions."""
    leaves, besides = sealed_leaves(DEAD, sum(map(sum, group_sizes)))
    taken = iter(leaves)
    segments = [[[next(taken) for _ in range(size)] for size in sizes] for sizes in group_sizes]
    store_segments(directory, DEAD.writer, build_segments(DEAD, segments, besides=besides, unused_bytes=100))
    return leaves, besides


# ---- written


def test_s2_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    """A frame of type 3 right after its record's; and without companions the bytes are what they always were."""
    for name, (leaves, besides) in (
        ("sealed", sealed_leaves(SIGNER, 6)),
        ("plain", ([start_record(SIGNER), *(counted(SIGNER.writer, Sequence(one)) for one in range(1, 6))], {})),
    ):
        directory = tmp_path / name

        async def work(
            journal: FileJournal, leaves: list[bytes] = leaves, besides: dict[bytes, bytes] = besides
        ) -> None:
            given = [
                journal.append_nowait(lambda _writer, sequence: leaves[sequence], room=Room.ALLOW, beside=beside)
                for beside in (besides.get(leaf, b"") for leaf in leaves[1:])
            ]
            await asyncio.wait([one.durable for one in given])

        run(directory, work)
        assert list(load_segments(directory / WRITER)) == build_segments(
            SIGNER, [[leaves[:1], leaves[1:]]], besides=besides
        )


def test_what_is_too_long_for_a_companion_is_a_defect_of_the_caller(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        with pytest.raises(ValueError, match="beside a record"):
            journal.append_nowait(counted, room=Room.ALLOW, beside=bytes(BESIDE_MAX_BYTES + 1))
        assert journal.append_nowait(counted, room=Room.ALLOW).sequence == 1

    run(tmp_path, work)
    assert inspect_writer(load_segments(tmp_path / WRITER), ORIGIN).size == 2


def sized(writer: WriterId, sequence: Sequence, *, size_bytes: int) -> bytes:
    """A record of exactly this many bytes, if there are enough for its envelope."""
    build = partial(service_record, writer=writer, sequence=sequence, record_id=record_id(sequence), time=START)
    spare = size_bytes - len(build(record_pb2.PolicyChunk(bytes=bytes(40_000)))) + 40_000
    leaf = build(record_pb2.PolicyChunk(bytes=bytes(spare)))
    assert len(leaf) == size_bytes
    return leaf


def test_companions_count_for_the_size_of_a_group(tmp_path: Path) -> None:
    """Of 300 records fewer than 256 fit in the bytes of a group; with what stands beside them one less does."""
    record_bytes = RECORD_MAX_BYTES - 8
    bounds = JournalBounds(bound_bytes=64 * MIB, reserve_bytes=0, segment_bytes=16 * MIB)
    sizes: list[int] = []

    async def work(journal: FileJournal) -> None:
        build = partial(sized, size_bytes=record_bytes)
        given = [journal.append_nowait(build, room=Room.ALLOW, beside=bytes(BESIDE_MAX_BYTES)) for _ in range(70)]
        await asyncio.wait([one.durable for one in given])

    run(tmp_path, work, bounds=bounds)
    for _, segment in load_segments(tmp_path / WRITER):
        size = 0
        for frame in read_frames(segment):
            if frame.type == FrameType.CHECKPOINT:
                sizes.append(size)
            size = 0 if frame.type not in (FrameType.RECORD, FrameType.COMPANION) else size + frame.end - frame.offset
    one = record_bytes + BESIDE_MAX_BYTES + 2 * 9
    assert sizes[1:] == [31 * one, 31 * one, 8 * one]
    assert 31 * one <= GROUP_MAX_BYTES < 32 * one
    assert 32 * (record_bytes + 9) <= GROUP_MAX_BYTES


@pytest.mark.parametrize("spare", [-1, 0])
def test_r2_the_room_of_the_largest_record_and_companion_is_asked_for(tmp_path: Path, spare: int) -> None:
    """To the byte: both frames, and the checkpoints of five groups, beside what is there."""
    want = (65_535 + 9) + (32 + 256 + 9) + 5 * (1_024 + 9)

    async def fill_half(journal: FileJournal) -> None:
        await asyncio.shield(
            journal.append_nowait(partial(sized, size_bytes=RECORD_MAX_BYTES), room=Room.ALLOW).durable
        )

    used: list[int] = []

    async def measure(journal: FileJournal) -> None:
        await fill_half(journal)
        used.append(journal.used_bytes)

    async def work(journal: FileJournal) -> None:
        await fill_half(journal)
        if spare < 0:
            with pytest.raises(JournalFull):
                append_sealed(journal, 2)
        else:
            await asyncio.shield(append_sealed(journal, 2).durable)

    run(tmp_path / "measured", measure)
    bounds = JournalBounds(bound_bytes=used[0] + want + spare, reserve_bytes=0, segment_bytes=MIB)
    run(tmp_path / "filled", work, bounds=bounds)


def test_r2_companions_are_counted_while_they_wait_and_when_they_are_written(tmp_path: Path) -> None:
    async def work(journal: FileJournal) -> None:
        before_bytes = journal.used_bytes
        given = [append_sealed(journal, number) for number in range(1, 9)]
        waiting = journal.used_bytes - before_bytes
        assert waiting == sum(
            len(sealed_leaf(SIGNER.writer, Sequence(number))) + 9 + len(fixed_seal(number).beside) + 9
            for number in range(1, 9)
        )
        await asyncio.wait([one.durable for one in given])
        (path,) = segment_paths(tmp_path / WRITER)
        assert journal.used_bytes == len(path.read_bytes().rstrip(b"\0"))

    run(tmp_path, work)


@pytest.mark.parametrize("companion_bytes", [1, 40, BESIDE_MAX_BYTES])
def test_r2_a_journal_that_is_filled_to_the_last_byte_keeps_what_it_accepted(
    tmp_path: Path, companion_bytes: int
) -> None:
    """The largest records and companions, until there is no room: every one finds its place, whatever the groups."""
    bounds = JournalBounds(bound_bytes=3 * MIB, reserve_bytes=0, segment_bytes=MIB)
    given: list[Appended] = []
    build = partial(sized, size_bytes=RECORD_MAX_BYTES)

    async def work(journal: FileJournal) -> None:
        refused = 0
        while refused < 500:
            try:
                given.append(journal.append_nowait(build, room=Room.RESERVE, beside=bytes(companion_bytes)))
            except JournalFull:
                refused += 1
                await asyncio.sleep(0)
        await asyncio.wait([one.durable for one in given])
        assert not journal.failed.done()

    run(tmp_path, work, bounds=bounds)
    assert len(given) > 15
    assert all(one.durable.exception() is None for one in given)
    assert sum(len(segment) for _, segment in load_segments(tmp_path / WRITER)) <= 3 * MIB


def test_a_segment_is_begun_early_only_if_all_that_waits_fits_in_it(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path / "writer", segment_bytes=MIB, disk=FailingDisk())

    async def main() -> None:
        journal = FileJournal.open(tmp_path / "other", origin=ORIGIN, signer=SIGNER, bounds=SMALL)
        for is_prepared, waiting, want in ((True, MIB - 4_096, True), (True, MIB - 4_095, False), (False, 1, False)):
            space = Space(
                files,
                Survey(settled_bytes=0, is_prepared=is_prepared),
                bounds=SMALL,
                committer=journal._committer,  # noqa: SLF001 -- any will do: nothing is submitted
                monotonic=ManualClock().monotonic,
                fail=journal.failed.set_exception,
            )
            assert space.may_begin(waiting) is want
        await journal.close()

    asyncio.run(main())


# ---- read, and offered


def test_s2_what_was_written_is_offered_with_its_companions(tmp_path: Path) -> None:
    async def work(journal: FileJournal, backlog: FileBacklog) -> None:
        given = [
            append_sealed(journal, number) if number % 3 else journal.append_nowait(counted, room=Room.ALLOW)
            for number in range(1, 2 * GROUP_MAX_RECORDS)
        ]
        await asyncio.wait([one.durable for one in given])
        for batch in await read_all(backlog, RUNS.writer):
            request = append_request(batch)
            assert [one.sequence for one in request.companions] == [
                number for number in range(batch.begin, batch.end) if number % 3
            ]
            for entry in request.companions:
                record = parse_record(request.records[entry.sequence - batch.begin])
                assert record.sequence == entry.sequence
                assert len(entry.salt) == 32
                companion = check_beside(record.sealed, entry.salt + entry.companion)
                assert (companion.vault_epoch, companion.seal_epoch) == (1, 1)

    run_backlog(tmp_path, work)


def test_s2_what_is_offered_opens_to_what_was_sealed(tmp_path: Path) -> None:
    async def work(journal: FileJournal, backlog: FileBacklog) -> None:
        await asyncio.shield(append_sealed(journal, 1).durable)
        batch = await backlog.read(RUNS.writer, 1)
        record = parse_record(append_request(batch).records[0])
        opening = derive_opening(fixed_seal(1).key.secret, seal_context(ORIGIN, record))
        assert open_part(record, opening, origin=ORIGIN).outcome.upstream_address == "192.0.2.7:443"

    run_backlog(tmp_path, work)


def test_a_batch_across_groups_and_segments_has_the_companions_of_its_records(tmp_path: Path) -> None:
    leaves, besides = before(tmp_path, [1, 2], [4], [2, 1])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        for begin, end in ((0, 10), (0, 3), (1, 7), (3, 9), (9, 10)):
            batch = await backlog.read(DEAD.writer, begin, end=end)
            want = [(number, besides[leaves[number]]) for number in range(begin, end) if leaves[number] in besides]
            assert list(batch.companions) == want
            assert list(batch.records) == leaves[begin:end]

    run_backlog(tmp_path, work)


def test_companions_count_for_the_bytes_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves, besides = before(tmp_path, [1, 1, 1, 1])
    most = sum(map(len, leaves[:3])) + len(besides[leaves[1]])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        for bound, ends in ((most, [3, 4]), (most - 1, [2, 4])):
            monkeypatch.setattr(groups, "BATCH_MAX_BYTES", bound)
            assert [one.end for one in await read_all(backlog, DEAD.writer)] == ends

    run_backlog(tmp_path, work)


@pytest.mark.parametrize("where", ["before-every-record", "twice", "after-the-checkpoint"])
def test_a_companion_that_appears_under_a_running_process_is_not_shipped(tmp_path: Path, where: str) -> None:
    leaves, besides = before(tmp_path, [2, 1])
    (path,) = segment_paths(tmp_path / DEAD.writer.hex())
    beside = render_frame(FrameType.COMPANION, besides[leaves[1]])
    frames = list(read_frames(path.read_bytes()))
    at = {
        "before-every-record": frames[0].end,
        "twice": next(frame.end for frame in frames if frame.type == FrameType.COMPANION),
        "after-the-checkpoint": next(frame.end for frame in frames if frame.type == FrameType.CHECKPOINT),
    }[where]

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        content = path.read_bytes()
        path.write_bytes(content[:at] + beside + content[at:])
        with pytest.raises(Corrupt, match="type 3"):
            await read_all(backlog, DEAD.writer)

    run_backlog(tmp_path, work)


# ---- gone


def bytes_below(directory: Path) -> bytes:
    """The bytes of every file, prepared ones too."""
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_s5_after_a_new_segment_and_a_trim_no_older_companion_is_on_the_disk(tmp_path: Path) -> None:
    """What a writer does when the seal epoch rises: the key of the epoch before is nowhere in its directory then."""
    old, new = fixed_seal(1, seal_epoch=1), fixed_seal(5, seal_epoch=2)

    async def work(journal: FileJournal, backlog: FileBacklog) -> None:
        for number in range(1, 5):
            await asyncio.shield(append_sealed(journal, number, seal_epoch=1).durable)
        last = append_sealed(journal, 5, seal_epoch=1)
        mark = journal.begin_segment()
        assert mark == 6
        await asyncio.shield(last.durable)
        await asyncio.shield(append_sealed(journal, 6, seal_epoch=2).durable)
        assert journal.segment_mark == 6
        assert backlog.first(RUNS.writer) == 0

        await backlog.trim(RUNS.writer, 5)
        assert backlog.first(RUNS.writer) == 0 < mark
        assert old.key.companion in bytes_below(tmp_path)
        await backlog.trim(RUNS.writer, 6)
        assert backlog.first(RUNS.writer) == mark
        content = bytes_below(tmp_path)
        assert old.key.companion not in content
        assert all(fixed_seal(number).salt not in content for number in range(1, 6))
        assert new.key.companion in content

    run_backlog(tmp_path, work)
    assert names(RUNS, tmp_path) == [6]
    inspection = inspect_writer(load_segments(tmp_path / RUNS.writer.hex()), ORIGIN)
    assert (inspection.findings, inspection.first, inspection.size) == ((), 6, 7)


def test_the_first_record_on_the_disk_is_known_for_every_writer(tmp_path: Path) -> None:
    before(tmp_path, [1, 2], [4], [2])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        assert (backlog.first(DEAD.writer), backlog.first(RUNS.writer)) == (0, 0)
        for sequence, want in ((2, 0), (3, 3), (6, 3), (8, 7), (9, 9)):
            await backlog.store_shipped(DEAD.writer, sequence)
            await backlog.trim(DEAD.writer, sequence)
            assert backlog.first(DEAD.writer) == want
        assert not (tmp_path / DEAD.writer.hex()).exists()
        await backlog.trim(RUNS.writer, 1)
        assert backlog.first(RUNS.writer) == 0

    run_backlog(tmp_path, work)


def test_the_first_record_is_known_after_a_restart(tmp_path: Path) -> None:
    before(tmp_path, [1, 2], [4])

    async def trim(_: FileJournal, backlog: FileBacklog) -> None:
        await backlog.store_shipped(DEAD.writer, 3)
        await backlog.trim(DEAD.writer, 3)
        assert FileBacklog(_).first(DEAD.writer) == 3

    run_backlog(tmp_path, trim)


def test_s5_what_could_not_be_synced_is_not_called_gone_until_it_is(tmp_path: Path) -> None:
    """A name that was removed comes back at a crash as long as its directory was not synced."""
    before(tmp_path, [1, 2], [4], [2])

    async def work(journal: FileJournal, _: FileBacklog) -> None:
        disk = FailingDisk(1)
        backlog = FileBacklog(journal, disk=disk)
        with pytest.raises(OSError, match="error"):
            await backlog.trim(DEAD.writer, 3)
        assert disk.calls == ["remove", "sync_directory"]
        assert (names(DEAD, tmp_path), backlog.first(DEAD.writer)) == ([3, 7], 0)
        await backlog.trim(DEAD.writer, 3)
        assert disk.calls[2:] == ["sync_directory"]
        assert backlog.first(DEAD.writer) == 3

    run_backlog(tmp_path, work)
