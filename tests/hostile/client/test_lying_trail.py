# SPDX-License-Identifier: Apache-2.0
"""A log that lies to whoever reads it: proofs, entries, evidence and pages (CORPUS rows 232 to 242, 248 and 250)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import AuditLogClient, LogView
from iap_authz.errors import BadProof, BadSignature, Fork, IapError, Malformed, NotProven, Rollback
from iap_authz.records.evidence import check_evidence
from iap_authz.records.record import audit_id
from iap_authz.tlog.checkpoint import SignedCheckpoint, open_checkpoint
from iap_authz.tlog.hashing import LeafIndex, leaf_hash
from tests.fakes.lying_log import JUNK, LyingLog
from tests.fakes.reference_tree import ReferenceTree
from tests.fakes.senders import MemoryCheckpoints, Sender

Ask = Callable[[AuditLogClient, Sender], Awaitable[object]]
Change = Callable[[Any], object]

INDEX = 3


class Reader:
    """A log of 14 leaves, and somebody who has seen it at 6."""

    def __init__(self) -> None:
        self.log, self.sender, self.store = LyingLog(), Sender(), MemoryCheckpoints()

    async def start(self) -> "Reader":
        writing = AuditLogClient(self.log, LogView(self.log.verifier, MemoryCheckpoints()))
        await writing.register(self.sender.registration())
        for _ in range(3):
            await writing.append(self.sender.batch())
        self.store.notes.append(self.log.notes[6])
        self.client = AuditLogClient(self.log, LogView(self.log.verifier, self.store))
        return self


async def all_entries(client: AuditLogClient) -> list[object]:
    return [entry async for entry in client.entries(LeafIndex(1), 9)]


async def first_of_tail(client: AuditLogClient) -> object:
    return await anext(client.tail(log_pb2.TailRecordsRequest(after_index=2)))


ASKS: dict[str, tuple[str, Ask]] = {
    "checkpoint": ("GetCheckpointResponse", lambda client, _: client.checkpoint()),
    "consistency": ("GetConsistencyProofResponse", lambda client, _: client.prove_consistency(client.view.last)),
    "by hash": (
        "GetInclusionProofResponse",
        lambda client, sender: client.prove_inclusion(leaf_hash(sender.leaves[INDEX - 1])),
    ),
    "by index": ("GetInclusionProofResponse", lambda client, _: client.prove_inclusion(LeafIndex(INDEX))),
    "entry": ("GetRecordResponse", lambda client, _: client.prove_inclusion(LeafIndex(INDEX))),
    "record by index": ("GetRecordResponse", lambda client, _: client.record(index=LeafIndex(INDEX))),
    "record by id": (
        "GetRecordResponse",
        lambda client, sender: client.record(audit_id=audit_id(sender.leaves[INDEX - 1])),
    ),
    "record by position": (
        "GetRecordResponse",
        lambda client, sender: client.record(position=(sender.writer, INDEX - 1)),
    ),
    "entries": ("Entry", lambda client, _: all_entries(client)),
    "range": ("GetRangeProofResponse", lambda client, _: all_entries(client)),
    "tail": ("Entry", lambda client, _: first_of_tail(client)),
    "search": ("SearchRecordsResponse", lambda client, _: client.search(log_pb2.SearchRecordsRequest())),
    "search with evidence": (
        "SearchRecordsResponse",
        lambda client, _: client.search(log_pb2.SearchRecordsRequest(with_evidence=True)),
    ),
}
"""Each way to ask, and the answer that is lied in."""


def put(**values: Any) -> Change:
    def change(answer: Any) -> None:
        for name, value in values.items():
            setattr(answer, name, value)

    return change


def flip(name: str) -> Change:
    return lambda answer: setattr(answer, name, getattr(answer, name)[:-1] + b"\x55")


def other_evidence(answer: log_pb2.GetRecordResponse) -> None:
    """Good evidence, of another record: all in it holds, and it is not what was asked for."""
    answer.evidence.CopyFrom(TRUTH["evidence"])


TRUTH: dict[str, log_pb2.Evidence] = {}

PROOF_LIES: dict[str, Change] = {
    "dropped hash": lambda answer: answer.proof.pop(),
    "extra hash": lambda answer: answer.proof.append(JUNK),
    "no hash": lambda answer: answer.ClearField("proof"),
    "another hash": lambda answer: answer.proof.__setitem__(0, JUNK),
    "short hash": lambda answer: answer.proof.__setitem__(0, JUNK[:31]),
    "swapped": lambda answer: answer.proof.__setitem__(slice(None), answer.proof[::-1]),
}

INDEX_LIES: dict[str, Change] = {
    "next": put(index=INDEX + 1),
    "before": put(index=INDEX - 1),
    "far": put(index=INDEX ^ 8),
    "beyond": put(index=14),
    "huge": put(index=2**64 - 1),
}

EVIDENCE_LIES: dict[str, Change] = {
    "none": lambda evidence: evidence.Clear(),
    "another record": flip("record"),
    "another index": lambda evidence: setattr(evidence, "index", evidence.index + 1),
    "another note": flip("checkpoint"),
    "no note": put(checkpoint=b""),
    "another note of the writer": flip("writer_checkpoint"),
    "no note of the writer": put(writer_checkpoint=b""),
    "another registration": flip("registration"),
    "no registration": put(registration=b""),
    "dropped hash": lambda evidence: evidence.inclusion_proof.pop(),
    "extra hash": lambda evidence: evidence.inclusion_proof.append(JUNK),
    "dropped hash of the writer": lambda evidence: evidence.writer_inclusion_proof.pop(),
    "extra hash of the writer": lambda evidence: evidence.writer_inclusion_proof.append(JUNK),
    "dropped hash of the registration": lambda evidence: evidence.registration_proof.pop(),
}


def of_evidence(change: Change) -> Change:
    return lambda answer: change(answer.evidence)


def of_first(change: Change) -> Change:
    """Of one record in a page: one that a writer made."""
    return lambda answer: change(answer.records[INDEX])


def lies() -> dict[str, tuple[str, Change]]:
    """By name: how it is asked, and what is changed in the answer."""
    return {
        **{
            f"{ask}, {name}": (ask, lie) for ask in ("by hash", "by index", "range") for name, lie in PROOF_LIES.items()
        },
        **{f"consistency, {name}": ("consistency", lie) for name, lie in PROOF_LIES.items() if name != "swapped"},
        **{f"by hash, {name}": ("by hash", lie) for name, lie in INDEX_LIES.items()},
        **{
            f"{ask}, {name}": (ask, of_evidence(lie))
            for ask in ("record by index", "record by id", "record by position")
            for name, lie in EVIDENCE_LIES.items()
        },
        **{
            f"{ask}, other evidence": (ask, other_evidence)
            for ask in ("record by index", "record by id", "record by position")
        },
        **{
            f"search with evidence, {name}": ("search with evidence", of_first(of_evidence(lie)))
            for name, lie in EVIDENCE_LIES.items()
        },
        "search with evidence, other evidence": ("search with evidence", of_first(other_evidence)),
        "entry, another": ("entry", lambda answer: flip("record")(answer.entry)),
        "entry, of another index": ("entry", lambda answer: put(index=INDEX + 1)(answer.entry)),
        "entry, empty": ("entry", lambda answer: answer.entry.Clear()),
        "entries, another": ("entries", flip("record")),
        "entries, not in order": ("entries", put(index=1)),
        "entries, elsewhere": ("entries", lambda entry: put(index=entry.index + 1)(entry)),
        "tail, another": ("tail", flip("record")),
        "tail, elsewhere": ("tail", lambda entry: put(index=entry.index + 1)(entry)),
        "tail, before what was asked": ("tail", put(index=2)),
        "tail, beyond": ("tail", put(index=99)),
        "search, another": ("search", of_first(lambda found: flip("record")(found.entry))),
        "search, elsewhere": ("search", of_first(lambda found: put(index=found.entry.index + 1)(found.entry))),
        "search, beyond": ("search", of_first(lambda found: put(index=99)(found.entry))),
        "search, twice": (
            "search",
            lambda answer: flip("record")(answer.records.add(entry=answer.records[0].entry).entry),
        ),
        "search, false before true": (
            "search",
            lambda answer: answer.records.insert(0, log_pb2.GetRecordResponse(entry={"index": INDEX, "record": JUNK})),
        ),
        "checkpoint, another": ("checkpoint", flip("checkpoint")),
        "checkpoint, none": ("checkpoint", put(checkpoint=b"")),
    }


LIES = lies()


@pytest.mark.parametrize("name", LIES)
def test_a_lie_to_a_reader_is_found_out(name: str) -> None:
    ask, lie = LIES[name]
    answer, question = ASKS[ask]

    async def test() -> None:
        reader = await Reader().start()
        TRUTH["evidence"] = reader.log.evidence(LeafIndex(INDEX + 1))
        last = reader.client.view.last

        def twist(message: Any) -> None:
            if message.DESCRIPTOR.name == answer:
                lie(message)

        reader.log.twist_answer = twist
        with pytest.raises(IapError) as caught:
            await question(reader.client, reader.sender)
        assert isinstance(caught.value, NotProven | Malformed)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
        if answer in {"GetCheckpointResponse", "GetConsistencyProofResponse"}:
            assert reader.client.view.last == last
        assert reader.store.notes[-1] == reader.client.view.last.note
        reader.log.be_honest()
        await question(reader.client, reader.sender)

    asyncio.run(test())


@pytest.mark.parametrize("ask", ASKS)
def test_each_question_is_answered_by_an_honest_log(ask: str) -> None:
    async def test() -> None:
        reader = await Reader().start()
        assert await ASKS[ask][1](reader.client, reader.sender)

    asyncio.run(test())


@pytest.mark.parametrize("ask", ASKS)
def test_a_log_with_another_past_answers_nothing(ask: str) -> None:
    """All its answers hold among themselves; only what was seen before tells it from the true one (X1)."""

    async def test() -> None:
        reader = await Reader().start()
        reader.log.fork(at=0, leaf=another_past(reader.log))
        with pytest.raises(NotProven):
            await ASKS[ask][1](reader.client, reader.sender)
        assert reader.store.notes[-1] == reader.client.view.last.note

    asyncio.run(test())


def another_past(log: LyingLog) -> bytes:
    """Another first leaf that parses: the registration, with another record id."""
    before = log.leaves[0]
    return before.replace(before[2:18], JUNK[:16], 1)


def test_evidence_under_a_forked_checkpoint_of_the_same_size_is_a_fork() -> None:
    async def test() -> None:
        reader = await Reader().start()
        await reader.client.checkpoint()
        reader.log.fork(at=0, leaf=another_past(reader.log))
        with pytest.raises(Fork) as caught:
            await reader.client.record(index=LeafIndex(INDEX))
        assert caught.value.evidence == (reader.store.notes[-1], reader.log.notes[14])

    asyncio.run(test())


def test_a_checkpoint_from_elsewhere_that_is_larger_than_the_newest_is_a_rollback() -> None:
    async def test() -> None:
        reader = await Reader().start()
        note = reader.log.notes[14]
        seen = SignedCheckpoint(checkpoint=open_checkpoint(note, reader.log.verifier), note=note)
        reader.log.roll_back(to=10)
        with pytest.raises(Rollback) as caught:
            await reader.client.prove_consistency(seen)
        assert caught.value.evidence == (note, reader.log.notes[10])

    asyncio.run(test())


def test_a_checkpoint_from_elsewhere_of_another_tree_is_a_fork() -> None:
    async def test() -> None:
        reader = await Reader().start()
        note = reader.log.notes[14]
        seen = SignedCheckpoint(checkpoint=open_checkpoint(note, reader.log.verifier), note=note)
        reader.log.fork(at=13)
        with pytest.raises(Fork) as caught:
            await reader.client.prove_consistency(seen)
        assert caught.value.evidence == (note, reader.log.notes[14])

    asyncio.run(test())


def test_a_checkpoint_from_elsewhere_that_the_log_did_not_sign_is_refused() -> None:
    async def test() -> None:
        reader = await Reader().start()
        other = LyingLog(seed="another key")
        await other.register(reader.sender.registration())
        note = other.notes[1]
        seen = SignedCheckpoint(checkpoint=open_checkpoint(note, other.verifier), note=note)
        with pytest.raises(BadSignature):
            await reader.client.prove_consistency(seen)

    asyncio.run(test())


class Short(LyingLog):
    """Gives one entry less, or one more, than it was asked for."""

    more = 0

    async def get_entries(self, request: log_pb2.GetEntriesRequest) -> Any:
        count = request.count + self.more
        async for entry in super().get_entries(log_pb2.GetEntriesRequest(first=request.first, count=count)):
            yield entry


@pytest.mark.parametrize("more", [-1, 1])
def test_a_stream_of_another_length_is_refused(more: int) -> None:
    async def test() -> None:
        reader = Reader()
        reader.log = Short()
        await reader.start()
        assert isinstance(reader.log, Short)
        reader.log.more = more
        with pytest.raises(BadProof, match="want 9"):
            await all_entries(reader.client)

    asyncio.run(test())


class Stuttering(LyingLog):
    """Gives true entries again, or those that were not asked for."""

    indices: tuple[int, ...] = ()

    async def tail_records(self, _: log_pb2.TailRecordsRequest) -> Any:
        for index in self.indices:
            yield log_pb2.Entry(index=index, record=self.leaves[index])


@pytest.mark.parametrize("indices", [(3, 3), (4, 3), (2,), (0,)])
def test_a_tail_goes_forward_only(indices: tuple[int, ...]) -> None:
    async def test() -> None:
        reader = Reader()
        reader.log = log = Stuttering()
        await reader.start()
        log.indices = indices

        async def tail() -> None:
            async for entry in reader.client.tail(log_pb2.TailRecordsRequest(after_index=2)):
                assert entry.index == indices[0]

        with pytest.raises(BadProof, match="want them to rise"):
            await tail()

    asyncio.run(test())


def test_the_writers_half_alone_is_no_evidence_of_the_log() -> None:
    """It holds, and shows who made the record; that it is in the log it does not say."""

    async def test() -> None:
        reader = await Reader().start()
        sender = reader.sender
        tree = ReferenceTree(sender.leaves[:7])
        half = log_pb2.Evidence(
            record=sender.leaves[INDEX - 1],
            writer_inclusion_proof=tree.path(INDEX - 1, 7),
            writer_checkpoint=sender.notes[7],
            started=sender.leaves[0],
            started_proof=tree.path(0, 7),
        )
        assert check_evidence(half, sender.writer).logged is None
        reader.log.twist_answer = lambda answer: answer.evidence.CopyFrom(half)
        with pytest.raises(NotProven):
            await reader.client.record(position=(sender.writer, INDEX - 1))

    asyncio.run(test())
