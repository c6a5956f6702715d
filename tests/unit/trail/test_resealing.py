# SPDX-License-Identifier: Apache-2.0
"""Keys that are sealed anew: the same secrets under the newest key of the vault, and nothing of erased ones (S7)."""

import asyncio
from contextlib import suppress

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import SourceUnavailable
from iap_authz.ports import NO_ERASURE
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.trail import resealing
from iap_authz.trail.reader import TrailReader
from iap_authz.trail.resealing import Resealing
from tests.fakes.erasing import Kept, LogWithVault, in_loop, run_here
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import SealingWriter
from tests.fakes.stores import MemoryCompanions
from tests.fakes.timers import Timers, until

COUNT = 9


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


def log_of(count: int = COUNT) -> tuple[LogWithVault, MemoryCompanions]:
    log = LogWithVault(Kept.memory())
    writer = SealingWriter(vault=log.kept.vault)
    writer.add()
    for number in range(count):
        writer.add_sealed(f"person-{number}")
    log.ship(writer)
    assert isinstance(log.kept.companions, MemoryCompanions)
    return log, log.kept.companions


def resealing_of(log: LogWithVault, *, timers: Timers | None = None) -> Resealing:
    pause = no_pause if timers is None else timers.pause
    reader = TrailReader(origin=ORIGIN, leaves=log.kept.leaves, index=log.kept.index, run=run_here, pause=pause)
    return Resealing(reader, companions=log.kept.companions, holds=log.kept.holds, vault=log.kept.vault)


@pytest.mark.parametrize("size", [1, 4, 100])
@in_loop
async def test_every_key_moves_and_every_record_still_opens(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "SLICE_KEYS", size)
    log, companions = log_of()
    before = {key.sealed for key in companions.subject_keys.values()}
    log.kept.vault.add(2)
    assert await resealing_of(log).reseal_all() == COUNT
    log.kept.vault.drop(1)
    assert companions.count_keys() == {2: COUNT}
    assert not before & {key.sealed for key in companions.subject_keys.values()}
    assert {log.outcome(at) for at in range(1, COUNT + 1)} == {log_pb2.Unsealed.OPENED}
    assert await resealing_of(log).reseal_all() == 0


@in_loop
async def test_erased_keys_stay_erased() -> None:
    log, companions = log_of()
    await log.ask("person-3")
    await log.step()
    log.kept.vault.add(2)
    assert await resealing_of(log).reseal_all() == COUNT  # one is gone, and the record of the reading has one
    erased = [key for key in companions.subject_keys.values() if key.erasure != NO_ERASURE]
    assert [set(key.sealed) for key in erased] == [{0}]
    assert log.outcome(4) == log_pb2.Unsealed.ERASED


@in_loop
async def test_what_does_not_open_stays_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "SLICE_KEYS", 2)
    log, companions = log_of()
    number = companions.rows[LeafIndex(2)].key
    companions.reseal({number: bytes(80)}, epoch=1)
    log.kept.vault.add(2)
    service = resealing_of(log)
    assert await service.reseal_all() == COUNT - 1
    assert await service.reseal_all() == 0
    assert companions.count_keys() == {1: 1, 2: COUNT - 1}
    assert sum("cannot be opened" in record.message for record in caplog.records) == 1


@in_loop
async def test_a_vault_that_opens_nothing_ends_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "SLICE_KEYS", 2)
    monkeypatch.setattr(resealing, "UNOPENED_MAX", 4)
    log, companions = log_of()
    log.kept.vault.add(2)
    log.kept.vault.drop(1)
    assert await resealing_of(log).reseal_all() == 0
    assert companions.count_keys() == {1: COUNT}


@in_loop
async def test_a_vault_that_is_away_is_asked_again() -> None:
    log, companions = log_of()
    timers, vault = Timers(), log.kept.vault
    vault.add(2)
    vault.down = True
    service = resealing_of(log, timers=timers)
    with pytest.raises(SourceUnavailable):
        await service.reseal_all()
    task = asyncio.ensure_future(service.run())
    await until(lambda: timers.pauses == [resealing.LOOK_SECONDS])
    vault.down = False
    await until(lambda: companions.count_keys() == {2: COUNT}, lambda: timers.advance(resealing.LOOK_SECONDS))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
