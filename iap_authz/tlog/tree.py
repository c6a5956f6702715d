# SPDX-License-Identifier: Apache-2.0
r"""The right edge of a tree, and how it grows: all that is needed to append and to know the root.

The invariant: a `CompactRange` over the leaves [begin, end) holds the roots of its maximal complete subtrees, left to
right, and nothing else; there is exactly one such list for a pair (begin, end).

    leaves  0 1 2 3 4 5 6        [0, 7)  ->  root of 0..3, root of 4..5, leaf 6
            \_____/ \_/ |        levels      2             1             0      (the binary digits of 7)

A subtree is complete when it has 2^level leaves and starts at a multiple of that. Toward the right border the levels
fall; a range that does not begin at 0 also has a left border, where they rise, and whose nodes are right children that
wait for siblings outside the range.

Specification: RFC 6962 section 2.1 for the shape. Compact ranges are a well-known way to hold a Merkle edge.
This module does not keep leaves and does not prove anything (`proof`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from iap_authz.errors import Malformed
from iap_authz.tlog.hashing import (
    EMPTY_ROOT,
    LeafHash,
    NodeHash,
    TreeSize,
    as_nodes,
    check_hash,
    check_size,
    node_hash,
    pair_up,
)


@dataclass(frozen=True, slots=True)
class Subtree:
    """A complete subtree: the 2^level leaves from index * 2^level on."""

    level: int
    index: int


def cover(begin: int, end: int) -> Iterator[Subtree]:
    """The maximal complete subtrees of the leaves [begin, end), left to right: at most 2 * 63 of them."""
    at = begin
    while at < end:
        fits = (end - at).bit_length() - 1
        aligned = (at & -at).bit_length() - 1 if at else fits
        level = min(aligned, fits)
        yield Subtree(level, at >> level)
        at += 1 << level


def _borders(begin: int, end: int) -> tuple[int, int]:
    """The levels of the left (rising) and right (falling) border of [begin, end), each as a bit set.

    Seen from the leaf before `begin`, the path up to where it meets the path of `end` turns left at the set bits of
    the first, and the path of `end` turns right at the set bits of the second.
    """
    if begin == 0:
        return 0, end
    meet = (1 << (((begin - 1) ^ end).bit_length() - 1)) - 1
    return ~(begin - 1) & meet, end & meet


def subtree_root(hashes: Sequence[NodeHash]) -> NodeHash:
    """Hash a row of neighbours up to one root. An odd last one is promoted unchanged, never doubled (CVE-2012-2459).

    For any number of hashes this is the tree that RFC 6962 splits at the largest power of two.
    """
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        odd = row[-1:] if len(row) & 1 else []
        row = pair_up(row) + odd
    return row[0]


def fold(hashes: Sequence[NodeHash]) -> NodeHash:
    """Join the roots of a falling row of complete subtrees, which begins where all of them are aligned."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in hashes[-2::-1]:
        root = node_hash(left, root)
    return root


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactRange:
    """The maximal complete subtrees of the leaves [begin, end). Made by `empty`, `parse` and what follows from them."""

    begin: TreeSize
    end: TreeSize
    hashes: tuple[NodeHash, ...]

    @classmethod
    def empty(cls, begin: int = 0) -> Self:
        """The range without leaves that starts before leaf `begin`."""
        check_size(begin)
        return cls(begin=TreeSize(begin), end=TreeSize(begin), hashes=())

    @classmethod
    def parse(cls, begin: int, end: int, *, hashes: Sequence[bytes]) -> Self:
        """Take hashes from elsewhere as the range [begin, end): raises Malformed unless their number is exact."""
        check_size(begin)
        check_size(end)
        if begin > end:
            raise Malformed(f"got a range from {begin} to {end}, want it not to run backward")
        rising, falling = _borders(begin, end)
        want = rising.bit_count() + falling.bit_count()
        if len(hashes) != want:
            raise Malformed(f"got {len(hashes)} hashes for the leaves {begin} to {end}, want {want}")
        for value in hashes:
            check_hash(value)
        return cls(begin=TreeSize(begin), end=TreeSize(end), hashes=tuple(NodeHash(value) for value in hashes))

    def subtrees(self) -> tuple[Subtree, ...]:
        """Which subtree each of `hashes` is the root of."""
        return tuple(cover(self.begin, self.end))

    def extend(self, leaves: Sequence[LeafHash]) -> "CompactRange":
        """The range with these leaves after its last: about one hash a leaf."""
        return grow(self, leaves).tree

    def merge(self, right: "CompactRange") -> "CompactRange":
        """The range of both. `right` begins where this one ends; anything else is a defect of the caller."""
        if right.begin != self.end:
            raise ValueError(f"got a range that begins at {right.begin}, want {self.end}")
        nodes: list[tuple[Subtree, NodeHash]] = []
        for place, value in (
            *zip(self.subtrees(), self.hashes, strict=True),
            *zip(right.subtrees(), right.hashes, strict=True),
        ):
            nodes.append((place, value))
            _join_siblings(nodes)
        return CompactRange(begin=self.begin, end=right.end, hashes=tuple(value for _, value in nodes))

    def root(self) -> NodeHash:
        """The root of the tree of size `end`. Only a range from the first leaf has one."""
        if self.begin != 0:
            raise ValueError(f"got a range that begins at {self.begin}, want 0")
        return fold(self.hashes)


def _join_siblings(nodes: list[tuple[Subtree, NodeHash]]) -> None:
    """While the last two nodes are a left child and its right sibling, put their parent in their place."""
    while len(nodes) > 1:
        (left, left_hash), (right, right_hash) = nodes[-2:]
        if left.level != right.level or left.index & 1 or right.index != left.index + 1:
            return
        nodes[-2:] = [(Subtree(left.level + 1, left.index >> 1), node_hash(left_hash, right_hash))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What appending did: the new range, and per level the nodes that became complete, left to right.

    `completed[0]` are the leaves; `completed[8 * l]` is exactly what the tiles of level l gain.
    """

    tree: CompactRange
    completed: tuple[Sequence[NodeHash], ...]


def grow(tree: CompactRange, leaves: Sequence[LeafHash]) -> Growth:
    """Append `leaves`, a whole row at a time: one hash for each node that becomes complete, none twice."""
    check_size(tree.end + len(leaves))
    rising, falling = _borders(tree.begin, tree.end)
    left = list(tree.hashes[: rising.bit_count()])
    waiting = list(tree.hashes[rising.bit_count() :])
    tail: list[NodeHash] = []
    completed: list[Sequence[NodeHash]] = []
    nodes, at, level = as_nodes(leaves), int(tree.end), 0
    while nodes:
        completed.append(nodes)
        row, start = nodes, at
        if at & 1 and falling >> level & 1:
            row, start = [waiting.pop(), *nodes], at - 1
        elif at & 1:
            # A right child whose sibling lies before `begin`: it stays on the left border.
            left.append(nodes[0])
            row, start = nodes[1:], at + 1
        if len(row) & 1:
            tail.append(row[-1])
        nodes, at, level = pair_up(row), start >> 1, level + 1
    grown = CompactRange(
        begin=tree.begin,
        end=TreeSize(tree.end + len(leaves)),
        hashes=(*left, *waiting, *reversed(tail)),
    )
    return Growth(tree=grown, completed=tuple(completed))
