# SPDX-License-Identifier: Apache-2.0
"""How leaves and nodes are hashed, and the types that keep a leaf apart from a node and an index apart from a size.

The invariant: a leaf can never pass for a node, since the first byte that is hashed differs.

    leaf  = SHA-256(0x00 || entry)
    node  = SHA-256(0x01 || left || right)
    empty = SHA-256("")

Specification: RFC 6962 section 2.1 (RFC 9162 section 2.1.1 is the same). A leaf's hash is also the root of the tree
that has only this leaf; `as_nodes` says so to the type checker, which otherwise keeps the two apart.

Not here: the shape of the tree (`tree`), and any other hash function. There is no agility on purpose.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NewType, cast

from iap_authz.errors import Malformed, shown

LeafHash = NewType("LeafHash", bytes)
"""32 bytes: the hash of one entry. In lowercase hex it is the entry's audit id."""

NodeHash = NewType("NodeHash", bytes)
"""32 bytes: the root of a tree or of a subtree."""

LeafIndex = NewType("LeafIndex", int)
"""The position of a leaf, from 0."""

TreeSize = NewType("TreeSize", int)
"""How many leaves a tree has."""

HASH_BYTES = 32
"""The length of a SHA-256 digest (FIPS 180-4)."""

SIZE_LIMIT_LEAVES = 1 << 63
"""Sizes are below this: a signed 64-bit integer of a database or of another language holds each of them."""

LEVELS = 63
"""A tree below `SIZE_LIMIT_LEAVES` is at most this high, so no inclusion proof is longer."""

EMPTY_ROOT = NodeHash(sha256(b"").digest())
"""The root of the tree without leaves."""


def leaf_hash(entry: bytes) -> LeafHash:
    """Hash one entry."""
    return LeafHash(sha256(b"\x00" + entry).digest())


def leaf_hashes(entries: Iterable[bytes]) -> list[LeafHash]:
    """Hash many entries, in order: one comprehension, since this is the hottest loop of the log."""
    return cast("list[LeafHash]", [sha256(b"\x00" + entry).digest() for entry in entries])


def node_hash(left: bytes, right: bytes) -> NodeHash:
    """Hash the roots of two neighbours into their parent's. Both are 32 bytes; the callers have checked that."""
    return NodeHash(sha256(b"\x01" + left + right).digest())


def pair_up(row: Sequence[bytes]) -> list[NodeHash]:
    """Hash neighbours pairwise into the row above. An odd last hash is left out: it has no sibling yet."""
    digests = [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=False)]
    return cast("list[NodeHash]", digests)


def as_nodes(leaves: Iterable[LeafHash]) -> list[NodeHash]:
    """Take the hashes of leaves for roots of trees of one leaf, which they are."""
    return cast("list[NodeHash]", list(leaves))


def check_hash(value: bytes) -> None:
    """Raise Malformed unless `value` is exactly 32 bytes."""
    if not isinstance(value, bytes) or len(value) != HASH_BYTES:
        raise Malformed(f"got a hash {shown(value)}, want {HASH_BYTES} bytes")


def parse_node_hash(value: bytes) -> NodeHash:
    """Take 32 bytes as the hash of a node, or raise Malformed."""
    check_hash(value)
    return NodeHash(value)


def parse_leaf_hash(value: bytes) -> LeafHash:
    """Take 32 bytes as the hash of a leaf, or raise Malformed."""
    check_hash(value)
    return LeafHash(value)


def check_size(value: int) -> None:
    """Raise Malformed unless `value` can be a number of leaves: 0 to 2^63 - 1. A bool is not a number here."""
    if type(value) is not int or not 0 <= value < SIZE_LIMIT_LEAVES:
        raise Malformed(f"got tree size {shown(value)}, want 0 to 2^63 - 1")


def check_index(index: int, size: int) -> None:
    """Raise Malformed unless `index` is the position of a leaf in a tree of `size`."""
    check_size(size)
    if type(index) is not int or not 0 <= index < size:
        raise Malformed(f"got leaf index {shown(index)}, want 0 to below {size}")
