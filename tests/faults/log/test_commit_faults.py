# SPDX-License-Identifier: Apache-2.0
"""Every call to a store fails once, before and after its effect; then the next process recovers (CORPUS F1, F2, F22).

One scenario is played: two writers register and send batches of several lengths, so that bundles and tiles fill up.
Played without a failure it tells how many calls there are; then it is played once for each call and flavour.
"""

import asyncio
from dataclasses import dataclass, field

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import IapError
from iap_authz.records.record import parse_record
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.log_core import LogCore, Shipper, Stores, log_signer, start_core
from tests.fakes.stores import Flavour, MemoryTileStore, Plan, failing

BATCHES = (1, 5, 250, 1, 300)


@dataclass
class History:
    """What writers were told, over all processes, and every note that was seen."""

    writers: list[Shipper] = field(default_factory=lambda: [Shipper("first"), Shipper("second")])
    receipts: dict[tuple[str, int, int], log_pb2.Receipt] = field(default_factory=dict)
    notes: dict[int, bytes] = field(default_factory=dict)

    def see(self, note: bytes) -> None:
        """No two notes of one size say two things (CORPUS, after every fault: c)."""
        checkpoint = open_checkpoint(note, log_signer().verifier())
        assert self.notes.setdefault(checkpoint.size, note) == note

    def batches(self, writer: Shipper) -> list[tuple[int, int]]:
        ends = sorted(writer.notes)
        return list(zip([0, *ends], ends, strict=False))


def make_history() -> History:
    history = History()
    for writer in history.writers:
        for count in BATCHES:
            writer.add(count)
    return history


async def ship_all(core: LogCore, history: History) -> None:
    """Both writers send everything, in turn; what has a receipt already is sent again and must get the same."""
    for writer in history.writers:
        await core.log.register(writer.registration())
    for one, other in zip(*map(history.batches, history.writers), strict=True):
        await asyncio.gather(
            *(send(core, history, writer, span) for writer, span in zip(history.writers, (one, other), strict=True))
        )
        await asyncio.sleep(0.012)  # two publications a batch: their calls fail too


async def send(core: LogCore, history: History, writer: Shipper, span: tuple[int, int]) -> None:
    receipt = (await core.log.append(writer.batch(*span))).receipt
    writer.check(receipt, *span, key=core.key)
    history.see(receipt.checkpoint)
    assert history.receipts.setdefault((writer.made.writer.hex(), *span), receipt) == receipt


async def live(stores: Stores, history: History) -> BaseException | None:
    """One process from start to end, or to its death, which is returned."""
    try:
        core = start_core(stores)
    except OSError as error:
        return error
    running = asyncio.ensure_future(core.sequencer.run())
    shipping = asyncio.ensure_future(ship_all(core, history))
    await asyncio.wait((running, shipping), return_when=asyncio.FIRST_COMPLETED)
    shipped = shipping.done() and shipping.exception() is None
    if not shipped:
        shipping.cancel()
        await asyncio.gather(shipping, return_exceptions=True)
    core.sequencer.stop()
    (ended,) = await asyncio.gather(running, return_exceptions=True)
    if ended is None:
        assert shipped
        history.see(core.sequencer.reader.view.signed.note)
    return ended


def through(stores: Stores, plan: Plan) -> Stores:
    """The same stores as a process sees them that fails as planned."""
    return Stores(
        tiles=failing(stores.tiles, plan),
        heads=failing(stores.heads, plan),
        ledger=failing(stores.ledger, plan),
        index=stores.index,
        clock=stores.clock,
    )


def calls_without_failure() -> int:
    plan, stores = Plan(), Stores()
    assert asyncio.run(live(through(stores, plan), make_history())) is None
    return len(plan.calls)


@pytest.mark.parametrize("flavour", ["before", "after"])
def test_each_call_fails_and_the_next_process_recovers(flavour: Flavour) -> None:
    calls = calls_without_failure()
    assert calls > 40
    for number in range(calls):
        stores, history, plan = Stores(), make_history(), Plan(fail_at=number, flavour=flavour)
        died = asyncio.run(live(through(stores, plan), history))
        # How many calls a play has depends on timing: the last ones may not be reached, and then nothing failed.
        assert isinstance(died, OSError) == plan.dead
        assert asyncio.run(live(stores, history)) is None
        check_end(stores, history)


def test_a_process_that_dies_again_and_again_still_arrives() -> None:
    for step in (4, 6, 9, 14):
        stores, history = Stores(), make_history()
        for _ in range(400):
            plan = Plan(fail_at=step, flavour="after")
            if asyncio.run(live(through(stores, plan), history)) is None:
                break
        check_end(stores, history)


def check_end(stores: Stores, history: History) -> None:
    """The whole tree: each acknowledged record once and at its place, everything published, no stage left over."""
    core = asyncio.run(_start(stores))
    fold, entries = core.check_whole(), core.entries()
    hashes = list(map(leaf_hash, entries))
    assert len(set(hashes)) == len(hashes)
    for writer in history.writers:
        assert fold.writers[writer.made.writer].tree.end == len(writer.made.leaves)
    leaves = {writer.made.writer.hex(): writer.made.leaves for writer in history.writers}
    for (writer_id, begin, end), receipt in history.receipts.items():
        place = slice(receipt.first_index, receipt.first_index + end - begin)
        assert entries[place] == leaves[writer_id][begin:end]
    published = core.sequencer.published
    assert published is not None
    assert published.checkpoint == core.sequencer.reader.view.signed.checkpoint
    history.see(published.note)
    assert isinstance(stores.tiles, MemoryTileStore)


async def _start(stores: Stores) -> LogCore:
    return start_core(stores)


def test_an_orphan_of_a_lost_race_is_removed() -> None:
    stores, history = Stores(), make_history()
    plan = Plan(fail_at=3, flavour="before")
    asyncio.run(live(through(stores, plan), history))
    head = stores.heads.load()
    assert head is not None
    core = asyncio.run(_start(stores))
    assert all(int(path[6:26]) <= head.size for path in stores.tiles.stages())
    assert core.sequencer.reader.size() == head.size


def test_the_log_never_signs_over_a_flipped_stage() -> None:
    stores, history = Stores(), make_history()
    plan = Plan(fail_at=6, flavour="after")
    asyncio.run(live(through(stores, plan), history))
    assert isinstance(stores.tiles, MemoryTileStore)
    head = stores.heads.load()
    paths = stores.tiles.stages()
    assert head is not None
    assert paths
    for path in paths[-1:]:
        content = stores.tiles.resources[path]
        for at in range(0, len(content), max(len(content) // 60, 1)):
            stores.tiles.resources[path] = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
            if int(path[6:26]) == head.size:
                with pytest.raises(IapError):
                    asyncio.run(_start(stores))
        stores.tiles.resources[path] = content
    assert parse_record(asyncio.run(_start(stores)).entries()[0]).WhichOneof("body") == "writer_registered"
