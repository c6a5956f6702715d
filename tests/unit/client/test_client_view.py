# SPDX-License-Identifier: Apache-2.0
"""`LogView`: what is believed, in which order, and what is not (PROTOCOL rules X1, A5, G2)."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import asks
from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.client.view import LogView
from iap_authz.errors import BadProof, ConfigInvalid, Fork, OutOfSequence, Rollback, UnknownWriter
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import EMPTY_ROOT
from tests.fakes.lying_log import LyingLog
from tests.fakes.senders import MemoryCheckpoints, Sender


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


class World:
    """An honest log with one registered writer, and this side's view of it."""

    def __init__(self) -> None:
        self.log = LyingLog()
        self.sender = Sender()
        self.store = MemoryCheckpoints()
        self.view = LogView(self.log.verifier, self.store)

    async def start(self, batches: int = 0) -> "World":
        await asks.register(self.log, self.view, self.sender.registration())
        for _ in range(batches):
            await self.append()
        return self

    async def append(self, count: int = 3) -> log_pb2.AppendResponse:
        return await asks.append(self.log, self.view, self.sender.batch(count))

    async def accept(self, receipt: log_pb2.Receipt) -> None:
        hashes, note = self.sender.held(begin := getattr(receipt, "from"), receipt.to)
        async with self.view.asking():
            await self.view.accept_receipt(
                receipt, hashes, writer=self.sender.writer, begin=begin, end=receipt.to, note=note
            )

    @property
    def size(self) -> int:
        return self.view.last.checkpoint.size


def test_starts_with_the_empty_tree() -> None:
    view = LogView(LyingLog().verifier, MemoryCheckpoints())
    assert (view.last.checkpoint.size, view.last.checkpoint.root, view.last.note) == (0, EMPTY_ROOT, b"")


def test_each_receipt_moves_it_on() -> None:
    async def test() -> None:
        world = await World().start()
        sizes = [world.size]
        for _ in range(3):
            await world.append()
            sizes.append(world.size)
        assert sizes == [1, 6, 10, 14]
        assert [open_checkpoint(note, world.log.verifier).size for note in world.store.notes] == sizes
        assert world.view.last.note == world.store.notes[-1] == world.log.notes[14]
        sent = [request for name, request in world.log.calls if name == "append"]
        quoted = [request.last_log_checkpoint for request in sent if isinstance(request, log_pb2.AppendRequest)]
        assert quoted == world.store.notes[:3]

    run(test())


def test_g2_stored_before_believed() -> None:
    async def test() -> None:
        world = await World().start()
        world.store.entered.clear()
        world.store.gate = threading.Event()
        appending = asyncio.create_task(world.append())
        await asyncio.to_thread(world.store.entered.wait)
        assert world.size == 1
        world.store.gate.set()
        await appending
        assert world.size == 6

    run(test())


def test_g2_what_could_not_be_stored_is_not_believed() -> None:
    async def test() -> None:
        world = await World().start()
        world.store.error = OSError(28, "no space left on device")
        request = world.sender.batch()
        with pytest.raises(OSError, match="no space"):
            await asks.append(world.log, world.view, request)
        assert world.size == 1
        world.store.error = None
        await asks.append(world.log, world.view, request)
        assert world.size == 6

    run(test())


def test_g2_a_store_that_has_begun_outlives_its_caller() -> None:
    async def test() -> None:
        world = await World().start()
        world.store.entered.clear()
        world.store.gate = threading.Event()
        appending = asyncio.create_task(world.append())
        await asyncio.to_thread(world.store.entered.wait)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
        next_turn = asyncio.create_task(world.append())
        await asyncio.sleep(0)
        world.store.gate.set()
        await next_turn
        assert world.size == 10
        assert [open_checkpoint(note, world.log.verifier).size for note in world.store.notes] == [1, 6, 10]
        _, second = (request for _, request in world.log.calls if isinstance(request, log_pb2.AppendRequest))
        assert second.last_log_checkpoint == world.log.notes[6]

    run(test())


def test_it_starts_from_what_was_stored() -> None:
    async def test() -> None:
        world = await World().start(2)
        again = LogView(world.log.verifier, MemoryCheckpoints(world.store.notes[-1]))
        assert again.last == world.view.last

    run(test())


@pytest.mark.parametrize("note", [b"", b"junk", b"\xff" * 100, b"log\n1\nAAAA\n\n", bytes((1 << 20) + 1)], ids=range(5))
def test_a_stored_note_that_is_none_is_the_operators_to_judge(note: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.checkpoint"
    path.write_bytes(note)
    with pytest.raises(ConfigInvalid, match="remove it") as caught:
        LogView(LyingLog().verifier, CheckpointFile(path))
    assert [fault.file for fault in caught.value.faults] == [str(path)]


@pytest.mark.parametrize(
    "other", [LyingLog(seed="another key"), LyingLog(origin="log.example.org/b")], ids=["key", "log"]
)
def test_a_stored_note_of_another_log_is_the_operators_to_judge(other: LyingLog) -> None:
    async def test() -> None:
        world = await World().start()
        with pytest.raises(ConfigInvalid, match="a file of its own"):
            LogView(other.verifier, world.store)

    run(test())


def test_the_same_receipt_again_changes_nothing() -> None:
    async def test() -> None:
        world = await World().start()
        first = await world.append()
        stored = len(world.store.notes)
        again = await asks.append(world.log, world.view, world.sender.request(0, 4))
        assert again.receipt.checkpoint == first.receipt.checkpoint
        assert not again.receipt.consistency_proof
        assert (world.size, len(world.store.notes)) == (6, stored)

    run(test())


def test_a3_an_older_receipt_holds_if_its_tree_is_a_prefix() -> None:
    async def test() -> None:
        world = await World().start(3)
        answer = await asks.append(world.log, world.view, world.sender.request(4, 7))
        assert open_checkpoint(answer.receipt.checkpoint, world.log.verifier).size == 10
        assert (world.size, len(world.store.notes)) == (14, 4)

    run(test())


def test_x1_an_older_receipt_without_its_proof_is_refused() -> None:
    async def test() -> None:
        world = await World().start(3)
        (receipt,) = (
            await world.log.get_receipts(log_pb2.GetReceiptsRequest(writer=world.sender.writer, to=1))
        ).receipts
        with pytest.raises(BadProof, match="got 0 hashes from 6 to 14"):
            await world.accept(receipt)
        assert (world.size, len(world.store.notes)) == (14, 4)

    run(test())


def test_a2_receipts_are_verified_in_order_from_nothing() -> None:
    async def test() -> None:
        world = await World().start(3)
        fresh = LogView(world.log.verifier, store := MemoryCheckpoints())
        request = log_pb2.GetReceiptsRequest(writer=world.sender.writer, to=10)
        found = await asks.receipts(world.log, fresh, request, sent=world.sender.held)
        assert [(getattr(receipt, "from"), receipt.to) for receipt in found] == [(0, 4), (4, 7), (7, 10)]
        assert [open_checkpoint(note, world.log.verifier).size for note in store.notes] == [6, 10, 14]

    run(test())


def test_a2_receipts_of_the_past_need_no_second_question() -> None:
    async def test() -> None:
        world = await World().start(4)
        world.log.calls.clear()
        request = log_pb2.GetReceiptsRequest(writer=world.sender.writer, to=8)
        setattr(request, "from", 5)
        found = await asks.receipts(world.log, world.view, request, sent=world.sender.held)
        assert [(getattr(receipt, "from"), receipt.to) for receipt in found] == [(4, 7), (7, 10)]
        assert [name for name, _ in world.log.calls] == ["get_receipts"]
        assert world.size == 18

    run(test())


def test_only_who_has_the_turn_may_accept() -> None:
    async def test() -> None:
        world = await World().start()
        receipt = (await world.append()).receipt
        note = world.view.last.note
        with pytest.raises(RuntimeError, match="does not have the turn"):
            await world.view.accept_checkpoint(note, ())
        with pytest.raises(RuntimeError, match="does not have the turn"):
            world.view.check_earlier(note, ())
        async with world.view.asking():
            with pytest.raises(RuntimeError, match="one question at a time"):
                await world.accept(receipt)
            stranger = asyncio.create_task(world.view.accept_checkpoint(note, ()))
            with pytest.raises(RuntimeError, match="does not have the turn"):
                await stranger
            assert await world.view.accept_checkpoint(note, ()) == world.view.last

    run(test())


def test_questions_wait_for_one_another() -> None:
    async def test() -> None:
        world = await World().start()
        world.log.hold()
        first = asyncio.create_task(world.append())
        second = asyncio.create_task(asks.newest_checkpoint(world.log, world.view))
        for _ in range(10):
            await asyncio.sleep(0)
        assert [name for name, _ in world.log.calls] == ["register", "append"]
        world.log.release()
        await first
        assert (await second).checkpoint.size == 6

    run(test())


def test_a_question_that_fails_gives_the_turn_back() -> None:
    async def test() -> None:
        world = await World().start()
        world.log.fail_next(ValueError("a defect"))
        with pytest.raises(ValueError, match="a defect"):
            await asks.newest_checkpoint(world.log, world.view)
        assert (await asks.newest_checkpoint(world.log, world.view)).checkpoint.size == 1

    run(test())


def test_a_lost_answer_is_asked_for_again() -> None:
    async def test() -> None:
        world = await World().start()
        request = world.sender.batch()
        world.log.lose_replies(1)
        with pytest.raises(Exception, match="lost"):
            await asks.append(world.log, world.view, request)
        assert world.size == 1
        await asks.append(world.log, world.view, request)
        assert world.size == len(world.log.leaves) == 6

    run(test())


def test_x1_a_smaller_newest_checkpoint_is_a_rollback_with_both_notes() -> None:
    async def test() -> None:
        world = await World().start(2)
        before = world.view.last
        world.log.roll_back(to=6)
        with pytest.raises(Rollback, match="at size 6, want at least 10") as caught:
            await asks.newest_checkpoint(world.log, world.view)
        assert caught.value.evidence == (before.note, world.log.notes[6])
        assert world.view.last == before

    run(test())


def test_x1_two_roots_of_one_size_are_a_fork_with_both_notes() -> None:
    async def test() -> None:
        world = await World().start(2)
        before = world.view.last
        world.log.fork(at=2)
        for question in (
            asks.newest_checkpoint(world.log, world.view),
            asks.believe(world.log, world.view, world.log.notes[10]),
            asks.append(world.log, world.view, world.sender.request(4, 7)),
        ):
            with pytest.raises(Fork, match="two signed roots") as caught:
                await question
            assert caught.value.evidence == (before.note, world.log.notes[10])
        assert world.view.last == before
        assert world.store.notes[-1] == before.note

    run(test())


def test_x1_a_fork_that_grows_is_not_proven() -> None:
    async def test() -> None:
        world = await World().start(2)
        before = world.view.last
        world.log.fork(at=2)
        with pytest.raises(BadProof):
            await world.append()
        with pytest.raises(BadProof):
            await asks.newest_checkpoint(world.log, world.view)
        with pytest.raises(BadProof):
            await asks.believe(world.log, world.view, world.log.notes[6])
        assert world.view.last == before
        assert world.store.notes[-1] == before.note

    run(test())


def test_any_note_of_the_tree_is_believed() -> None:
    async def test() -> None:
        world = await World().start(3)
        fresh = LogView(world.log.verifier, MemoryCheckpoints())
        for size, last in ((6, 6), (14, 14), (10, 14), (1, 14)):
            assert (await asks.believe(world.log, fresh, world.log.notes[size])).size == size
            assert fresh.last.checkpoint.size == last

    run(test())


def test_an_earlier_note_that_is_larger_is_refused() -> None:
    async def test() -> None:
        world = await World().start(2)
        fresh = LogView(world.log.verifier, MemoryCheckpoints(world.log.notes[6]))
        async with fresh.asking():
            with pytest.raises(BadProof, match="got a checkpoint at size 10, want at most 6"):
                fresh.check_earlier(world.log.notes[10], ())

    run(test())


def test_a5_a_log_that_expects_what_it_has_proven_was_rolled_back() -> None:
    async def test() -> None:
        world = await World().start(2)
        world.log.roll_back(to=6)
        with pytest.raises(Rollback, match="got 4 as the next record") as caught:
            await world.append()
        proven, said = caught.value.evidence
        assert log_pb2.Receipt.FromString(proven).to == 7
        assert log_pb2.AppendExpectation.FromString(said).expected_sequence == 4

    run(test())


def test_a5_a_log_that_knows_the_writer_no_more_was_rolled_back() -> None:
    async def test() -> None:
        world = await World().start()
        world.log.roll_back(to=0)
        with pytest.raises(Rollback, match="got no writer") as caught:
            await world.append()
        assert [log_pb2.Receipt.FromString(proof).to for proof in caught.value.evidence] == [0]

    run(test())


def test_a1_a_gap_is_no_rollback() -> None:
    async def test() -> None:
        world = await World().start(2)
        world.sender.batch()
        with pytest.raises(OutOfSequence) as caught:
            await world.append()
        assert caught.value.expected == 7
        fresh = LogView(world.log.verifier, MemoryCheckpoints())
        with pytest.raises(UnknownWriter):
            await asks.append(world.log, fresh, Sender("a stranger").batch())

    run(test())


def test_registering_again_gives_the_same_answer_and_moves_nothing() -> None:
    async def test() -> None:
        world = await World().start(2)
        answer = await asks.register(world.log, world.view, world.sender.registration())
        assert (answer.index, world.size) == (0, 10)

    run(test())


def test_a_second_writer_registers_in_a_tree_that_is_known() -> None:
    async def test() -> None:
        world = await World().start(2)
        second = Sender("second")
        assert (await asks.register(world.log, world.view, second.registration())).index == 10
        await asks.append(world.log, world.view, second.batch())
        assert world.size == 16

    run(test())
