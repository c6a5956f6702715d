# SPDX-License-Identifier: Apache-2.0
"""`Trail`: what is answered is the leaf that was asked for, or an error that says why not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from collections.abc import Sequence as Many
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Corrupt, IapError, Malformed, NotFound
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.model.reason import Verdict
from iap_authz.ports import BatchRow, RoundRows, TrailService
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.leaves import CHUNK_LEAVES, read_each
from iap_authz.trail.match import matches, parse_or_none
from iap_authz.trail.paging import PAGE_MAX_BYTES, render_token
from iap_authz.trail.records import ENTRIES_MAX, Trail
from iap_authz.trail.worker import Worker
from tests.fakes.stores import MemoryLedger
from tests.fakes.trail import NO_RECORD, WRITERS, FakeLeaves, MemoryIndex, add_plain, decision_leaf, mixed_leaves

Get = log_pb2.GetRecordRequest
Query = log_pb2.SearchRecordsRequest
T = TypeVar("T")


class LyingIndex(MemoryIndex):
    """Sends everybody to one leaf: what a flipped byte in a row can do."""

    lie: LeafIndex | None = None

    def find(self, audit_id: bytes) -> LeafIndex | None:
        return super().find(audit_id) if self.lie is None else self.lie

    def find_position(self, writer: WriterId, sequence: int) -> LeafIndex | None:
        return super().find_position(writer, sequence) if self.lie is None else self.lie

    def search(
        self, query: Query, *, tokens: Many[Collection[int]], after: LeafIndex | None, limit: int
    ) -> list[LeafIndex]:
        found = super().search(query, tokens=tokens, after=after, limit=limit)
        return found if self.lie is None else [*found[:1], self.lie]


class World:
    """A trail over leaves in memory."""

    def __init__(self, leaves: Many[bytes], *, indexed: int | None = None) -> None:
        self.leaves, self.index, self.ledger = FakeLeaves(leaves), LyingIndex(), MemoryLedger()
        add_plain(self.index, LeafIndex(0), leaves[: len(leaves) if indexed is None else indexed])
        self.worker = Worker()
        self.proved: list[int] = []
        self.trail = Trail(
            leaves=self.leaves, index=self.index, ledger=self.ledger, evidence=self.prove, run=self.worker.run
        )

    async def prove(self, index: LeafIndex) -> log_pb2.Evidence:
        self.proved.append(index)
        return log_pb2.Evidence(index=index)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run(work)
        finally:
            self.worker.close()
            self.worker = Worker()
            self.trail._run = self.worker.run  # noqa: SLF001 - a loop each, one thread each


async def collect(entries: AsyncIterator[log_pb2.Entry], *, at_most: int | None = None) -> list[log_pb2.Entry]:
    found = []
    async with aclosing(entries) as stream:  # type: ignore[type-var]
        async for entry in stream:
            found.append(entry)
            if len(found) == at_most:
                break
    return found


def indices(entries: Many[log_pb2.Entry]) -> list[int]:
    return [entry.index for entry in entries]


def position(sequence: int, writer: bytes = WRITERS[0]) -> Get:
    return Get(position=log_pb2.WriterPosition(writer=writer, sequence=sequence))


def service(world: World) -> TrailService:
    return world.trail


# ---- one record

LEAVES = [decision_leaf(n) for n in range(6)]


@pytest.mark.parametrize(
    "request_", [Get(index=4), Get(audit_id=leaf_hash(LEAVES[4])), position(4)], ids=["index", "audit id", "position"]
)
def test_a_record_is_given_byte_for_byte(request_: Get) -> None:
    world = World(LEAVES)
    answer = world.run(service(world).get_record(request_))
    assert (answer.entry.index, answer.entry.record) == (4, LEAVES[4])
    assert not answer.HasField("evidence")
    assert not answer.entry.HasField("received")
    assert world.proved == []


def test_evidence_is_given_when_it_is_asked_for() -> None:
    world = World(LEAVES)
    answer = world.run(world.trail.get_record(Get(index=4, with_evidence=True)))
    assert answer.evidence.index == 4
    assert world.proved == [4]


def test_a_leaf_that_is_no_record_is_given_too() -> None:
    world = World([NO_RECORD])
    for request in (Get(index=0), Get(audit_id=leaf_hash(NO_RECORD))):
        assert world.run(world.trail.get_record(request)).entry.record == NO_RECORD


NOT_GIVEN: dict[str, tuple[Get, type[IapError], str]] = {
    "nothing": (Get(), Malformed, "want an index, an audit id or a position"),
    "size": (Get(index=6), NotFound, "got leaf index 6, want one below 6: the log's size"),
    "largest": (Get(index=(1 << 63) - 1), NotFound, "want one below 6"),
    "2^63": (Get(index=1 << 63), Malformed, "want 0 to 2^63 - 1"),
    "2^64 - 1": (Get(index=(1 << 64) - 1), Malformed, "want 0 to 2^63 - 1"),
    "empty audit id": (Get(audit_id=b""), Malformed, "got an audit id of 0 bytes, want 32"),
    "long audit id": (Get(audit_id=bytes(33)), Malformed, "got an audit id of 33 bytes, want 32"),
    "no such audit id": (Get(audit_id=bytes(32)), NotFound, "want one of the first 5 leaves: the index's size"),
    "not indexed": (Get(audit_id=leaf_hash(LEAVES[5])), NotFound, "want one of the first 5 leaves: the index's size"),
    "no such record": (position(6), NotFound, "want one of the first 5 leaves: the index's size"),
    "no such writer": (position(0, WRITERS[1]), NotFound, "got record 0 of writer 0202"),
    "short writer": (position(0, b"w"), Malformed, "got a writer of 1 bytes, want 32"),
    "sequence 2^63": (position(1 << 63), Malformed, "want 0 to 2^63 - 1"),
}


@pytest.mark.parametrize("name", NOT_GIVEN)
def test_282_a_record_that_is_not_given(name: str) -> None:
    request, kind, message = NOT_GIVEN[name]
    world = World(LEAVES, indexed=5)
    with pytest.raises(kind) as caught:
        world.run(world.trail.get_record(request))
    assert message in str(caught.value)


def test_a_position_is_known_to_the_ledger_before_the_index_has_it() -> None:
    world = World(LEAVES, indexed=0)
    batch = BatchRow(writer=WRITERS[0], begin=2, end=9, first_index=LeafIndex(2), round_size=TreeSize(9))
    world.ledger.add(RoundRows(size=TreeSize(9), notes=(), batches=(batch,), writers=()))
    assert world.run(world.trail.get_record(position(5))).entry.record == LEAVES[5]
    with pytest.raises(NotFound, match="it is taken, but not to be read yet"):
        world.run(world.trail.get_record(position(7)))
    with pytest.raises(NotFound, match="the index's size"):
        world.run(world.trail.get_record(position(9)))


# ---- F19: a row that leads to another leaf

FOUND = [
    Get(audit_id=leaf_hash(LEAVES[4])),
    position(4),
]


@pytest.mark.parametrize("request_", FOUND, ids=["audit id", "position"])
@pytest.mark.parametrize("lie", [0, 3, 6, 7, (1 << 63) - 1, -1])
def test_f19_a_row_that_leads_elsewhere_is_corrupt(request_: Get, lie: int) -> None:
    """Leaf 6 is no record; there is no leaf 7."""
    world = World([*LEAVES, NO_RECORD])
    world.index.lie = LeafIndex(lie)
    with pytest.raises(Corrupt, match=f"index row {lie}"):
        world.run(world.trail.get_record(request_))


def test_f19_a_batch_that_leads_elsewhere_is_corrupt() -> None:
    world = World(LEAVES)
    batch = BatchRow(writer=WRITERS[0], begin=2, end=5, first_index=LeafIndex(1), round_size=TreeSize(6))
    world.ledger.add(RoundRows(size=TreeSize(6), notes=(), batches=(batch,), writers=()))
    with pytest.raises(Corrupt, match="ledger row 3"):
        world.run(world.trail.get_record(position(4)))


@pytest.mark.parametrize("lie", [2, 3, 4, -1, 0])
def test_f19_a_hit_that_does_not_match_is_corrupt(lie: int) -> None:
    """Leaf 2 is of another country, leaf 3 is no record, there is no leaf 4; leaf 0 matches and was given before."""
    world = World([decision_leaf(0), decision_leaf(1), decision_leaf(2, country="FR"), NO_RECORD])
    world.index.lie = LeafIndex(lie)
    with pytest.raises(Corrupt, match=f"index row {lie}"):
        world.run(world.trail.search_records(Query(country="DE")))


@pytest.mark.parametrize(("newest_first", "last", "lie"), [(False, 2, 2), (False, 2, 1), (True, 2, 2), (True, 2, 3)])
def test_f19_pages_that_do_not_go_on_are_corrupt(newest_first: bool, last: int, lie: int) -> None:  # noqa: FBT001
    world = World([decision_leaf(n) for n in range(4)])
    query = Query(newest_first=newest_first)
    query.page_token = render_token(query, LeafIndex(last))
    world.index.lie = LeafIndex(lie)
    with pytest.raises(Corrupt, match=f"index row {lie}"):
        world.run(world.trail.search_records(query))


# ---- ranges of entries


def entries(first: int, count: int) -> log_pb2.GetEntriesRequest:
    return log_pb2.GetEntriesRequest(first=first, count=count)


@pytest.mark.parametrize(
    ("first", "count", "wanted"),
    [
        (0, 1, range(1)),
        (0, 600, range(600)),
        (250, 10, range(250, 260)),
        (599, 1, range(599, 600)),
        (599, 100, range(599, 600)),
        (600, 1, range(0)),
        (0, (1 << 63) - 1, range(600)),
        (600, (1 << 63) - 1, range(0)),
    ],
)
def test_entries_of_a_range(first: int, count: int, wanted: range) -> None:
    leaves = mixed_leaves(600)
    world = World(leaves, indexed=0)
    found = world.run(collect(service(world).get_entries(entries(first, count))))
    assert indices(found) == [*wanted]
    assert [entry.record for entry in found] == [leaves[at] for at in wanted]
    assert all(count <= CHUNK_LEAVES for _, count in world.leaves.reads)


@pytest.mark.parametrize(
    ("first", "count", "message"),
    [
        (0, 0, "got a count of 0"),
        (0, 1 << 63, "got a count of 9223372036854775808"),
        (0, (1 << 64) - 1, "got a count of 18446744073709551615"),
        (7, 1, "got first leaf 7, want at most 6"),
        (1 << 63, 1, "got first leaf 9223372036854775808, want at most 6"),
        ((1 << 64) - 1, 1 << 62, "want at most 6"),
    ],
)
def test_282_a_range_that_is_refused(first: int, count: int, message: str) -> None:
    world = World(LEAVES)
    with pytest.raises(Malformed) as caught:
        world.run(collect(world.trail.get_entries(entries(first, count))))
    assert message in str(caught.value)
    assert world.leaves.reads == []


def test_282_the_number_of_entries_is_capped() -> None:
    world = World([NO_RECORD] * (ENTRIES_MAX + 10), indexed=0)
    found = world.run(collect(world.trail.get_entries(entries(3, 1_000_000_000))))
    assert indices(found) == [*range(3, ENTRIES_MAX + 3)]


def test_284_a_slow_reader_holds_one_chunk() -> None:
    world = World([NO_RECORD] * 2_000, indexed=0)
    found = world.run(collect(world.trail.get_entries(entries(0, 2_000)), at_most=3))
    assert indices(found) == [0, 1, 2]
    assert world.leaves.reads == [(0, CHUNK_LEAVES)]


# ---- searches


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("size", [1, 7, 100, 1_000])
def test_pages_make_up_the_whole_answer(size: int, newest_first: bool) -> None:  # noqa: FBT001 - a column of the table
    leaves = mixed_leaves(300)
    world = World(leaves)
    query = Query(verdicts=[Verdict.ALLOW], page_size=size, newest_first=newest_first)

    async def pages() -> list[list[int]]:
        found = []
        while True:
            page = await world.trail.search_records(query)
            assert all(one.entry.record == leaves[one.entry.index] for one in page.records)
            assert page.indexed_size == 300
            found.append([one.entry.index for one in page.records])
            if not page.next_page_token:
                return found
            query.page_token = page.next_page_token

    found = world.run(pages())
    wanted = [
        at for at, leaf in enumerate(leaves) if matches(Query(verdicts=[Verdict.ALLOW]), parse_or_none(leaf), None)
    ]
    assert [at for page in found for at in page] == (wanted[::-1] if newest_first else wanted)
    assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1)
    assert found[-1], "the last page holds something: there is no token to an empty one"


def test_a_search_without_a_hit_is_an_empty_page() -> None:
    world = World(LEAVES, indexed=4)
    assert world.run(world.trail.search_records(Query(rule="nobody"))) == log_pb2.SearchRecordsResponse(indexed_size=4)


def test_a_default_page_has_a_hundred_records() -> None:
    world = World([decision_leaf(n) for n in range(150)])
    assert len(world.run(world.trail.search_records(Query())).records) == 100


def test_hits_are_given_with_evidence() -> None:
    world = World(LEAVES)
    page = world.run(world.trail.search_records(Query(with_evidence=True, page_size=2)))
    assert [one.evidence.index for one in page.records] == world.proved == [0, 1]


def test_284_a_page_of_large_records_ends_early() -> None:
    world = World([decision_leaf(n, subject="s" * 60_000) for n in range(100)])

    async def two_pages() -> list[log_pb2.SearchRecordsResponse]:
        first = await world.trail.search_records(Query())
        return [first, await world.trail.search_records(Query(page_token=first.next_page_token))]

    first, second = world.run(two_pages())
    assert PAGE_MAX_BYTES - 61_000 < first.ByteSize() < PAGE_MAX_BYTES + 1_000
    assert [one.entry.index for one in (*first.records, *second.records)] == [
        *range(len(first.records) + len(second.records))
    ]


@pytest.mark.parametrize(
    "query",
    [
        Query(subject="alice@example.com"),
        Query(page_size=1_001),
        Query(page_size=1_000_000_000),
        Query(page_token="nonsense"),
        Query(writer=b"w"),
        Query(bodies=["nothing"]),
        Query(verdicts=range(100_000)),
    ],
    ids=["personal", "page of 1001", "page of 10^9", "token", "writer", "body", "values"],
)
def test_282_284_a_search_that_is_refused(query: Query) -> None:
    world = World(LEAVES)
    with pytest.raises(Malformed):
        world.run(world.trail.search_records(query))
    assert world.leaves.reads == []


# ---- following


def tail(after: int = 0, **filters: Any) -> log_pb2.TailRecordsRequest:
    return log_pb2.TailRecordsRequest(filter=Query(**filters), after_index=after)


@pytest.mark.parametrize(("after", "first"), [(0, 0), (1, 2), (5, 6), (9, 10)])
def test_a_tail_begins_after_an_index(after: int, first: int) -> None:
    """0 is also what a request without an index says: then it begins with the first leaf."""
    leaves = [decision_leaf(n) for n in range(12)]
    world = World(leaves, indexed=0)
    found = world.run(collect(service(world).tail_records(tail(after)), at_most=12 - first))
    assert indices(found) == [*range(first, 12)]
    assert [entry.record for entry in found] == leaves[first:]


def test_a_tail_follows_what_comes_until_it_is_cancelled() -> None:
    leaves = [decision_leaf(n, country="DE" if n % 3 else "FR") for n in range(700)]
    world = World(leaves[:300], indexed=0)
    found = list[log_pb2.Entry]()

    async def follow() -> None:
        async for entry in world.trail.tail_records(tail(country="FR")):
            found.append(entry)

    async def grow() -> None:
        task = asyncio.create_task(follow())
        for first, end in ((300, 301), (301, 700)):
            await world.leaves.waiting.wait()
            world.leaves.grow(leaves[first:end])
        await world.leaves.waiting.wait()
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    world.run(grow())
    assert indices(found) == [*range(0, 700, 3)]
    assert all(count <= CHUNK_LEAVES for _, count in world.leaves.reads)


def test_a_tail_from_beyond_the_log_waits_for_what_comes_after() -> None:
    world = World(LEAVES)

    async def run() -> list[int]:
        task = asyncio.create_task(collect(world.trail.tail_records(tail(7)), at_most=1))
        await world.leaves.waiting.wait()
        world.leaves.grow([decision_leaf(n) for n in range(6, 10)])
        return indices(await task)

    assert world.run(run()) == [8]


def test_a_tail_finds_what_a_search_would() -> None:
    leaves = mixed_leaves(300)
    world = World(leaves)
    query = {"rule": "engineers", "writer": WRITERS[1]}
    page = world.run(world.trail.search_records(Query(page_size=1_000, **query)))
    followed = world.run(collect(world.trail.tail_records(tail(**query)), at_most=len(page.records)))
    assert followed == [one.entry for one in page.records]
    assert len(followed) > 5


@pytest.mark.parametrize(
    "request_",
    [
        tail(subject="alice"),
        tail(page_size=5),
        tail(page_token="x"),
        tail(newest_first=True),
        tail(with_evidence=True),
        tail(bodies=["nothing"]),
        tail((1 << 63) - 1),
        tail((1 << 64) - 1),
    ],
    ids=["personal", "page size", "token", "order", "evidence", "body", "2^63 - 1", "2^64 - 1"],
)
def test_282_a_tail_that_is_refused(request_: log_pb2.TailRecordsRequest) -> None:
    world = World(LEAVES)
    with pytest.raises(Malformed):
        world.run(collect(world.trail.tail_records(request_)))


# ---- reading in few calls


@pytest.mark.parametrize(
    ("asked", "reads"),
    [
        ([], []),
        ([5], [(5, 1)]),
        ([0, 9, 255, 256, 300], [(0, 256), (256, 45)]),
        ([300, 256, 255, 9, 0], [(256, 45), (0, 256)]),
        ([1, 600], [(1, 1), (600, 1)]),
    ],
)
def test_hits_of_one_bundle_are_read_in_one_call(asked: list[int], reads: list[tuple[int, int]]) -> None:
    leaves = FakeLeaves(mixed_leaves(700))

    async def read() -> list[tuple[int, bytes]]:
        return [(index, leaf) async for index, leaf in read_each(leaves, [LeafIndex(index) for index in asked])]

    assert asyncio.run(read()) == [(index, leaves.leaves[index]) for index in asked]
    assert leaves.reads == reads


def test_the_worker_makes_one_call_after_the_other() -> None:
    async def run() -> list[int]:
        worker, order, calls = Worker(), list[int](), list[Callable[[], None]]()
        calls.extend(partial(order.append, number) for number in range(50))
        await asyncio.gather(*(worker.run(call) for call in calls))
        worker.close()
        worker.close()
        return order

    assert asyncio.run(run()) == [*range(50)]


def test_positions_of_the_leaves_are_what_they_say() -> None:
    assert [parse_record(leaf).sequence for leaf in LEAVES] == [Sequence(n) for n in range(6)]
