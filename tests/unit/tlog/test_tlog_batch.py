# SPDX-License-Identifier: Apache-2.0
"""Rounds: whatever the batches, the log that results is the one its size defines."""

from dataclasses import replace
from typing import Any

import pytest

from iap_authz.errors import BadProof, Malformed
from iap_authz.tlog.batch import (
    STAGE_MAGIC,
    STAGE_MAGIC_V1,
    BatchPlan,
    Stage,
    parse_stage,
    plan,
    plan_partials,
    recover,
    render_stage,
)
from iap_authz.tlog.edge import EMPTY_EDGE, Edge, check_edge, tree_of
from iap_authz.tlog.hashing import EMPTY_ROOT
from iap_authz.tlog.tiles import (
    Tile,
    new_tiles,
    parse_bundle,
    parse_bundle_path,
    parse_tile,
    parse_tile_path,
    render_bundle,
    render_tile,
    render_tile_path,
    tiles_of,
)
from iap_authz.tlog.tree import CompactRange
from tests.fakes.reference_tree import ReferenceTree

TREE = ReferenceTree.numbered(70_000)


def defined(size: int) -> dict[str, bytes]:
    """Every resource of the log at a size, by the definitions alone."""
    found: dict[str, bytes] = {}
    for tile in tiles_of(size):
        places = range(tile.index * 256, tile.index * 256 + tile.width)
        span = 256**tile.level
        found[render_tile_path(tile)] = render_tile([TREE.mth(i * span, (i + 1) * span) for i in places])
        if tile.level == 0:
            path = render_tile_path(tile).replace("tile/0/", "tile/entries/")
            found[path] = render_bundle(TREE.entries[tile.index * 256 : tile.index * 256 + tile.width])
    return found


def play(*sizes: int) -> tuple[BatchPlan, dict[str, bytes]]:
    """Append up to each size in turn, publishing each. A path is never written with two contents."""
    tree, edge, store = CompactRange.empty(), EMPTY_EDGE, dict[str, bytes]()
    plans = []
    for size in sizes:
        made = plan(tree, TREE.entries[edge.size : size], edge=edge)
        plans.append(made)
        for write in (*made.full, *plan_partials(made.edge, published=edge.size)):
            assert store.get(write.path, write.content) == write.content
            store[write.path] = write.content
        assert list(made.leaf_hashes) == TREE.leaves(edge.size, size)
        tree, edge = made.tree, made.edge
        check_edge(edge, tree.root())
    return plans[-1], store


@pytest.mark.parametrize(
    "sizes",
    [
        (1,),
        (255,),
        (256,),
        (257,),
        (1, 2, 3),
        (100, 256, 300),
        (255, 256, 257),
        (200, 600),
        (200, 511, 512, 1030),
        (1000, 1024, 2048, 2049),
    ],
    ids=str,
)
def test_any_batches_give_the_log_of_the_size(sizes: tuple[int, ...]) -> None:
    made, store = play(*sizes)
    size = sizes[-1]
    assert made.tree.root() == TREE.root(size)
    assert made.tree == tree_of(made.edge)
    want = defined(size)
    assert {path: store[path] for path in want} == want
    old = {path for earlier in sizes[:-1] for path in defined(earlier)}
    assert set(store) <= set(want) | old
    full = {write.path for write in made.full}
    assert full == {path for path in full if ".p/" not in path}
    assert {write.path: write.content for write in made.partial} == {
        path: content for path, content in want.items() if ".p/" in path
    }


def test_a_log_of_70000_leaves() -> None:
    made, store = play(255, 65_535, 65_536, 65_537, 70_000)
    assert made.tree.root() == TREE.root(70_000)
    want = defined(70_000)
    assert {path: store[path] for path in want} == want
    assert {write.path for write in made.partial} == {
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
        "tile/entries/273.p/112",
    }


def test_writes_come_leaves_first() -> None:
    made = plan(CompactRange.empty(), TREE.entries[:66_000], edge=EMPTY_EDGE)
    kinds = ["entries" if write.path.startswith("tile/entries/") else write.path[:6] for write in made.full]
    assert kinds == ["entries"] * 257 + ["tile/0"] * 257 + ["tile/1"]
    for write in made.full:
        if write.path.startswith("tile/entries/"):
            assert len(parse_bundle(write.content, parse_bundle_path(write.path).width)) == 256
        else:
            parse_tile(write.content, parse_tile_path(write.path).width)


def test_the_whole_of_a_round_is_the_tiles_that_are_new() -> None:
    for old, new in ((0, 1), (10, 20), (200, 300), (255, 256), (256, 512), (500, 1300)):
        edge = plan(CompactRange.empty(), TREE.entries[:old], edge=EMPTY_EDGE).edge if old else EMPTY_EDGE
        made = plan(tree_of(edge), TREE.entries[old:new], edge=edge)
        writes = [*made.full, *plan_partials(made.edge, published=old)]
        tiles = {parse_tile_path(write.path) for write in writes if "entries" not in write.path}
        assert tiles == set(new_tiles(old, new))


def test_partials_that_are_published_are_not_written_again() -> None:
    edge = plan(CompactRange.empty(), TREE.entries[:70_000], edge=EMPTY_EDGE).edge
    assert plan_partials(edge, published=70_000) == ()
    assert [write.path for write in plan_partials(edge, published=69_999)] == [
        "tile/entries/273.p/112",
        "tile/0/273.p/112",
    ]
    assert parse_tile_path(plan_partials(edge)[1].path) == Tile(0, 273, 112)


@pytest.mark.parametrize("length", [0, 65_536, 100 << 20], ids=str)
def test_entries_of_a_wrong_length_are_refused(length: int) -> None:
    with pytest.raises(Malformed, match="want 1 to 65535"):
        plan(CompactRange.empty(), [b"good", bytes(length)], edge=EMPTY_EDGE)


def test_the_longest_entry_is_taken() -> None:
    made = plan(CompactRange.empty(), [b"x" * 65_535], edge=EMPTY_EDGE)
    assert parse_bundle(made.edge.bundle, 1) == (b"x" * 65_535,)


def test_misuse_is_loud() -> None:
    edge = plan(CompactRange.empty(), TREE.entries[:5], edge=EMPTY_EDGE).edge
    for tree, entries in ((CompactRange.empty(), [b"x"]), (CompactRange.empty(5), [b"x"]), (tree_of(edge), [])):
        with pytest.raises(ValueError, match="edge of size 5"):
            plan(tree, entries, edge=edge)


def edge_of(size: int) -> Edge:
    return plan(CompactRange.empty(), TREE.entries[:size], edge=EMPTY_EDGE).edge if size else EMPTY_EDGE


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_536, 66_000])
def test_an_edge_is_the_tree_of_its_size(size: int) -> None:
    edge = edge_of(size)
    assert tree_of(edge) == CompactRange.empty().extend(TREE.leaves(0, size))
    check_edge(edge, TREE.root(size))
    with pytest.raises(BadProof, match="want"):
        check_edge(edge, TREE.root(size + 1))


def test_a_damaged_edge_is_refused() -> None:
    edge = edge_of(66_000)
    for level, tile in enumerate(edge.tiles):
        bad = bytes([tile[0] ^ 1]) + tile[1:]
        with pytest.raises(BadProof):
            check_edge(replace(edge, tiles=(*edge.tiles[:level], bad, *edge.tiles[level + 1 :])), TREE.root(66_000))
    with pytest.raises(BadProof, match="bundle"):
        check_edge(replace(edge, bundle=edge.bundle[:-1] + b"?"), TREE.root(66_000))
    with pytest.raises(Malformed):
        check_edge(replace(edge, bundle=edge.bundle[:-1]), TREE.root(66_000))


@pytest.mark.parametrize(
    "change",
    [{"tiles": ()}, {"tiles": (b"x" * 32,)}, {"bundle": b""}, {"size": 6}, {"size": 1 << 63}, {"size": -1}],
    ids=str,
)
def test_edges_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        replace(edge_of(5), **change)
    with pytest.raises(Malformed):
        replace(EMPTY_EDGE, bundle=b"x")


@pytest.mark.parametrize(("old", "new"), [(0, 1), (0, 300), (255, 256), (256, 300), (66_000, 66_600)])
def test_c2_recovery_makes_the_same_writes(old: int, new: int) -> None:
    edge = edge_of(old)
    made = plan(tree_of(edge), TREE.entries[old:new], edge=edge)
    stage = Stage(edge=edge, root=TREE.root(old), entries=TREE.entries[old:new])
    read_back = parse_stage(render_stage(stage))
    assert read_back == stage
    assert recover(read_back, size=new, root=TREE.root(new)) == made


def test_c2_a_stage_that_is_not_that_of_the_head_is_refused() -> None:
    stage = Stage(edge=edge_of(300), root=TREE.root(300), entries=TREE.entries[300:310])
    head: dict[str, Any] = {"size": 310, "root": TREE.root(310)}
    recover(stage, **head)
    for bad in (
        replace(stage, root=TREE.root(299)),
        replace(stage, entries=stage.entries[:-1]),
        replace(stage, entries=stage.entries[::-1]),
        replace(stage, edge=edge_of(299)),
        Stage(edge=EMPTY_EDGE, root=EMPTY_ROOT, entries=stage.entries),
    ):
        with pytest.raises(BadProof):
            recover(bad, **head)
    with pytest.raises(Malformed, match="without entries"):
        recover(replace(stage, entries=()), **head)
    for wrong in ({**head, "size": 311}, {**head, "root": TREE.root(311)}):
        with pytest.raises(BadProof, match="want the head"):
            recover(stage, **wrong)


def test_stages_that_are_none() -> None:
    data = render_stage(Stage(edge=edge_of(3), root=TREE.root(3), entries=TREE.entries[3:5]))
    for cut in range(len(data)):
        with pytest.raises(Malformed):
            parse_stage(data[:cut])
    too_large = STAGE_MAGIC + b"\xff" * 8 + data[len(STAGE_MAGIC) + 8 :]
    empty_entry = data[: -6 - len(TREE.entries[4])] + bytes(6)
    for bad in (data + b"\x00", b"x" + data[1:], too_large, empty_entry, data[:-1] + b"\x01"):
        with pytest.raises(Malformed):
            parse_stage(bad)


def test_s2_what_is_beside_the_entries_is_kept_and_leads_nowhere() -> None:
    plain = Stage(edge=edge_of(300), root=TREE.root(300), entries=TREE.entries[300:310])
    stage = replace(plain, beside=b"opaque " * 1_000)
    read_back = parse_stage(render_stage(stage))
    assert read_back == stage
    assert recover(read_back, size=310, root=TREE.root(310)) == recover(plain, size=310, root=TREE.root(310))
    assert render_stage(stage) != render_stage(plain)


def test_a_stage_of_the_former_version_is_read() -> None:
    stage = Stage(edge=edge_of(300), root=TREE.root(300), entries=TREE.entries[300:310])
    data = STAGE_MAGIC_V1 + render_stage(stage)[len(STAGE_MAGIC) : -4]
    assert parse_stage(data) == stage
    for bad in (data + bytes(4), data[:-1]):
        with pytest.raises(Malformed):
            parse_stage(bad)
