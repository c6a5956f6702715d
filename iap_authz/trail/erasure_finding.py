# SPDX-License-Identifier: Apache-2.0
"""Which records an erasure takes: found by the index, opened, and compared one by one.

The invariant: a record is taken only if it was opened and is about that person, or if it shares a key with one that is:
its key dies anyway, so the Erasure record must say so (rule S8). A record shares a key with others of the same person
at the same writer, such as what became of a decision; with those of other people only if its writer lies.

    tokens of the subject -> pages of leaves -> open -> whose? -> taken --> keys --> all leaves of these keys -> taken
                                                                     `- matches a hold? ------------------------'

A record that names the subject but no issuer (an alert, a reading, an event of another system) is taken with whichever
issuer was asked for. What was opened lives for the length of a chunk; kept are indices and leaf hashes, about 150 bytes
a record.
"""

from collections.abc import Collection
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Protocol

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.ports import NO_ERASURE, Companions, ErasureStore, SealedKey
from iap_authz.records.erasure import Person, Tags, Whose, person_of
from iap_authz.tlog.hashing import LeafHash, LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.leaves import read_each
from iap_authz.trail.match import matches, parse_or_none
from iap_authz.trail.opener import Opened
from iap_authz.trail.reader import TrailReader

PAGE_LEAVES = 256
"""Leaves that are read and opened in one go: some 20 ms of the thread, which searches wait for."""

SLICE_LEAVES = 65_536
"""Leaves among which others of a key are looked for in one call."""

Query = log_pb2.SearchRecordsRequest
_Leaf = tuple[LeafIndex, record_pb2.Record]


class PartOpener(Protocol):
    """What is asked of `trail.opener.Opener`. Blocking; one thread."""

    def open_all(self, leaves: Many[_Leaf]) -> Many[Opened]:
        """What became of each leaf. Raises SourceUnavailable where the vault does not answer."""

    def forget(self, numbers: Collection[int]) -> None:
        """Drop these subject keys: they were erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a legal hold keeps. Without a query it could not be opened, and keeps everything."""

    hold: bytes
    query: Query | None

    def holds(self, record: record_pb2.Record, personal: record_pb2.PersonalPart | None) -> bool:
        """Whether this record is kept."""
        return self.query is None or matches(self.query, record, personal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to look for: the records of `whose` among the leaves [begin, size), and what holds may keep.

    `before_epoch`: only those sealed with a key of an older seal epoch. `late` leaves are taken unopened: their keys
    are erased already.
    """

    tags: Tags
    whose: Whose
    size: TreeSize
    begin: int = 0
    before_epoch: int | None = None
    late: tuple[LeafIndex, ...] = ()
    scopes: tuple[Scope, ...] = ()


@dataclass(slots=True, kw_only=True)
class Found:
    """What was found.

    `in_the_clear`: records of the person that nothing sealed; `unopened`: those of their token that did not open.
    """

    taken: dict[LeafIndex, LeafHash] = field(default_factory=dict)
    issuers: set[str] = field(default_factory=set)
    holds: set[bytes] = field(default_factory=set)
    opened: int = 0
    in_the_clear: int = 0
    unopened: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One leaf of a page, opened. `key` is None where nothing stands beside it."""

    index: LeafIndex
    record: record_pb2.Record
    opened: Opened
    key: SealedKey | None


class Finder:
    """Finds. Owned by the event loop; what blocks goes through `run`."""

    def __init__(self, reader: TrailReader, *, companions: Companions, opener: PartOpener, store: ErasureStore) -> None:
        self._reader = reader
        self._companions = companions
        self._opener = opener
        self._store = store
        self._run = reader.run

    async def find(self, wanted: Wanted) -> Found:
        """Everything that `wanted` asks for. The index stands at `wanted.size` or beyond.

        Raises Corrupt, OSError, and SourceUnavailable where the vault does not answer.
        """
        found, keys = Found(), set[int]()
        await self._take(list(wanted.late), found)
        after = wanted.begin - 1
        while True:
            page = await self._page(wanted, after)
            if not page:
                break
            after = page[-1]
            for seen, hashed in await self._open(page):
                self._judge(seen, hashed, wanted=wanted, found=found, keys=keys)
        if keys:
            await self._add_sharing(wanted, found, keys)
        return found

    async def _page(self, wanted: Wanted, after: int) -> list[LeafIndex]:
        """The next leaves that have the subject's token."""
        hits = await self._run(
            self._reader.index.search,
            Query(),
            tokens=[frozenset({wanted.whose.token})],
            after=None if after < 0 else LeafIndex(after),
            limit=PAGE_LEAVES,
        )
        return [index for index in hits if index < wanted.size]

    async def _open(self, indices: Many[LeafIndex]) -> list[tuple[_Seen, LeafHash]]:
        leaves = [(index, leaf) async for index, leaf in read_each(self._reader.leaves, indices)]
        parsed = [(index, parse_or_none(leaf)) for index, leaf in leaves]
        hashes = {index: leaf_hash(leaf) for index, leaf in leaves}
        records = [(index, record) for index, record in parsed if record is not None]
        return [(seen, hashes[seen.index]) for seen in await self._run(self._see, records)]

    def _see(self, leaves: Many[_Leaf]) -> list[_Seen]:
        """In the thread."""
        rows = self._companions.find([index for index, _ in leaves])
        keys = self._companions.keys({row.key for row in rows.values() if row.key})
        opened = self._opener.open_all(leaves)
        return [
            _Seen(index=index, record=record, opened=one, key=keys.get(rows[index].key) if index in rows else None)
            for (index, record), one in zip(leaves, opened, strict=True)
        ]

    def _judge(self, seen: _Seen, hashed: LeafHash, *, wanted: Wanted, found: Found, keys: set[int]) -> None:
        """Whether one leaf that the index found is to be taken."""
        outcome, part = seen.opened.outcome, seen.opened.personal
        if outcome == log_pb2.Unsealed.TAMPERED:
            found.unopened += 1
            return
        person = None if part is None else person_of(part)
        if outcome == log_pb2.Unsealed.ERASED or not wanted.tags.fits(wanted.whose, person):
            return
        found.opened += 1
        if outcome == log_pb2.Unsealed.NOT_SEALED:
            found.in_the_clear += 1
            return
        if not _is_older(seen.key, wanted.before_epoch):
            return
        _note_issuer(found, person)
        _note_holds(found, seen, wanted.scopes)
        found.taken[seen.index] = hashed
        if seen.key is not None:
            keys.add(seen.key.number)

    async def _add_sharing(self, wanted: Wanted, found: Found, keys: set[int]) -> None:
        """The other leaves of these keys, wherever they stand."""
        for begin in range(0, wanted.size, SLICE_LEAVES):
            end = min(begin + SLICE_LEAVES, wanted.size)
            sharing = await self._run(self._store.sharing, keys, begin, end)
            others = [index for index in sharing if index not in found.taken]
            for at in range(0, len(others), PAGE_LEAVES):
                await self._take(others[at : at + PAGE_LEAVES], found, wanted.scopes)

    async def _take(self, indices: Many[LeafIndex], found: Found, scopes: Many[Scope] = ()) -> None:
        """Take these leaves, whoever they are about; they are opened only if a hold may keep them."""
        if scopes and indices:
            for seen, hashed in await self._open(indices):
                _note_holds(found, seen, scopes)
                found.taken[seen.index] = hashed
            return
        async for index, leaf in read_each(self._reader.leaves, indices):
            found.taken[index] = leaf_hash(leaf)


def _is_older(key: SealedKey | None, epoch: int | None) -> bool:
    """Whether a key is one that the erasure is for: alive, and made before the epoch, if one is said."""
    return key is not None and key.erasure == NO_ERASURE and (epoch is None or key.seal_epoch < epoch)


def _note_issuer(found: Found, person: Person | None) -> None:
    if person is not None and person.issuer:
        found.issuers.add(person.issuer)


def _note_holds(found: Found, seen: _Seen, scopes: Many[Scope]) -> None:
    found.holds |= {scope.hold for scope in scopes if scope.holds(seen.record, seen.opened.personal)}
