# SPDX-License-Identifier: Apache-2.0
"""Hostile proofs, tiles and leaves.

A test's id starts with the number of its row in the corpus. Each case is an attempt and the exception it must end in;
the attempts of one row share what an honest log would have answered, so that each is wrong in one respect only.
"""

from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from iap_authz.errors import BadProof, Malformed
from iap_authz.tlog.batch import BatchPlan, plan
from iap_authz.tlog.edge import EMPTY_EDGE, Edge
from iap_authz.tlog.hashing import EMPTY_ROOT, TreeSize, as_nodes, check_size, leaf_hash, node_hash
from iap_authz.tlog.proof import check_consistency, check_inclusion, check_range, prove_inclusion
from iap_authz.tlog.tiles import (
    Bundle,
    Tile,
    check_bundle_of,
    check_tile_of,
    locate,
    parse_bundle_path,
    parse_tile,
    parse_tile_path,
    render_bundle,
    tiles_of,
)
from iap_authz.tlog.tree import CompactRange, Subtree
from tests.hostile.tlog.tlog_cases import (
    INDEX,
    JUNK,
    LEAF,
    PATH,
    ROOT,
    SIZE,
    TREE,
    Case,
    Row,
    cases_of,
    check_refused,
)


def inclusion(**change: Any) -> Callable[[], None]:
    given: dict[str, Any] = {"leaf": LEAF, "index": INDEX, "size": SIZE, "proof": PATH, "root": ROOT, **change}
    leaf, index = given.pop("leaf"), given.pop("index")
    return lambda: check_inclusion(leaf, index, **given)


def consistency(**change: Any) -> Callable[[], None]:
    given = {"old": 6, "new": SIZE, "proof": TREE.proof(6, SIZE), "old_root": TREE.root(6), "new_root": ROOT, **change}
    old, new = given.pop("old"), given.pop("new")
    return lambda: check_consistency(old, new, **given)


def proof_cases() -> Iterator[Row]:
    for wrong in (SIZE, SIZE + 1, 1 << 40):
        yield 232, f"index {wrong} of {SIZE}", inclusion(index=wrong), BadProof
    for name, proof in {
        "too short": PATH[:-1],
        "without its head": PATH[1:],
        "empty": [],
        "too long": [*PATH, JUNK],
        "leading garbage": [JUNK, *PATH],
        "root appended": [*PATH, ROOT],
        "leaf prepended": [LEAF, *PATH],
        "node doubled": [PATH[0], *PATH],
        "node removed": [PATH[0], *PATH[2:]],
        "one bit flipped": [*PATH[:2], bytes([PATH[2][0] ^ 1]) + PATH[2][1:], *PATH[3:]],
        "hash of 31 bytes": [PATH[0][:31], *PATH[1:]],
        "hash of 33 bytes": [PATH[0] + b"\x00", *PATH[1:]],
        "two hashes glued": [PATH[0] + PATH[1], *PATH[2:]],
        "reversed": PATH[::-1],
        "64 hashes": [JUNK] * 64,
    }.items():
        yield 234, name, inclusion(proof=proof), BadProof
    for index in (INDEX ^ 2, INDEX + 1, INDEX - 1):
        yield 235, f"index {index}", inclusion(index=index), BadProof
    for size in (SIZE * 2, SIZE // 2, 16):
        yield 235, f"size {size}", inclusion(size=size), BadProof
    for name, proof in {"one hash": [JUNK], "its own root": [TREE.root(1)], "empty hash": [b""]}.items():
        alone = inclusion(leaf=TREE.leaf(0), index=0, size=1, proof=proof, root=TREE.root(1))
        yield 237, f"size 1 with {name}", alone, BadProof
    changes: dict[str, dict[str, Any]] = {
        "from 22 to 21": {"old": 22},
        "from 0": {"old": 0, "old_root": EMPTY_ROOT},
        "from 0 with an empty proof": {"old": 0, "old_root": EMPTY_ROOT, "proof": []},
        "equal sizes with a proof": {"old": SIZE, "old_root": ROOT},
        "equal sizes, other roots": {"old": SIZE, "old_root": TREE.root(20), "proof": []},
        "other sizes, empty proof": {"proof": []},
        "a power of two with its own root": {
            "old": 8,
            "old_root": TREE.root(8),
            "proof": [TREE.root(8), *TREE.proof(8, SIZE)],
        },
    }
    for name, change in changes.items():
        yield 238, name, consistency(**change), BadProof
    for edge in (1 << 63, (1 << 64) - 1, -1, -(1 << 63)):
        yield 240, f"inclusion size {edge}", inclusion(size=edge), BadProof
        yield 240, f"inclusion index {edge}", inclusion(index=edge), BadProof
        yield 240, f"consistency new {edge}", consistency(new=edge), BadProof
        yield 240, f"consistency old {edge}", consistency(old=edge), BadProof
        yield (
            240,
            f"range {edge}",
            partial(check_range, [LEAF], edge, size=SIZE, proof=PATH, root=ROOT),
            BadProof,
        )
        yield 240, f"prove {edge}", partial(prove_inclusion, 0, edge, read=lambda _: []), Malformed
        yield 240, f"size {edge}", partial(check_size, edge), Malformed
    yield 241, "another entry", inclusion(leaf=leaf_hash(b"substituted")), BadProof
    yield 241, "the entry beside it", inclusion(leaf=TREE.leaf(INDEX + 1)), BadProof
    yield (
        241,
        "the hash of the entry without its prefix",
        inclusion(leaf=sha256(TREE.entries[INDEX]).digest()),
        BadProof,
    )
    extra = [*TREE.leaves(INDEX, INDEX + 1), leaf_hash(b"smuggled")]
    yield (
        242,
        "a second entry beside the proven one",
        lambda: check_range(extra, INDEX, size=SIZE, proof=TREE.outside(INDEX, INDEX + 1, SIZE), root=ROOT),
        BadProof,
    )
    yield (
        242,
        "a hash that is not needed",
        lambda: check_range(TREE.leaves(0, SIZE), 0, size=SIZE, proof=[JUNK], root=ROOT),
        BadProof,
    )


def append_zeros(count: int) -> BatchPlan:
    """Append one entry of `count` bytes, made only when the test runs."""
    return plan(CompactRange.empty(), [bytes(count)], edge=EMPTY_EDGE)


def tile_cases() -> Iterator[Row]:
    yield 244, "empty tile", lambda: parse_tile(b"", 0), Malformed
    yield 244, "tile of width 0", lambda: Tile(0, 0, 0), Malformed
    yield 244, "narrower than named", lambda: parse_tile(b"x" * 32 * 111, 112), Malformed
    yield 244, "wider than named", lambda: parse_tile(b"x" * 32 * 113, 112), Malformed
    yield 244, "wider than a tile", lambda: parse_tile(b"x" * 32 * 257, 257), Malformed
    yield 244, "half a hash", lambda: parse_tile(b"x" * 48, 1), Malformed
    yield 244, "partial tile hashed upward", lambda: locate(Subtree(8, 273), 70_000), Malformed
    yield 244, "tile beyond the tree", lambda: check_tile_of(Tile(0, 273, 113), 70_000), Malformed
    yield 244, "bundle beyond the tree", lambda: check_bundle_of(Bundle(274, 1), 70_000), Malformed
    yield 244, "edge with a wider tile", lambda: Edge(size=TreeSize(5), tiles=(b"x" * 32 * 6,), bundle=b"x"), Malformed
    for path in (
        "tile/0/x001",
        "tile/0/x001/",
        "tile/0/001/000",
        "tile/0/x000/000",
        "tile/0/x000/x001/000",
        "tile/0/1000",
        "tile/0/1",
        "tile/0/0000",
        "tile/0/-1",
        "tile/0/-01",
        "tile/-1/000",
        "tile/00/000",
        "tile/01/000",
        "tile/+1/000",
        "tile/64/000",
        "tile/100/000",
        "tile/1e1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p/-1",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1/",
        "tile/0/000/",
        "tile/0//000",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/000 ",
        "tile/0/X001/000",
        "tile/0/x001/x000",
        "tile/0/../0/000",
        "tile/0/%30%30%30",
        "tile/0/\u0661\u0661\u0661",
        "tile/\u0661/000",
        "tile/0/x009/x223/x372/x036/x854/x775/808",
        "tile/0/" + "x999/" * 12 + "999",
        "tile/0/" + "x999/" * 10_000 + "999",
        "tile/entries/000",
        "checkpoint",
        "",
    ):
        yield 245, f"{path[:40]} ({len(path)})", partial(parse_tile_path, path), Malformed
        bundle = path.replace("tile/0/", "tile/entries/") if "entries" not in path else "tile/0/000"
        yield 245, f"bundle {bundle[:40]} ({len(bundle)})", partial(parse_bundle_path, bundle), Malformed
    for length in (0, 65_536, 100 << 20):
        yield 247, f"leaf of {length} bytes", partial(append_zeros, length), Malformed


CASES = cases_of(proof_cases, tile_cases)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row}-{case.name}")
def test_refused(case: Case) -> None:
    check_refused(case)


def test_230_a_leaf_is_never_a_node() -> None:
    left, right = TREE.root(1), TREE.root(2)
    for entry in (b"\x01" + left + right, left + right):
        assert bytes(leaf_hash(entry)) != node_hash(left, right)
    pair = TREE.mth(0, 1) + TREE.mth(1, 2)
    with pytest.raises(BadProof):
        check_inclusion(leaf_hash(pair), 0, size=1, proof=[], root=TREE.root(2))
    with pytest.raises(BadProof):
        check_inclusion(leaf_hash(pair), 0, size=11, proof=TREE.path(0, SIZE)[1:], root=ROOT)


@pytest.mark.parametrize("size", [3, 5, 6, 7, 13])
def test_231_an_odd_node_is_promoted_not_doubled(size: int) -> None:
    row = as_nodes(TREE.leaves(0, size))
    while len(row) > 1:
        doubled = row + row[-1:] if len(row) % 2 else row
        row = [node_hash(doubled[at], doubled[at + 1]) for at in range(0, len(doubled), 2)]
    tree = CompactRange.empty().extend(TREE.leaves(0, size))
    assert tree.root() == TREE.root(size) != row[0]
    twice = CompactRange.empty().extend([*TREE.leaves(0, size), TREE.leaf(size - 1)])
    assert twice.root() != tree.root()


def test_237_a_tree_of_one_leaf_has_the_empty_proof() -> None:
    check_inclusion(TREE.leaf(0), 0, size=1, proof=[], root=TREE.root(1))


def test_244_no_tile_of_a_log_holds_a_partial_one() -> None:
    for size in range(1, 1200):
        for tile in tiles_of(size):
            assert (tile.index * 256 + tile.width) * 256**tile.level <= size
            assert tile.width >= 1


@pytest.mark.parametrize("length", [1, 65_535])
def test_247_leaves_within_the_bounds_are_taken(length: int) -> None:
    made = plan(CompactRange.empty(), [bytes(length)], edge=EMPTY_EDGE)
    assert made.edge.bundle == render_bundle([bytes(length)])
