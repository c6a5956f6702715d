# SPDX-License-Identifier: Apache-2.0
"""The incomplete right edge of a stored log: what an append builds on, as one value.

The invariant: an edge of size s holds, for each tile level, the last s / 256^level mod 256 hashes, and the last
s mod 256 entries; these hashes are the tree (`tree_of`), so edge, compact range and root never disagree unnoticed.

    size 70,000:   level 0: 112 hashes   level 1: 17 hashes   level 2: 1 hash   bundle: 112 entries

The tiles left of the edge are full and final, and an append never reads them. It does no I/O: whoever loads an edge
from a store calls `check_edge` before building on it.
"""

from dataclasses import dataclass

from iap_authz.errors import BadProof, Malformed
from iap_authz.tlog.hashing import HASH_BYTES, NodeHash, TreeSize, check_size, leaf_hashes
from iap_authz.tlog.tiles import TILE_WIDTH, level_count, parse_bundle, parse_tile, render_tile, width_at
from iap_authz.tlog.tree import CompactRange, cover, subtree_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The partial tiles (level 0 first; b"" where a level ends in a full one) and the partial bundle of a size."""

    size: TreeSize
    tiles: tuple[bytes, ...]
    bundle: bytes

    def __post_init__(self) -> None:
        check_size(self.size)
        want = tuple(width_at(level, self.size) * HASH_BYTES for level in range(level_count(self.size)))
        if tuple(map(len, self.tiles)) != want:
            raise Malformed(f"got tiles of {tuple(map(len, self.tiles))} bytes at size {self.size}, want {want}")
        if bool(self.bundle) != bool(self.size % TILE_WIDTH):
            message = (
                f"got a bundle of {len(self.bundle)} bytes at size {self.size}, want {self.size % TILE_WIDTH} entries"
            )
            raise Malformed(message)


EMPTY_EDGE = Edge(size=TreeSize(0), tiles=(), bundle=b"")
"""The edge of the log without entries."""


def tree_of(edge: Edge) -> CompactRange:
    """The compact range of the edge's size: each tile level gives eight binary digits of the size."""
    hashes: list[NodeHash] = []
    for level in reversed(range(len(edge.tiles))):
        width = width_at(level, edge.size)
        tile = parse_tile(edge.tiles[level], width) if width else ()
        at = 0
        for subtree in cover(0, width):
            count = 1 << subtree.level
            hashes.append(subtree_root(tile[at : at + count]))
            at += count
    return CompactRange(begin=TreeSize(0), end=edge.size, hashes=tuple(hashes))


def check_edge(edge: Edge, root: NodeHash) -> None:
    """Raise BadProof unless the edge's tiles hash to `root` and its entries to its tile of level 0.

    `root` is that of a committed head. Raises Malformed for a bundle that does not parse.
    """
    got = tree_of(edge).root()
    if got != root:
        raise BadProof(f"got an edge of root {got.hex()} at size {edge.size}, want {root.hex()}")
    width = width_at(0, edge.size)
    entries = parse_bundle(edge.bundle, width) if width else ()
    if width and b"".join(leaf_hashes(entries)) != edge.tiles[0]:
        raise BadProof(f"got a bundle whose {width} entries are not the leaves at the edge of size {edge.size}")


def partial_hashes(edge: Edge, level: int) -> bytes:
    """The hashes at the edge of a tile level, which may be a level the tree has not reached."""
    return edge.tiles[level] if level < len(edge.tiles) else render_tile(())
