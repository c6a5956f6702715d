# SPDX-License-Identifier: Apache-2.0
"""A writer with a good token that wants to harm the log: nothing it can send keeps the log from starting again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256

import pytest
from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import IapError, LogFrozen, Malformed, OutOfSequence, Refused
from iap_authz.log.service import RECEIPTS_SPAN_RECORDS
from iap_authz.model.ids import Sequence
from iap_authz.records.record import parse_record
from iap_authz.tlog.checkpoint import Checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import NodeHash, TreeSize, leaf_hash
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, counted
from tests.fakes.log_core import LogCore, Shipper, Stores, log_signer, open_core
from tests.fakes.made_log import MadeWriter
from tests.fakes.sealed import VAULT, SealingWriter, TestVault, seal_of


def play(
    test: Callable[[LogCore, Shipper], Awaitable[None]],
    *,
    vault: TestVault | None = None,
    made: MadeWriter | None = None,
) -> None:
    """One life of a log with a writer, then the next: it starts, and all its leaves fit."""
    stores, writer = Stores(vault=vault), Shipper(made=made)

    async def first() -> None:
        async with open_core(stores) as core:
            await core.log.register(writer.registration())
            await test(core, writer)

    async def second() -> None:
        async with open_core(stores) as core:
            core.check_whole()
            honest = Shipper("honest")
            await core.log.register(honest.registration())
            await core.log.append(honest.batch(0, 1))

    asyncio.run(first())
    asyncio.run(second())


def commit(writer: Shipper, leaves: list[bytes]) -> tuple[int, int]:
    """Sign whatever it likes as its next records."""
    begin = len(writer.made.leaves)
    writer.made.leaves += leaves
    writer.made.log, note = writer.made.log.commit([leaf_hash(leaf) for leaf in leaves])
    writer.notes[begin + len(leaves)] = note
    return begin, begin + len(leaves)


def record(writer: Shipper, body: Message, sequence: int | None = None) -> bytes:
    number = len(writer.made.leaves) if sequence is None else sequence
    made = parse_record(counted(writer.made.writer, Sequence(number), count=1, time=START + timedelta(hours=1)))
    made.ClearField("refusals")
    field = next(one for one in made.DESCRIPTOR.fields if one.message_type is body.DESCRIPTOR)
    getattr(made, field.name).CopyFrom(body)
    getattr(made, field.name).SetInParent()
    return made.SerializeToString(deterministic=True)


def quote(origin: str = ORIGIN, *, key: str = "forger", size: int = 10**6) -> bytes:
    checkpoint = Checkpoint(origin=origin, size=TreeSize(size), root=NodeHash(bytes(32)))
    return sign_checkpoint(checkpoint, log_signer(key, origin))


@pytest.mark.parametrize(
    "note",
    [
        b"junk",
        b"\xff" * 9,
        quote(),
        quote(size=1),
        quote("other.example.com/log"),
        quote("other.example.com", key="log"),
    ],
    ids=["junk", "bytes", "beyond", "within", "other", "other by our key"],
)
@pytest.mark.parametrize("kind", ["heartbeat", "stopped"])
def test_g3_a_quoted_checkpoint_that_cannot_be_is_refused(note: bytes, kind: str) -> None:
    body = {
        "heartbeat": record_pb2.Heartbeat(log_checkpoint=note),
        "stopped": record_pb2.WriterStopped(log_checkpoint=note),
    }[kind]

    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(0, 1))
        begin, end = commit(writer, [record(writer, body)])
        with pytest.raises(IapError):
            await core.log.append(writer.batch(begin, end))

    play(test)


def test_w2_another_record_0_than_the_registered_one_is_refused() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        started = parse_record(writer.made.leaves[0])
        started.writer_started.possession_signature = bytes(64)
        twin = Shipper()
        twin.made.leaves.clear()
        twin.made.log = type(twin.made.log)(tree=twin.made.log.tree.empty(), signer=twin.made.log.signer)
        commit(twin, [started.SerializeToString(deterministic=True)])
        with pytest.raises(IapError):
            await core.log.append(twin.batch(0, 1))

    play(test)


def test_a_note_with_junk_beside_its_signature_is_refused() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        request = writer.batch(0, 1)
        junk = sign_checkpoint(
            Checkpoint(origin="x", size=TreeSize(1), root=NodeHash(bytes(32))), log_signer(origin="x")
        )
        request.checkpoint += junk.split(b"\n\n")[1] * 3_000
        with pytest.raises(Malformed):
            await core.log.append(request)

    play(test)


def test_a_workload_that_fills_a_leaf_is_refused() -> None:
    async def test(core: LogCore, _: Shipper) -> None:
        big = Shipper("big")
        started = parse_record(big.made.leaves[0])
        started.writer_started.workload = "x" * 60_000
        big.made.leaves.clear()
        big.made.log = type(big.made.log)(tree=big.made.log.tree.empty(), signer=big.made.log.signer)
        big.notes.clear()
        commit(big, [started.SerializeToString(deterministic=True)])
        with pytest.raises(Malformed):
            await core.log.register(big.registration())

    play(test)


def test_w6_a_writer_that_forks_many_times_at_once_is_retired_once_and_sends_nothing_after() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(0, 1))
        await core.log.append(writer.batch(*writer.add(2)))
        twin = Shipper()
        twin.made.log, note = twin.made.log.commit([leaf_hash(b"one"), leaf_hash(b"two")])
        fork = writer.batch(1, 3)
        fork.checkpoint = note
        begin, end = writer.add(1)
        answers = await asyncio.gather(
            *(core.log.append(request) for request in (fork, fork, writer.batch(begin, end), fork)),
            return_exceptions=True,
        )
        assert {type(one) for one in answers} <= {Refused, log_pb2.AppendResponse}
        bodies = [parse_record(leaf).WhichOneof("body") for leaf in core.entries()]
        assert bodies.count("writer_retired") == 1
        with pytest.raises((Refused, OutOfSequence)):
            await core.log.append(writer.batch(*writer.add(1)))

    play(test)


@pytest.mark.parametrize(("begin", "end"), [(0, 1 << 63), (5, 5), (9, 3), (0, (1 << 64) - 1)])
def test_a_question_for_receipts_without_bounds_is_refused(begin: int, end: int) -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        request = log_pb2.GetReceiptsRequest(writer=writer.made.writer, to=end)
        setattr(request, "from", begin)
        with pytest.raises(Malformed):
            await core.log.get_receipts(request)

    play(test)


def test_receipts_are_found_in_steps() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(0, 1))
        request = log_pb2.GetReceiptsRequest(writer=writer.made.writer, to=RECEIPTS_SPAN_RECORDS * 4)
        assert len((await core.log.get_receipts(request)).receipts) == 1

    play(test)


def test_a_quoted_checkpoint_as_long_as_a_book_is_refused() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        note = core.sequencer.reader.view.signed.note
        line = note.split(b"\n\n")[1].replace(ORIGIN.encode(), b"x")
        with pytest.raises(Malformed):
            await core.log.append(writer.batch(0, 1, last=note + line * 300))

    play(test)


@pytest.mark.parametrize("size", [1, 10**6])
def test_g4_a_record_that_quotes_another_tree_of_ours_freezes_the_log(size: int) -> None:
    async def test() -> None:
        stores, writer = Stores(), Shipper()
        async with open_core(stores) as core:
            await core.log.register(writer.registration())
            await core.log.append(writer.batch(0, 1))
            note = quote(key="log", size=size)
            begin, end = commit(writer, [record(writer, record_pb2.Heartbeat(log_checkpoint=note))])
            with pytest.raises(LogFrozen):
                await core.log.append(writer.batch(begin, end))
        frozen = stores.heads.load_freeze()
        assert frozen is not None
        assert note in frozen.evidence

    asyncio.run(test())


def test_g4_a_log_without_its_past_freezes_before_it_takes_anybody_in() -> None:
    async def test() -> None:
        async with open_core(Stores()) as core:
            with pytest.raises(LogFrozen):
                await core.log.append(Shipper().batch(0, 1, last=quote(key="log")))
            assert core.entries() == []

    asyncio.run(test())


@pytest.mark.parametrize("wire_type", [0, 1, 5])
@pytest.mark.parametrize("field", ["writer_checkpoint", "writer_registered", "writer_started", "decision"])
def test_a_body_of_another_wire_type_is_no_body(field: str, wire_type: int) -> None:
    number = record_pb2.Record.DESCRIPTOR.fields_by_name[field].number
    tag = bytes([0x80 | (number << 3 | wire_type) & 0x7F, number >> 4])
    value = {0: b"\x01", 1: bytes(8), 5: bytes(4)}[wire_type]

    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(0, 1))
        made = parse_record(counted(writer.made.writer, Sequence(1), count=1, time=START + timedelta(hours=1)))
        made.ClearField("refusals")
        begin, end = commit(writer, [made.SerializeToString(deterministic=True) + tag + value])
        with pytest.raises(Malformed):
            await core.log.append(writer.batch(begin, end))

    play(test)


def test_w6_a_fork_while_the_first_batch_is_on_its_way_is_found_too() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(0, 1))
        begin, end = writer.add(2)
        twin = Shipper()
        twin.made.log, note = twin.made.log.commit([leaf_hash(b"one"), leaf_hash(b"two")])
        fork = writer.batch(begin, end)
        fork.checkpoint = note
        first, second = await asyncio.gather(
            core.log.append(writer.batch(begin, end)), core.log.append(fork), return_exceptions=True
        )
        assert isinstance(first, log_pb2.AppendResponse)
        assert isinstance(second, Refused)
        bodies = [parse_record(leaf).WhichOneof("body") for leaf in core.entries()]
        assert bodies[-2:] == ["alert", "writer_retired"]

    play(test)


def sealed_as(body: Message, *, junk: bytes = b"") -> Callable[[SealingWriter], bytes]:
    """The next record of a writer: a sealed part that nobody opens, in a body that usually has none, and `junk`."""

    def make(made: SealingWriter) -> bytes:
        number = len(made.leaves)
        seal = seal_of(ORIGIN, made.writer)
        record_ = parse_record(made.add_sealed())
        made.besides[number] = seal.beside
        record_.sealed.ciphertext = bytes(256 + 16)
        record_.sealed.companion_sha256 = sha256(seal.beside).digest()
        record_.ClearField("decision")
        field = next(one for one in record_.DESCRIPTOR.fields if one.message_type is body.DESCRIPTOR)
        getattr(record_, field.name).CopyFrom(body)
        getattr(record_, field.name).SetInParent()
        made.leaves[number] = record_.SerializeToString(deterministic=True) + junk
        return made.leaves[number]

    return make


ODD_SEALED: dict[str, Callable[[SealingWriter], bytes]] = {
    "as they are made": lambda made: made.add_sealed(),
    "never to be opened": sealed_as(record_pb2.Decision()),
    "in a heartbeat": sealed_as(record_pb2.Heartbeat()),
    "in a stop": sealed_as(record_pb2.WriterStopped()),
    "in a count": sealed_as(record_pb2.Refusals(count=1)),
    "in an alert": sealed_as(record_pb2.Alert(rule="mine")),
    "with a field nobody knows": sealed_as(record_pb2.Outcome(), junk=b"\x38\x01"),
}


@pytest.mark.parametrize("kind", ODD_SEALED)
def test_s2_what_is_sealed_and_admitted_folds_again(kind: str) -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(0, 1))
        assert isinstance(writer.made, SealingWriter)
        ODD_SEALED[kind](writer.made)
        writer.made.add()
        await core.log.append(writer.batch(*writer.commit(1)))

    play(test, vault=VAULT, made=SealingWriter())


@pytest.mark.parametrize("kind", ["log_read", "erasure", "writer_checkpoint"])
def test_no_writer_seals_what_only_the_log_may_make(kind: str) -> None:
    body = type(getattr(record_pb2.Record(), kind))()

    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(0, 1))
        assert isinstance(writer.made, SealingWriter)
        sealed_as(body)(writer.made)
        with pytest.raises(Malformed):
            await core.log.append(writer.batch(*writer.commit(1)))

    play(test, vault=VAULT, made=SealingWriter())
