# SPDX-License-Identifier: Apache-2.0
"""Inclusion, consistency and range proofs: made from a tree's complete subtrees, checked without any tree.

The invariant: `check_*` returns only if the proof, all of it and nothing beside it, leads to the root. A proof has one
length for its question, so any hash too many or too few is refused before a hash is computed.

    inclusion    RFC 9162 section 2.1.3: the siblings from the leaf up
    consistency  RFC 9162 section 2.1.4: what turns the old root, and with it the new one, out of common subtrees
    range        ours: the roots of the maximal subtrees outside [first, first + count), left to right

Each `prove_*` asks for all complete subtrees it needs in one call of `read`, then computes: one round trip whatever
the store. Nothing here trusts a size or a root: both must come from a checkpoint whose signature was checked (X1).
"""

from collections.abc import Callable, Iterator, Sequence

from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.tlog.hashing import (
    EMPTY_ROOT,
    HASH_BYTES,
    SIZE_LIMIT_LEAVES,
    LeafHash,
    NodeHash,
    as_nodes,
    check_index,
    check_size,
    node_hash,
)
from iap_authz.tlog.tree import Subtree, cover, fold, subtree_root

Read = Callable[[Sequence[Subtree]], Sequence[NodeHash]]
"""Gives the root of each complete subtree asked for, in the order asked."""

Span = tuple[int, int]
"""The leaves [lo, hi) under one node of the tree."""


def _split(lo: int, hi: int) -> int:
    """Where a tree over [lo, hi) splits: after the largest power of two smaller than its size."""
    return lo + (1 << ((hi - lo - 1).bit_length() - 1))


def _read_spans(spans: Sequence[Span], read: Read) -> tuple[NodeHash, ...]:
    """The root of each span, out of one call of `read` for all of them."""
    covers = [tuple(cover(lo, hi)) for lo, hi in spans]
    wanted = [subtree for row in covers for subtree in row]
    found = read(wanted)
    if len(found) != len(wanted):
        raise ValueError(f"got {len(found)} hashes from the store, want {len(wanted)}")
    hashes = iter(found)
    return tuple(fold([next(hashes) for _ in row]) for row in covers)


def _inclusion_spans(index: int, size: int) -> list[Span]:
    """The siblings on the way from the leaf to the root."""
    spans, lo, hi = list[Span](), 0, size
    while hi - lo > 1:
        middle = _split(lo, hi)
        if index < middle:
            spans.append((middle, hi))
            hi = middle
        else:
            spans.append((lo, middle))
            lo = middle
    return spans[::-1]


def _consistency_spans(old: int, new: int) -> list[Span]:
    """The nodes that the trees of both sizes are made of, in the order of RFC 9162 section 2.1.4.1."""
    spans, lo, hi = list[Span](), 0, new
    while hi > old:
        middle = _split(lo, hi)
        if old <= middle:
            spans.append((middle, hi))
            hi = middle
        else:
            spans.append((lo, middle))
            lo = middle
    if lo:
        # The old tree ends in a subtree of its own; were it the whole old tree, its root is already known.
        spans.append((lo, hi))
    return spans[::-1]


def _spans_outside(first: int, end: int, *, size: int) -> Iterator[Span]:
    """The maximal subtrees that hold no leaf of [first, end), left to right."""
    stack = [(0, size)]
    while stack:
        lo, hi = stack.pop()
        if hi <= first or lo >= end:
            yield lo, hi
        elif lo < first or hi > end:
            middle = _split(lo, hi)
            stack += [(middle, hi), (lo, middle)]


def prove_inclusion(index: int, size: int, *, read: Read) -> tuple[NodeHash, ...]:
    """Prove that leaf `index` is in the tree of `size`: at most 63 hashes, the leaf's sibling first."""
    check_index(index, size)
    return _read_spans(_inclusion_spans(index, size), read)


def prove_consistency(old: int, new: int, *, read: Read) -> tuple[NodeHash, ...]:
    """Prove that the tree of size `old` is a prefix of that of size `new`. Empty if `old` is 0 or equals `new`."""
    check_size(old)
    check_size(new)
    if old > new:
        raise Malformed(f"got old size {old}, want at most the new size {new}")
    spans = _consistency_spans(old, new) if 0 < old < new else []
    return _read_spans(spans, read)


def prove_range(first: int, count: int, *, size: int, read: Read) -> tuple[NodeHash, ...]:
    """Prove that `count` known leaves are those from `first` on: at most 2 * ceil(log2 size) - 1 hashes."""
    check_size(size)
    if not (count >= 1 and first >= 0 and first + count <= size):
        raise Malformed(f"got {shown(count)} leaves from {shown(first)} on, want at least one, all below {size}")
    return _read_spans(list(_spans_outside(first, first + count, size=size)), read)


def _check_shape(hashes: Sequence[bytes], *, size: int) -> None:
    """Raise BadProof unless `size` is a size and every hash is 32 bytes."""
    if type(size) is not int or not 0 <= size < SIZE_LIMIT_LEAVES:
        raise BadProof(f"got tree size {shown(size)}, want 0 to 2^63 - 1")
    for value in hashes:
        if not isinstance(value, bytes) or len(value) != HASH_BYTES:
            raise BadProof(f"got a hash {shown(value)}, want {HASH_BYTES} bytes")


def _check_root(got: bytes, want: bytes) -> None:
    if got != want:
        raise BadProof(f"got root {got.hex()}, want {want.hex()}")


def check_inclusion(leaf: LeafHash, index: int, *, size: int, proof: Sequence[NodeHash], root: NodeHash) -> None:
    """Raise BadProof unless `leaf` is leaf `index` of the tree of `size` under `root` (RFC 9162 section 2.1.3.2).

    The caller computes `leaf` from the entry it holds, never from what came with the proof.
    """
    _check_shape([leaf, root, *proof], size=size)
    if type(index) is not int or not 0 <= index < size:
        raise BadProof(f"got leaf index {shown(index)}, want 0 to below {size}")
    here, last, got = index, size - 1, NodeHash(leaf)
    for sibling in proof:
        if last == 0:
            raise BadProof(f"got {len(proof)} hashes for leaf {index} of {size}, want fewer")
        if here & 1 or here == last:
            got = node_hash(sibling, got)
            # On the right border a node without a sibling is its own parent: skip those levels.
            skip = (here & -here).bit_length() - 1
            here, last = here >> skip, last >> skip
        else:
            got = node_hash(got, sibling)
        here, last = here >> 1, last >> 1
    if last != 0:
        raise BadProof(f"got {len(proof)} hashes for leaf {index} of {size}, want more")
    _check_root(got, root)


def check_consistency(
    old_size: int, new_size: int, *, proof: Sequence[NodeHash], old_root: NodeHash, new_root: NodeHash
) -> None:
    """Raise BadProof unless the old tree is a prefix of the new one (RFC 9162 section 2.1.4.2).

    An empty old tree is a prefix of every tree, which no proof can show: from 0 to more is refused, and the caller
    that allows it says so itself.
    """
    _check_shape([old_root, new_root, *proof], size=new_size)
    if type(old_size) is not int or not 0 <= old_size <= new_size:
        raise BadProof(f"got old size {shown(old_size)}, want 0 to {new_size}")
    if old_size == new_size:
        _check_same_size(old_size, proof, old_root=old_root, new_root=new_root)
        return
    if old_size == 0:
        raise BadProof("got old size 0, want at least 1: nothing can be proven of an empty tree")
    want = len(_consistency_spans(old_size, new_size))
    if len(proof) != want:
        raise BadProof(f"got {len(proof)} hashes from {old_size} to {new_size}, want {want}")
    got_old, got_new = _roots_of_consistency(old_size, new_size, proof=proof, old_root=old_root)
    _check_root(got_old, old_root)
    _check_root(got_new, new_root)


def _check_same_size(size: int, proof: Sequence[NodeHash], *, old_root: NodeHash, new_root: NodeHash) -> None:
    if proof:
        raise BadProof(f"got {len(proof)} hashes between equal sizes, want none")
    if size == 0:
        _check_root(old_root, EMPTY_ROOT)
    _check_root(new_root, old_root)


def _roots_of_consistency(
    old_size: int, new_size: int, *, proof: Sequence[NodeHash], old_root: NodeHash
) -> tuple[NodeHash, NodeHash]:
    """The two roots that a proof of the right length leads to."""
    whole = old_size & (old_size - 1) == 0
    path = [old_root, *proof] if whole else list(proof)
    ones = (~(old_size - 1) & old_size).bit_length() - 1
    here, last = (old_size - 1) >> ones, (new_size - 1) >> ones
    got_old = got_new = path[0]
    for value in path[1:]:
        if last == 0:
            raise BadProof(f"got {len(proof)} hashes from {old_size} to {new_size}, want fewer")
        if here & 1 or here == last:
            got_old, got_new = node_hash(value, got_old), node_hash(value, got_new)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            got_new = node_hash(got_new, value)
        here, last = here >> 1, last >> 1
    if last != 0:
        raise BadProof(f"got {len(proof)} hashes from {old_size} to {new_size}, want more")
    return got_old, got_new


def check_range(
    leaves: Sequence[LeafHash], first: int, *, size: int, proof: Sequence[NodeHash], root: NodeHash
) -> None:
    """Raise BadProof unless `leaves` are the leaves from `first` on in the tree of `size` under `root`.

    With a false size other placements can be made to verify, so size and root come from one checked checkpoint.
    """
    _check_shape([root, *proof, *leaves], size=size)
    end = first + len(leaves)
    if not leaves or type(first) is not int or not 0 <= first < end <= size:
        raise BadProof(f"got {len(leaves)} leaves from {shown(first)} on, want at least one, all below {size}")
    want = sum(1 for _ in _spans_outside(first, end, size=size))
    if len(proof) != want:
        raise BadProof(f"got {len(proof)} hashes for leaves {first} to {end} of {size}, want {want}")
    own, outside = as_nodes(leaves), iter(proof)

    def go(lo: int, hi: int) -> NodeHash:
        # At most 63 deep; only the two borders of the range are descended, the inside is hashed row by row.
        if hi <= first or lo >= end:
            return next(outside)
        if first <= lo and hi <= end:
            return subtree_root(own[lo - first : hi - first])
        middle = _split(lo, hi)
        return node_hash(go(lo, middle), go(middle, hi))

    _check_root(go(0, size), root)
