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

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Corrupt, Malformed, NotFound, shown
from iap_authz.model.ids import WriterId
from iap_authz.ports import Index, Ledger
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES, LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.leaves import CHUNK_LEAVES, LeafSource, read_each, read_range
from iap_authz.trail.match import PAGE_FIELDS, check_query, matches, parse_or_none
from iap_authz.trail.paging import PAGE_MAX_BYTES, page_size, parse_token, render_token
from iap_authz.trail.worker import Run

ENTRIES_MAX = 10_000
"""Leaves of one `get_entries` (log.proto)."""


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
    ) -> None:
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
        """One page of matching records. Raises Malformed, or Corrupt for a hit that does not match."""
        check_query(request)
        limit, after = page_size(request), parse_token(request)
        indexed, hits = await self._run(self._look, request, after=after, limit=limit + 1)
        response, used_bytes = log_pb2.SearchRecordsResponse(indexed_size=indexed), 0
        self._check_hits(hits, after=after, newest_first=request.newest_first)
        async for index, leaf in read_each(self._leaves, hits[:limit]):
            if not matches(request, parse_or_none(leaf)):
                raise Corrupt(
                    f"index row {index}", "got a hit whose leaf does not match the search, want one that does"
                )
            found = await self._answer(index, leaf, with_evidence=request.with_evidence)
            used_bytes += found.ByteSize()
            if response.records and used_bytes > PAGE_MAX_BYTES:
                break
            response.records.append(found)
        if len(response.records) < len(hits):
            last = response.records[-1].entry.index
            response.next_page_token = render_token(request, LeafIndex(last))
        return response

    async def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncIterator[log_pb2.Entry]:
        """Matching records after leaf `after_index` (0: from the first leaf on), then each new one, until cancelled.

        Raises Malformed. Leaves are read as they come, not through the index: nothing is missed, nothing waits for it.
        """
        _check_tail(request)
        at = request.after_index + 1 if request.after_index else 0
        while True:
            await self._leaves.wait_larger(TreeSize(at))
            end = min(at + CHUNK_LEAVES, self._leaves.size())
            async for index, leaf in read_range(self._leaves, at, end):
                if matches(request.filter, parse_or_none(leaf)):
                    yield log_pb2.Entry(index=index, record=leaf)
            at = end
            await asyncio.sleep(0)  # a long stretch without a match must not keep the loop from others

    def _look(
        self, query: log_pb2.SearchRecordsRequest, *, after: LeafIndex | None, limit: int
    ) -> tuple[TreeSize, list[LeafIndex]]:
        """In the thread. The size comes first: what is found is at least what stands below it."""
        return self._index.size(), self._index.search(query, after=after, limit=limit)

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
    for field, _ in request.filter.ListFields():
        if field.name in PAGE_FIELDS:
            raise Malformed(f"got {field.name} in the filter of a tail, want none: it has no pages and one order")
