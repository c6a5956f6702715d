# SPDX-License-Identifier: Apache-2.0
"""What a crash in the middle of a write leaves, at every byte (CORPUS F4), and what recovery makes of it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.journal.directory import recover
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.journal.reading import load_segments, segment_paths
from iap_authz.errors import Corrupt
from iap_authz.model.ids import Sequence
from iap_authz.records.findings import Kind
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.record import service_record
from iap_authz.records.room import MIB, JournalBounds
from tests.fakes.clock import START as CLOCK_START
from tests.fakes.journal import (
    ORIGIN,
    FixedSigner,
    build_segments,
    record_id,
    sample_leaves,
    sealed_leaves,
    store_segments,
)

SIGNER = FixedSigner()
LEAVES = sample_leaves(SIGNER, 4)
(BEFORE,) = build_segments(SIGNER, [[LEAVES[:2]]])
(AFTER,) = build_segments(SIGNER, [[LEAVES[:2], LEAVES[2:]]])
NAME, WHOLE = AFTER
START, END = len(BEFORE[1]), len(WHOLE)
UNUSED = bytes(64)


def large_leaf(number: int) -> bytes:
    """A record of about 700 bytes, as a decision is."""
    body = record_pb2.SettingChanged(setting="demo", after="v" * 600)
    return service_record(
        body,
        writer=SIGNER.writer,
        sequence=Sequence(number),
        record_id=record_id(number),
        time=CLOCK_START + timedelta(seconds=number),
    )


def test_the_journal_before_is_a_prefix_of_the_journal_after() -> None:
    assert WHOLE.startswith(BEFORE[1])


@pytest.mark.parametrize("zeros", [b"", UNUSED], ids=["file-ends", "zeros-follow"])
def test_w3_a_tail_torn_at_every_byte_is_cut_and_not_damage(zeros: bytes) -> None:
    for cut in range(START, END):
        segment = WHOLE[:cut] + (bytes(END - cut) + zeros if zeros else b"")
        found = inspect_writer([(NAME, segment)], ORIGIN)
        assert not found.damage, cut
        assert (found.size, found.end) == (2, (NAME, START))
        # One byte that is not zero after a valid checkpoint can be a torn write or a flip; recovery cuts both.
        kinds = {finding.kind for finding in found.findings}
        is_one_byte = len(segment[START:].strip(b"\0")) == 1
        is_clean = not segment[START:].strip(b"\0")
        assert kinds == (set() if is_clean else {Kind.STRAY} if is_one_byte and zeros else {Kind.CUT}), cut


@pytest.mark.parametrize("zeros", [b"", UNUSED], ids=["file-ends", "zeros-follow"])
def test_w3_a_tail_of_sealed_records_torn_at_every_byte_is_cut_and_not_damage(zeros: bytes) -> None:
    """Also between a record's frame and that of its companion: the group has no checkpoint then."""
    leaves, besides = sealed_leaves(SIGNER, 4)
    ((name, before),) = build_segments(SIGNER, [[leaves[:2]]], besides=besides)
    ((_, whole),) = build_segments(SIGNER, [[leaves[:2], leaves[2:]]], besides=besides)
    assert whole.startswith(before)
    for cut in range(len(before), len(whole)):
        segment = whole[:cut] + (bytes(len(whole) - cut) + zeros if zeros else b"")
        found = inspect_writer([(name, segment)], ORIGIN)
        assert not found.damage, cut
        assert (found.size, found.end) == (2, (name, len(before)))


SECTOR = 512
LARGE = [*LEAVES[:2], *(large_leaf(number) for number in range(2, 5))]
(LARGE_BEFORE,) = build_segments(SIGNER, [[LARGE[:2]]])
(LARGE_AFTER,) = build_segments(SIGNER, [[LARGE[:2], LARGE[2:]]])
SECTORS = range(len(LARGE_BEFORE[1]) // SECTOR, -(-len(LARGE_AFTER[1]) // SECTOR))


@pytest.mark.parametrize("lost", range(1, 1 << len(SECTORS)))
def test_w3_any_sectors_of_the_last_write_may_be_missing(lost: int) -> None:
    """A disk writes the sectors of one write in any order: every choice of lost ones is a torn tail."""
    old = LARGE_BEFORE[1] + bytes(SECTOR * 10)
    new = bytearray(LARGE_AFTER[1] + bytes(SECTOR * 10))[: len(old)]
    for position, sector in enumerate(SECTORS):
        if lost >> position & 1:
            new[sector * SECTOR : (sector + 1) * SECTOR] = old[sector * SECTOR : (sector + 1) * SECTOR]
    found = inspect_writer([(NAME, bytes(new))], ORIGIN)
    nothing_left = lost == (1 << len(SECTORS)) - 1
    assert [finding.kind for finding in found.findings] == ([] if nothing_left else [Kind.CUT])
    assert (found.size, found.end) == (2, (NAME, len(LARGE_BEFORE[1])))


def test_a_missing_sector_of_any_earlier_write_is_damage() -> None:
    ((name, segment),) = build_segments(SIGNER, [[LARGE[:2], LARGE[2:], [large_leaf(5)]]])
    hole = SECTORS[1] * SECTOR
    found = inspect_writer([(name, segment[:hole] + bytes(SECTOR) + segment[hole + SECTOR :])], ORIGIN)
    assert [finding.kind for finding in found.findings] == [Kind.DAMAGED]


def test_w3_recovery_cuts_a_tail_torn_anywhere_and_the_next_writer_names_the_cut_one(tmp_path: Path) -> None:
    for cut in range(START, END, 7):
        directory = tmp_path / str(cut)
        folder = store_segments(directory, SIGNER.writer, [(NAME, WHOLE[:cut] + bytes(END - cut) + UNUSED)])
        recovered = recover(directory, Disk())
        assert recovered is not None
        assert recovered.predecessor.writer == SIGNER.writer
        assert list(load_segments(folder)) == [BEFORE]
        assert recover(directory, Disk()) == recovered


def test_w3_a_writer_torn_in_its_first_group_acknowledged_nothing_and_goes(tmp_path: Path) -> None:
    for cut in (0, 1, 50, 150, START - 2):
        directory = tmp_path / str(cut)
        folder = store_segments(directory, SIGNER.writer, [(NAME, WHOLE[:cut] + bytes(500))])
        assert recover(directory, Disk()) is None
        assert not folder.exists()


def test_w3_a_new_segment_torn_before_its_first_checkpoint_is_removed(tmp_path: Path) -> None:
    first, second = build_segments(SIGNER, [[LEAVES[:2]], [LEAVES[2:]]])
    for cut in (0, 9, 200, len(second[1]) - 2):
        directory = tmp_path / str(cut)
        segments = [first, (second[0], second[1][:cut] + bytes(500))]
        folder = store_segments(directory, SIGNER.writer, segments)
        (folder / "next.prepared").write_bytes(bytes(100))
        recovered = recover(directory, Disk())
        assert recovered is not None
        assert list(load_segments(folder)) == [first]
        assert [path.name for path in folder.iterdir()] == [first[0]]


def test_damage_before_the_last_checkpoint_refuses_to_start(tmp_path: Path) -> None:
    changed = WHOLE[:300] + bytes([WHOLE[300] ^ 1]) + WHOLE[301:]
    folder = store_segments(tmp_path, SIGNER.writer, [(NAME, changed)])

    async def open_journal() -> None:
        FileJournal.open(tmp_path, origin=ORIGIN, signer=FixedSigner("next"), bounds=JournalBounds.within(MIB))

    for _ in range(2):
        with pytest.raises(Corrupt, match=r"byte 300.*iap-authz fsck"):
            asyncio.run(open_journal())
    assert list(load_segments(folder)) == [(NAME, changed)]


def test_a_journal_in_the_directory_of_another_writer_refuses_to_start(tmp_path: Path) -> None:
    store_segments(tmp_path, FixedSigner("other").writer, [AFTER])
    with pytest.raises(Corrupt, match="want that of"):
        recover(tmp_path, Disk())


def test_the_writer_that_wrote_last_is_the_predecessor(tmp_path: Path) -> None:
    for seed, count in (("a", 3), ("b", 6), ("c", 2)):
        signer = FixedSigner(seed)
        store_segments(tmp_path, signer.writer, build_segments(signer, [[sample_leaves(signer, count)]]))
    recovered = recover(tmp_path, Disk())
    assert recovered is not None
    assert recovered.predecessor.writer == FixedSigner("b").writer
    assert len(segment_paths(tmp_path / FixedSigner("a").writer.hex())) == 1
