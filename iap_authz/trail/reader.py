# SPDX-License-Identifier: Apache-2.0
"""`TrailReader`: leaves read through the index, by whoever in the trail needs records whose place it does not know.

The invariant: what the index names is a hint; the leaf decides. So whoever reads here compares the leaf again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import IapError
from iap_authz.ports import Index
from iap_authz.records.log_leaves import parse_log_leaf
from iap_authz.tlog.hashing import LeafIndex, TreeSize
from iap_authz.trail.leaves import CHUNK_LEAVES, LeafSource, read_each
from iap_authz.trail.worker import Run

POLL_SECONDS = 0.1
"""Between two looks at how far the index is: it follows the log by about as much."""

Pause = Callable[[float], Awaitable[None]]
"""Waits for so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailReader:
    """The leaves of one log, its index, and the thread that waits for the database."""

    origin: str
    leaves: LeafSource
    index: Index
    run: Run
    pause: Pause = asyncio.sleep

    async def caught_up(self) -> TreeSize:
        """Return once the index stands at what is the log's size now, which is returned."""
        size = self.leaves.size()
        while await self.run(self.index.size) < size:
            await self.pause(POLL_SECONDS)
        return size

    async def read(self, index: LeafIndex) -> bytes:
        """One leaf."""
        (leaf,) = await self.leaves.read(index, 1)
        return leaf

    async def search(
        self, query: log_pb2.SearchRecordsRequest, *, after: int = -1
    ) -> AsyncIterator[tuple[LeafIndex, bytes]]:
        """The leaves behind `after` that the index finds by clear fields, oldest first."""
        while True:
            since = None if after < 0 else LeafIndex(after)
            hits = await self.run(self.index.search, query, tokens=(), after=since, limit=CHUNK_LEAVES)
            async for found, leaf in read_each(self.leaves, hits):
                yield found, leaf
            if len(hits) < CHUNK_LEAVES:
                return
            after = hits[-1]

    async def own_records(self, body: str, *, after: int = -1) -> AsyncIterator[tuple[LeafIndex, record_pb2.Record]]:
        """The log's own records of this body behind `after`, oldest first."""
        async for index, leaf in self.search(log_pb2.SearchRecordsRequest(bodies=[body]), after=after):
            try:
                record = parse_log_leaf(leaf, origin=self.origin, index=index, body=body)
            except IapError:  # the index was wrong, or somebody else's record stands there
                continue
            yield index, record
