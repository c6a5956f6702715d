# SPDX-License-Identifier: Apache-2.0
"""`FileBacklog`: whole groups only, durable ones only, and what is trimmed leaves a journal that everything accepts."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from iap_authz.adapters.journal import groups
from iap_authz.adapters.journal.backlog import FileBacklog
from iap_authz.adapters.journal.directory import measure, recover, recover_all
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.journal.reading import load_segments, segment_paths, writer_directories
from iap_authz.adapters.journal.shipped import load_shipped, render_shipped, store_shipped
from iap_authz.errors import BadProof, Corrupt, JournalFull, NotFound
from iap_authz.model.ids import WriterId
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.journal_format import segment_name
from iap_authz.records.journaled import JournaledBatch
from iap_authz.records.room import MIB, JournalBounds, Room
from iap_authz.records.started import writer_origin
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import leaf_hash
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.proof import check_inclusion
from tests.fakes.clock import ManualClock
from tests.fakes.journal import (
    ORIGIN,
    FixedSigner,
    build_segments,
    counted,
    sample_leaves,
    start_record,
    store_segments,
)
from tests.unit.adapters.test_journal_files import eventually, fill, has_room, large

SMALL = JournalBounds(bound_bytes=8 * MIB, reserve_bytes=MIB // 4, segment_bytes=MIB)
DEAD = FixedSigner("dead")
RUNS = FixedSigner("runs")
Work = Callable[[FileJournal, FileBacklog], Awaitable[None]]


def run(directory: Path, work: Work, *, disk: Disk | None = None, clock: ManualClock | None = None) -> None:
    """Open a journal of `RUNS`, write record 0, work, close."""
    monotonic = (clock or ManualClock()).monotonic

    async def main() -> None:
        journal = FileJournal.open(directory, origin=ORIGIN, signer=RUNS, bounds=SMALL, monotonic=monotonic)
        try:
            first = journal.append_nowait(lambda _writer, _sequence: start_record(RUNS), room=Room.RESERVE)
            await asyncio.shield(first.durable)
            await work(journal, FileBacklog(journal, disk=disk))
        finally:
            await journal.close()

    asyncio.run(main())


def before(directory: Path, *group_sizes: list[int], signer: FixedSigner = DEAD) -> list[bytes]:
    """A dead writer with segments of groups of these sizes. Its leaves."""
    leaves = sample_leaves(signer, sum(map(sum, group_sizes)))
    taken = iter(leaves)
    segments = [[[next(taken) for _ in range(size)] for size in sizes] for sizes in group_sizes]
    store_segments(directory, signer.writer, build_segments(signer, segments, unused_bytes=100))
    return leaves


def check_signed(batch: JournaledBatch, signer: FixedSigner, leaves: list[bytes]) -> None:
    assert list(batch.records) == leaves[batch.begin : batch.end]
    verifier = VerifierKey(name=writer_origin(ORIGIN, signer.writer), public_key=signer.public_key)
    assert open_checkpoint(batch.note, verifier).size == batch.end


async def read_all(backlog: FileBacklog, writer: WriterId) -> list[JournaledBatch]:
    batches: list[JournaledBatch] = []
    while (begin := batches[-1].end if batches else 0) < backlog.size(writer):
        batches.append(await backlog.read(writer, begin))
    return batches


# ---- reading


def test_w3_a_batch_is_whole_groups_within_the_bounds(tmp_path: Path) -> None:
    leaves = before(tmp_path, [1, 255, 256], [256, 256, 1], [3])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        assert backlog.writers == (DEAD.writer, RUNS.writer)
        batches = await read_all(backlog, DEAD.writer)
        assert [(one.begin, one.end) for one in batches] == [(0, 1024), (1024, 1028)]
        for batch in batches:
            check_signed(batch, DEAD, leaves)

    run(tmp_path, work)


def test_bytes_bound_a_batch_but_never_split_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before(tmp_path, [1, 1, 5, 1])
    monkeypatch.setattr(groups, "BATCH_MAX_BYTES", 250)

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        batches = await read_all(backlog, DEAD.writer)
        assert [one.end for one in batches] == [1, 2, 7, 8]
        assert sum(map(len, batches[2].records)) > 250

    run(tmp_path, work)


def test_only_what_is_durable_is_read_and_growth_is_told(tmp_path: Path) -> None:
    async def work(journal: FileJournal, backlog: FileBacklog) -> None:
        assert backlog.size(RUNS.writer) == 1
        waiting = asyncio.create_task(backlog.wait_beyond(1))
        appended = [journal.append_nowait(counted, room=Room.ALLOW) for _ in range(600)]
        assert backlog.size(RUNS.writer) == 1
        batch = await backlog.read(RUNS.writer, 0)
        assert batch.end == 1
        await waiting
        assert 1 < backlog.size(RUNS.writer) <= 601
        await asyncio.wait([one.durable for one in appended])
        assert backlog.size(RUNS.writer) == 601
        rest = await backlog.read(RUNS.writer, 1)
        assert [leaf_hash(leaf).hex() for leaf in rest.records] == [one.audit_id for one in appended]

    run(tmp_path, work)


def test_the_running_writer_is_read_across_its_segments(tmp_path: Path) -> None:
    async def work(journal: FileJournal, backlog: FileBacklog) -> None:
        ids: list[str] = []
        read: list[str] = []
        for _ in range(40):
            appended = journal.append_nowait(large, room=Room.ALLOW)
            ids.append(appended.audit_id)
            await asyncio.shield(appended.durable)
            if len(ids) % 3 == 0:
                while (begin := 1 + len(read)) < backlog.size(RUNS.writer):
                    read += [leaf_hash(leaf).hex() for leaf in (await backlog.read(RUNS.writer, begin)).records]
        assert len(segment_paths(tmp_path / RUNS.writer.hex())) > 2
        assert read == ids[: len(read)]
        assert len(read) == 39

    run(tmp_path, work)


def test_sequential_reading_reads_every_byte_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = before(tmp_path, [*[4] * 200], [*[4] * 200])
    monkeypatch.setattr(groups, "BATCH_MAX_RECORDS", 8)
    reads: list[int] = []
    pread = os.pread

    def counting(descriptor: int, count: int, offset: int) -> bytes:
        found = pread(descriptor, count, offset)
        reads.append(len(found))
        return found

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        monkeypatch.setattr(os, "pread", counting)
        assert len(await read_all(backlog, DEAD.writer)) == len(leaves) / 8
        assert sum(reads) <= len(leaves) // 8 * 2 * groups.SLAB_MIN_BYTES

    run(tmp_path, work)


def test_a2_a_former_batch_is_read_again_with_its_own_boundaries(tmp_path: Path) -> None:
    leaves = before(tmp_path, [1, 2], [3, 4])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        for begin, end in ((3, 6), (1, 6), (0, 10), (6, 10), (0, 1)):
            check_signed(await backlog.read(DEAD.writer, begin, end=end), DEAD, leaves)
        for begin, end in ((0, 2), (2, 3), (1, 7), (0, 11), (3, 3), (6, 1), (0, 2**64 - 1)):
            with pytest.raises(BadProof):
                await backlog.read(DEAD.writer, begin, end=end)

    run(tmp_path, work)


def test_w2_record_0_comes_with_its_proof(tmp_path: Path) -> None:
    before(tmp_path, [5, 2])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        for signer in (DEAD, RUNS):
            first = await backlog.read_first(signer.writer)
            assert (first.writer, first.public_key) == (signer.writer, signer.public_key)
            verifier = VerifierKey(name=writer_origin(ORIGIN, signer.writer), public_key=signer.public_key)
            signed = open_checkpoint(first.note, verifier)
            check_inclusion(leaf_hash(first.record), 0, size=signed.size, proof=first.proof, root=signed.root)

    run(tmp_path, work)


def test_damage_under_a_running_process_is_said_and_not_shipped(tmp_path: Path) -> None:
    before(tmp_path, [2, 2])
    (path,) = segment_paths(tmp_path / DEAD.writer.hex())

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        content = bytearray(path.read_bytes())
        content[500] ^= 1
        path.write_bytes(content)
        with pytest.raises(Corrupt, match="checksum"):
            await backlog.read(DEAD.writer, 0)
        path.write_bytes(content[:600])
        with pytest.raises(Corrupt):
            await backlog.read(DEAD.writer, 0)
        path.write_bytes(bytes(600))
        with pytest.raises(Corrupt, match="header"):
            await backlog.read_first(DEAD.writer)

    run(tmp_path, work)


def test_dead_writers_come_oldest_first(tmp_path: Path) -> None:
    for number, seed in ((5, "b"), (9, "a"), (2, "c")):
        before(tmp_path, [number], signer=FixedSigner(seed))

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        assert backlog.writers == tuple(FixedSigner(seed).writer for seed in ("c", "b", "a", "runs"))
        assert [backlog.size(writer) for writer in backlog.writers] == [2, 5, 9, 1]

    run(tmp_path, work)


# ---- how far it was shipped


def test_shipped_is_kept_and_replaced(tmp_path: Path) -> None:
    before(tmp_path, [2, 3])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        assert await backlog.load_shipped(DEAD.writer) == 0
        for sequence in (2, 5):
            await backlog.store_shipped(DEAD.writer, sequence)
            assert await backlog.load_shipped(DEAD.writer) == sequence
        folder = tmp_path / DEAD.writer.hex()
        assert (folder / "shipped").read_bytes() == b"iap-authz shipped v1\n5\n" == render_shipped(5)
        assert not (folder / "shipped.new").exists()

    run(tmp_path, work)


@pytest.mark.parametrize(
    "content", [b"", b"5", b"iap-authz shipped v1\n05\n", b"iap-authz shipped v1\n-1\n", render_shipped(2**63)]
)
def test_a_shipped_file_that_is_none_is_said_to_be(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shipped").write_bytes(content)
    with pytest.raises(Corrupt):
        load_shipped(tmp_path)


class StepDisk(Disk):
    """Ends a store after a number of its steps, as a crash does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise KeyboardInterrupt

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, descriptor: int, data: bytes, *, offset: int) -> None:
        self._step()
        super().write(descriptor, data, offset=offset)

    def replace(self, path: Path, target: Path) -> None:
        self._step()
        super().replace(path, target)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self._step()
        super().sync_directory(path)


@pytest.mark.parametrize("steps", range(4))
def test_a_crash_while_storing_leaves_the_old_or_the_new(tmp_path: Path, steps: int) -> None:
    store_shipped(tmp_path, 3, disk=Disk())
    with pytest.raises(KeyboardInterrupt):
        store_shipped(tmp_path, 7, disk=StepDisk(steps))
    assert load_shipped(tmp_path) == (7 if steps == 3 else 3)
    store_shipped(tmp_path, 8, disk=Disk())
    assert load_shipped(tmp_path) == 8


# ---- trimming, by rule G1


def names(signer: FixedSigner, directory: Path) -> list[int]:
    return [int(path.stem) for path in segment_paths(directory / signer.writer.hex())]


@pytest.mark.parametrize(
    ("sequence", "left"),
    [(0, [0, 3, 7, 9]), (2, [0, 3, 7, 9]), (3, [3, 7, 9]), (6, [3, 7, 9]), (8, [7, 9]), (9, [9]), (11, [9])],
)
def test_g1_whole_segments_below_go(tmp_path: Path, sequence: int, left: list[int]) -> None:
    leaves = before(tmp_path, [1, 2], [4], [2], [1, 2])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        await backlog.store_shipped(DEAD.writer, sequence)
        await backlog.trim(DEAD.writer, sequence)
        assert names(DEAD, tmp_path) == left
        assert DEAD.writer in backlog.writers
        check_signed(await backlog.read(DEAD.writer, left[0]), DEAD, leaves)

    run(tmp_path, work)
    folder = tmp_path / DEAD.writer.hex()
    inspection = inspect_writer(load_segments(folder), ORIGIN)
    assert (inspection.findings, inspection.first, inspection.size) == ((), left[0], 12)
    assert measure(tmp_path) > 0
    recovered = recover_all(tmp_path, Disk())
    assert [(one.predecessor.writer, one.size) for one in recovered][-2:] == [(RUNS.writer, 1), (DEAD.writer, 12)]


def test_g1_a_dead_writer_goes_whole(tmp_path: Path) -> None:
    before(tmp_path, [1, 2], [4])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        await backlog.store_shipped(DEAD.writer, 7)
        await backlog.trim(DEAD.writer, 7)
        assert backlog.writers == (RUNS.writer,)
        assert [path.name for path in writer_directories(tmp_path)] == [RUNS.writer.hex()]

    run(tmp_path, work)


def test_the_segment_that_is_written_stays(tmp_path: Path) -> None:
    async def work(journal: FileJournal, backlog: FileBacklog) -> None:
        for _ in range(20):
            await asyncio.shield(journal.append_nowait(large, room=Room.ALLOW).durable)
        last = names(RUNS, tmp_path)[-1]
        await backlog.trim(RUNS.writer, backlog.size(RUNS.writer))
        assert names(RUNS, tmp_path) == [last] != [0]
        with pytest.raises(NotFound):
            await backlog.read_first(RUNS.writer)
        with pytest.raises(NotFound):
            await backlog.read(RUNS.writer, 0)
        await asyncio.shield(journal.append_nowait(large, room=Room.ALLOW).durable)

    run(tmp_path, work)
    recovered = recover(tmp_path, Disk())
    assert recovered is not None
    assert (recovered.predecessor.writer, recovered.size) == (RUNS.writer, 22)


@pytest.mark.parametrize("steps", range(9))
def test_a_crash_while_a_dead_writer_goes_leaves_what_recovery_accepts(tmp_path: Path, steps: int) -> None:
    before(tmp_path, [1, 2], [4], [2])

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        await backlog.store_shipped(DEAD.writer, 9)
        whole = FileBacklog(_, disk=StepDisk(steps))
        if steps < 6:
            with pytest.raises(KeyboardInterrupt):
                await whole.trim(DEAD.writer, 9)
        else:
            await whole.trim(DEAD.writer, 9)

    run(tmp_path, work)
    found = {one.predecessor.writer: one.size for one in recover_all(tmp_path, Disk())}
    assert found == ({DEAD.writer: 9, RUNS.writer: 1} if steps < 3 else {RUNS.writer: 1})
    assert (tmp_path / DEAD.writer.hex()).exists() == (steps < 3)


def test_a_folder_with_a_file_of_somebody_else_stays_and_hurts_nobody(tmp_path: Path) -> None:
    before(tmp_path, [3])
    (tmp_path / DEAD.writer.hex() / "notes.txt").write_text("mine")

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        await backlog.trim(DEAD.writer, 3)
        assert backlog.writers == (RUNS.writer,)

    run(tmp_path, work)
    assert [path.name for path in (tmp_path / DEAD.writer.hex()).iterdir()] == ["notes.txt"]
    assert [one.predecessor.writer for one in recover_all(tmp_path, Disk())] == [RUNS.writer]


def test_what_was_trimmed_without_having_been_shipped_is_said_to_be(tmp_path: Path) -> None:
    before(tmp_path, [3], [3])
    (tmp_path / DEAD.writer.hex() / segment_name(0)).unlink()

    async def work(_: FileJournal, backlog: FileBacklog) -> None:
        with pytest.raises(Corrupt, match="want at least 3"):
            await backlog.load_shipped(DEAD.writer)
        await backlog.store_shipped(DEAD.writer, 6)
        assert await backlog.load_shipped(DEAD.writer) == 6

    run(tmp_path, work)


def test_r2_a_full_journal_comes_back_when_it_was_trimmed(tmp_path: Path) -> None:
    clock = ManualClock()

    async def work(journal: FileJournal, backlog: FileBacklog) -> None:
        await fill(journal, Room.ALLOW)
        assert journal.used_bytes > 7 * MIB
        with pytest.raises(JournalFull):
            journal.append_nowait(large, room=Room.ALLOW)
        await backlog.trim(RUNS.writer, backlog.size(RUNS.writer))
        await eventually(lambda: has_room(journal), clock)
        assert journal.used_bytes < 2 * MIB

    run(tmp_path, work, clock=clock)
