# SPDX-License-Identifier: Apache-2.0
"""An operator ends a writer: once, with a cause, for good, and in a way that the log starts again from."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import LogFrozen, Malformed, Refused, Unavailable, UnknownWriter
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.log_core import LogCore, Shipper, Stores, open_core


def retire(writer: Shipper, cause: str = "the pod is gone") -> log_pb2.RetireWriterRequest:
    return log_pb2.RetireWriterRequest(writer=writer.made.writer, cause=cause)


def play(test: Callable[[LogCore, Shipper], Awaitable[None]], *, whole: bool = True) -> Stores:
    """One life of a log with a writer that has sent two batches, and then the next."""
    stores, writer = Stores(), Shipper()

    async def first() -> None:
        async with open_core(stores) as core:
            await core.log.register(writer.registration())
            await core.log.append(writer.batch(0, 1))
            await core.log.append(writer.batch(*writer.add(2)))
            await test(core, writer)

    async def second() -> None:
        async with open_core(stores) as core:
            core.check_whole()
            if whole:
                index = (await core.log.retire_writer(retire(writer))).index
                assert parse_record(core.entries()[index]).writer_retired.writer == writer.made.writer

    asyncio.run(first())
    asyncio.run(second())
    return stores


def test_it_is_a_leaf_with_the_cause_and_the_last_note() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        index = (await core.log.retire_writer(retire(writer))).index
        body = parse_record(core.entries()[index]).writer_retired
        assert (body.writer, body.cause) == (writer.made.writer, "the pod is gone")
        assert (body.final_checkpoint, body.conflicting_checkpoint) == (writer.notes[3], b"")
        listed = (await core.log.list_writers(log_pb2.ListWritersRequest())).writers
        assert [one.retired_index for one in listed] == [index]

    play(test)


def test_w5_nothing_is_taken_of_it_any_more() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.retire_writer(retire(writer))
        size = core.sequencer.reader.size()
        with pytest.raises(Refused, match="which is retired"):
            await core.log.append(writer.batch(*writer.add(1)))
        assert core.sequencer.reader.size() == size
        receipt = (await core.log.append(writer.batch(1, 3))).receipt
        writer.check(receipt, 1, 3, key=core.key)

    play(test)


def test_it_is_done_once_however_often_it_is_asked_for() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        answers = await asyncio.gather(*(core.log.retire_writer(retire(writer, f"cause {one}")) for one in range(5)))
        answers.append(await core.log.retire_writer(retire(writer)))
        assert len({answer.index for answer in answers}) == 1
        bodies = [parse_record(leaf).WhichOneof("body") for leaf in core.entries()]
        assert bodies.count("writer_retired") == 1

    play(test)


def test_what_was_queued_before_stands_before_it() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        begin, end = writer.add(4)
        appended, retired = await asyncio.gather(
            core.log.append(writer.batch(begin, end)), core.log.retire_writer(retire(writer))
        )
        assert appended.receipt.first_index + 4 < retired.index
        assert parse_record(core.entries()[retired.index]).writer_retired.final_checkpoint == writer.notes[end]

    play(test)


def test_who_asked_may_go_away() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        asking = asyncio.ensure_future(core.log.retire_writer(retire(writer)))
        await asyncio.sleep(0)
        asking.cancel()
        await core.log.retire_writer(retire(writer))
        bodies = [parse_record(leaf).WhichOneof("body") for leaf in core.entries()]
        assert bodies.count("writer_retired") == 1

    play(test)


def test_w6_one_that_forked_answers_where() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        twin = Shipper()
        twin.made.log, note = twin.made.log.commit([leaf_hash(b"one"), leaf_hash(b"two")])
        fork = writer.batch(1, 3)
        fork.checkpoint = note
        forked, retired = await asyncio.gather(
            core.log.append(fork), core.log.retire_writer(retire(writer)), return_exceptions=True
        )
        assert isinstance(forked, Refused)
        assert isinstance(retired, log_pb2.RetireWriterResponse)
        bodies = [parse_record(leaf).WhichOneof("body") for leaf in core.entries()]
        assert bodies.count("writer_retired") == 1
        assert bodies[retired.index] == "writer_retired"

    play(test)


@pytest.mark.parametrize("cause", ["", "x" * 1_025, "two\nlines", "a\x00b", "bell\x07"])
def test_a_cause_is_a_sentence(cause: str) -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        with pytest.raises(Malformed, match="want 1 to 1024 on one line"):
            await core.log.retire_writer(retire(writer, cause))

    play(test, whole=False)


def test_the_longest_cause_fits() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.retire_writer(retire(writer, "ü" * 1_024))

    play(test)


@pytest.mark.parametrize("writer", [b"", bytes(31), bytes(33)])
def test_what_is_no_writer_is_malformed(writer: bytes) -> None:
    async def test(core: LogCore, _: Shipper) -> None:
        with pytest.raises(Malformed):
            await core.log.retire_writer(log_pb2.RetireWriterRequest(writer=writer, cause="gone"))
        with pytest.raises(UnknownWriter):
            await core.log.retire_writer(log_pb2.RetireWriterRequest(writer=bytes(32), cause="gone"))

    play(test, whole=False)


def test_a_frozen_log_retires_nobody() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        asking = asyncio.ensure_future(core.log.retire_writer(retire(writer)))
        await core.sequencer.freeze("a test", [])
        with pytest.raises(LogFrozen):
            await asking
        with pytest.raises((LogFrozen, Unavailable)):
            await core.log.retire_writer(retire(writer))

    play(test, whole=False)
