# SPDX-License-Identifier: Apache-2.0
"""`AuditLogClient.unseal` and `retire_writer`: what is shown is what was sealed, whatever the log says."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.client import AuditLogClient, LogView, Outcome, UnsealedRecord
from iap_authz.client import log as client_log
from iap_authz.errors import BadProof, IapError, Malformed, NotFound, NotProven, Refused, UnknownWriter
from iap_authz.model.ids import WriterId
from iap_authz.records.record import parse_record
from iap_authz.records.seal import SubjectKey, derive_opening, new_seal, seal_context
from iap_authz.tlog.hashing import LeafIndex
from tests.fakes.journal import ORIGIN
from tests.fakes.lying_log import LyingLog
from tests.fakes.made_log import MadeWriter
from tests.fakes.sealed import sealed_decision, subject_key
from tests.fakes.senders import MemoryCheckpoints, Sender
from tests.fakes.trail import heartbeat_leaf

Unsealed = log_pb2.Unsealed
WRITER = MadeWriter("sealing").writer
FIRST = 6
"""The first sealed leaf: before it are a registration and a batch."""

OPEN, HEARTBEAT = FIRST + 3, FIRST + 4


def opening_of(key: SubjectKey, leaf: bytes) -> bytes:
    return derive_opening(key.secret, seal_context(ORIGIN, parse_record(leaf)))


class Reader:
    """A log of three sealed records of two people, an open one and a heartbeat, and somebody who may unseal them."""

    def __init__(self) -> None:
        self.log, self.sender = LyingLog(), Sender()
        self.keys = [subject_key(WRITER), subject_key(WRITER)]
        self.client = AuditLogClient(self.log, LogView(self.log.verifier, MemoryCheckpoints()))

    async def start(self) -> None:
        await self.client.register(self.sender.registration())
        await self.client.append(self.sender.batch())
        for number, key in enumerate((self.keys[0], self.keys[1], self.keys[0])):
            leaf = sealed_decision(number, seal=new_seal(ORIGIN, key), writer=WRITER)
            self.log.said[len(self.log.leaves)] = Unsealed(outcome=Unsealed.OPENED, opening=opening_of(key, leaf))
            self.log.grow([leaf])
        self.log.grow([sealed_decision(3, seal=None, writer=WRITER), heartbeat_leaf(4)])
        self.log.calls.clear()

    async def unseal(self, *indices: int) -> list[UnsealedRecord]:
        return await self.client.unseal([LeafIndex(index) for index in indices], "case 7")


def reading(test: Callable[[Reader], Awaitable[None]]) -> None:
    async def run() -> None:
        reader = Reader()
        await reader.start()
        await test(reader)

    asyncio.run(run())


def test_records_are_opened_here_in_the_order_asked_for() -> None:
    async def test(reader: Reader) -> None:
        asked = [FIRST + 2, OPEN, FIRST, HEARTBEAT]
        found = await reader.unseal(*asked)
        assert [one.index for one in found] == asked
        assert [one.leaf for one in found] == [reader.log.leaves[index] for index in asked]
        assert [one.outcome for one in found] == [
            Outcome.OPENED,
            Outcome.NOT_SEALED,
            Outcome.OPENED,
            Outcome.NOT_SEALED,
        ]
        for one in found[:3]:
            assert one.personal is not None
            assert one.personal.decision.facts.identity.subject == "alice@example.com"
        assert found[3].personal is None
        (request,) = [request for name, request in reader.log.calls if name == "unseal"]
        assert request == log_pb2.UnsealRequest(indices=asked, purpose="case 7")
        read = parse_record(reader.log.leaves[found[0].log_read]).log_read
        assert (read.method, read.records) == ("Unseal", 4)
        assert {one.log_read for one in found} == {len(reader.log.leaves) - 1}

    reading(test)


def test_what_is_erased_or_tampered_with_is_said() -> None:
    async def test(reader: Reader) -> None:
        reader.log.said[FIRST] = Unsealed(outcome=Unsealed.ERASED)
        reader.log.said[FIRST + 1] = Unsealed(outcome=Unsealed.TAMPERED)
        found = await reader.unseal(FIRST, FIRST + 1)
        assert [(one.outcome, one.personal) for one in found] == [(Outcome.ERASED, None), (Outcome.TAMPERED, None)]

    reading(test)


def test_more_than_one_question_takes_more_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_log, "UNSEAL_MAX", 2)

    async def test(reader: Reader) -> None:
        found = await reader.unseal(FIRST, FIRST + 1, FIRST + 2)
        assert [one.index for one in found] == [FIRST, FIRST + 1, FIRST + 2]
        assert found[0].log_read == found[1].log_read != found[2].log_read
        assert await reader.unseal() == []
        assert len([name for name, _ in reader.log.calls if name == "unseal"]) == 2

    reading(test)


def test_nothing_is_asked_for_a_leaf_that_is_not_there() -> None:
    async def test(reader: Reader) -> None:
        for index in (len(reader.log.leaves), -1, 2**63):
            with pytest.raises(NotFound):
                await reader.unseal(FIRST, index)
        assert "unseal" not in [name for name, _ in reader.log.calls]

    reading(test)


def test_a_refusal_is_passed_on() -> None:
    async def test(reader: Reader) -> None:
        await reader.client.checkpoint()
        reader.log.fail_next()

        async def refuse(_: log_pb2.UnsealRequest) -> log_pb2.UnsealResponse:
            raise Refused("the log answered PERMISSION_DENIED: 'got no access token that this log knows'")

        reader.log.unseal = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(Refused):
            await reader.unseal(FIRST)

    reading(test)


# ---- lies

OTHER = bytes(64)


def said(**values: Any) -> Callable[[log_pb2.UnsealResponse], None]:
    """The first record of the answer says something else."""

    def change(answer: log_pb2.UnsealResponse) -> None:
        for name, value in values.items():
            setattr(answer.records[0], name, value)

    return change


def of_another_record(answer: log_pb2.UnsealResponse) -> None:
    answer.records[0].opening, answer.records[1].opening = answer.records[1].opening, answer.records[0].opening


def cut(answer: log_pb2.UnsealResponse) -> None:
    answer.records[0].opening = answer.records[0].opening[:-1]


def other_key_with_this_commitment(answer: log_pb2.UnsealResponse) -> None:
    """AES-GCM has keys that open a text made for it; the commitment is half of the opening, so here: none."""
    answer.records[0].opening = OTHER[:32] + answer.records[0].opening[32:]


def last_is_missing(answer: log_pb2.UnsealResponse) -> None:
    del answer.records[-1]


def one_too_many(answer: log_pb2.UnsealResponse) -> None:
    answer.records.add().CopyFrom(answer.records[0])


def swapped(answer: log_pb2.UnsealResponse) -> None:
    answer.records.reverse()


def in_a_place_that_is_not(answer: log_pb2.UnsealResponse) -> None:
    answer.log_read += 1


def read_before(answer: log_pb2.UnsealResponse) -> None:
    """The record of the same reading, but of an earlier one."""
    answer.log_read -= 1


def one_opened_less(answer: log_pb2.UnsealResponse) -> None:
    answer.records[1].outcome = Unsealed.ERASED
    answer.records[1].opening = b""


def read_elsewhere(answer: log_pb2.UnsealResponse) -> None:
    answer.log_read = HEARTBEAT


LIES: dict[str, Callable[[log_pb2.UnsealResponse], None]] = {
    "another opening": said(opening=OTHER),
    "no opening": said(opening=b""),
    "a short opening": cut,
    "the opening of another record": of_another_record,
    "another key": other_key_with_this_commitment,
    "not sealed": said(outcome=Unsealed.NOT_SEALED),
    "no outcome": said(outcome=Unsealed.OUTCOME_UNSPECIFIED),
    "a new outcome": said(outcome=9),
    "another index": said(index=FIRST + 2),
    "the last is missing": last_is_missing,
    "one too many": one_too_many,
    "swapped": swapped,
    "a record of the reading that is not there": in_a_place_that_is_not,
    "another leaf as the record of the reading": read_elsewhere,
    "the record of the same reading, of before": read_before,
    "fewer opened than it recorded": one_opened_less,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_in_the_answer_is_found_out(lie: Callable[[log_pb2.UnsealResponse], None]) -> None:
    async def test(reader: Reader) -> None:
        def twist(answer: Message) -> None:
            if isinstance(answer, log_pb2.UnsealResponse):
                lie(answer)

        await reader.unseal(FIRST, FIRST + 1)
        reader.log.twist_answer = twist
        with pytest.raises((NotProven, NotFound, Malformed)):
            await reader.unseal(FIRST, FIRST + 1)
        reader.log.be_honest()
        assert len(await reader.unseal(FIRST, FIRST + 1)) == 2

    reading(test)


@pytest.mark.parametrize("outcome", [Unsealed.OPENED, Unsealed.ERASED, Unsealed.TAMPERED])
@pytest.mark.parametrize("index", [OPEN, HEARTBEAT])
def test_what_is_not_sealed_is_neither_opened_nor_erased(index: int, outcome: log_pb2.Unsealed.Outcome) -> None:
    async def test(reader: Reader) -> None:
        reader.log.said[index] = Unsealed(outcome=outcome, opening=OTHER)
        with pytest.raises(BadProof, match=f"for leaf {index}, want what fits its personal part"):
            await reader.unseal(index)

    reading(test)


@pytest.mark.parametrize(
    "values",
    [{"method": "SearchRecords"}, {"from_index": 0}, {"to_index": FIRST + 1}, {"records": 1}, {"unsealed": 1}],
    ids=lambda values: next(iter(values)),
)
def test_a_reading_that_the_log_records_as_another_one_gives_nothing(values: dict[str, Any]) -> None:
    async def test(reader: Reader) -> None:
        def twist(body: Any) -> None:
            for name, value in values.items():
                setattr(body, name, value)

        reader.log.twist_body = twist
        with pytest.raises(BadProof, match="got a record of another reading"):
            await reader.unseal(FIRST, FIRST + 1)

    reading(test)


def test_a_record_of_the_reading_that_is_a_writers_gives_nothing() -> None:
    async def test(reader: Reader) -> None:
        def by_a_writer(leaf: bytes) -> bytes:
            record = parse_record(leaf)
            record.writer = WRITER
            return record.SerializeToString(deterministic=True)

        reader.log.change_leaf = by_a_writer
        with pytest.raises(BadProof, match="want the log's own"):
            await reader.unseal(FIRST)

    reading(test)


def test_leaves_that_are_not_proven_are_not_asked_for() -> None:
    async def test(reader: Reader) -> None:
        def twist(answer: Message) -> None:
            if isinstance(answer, log_pb2.Entry):
                answer.record = heartbeat_leaf(9)

        reader.log.twist_answer = twist
        with pytest.raises(NotProven):
            await reader.unseal(FIRST)
        assert "unseal" not in [name for name, _ in reader.log.calls]

    reading(test)


def test_a_secret_is_in_no_repr() -> None:
    async def test(reader: Reader) -> None:
        (one,) = await reader.unseal(FIRST)
        assert one.personal is not None
        assert "alice" not in repr(one)

    reading(test)


# ---- the end of a writer


def test_a_writer_is_retired_once_and_the_log_shows_it() -> None:
    async def test(reader: Reader) -> None:
        index, cause = await reader.client.retire_writer(reader.sender.writer, "the pod is gone")
        assert (index, cause) == (len(reader.log.leaves) - 1, "the pod is gone")
        assert await reader.client.retire_writer(reader.sender.writer, "again") == (index, cause)
        with pytest.raises(UnknownWriter):
            await reader.client.retire_writer(WriterId(b"\x07" * 32), "who")

    reading(test)


OTHER_END = record_pb2.WriterRetired(writer=WRITER, cause="another")

RETIRE_LIES: dict[str, tuple[Callable[[LyingLog], None], type[IapError]]] = {
    "another leaf": (lambda log: log.grow([heartbeat_leaf(9)]), Malformed),
    "of another writer": (lambda log: log.grow([log._own(OTHER_END, LeafIndex(len(log.leaves)))]), BadProof),  # noqa: SLF001
    "a leaf that is not there": (lambda _: None, NotFound),
}


@pytest.mark.parametrize("lie", RETIRE_LIES)
def test_a_retirement_that_the_log_does_not_show_is_none(lie: str) -> None:
    async def test(reader: Reader) -> None:
        add, error = RETIRE_LIES[lie]
        await reader.client.retire_writer(reader.sender.writer, "gone")
        add(reader.log)

        def twist(answer: Message) -> None:
            if isinstance(answer, log_pb2.RetireWriterResponse):
                answer.index += 1

        reader.log.twist_answer = twist
        with pytest.raises(error):
            await reader.client.retire_writer(reader.sender.writer, "gone")

    reading(test)
