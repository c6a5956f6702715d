# SPDX-License-Identifier: Apache-2.0
"""Compact ranges, exhaustively over small sizes against the reference tree."""

import pytest

from iap_authz.errors import Malformed
from iap_authz.tlog.hashing import EMPTY_ROOT, SIZE_LIMIT_LEAVES, as_nodes
from iap_authz.tlog.tree import CompactRange, Subtree, cover, fold, grow, subtree_root
from tests.fakes.reference_tree import ReferenceTree

LIMIT = 64
TREE = ReferenceTree.numbered(LIMIT)


def range_of(begin: int, end: int) -> CompactRange:
    return CompactRange.empty(begin).extend(TREE.leaves(begin, end))


def maximal(begin: int, end: int) -> list[Subtree]:
    """By definition: every complete subtree inside [begin, end) whose parent is not inside."""

    def inside(level: int, index: int) -> bool:
        return begin <= index << level and (index + 1) << level <= end

    found = [
        Subtree(level, index)
        for level in range(7)
        for index in range((LIMIT >> level) + 1)
        if inside(level, index) and not inside(level + 1, index >> 1)
    ]
    return sorted(found, key=lambda one: one.index << one.level)


def test_ranges_are_the_maximal_complete_subtrees() -> None:
    for begin in range(LIMIT + 1):
        for end in range(begin, LIMIT + 1):
            made = range_of(begin, end)
            assert list(cover(begin, end)) == list(made.subtrees()) == maximal(begin, end)
            spans = [(one.index << one.level, (one.index + 1) << one.level) for one in made.subtrees()]
            assert list(made.hashes) == [TREE.mth(lo, hi) for lo, hi in spans]
            assert CompactRange.parse(begin, end, hashes=made.hashes) == made


def test_extending_in_any_two_steps_is_extending_once() -> None:
    for begin in (0, 1, 2, 3, 5, 8, 13):
        for middle in range(begin, LIMIT + 1):
            start = range_of(begin, middle)
            for end in range(middle, LIMIT + 1):
                assert start.extend(TREE.leaves(middle, end)) == range_of(begin, end)


def test_merging_is_extending() -> None:
    for begin in range(40):
        for middle in range(begin, 40):
            for end in range(middle, 40, 3):
                assert range_of(begin, middle).merge(range_of(middle, end)) == range_of(begin, end)


def test_roots() -> None:
    for size in range(LIMIT + 1):
        assert range_of(0, size).root() == TREE.root(size)
        assert subtree_root(as_nodes(TREE.leaves(0, size))) == TREE.root(size)
    assert fold([]) == subtree_root([]) == CompactRange.empty().root() == EMPTY_ROOT


def test_growth_names_each_node_that_became_complete_once() -> None:
    for old in range(LIMIT + 1):
        for new in range(old, LIMIT + 1):
            growth = grow(range_of(0, old), TREE.leaves(old, new))
            for level, nodes in enumerate(growth.completed):
                want = [TREE.mth(i << level, (i + 1) << level) for i in range(old >> level, new >> level)]
                assert list(nodes) == want
            assert new == old or len(growth.completed) == max(
                level + 1 for level in range(7) if old >> level != new >> level
            )


def test_parse_refuses_any_other_number_of_hashes() -> None:
    for begin in range(20):
        for end in range(begin, 20):
            hashes = range_of(begin, end).hashes
            for wrong in (hashes[:-1], (*hashes, EMPTY_ROOT)):
                if len(wrong) != len(hashes):
                    with pytest.raises(Malformed, match="hashes for the leaves"):
                        CompactRange.parse(begin, end, hashes=wrong)


@pytest.mark.parametrize(
    ("begin", "end", "hashes"),
    [(2, 1, []), (-1, 0, []), (0, SIZE_LIMIT_LEAVES, []), (0, 1, [b"short"]), (0, 1, [b"x" * 33]), (True, 1, [])],
)
def test_parse_refuses(begin: int, end: int, hashes: list[bytes]) -> None:
    with pytest.raises(Malformed):
        CompactRange.parse(begin, end, hashes=hashes)


def test_misuse_is_loud() -> None:
    with pytest.raises(ValueError, match="want 3"):
        range_of(0, 3).merge(range_of(4, 5))
    with pytest.raises(ValueError, match="want 0"):
        range_of(1, 3).root()


def test_a_tree_never_reaches_2_to_63_leaves() -> None:
    full = SIZE_LIMIT_LEAVES - 1
    edge = CompactRange.parse(0, full, hashes=[b"x" * 32] * full.bit_count())
    with pytest.raises(Malformed):
        edge.extend(TREE.leaves(0, 1))
    assert len(list(cover(1, full))) <= 2 * 63
