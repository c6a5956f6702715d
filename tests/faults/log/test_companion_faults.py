# SPDX-License-Identifier: Apache-2.0
"""Every call to a store fails once while sealed records are sent: no companion is lost or left behind (S2, S6).

The trail is the real one, on a disk. After each death the next process recovers; then each sealed leaf below the
published size has beside it, in the database, what its writer sent, and opens with it.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.adapters.trail.companions import SqlCompanions
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.seal_epochs import SqlSealEpochs
from iap_authz.adapters.trail.store import open_trail
from iap_authz.errors import Unavailable
from iap_authz.records.log_leaves import log_id
from iap_authz.records.record import parse_record
from iap_authz.records.seal import SALT_BYTES, derive_opening, open_part, seal_context, subject_key_info
from iap_authz.tlog.hashing import LeafIndex
from tests.fakes.journal import ORIGIN
from tests.fakes.log_core import LogCore, Shipper, Stores, start_core
from tests.fakes.sealed import SealingWriter, TestVault
from tests.fakes.stores import Flavour, MemoryTileStore, Plan, failing

BATCHES = (3, 40, 1, 300)
OWN = record_pb2.LogReadPersonal(reader="eve@example.com")


@dataclass
class World:
    """What outlives a process, and the writer, which does."""

    engine: Engine
    vault: TestVault = field(default_factory=TestVault)
    stores: Stores = field(init=False)
    writer: Shipper = field(init=False)

    def __post_init__(self) -> None:
        self.stores = Stores(
            ledger=SqlLedger(self.engine, origin=ORIGIN),
            companions=SqlCompanions(self.engine),
            epochs=SqlSealEpochs(self.engine),
            vault=self.vault,
        )
        self.writer = Shipper(made=SealingWriter(vault=self.vault))
        for count in BATCHES:
            self._seal(count)

    def _seal(self, count: int) -> None:
        """A batch with sealed records of three people and some that say nothing of anybody."""
        begin, made = len(self.writer.made.leaves), self.writer.made
        assert isinstance(made, SealingWriter)
        for number in range(count):
            if number % 4 == 3:
                made.add()
            else:
                made.add_sealed(f"user-{number % 3}")
        self.writer.commit(begin)

    def through(self, plan: Plan) -> Stores:
        """The stores as a process sees them that fails as planned."""
        return Stores(
            tiles=failing(self.stores.tiles, plan),
            heads=failing(self.stores.heads, plan),
            ledger=failing(self.stores.ledger, plan),
            index=self.stores.index,
            clock=self.stores.clock,
            epochs=failing(self.stores.epochs, plan),
            vault=self.vault,
            companions=self.stores.companions,
        )


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Iterator[World]]:
    """As many as are asked for, each with a trail of its own."""
    engines = list[Engine]()

    def make() -> Iterator[World]:
        while True:
            for engine in engines[-1:]:
                engine.dispose()
            engines.append(open_trail(tmp_path / f"trail-{len(engines)}"))
            yield World(engines[-1])

    yield make()
    for engine in engines:
        engine.dispose()


async def ship(core: LogCore, writer: Shipper) -> None:
    """Everything from the start; a leaf of the log's own comes with each batch that is new to it."""
    await core.log.register(writer.registration())
    state, ends = core.check_whole().writers[writer.made.writer], sorted(writer.notes)
    for span in zip([0, *ends], ends, strict=False):
        own = [core.own.append(record_pb2.LogRead(method="Unseal"), OWN)] if span[0] >= state.tree.end else []
        answer, *_ = await asyncio.gather(core.log.append(writer.batch(*span)), *own)
        assert isinstance(answer, log_pb2.AppendResponse)
        writer.check(answer.receipt, *span, key=core.key)
        await asyncio.sleep(0.008)  # a publication a batch, nearly: their calls fail too


async def live(stores: Stores, writer: Shipper) -> BaseException | None:
    """One process from start to end, or to its death, which is returned."""
    try:
        core = start_core(stores)
    except OSError as error:
        return error
    running = asyncio.ensure_future(core.sequencer.run())
    shipping = asyncio.ensure_future(ship(core, writer))
    await asyncio.wait((running, shipping), return_when=asyncio.FIRST_COMPLETED)
    if not shipping.done():
        shipping.cancel()
    (shipped,) = await asyncio.gather(shipping, return_exceptions=True)
    core.sequencer.stop()
    (ended,) = await asyncio.gather(running, return_exceptions=True)
    if ended is None and shipped is not None:
        assert not isinstance(shipped, Unavailable)
        raise shipped
    return ended


def check_kept(world: World) -> None:
    """Each sealed leaf up to the published size opens with what is in the database; no stage has anything any more."""

    async def start() -> LogCore:
        return start_core(world.stores)

    core = asyncio.run(start())
    fold = core.check_whole()
    assert fold.writers[world.writer.made.writer].tree.end == len(world.writer.made.leaves)
    published = core.sequencer.published
    assert published is not None
    kept, entries = SqlCompanions(world.engine), core.entries()[: published.checkpoint.size]
    assert kept.size() == published.checkpoint.size == fold.size
    found = kept.find([LeafIndex(index) for index in range(len(entries))])
    keys = kept.keys({row.key for row in found.values()})
    sealed = 0
    for index, leaf in enumerate(entries):
        record = parse_record(leaf)
        if record.WhichOneof("personal") is None:
            assert LeafIndex(index) not in found
            continue
        row = found[LeafIndex(index)]
        key = keys[row.key]
        assert key.writer == record.writer
        secret = world.vault.open(
            key.sealed, epoch=key.vault_epoch, info=subject_key_info(ORIGIN, key.writer, key.key_id)
        )
        part = open_part(record, derive_opening(secret, seal_context(ORIGIN, record)), origin=ORIGIN)
        if record.writer == log_id(ORIGIN):
            assert part.log_read == OWN
        else:
            assert row.salt == world.writer.besides[record.sequence][:SALT_BYTES]
            sealed += 1
    assert sealed == len(world.writer.besides)
    assert isinstance(world.stores.tiles, MemoryTileStore)
    stored = b"".join(world.stores.tiles.resources.values())
    assert not [one for one in world.writer.besides.values() if one[:SALT_BYTES] in stored]


@pytest.mark.parametrize("flavour", ["before", "after"])
def test_each_call_fails_and_no_companion_is_lost(worlds: Iterator[World], flavour: Flavour) -> None:
    first, plan = next(worlds), Plan()
    assert asyncio.run(live(first.through(plan), first.writer)) is None
    check_kept(first)
    calls = len(plan.calls)
    assert calls > 25
    for number in range(calls):
        world, plan = next(worlds), Plan(fail_at=number, flavour=flavour)
        died = asyncio.run(live(world.through(plan), world.writer))
        assert isinstance(died, OSError) == plan.dead
        assert asyncio.run(live(world.stores, world.writer)) is None
        check_kept(world)


def test_a_process_that_dies_again_and_again_still_keeps_them_all(worlds: Iterator[World]) -> None:
    for step in (6, 9, 14):
        world = next(worlds)
        for _ in range(60):
            plan = Plan(fail_at=step, flavour="after")
            if asyncio.run(live(world.through(plan), world.writer)) is None:
                break
        check_kept(world)


def test_a_ledger_that_was_cleared_keeps_its_companions(worlds: Iterator[World]) -> None:
    world = next(worlds)
    assert asyncio.run(live(world.stores, world.writer)) is None
    world.stores.ledger.clear()
    assert asyncio.run(live(world.stores, world.writer)) is None
    check_kept(world)
