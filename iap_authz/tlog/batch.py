# SPDX-License-Identifier: Apache-2.0
r"""One round of the log as a value: from the old edge and the new entries to the new tree and every write.

The invariant: the plan is a pure function of the old edge and the entries. So a stage need only hold these (`Stage`),
and recovery computes the same writes, byte for byte, that the round which crashed would have made (rules C1 and C2).

    old tree, old edge, entries --plan--> new tree, new edge, leaf hashes
                                          full:     tiles and bundles that are complete now; final, written once
                                          partial:  the new edge's tiles and bundle, for a size that is published (B1)

    Stage:  "iap-authz/stage/v2\n" || u64 old size || old root (32) || edge tiles, level 0 first
            || u32 length || edge bundle || u32 count || count x (uint16 length || entry) || u32 length || beside

All numbers are big-endian. The tiles need no lengths: the size gives them. No signature is ever in a stage (C2). What
is `beside` the entries is in no leaf, and no concern of a plan: only the hash of the stage covers it. Stages of version
1 end with their entries; they are still read, since one may stand there when a newer version starts.

Crash states are the commit's story, not told here: a plan has no effect. It does not decide when to publish, either:
a size that only receipts mention needs no partials, and `plan_partials` makes those of any edge later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct

from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.tlog.edge import Edge, check_edge, partial_hashes, tree_of
from iap_authz.tlog.hashing import (
    HASH_BYTES,
    SIZE_LIMIT_LEAVES,
    LeafHash,
    NodeHash,
    TreeSize,
    leaf_hashes,
    parse_node_hash,
)
from iap_authz.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Bundle,
    Tile,
    check_entry,
    level_count,
    partial_bundle,
    partial_tiles,
    render_bundle,
    render_bundle_path,
    render_tile,
    render_tile_path,
    width_at,
)
from iap_authz.tlog.tree import CompactRange, Growth, Subtree, grow

STAGE_MAGIC = b"iap-authz/stage/v2\n"
"""What the bytes of a stage start with."""

STAGE_MAGIC_V1 = b"iap-authz/stage/v1\n"
"""The same of those without anything beside their entries; as long as the present one."""

_U32 = Struct(">I")
_U64 = Struct(">Q")
_U16 = Struct(">H")

_FULL_TILE_BYTES = TILE_WIDTH * HASH_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One immutable resource: its path below the log's prefix, and its bytes. Written once, compared if there (C6)."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What a round does. Bundles come before tiles and low levels before high: no hash is seen before its leaves.

    `before` is the tree it built on, `completed` the nodes that became complete, by level (`tree.Growth`).
    """

    before: CompactRange
    tree: CompactRange
    edge: Edge
    leaf_hashes: tuple[LeafHash, ...]
    completed: tuple[Sequence[NodeHash], ...]
    full: tuple[Write, ...]

    def read(self, subtrees: Sequence[Subtree]) -> list[NodeHash]:
        """The roots of subtrees at the old right border or within this round: all that its receipts need."""
        old = dict(zip(self.before.subtrees(), self.before.hashes, strict=True))
        size = self.before.end
        return [
            old[one] if one in old else self.completed[one.level][one.index - (size >> one.level)] for one in subtrees
        ]

    @property
    def partial(self) -> tuple[Write, ...]:
        """All partial resources of the new size, for the round that publishes it."""
        return plan_partials(self.edge)


def plan(tree: CompactRange, entries: Sequence[bytes], *, edge: Edge) -> BatchPlan:
    """Append `entries` (at least one, each 1 to 65,535 bytes) to the log that ends in `edge`.

    `tree` is the compact range of the edge (`edge.tree_of`), carried from round to round so that nothing is hashed
    twice. Raises Malformed for an entry of a wrong length, before anything is computed.
    """
    if tree.begin != 0 or tree.end != edge.size or not entries:
        raise ValueError(
            f"got {len(entries)} entries, a tree from {tree.begin} to {tree.end}, an edge of size {edge.size}"
        )
    for entry in entries:
        check_entry(entry)
    hashes = leaf_hashes(entries)
    growth = grow(tree, hashes)
    full_bundles, bundle = _plan_bundles(entries, edge=edge)
    full_tiles, tiles = _plan_tiles(growth, edge=edge)
    return BatchPlan(
        before=tree,
        tree=growth.tree,
        edge=Edge(size=growth.tree.end, tiles=tiles, bundle=bundle),
        leaf_hashes=tuple(hashes),
        completed=growth.completed,
        full=(*full_bundles, *full_tiles),
    )


def _plan_bundles(entries: Sequence[bytes], *, edge: Edge) -> tuple[list[Write], bytes]:
    """The bundles that are full now, and the bytes of the partial one that remains."""
    writes, pending, start = [], edge.bundle, 0
    index, width = divmod(edge.size, TILE_WIDTH)
    while len(entries) - start >= TILE_WIDTH - width:
        stop = start + TILE_WIDTH - width
        content = pending + render_bundle(entries[start:stop])
        writes.append(Write(path=render_bundle_path(Bundle(index)), content=content))
        index, width, start, pending = index + 1, 0, stop, b""
    return writes, pending + render_bundle(entries[start:])


def _plan_tiles(growth: Growth, *, edge: Edge) -> tuple[list[Write], tuple[bytes, ...]]:
    """The tiles that are full now, and the bytes of the partial ones that remain, both from level 0 up."""
    writes, tiles = [], []
    for level in range(level_count(growth.tree.end)):
        row = level * TILE_HEIGHT
        gained = growth.completed[row] if row < len(growth.completed) else ()
        content = partial_hashes(edge, level) + render_tile(gained)
        first = edge.size >> (row + TILE_HEIGHT)
        count = len(content) // _FULL_TILE_BYTES
        for number in range(count):
            part = content[number * _FULL_TILE_BYTES : (number + 1) * _FULL_TILE_BYTES]
            writes.append(Write(path=render_tile_path(Tile(level, first + number)), content=part))
        tiles.append(content[count * _FULL_TILE_BYTES :])
    return writes, tuple(tiles)


def plan_partials(edge: Edge, *, published: int = 0) -> tuple[Write, ...]:
    """The partial resources of the edge's size, but those that the `published` size has as well. Bundle first."""
    bundle, had = partial_bundle(edge.size), set(partial_tiles(published))
    changed = [tile for tile in partial_tiles(edge.size) if tile not in had]
    writes = [Write(path=render_tile_path(tile), content=edge.tiles[tile.level]) for tile in changed]
    if bundle is not None and bundle != partial_bundle(published):
        writes.insert(0, Write(path=render_bundle_path(bundle), content=edge.bundle))
    return tuple(writes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The causes of a round, from which `recover` computes all its effects: the old edge and root, and the entries.

    `beside` is kept with them, whatever it is.
    """

    edge: Edge
    root: NodeHash
    entries: tuple[bytes, ...]
    beside: bytes = b""


def render_stage(stage: Stage) -> bytes:
    """The bytes of a stage. Its key is `size-root` of the tree that results, and it is written once (C2)."""
    return b"".join(
        [
            STAGE_MAGIC,
            _U64.pack(stage.edge.size),
            stage.root,
            *stage.edge.tiles,
            _U32.pack(len(stage.edge.bundle)),
            stage.edge.bundle,
            _U32.pack(len(stage.entries)),
            render_bundle(stage.entries),
            _U32.pack(len(stage.beside)),
            stage.beside,
        ]
    )


def parse_stage(data: bytes) -> Stage:
    """The stage of these bytes. Whether it is that of a head is for `recover` to say."""
    reader = _Reader(data)
    magic = reader.take(len(STAGE_MAGIC))
    if magic not in (STAGE_MAGIC, STAGE_MAGIC_V1):
        raise Malformed(f"got {shown(magic)}, want {shown(STAGE_MAGIC)}")
    (size,) = _U64.unpack(reader.take(_U64.size))
    if size >= SIZE_LIMIT_LEAVES:
        raise Malformed(f"got old size {size}, want 0 to 2^63 - 1")
    root = parse_node_hash(reader.take(HASH_BYTES))
    tiles = tuple(reader.take(width_at(level, size) * HASH_BYTES) for level in range(level_count(size)))
    bundle = reader.take(*_U32.unpack(reader.take(_U32.size)))
    entries = tuple(reader.take_entries(*_U32.unpack(reader.take(_U32.size))))
    beside = reader.take(*_U32.unpack(reader.take(_U32.size))) if magic == STAGE_MAGIC else b""
    if reader.at != len(data):
        raise Malformed(f"got {len(data) - reader.at} bytes after the last entry, want none")
    return Stage(edge=Edge(size=TreeSize(size), tiles=tiles, bundle=bundle), root=root, entries=entries, beside=beside)


class _Reader:
    """Takes bytes off the front of a buffer, and never more than there are."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise Malformed(f"got {len(self.data)} bytes, want at least {self.at}")
        return self.data[start : self.at]

    def take_entries(self, count: int) -> Iterator[bytes]:
        """The next `count` entries, each after its length."""
        for _ in range(count):
            entry = self.take(*_U16.unpack(self.take(_U16.size)))
            check_entry(entry)
            yield entry


def recover(stage: Stage, *, size: int, root: NodeHash) -> BatchPlan:
    """The plan of a stage whose head, `size` and `root`, was committed (C2): recomputed, then compared, then returned.

    Raises BadProof if the old edge is not that of the old root or the result is not the head, Malformed if the stage
    is no round at all. Nothing may be signed or applied before this returns.
    """
    check_edge(stage.edge, stage.root)
    if not stage.entries:
        raise Malformed("got a stage without entries, want at least one")
    result = plan(tree_of(stage.edge), stage.entries, edge=stage.edge)
    if (result.tree.end, result.tree.root()) != (size, root):
        raise BadProof(
            f"got a stage that leads to size {result.tree.end}, root {result.tree.root().hex()}, want the head"
        )
    return result
