# SPDX-License-Identifier: Apache-2.0
"""Whether a leaf that cannot be opened was erased, or has lost its key some other way (rule S8).

The invariant: a leaf counts as erased only if an Erasure record in the log vouches for it: over all leaves that the
trail says this record took, the root is computed again and must be the record's. Whoever deletes a key and marks the
leaf as erased would need a record in the log with a root that has this leaf under it.

Entries of a round that were verified are kept, a bounded number of them; the leaf in question is compared each time.
"""

import logging
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iap_authz.errors import IapError, SourceUnavailable
from iap_authz.ports import ErasureRound, ErasureStore, Stage
from iap_authz.records.erasure import entries_root, salted_entry
from iap_authz.records.log_leaves import parse_log_leaf
from iap_authz.tlog.hashing import LeafIndex, leaf_hash
from iap_authz.trail.reader import TrailReader

KEPT_ENTRIES_MAX = 1_000_000
"""Entries in memory, of all rounds together: some 65 MB. A larger round is verified each time."""

PAGE_ROWS = 8_192
"""Rows in one call: some 20 ms of the thread."""

_log = logging.getLogger("iap_authz.trail.erasure")

_Round = tuple[bytes, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """A leaf, the round that the trail says it was taken in, and its salt there."""

    index: LeafIndex
    taken: _Round | None
    salt: bytes | None


class Coverage:
    """Compares leaves with Erasure records. Owned by the event loop; what blocks goes through `run`."""

    def __init__(self, reader: TrailReader, store: ErasureStore) -> None:
        self._reader = reader
        self._store = store
        self._run = reader.run
        self._verified: OrderedDict[_Round, list[bytes]] = OrderedDict()

    async def covered(self, leaves: Mapping[LeafIndex, bytes]) -> frozenset[LeafIndex]:
        """Those of these leaves that an Erasure record covers. Why not is logged as an error.

        Raises SourceUnavailable while the erasure is under way, or the index does not have all leaves in question yet.
        """
        rows, found = await self._run(self._look, list(leaves)), set[LeafIndex]()
        for taken in dict.fromkeys(row.taken for row in rows):
            entries = [] if taken is None else await self._entries_of(taken)
            found |= {row.index for row in rows if row.taken == taken and _is_among(row, leaves[row.index], entries)}
        for index in sorted(leaves.keys() - found):
            _log.error("a leaf is without its key, and no Erasure record covers it", extra={"index": index})
        return frozenset(found)

    def _look(self, indices: Sequence[LeafIndex]) -> list["_Marked"]:
        """In the thread: what the trail says of each."""
        marked = list[_Marked]()
        for index in indices:
            taken = self._store.taken_by(index)
            rows = [] if taken is None else self._store.covered(*taken, after=index - 1, limit=1)
            salts = [row.salt for row in rows if row.index == index]
            marked.append(_Marked(index=index, taken=taken, salt=salts[0] if salts else None))
        return marked

    async def _entries_of(self, taken: _Round) -> list[bytes]:
        """The verified entries of a round, sorted; none for one that does not hold or is none."""
        if not await self._is_settled(*taken):
            return []
        entries = self._verified.get(taken)
        if entries is None:
            entries = await self._verify(*taken)
            self._keep(taken, entries)
        else:
            self._verified.move_to_end(taken)
        return entries

    async def _is_settled(self, erasure: bytes, number: int) -> bool:
        """Whether there is such a round. Raises SourceUnavailable while the erasure is at it.

        One that is complete takes nothing more: what comes after, against the word of its writer, is not covered.
        """
        rounds = await self._run(self._store.rounds, erasure)
        begun = next((one for one in rounds if one.number == number), None)
        if begun is not None and begun.finished:
            return True
        row = await self._run(self._store.find, erasure)
        if row is not None and row.stage in (Stage.ERASING, Stage.ERASED):
            raise SourceUnavailable("an erasure is taking this leaf just now: ask again")
        return False

    async def _verify(self, erasure: bytes, number: int) -> list[bytes]:
        """The entries of a round, sorted, if they lead to the root of its Erasure record; none if they do not."""
        rounds = await self._run(self._store.rounds, erasure)
        begun = next((one for one in rounds if one.number == number), None)
        entries = await self._run(sorted, await self._entries(erasure, number))
        if begun is not None and begun.records == len(entries) and await self._is_logged(begun, entries):
            return entries
        _log.error("what an erasure took is not what its record says", extra={"erasure": erasure.hex()})
        return []

    async def _entries(self, erasure: bytes, number: int) -> list[bytes]:
        entries, after = list[bytes](), -1
        while True:
            rows = await self._run(self._store.covered, erasure, number, after=after, limit=PAGE_ROWS)
            for row in rows:
                if row.leaf_hash is None:
                    raise SourceUnavailable(f"got leaf {row.index}, which the index does not have yet: ask again")
                entries.append(salted_entry(row.salt, row.leaf_hash))
            if len(rows) < PAGE_ROWS:
                return entries
            after = rows[-1].index

    async def _is_logged(self, begun: ErasureRound, entries: list[bytes]) -> bool:
        """Whether the log has the Erasure record of this round, and it says this root."""
        if begun.index is None or begun.index >= self._reader.leaves.size():
            return False
        leaf = await self._reader.read(begun.index)
        try:
            body = parse_log_leaf(leaf, origin=self._reader.origin, index=begun.index, body="erasure").erasure
        except IapError:
            return False
        root = await self._run(entries_root, entries)
        return (body.erasure, body.leaves_root, body.records) == (begun.erasure, root, len(entries))

    def _keep(self, taken: _Round, entries: list[bytes]) -> None:
        if not entries or len(entries) > KEPT_ENTRIES_MAX:
            return
        self._verified[taken] = entries
        while sum(map(len, self._verified.values())) > KEPT_ENTRIES_MAX:
            self._verified.popitem(last=False)


def _is_among(row: _Marked, leaf: bytes, entries: list[bytes]) -> bool:
    """Whether the leaf itself, under its salt, is one of the entries."""
    if row.salt is None:
        return False
    entry = salted_entry(row.salt, leaf_hash(leaf))
    at = bisect_left(entries, entry)
    return entries[at : at + 1] == [entry]
