# SPDX-License-Identifier: Apache-2.0
"""The indexer: keeps up, goes on where it was, and refuses an index of another log."""

import asyncio
import logging
from collections.abc import Collection
from collections.abc import Sequence as Many

import pytest

from iap_authz.errors import Corrupt
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.trail.indexer import CHUNK_LEAVES, Indexer
from iap_authz.trail.worker import Worker
from tests.fakes.trail import FakeLeaves, MemoryIndex, add_plain, decision_leaf, mixed_leaves


class WatchedIndex(MemoryIndex):
    """Remembers how much came in one call, and breaks when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[tuple[int, int]] = []
        self.failure: Exception | None = None

    def add(self, first: LeafIndex, leaves: Many[bytes], tokens: Many[Collection[int]]) -> None:
        if self.failure is not None:
            raise self.failure
        super().add(first, leaves, tokens)
        self.added.append((first, len(leaves)))


async def keep_up(leaves: FakeLeaves, index: MemoryIndex, *growth: Many[bytes]) -> None:
    """Run an indexer until it waits, after each growth, and end it."""
    worker = Worker()
    task = asyncio.create_task(Indexer(leaves, index, worker.run).run())
    ended = asyncio.create_task(asyncio.wait([task]))
    try:
        for more in ((), *growth):
            if more:
                leaves.grow(more)
            waiting = asyncio.create_task(leaves.waiting.wait())
            await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if task.done():
                break
        task.cancel()
        await task
    except asyncio.CancelledError:
        pass
    finally:
        worker.close()
        await ended


def test_it_adds_what_there_is_in_chunks_and_then_what_comes() -> None:
    leaves, index = FakeLeaves([decision_leaf(0)] * (CHUNK_LEAVES + 5)), WatchedIndex()
    more = mixed_leaves(7)
    asyncio.run(keep_up(leaves, index, more[:3], more[3:]))
    assert index.added == [(0, CHUNK_LEAVES), (CHUNK_LEAVES, 5), (CHUNK_LEAVES + 5, 3), (CHUNK_LEAVES + 8, 4)]
    assert index.leaves == leaves.leaves


def test_it_goes_on_where_the_index_stands() -> None:
    leaves, index = FakeLeaves(mixed_leaves(20)), WatchedIndex()
    add_plain(index, LeafIndex(0), leaves.leaves[:15])
    asyncio.run(keep_up(leaves, index))
    assert index.added == [(0, 15), (15, 5)]
    assert min(first for first, _ in leaves.reads) == 14, "leaves that are indexed are not read again"


def test_the_size_follows() -> None:
    async def run() -> list[int]:
        worker, leaves, index = Worker(), FakeLeaves(mixed_leaves(4)), MemoryIndex()
        indexer = Indexer(leaves, index, worker.run)
        sizes = [int(indexer.size)]
        task = asyncio.create_task(indexer.run())
        await leaves.waiting.wait()
        sizes.append(indexer.size)
        task.cancel()
        await asyncio.wait([task])
        worker.close()
        return sizes

    assert asyncio.run(run()) == [0, 4]


def test_an_index_that_is_ahead_of_the_log_is_refused() -> None:
    leaves, index = FakeLeaves(mixed_leaves(5)), MemoryIndex()
    add_plain(index, LeafIndex(0), mixed_leaves(6))
    with pytest.raises(Corrupt, match="got an index of 6 leaves, want at most the log's 5: build it anew"):
        asyncio.run(keep_up(leaves, index))


def test_an_index_of_another_log_is_refused() -> None:
    leaves, index = FakeLeaves([decision_leaf(n) for n in range(5)]), MemoryIndex()
    add_plain(index, LeafIndex(0), [decision_leaf(n, rule="other") for n in range(3)])
    with pytest.raises(Corrupt, match="got an index that does not know leaf 2"):
        asyncio.run(keep_up(leaves, index))


def test_a_failure_is_logged_and_raised(caplog: pytest.LogCaptureFixture) -> None:
    leaves, index = FakeLeaves(mixed_leaves(5)), WatchedIndex()
    index.failure = OSError("no room")
    with caplog.at_level(logging.ERROR), pytest.raises(OSError, match="no room"):
        asyncio.run(keep_up(leaves, index))
    assert [record.getMessage() for record in caplog.records] == ["the index stands still"]
    assert index.size() == 0
