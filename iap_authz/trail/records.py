# SPDX-License-Identifier: Apache-2.0
"""`Trail`: reading records, as the port `TrailService` wants it.

The invariant: what is answered is the leaf, byte for byte, and it is the leaf that was asked for. An index, or the
ledger, only says where to look; the leaf that is found there must hash to the audit id, stand at that place of that
writer, or match the search. If it does not, the answer is Corrupt, never another record (F19).

What no check here can find is a row that is missing: an answer names the size that the index stands at, and neither
"not found" nor a search proves absence (rule O1). `received` of an entry stays unset: it is in the batch's last leaf.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Corrupt, Malformed, NotFound, shown
from iap_authz.model.ids import WriterId
from iap_authz.ports import Index, Ledger
from iap_authz.records.tokens import query_tokens
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES, LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.leaves import CHUNK_LEAVES, LeafSource, read_each, read_range
from iap_authz.trail.match import PAGE_FIELDS, asks_personal, check_query, clear_part, matches, parse_or_none
from iap_authz.trail.opener import Unsealing
from iap_authz.trail.paging import PAGE_MAX_BYTES, page_size, parse_token, render_token
from iap_authz.trail.worker import Run

ENTRIES_MAX = 10_000
"""Leaves of one `get_entries` (log.proto)."""

COMPANIONS_SECONDS = 0.1
"""Between two looks at whether what stands beside new leaves is stored: that follows each publication."""


@dataclass(slots=True, kw_only=True)
class _Page:
    """A page as it fills. It ends early before it is larger than an answer may be."""

    limit: int
    records: list[log_pb2.GetRecordResponse] = field(default_factory=list)
    used_bytes: int = 0
    is_full: bool = False

    def add(self, found: log_pb2.GetRecordResponse) -> bool:
        """False if it does not fit any more."""
        self.used_bytes += found.ByteSize()
        self.is_full = bool(self.records) and self.used_bytes > PAGE_MAX_BYTES
        if not self.is_full:
            self.records.append(found)
        return not self.is_full


class Trail:
    """Reads the log's records. Owned by the event loop; database calls go through `run`, one at a time."""

    def __init__(
        self,
        *,
        leaves: LeafSource,
        index: Index,
        ledger: Ledger,
        evidence: Callable[[LeafIndex], Awaitable[log_pb2.Evidence]],
        run: Run,
        unsealing: Unsealing | None = None,
    ) -> None:
        """Without `unsealing` (a log without a vault) nothing is found by what a personal part says."""
        self._unsealing = unsealing
        self._leaves = leaves
        self._index = index
        self._ledger = ledger
        self._evidence = evidence
        self._run = run

    async def get_record(self, request: log_pb2.GetRecordRequest) -> log_pb2.GetRecordResponse:
        """One record, by index, audit id or place in its writer's log. Raises Malformed, NotFound or Corrupt."""
        which = request.WhichOneof("which")
        if which == "index":
            index, leaf = await self._by_index(request.index)
        elif which == "audit_id":
            index, leaf = await self._by_audit_id(request.audit_id)
        elif which == "position":
            index, leaf = await self._by_position(request.position)
        else:
            raise Malformed("got a request for no record, want an index, an audit id or a position")
        return await self._answer(index, leaf, with_evidence=request.with_evidence)

    async def get_entries(self, request: log_pb2.GetEntriesRequest) -> AsyncIterator[log_pb2.Entry]:
        """Leaves [first, first + count), at most `ENTRIES_MAX`, cut at the size. Raises Malformed."""
        first, count, size = request.first, request.count, self._leaves.size()
        if not count or count >= SIZE_LIMIT_LEAVES:
            raise Malformed(f"got a count of {count}, want 1 to 2^63 - 1, of which {ENTRIES_MAX} are given at once")
        if first > size:
            raise Malformed(f"got first leaf {first}, want at most {size}: the log's size")
        async for index, leaf in read_range(self._leaves, first, min(first + min(count, ENTRIES_MAX), size)):
            yield log_pb2.Entry(index=index, record=leaf)

    async def search_records(self, request: log_pb2.SearchRecordsRequest) -> log_pb2.SearchRecordsResponse:
        """One page of matching records. Raises Malformed, or Corrupt for a hit that does not match.

        Raises Malformed too for a search by a personal field in a log without a vault: it has no tokens.
        """
        check_query(request)
        tokens = self._tokens(request)
        limit, after = page_size(request), parse_token(request)
        page = _Page(limit=limit)
        while True:
            indexed, hits = await self._run(
                self._look, request, tokens=tokens, after=after, limit=limit + 1 - len(page.records)
            )
            self._check_hits(hits, after=after, newest_first=request.newest_first)
            taken = hits[: limit - len(page.records)]
            await self._fill(page, request, taken)
            response = log_pb2.SearchRecordsResponse(records=page.records, indexed_size=indexed)
            if page.is_full or (page.records and len(page.records) == limit and len(hits) > len(taken)):
                response.next_page_token = render_token(request, LeafIndex(page.records[-1].entry.index))
                return response
            if len(hits) == len(taken):
                return response
            after = taken[-1]  # some that were found by their tokens do not match: others take their places

    async def _fill(self, page: "_Page", request: log_pb2.SearchRecordsRequest, taken: Many[LeafIndex]) -> None:
        """Put those of `taken` that match into the page, until it is full."""
        for at in range(0, len(taken), CHUNK_LEAVES):
            leaves = [one async for one in read_each(self._leaves, taken[at : at + CHUNK_LEAVES])]
            for index, leaf in await self._matching(request, leaves):
                found = await self._answer(index, leaf, with_evidence=request.with_evidence)
                if not page.add(found):
                    return

    async def _matching(
        self, request: log_pb2.SearchRecordsRequest, leaves: Many[tuple[LeafIndex, bytes]]
    ) -> list[tuple[LeafIndex, bytes]]:
        """Those leaves that match. What the index's rows say wrongly is Corrupt; tokens may find too much."""
        clear, matching = clear_part(request), list[tuple[LeafIndex, bytes]]()
        parsed = [parse_or_none(leaf) for _, leaf in leaves]
        for (index, _), record in zip(leaves, parsed, strict=True):
            if not matches(clear, record, None):
                raise Corrupt(
                    f"index row {index}", "got a hit whose leaf does not match the search, want one that does"
                )
        parts = await self._open(request, [index for index, _ in leaves], parsed)
        for one, record, part in zip(leaves, parsed, parts, strict=True):
            if matches(request, record, part):
                matching.append(one)
        return matching

    async def _open(
        self,
        request: log_pb2.SearchRecordsRequest,
        indices: Many[LeafIndex],
        records: Many[record_pb2.Record | None],
    ) -> list[record_pb2.PersonalPart | None]:
        """The personal part of each record, where the search asks for one."""
        if self._unsealing is None or not asks_personal(request):
            return [None] * len(records)
        known = [(index, record) for index, record in zip(indices, records, strict=True) if record is not None]
        opened = iter(await self._run(self._unsealing.opener.open_all, known))
        return [None if record is None else next(opened).personal for record in records]

    def _tokens(self, request: log_pb2.SearchRecordsRequest) -> list[frozenset[int]]:
        """What a leaf must have for the personal fields of a search (rule S9)."""
        self._check_opens(request)
        return [] if self._unsealing is None else query_tokens(self._unsealing.token_key, request)

    def _check_opens(self, request: log_pb2.SearchRecordsRequest) -> None:
        if self._unsealing is None and asks_personal(request):
            raise Malformed("got a search by a personal field, want one by clear fields: this log has `vault: none`")

    async def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncIterator[log_pb2.Entry]:
        """Matching records after leaf `after_index` (0: from the first leaf on), then each new one, until cancelled.

        Raises Malformed. Leaves are read as they come, not through the index: nothing is missed, nothing waits for it.
        Where personal fields are asked for, they come when they can be opened, some seconds later.
        """
        _check_tail(request)
        self._check_opens(request.filter)
        at = request.after_index + 1 if request.after_index else 0
        while True:
            await self._leaves.wait_larger(TreeSize(at))
            end = await self._readable(request.filter, min(at + CHUNK_LEAVES, self._leaves.size()))
            if end <= at:
                await asyncio.sleep(COMPANIONS_SECONDS)
                continue
            leaves = [one async for one in read_range(self._leaves, at, end)]
            parsed = [parse_or_none(leaf) for _, leaf in leaves]
            parts = await self._open(request.filter, [index for index, _ in leaves], parsed)
            for (index, leaf), record, part in zip(leaves, parsed, parts, strict=True):
                if matches(request.filter, record, part):
                    yield log_pb2.Entry(index=index, record=leaf)
            at = end
            await asyncio.sleep(0)  # a long stretch without a match must not keep the loop from others

    async def _readable(self, request: log_pb2.SearchRecordsRequest, end: int) -> int:
        """Up to where leaves can be judged: what stands beside them is stored after they are committed."""
        if self._unsealing is None or not asks_personal(request):
            return end
        return min(end, await self._run(self._unsealing.opener.size))

    def _look(
        self,
        query: log_pb2.SearchRecordsRequest,
        *,
        tokens: Many[frozenset[int]],
        after: LeafIndex | None,
        limit: int,
    ) -> tuple[TreeSize, list[LeafIndex]]:
        """In the thread. The size comes first: what is found is at least what stands below it."""
        return self._index.size(), self._index.search(query, tokens=tokens, after=after, limit=limit)

    def _look_up(self, audit_id: bytes) -> tuple[TreeSize, LeafIndex | None]:
        """In the thread."""
        return self._index.size(), self._index.find(audit_id)

    def _look_up_position(self, writer: WriterId, sequence: int) -> tuple[TreeSize, LeafIndex | None, str]:
        """In the thread. The ledger knows batches as soon as they are committed; the log's own leaves have none."""
        indexed = self._index.size()
        for batch in self._ledger.batches(writer, sequence, sequence + 1):
            return indexed, LeafIndex(batch.first_index + sequence - batch.begin), "ledger"
        return indexed, self._index.find_position(writer, sequence), "index"

    async def _by_index(self, index: int) -> tuple[LeafIndex, bytes]:
        if index >= SIZE_LIMIT_LEAVES:
            raise Malformed(f"got leaf index {index}, want 0 to 2^63 - 1")
        size = self._leaves.size()
        if index >= size:
            raise NotFound(f"got leaf index {index}, want one below {size}: the log's size")
        return LeafIndex(index), (await self._leaves.read(LeafIndex(index), 1))[0]

    async def _by_audit_id(self, audit_id: bytes) -> tuple[LeafIndex, bytes]:
        if len(audit_id) != HASH_BYTES:
            raise Malformed(f"got an audit id of {len(audit_id)} bytes, want {HASH_BYTES}")
        indexed, index = await self._run(self._look_up, audit_id)
        if index is None:
            raise NotFound(f"got audit id {audit_id.hex()}, want one of the first {indexed} leaves: the index's size")
        self._check_hits([index])
        (leaf,) = await self._leaves.read(index, 1)
        if leaf_hash(leaf) != audit_id:
            message = f"got audit id {audit_id.hex()} for the leaf of {leaf_hash(leaf).hex()}, want its own"
            raise Corrupt(f"index row {index}", message)
        return index, leaf

    async def _by_position(self, position: log_pb2.WriterPosition) -> tuple[LeafIndex, bytes]:
        writer, sequence = WriterId(position.writer), position.sequence
        if len(writer) != HASH_BYTES:
            raise Malformed(f"got a writer of {len(writer)} bytes, want {HASH_BYTES}")
        if sequence >= SIZE_LIMIT_LEAVES:
            raise Malformed(f"got sequence {sequence}, want 0 to 2^63 - 1")
        asked = f"record {sequence} of writer {writer.hex()}"
        indexed, index, source = await self._run(self._look_up_position, writer, sequence)
        if index is None:
            raise NotFound(f"got {asked}, want one of the first {indexed} leaves: the index's size")
        if source == "ledger" and index >= self._leaves.size():
            raise NotFound(f"got {asked}, want one below {self._leaves.size()}: it is taken, but not to be read yet")
        self._check_hits([index])
        (leaf,) = await self._leaves.read(index, 1)
        record = parse_or_none(leaf)
        if record is None or (record.writer, record.sequence) != (writer, sequence):
            raise Corrupt(f"{source} row {index}", f"got a row for {asked}, want one that leads to it")
        return index, leaf

    def _check_hits(self, hits: Many[LeafIndex], *, after: LeafIndex | None = None, newest_first: bool = False) -> None:
        """Each is a leaf of the log, and they go on from `after` in one direction: else pages would not end."""
        size, last = self._leaves.size(), after
        for index in hits:
            if type(index) is not int or not 0 <= index < size:
                raise Corrupt(f"index row {shown(index)}", f"got a row of no leaf, want one from 0 to below {size}")
            if last is not None and (index >= last if newest_first else index <= last):
                raise Corrupt(f"index row {index}", f"got a row after that of leaf {last}, want them in order")
            last = index

    async def _answer(self, index: LeafIndex, leaf: bytes, *, with_evidence: bool) -> log_pb2.GetRecordResponse:
        evidence = await self._evidence(index) if with_evidence else None
        return log_pb2.GetRecordResponse(entry=log_pb2.Entry(index=index, record=leaf), evidence=evidence)


def _check_tail(request: log_pb2.TailRecordsRequest) -> None:
    check_query(request.filter)
    if request.after_index >= SIZE_LIMIT_LEAVES - 1:
        raise Malformed(f"got after_index {request.after_index}, want 0 to 2^63 - 2")
    for asked, _ in request.filter.ListFields():
        if asked.name in PAGE_FIELDS:
            raise Malformed(f"got {asked.name} in the filter of a tail, want none: it has no pages and one order")
