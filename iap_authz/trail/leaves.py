# SPDX-License-Identifier: Apache-2.0
"""Where leaves come from, and how many are read with few calls."""

from collections.abc import AsyncIterator
from collections.abc import Sequence as Many
from typing import Protocol

from iap_authz.tlog.hashing import LeafIndex, TreeSize

CHUNK_LEAVES = 256
"""Leaves in one read: those of a bundle (C2SP tlog-tiles), at most 16 MB. A slow reader of a stream holds that much."""


class LeafSource(Protocol):
    """The leaves of the log. Owned by the event loop; any number of readers."""

    def size(self) -> TreeSize:
        """Leaves below this may be read. Never shrinks."""

    async def read(self, first: LeafIndex, count: int) -> list[bytes]:
        """Exactly the leaves [first, first + count), all below `size()`. Raises Corrupt or OSError."""

    async def wait_larger(self, size: TreeSize) -> None:
        """Return once `size()` is above `size`."""


async def read_range(leaves: LeafSource, first: int, end: int) -> AsyncIterator[tuple[LeafIndex, bytes]]:
    """The leaves [first, end), each with its index; no more than a chunk is held."""
    for at in range(first, end, CHUNK_LEAVES):
        chunk = await leaves.read(LeafIndex(at), min(CHUNK_LEAVES, end - at))
        for index, leaf in enumerate(chunk, at):
            yield LeafIndex(index), leaf


async def read_each(leaves: LeafSource, indices: Many[LeafIndex]) -> AsyncIterator[tuple[LeafIndex, bytes]]:
    """The leaves at `indices`, in that order: those that follow each other in one bundle are read in one call."""
    at = 0
    while at < len(indices):
        bundle, start = indices[at] // CHUNK_LEAVES, at
        while at < len(indices) and indices[at] // CHUNK_LEAVES == bundle:
            at += 1
        wanted = indices[start:at]
        first = min(wanted)
        chunk = await leaves.read(first, max(wanted) - first + 1)
        for index in wanted:
            yield index, chunk[index - first]
