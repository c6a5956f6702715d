# SPDX-License-Identifier: Apache-2.0
"""The sequencer's bounds, its clock, and its keys."""

import asyncio
from datetime import datetime

import pytest

from iap_authz.errors import BadSignature, QueueFull, Unavailable
from iap_authz.log import sequencer
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.note import NoteSigner
from tests.fakes.clock import START
from tests.fakes.log_core import Shipper, Stores, log_signer, open_core, start_core


class FrozenClock:
    """Stands still once it is told to."""

    def __init__(self) -> None:
        self.stands = False
        self._ticks = 0

    def now(self) -> datetime:
        self._ticks += 0 if self.stands else 1
        return START.replace(microsecond=self._ticks)

    def monotonic(self) -> float:
        return 0.0


def test_a_full_queue_says_when_to_come_again_and_takes_the_batch_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with open_core(Stores()) as core:
            writer = Shipper()
            await core.log.register(writer.registration())
            with monkeypatch.context() as patch:
                patch.setattr(sequencer, "QUEUE_MAX_BYTES", 100)
                with pytest.raises(QueueFull) as caught:
                    await core.log.append(writer.batch(0, 1))
            assert caught.value.retry_seconds == sequencer.RETRY_SECONDS
            writer.check((await core.log.append(writer.batch(0, 1))).receipt, 0, 1, key=core.key)

    asyncio.run(test())


def test_t3_a_clock_that_stands_still_ends_the_log_and_signs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "CLOCK_WAIT_SECONDS", 0.05)
    clock, writer = FrozenClock(), Shipper()
    stores = Stores(clock=clock)  # type: ignore[arg-type]

    async def test() -> None:
        core = start_core(stores)
        running = asyncio.ensure_future(core.sequencer.run())
        await core.log.register(writer.registration())
        head = stores.heads.load()
        clock.stands = True
        with pytest.raises(Unavailable, match="stopped"):
            await core.log.append(writer.batch(0, 1))
        with pytest.raises(Unavailable, match="want one after"):
            await running
        assert stores.heads.load() == head

    asyncio.run(test())
    clock.stands = False

    async def again() -> None:
        async with open_core(stores) as core:
            writer.check((await core.log.append(writer.batch(0, 1))).receipt, 0, 1, key=core.key)

    asyncio.run(again())


def test_f25_a_key_is_rotated_while_writers_go_on() -> None:
    old, new = log_signer("old"), log_signer("new")
    stores, writer = Stores(), Shipper()
    notes: list[bytes] = []
    batches = [(0, 1), writer.add(3), writer.add(4)]

    async def live(signers: tuple[NoteSigner, ...], batch: tuple[int, int], last: bytes) -> None:
        async with open_core(stores, signers=signers) as core:
            await core.log.register(writer.registration())
            receipt = (await core.log.append(writer.batch(*batch, last=last))).receipt
            for signer in signers:
                writer.check((await core.log.append(writer.batch(*batch))).receipt, *batch, key=signer.verifier())
            notes.append(receipt.checkpoint)

    for signers, batch in zip(((old,), (old, new), (new,)), batches, strict=True):
        asyncio.run(live(signers, batch, notes[-1] if notes else b""))
    assert [open_checkpoint(note, old.verifier()).size for note in notes[:2]] == [3, 7]
    assert [open_checkpoint(note, new.verifier()).size for note in notes[1:]] == [7, 12]
    with pytest.raises(BadSignature):
        open_checkpoint(notes[2], old.verifier())
    with pytest.raises(BadSignature):
        open_checkpoint(notes[0], new.verifier())
