# SPDX-License-Identifier: Apache-2.0
"""`Indexer`: keeps the index up to the log.

The invariant: the index holds the leaves [0, size) of this log, whatever was interrupted: each chunk is one
transaction, and the next start goes on from the size that it left. An index that does not fit the log is refused, not
mended: it is derived, so whoever runs the log clears it and it is built anew.
"""

import asyncio
import logging
from collections.abc import Collection

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Corrupt
from iap_authz.ports import Index
from iap_authz.records.tokens import tokens_of
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.leaves import LeafSource
from iap_authz.trail.match import has_personal, parse_or_none
from iap_authz.trail.opener import Unsealing
from iap_authz.trail.worker import Run

CHUNK_LEAVES = 2_048
"""Leaves in one transaction: about 30 ms of the database's thread, which searches wait for."""

SEALED_CHUNK_LEAVES = 512
"""The same where they have to be opened and their tokens made: about 100 ms."""

REST_SHARE = 2.0
"""Rest after a chunk, as a multiple of its time, while the log grows faster than it: appends come before searches."""

COMPANIONS_SECONDS = 0.1
"""Between two looks at whether what stands beside the next leaves is stored: that follows each publication."""

_log = logging.getLogger("iap_authz.trail.indexer")


class Indexer:
    """Adds what the log gains to the index. Owned by the event loop; one for each index."""

    def __init__(self, leaves: LeafSource, index: Index, run: Run, *, unsealing: Unsealing | None = None) -> None:
        self._leaves = leaves
        self._index = index
        self._run = run
        self._unsealing = unsealing
        self._chunk_leaves = CHUNK_LEAVES if unsealing is None else SEALED_CHUNK_LEAVES
        self._size = TreeSize(0)

    @property
    def size(self) -> TreeSize:
        """Leaves below this are known to be indexed."""
        return self._size

    async def run(self) -> None:
        """Until cancelled. Any failure is logged and raised: Corrupt, OSError, what the database raises."""
        try:
            await self._begin()
            while True:
                await self._leaves.wait_larger(self._size)
                await self._add_chunk()
        except Exception:
            _log.exception("the index stands still", extra={"size": self._size})
            raise

    async def _begin(self) -> None:
        """Find where the index stands, and whether it is this log's: its last leaf must be known to it."""
        indexed, size = await self._run(self._index.size), self._leaves.size()
        if indexed > size:
            raise Corrupt("index", f"got an index of {indexed} leaves, want at most the log's {size}: build it anew")
        if indexed:
            (leaf,) = await self._leaves.read(LeafIndex(indexed - 1), 1)
            if await self._run(self._index.find, leaf_hash(leaf)) is None:
                raise Corrupt("index", f"got an index that does not know leaf {indexed - 1}, want it: build it anew")
        self._size = indexed

    async def _add_chunk(self) -> None:
        loop, before = asyncio.get_running_loop(), self._leaves.size()
        started, count = loop.time(), min(self._chunk_leaves, await self._ready() - self._size)
        if count <= 0:
            await asyncio.sleep(COMPANIONS_SECONDS)
            return
        chunk = await self._leaves.read(LeafIndex(self._size), count)
        await self._run(self._add, LeafIndex(self._size), chunk)
        self._size = TreeSize(self._size + len(chunk))
        grown = min(self._leaves.size() - before, count) / count
        # Also without a rest: a source that has all at hand must not keep the loop from others.
        await asyncio.sleep((loop.time() - started) * REST_SHARE * grown)

    async def _ready(self) -> int:
        """Below which leaf everything is here that tokens are made of: companions follow the leaves by some seconds."""
        size: int = self._leaves.size()
        if self._unsealing is None:
            return size
        return min(size, await self._run(self._unsealing.opener.size))

    def _add(self, first: LeafIndex, leaves: list[bytes]) -> None:
        """In the thread."""
        self._index.add(first, leaves, self._tokens(first, leaves))

    def _tokens(self, first: LeafIndex, leaves: list[bytes]) -> list[Collection[int]]:
        """The tokens of each leaf (rule S9): none of what is erased, cannot be opened, or says nothing of a person."""
        tokens: list[Collection[int]] = [() for _ in leaves]
        if self._unsealing is None:
            return tokens
        parsed = [(index, parse_or_none(leaf)) for index, leaf in enumerate(leaves, first)]
        personal = [
            (LeafIndex(index), record) for index, record in parsed if record is not None and has_personal(record)
        ]
        for (index, _), opened in zip(personal, self._unsealing.opener.open_all(personal), strict=True):
            if opened.personal is not None:
                tokens[index - first] = tokens_of(self._unsealing.token_key, opened.personal)
            elif opened.outcome == log_pb2.Unsealed.TAMPERED:
                _log.error("a sealed part cannot be opened: it gets no tokens", extra={"leaf": index})
        return tokens
