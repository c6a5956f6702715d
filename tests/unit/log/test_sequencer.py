# SPDX-License-Identifier: Apache-2.0
"""The sequencer's bounds, its clock, and its keys."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from threading import Event

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import BadSignature, Corrupt, LogFrozen, QueueFull, Unavailable
from iap_authz.log import sequencer
from iap_authz.ports import Freeze
from iap_authz.tlog.batch import Write
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import NodeHash, TreeSize
from iap_authz.tlog.note import NoteSigner, VerifierKey
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN
from tests.fakes.log_core import Shipper, Stores, log_signer, open_core, start_core
from tests.fakes.stores import MemoryHeadStore, MemoryTileStore


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


def sign_keys(*seeds: str) -> tuple[NoteSigner, ...]:
    return tuple(map(log_signer, seeds))


def retired_keys(*seeds: str) -> tuple[VerifierKey, ...]:
    return tuple(signer.verifier() for signer in map(log_signer, seeds))


Keys = tuple[tuple[NoteSigner, ...], tuple[VerifierKey, ...]]

LIVES: dict[str, list[Keys]] = {
    "restarted with both": [(sign_keys("old"), ()), (sign_keys("old", "new"), ()), (sign_keys("new"), ())],
    "finished at once": [(sign_keys("old"), ()), (sign_keys("new"), retired_keys("old"))],
}


@pytest.mark.parametrize("name", LIVES)
def test_a_log_that_nobody_writes_to_starts_after_a_rotation_and_publishes_under_the_new_key(name: str) -> None:
    stores, writer, first = Stores(), Shipper(), LIVES[name][0]

    async def live(keys: Keys, *, filling: bool) -> None:
        async with open_core(stores, signers=keys[0], retired=keys[1]) as core:
            if filling:
                await core.log.register(writer.registration())
                await core.log.append(writer.batch(0, 1))

    for keys in LIVES[name]:
        asyncio.run(live(keys, filling=keys is first))
    note = stores.tiles.read("checkpoint")
    assert note is not None
    assert open_checkpoint(note, log_signer("new").verifier()).size == 3
    with pytest.raises(BadSignature):
        open_checkpoint(note, log_signer("old").verifier())


def test_a_published_checkpoint_of_a_key_that_was_never_ours_is_refused() -> None:
    stores, writer = Stores(), Shipper()

    async def live(*seeds: str) -> None:
        async with open_core(stores, signers=sign_keys(*seeds)) as core:
            await core.log.register(writer.registration())

    asyncio.run(live("somebody"))
    with pytest.raises(Corrupt, match="not signed by this log's key"):
        asyncio.run(live("new"))


def test_a_writer_that_was_away_during_a_rotation_goes_on() -> None:
    stores, writer = Stores(), Shipper()
    spans = [(0, 1), writer.add(3)]

    async def live(keys: Keys, span: tuple[int, int], last: bytes) -> bytes:
        async with open_core(stores, signers=keys[0], retired=keys[1]) as core:
            await core.log.register(writer.registration())
            return (await core.log.append(writer.batch(*span, last=last))).receipt.checkpoint

    seen = asyncio.run(live((sign_keys("old"), ()), spans[0], b""))
    asyncio.run(live((sign_keys("new"), retired_keys("old")), spans[1], seen))


def test_an_old_receipt_that_no_key_of_today_signed_is_made_for_the_newest_checkpoint() -> None:
    stores, writer = Stores(), Shipper()
    spans = [(0, 1), writer.add(300), writer.add(5)]
    new = log_signer("new").verifier()

    async def fill() -> None:
        async with open_core(stores, signers=sign_keys("old")) as core:
            await core.log.register(writer.registration())
            for span in spans[:2]:
                await core.log.append(writer.batch(*span))

    async def ask() -> None:
        async with open_core(stores, signers=sign_keys("new"), retired=retired_keys("old")) as core:
            await core.log.append(writer.batch(*spans[2]))
            for span in spans:
                writer.check((await core.log.append(writer.batch(*span))).receipt, *span, key=new)
            request = log_pb2.GetReceiptsRequest(writer=writer.made.writer, to=spans[-1][1])
            receipts = (await core.log.get_receipts(request)).receipts
            assert {open_checkpoint(one.checkpoint, new).size for one in receipts} == {core.sequencer.reader.size()}

    asyncio.run(fill())
    asyncio.run(ask())


def ahead_note() -> bytes:
    checkpoint = Checkpoint(origin=ORIGIN, size=TreeSize(10**6), root=NodeHash(bytes(32)))
    return sign_checkpoint(checkpoint, log_signer())


class BusyHeads(MemoryHeadStore):
    """Freezes only once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let = Event(), Event()

    def freeze(self, freeze: Freeze) -> None:
        self.asked.set()
        self.let.wait(10)
        super().freeze(freeze)


def test_g4_a_freeze_is_stored_although_whoever_proved_it_has_gone() -> None:
    heads, writer = BusyHeads(), Shipper()
    stores = Stores(heads=heads)

    async def first() -> None:
        async with open_core(stores) as core:
            await core.log.register(writer.registration())
            proving = asyncio.ensure_future(core.log.append(writer.batch(0, 1, last=ahead_note())))
            await asyncio.to_thread(heads.asked.wait)
            proving.cancel()
            await asyncio.gather(proving, return_exceptions=True)
            heads.let.set()

    async def second() -> None:
        async with open_core(stores) as core:
            with pytest.raises(LogFrozen):
                await core.log.append(writer.batch(0, 1))

    asyncio.run(first())
    assert heads.load_freeze() is not None
    asyncio.run(second())


class BrokenHeads(MemoryHeadStore):
    def freeze(self, freeze: Freeze) -> None:
        raise OSError("no") from LogFrozen(freeze.because)


def test_g4_a_freeze_that_cannot_be_stored_ends_the_process() -> None:
    async def test() -> None:
        core, writer = start_core(Stores(heads=BrokenHeads())), Shipper()
        running = asyncio.ensure_future(core.sequencer.run())
        await core.log.register(writer.registration())
        with pytest.raises(LogFrozen):
            await core.log.append(writer.batch(0, 1, last=ahead_note()))
        with pytest.raises(OSError, match="no"):
            await running

    asyncio.run(test())


def test_a_freeze_while_a_round_waits_for_the_clock_ends_nothing_and_commits_nothing() -> None:
    clock, writer, other = FrozenClock(), Shipper(), Shipper("other")
    stores = Stores(clock=clock)  # type: ignore[arg-type]

    async def test() -> None:
        async with open_core(stores) as core:
            await core.log.register(writer.registration())
            await core.log.register(other.registration())
            head, clock.stands = stores.heads.load(), True
            waiting = asyncio.ensure_future(core.log.append(writer.batch(0, 1)))
            await asyncio.sleep(0.02)
            with pytest.raises(LogFrozen):
                await core.log.append(other.batch(0, 1, last=ahead_note()))
            with pytest.raises(LogFrozen):
                await waiting
            with pytest.raises(LogFrozen):
                await core.log.append(writer.batch(0, 1))
            clock.stands = False
            assert stores.heads.load() == head

    asyncio.run(test())


def test_a_registration_that_comes_again_before_its_round_is_committed_waits_for_it() -> None:
    class SlowTiles(MemoryTileStore):
        staging = Event()

        def create(self, writes: Sequence[Write]) -> None:
            self.staging.set()
            Event().wait(0.05)
            super().create(writes)

    tiles, writer = SlowTiles(), Shipper()

    async def test() -> None:
        async with open_core(Stores(tiles=tiles)) as core:
            first = asyncio.ensure_future(core.log.register(writer.registration()))
            await asyncio.to_thread(tiles.staging.wait)
            again = await core.log.register(writer.registration())
            assert again.index == (await first).index == 0
            assert len(core.entries()) == 1

    asyncio.run(test())
