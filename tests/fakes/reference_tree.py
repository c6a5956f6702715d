# SPDX-License-Identifier: Apache-2.0
"""A Merkle tree straight from the definitions of RFC 6962 section 2.1.

Slow, recursive, and with no code of ours but the names of two types: the tests compare the package with it. `path` and
`proof` are spelled as in the RFC so that the two can be laid side by side; `outside` is the definition of the range
proof. Nothing here is fast, and nothing here should become so.
"""

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256

from iap_authz.tlog.hashing import LeafHash, NodeHash


def split(n: int) -> int:
    """k, the largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


class ReferenceTree:
    """The tree over a list of entries."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = tuple(entries)
        self.mth: Callable[[int, int], NodeHash] = cache(self._mth)

    @classmethod
    def numbered(cls, size: int) -> "ReferenceTree":
        """The tree whose entries are the decimal numbers from 0 on."""
        return cls([b"entry %d" % number for number in range(size)])

    def leaf(self, index: int) -> LeafHash:
        return LeafHash(sha256(b"\x00" + self.entries[index]).digest())

    def leaves(self, lo: int, hi: int) -> list[LeafHash]:
        return [self.leaf(index) for index in range(lo, hi)]

    def _mth(self, lo: int, hi: int) -> NodeHash:
        """MTH(D[lo:hi])."""
        if lo == hi:
            return NodeHash(sha256(b"").digest())
        if hi - lo == 1:
            return NodeHash(self.leaf(lo))
        k = split(hi - lo)
        return NodeHash(sha256(b"\x01" + self.mth(lo, lo + k) + self.mth(lo + k, hi)).digest())

    def root(self, size: int) -> NodeHash:
        return self.mth(0, size)

    def path(self, m: int, size: int) -> list[NodeHash]:
        """PATH(m, D[size])."""
        return self._path(m, 0, size)

    def _path(self, m: int, lo: int, hi: int) -> list[NodeHash]:
        n = hi - lo
        if n == 1:
            return []
        k = split(n)
        if m < k:
            return [*self._path(m, lo, lo + k), self.mth(lo + k, hi)]
        return [*self._path(m - k, lo + k, hi), self.mth(lo, lo + k)]

    def proof(self, m: int, size: int) -> list[NodeHash]:
        """PROOF(m, D[size]) for 0 < m <= size."""
        return self._subproof(m, 0, size, known=True)

    def _subproof(self, m: int, lo: int, hi: int, *, known: bool) -> list[NodeHash]:
        n = hi - lo
        if m == n:
            return [] if known else [self.mth(lo, hi)]
        k = split(n)
        if m <= k:
            return [*self._subproof(m, lo, lo + k, known=known), self.mth(lo + k, hi)]
        return [*self._subproof(m - k, lo + k, hi, known=False), self.mth(lo, lo + k)]

    def outside(self, first: int, end: int, size: int) -> list[NodeHash]:
        """RANGE: the maximal subtrees without a leaf of [first, end), left to right."""
        return self._outside(first, end, 0, size)

    def _outside(self, first: int, end: int, lo: int, hi: int) -> list[NodeHash]:
        if hi <= first or lo >= end:
            return [self.mth(lo, hi)]
        if hi - lo == 1:
            return []
        middle = lo + split(hi - lo)
        return [*self._outside(first, end, lo, middle), *self._outside(first, end, middle, hi)]
