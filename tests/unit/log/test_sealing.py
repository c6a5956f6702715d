# SPDX-License-Identifier: Apache-2.0
"""The epochs in force: durable before anybody hears of them, rising, and said in a note that the log signed."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from iap_authz.errors import Rollback
from iap_authz.log.sealing import Sealing
from iap_authz.records.admission import SealRules
from iap_authz.records.seal import parse_beside
from iap_authz.records.seal_settings import SealSettings, open_settings
from iap_authz.tlog.note import NoteSigner
from tests.fakes.journal import ORIGIN
from tests.fakes.log_core import log_signer
from tests.fakes.sealed import TestVault
from tests.fakes.stores import MemorySealEpochs

T = TypeVar("T")
KEYS = [log_signer().verifier()]


async def at_once(job: Callable[[], T]) -> T:
    await asyncio.sleep(0)
    return job()


def sealing_of(
    epochs: MemorySealEpochs, vault: TestVault | None, *, signers: tuple[NoteSigner, ...] = (log_signer(),)
) -> Sealing:
    return Sealing(vault, epochs, signers=signers, in_thread=at_once)


def settings_of(sealing: Sealing) -> SealSettings:
    return open_settings(sealing.note, KEYS)


def test_without_a_vault_nothing_is_said_and_nothing_sealed_taken() -> None:
    sealing = sealing_of(MemorySealEpochs(), None)
    assert (sealing.note, sealing.rules, sealing.seal_epoch, sealing.vault_epoch) == (b"", None, 0, 0)
    assert sealing.prepare_key(bytes(32)) is None


def test_the_first_start_with_a_vault_takes_its_newest_key() -> None:
    epochs, vault = MemorySealEpochs(), TestVault(1, 2)
    sealing = sealing_of(epochs, vault)
    assert settings_of(sealing) == SealSettings(origin=ORIGIN, seal_epoch=0, vault=vault.vault_key(2))
    assert epochs.stored == [(0, 2)]
    assert sealing.rules == SealRules(seal_epoch=0, vault_epochs=frozenset({1, 2}))


def test_another_start_changes_nothing() -> None:
    epochs, vault = MemorySealEpochs(), TestVault(1)
    first = sealing_of(epochs, vault).note
    assert sealing_of(epochs, vault).note == first
    assert epochs.stored == [(0, 1)]


def test_s7_a_newer_key_raises_both_epochs_at_the_next_start() -> None:
    epochs, vault = MemorySealEpochs(), TestVault(1)
    sealing_of(epochs, vault)
    vault.add(3)
    vault.drop(1)
    sealing = sealing_of(epochs, vault)
    assert settings_of(sealing) == SealSettings(origin=ORIGIN, seal_epoch=1, vault=vault.vault_key(3))
    assert sealing.rules == SealRules(seal_epoch=1, vault_epochs=frozenset({3}))


def test_an_older_copy_of_the_vault_is_refused() -> None:
    epochs = MemorySealEpochs()
    sealing_of(epochs, TestVault(1, 2))
    with pytest.raises(Rollback, match="an older copy of the vault"):
        sealing_of(epochs, TestVault(1))
    assert epochs.stored == [(0, 2)]


def test_s5_an_epoch_is_durable_before_it_is_said() -> None:
    async def main() -> None:
        epochs = MemorySealEpochs()
        sealing = sealing_of(epochs, TestVault())
        before = sealing.note
        raising = asyncio.ensure_future(sealing.raise_epoch())
        await asyncio.sleep(0)
        assert (epochs.load(), sealing.note) == ((0, 1), before)
        assert await raising == 1
        assert epochs.load() == (1, 1)
        assert settings_of(sealing).seal_epoch == sealing.seal_epoch == 1
        assert sealing.rules is not None
        assert sealing.rules.seal_epoch == 1

    asyncio.run(main())


def test_s5_many_raises_at_once_are_one_after_the_other() -> None:
    async def main() -> None:
        epochs = MemorySealEpochs()
        sealing = sealing_of(epochs, TestVault())
        assert await asyncio.gather(*(sealing.raise_epoch() for _ in range(5))) == [1, 2, 3, 4, 5]
        assert epochs.load() == (5, 1)
        assert await sealing.raise_epoch(at_least=40) == 40
        assert await sealing.raise_epoch(at_least=3) == 41

    asyncio.run(main())


def test_a_raise_that_is_not_stored_is_none() -> None:
    class Broken(MemorySealEpochs):
        broken = False

        def store(self, seal_epoch: int, vault_epoch: int) -> None:
            if self.broken:
                raise OSError("no room")
            super().store(seal_epoch, vault_epoch)

    async def main() -> None:
        epochs = Broken()
        sealing = sealing_of(epochs, TestVault())
        before, epochs.broken = sealing.note, True
        with pytest.raises(OSError, match="no room"):
            await sealing.raise_epoch()
        assert (sealing.note, sealing.seal_epoch) == (before, 0)
        epochs.broken = False
        assert await sealing.raise_epoch() == 1

    asyncio.run(main())


def test_a_caller_that_goes_away_takes_nothing_back() -> None:
    async def main() -> None:
        epochs = MemorySealEpochs()
        sealing = sealing_of(epochs, TestVault())
        raising = asyncio.ensure_future(sealing.raise_epoch())
        await asyncio.sleep(0)
        raising.cancel()
        with pytest.raises(asyncio.CancelledError):
            await raising
        assert await sealing.raise_epoch() == 2
        assert epochs.stored == [(0, 1), (1, 1), (2, 1)]

    asyncio.run(main())


def test_an_epoch_is_raised_without_a_vault_too() -> None:
    async def main() -> None:
        epochs = MemorySealEpochs()
        sealing = sealing_of(epochs, None)
        assert await sealing.raise_epoch() == 1
        assert (epochs.load(), sealing.note) == ((1, 0), b"")

    asyncio.run(main())


def test_the_note_is_signed_by_each_key_of_the_log() -> None:
    sealing = sealing_of(MemorySealEpochs(), TestVault(), signers=(log_signer(), log_signer("newer")))
    for key in (*KEYS, log_signer("newer").verifier()):
        assert open_settings(sealing.note, [key]).seal_epoch == 0


def test_a_key_is_taken_in_the_epochs_in_force() -> None:
    sealing = sealing_of(MemorySealEpochs(), TestVault(1, 2))
    prepared = sealing.prepare_key(b"\x05" * 32)
    assert prepared is not None
    companion = parse_beside(bytes(32) + sealing.take_key(prepared).companion)
    assert (companion.vault_epoch, companion.seal_epoch) == (2, 0)
