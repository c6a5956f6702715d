# SPDX-License-Identifier: Apache-2.0
"""Leaves that others ask the log for: at their place, sealed where there is a vault, or refused like all entries."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import LogFrozen, QueueFull
from iap_authz.log import sequencer as sequencer_module
from iap_authz.records.log_leaves import log_id, parse_log_leaf
from iap_authz.records.record import RecordTooLarge, parse_record
from iap_authz.records.seal import parse_beside
from iap_authz.tlog.hashing import LeafIndex
from tests.fakes.journal import ORIGIN
from tests.fakes.log_core import LogCore, Shipper, Stores, open_core
from tests.fakes.sealed import TestVault, open_leaf

READ = record_pb2.LogRead(method="Unseal", records=2)
WHO = record_pb2.LogReadPersonal(reader="eve@example.com", purpose="case 17")


def run(test: Callable[[LogCore], Awaitable[None]], stores: Stores | None = None) -> Stores:
    kept = stores if stores is not None else Stores(vault=TestVault())

    async def main() -> None:
        async with open_core(kept) as core:
            await test(core)

    asyncio.run(main())
    return kept


def test_s4_what_it_says_of_a_person_is_sealed_by_a_key_of_its_own() -> None:
    async def test(core: LogCore) -> None:
        assert await asyncio.gather(core.own.append(READ, WHO), core.own.append(READ, WHO)) == [0, 1]

    stores = run(test)

    async def look(core: LogCore) -> None:
        core.check_whole()
        found = stores.kept().find([LeafIndex(0), LeafIndex(1)])
        assert len({row.key for row in found.values()}) == 2
        for index, leaf in enumerate(core.entries()):
            assert parse_log_leaf(leaf, origin=ORIGIN, index=index, body="log_read").log_read == READ
            assert b"eve@example.com" not in leaf
            sent = stores.ledger.companions.sent[LeafIndex(index)]  # type: ignore[attr-defined]
            assert open_leaf(leaf, sent, vault=stores.vault).log_read == WHO  # type: ignore[arg-type]
            assert parse_beside(sent).seal_epoch == core.sealing.seal_epoch
            assert stores.kept().keys([found[LeafIndex(index)].key])[found[LeafIndex(index)].key].writer == log_id(
                ORIGIN
            )

    run(look, stores)


def test_without_a_vault_it_stands_open() -> None:
    async def test(core: LogCore) -> None:
        index = await core.own.append(READ, WHO)
        assert parse_record(core.entries()[index]).open.log_read == WHO
        core.check_whole()

    stores = run(test, Stores())
    assert stores.ledger.companions.rows == {}  # type: ignore[attr-defined]


def test_a_body_without_a_person_has_no_part() -> None:
    async def test(core: LogCore) -> None:
        index = await core.own.append(record_pb2.Erasure(records=3, authority="ticket 9"))
        record = parse_record(core.entries()[index])
        assert record.WhichOneof("personal") is None
        assert (record.erasure.records, record.sequence) == (3, index)

    run(test)


def test_it_stands_between_batches_in_order() -> None:
    async def test(core: LogCore) -> None:
        writer = Shipper()
        await core.log.register(writer.registration())
        spans = [(0, 1), *(writer.add(3) for _ in range(4))]
        own = [core.own.append(READ, WHO) for _ in range(5)]
        answers = await asyncio.gather(*(core.log.append(writer.batch(*span)) for span in spans), *own)
        fold = core.check_whole()
        assert fold.writers[writer.made.writer].tree.end == 13
        indices = [one for one in answers if isinstance(one, int)]
        assert sorted(indices) == indices
        assert len(set(indices)) == 5

    run(test)


@pytest.mark.parametrize("sealed", [True, False])
def test_what_does_not_fit_is_refused_before_it_is_queued(*, sealed: bool) -> None:
    bodies: list[tuple[Message, Message | None]] = [
        (record_pb2.Erasure(authority="x" * 65_600), None),
        (READ, record_pb2.LogReadPersonal(query="x" * 65_600)),
        (record_pb2.LogRead(method="x" * 30_000), record_pb2.LogReadPersonal(query="x" * 36_000)),
    ]

    async def test(core: LogCore) -> None:
        for body, personal in bodies:
            with pytest.raises(RecordTooLarge):
                await core.own.append(body, personal)
        assert await core.own.append(READ, WHO) == 0

    run(test, Stores(vault=TestVault() if sealed else None))


def test_a_frozen_log_and_a_full_queue_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(core: LogCore) -> None:
        monkeypatch.setattr(sequencer_module, "QUEUE_MAX_BYTES", 100)
        with pytest.raises(QueueFull):
            await core.own.append(READ, WHO)
        monkeypatch.undo()
        await core.sequencer.freeze("a test", [])
        with pytest.raises(LogFrozen):
            await core.own.append(READ, WHO)

    run(test)


def test_who_asked_may_go_away() -> None:
    async def test(core: LogCore) -> None:
        asking = asyncio.ensure_future(core.own.append(READ, WHO))
        await asyncio.sleep(0)
        asking.cancel()
        assert await core.own.append(READ, WHO) == 1

    run(test)


def test_no_body_of_a_writers_is_made_by_the_log() -> None:
    async def test(core: LogCore) -> None:
        for body in (record_pb2.Decision(), record_pb2.Heartbeat(), record_pb2.WriterRetired(), record_pb2.Record()):
            with pytest.raises(ValueError, match="want one that the log itself appends"):
                await core.own.append(body)
        assert core.entries() == []

    run(test)
