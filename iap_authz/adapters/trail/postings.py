# SPDX-License-Identifier: Apache-2.0
"""Postings: the leaves that have a token, kept by blocks of 65,536 leaves (see `postings_tables` for the bytes).

The invariant: a leaf stands in the row of each of its tokens, and in no other, until it is forgotten. Rows are added
with the leaves they are of, in one transaction, and never changed but by `forget_postings`.

A search takes the blocks in the order of its answer, some at a time. From each block it takes the rows of all tokens
that it asks for; where one collection has no row, nothing is unpacked. So memory is bounded, however many leaves have
a token. Whether a leaf that is found fits is for the leaf itself to say.

Deleted rows are overwritten with zeros (secure_delete), and what the pages may keep of them is a keyed hash.
"""

import sys
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, update

from iap_authz.adapters.trail.postings_tables import postings
from iap_authz.adapters.trail.store import writing
from iap_authz.errors import Corrupt, shown
from iap_authz.tlog.hashing import LeafIndex

BLOCK_BITS = 16
"""An offset in a block has two bytes. A block has some ten megabytes of rows, of which a search reads a few pages."""

BLOCK_LEAVES = 1 << BLOCK_BITS

BLOCKS_AT_ONCE_MAX = 16
"""Blocks that one statement looks into: at most 2 MB of offsets for each field of a search, which begins with fewer."""

FORGOTTEN_AT_ONCE = 4_000
"""Rows of a single leaf that one statement removes; SQLite takes 32,766 parameters."""

_OFFSET_BYTES = 2
_OFFSETS = "H"

_Row = tuple[int, int, int, bytes]
"""Block, token, chunk, offsets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The leaves [first, end), and in which direction they are gone through."""

    first: int
    end: int
    newest_first: bool

    def blocks(self) -> range:
        """Those that hold the leaves, in the order of the answer."""
        if self.first >= self.end:
            return range(0)
        first, last = self.first >> BLOCK_BITS, (self.end - 1) >> BLOCK_BITS
        return range(last, first - 1, -1) if self.newest_first else range(first, last + 1)


def insert_postings(connection: Connection, first: LeafIndex, tokens: Many[Collection[int]]) -> None:
    """Write the tokens of the leaves from `first` on, each once for a leaf."""
    rows, end = list[_Row](), first + len(tokens)
    for block in range(first >> BLOCK_BITS, (end + BLOCK_LEAVES - 1) >> BLOCK_BITS):
        begin = max(first, block << BLOCK_BITS)
        rows += _rows_of(begin, tokens[begin - first : ((block + 1) << BLOCK_BITS) - first])
    if not rows:
        return
    # As in `rows`: tuples in the order of the compiled statement are faster than a dictionary for each.
    statement = insert(postings).compile(dialect=connection.dialect)
    order = [postings.columns.keys().index(name) for name in statement.positiontup or ()]
    connection.exec_driver_sql(str(statement), [tuple(row[at] for at in order) for row in rows])


def find_leaves(connection: Connection, tokens: Many[Collection[int]], stretch: Stretch) -> Iterator[list[LeafIndex]]:
    """The leaves of the stretch that have a token of each collection, block by block, in order. Raises Corrupt."""
    at, count, blocks = 0, 1, stretch.blocks()
    while at < len(blocks):
        found = _load_rows(connection, tokens, blocks[at : at + count])
        for block in blocks[at : at + count]:
            offsets = _meet(tokens, found.get(block, {}))
            leaves = [LeafIndex((block << BLOCK_BITS) + offset) for offset in offsets]
            inside = [leaf for leaf in leaves if stretch.first <= leaf < stretch.end]
            if inside:
                yield sorted(inside, reverse=stretch.newest_first)
        at, count = at + count, min(count * 2, BLOCKS_AT_ONCE_MAX)


def forget_postings(engine: Engine, indices: Collection[LeafIndex]) -> None:
    """Remove these leaves from all rows, in a transaction for each block, so that nobody waits for all of it."""
    for block, leaves in groupby(sorted(set(indices)), key=lambda leaf: leaf >> BLOCK_BITS):
        with writing(engine) as connection:
            _forget(connection, block, {leaf & (BLOCK_LEAVES - 1) for leaf in leaves})


def _rows_of(first: int, tokens: Many[Collection[int]]) -> Iterable[_Row]:
    """The rows of leaves of one block, in the order of the table."""
    block, chunk = first >> BLOCK_BITS, first & (BLOCK_LEAVES - 1)
    offsets = dict[int, list[int]]()
    for offset, of_leaf in enumerate(tokens, chunk):
        for token in set(of_leaf):
            offsets.setdefault(token, []).append(offset)
    return [(block, token, chunk, _pack(found)) for token, found in sorted(offsets.items())]


def _load_rows(
    connection: Connection, tokens: Many[Collection[int]], blocks: Many[int]
) -> Mapping[int, Mapping[int, list[bytes]]]:
    """The offsets that stand in these blocks, by block and token."""
    wanted = sorted(set[int]().union(*tokens))
    table = postings.c
    asked = select(table.block, table.token, table.offsets)
    asked = asked.where(table.block.in_(sorted(blocks)), table.token.in_(wanted))
    found = dict[int, dict[int, list[bytes]]]()
    for block, token, offsets in connection.execute(asked):
        found.setdefault(block, {}).setdefault(token, []).append(offsets)
    return found


def _meet(tokens: Many[Collection[int]], rows: Mapping[int, list[bytes]]) -> set[int]:
    """The offsets that stand in a row of each collection: the smallest is unpacked first, the others while it lasts."""
    collections = [[content for token in group for content in rows.get(token, ())] for group in tokens]
    met: set[int] | None = None
    for contents in sorted(collections, key=lambda contents: sum(map(_size, contents))):
        united = set[int]().union(*map(_unpack, contents))
        met = united if met is None else met & united
        if not met:
            break
    return met or set()


def _forget(connection: Connection, block: int, offsets: set[int]) -> None:
    table, packed = postings.c, sorted(_pack([offset]) for offset in offsets)
    for at in range(0, len(packed), FORGOTTEN_AT_ONCE):
        single = table.offsets.in_(packed[at : at + FORGOTTEN_AT_ONCE])
        connection.execute(delete(postings).where(table.block == block, single))
    shared = select(table.token, table.chunk, table.offsets)
    shared = shared.where(table.block == block, func.length(table.offsets) > _OFFSET_BYTES)
    removed, changed = list[dict[str, Any]](), list[dict[str, Any]]()
    for token, chunk, content in connection.execute(shared):
        there = _unpack(content)
        left = [offset for offset in there if offset not in offsets]
        if len(left) < len(there):
            row = {"of_block": block, "of_token": token, "of_chunk": chunk}
            (changed if left else removed).append({**row, "offsets": _pack(left)} if left else row)
    here = [getattr(table, name) == bindparam(f"of_{name}") for name in ("block", "token", "chunk")]
    if removed:
        connection.execute(delete(postings).where(*here), removed)
    if changed:
        connection.execute(update(postings).where(*here), changed)


def _pack(offsets: Iterable[int]) -> bytes:
    packed = array(_OFFSETS, offsets)
    if sys.byteorder == "little":
        packed.byteswap()
    return packed.tobytes()


def _unpack(content: bytes) -> "array[int]":
    _size(content)
    offsets = array(_OFFSETS, content)
    if sys.byteorder == "little":
        offsets.byteswap()
    return offsets


def _size(content: object) -> int:
    """The length of a row's offsets. Raises Corrupt for what are none."""
    if type(content) is not bytes or not content or len(content) % _OFFSET_BYTES:
        raise Corrupt("postings", f"got {shown(content)} as the leaves of a token, want two bytes each")
    return len(content)
