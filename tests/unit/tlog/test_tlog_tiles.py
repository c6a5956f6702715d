# SPDX-License-Identifier: Apache-2.0
"""Tile arithmetic: the example of C2SP tlog-tiles, small sizes exhaustively, and one log of ten thousand million."""

from collections.abc import Sequence

import pytest

from iap_authz.errors import Malformed
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, NodeHash
from iap_authz.tlog.proof import prove_consistency, prove_inclusion, prove_range
from iap_authz.tlog.tiles import (
    Bundle,
    Tile,
    check_bundle_of,
    check_tile_of,
    full_tile_counts,
    level_count,
    locate,
    new_bundles,
    new_tiles,
    parse_bundle,
    parse_bundle_path,
    parse_tile,
    parse_tile_path,
    partial_bundle,
    partial_tiles,
    render_bundle,
    render_bundle_path,
    render_tile,
    render_tile_path,
    subtree_hashes,
    tiles_for,
    tiles_of,
)
from iap_authz.tlog.tree import Subtree
from tests.fakes.reference_tree import ReferenceTree

TREE = ReferenceTree.numbered(600)

PATHS = {
    "tile/0/000": Tile(0, 0),
    "tile/0/001.p/1": Tile(0, 1, 1),
    "tile/1/999.p/255": Tile(1, 999, 255),
    "tile/8/x001/000": Tile(8, 1000),
    "tile/63/x001/x234/067": Tile(63, 1234067),
    "tile/10/x001/x234/067.p/17": Tile(10, 1234067, 17),
    "tile/0/x009/x223/x372/x036/x854/x775/807.p/255": Tile(0, SIZE_LIMIT_LEAVES - 1, 255),
}


@pytest.mark.parametrize(("path", "tile"), PATHS.items(), ids=PATHS)
def test_tile_paths_both_ways(path: str, tile: Tile) -> None:
    assert render_tile_path(tile) == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(("path", "tile"), PATHS.items(), ids=PATHS)
def test_bundle_paths_both_ways(path: str, tile: Tile) -> None:
    bundle = Bundle(tile.index, tile.width)
    spelled = "tile/entries/" + path.split("/", 2)[2]
    assert render_bundle_path(bundle) == spelled
    assert parse_bundle_path(spelled) == bundle


def test_the_example_of_70000_leaves() -> None:
    assert full_tile_counts(70_000) == (273, 1, 0)
    assert partial_tiles(70_000) == (Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1))
    assert partial_bundle(70_000) == Bundle(273, 112)
    paths = [render_tile_path(tile) for tile in tiles_of(70_000)]
    assert len(paths) == len(set(paths)) == 273 + 1 + 1 + 1 + 1
    assert {"tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"} <= set(paths)


def test_the_example_of_256_leaves() -> None:
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert partial_bundle(256) is None


def test_ten_thousand_million_leaves() -> None:
    size = 10**10
    assert full_tile_counts(size) == (39_062_500, 152_587, 596, 2, 0)
    assert partial_tiles(size) == (Tile(1, 152_587, 228), Tile(2, 596, 11), Tile(3, 2, 84), Tile(4, 0, 2))
    assert render_tile_path(Tile(0, 39_062_499)) == "tile/0/x039/x062/499"
    assert next(iter(tiles_of(size))) == Tile(0, 0)
    assert list(new_tiles(size, size + 1)) == [Tile(0, 39_062_500, 1)]
    assert list(new_tiles(size - 1, size)) == [Tile(0, 39_062_499), *partial_tiles(size)[:1]]
    asked: list[Tile] = []

    def read(subtrees: Sequence[Subtree]) -> list[NodeHash]:
        asked.extend(tiles_for(subtrees, size))
        return [NodeHash(b"x" * 32)] * len(subtrees)

    prove_inclusion(1_234_567_890, size, read=read)
    assert len(asked) <= 2 * level_count(size)


def test_widths_by_definition() -> None:
    for size in (0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000, 1 << 24, SIZE_LIMIT_LEAVES - 1):
        for level in range(10):
            width = size // 256**level % 256
            want = [Tile(level, size // 256 ** (level + 1), width)] if width else []
            assert [tile for tile in partial_tiles(size) if tile.level == level] == want
            count = full_tile_counts(size)[level] if level < level_count(size) else 0
            assert count == size // 256 ** (level + 1)
    assert level_count(SIZE_LIMIT_LEAVES - 1) == 8


def test_new_tiles_are_what_the_new_size_has_and_the_old_had_not() -> None:
    sizes = [*range(4), 254, 255, 256, 257, 258, 511, 512, 513, 770, 1024, 65_535, 65_536, 65_537, 65_792]
    for old in sizes:
        for new in (size for size in sizes if size >= old):
            assert list(new_tiles(old, new)) == [tile for tile in tiles_of(new) if tile not in set(tiles_of(old))]
            bundles = {Bundle(tile.index, tile.width) for tile in new_tiles(old, new) if tile.level == 0}
            assert set(new_bundles(old, new)) == bundles


def test_tiles_hold_what_the_definition_says_and_serve_every_subtree() -> None:
    for size in (1, 255, 256, 257, 512, 600):
        contents = {tile: content_of(tile) for tile in tiles_of(size)}
        for level in range(size.bit_length()):
            for index in range(size >> level):
                subtree = Subtree(level, index)
                (tile,) = tiles_for([subtree], size)
                assert tile in contents
                (found,) = subtree_hashes([subtree], size, contents=contents)
                assert found == TREE.mth(index << level, (index + 1) << level)
            with pytest.raises(Malformed, match="want one of a tree"):
                locate(Subtree(level, size >> level), size)


def content_of(tile: Tile) -> bytes:
    """The n-th tile at level l is the sequence of MTH(D[(n * 256 + i) * 256**l : (n * 256 + i + 1) * 256**l])."""
    places = range(tile.index * 256, tile.index * 256 + tile.width)
    return render_tile([TREE.mth(i * 256**tile.level, (i + 1) * 256**tile.level) for i in places])


def test_proofs_out_of_tiles_are_those_of_the_reference() -> None:
    for size in (1, 256, 257, 600):
        contents = {tile: content_of(tile) for tile in tiles_of(size)}

        def read(
            subtrees: Sequence[Subtree], size: int = size, contents: dict[Tile, bytes] = contents
        ) -> list[NodeHash]:
            wanted = {tile: contents[tile] for tile in tiles_for(subtrees, size)}
            return list(subtree_hashes(subtrees, size, contents=wanted))

        for index in range(0, size, 7):
            assert list(prove_inclusion(index, size, read=read)) == TREE.path(index, size)
        for old in range(1, size, 13):
            assert list(prove_consistency(old, size, read=read)) == TREE.proof(old, size)
            assert list(prove_range(old - 1, size - old, size=size, read=read)) == TREE.outside(old - 1, size - 1, size)


def test_a_tile_is_served_only_if_the_tree_has_all_of_it() -> None:
    for tile in (Tile(0, 273, 112), Tile(0, 273, 1), Tile(0, 272), Tile(1, 1, 17), Tile(1, 0), Tile(2, 0, 1)):
        check_tile_of(tile, 70_000)
    for tile in (Tile(0, 273, 113), Tile(0, 273), Tile(0, 274, 1), Tile(1, 1, 18), Tile(2, 0, 2), Tile(3, 0, 1)):
        with pytest.raises(Malformed, match="want a tile of a tree of size 70000"):
            check_tile_of(tile, 70_000)
    check_bundle_of(Bundle(273, 112), 70_000)
    with pytest.raises(Malformed):
        check_bundle_of(Bundle(273, 113), 70_000)


@pytest.mark.parametrize("arguments", [(-1, 0), (64, 0), (0, -1), (0, 1 << 63), (0, 0, 0), (0, 0, 257), (0, 0, -1)])
def test_tiles_that_are_none(arguments: tuple[int, ...]) -> None:
    with pytest.raises(Malformed):
        Tile(*arguments)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 63, b"x" * 65, b"x" * 96])
def test_tile_bytes_of_another_width_are_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        parse_tile(content, 2)
    with pytest.raises(Malformed):
        parse_tile(content, 0)
    assert parse_tile(b"x" * 64, 2) == (b"x" * 32, b"x" * 32)


def test_bundles_both_ways() -> None:
    for entries in ([b"a"], [b"a", b"bc"], [b"x" * 65_535], [bytes([i]) * (i + 1) for i in range(256)]):
        assert parse_bundle(render_bundle(entries), len(entries)) == tuple(entries)
    assert render_bundle([b"a", b"bc"]) == b"\x00\x01a\x00\x02bc"


BUNDLE = render_bundle([b"one", b"two", b"three"])
BROKEN = {
    "empty": (b"", 1),
    "cut": (BUNDLE[:-1], 3),
    "cut in a length": (BUNDLE[:6], 2),
    "longer": (BUNDLE + b"\x00", 3),
    "an entry more": (BUNDLE, 2),
    "an entry less": (BUNDLE, 4),
    "empty entry": (b"\x00\x00", 1),
    "empty last entry": (BUNDLE + b"\x00\x00", 4),
    "width 0": (b"", 0),
    "width 257": (b"\x00\x01x" * 257, 257),
}


@pytest.mark.parametrize(("content", "width"), BROKEN.values(), ids=BROKEN)
def test_bundles_that_are_none(content: bytes, width: int) -> None:
    with pytest.raises(Malformed):
        parse_bundle(content, width)
