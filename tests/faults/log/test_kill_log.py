# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the log under load, again and again: nothing acknowledged is lost, doubled or moved (CORPUS F1, F10)."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.keys.file import add_key, drop_key, load_retired
from iap_authz.client.channel import LogChannel
from iap_authz.errors import Unavailable
from iap_authz.records.log_fold import Fold
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import LeafIndex, NodeHash, leaf_hash, leaf_hashes
from iap_authz.tlog.tree import subtree_root
from tests.fakes.journal import ORIGIN
from tests.fakes.log_core import Shipper
from tests.fakes.log_process import TOKEN, LogProcess

KILLS = 12
WRITERS = 3


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LogProcess]:
    process = LogProcess(tmp_path / "log")
    process.start()
    try:
        yield process
    finally:
        process.kill()


async def insist(channel: LogChannel, writer: Shipper, begin: int, end: int) -> log_pb2.Receipt:
    """Send until there is an answer, as a sidecar does: the same batch, again and again."""
    while True:
        try:
            return (await channel.append(writer.batch(begin, end))).receipt
        except Unavailable:
            await asyncio.sleep(0.02)


async def keep_shipping(
    address: str, writer: Shipper, receipts: dict[tuple[int, int], log_pb2.Receipt], done: asyncio.Event
) -> None:
    """Batches of any size, one after the other, until `done`; each acknowledged one is noted."""
    sizes = random.Random(writer.made.writer)
    channel = LogChannel(address, timeout_seconds=5)
    try:
        while True:
            try:
                await channel.register(writer.registration(token=TOKEN))
                break
            except Unavailable:
                await asyncio.sleep(0.02)
        begin, end = 0, 1
        while not done.is_set():
            receipts[begin, end] = await insist(channel, writer, begin, end)
            begin, end = writer.add(sizes.choice((1, 2, 17, 200, 300)))
    finally:
        await channel.close()


Receipts = dict[tuple[int, int], log_pb2.Receipt]


async def insist_on_two(receipts: Receipts) -> None:
    """A writer that was unlucky gets its turn; the test's own bound ends it."""
    for _ in range(3_000):
        if len(receipts) > 1:
            return
        await asyncio.sleep(0.01)


async def load_and_kill(process: LogProcess) -> list[tuple[Shipper, Receipts]]:
    chance, done = random.Random(7), asyncio.Event()
    writers: list[tuple[Shipper, Receipts]] = [(Shipper(f"writer {number}"), {}) for number in range(WRITERS)]
    loads = [asyncio.ensure_future(keep_shipping(process.address, *pair, done)) for pair in writers]
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.02, 0.35))
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start)
    await asyncio.gather(*(insist_on_two(receipts) for _, receipts in writers))
    done.set()
    await asyncio.gather(*loads)
    return writers


async def read_all(process: LogProcess) -> tuple[list[bytes], bytes]:
    channel = LogChannel(process.address)
    try:
        note = (await channel.get_checkpoint(log_pb2.GetCheckpointRequest())).checkpoint
        size = open_checkpoint(note, process.key).size
        entries: list[bytes] = []
        while len(entries) < size:
            request = log_pb2.GetEntriesRequest(first=len(entries), count=min(size - len(entries), 10_000))
            entries += [entry.record async for entry in channel.get_entries(request)]
        return entries, note
    finally:
        await channel.close()


@pytest.mark.time_bound(240)
def test_every_acknowledged_record_is_in_the_log_exactly_once(process: LogProcess) -> None:
    writers = asyncio.run(load_and_kill(process))
    entries, note = asyncio.run(read_all(process))
    hashes, checkpoint = leaf_hashes(entries), open_checkpoint(note, process.key)
    assert subtree_root([NodeHash(one) for one in hashes]) == checkpoint.root
    fold = Fold(ORIGIN)
    fold.add_all(LeafIndex(0), entries, hashes)
    fold.finish()
    assert fold.problems == []
    assert len(set(hashes)) == len(hashes)
    for writer, receipts in writers:
        assert receipts
        for (begin, end), receipt in receipts.items():
            writer.check(receipt, begin, end, key=process.key)
            place = slice(receipt.first_index, receipt.first_index + end - begin)
            assert hashes[place] == [leaf_hash(leaf) for leaf in writer.made.leaves[begin:end]]
        state = fold.writers[writer.made.writer]
        assert state.tree.end >= max(end for _, end in receipts)
    assert process.stop() == 0


def test_f18_of_two_sequencers_on_one_store_the_loser_exits(process: LogProcess) -> None:
    (process.folder / "log.yaml").write_text(
        (process.folder / "log.yaml").read_text().replace("log.sock", "second.sock").replace("http.sock", "http2.sock")
    )
    second = process.spawn()
    try:

        async def ship() -> None:
            writer, channel = Shipper(), LogChannel(process.address)
            await channel.register(writer.registration(token=TOKEN))
            await insist(channel, writer, 0, 1)
            for _ in range(3):
                await insist(channel, writer, *writer.add(5))
            await channel.close()

        while not (process.folder / "second.sock").exists():
            assert second.poll() is None, process.last_words()
        asyncio.run(ship())
        assert second.wait(30) == 3
        assert "another sequencer" in process.last_words()
    finally:
        second.kill()
        second.wait()
    assert process.stop() == 0


def test_f25_an_idle_log_outlives_a_rotation_by_its_key_file(process: LogProcess) -> None:
    async def ship(writer: Shipper, begin: int, end: int) -> None:
        channel = LogChannel(process.address)
        await channel.register(writer.registration(token=TOKEN))
        await insist(channel, writer, begin, end)
        await channel.close()

    writer, path = Shipper(), process.folder / "log.key"
    asyncio.run(ship(writer, 0, 1))
    for change in (add_key, drop_key, add_key, drop_key):
        assert process.stop() == 0
        change(path)
        process.start()
    asyncio.run(ship(writer, *writer.add(7)))
    assert len(load_retired(path)) == 2
    assert process.stop() == 0
