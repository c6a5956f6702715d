# SPDX-License-Identifier: Apache-2.0
"""Where each hash and each entry of a log lives: tiles, entry bundles, and their paths.

The invariant: a resource has one path and one content, for ever. A partial tile is another resource than the full
one, and is never hashed into the level above.

    tile/<L>/<N>[.p/<W>]         W hashes of 32 bytes; hash i is the root of 256^L leaves from (N * 256 + i) * 256^L
    tile/entries/<N>[.p/<W>]     W times (uint16 big-endian length || entry)

    N in groups of three digits, all but the last marked: 0 -> 000, 1000 -> x001/000, 1234067 -> x001/x234/067
    W is 1 to 255; a full tile or bundle has 256 and no suffix

Specification: C2SP tlog-tiles. Three departures, all stricter: an entry is never empty, N is below 2^63, and a tile is
only asked for if the tree of the checked checkpoint has it (`check_tile_of`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from iap_authz.errors import Malformed, shown
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES, NodeHash, check_size
from iap_authz.tlog.tree import Subtree, subtree_root

TILE_HEIGHT = 8
"""Levels of the tree in one tile (C2SP tlog-tiles)."""

TILE_WIDTH = 1 << TILE_HEIGHT
"""Hashes in a full tile, entries in a full bundle."""

TILE_LEVEL_LIMIT = 64
"""Tile levels are below this (C2SP tlog-tiles); a tree below 2^63 leaves uses eight of them."""

ENTRY_MAX_BYTES = 65_535
"""What the uint16 length of a bundle can say (C2SP tlog-tiles)."""

PATH_MAX_CHARS = 64
"""Longer than the longest path there can be, which has 48; refused before the path is looked at."""

_GROUP = r"(?:x[0-9]{3}/)*[0-9]{3}"
_WIDTH = r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
_TILE_PATH = re.compile(rf"tile/(?P<level>0|[1-9][0-9]?)/(?P<index>{_GROUP}){_WIDTH}", re.ASCII)
_BUNDLE_PATH = re.compile(rf"tile/entries/(?P<index>{_GROUP}){_WIDTH}", re.ASCII)
_LENGTH = Struct(">H")


@dataclass(frozen=True, slots=True)
class Tile:
    """The place of a tile. `width` is 256 for a full one, 1 to 255 for a partial one."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not 0 <= self.level < TILE_LEVEL_LIMIT:
            raise Malformed(f"got tile level {shown(self.level)}, want 0 to {TILE_LEVEL_LIMIT - 1}")
        _check_place(self.index, self.width)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The place of an entry bundle. `width` is 256 for a full one, 1 to 255 for a partial one."""

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check_place(self.index, self.width)


def _check_place(index: int, width: int) -> None:
    if not 0 <= index < SIZE_LIMIT_LEAVES:
        raise Malformed(f"got index {shown(index)}, want 0 to 2^63 - 1")
    if not 1 <= width <= TILE_WIDTH:
        raise Malformed(f"got width {shown(width)}, want 1 to {TILE_WIDTH}")


def render_tile_path(tile: Tile) -> str:
    """The path of a tile below the log's prefix."""
    return f"tile/{tile.level}/{_render_place(tile.index, tile.width)}"


def render_bundle_path(bundle: Bundle) -> str:
    """The path of an entry bundle below the log's prefix."""
    return f"tile/entries/{_render_place(bundle.index, bundle.width)}"


def _render_place(index: int, width: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return "/".join(reversed(groups)) + suffix


def parse_tile_path(path: str) -> Tile:
    """The tile of a path, which must be spelled the one way there is."""
    found = _match(_TILE_PATH, path)
    tile = Tile(int(found["level"]), *_place_of(found))
    _check_spelling(path, render_tile_path(tile))
    return tile


def parse_bundle_path(path: str) -> Bundle:
    """The entry bundle of a path, which must be spelled the one way there is."""
    found = _match(_BUNDLE_PATH, path)
    bundle = Bundle(*_place_of(found))
    _check_spelling(path, render_bundle_path(bundle))
    return bundle


def _match(grammar: re.Pattern[str], path: str) -> re.Match[str]:
    found = grammar.fullmatch(path) if len(path) <= PATH_MAX_CHARS else None
    if found is None:
        raise Malformed(f"got path {shown(path)}, want tile/<level or entries>/<index>[.p/<width>]")
    return found


def _place_of(found: re.Match[str]) -> tuple[int, int]:
    width = TILE_WIDTH if found["width"] is None else int(found["width"])
    return int(found["index"].replace("/", "").replace("x", "")), width


def _check_spelling(path: str, want: str) -> None:
    # `.p/256` and superfluous groups of zeros pass the grammar, and only these.
    if path != want:
        raise Malformed(f"got path {shown(path)}, want {want}")


def width_at(level: int, size: int) -> int:
    """How many hashes the last tile of a level has in the tree of `size` beyond the full ones: 0 to 255."""
    return (size >> (TILE_HEIGHT * level)) % TILE_WIDTH


def level_count(size: int) -> int:
    """How many tile levels hold at least one hash of the tree of `size`."""
    return -(-size.bit_length() // TILE_HEIGHT)


def full_tile_counts(size: int) -> tuple[int, ...]:
    """How many full tiles each level of the tree of `size` has, from level 0 up."""
    return tuple(size >> (TILE_HEIGHT * (level + 1)) for level in range(level_count(size)))


def partial_tiles(size: int) -> tuple[Tile, ...]:
    """The partial tiles of the tree of `size`, from level 0 up: at most one a level, none of width 0."""
    return tuple(
        Tile(level, full, width_at(level, size))
        for level, full in enumerate(full_tile_counts(size))
        if width_at(level, size)
    )


def partial_bundle(size: int) -> Bundle | None:
    """The partial entry bundle of the tree of `size`, if it ends in one."""
    width = width_at(0, size)
    return Bundle(size // TILE_WIDTH, width) if width else None


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of the tree of `size`, level by level, left to right."""
    return new_tiles(0, size)


def new_tiles(old: int, new: int) -> Iterator[Tile]:
    """The tiles of the tree of size `new` that the one of size `old` had not: those filled, and those that grew."""
    check_size(old)
    check_size(new)
    before = full_tile_counts(old) + (0,) * level_count(new)
    for level, full in enumerate(full_tile_counts(new)):
        for index in range(before[level], full):
            yield Tile(level, index)
        width = width_at(level, new)
        if width and (before[level], width_at(level, old)) != (full, width):
            yield Tile(level, full, width)


def new_bundles(old: int, new: int) -> Iterator[Bundle]:
    """The same for entry bundles, which lie under the tiles of level 0."""
    return (Bundle(tile.index, tile.width) for tile in new_tiles(old, new) if tile.level == 0)


def check_tile_of(tile: Tile, size: int) -> None:
    """Raise Malformed unless the tree of `size` has all hashes of `tile`: never ask for others, never serve them."""
    check_size(size)
    if tile.index * TILE_WIDTH + tile.width > size >> (TILE_HEIGHT * tile.level):
        raise Malformed(f"got {render_tile_path(tile)}, want a tile of a tree of size {size}")


def check_bundle_of(bundle: Bundle, size: int) -> None:
    """Raise Malformed unless all entries of `bundle` exist in the tree of `size`."""
    check_tile_of(Tile(0, bundle.index, bundle.width), size)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSlice:
    """The hashes [start, start + count) of a tile, which hash up to one complete subtree."""

    tile: Tile
    start: int
    count: int


def locate(subtree: Subtree, size: int) -> TileSlice:
    """Which tile of the tree of `size`, and which part of it, gives the root of `subtree`."""
    level, height = divmod(subtree.level, TILE_HEIGHT)
    index, start = divmod(subtree.index << height, TILE_WIDTH)
    count = 1 << height
    available = (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH
    if start + count > available:
        raise Malformed(
            f"got the subtree at level {subtree.level}, index {subtree.index}, want one of a tree of size {size}"
        )
    return TileSlice(tile=Tile(level, index, min(available, TILE_WIDTH)), start=start, count=count)


def tiles_for(subtrees: Sequence[Subtree], size: int) -> tuple[Tile, ...]:
    """The tiles to read for these subtrees, each once, in the order they are first needed."""
    return tuple(dict.fromkeys(locate(subtree, size).tile for subtree in subtrees))


def subtree_hashes(subtrees: Sequence[Subtree], size: int, *, contents: Mapping[Tile, bytes]) -> tuple[NodeHash, ...]:
    """The root of each subtree out of the tiles that `tiles_for` named: what `proof.Read` has to return."""
    return tuple(hash_of_slice(contents[place.tile], place) for place in (locate(one, size) for one in subtrees))


def hash_of_slice(content: bytes, place: TileSlice) -> NodeHash:
    """The root of the subtree at `place` out of the bytes of its tile."""
    _check_tile_length(content, place.tile.width)
    return subtree_root(_hashes(content, place.start, count=place.count))


def parse_tile(content: bytes, width: int) -> tuple[NodeHash, ...]:
    """The hashes of a tile of exactly this width."""
    _check_tile_length(content, width)
    return tuple(_hashes(content, 0, count=width))


def render_tile(hashes: Sequence[NodeHash]) -> bytes:
    """The bytes of a tile."""
    return b"".join(hashes)


def _check_tile_length(content: bytes, width: int) -> None:
    if not 1 <= width <= TILE_WIDTH or len(content) != width * HASH_BYTES:
        raise Malformed(f"got {len(content)} bytes for a tile of width {width}, want {HASH_BYTES} a hash")


def _hashes(content: bytes, start: int, *, count: int) -> list[NodeHash]:
    ends = range(start * HASH_BYTES, (start + count) * HASH_BYTES, HASH_BYTES)
    return [NodeHash(content[at : at + HASH_BYTES]) for at in ends]


def check_entry(entry: bytes) -> None:
    """Raise Malformed unless `entry` has 1 to 65,535 bytes. An empty leaf says nothing and is never made."""
    if not 1 <= len(entry) <= ENTRY_MAX_BYTES:
        raise Malformed(f"got an entry of {len(entry)} bytes, want 1 to {ENTRY_MAX_BYTES}")


def render_bundle(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle of entries, which `check_entry` has passed."""
    pack = _LENGTH.pack
    return b"".join([part for entry in entries for part in (pack(len(entry)), entry)])


def parse_bundle(content: bytes, width: int) -> tuple[bytes, ...]:
    """The entries of a bundle of exactly this width."""
    if not 1 <= width <= TILE_WIDTH:
        raise Malformed(f"got width {shown(width)}, want 1 to {TILE_WIDTH}")
    entries: list[bytes] = []
    at = 0
    for _ in range(width):
        start = at + _LENGTH.size
        if start > len(content):
            raise Malformed(
                f"got a bundle that ends at byte {len(content)} in entry {len(entries)}, want {width} entries"
            )
        at = start + _LENGTH.unpack_from(content, at)[0]
        entry = content[start:at]
        if at > len(content) or not entry:
            raise Malformed(f"got {len(entry)} bytes for entry {len(entries)}, want {max(1, at - start)}")
        entries.append(entry)
    if at != len(content):
        raise Malformed(f"got {len(content) - at} bytes after the last of {width} entries, want none")
    return tuple(entries)
