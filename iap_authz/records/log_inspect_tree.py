# SPDX-License-Identifier: Apache-2.0
"""All bundles and tiles of a tree, recomputed from the entries up, and which of two that disagree is right.

The invariant: what `TreeWalk` takes for true follows from the entries and is one tree; when its root is that of the
checkpoint, each finding is certain, since two of the three witnesses of a hash, and the root, agree against one.

    bundle  -- hashes -->  tile of level 0  -- root -->  hash in the tile of level 1  -- ... -->  root
    right?                 right?                        right?

    bundle and tile agree          both are right
    they do not                    the one whose root is the hash in level 1; at the right edge, which has none there,
                                   the one that leads to the root of the checkpoint
    level 1 sides with neither     the tile, if one byte makes the bundle fit it; else the bundle
    a tile of level 1 or above     is what the level below says

Partial resources of sizes published before must be the beginning of the fuller ones. Bundles are read one at a time;
of the tree only the levels from 1 up are kept, an eighth of a byte for each leaf.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from iap_authz.errors import Malformed
from iap_authz.records.log_fold import Fold
from iap_authz.records.log_inspect_bundle import Mended, mend_bundle
from iap_authz.records.log_inspect_findings import LogFinding, damaged, differences, missing
from iap_authz.tlog.batch import Write
from iap_authz.tlog.hashing import HASH_BYTES, LeafHash, LeafIndex, NodeHash, TreeSize, leaf_hash, leaf_hashes
from iap_authz.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Bundle,
    Tile,
    level_count,
    parse_bundle,
    parse_bundle_path,
    parse_tile,
    parse_tile_path,
    render_bundle,
    render_bundle_path,
    render_tile,
    render_tile_path,
    width_at,
)
from iap_authz.tlog.tree import cover, fold, subtree_root

ReadFile = Callable[[str], bytes | None]
"""The bytes at a path below the log's folder; None if there is nothing."""

Hashes = tuple[NodeHash, ...]

_NO_HASH = NodeHash(bytes(HASH_BYTES))
"""Stands where every witness is lost; no tree with it is confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """A bundle and the tile of level 0 above it, as they are stored. None: nothing there, or it does not parse."""

    bundle: Bundle
    content: bytes | None
    entries: tuple[bytes, ...] | None
    from_bundle: Hashes | None
    stored: bytes | None
    from_tile: Hashes | None


class TreeWalk:
    """Goes through the files of the tree of `size` once: `run`, then its other attributes.

    `root` is what was recomputed; `wanted` is the root that the right edge must lead to, if it is known.
    """

    def __init__(self, read: ReadFile, size: TreeSize, *, wanted: NodeHash | None, older: Iterable[str] = ()) -> None:
        self.findings: list[LogFinding] = []
        self.repairs: list[Write] = []
        self.root = _NO_HASH
        self._read = read
        self._size = size
        self._wanted = wanted
        self._rows: list[list[NodeHash]] = [[] for _ in range(level_count(size) + 1)]
        self._edge: Hashes = ()
        self._above: tuple[str, Hashes | None] = ("", None)
        self._older = _by_place(older)

    def run(self, into: Fold) -> None:
        """Read everything, and feed the leaves to `into`."""
        for index in range(-(-self._size // TILE_WIDTH)):
            unit = self._load(Bundle(index, min(TILE_WIDTH, self._size - index * TILE_WIDTH)))
            hashes = unit.from_bundle
            if hashes is None or hashes != unit.from_tile:
                hashes = self._judge(unit)
            entries = self._settle(unit, hashes)
            _feed(into, index * TILE_WIDTH, entries=entries, hashes=hashes)
            if unit.bundle.width == TILE_WIDTH:
                self._rows[1].append(subtree_root(hashes) if hashes else self._above_of(index) or _NO_HASH)
            else:
                self._edge = hashes
        for level in range(1, level_count(self._size)):
            self._compare_level(level)
        self.root = self._root_with(self._edge)

    def root_at(self, size: TreeSize) -> NodeHash | None:
        """The root of a smaller tree, out of what was found to be true; None if its tile of level 0 is damaged."""
        index, width = divmod(size, TILE_WIDTH)
        partial: Hashes = ()
        if width and index == self._size // TILE_WIDTH:
            partial = self._edge
        elif width:
            partial = self._tile(Tile(0, index)) or ()
            if not partial or subtree_root(partial) != self._rows[1][index]:
                return None
        return self._fold_rows(size, partial[:width])

    def _load(self, bundle: Bundle) -> _Unit:
        content = self._read(render_bundle_path(bundle))
        entries: tuple[bytes, ...] | None = None
        if content is not None:
            try:
                entries = parse_bundle(content, bundle.width)
            except Malformed:
                entries = None
        stored = self._read(render_tile_path(Tile(0, bundle.index, bundle.width)))
        return _Unit(
            bundle=bundle,
            content=content,
            entries=entries,
            from_bundle=None if entries is None else tuple(NodeHash(one) for one in leaf_hashes(entries)),
            stored=stored,
            from_tile=_parse(stored, bundle.width),
        )

    def _tile(self, tile: Tile) -> Hashes | None:
        return _parse(self._read(render_tile_path(tile)), tile.width)

    def _judge(self, unit: _Unit) -> Hashes:
        """Which hashes are true, of two that disagree or of one that is there."""
        candidates = [one for one in (unit.from_tile, unit.from_bundle) if one is not None]
        if not candidates:
            return ()
        for candidate in candidates:
            if self._is_confirmed(unit.bundle, candidate):
                return candidate
        if unit.from_tile is not None and unit.content is not None:
            mended = mend_bundle("", unit.content, leaves=_leaves(unit.from_tile))
            if mended.content is not None:
                return unit.from_tile
        return candidates[-1]

    def _is_confirmed(self, bundle: Bundle, hashes: Hashes) -> bool:
        """Whether the level above, or at the right edge the root, has what these hashes lead to."""
        if bundle.width < TILE_WIDTH:
            return self._wanted is not None and self._root_with(hashes) == self._wanted
        return subtree_root(hashes) == self._above_of(bundle.index)

    def _above_of(self, index: int) -> NodeHash | None:
        """What the tile of level 1 has for the full bundle `index`; None if it is damaged or not there."""
        row, place = divmod(index, TILE_WIDTH)
        tile = Tile(1, row, min(TILE_WIDTH, self._size // TILE_WIDTH - row * TILE_WIDTH))
        path = render_tile_path(tile)
        if self._above[0] != path:
            self._above = path, self._tile(tile)
        above = self._above[1]
        return None if above is None else above[place]

    def _root_with(self, edge: Hashes) -> NodeHash:
        """The root, if these are the hashes at the right edge of level 0. All of level 0 was read."""
        self._fill_rows()
        return self._fold_rows(self._size, edge)

    def _fill_rows(self) -> None:
        for level in range(1, len(self._rows) - 1):
            row, above = self._rows[level], self._rows[level + 1]
            for index in range(len(above), len(row) // TILE_WIDTH):
                above.append(subtree_root(row[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]))

    def _fold_rows(self, size: int, edge: Hashes) -> NodeHash:
        """The root of the tree of `size` out of the kept levels and the `edge` of level 0."""
        roots: list[NodeHash] = []
        for level in reversed(range(level_count(size))):
            width, start = width_at(level, size), size >> TILE_HEIGHT * (level + 1) << TILE_HEIGHT
            row = edge if level == 0 else self._rows[level][start : start + width]
            at = 0
            for subtree in cover(0, width):
                roots.append(subtree_root(row[at : at + (1 << subtree.level)]))
                at += 1 << subtree.level
        return fold(roots)

    def _settle(self, unit: _Unit, hashes: Hashes) -> Sequence[bytes | None]:
        """Report how bundle and tile differ from what is true; the entries as they were written."""
        index, width = unit.bundle.index, unit.bundle.width
        tile = Tile(0, index, width)
        self._compare(render_tile_path(tile), unit.stored, want=render_tile(hashes) if hashes else None)
        self._compare_older_tiles(0, index, want=render_tile(hashes))
        path = render_bundle_path(unit.bundle)
        mended = self._mend(path, unit, hashes)
        if mended.findings or unit.content is None:
            self.findings.extend(mended.findings or [missing(path)])
            if mended.content is not None:
                self.repairs.append(Write(path=path, content=mended.content))
        self._compare_older_bundles(index, mended.entries)
        return mended.entries

    def _mend(self, path: str, unit: _Unit, hashes: Hashes) -> Mended:
        if unit.entries is not None and unit.from_bundle == hashes:
            return Mended(entries=unit.entries, content=unit.content, findings=())
        if unit.content is None or not hashes:
            nothing = (None,) * unit.bundle.width
            findings = () if unit.content is None else (damaged(path, 0, "neither the entries nor their hashes parse"),)
            return Mended(entries=nothing, content=None, findings=findings)
        return mend_bundle(path, unit.content, leaves=_leaves(hashes))

    def _compare_level(self, level: int) -> None:
        """The tiles of a level from 1 up against the level below."""
        self._fill_rows()
        row = self._rows[level]
        for index in range(-(-len(row) // TILE_WIDTH)):
            want = row[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]
            path = render_tile_path(Tile(level, index, len(want)))
            self._compare(path, self._read(path), want=render_tile(want))
            self._compare_older_tiles(level, index, want=render_tile(want))

    def _compare(self, path: str, got: bytes | None, *, want: bytes | None) -> None:
        """Report a resource that is not there or not what it must be; None where nobody knows that."""
        if got is None:
            self.findings.append(missing(path))
        elif want is None:
            self.findings.append(damaged(path, 0, "neither the entries nor their hashes parse"))
        elif got != want:
            self.findings.extend(differences(path, got, want=want))
        if want is not None and got != want:
            self.repairs.append(Write(path=path, content=want))

    def _compare_older_tiles(self, level: int, index: int, *, want: bytes) -> None:
        for width in self._older.get((level, index), ()):
            if want and width * HASH_BYTES < len(want):
                path = render_tile_path(Tile(level, index, width))
                self._compare(path, self._read(path), want=want[: width * HASH_BYTES])

    def _compare_older_bundles(self, index: int, entries: Sequence[bytes | None]) -> None:
        for width in self._older.get((None, index), ()):
            known = [entry for entry in entries[:width] if entry is not None]
            if width < len(entries) and len(known) == width:
                path = render_bundle_path(Bundle(index, width))
                self._compare(path, self._read(path), want=render_bundle(known))


def _by_place(paths: Iterable[str]) -> dict[tuple[int | None, int], list[int]]:
    """The widths of the partial resources at each level (None: bundles) and index."""
    found: dict[tuple[int | None, int], list[int]] = {}
    for path in paths:
        place = parse_place(path)
        if place is not None and place[2] < TILE_WIDTH:
            found.setdefault(place[:2], []).append(place[2])
    return found


def parse_place(path: str) -> tuple[int | None, int, int] | None:
    """Level (None: a bundle), index and width of a tile's or bundle's path; None if it is neither."""
    try:
        if path.startswith("tile/entries/"):
            bundle = parse_bundle_path(path)
            return None, bundle.index, bundle.width
        tile = parse_tile_path(path)
    except Malformed:
        return None
    return tile.level, tile.index, tile.width


def _parse(content: bytes | None, width: int) -> Hashes | None:
    if content is None or len(content) != width * HASH_BYTES:
        return None
    return parse_tile(content, width)


def _leaves(hashes: Hashes) -> list[LeafHash]:
    return [LeafHash(one) for one in hashes]


def _feed(into: Fold, first: int, *, entries: Sequence[bytes | None], hashes: Hashes) -> None:
    """Give the fold the entries, and where one is lost, the place that it had."""
    known = [entry for entry in entries if entry is not None]
    if len(known) == len(entries):
        into.add_all(LeafIndex(first), known, _leaves(hashes))
        return
    for index, entry in enumerate(entries, first):
        if entry is None:
            into.skip(LeafIndex(index))
        else:
            into.add(LeafIndex(index), entry, leaf_hash(entry))
