# SPDX-License-Identifier: Apache-2.0
"""Proofs: every tree up to 64 leaves, every question, against the reference; then every small falsehood."""

from collections.abc import Sequence
from math import ceil, log2
from typing import Any, TypeVar, cast

import pytest

from iap_authz.errors import BadProof, Malformed
from iap_authz.tlog import proof as under_test
from iap_authz.tlog.hashing import EMPTY_ROOT, SIZE_LIMIT_LEAVES, LeafHash, NodeHash, node_hash
from iap_authz.tlog.proof import (
    check_consistency,
    check_inclusion,
    check_range,
    prove_consistency,
    prove_inclusion,
    prove_range,
)
from iap_authz.tlog.tree import Subtree
from tests.fakes.reference_tree import ReferenceTree

LIMIT = 64
TREE = ReferenceTree.numbered(LIMIT)
OTHER = NodeHash(b"\x5a" * 32)


Hash = TypeVar("Hash", bound=bytes)


class CountedRead:
    """Reads complete subtrees of the reference tree, and asserts that they lie inside `size` and come in one call."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = 0

    def __call__(self, subtrees: Sequence[Subtree]) -> list[NodeHash]:
        self.calls += 1
        assert self.calls == 1
        spans = [(one.index << one.level, (one.index + 1) << one.level) for one in subtrees]
        assert all(hi <= self.size for _, hi in spans)
        return [TREE.mth(lo, hi) for lo, hi in spans]


def test_every_inclusion_proof() -> None:
    for size in range(1, LIMIT + 1):
        for index in range(size):
            read = CountedRead(size)
            made = prove_inclusion(index, size, read=read)
            assert read.calls == 1
            assert list(made) == TREE.path(index, size)
            check_inclusion(TREE.leaf(index), index, size=size, proof=made, root=TREE.root(size))


def test_every_consistency_proof() -> None:
    for new in range(LIMIT + 1):
        for old in range(new + 1):
            read = CountedRead(new)
            made = prove_consistency(old, new, read=read)
            assert read.calls == 1
            assert list(made) == (TREE.proof(old, new) if old else [])
            if old or old == new:
                check_consistency(old, new, proof=made, old_root=TREE.root(old), new_root=TREE.root(new))


def test_every_range_proof() -> None:
    for size in range(1, LIMIT + 1):
        for first in range(size):
            for end in range(first + 1, size + 1):
                read = CountedRead(size)
                made = prove_range(first, end - first, size=size, read=read)
                assert read.calls == 1
                assert list(made) == TREE.outside(first, end, size)
                check_range(TREE.leaves(first, end), first, size=size, proof=made, root=TREE.root(size))
                assert len(made) <= max(0, 2 * ceil(log2(size)) - 1)
            single = prove_range(first, 1, size=size, read=CountedRead(size))
            assert len(single) <= len(TREE.path(first, size))
        assert prove_range(0, size, size=size, read=CountedRead(size)) == ()


def falsified(hashes: Sequence[Hash]) -> list[list[Hash]]:
    """Each way to damage a proof a little: a bit of each hash, one dropped, one inserted, two neighbours swapped."""
    damaged: list[list[bytes]] = []
    for at in range(len(hashes)):
        before: list[bytes] = list(hashes[:at])
        value: bytes = hashes[at]
        after: list[bytes] = list(hashes[at + 1 :])
        damaged += [
            [*before, *after],
            [*before, value, value, *after],
            [*before, bytes([value[0] ^ 1]) + value[1:], *after],
            [*before, value[:-1] + bytes([value[-1] ^ 128]), *after],
            [*before, value[:31], *after],
        ]
        if after and after[0] != value:
            damaged.append([*before, after[0], value, *after[1:]])
    for at in range(len(hashes) + 1):
        damaged.append([*hashes[:at], OTHER, *hashes[at:]])
    return cast("list[list[Hash]]", damaged)


def test_no_damaged_inclusion_proof_holds() -> None:
    for size in range(1, 27):
        root = TREE.root(size)
        for index in range(size):
            leaf, good = TREE.leaf(index), TREE.path(index, size)
            for bad in falsified(good):
                with pytest.raises(BadProof):
                    check_inclusion(leaf, index, size=size, proof=bad, root=root)
            for wrong in (OTHER, leaf[:31], TREE.leaf((index + 1) % size) if size > 1 else OTHER):
                with pytest.raises(BadProof):
                    check_inclusion(LeafHash(wrong), index, size=size, proof=good, root=root)
            with pytest.raises(BadProof):
                check_inclusion(leaf, index, size=size, proof=good, root=OTHER)


def test_no_inclusion_proof_holds_for_another_index() -> None:
    for size in range(1, 40):
        for index in range(size):
            for wrong in {*range(-2, size + 2)} - {index}:
                with pytest.raises(BadProof):
                    check_inclusion(
                        TREE.leaf(index), wrong, size=size, proof=TREE.path(index, size), root=TREE.root(size)
                    )


def test_a_false_size_holds_only_where_the_path_has_the_same_shape() -> None:
    """A size is not part of the root: with a false one the same path may verify, so sizes come signed (X1)."""
    for size in range(1, 40):
        for index in range(size):
            path = TREE.path(index, size)
            for wrong in {*range(40)} - {size}:
                shape = wrong > index and turns(index, wrong) == turns(index, size)
                if not shape:
                    with pytest.raises(BadProof):
                        check_inclusion(TREE.leaf(index), index, size=wrong, proof=path, root=TREE.root(size))


def turns(index: int, size: int) -> list[bool]:
    """On which side the sibling lies, from the root down, by the definition of the split."""
    lo, hi, sides = 0, size, []
    while hi - lo > 1:
        k = 1
        while 2 * k < hi - lo:
            k *= 2
        sides.append(index < lo + k)
        lo, hi = (lo, lo + k) if index < lo + k else (lo + k, hi)
    return sides


def test_no_damaged_consistency_proof_holds() -> None:
    for new in range(1, 27):
        for old in range(1, new + 1):
            roots: dict[str, Any] = {"old_root": TREE.root(old), "new_root": TREE.root(new)}
            good = TREE.proof(old, new)
            for bad in falsified(good):
                with pytest.raises(BadProof):
                    check_consistency(old, new, proof=bad, **roots)
            for name in roots:
                for wrong in (OTHER, roots[name][:31]):
                    with pytest.raises(BadProof):
                        check_consistency(old, new, proof=good, **{**roots, name: wrong})
            for wrong_old in {*range(-1, new + 2)} - {old}:
                if wrong_old != new or good:
                    with pytest.raises(BadProof):
                        check_consistency(wrong_old, new, proof=good, **roots)


def test_no_damaged_range_proof_holds() -> None:
    for size in range(1, 14):
        root = TREE.root(size)
        for first in range(size):
            for end in range(first + 1, size + 1):
                leaves, good = TREE.leaves(first, end), TREE.outside(first, end, size)
                for bad in falsified(good):
                    with pytest.raises(BadProof):
                        check_range(leaves, first, size=size, proof=bad, root=root)
                for wrong_leaves in falsified(leaves):
                    with pytest.raises(BadProof):
                        check_range(wrong_leaves, first, size=size, proof=good, root=root)
                for wrong in {*range(-1, size + 1)} - {first}:
                    with pytest.raises(BadProof):
                        check_range(leaves, wrong, size=size, proof=good, root=root)


@pytest.mark.parametrize("bad", [-1, 4, 1 << 63, 1 << 64, True, 1.0, None], ids=repr)
def test_indices_that_are_none(bad: int) -> None:
    read = CountedRead(4)
    with pytest.raises(BadProof):
        check_inclusion(TREE.leaf(1), bad, size=4, proof=TREE.path(1, 4), root=TREE.root(4))
    with pytest.raises(Malformed):
        prove_inclusion(bad, 4, read=read)
    assert read.calls == 0


@pytest.mark.parametrize(("first", "count", "size"), [(0, 0, 4), (-1, 2, 4), (3, 2, 4), (0, 1, 0), (0, 1, 1 << 63)])
def test_ranges_that_are_none(first: int, count: int, size: int) -> None:
    with pytest.raises(Malformed):
        prove_range(first, count, size=size, read=CountedRead(4))
    with pytest.raises(BadProof):
        check_range(TREE.leaves(0, count), first, size=size, proof=[], root=TREE.root(4))


def test_a_store_that_answers_too_little_is_a_defect() -> None:
    with pytest.raises(ValueError, match="from the store"):
        prove_inclusion(0, 4, read=lambda _: [])


def test_the_empty_tree() -> None:
    check_consistency(0, 0, proof=[], old_root=EMPTY_ROOT, new_root=EMPTY_ROOT)
    for old_root, new_root in ((OTHER, OTHER), (EMPTY_ROOT, OTHER)):
        with pytest.raises(BadProof):
            check_consistency(0, 0, proof=[], old_root=old_root, new_root=new_root)
    with pytest.raises(BadProof, match="empty tree"):
        check_consistency(0, 1, proof=[], old_root=EMPTY_ROOT, new_root=TREE.root(1))


class CountedPairs:
    """Counts the hashes that checking takes, since a bound on work is a bound on hashes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        def counted(left: bytes, right: bytes) -> NodeHash:
            self.count += 1
            return node_hash(left, right)

        monkeypatch.setattr(under_test, "node_hash", counted)


def test_a_range_in_a_large_tree_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,024 leaves in ten million: the borders are walked node by node, the inside row by row."""
    size, first, count = 10_000_000, 6_543_210, 1_024
    asked: list[Subtree] = []

    def read(subtrees: Sequence[Subtree]) -> list[NodeHash]:
        asked.extend(subtrees)
        return [OTHER] * len(subtrees)

    made = prove_range(first, count, size=size, read=read)
    assert len(made) <= 2 * ceil(log2(size)) - 1
    assert len(asked) <= 3 * ceil(log2(size))
    pairs = CountedPairs(monkeypatch)
    with pytest.raises(BadProof, match="got root"):
        check_range(TREE.leaves(0, 64) * 16, first, size=size, proof=made, root=OTHER)
    assert pairs.count <= 3 * ceil(log2(size))


def test_the_largest_tree() -> None:
    size = SIZE_LIMIT_LEAVES - 1

    def read(subtrees: Sequence[Subtree]) -> list[NodeHash]:
        return [OTHER] * len(subtrees)

    assert len(prove_inclusion(0, size, read=read)) == 63
    assert len(prove_consistency(1, size, read=read)) == 63
    assert len(prove_range(size // 3, 2, size=size, read=read)) <= 2 * 63 - 1
    for index in (0, size // 3, size - 1):
        with pytest.raises(BadProof, match="got root"):
            check_inclusion(
                LeafHash(OTHER), index, size=size, proof=prove_inclusion(index, size, read=read), root=OTHER
            )
