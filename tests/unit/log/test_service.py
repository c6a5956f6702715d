# SPDX-License-Identifier: Apache-2.0
"""The audit log's core over stores in memory: what is taken, what is refused, and what each answer proves."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from threading import Event

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import (
    BadProof,
    BadSignature,
    Corrupt,
    IapError,
    LogFrozen,
    Malformed,
    NotFound,
    OutOfSequence,
    Refused,
    Rollback,
    UnknownWriter,
)
from iap_authz.ports import WriterRow
from iap_authz.records.log_leaves import log_id
from iap_authz.records.record import parse_record
from iap_authz.tlog.batch import Write, parse_stage
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize, leaf_hash
from iap_authz.tlog.proof import check_consistency, check_inclusion
from iap_authz.tlog.tiles import Bundle, render_bundle_path
from tests.fakes.journal import ORIGIN, FixedSigner
from tests.fakes.log_core import LogCore, Shipper, Stores, as_receipt, log_signer, open_core
from tests.fakes.stores import MemoryHeadStore, MemoryLedger, MemoryTileStore


def run(
    test: Callable[[LogCore], Awaitable[None]], stores: Stores | None = None, *, round_seconds: float = 0.001
) -> Stores:
    kept = stores or Stores()

    async def main() -> None:
        async with open_core(kept, round_seconds=round_seconds) as core:
            await test(core)

    asyncio.run(main())
    return kept


async def ship(core: LogCore, writer: Shipper, begin: int, end: int) -> log_pb2.Receipt:
    return (await core.log.append(writer.batch(begin, end))).receipt


async def registered(core: LogCore, seed: str = "writer") -> Shipper:
    writer = Shipper(seed)
    await core.log.register(writer.registration())
    return writer


class TestAppend:
    def test_a_batch_gets_a_receipt_that_proves_it(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            writer.check(await ship(core, writer, 0, 1), 0, 1, key=core.key)
            begin, end = writer.add(300)
            receipt = await ship(core, writer, begin, end)
            writer.check(receipt, begin, end, key=core.key)
            assert (receipt.first_index, receipt.leaves) == (3, 301)
            core.check_whole()

        run(test)

    def test_p1_the_batch_ends_in_the_writers_own_note(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            receipt = await ship(core, writer, 0, 1)
            leaf = parse_record(receipt.writer_checkpoint_leaf)
            assert leaf.writer == log_id(ORIGIN)
            assert leaf.sequence == receipt.first_index + 1
            assert leaf.writer_checkpoint.note == writer.notes[1]

        run(test)

    @pytest.mark.parametrize("restart", [False, True])
    def test_a1_the_same_batch_again_gets_the_identical_receipt(self, *, restart: bool) -> None:
        writer, first = Shipper(), {}

        async def append(core: LogCore) -> None:
            await core.log.register(writer.registration())
            for begin, end in ((0, 1), writer.add(5), writer.add(260)):
                first[begin, end] = await ship(core, writer, begin, end)

        async def again(core: LogCore) -> None:
            for (begin, end), receipt in first.items():
                assert await ship(core, writer, begin, end) == receipt

        async def both(core: LogCore) -> None:
            await append(core)
            await again(core)

        if restart:
            run(again, run(append))
        else:
            run(both)

    def test_a1_a_batch_sent_twice_at_once_is_one(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            receipts = await asyncio.gather(*(ship(core, writer, 0, 1) for _ in range(5)))
            assert all(receipt == receipts[0] for receipt in receipts)
            assert len(core.entries()) == 3

        run(test)

    @pytest.mark.parametrize(("begin", "end"), [(2, 6), (9, 12), (0, 6), (1, 4)])
    def test_a1_anything_else_names_the_expected_sequence(self, begin: int, end: int) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            await ship(core, writer, 0, 1)
            writer.add(2)
            writer.add(1)
            await ship(core, writer, *(1, 3))
            await ship(core, writer, *(3, 4))
            writer.add(2)
            writer.add(6)
            request = writer.batch(0, 1)
            setattr(request, "from", begin)
            request.to = end
            del request.records[:]
            request.records.extend(writer.made.leaves[begin:end])
            with pytest.raises(OutOfSequence) as caught:
                await core.log.append(request)
            assert caught.value.expected == 4
            core.check_whole()

        run(test)

    def test_many_writers_share_rounds(self) -> None:
        async def test(core: LogCore) -> None:
            writers = [await registered(core, f"writer {number}") for number in range(8)]

            async def work(writer: Shipper) -> None:
                await ship(core, writer, 0, 1)
                for count in (3, 40, 1):
                    begin, end = writer.add(count)
                    writer.check(await ship(core, writer, begin, end), begin, end, key=core.key)

            await asyncio.gather(*map(work, writers))
            fold = core.check_whole()
            assert {state.tree.end for state in fold.writers.values()} == {45}

        run(test)

    def test_the_consistency_proof_starts_at_the_checkpoint_that_was_sent(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            first = await ship(core, writer, 0, 1)
            last = open_checkpoint(first.checkpoint, core.key)
            begin, end = writer.add(70)
            receipt = (await core.log.append(writer.batch(begin, end, last=first.checkpoint))).receipt
            new = open_checkpoint(receipt.checkpoint, core.key)
            check_consistency(
                last.size,
                new.size,
                proof=as_receipt(receipt).consistency_proof,
                old_root=last.root,
                new_root=new.root,
            )

        run(test)


class OrderedTiles(MemoryTileStore):
    """A slow disk. Asserts that a stage builds on nothing that is not applied yet, and counts the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.staged = 0
        self.is_busy = Event()

    def create(self, writes: Sequence[Write]) -> None:
        self.is_busy.set()
        Event().wait(0.004)  # while the disk works, the next batches arrive
        for write in writes:
            if write.path.startswith("stage/"):
                self.staged += 1
                for index in range(parse_stage(write.content).edge.size // 256):
                    assert render_bundle_path(Bundle(index)) in self.resources
        super().create(writes)


def test_c1_a_round_is_staged_only_after_the_one_before_is_applied() -> None:
    tiles = OrderedTiles()

    async def test(core: LogCore) -> None:
        writers = [await registered(core, f"writer {number}") for number in range(4)]

        async def work(writer: Shipper, *, late: bool) -> None:
            if late:
                tiles.is_busy.clear()
                await asyncio.to_thread(tiles.is_busy.wait)
            await ship(core, writer, 0, 1)
            for _ in range(6):
                await ship(core, writer, *writer.add(256))
                assert core.sequencer.reader.read_now(LeafIndex(0), 1 << 20)

        await asyncio.gather(*(work(writer, late=number > 1) for number, writer in enumerate(writers)))

    run(test, Stores(tiles=tiles), round_seconds=0.0)
    assert tiles.staged > 6


class TestRefused:
    def bad(self, change: Callable[[log_pb2.AppendRequest, Shipper], None], error: type[IapError]) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            await ship(core, writer, 0, 1)
            begin, end = writer.add(3)
            request = writer.batch(begin, end)
            change(request, writer)
            with pytest.raises(error):
                await core.log.append(request)
            writer.check(await ship(core, writer, begin, end), begin, end, key=core.key)
            core.check_whole()

        run(test)

    def test_an_unknown_writer(self) -> None:
        async def test(core: LogCore) -> None:
            with pytest.raises(UnknownWriter):
                await ship(core, Shipper(), 0, 1)

        run(test)

    def test_w5_a_record_of_another_writer(self) -> None:
        def change(request: log_pb2.AppendRequest, _: Shipper) -> None:
            other = Shipper("other")
            other.add(3)
            request.records[1] = other.made.leaves[2]

        self.bad(change, BadProof)

    def test_w5_a_record_at_another_place(self) -> None:
        def change(request: log_pb2.AppendRequest, writer: Shipper) -> None:
            request.records[0], request.records[1] = writer.made.leaves[2], writer.made.leaves[1]

        self.bad(change, BadProof)

    def test_a_changed_record(self) -> None:
        def change(request: log_pb2.AppendRequest, _: Shipper) -> None:
            leaf = parse_record(request.records[2])
            leaf.refusals.count += 1
            request.records[2] = leaf.SerializeToString(deterministic=True)

        self.bad(change, BadProof)

    def test_a_note_of_another_key(self) -> None:
        def change(request: log_pb2.AppendRequest, _: Shipper) -> None:
            other = Shipper("other")
            other.add(3)
            request.checkpoint = other.notes[4]

        self.bad(change, BadSignature)

    def test_a_note_at_another_size(self) -> None:
        def change(request: log_pb2.AppendRequest, writer: Shipper) -> None:
            request.checkpoint = writer.notes[1]

        self.bad(change, BadProof)

    @pytest.mark.parametrize(("begin", "end", "count"), [(1, 4, 2), (4, 1, 3), (1, 1, 0), (1, 1 << 63, 3), (1, 4, 4)])
    def test_a_shape_that_no_batch_has(self, begin: int, end: int, count: int) -> None:
        def change(request: log_pb2.AppendRequest, _: Shipper) -> None:
            setattr(request, "from", begin)
            request.to = end
            leaf = request.records[0]
            del request.records[:]
            request.records.extend([leaf] * count)

        self.bad(change, Malformed)

    @pytest.mark.parametrize("leaf", [b"", b"\xff", b"x" * 65_536])
    def test_bytes_that_are_no_record(self, leaf: bytes) -> None:
        def change(request: log_pb2.AppendRequest, _: Shipper) -> None:
            request.records[1] = leaf

        self.bad(change, Malformed)

    @pytest.mark.parametrize("token", ["", "guess", "LET ME IN"])
    def test_w2_a_writer_without_a_token(self, token: str) -> None:
        async def test(core: LogCore) -> None:
            with pytest.raises(Refused):
                await core.log.register(Shipper().registration(token=token))

        run(test)

    def test_w2_a_writer_of_another_log(self) -> None:
        async def test(core: LogCore) -> None:
            with pytest.raises(BadProof):
                await core.log.register(Shipper(origin="other.example.com/log").registration())

        run(test)

    def test_w2_a_key_that_is_not_that_of_record_0(self) -> None:
        async def test(core: LogCore) -> None:
            request = Shipper().registration()
            request.public_key = FixedSigner("another").public_key
            with pytest.raises(BadProof):
                await core.log.register(request)

        run(test)

    @pytest.mark.parametrize(
        "key",
        [
            bytes(32),
            b"\x01" + bytes(31),
            bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ],
    )
    def test_w2_a_key_of_small_order_or_not_canonical(self, key: bytes) -> None:
        async def test(core: LogCore) -> None:
            request = Shipper().registration()
            record = parse_record(request.started)
            record.writer_started.public_key = request.public_key = key
            record.writer = sha256(key).digest()
            request.started = record.SerializeToString(deterministic=True)
            with pytest.raises((Malformed, BadSignature, BadProof)):
                await core.log.register(request)
            assert core.entries() == []

        run(test)

    def test_a_registration_again_is_the_same_one(self) -> None:
        async def test(core: LogCore) -> None:
            writer = Shipper()
            answers = await asyncio.gather(*(core.log.register(writer.registration()) for _ in range(3)))
            assert {answer.index for answer in answers} == {0}
            assert len(core.entries()) == 1

        run(test)


class TestForks:
    def test_w6_two_notes_of_one_size_are_published_and_retire_the_writer(self) -> None:
        async def test(core: LogCore) -> None:
            writer, twin = await registered(core), Shipper()
            await ship(core, writer, 0, 1)
            begin, end = writer.add(2)
            await ship(core, writer, begin, end)
            twin.made.log, twin.notes[3] = twin.made.log.commit([leaf_hash(b"one"), leaf_hash(b"two")])
            request = writer.batch(begin, end)
            request.checkpoint = twin.notes[3]
            with pytest.raises(Refused):
                await core.log.append(request)
            alert, retired = (parse_record(leaf) for leaf in core.entries()[-2:])
            assert list(alert.alert.evidence) == [writer.notes[3], twin.notes[3]]
            assert retired.writer_retired.conflicting_checkpoint == twin.notes[3]
            begin, end = writer.add(1)
            with pytest.raises(Refused):
                await ship(core, writer, begin, end)
            core.check_whole()

        run(test)

    def test_g4_a_larger_checkpoint_of_ours_freezes_the_log(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            ahead = Checkpoint(origin=ORIGIN, size=TreeSize(1000), root=NodeHash(bytes(32)))
            note = sign_checkpoint(ahead, log_signer())
            with pytest.raises(LogFrozen):
                await core.log.append(writer.batch(0, 1, last=note))
            with pytest.raises(LogFrozen):
                await ship(core, writer, 0, 1)
            frozen = core.stores.heads.load_freeze()
            assert frozen is not None
            assert note in frozen.evidence
            assert (await core.log.get_state(log_pb2.GetLogStateRequest())).frozen

        stores = run(test)

        async def after(core: LogCore) -> None:
            with pytest.raises(LogFrozen):
                await core.log.register(Shipper("late").registration())
            assert (await core.log.get_checkpoint(log_pb2.GetCheckpointRequest())).checkpoint

        run(after, stores)

    def test_g4_another_root_of_ours_freezes_the_log(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            other = Checkpoint(origin=ORIGIN, size=TreeSize(1), root=NodeHash(bytes(32)))
            with pytest.raises(LogFrozen):
                await core.log.append(writer.batch(0, 1, last=sign_checkpoint(other, log_signer())))

        run(test)

    def test_a_quoted_checkpoint_of_somebody_else_is_refused_and_freezes_nothing(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            other = Checkpoint(origin=ORIGIN, size=TreeSize(1000), root=NodeHash(bytes(32)))
            with pytest.raises(BadSignature):
                await core.log.append(writer.batch(0, 1, last=sign_checkpoint(other, log_signer("forger"))))
            await ship(core, writer, 0, 1)

        run(test)


class TestRestart:
    def filled(self) -> tuple[Stores, Shipper]:
        writer = Shipper()

        async def fill(core: LogCore) -> None:
            await core.log.register(writer.registration())
            await ship(core, writer, 0, 1)
            for _ in range(3):
                await ship(core, writer, *writer.add(200))

        return run(fill), writer

    def test_everything_is_there_and_goes_on(self) -> None:
        stores, writer = self.filled()

        async def test(core: LogCore) -> None:
            assert core.check_whole().writers[writer.made.writer].tree.end == 601
            begin, end = writer.add(9)
            writer.check(await ship(core, writer, begin, end), begin, end, key=core.key)

        run(test, stores)

    def test_a4_a_lost_ledger_is_rebuilt_from_the_leaves(self) -> None:
        stores, writer = self.filled()
        stores.ledger = MemoryLedger()

        async def test(core: LogCore) -> None:
            begin, end = writer.add(9)
            writer.check(await ship(core, writer, begin, end), begin, end, key=core.key)
            writer.check(await ship(core, writer, 1, 201), 1, 201, key=core.key)

        run(test, stores)

    def test_a4_a_damaged_ledger_is_rebuilt_from_the_leaves(self) -> None:
        stores, writer = self.filled()
        ledger = DamagedLedger()
        stores.ledger = ledger

        async def test(core: LogCore) -> None:
            begin, end = writer.add(9)
            writer.check(await ship(core, writer, begin, end), begin, end, key=core.key)

        run(test, stores)
        assert ledger.is_cleared

    def test_f20_an_older_tile_store_is_refused(self) -> None:
        stores, _ = self.filled()
        stores.tiles = MemoryTileStore()
        with pytest.raises(Rollback, match="older copy of the tile store"):
            run(never, stores)

    def test_f20_an_older_head_store_is_refused(self) -> None:
        stores, _ = self.filled()
        stores.heads = MemoryHeadStore()
        with pytest.raises(Rollback, match="head store"):
            run(never, stores)


class DamagedLedger(MemoryLedger):
    """A row of it does not hold, until it is cleared."""

    is_cleared = False

    def load(self) -> tuple[TreeSize, list[WriterRow]]:
        if not self.is_cleared:
            raise Corrupt("writers", "got a row that is not what was written")
        return super().load()

    def clear(self) -> None:
        self.is_cleared = True
        super().clear()


async def never(_: LogCore) -> None:
    raise AssertionError("the log has started")


class TestProofs:
    def test_inclusion_and_consistency_at_every_size(self) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            await ship(core, writer, 0, 1)
            await ship(core, writer, *writer.add(20))
            entries, signed = core.entries(), core.sequencer.reader.view.signed.checkpoint
            for index, entry in enumerate(entries):
                request = log_pb2.GetInclusionProofRequest(index=index)
                answer = await core.log.prove_inclusion(request)
                proof = [NodeHash(one) for one in answer.proof]
                check_inclusion(leaf_hash(entry), index, size=signed.size, proof=proof, root=signed.root)
            for size in range(1, len(entries) + 1):
                consistency = await core.log.prove_consistency(log_pb2.GetConsistencyProofRequest(old_size=size))
                check_consistency(
                    size,
                    signed.size,
                    proof=[NodeHash(one) for one in consistency.proof],
                    old_root=await core.sequencer.reader.root_at(size),
                    new_root=signed.root,
                )

        run(test)

    @pytest.mark.parametrize(
        ("request_", "error"),
        [
            (log_pb2.GetInclusionProofRequest(index=5, tree_size=3), Malformed),
            (log_pb2.GetInclusionProofRequest(index=0, tree_size=1 << 63), Malformed),
            (log_pb2.GetInclusionProofRequest(index=(1 << 64) - 1), Malformed),
            (log_pb2.GetInclusionProofRequest(leaf_hash=b"short"), Malformed),
            (log_pb2.GetInclusionProofRequest(leaf_hash=bytes(32)), NotFound),
        ],
        ids=["beyond the size", "no size", "no index", "no hash", "unknown"],
    )
    def test_a_question_without_an_answer(
        self, request_: log_pb2.GetInclusionProofRequest, error: type[IapError]
    ) -> None:
        async def test(core: LogCore) -> None:
            writer = await registered(core)
            await ship(core, writer, 0, 1)
            with pytest.raises(error):
                await core.log.prove_inclusion(request_)

        run(test)
