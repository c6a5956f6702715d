# SPDX-License-Identifier: Apache-2.0
"""`AuditLogClient` and an honest log: what is asked for is found, and stands under one tree that grows."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.audit_grpc.server import AuditServer
from iap_authz.client import AuditLogClient, CheckpointFile, LogView
from iap_authz.client import log as client_log
from iap_authz.errors import BadSignature, ConfigInvalid, Malformed, NotFound
from iap_authz.model.ids import AuditId
from iap_authz.records.evidence import check_evidence
from iap_authz.records.record import audit_id, parse_record
from iap_authz.tlog.checkpoint import SignedCheckpoint, open_checkpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, leaf_hash
from tests.fakes.lying_log import LyingLog
from tests.fakes.senders import MemoryCheckpoints, Sender

Test = Callable[[LyingLog, AuditLogClient, Sender], Awaitable[None]]


def reading(test: Test, *, batches: int = 3) -> None:
    """A log of 2 + 4 * batches leaves, and somebody who has seen nothing of it."""

    async def run() -> None:
        log, sender = LyingLog(), Sender()
        writing = AuditLogClient(log, LogView(log.verifier, MemoryCheckpoints()))
        await writing.register(sender.registration())
        for _ in range(batches):
            await writing.append(sender.batch())
        log.calls.clear()
        await test(log, AuditLogClient(log, LogView(log.verifier, MemoryCheckpoints())), sender)

    asyncio.run(run())


def asked(log: LyingLog) -> list[str]:
    return [name for name, _ in log.calls]


def test_the_newest_checkpoint_grows() -> None:
    async def test(log: LyingLog, client: AuditLogClient, sender: Sender) -> None:
        assert (await client.checkpoint()).checkpoint.size == 14
        assert asked(log) == ["get_checkpoint"]
        assert await client.checkpoint() == client.view.last
        await client.append(sender.batch())
        other = AuditLogClient(log, LogView(log.verifier, MemoryCheckpoints(log.notes[6])))
        assert (await other.checkpoint()).checkpoint.size == 18
        assert asked(log)[-2:] == ["get_checkpoint", "prove_consistency"]

    reading(test)


def test_an_empty_log_has_no_checkpoint() -> None:
    async def test() -> None:
        log = LyingLog()
        client = AuditLogClient(log, LogView(log.verifier, MemoryCheckpoints()))
        with pytest.raises(NotFound):
            await client.checkpoint()

    asyncio.run(test())


def test_inclusion_of_every_leaf_by_hash_and_by_index() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        for index, leaf in enumerate(log.leaves):
            by_hash = await client.prove_inclusion(leaf_hash(leaf))
            by_index = await client.prove_inclusion(LeafIndex(index))
            assert by_hash.entry is None
            assert by_index.entry == leaf
            assert by_hash.index == by_index.index == index
            assert by_hash.proof == by_index.proof
            assert by_index.leaf_hash == log.hashes[index]
            assert by_index.checkpoint == client.view.last

    reading(test)


@pytest.mark.parametrize("leaf", [LeafIndex(14), LeafIndex(2**63), LeafIndex(-1), LeafHash(bytes(32))])
def test_what_is_not_there_is_not_found(leaf: LeafIndex | LeafHash) -> None:
    async def test(_: LyingLog, client: AuditLogClient, __: Sender) -> None:
        with pytest.raises(NotFound):
            await client.prove_inclusion(leaf)

    reading(test)


def test_a_hash_has_32_bytes() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        with pytest.raises(Malformed):
            await client.prove_inclusion(LeafHash(bytes(31)))
        assert "prove_inclusion" not in asked(log)

    reading(test)


def test_consistency_from_any_checkpoint() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        await client.prove_consistency(client.view.last)
        for size, note in log.notes.items():
            old = SignedCheckpoint(checkpoint=open_checkpoint(note, log.verifier), note=note)
            found = await client.prove_consistency(old)
            assert (found.old, found.new) == (old, client.view.last)
            assert bool(found.proof) == (size < 14)

    reading(test)


def test_a_checkpoint_that_its_note_does_not_say_is_refused() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        six, ten = (open_checkpoint(log.notes[size], log.verifier) for size in (6, 10))
        with pytest.raises(BadSignature):
            await client.prove_consistency(SignedCheckpoint(checkpoint=six, note=log.notes[10]))
        other = AuditLogClient(log, LogView(LyingLog(seed="another key").verifier, MemoryCheckpoints()))
        with pytest.raises(BadSignature):
            await other.prove_consistency(SignedCheckpoint(checkpoint=ten, note=log.notes[10]))

    reading(test)


def test_a_record_by_each_of_its_names() -> None:
    async def test(log: LyingLog, client: AuditLogClient, sender: Sender) -> None:
        for sequence, leaf in enumerate(sender.leaves):
            index = LeafIndex(log.leaves.index(leaf))
            found = [
                await client.record(audit_id=audit_id(leaf)),
                await client.record(index=index),
                await client.record(position=(sender.writer, sequence)),
            ]
            assert [evidence.record for evidence in found] == [leaf] * 3
            assert check_evidence(found[0], sender.writer, log=log.verifier).sequence == sequence

    reading(test)


def test_a_leaf_of_the_logs_own_is_a_record_too() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        evidence = await client.record(index=LeafIndex(0))
        assert check_evidence(evidence, log=log.verifier).by_log

    reading(test)


@pytest.mark.parametrize("name", ["", "ab" * 31, "AB" * 32, "zz" * 32, "ab" * 32 + "\n", "ab" * 33])
def test_an_audit_id_has_64_lowercase_digits(name: str) -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        with pytest.raises(Malformed, match="want 64 lowercase hex digits"):
            await client.record(audit_id=AuditId(name))
        assert asked(log) == []

    reading(test, batches=1)


def test_a_record_has_one_name() -> None:
    async def test(log: LyingLog, client: AuditLogClient, sender: Sender) -> None:
        with pytest.raises(ValueError, match="want one"):
            await client.record()
        with pytest.raises(ValueError, match="want one"):
            await client.record(index=LeafIndex(1), position=(sender.writer, 0))
        for wrong in (-1, 2**63):
            with pytest.raises(Malformed):
                await client.record(index=LeafIndex(wrong))
            with pytest.raises(Malformed):
                await client.record(position=(sender.writer, wrong))
        assert asked(log) == []

    reading(test, batches=1)


@pytest.mark.parametrize("chunk", [1, 3, 14, 1024])
def test_entries_in_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_log, "CHUNK_ENTRIES", chunk)

    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        for first, count, expected in (
            (0, 14, range(14)),
            (3, 5, range(3, 8)),
            (10, 1000, range(10, 14)),
            (14, 1, ()),
            (2**62, 2**62, ()),
            (5, 0, ()),
        ):
            found = [pair async for pair in client.entries(LeafIndex(first), count)]
            assert found == [(index, log.leaves[index]) for index in expected]

    reading(test)


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, -1), (2**63, 1)])
def test_entries_from_nowhere(first: int, count: int) -> None:
    async def test(_: LyingLog, client: AuditLogClient, __: Sender) -> None:
        with pytest.raises(Malformed):
            await anext(client.entries(LeafIndex(first), count))

    reading(test, batches=1)


def test_entries_of_a_log_that_grows_stand_under_one_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_log, "CHUNK_ENTRIES", 2)

    async def test(log: LyingLog, client: AuditLogClient, sender: Sender) -> None:
        found = []
        async with aclosing(client.entries(LeafIndex(0), 100)) as entries:
            async for index, _ in entries:
                found.append(index)
                if index % 4 == 0:
                    await client.append(sender.batch())
        assert found == list(range(14))
        assert len(log.leaves) == 14 + 4 * 4

    reading(test)


def test_search_page_by_page() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        request = log_pb2.SearchRecordsRequest(bodies=["refusals"], page_size=4)
        found = []
        while True:
            page = await client.search(request)
            found += [one.entry.record for one in page.records]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == [leaf for leaf in log.leaves if parse_record(leaf).WhichOneof("body") == "refusals"]
        assert len(found) == 9

    reading(test)


def test_search_proves_neighbours_together() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        page = await client.search(log_pb2.SearchRecordsRequest(bodies=["refusals"]))
        assert [one.entry.index for one in page.records] == [2, 3, 4, 6, 7, 8, 10, 11, 12]
        assert asked(log) == ["search_records", "get_checkpoint", "prove_range", "prove_range", "prove_range"]

    reading(test)


def test_search_with_evidence() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        page = await client.search(log_pb2.SearchRecordsRequest(with_evidence=True))
        assert [one.evidence.record for one in page.records] == log.leaves
        assert asked(log).count("get_checkpoint") == 1

    reading(test)


def test_search_that_finds_nothing_asks_for_nothing_more() -> None:
    async def test(log: LyingLog, client: AuditLogClient, _: Sender) -> None:
        assert not (await client.search(log_pb2.SearchRecordsRequest(bodies=["alert"]))).records
        assert asked(log) == ["search_records"]

    reading(test)


@pytest.mark.parametrize(("after", "first"), [(0, 0), (1, 2), (5, 6)])
def test_tail_goes_on(after: int, first: int) -> None:
    async def test(log: LyingLog, client: AuditLogClient, sender: Sender) -> None:
        found: list[int] = []
        async with aclosing(client.tail(log_pb2.TailRecordsRequest(after_index=after))) as entries:
            async for entry in entries:
                assert entry.record == log.leaves[entry.index]
                found.append(entry.index)
                if entry.index == 13:
                    await client.append(sender.batch())
                if entry.index == 17:
                    break
        assert found == list(range(first, 18))

    reading(test)


def test_connected_to_a_server_and_again_from_its_file(tmp_path: Path) -> None:
    async def test() -> None:
        log, sender, store = LyingLog(), Sender(), CheckpointFile(tmp_path / "log.checkpoint")
        address = f"unix:{tmp_path / 's'}"
        server = AuditServer(log, log, address=address)
        await server.start()
        try:
            async with AuditLogClient.connect(address, verifier=log.verifier, checkpoints=store) as client:
                await client.register(sender.registration())
                await client.append(sender.batch())
            assert store.load() == log.notes[6]
            async with AuditLogClient.connect(address, verifier=log.verifier, checkpoints=store) as client:
                assert client.view.last.note == log.notes[6]
                assert [index async for index, _ in client.entries(LeafIndex(0), 100)] == list(range(6))
                assert (await client.record(index=LeafIndex(3))).record == sender.leaves[2]
        finally:
            await server.stop(0.0)
        with pytest.raises(ConfigInvalid, match=str(tmp_path)):
            AuditLogClient.connect(address, verifier=LyingLog(seed="b").verifier, checkpoints=store)

    asyncio.run(test())
