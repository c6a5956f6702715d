# SPDX-License-Identifier: Apache-2.0
"""Erased, or without its key for another reason: only an Erasure record of the log makes the difference (rule S8)."""

from dataclasses import replace

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import SourceUnavailable
from iap_authz.ports import CoveredRow, Stage
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.trail import erasure_cover
from tests.fakes.erasing import Kept, LogWithVault, in_loop
from tests.fakes.erasure_stores import MemoryErasures
from tests.fakes.sealed import SealingWriter
from tests.fakes.stores import MemoryCompanions

ALICE, BOB = "alice@example.com", "bob@example.com"
ALICES, BOBS = (LeafIndex(1), LeafIndex(3), LeafIndex(5)), (LeafIndex(2), LeafIndex(4))


async def erased() -> tuple[LogWithVault, MemoryErasures, MemoryCompanions, bytes]:
    """A log in which Alice is erased and Bob is not."""
    log = LogWithVault(Kept.memory())
    writer = SealingWriter(vault=log.kept.vault)
    writer.add()
    for number in range(5):
        writer.add_sealed(BOB if number % 2 else ALICE)
    log.ship(writer)
    erasure = await log.ask()
    await log.step()
    store, companions = log.kept.erasures, log.kept.companions
    assert isinstance(store, MemoryErasures)
    assert isinstance(companions, MemoryCompanions)
    return log, store, companions, erasure


@in_loop
async def test_each_leaf_of_an_erasure_is_covered_and_no_other() -> None:
    log, _, _, _ = await erased()
    assert [await log.covers(index) for index in ALICES] == [True] * 3
    assert [await log.covers(index) for index in BOBS] == [False] * 2


@pytest.mark.parametrize("seen", [False, True], ids=["at the first look", "once the round was verified"])
@in_loop
async def test_a_leaf_that_is_only_marked_is_not_covered(seen: bool) -> None:  # noqa: FBT001 -- of the table
    log, store, companions, erasure = await erased()
    if seen:
        assert await log.covers(ALICES[0])
    companions.erase([BOBS[0]], erasure, salt=b"\x01" * 32)
    store.taken[BOBS[0]] = erasure, 1
    assert not await log.covers(BOBS[0])
    assert await log.covers(ALICES[0]) == seen, "a round that is not what its record says covers nothing"


@in_loop
async def test_another_salt_covers_nothing() -> None:
    log, _, companions, _ = await erased()
    companions.rows[ALICES[1]] = replace(companions.rows[ALICES[1]], salt=bytes(32))
    assert [await log.covers(index) for index in ALICES] == [False] * 3


@in_loop
async def test_a_round_without_its_record_covers_nothing() -> None:
    log, store, companions, erasure = await erased()
    for index in (None, LeafIndex(0), LeafIndex(99), BOBS[0]):
        store.kept[erasure, 1] = replace(store.kept[erasure, 1], index=index)
        assert not await LogWithVault(log.kept).covers(ALICES[0])
    del store.kept[erasure, 1]
    store.end(erasure, Stage.COMPLETE)
    assert not await LogWithVault(log.kept).covers(ALICES[0])
    del companions.rows[ALICES[0]]
    assert not await LogWithVault(log.kept).covers(ALICES[0])


@in_loop
async def test_while_an_erasure_is_at_it_nobody_is_told_anything() -> None:
    log, store, _, erasure = await erased()
    store.kept[erasure, 1] = replace(store.kept[erasure, 1], finished=False)
    with pytest.raises(SourceUnavailable):
        await log.covers(ALICES[0])
    store.kept[erasure, 1] = replace(store.kept[erasure, 1], finished=True)
    del store.taken[ALICES[0]]  # it came late, and no round has taken it yet
    with pytest.raises(SourceUnavailable):
        await log.covers(ALICES[0])
    store.end(erasure, Stage.COMPLETE)
    assert not await log.covers(ALICES[0])


@in_loop
async def test_an_index_that_is_being_built_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log, store, _, _ = await erased()
    whole = store.covered

    def unindexed(*args: object, **kwargs: object) -> list[CoveredRow]:
        return [replace(row, leaf_hash=None) for row in whole(*args, **kwargs)]

    monkeypatch.setattr(store, "covered", unindexed)
    with pytest.raises(SourceUnavailable):
        await log.covers(ALICES[0])


@in_loop
async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure_cover, "KEPT_ENTRIES_MAX", 4)
    log, _, _, _ = await erased()
    await log.ask(BOB)
    await log.step()
    for _ in range(2):
        assert [await log.covers(index) for index in (*ALICES, *BOBS)] == [True] * 5
    monkeypatch.setattr(erasure_cover, "KEPT_ENTRIES_MAX", 1)
    assert await LogWithVault(log.kept).covers(ALICES[0])


@in_loop
async def test_pages_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure_cover, "PAGE_ROWS", 1)
    log, _, _, _ = await erased()
    assert [await log.covers(index) for index in ALICES] == [True] * 3


@in_loop
async def test_no_key_that_was_opened_before_opens_anything_after() -> None:
    log = LogWithVault(Kept.memory())
    writer = SealingWriter(vault=log.kept.vault)
    writer.add()
    writer.add_sealed(ALICE)
    log.ship(writer)
    companions = log.kept.companions
    assert isinstance(companions, MemoryCompanions)
    row = companions.rows[LeafIndex(1)]
    await log.ask(dry_run=True)
    await log.step()  # now the opener has the key in memory
    await log.ask()
    await log.step()
    companions.rows[LeafIndex(1)] = row
    record = parse_record(log.kept.leaves.leaves[1])
    assert log.opener.open_all([(LeafIndex(1), record)])[0].outcome == log_pb2.Unsealed.ERASED
