# SPDX-License-Identifier: Apache-2.0
"""Reading the log as it stands at a committed head: tiles, entries, roots, proofs.

The invariant: everything is read at the size of one `View`, whose edge and root were committed; complete subtrees of a
smaller tree are those of the larger one, so proofs for every size up to it come from the same tiles.

    full tile or bundle  the round that is being applied, else a cache, else the store
    partial one          the view's edge, in memory: a size that only receipts mention has none in the store (rule B1)

What the store returns is not believed: a tile hashes to the tile above it, entries to theirs (F19).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TypeVar

from iap_authz.errors import Corrupt, Malformed, NotFound
from iap_authz.ports import TileStore
from iap_authz.tlog.checkpoint import SignedCheckpoint
from iap_authz.tlog.edge import Edge
from iap_authz.tlog.hashing import HASH_BYTES, LeafIndex, NodeHash, TreeSize, check_size, leaf_hashes
from iap_authz.tlog.proof import Read, prove_consistency, prove_inclusion, prove_range
from iap_authz.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Bundle,
    Tile,
    parse_bundle,
    parse_tile,
    render_bundle_path,
    render_tile_path,
    subtree_hashes,
    tiles_for,
)
from iap_authz.tlog.tree import Subtree, cover, fold, subtree_root

CACHED_MAX = 2_048
"""Full tiles kept in memory: 16 MiB, and every tile above level 0 of a log of a hundred million leaves."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A committed head: its signed checkpoint, its edge, and the full resources that are not in the store yet."""

    signed: SignedCheckpoint
    edge: Edge
    pending: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> TreeSize:
        """How many leaves there are."""
        return self.edge.size


class Reader:
    """Reads at the view in force. Safe to use from several threads: views are swapped whole."""

    def __init__(self, tiles: TileStore, view: View) -> None:
        self._tiles = tiles
        self._view = view
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()
        self._grown = asyncio.Event()

    @property
    def view(self) -> View:
        """The view in force."""
        return self._view

    def move_to(self, view: View) -> None:
        """Take a newer view; from the loop's thread."""
        grown = view.size > self._view.size
        self._view = view
        if grown:
            self._grown.set()
            self._grown = asyncio.Event()

    def size(self) -> TreeSize:
        """How many leaves may be read."""
        return self._view.size

    async def wait_larger(self, size: int) -> None:
        """Until there are more leaves than `size`."""
        while self._view.size <= size:
            await self._grown.wait()

    async def inclusion(self, index: int, size: int) -> tuple[NodeHash, ...]:
        """An inclusion proof in the tree of `size`. Raises Malformed."""
        return await self._prove(partial(prove_inclusion, index, self._checked(size)))

    async def consistency(self, old: int, new: int) -> tuple[NodeHash, ...]:
        """A consistency proof between two sizes. Raises Malformed."""
        return await self._prove(partial(prove_consistency, old, self._checked(new)))

    async def range_of(self, first: int, count: int, *, size: int) -> tuple[NodeHash, ...]:
        """A range proof in the tree of `size`. Raises Malformed."""
        return await self._prove(partial(prove_range, first, count, size=self._checked(size)))

    async def root_at(self, size: int) -> NodeHash:
        """The root of the tree of `size`. Raises Malformed."""
        places = tuple(cover(0, self._checked(size)))
        return await self._prove(lambda *, read: fold(list(read(places))))

    async def read(self, first: LeafIndex, count: int) -> list[bytes]:
        """The entries [first, first + count), cut at the size; each hashes to its leaf. Raises Corrupt."""
        return await asyncio.to_thread(self.read_now, first, count)

    def read_now(self, first: LeafIndex, count: int) -> list[bytes]:
        """The same, blocking."""
        view = self._view
        return self._read_entries(view, first, min(first + count, view.size))

    async def tile(self, tile: Tile) -> bytes:
        """A tile, or a partial one at any width up to what there is. Raises Malformed or NotFound."""
        view = self._view
        return await asyncio.to_thread(self._narrow_tile, view, tile)

    async def bundle(self, bundle: Bundle) -> bytes:
        """An entry bundle, full or partial. Raises Malformed or NotFound."""
        view = self._view
        return await asyncio.to_thread(self._narrow_bundle, view, bundle)

    def reading(self) -> Read:
        """A blocking `read` for proofs, at the view in force."""
        return partial(self._hashes, self._view)

    async def _prove(self, prove: Callable[..., T]) -> T:
        """At once if all it needs is in memory, else in a thread."""
        view = self._view
        try:
            return prove(read=partial(self._hashes, view, only_cached=True))
        except _NotCached:
            return await asyncio.to_thread(prove, read=partial(self._hashes, view))

    def _checked(self, size: int) -> int:
        check_size(size)
        if size > self._view.size:
            raise Malformed(f"got tree size {size}, want at most {self._view.size}, the size of the log")
        return size

    def _hashes(self, view: View, subtrees: Sequence[Subtree], *, only_cached: bool = False) -> Sequence[NodeHash]:
        wanted = tiles_for(subtrees, view.size)
        contents = {tile: self._tile(view, tile, only_cached=only_cached) for tile in wanted}
        return subtree_hashes(subtrees, view.size, contents=contents)

    def _tile(self, view: View, tile: Tile, *, only_cached: bool = False) -> bytes:
        """A tile of the view's size, with its exact length."""
        if tile.width < TILE_WIDTH:
            return view.edge.tiles[tile.level]
        path = render_tile_path(tile)
        if path in view.pending:
            return view.pending[path]
        with self._lock:
            if path in self._cache:
                self._cache.move_to_end(path)
                return self._cache[path]
        if only_cached:
            raise _NotCached
        content = self._stored(view, path)
        above = self._tile(view, _parent_of(tile, view.size))
        at = tile.index % TILE_WIDTH * HASH_BYTES
        if subtree_root(parse_tile(content, TILE_WIDTH)) != above[at : at + HASH_BYTES]:
            raise Corrupt(path, "got hashes that do not lead to the tile above: run `iap-authz fsck`")
        with self._lock:
            self._cache[path] = content
            while len(self._cache) > CACHED_MAX:
                self._cache.popitem(last=False)
        return content

    def _narrow_tile(self, view: View, tile: Tile) -> bytes:
        """The first hashes of the tile that the view has at this place."""
        have = min(TILE_WIDTH, max((view.size >> (TILE_HEIGHT * tile.level)) - tile.index * TILE_WIDTH, 0))
        if tile.width > have:
            raise NotFound(f"got a tile of width {tile.width}, want at most {have} at size {view.size}")
        content = self._tile(view, Tile(tile.level, tile.index, have))
        return content[: tile.width * (len(content) // have)]

    def _narrow_bundle(self, view: View, bundle: Bundle) -> bytes:
        have = min(TILE_WIDTH, max(view.size - bundle.index * TILE_WIDTH, 0))
        if bundle.width > have:
            raise NotFound(f"got a bundle of width {bundle.width}, want at most {have} at size {view.size}")
        content = self._bundle(view, bundle.index, have)
        if bundle.width == have:
            return content
        lengths = [len(entry) + 2 for entry in parse_bundle(content, have)[: bundle.width]]
        return content[: sum(lengths)]

    def _bundle(self, view: View, index: int, width: int) -> bytes:
        """The bundle of the view's size at this place; its entries hash to the tile of level 0."""
        if width < TILE_WIDTH:
            return view.edge.bundle
        path = render_bundle_path(Bundle(index))
        content = view.pending.get(path)
        if content is None:
            content = self._stored(view, path)
        if b"".join(leaf_hashes(parse_bundle(content, width))) != self._tile(view, Tile(0, index)):
            raise Corrupt(path, "got entries that are not the leaves of the tree: run `iap-authz fsck`")
        return content

    def _stored(self, view: View, path: str) -> bytes:
        content = self._tiles.read(path)
        if content is None:
            raise Corrupt(path, f"got nothing, want it in a log of {view.size} leaves: run `iap-authz fsck`")
        return content

    def _read_entries(self, view: View, first: int, end: int) -> list[bytes]:
        entries: list[bytes] = []
        for index in range(first // TILE_WIDTH, -(-end // TILE_WIDTH)):
            start = index * TILE_WIDTH
            width = min(TILE_WIDTH, view.size - start)
            found = parse_bundle(self._bundle(view, index, width), width)
            entries.extend(found[max(first - start, 0) : end - start])
        return entries


def _parent_of(tile: Tile, size: int) -> Tile:
    """The tile of the tree of `size` that holds the root of a full `tile`."""
    level, index = tile.level + 1, tile.index // TILE_WIDTH
    return Tile(level, index, min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH))


class _NotCached(Exception):
    """A tile has to be read from the store."""
