# SPDX-License-Identifier: Apache-2.0
"""Leaves of many kinds, a log that they are read from, and an index in memory: a loop over all records."""

import asyncio
from collections.abc import Collection
from collections.abc import Sequence as Many
from datetime import datetime, timedelta
from random import Random

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Malformed
from iap_authz.model.decision import Decision
from iap_authz.model.ids import PolicyDigest, Sequence, WriterId
from iap_authz.model.reason import Reason, Verdict
from iap_authz.ports import Index
from iap_authz.records.record import decision_record, parse_record, service_record
from iap_authz.records.tokens import meets
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.match import clear_part, matches, parse_or_none
from tests.fakes.clock import START

WRITERS = (WriterId(b"\x01" * 32), WriterId(b"\x02" * 32))
DIGESTS = (PolicyDigest(b""), PolicyDigest(b"\xaa" * 32), PolicyDigest(b"\xbb" * 32))
NO_RECORD = b"these bytes are no record"


def add_plain(index: Index, first: LeafIndex, leaves: Many[bytes]) -> None:
    """Index leaves of which nothing personal is known."""
    index.add(first, leaves, [()] * len(leaves))


def decision_leaf(
    sequence: int,
    *,
    writer: WriterId = WRITERS[0],
    verdict: Verdict = Verdict.ALLOW,
    reason: Reason = Reason.ALLOWED,
    rule: str = "engineers",
    route: str = "orders",
    country: str = "DE",
    digest: PolicyDigest = DIGESTS[1],
    time: datetime = START,
    subject: str = "alice@example.com",
) -> bytes:
    facts = facts_pb2.Facts()
    facts.identity.subject = subject
    if country:
        facts.location.country = country
    return decision_record(
        Decision(verdict=verdict, reason=reason, rule=rule, route=route, policy_digest=digest),
        facts,
        writer=writer,
        sequence=Sequence(sequence),
        record_id=sequence.to_bytes(16, "big"),
        time=time,
        spent=timedelta(microseconds=900),
        http_status=200,
        seal=None,
    )


def heartbeat_leaf(sequence: int, *, writer: WriterId = WRITERS[0], time: datetime = START) -> bytes:
    return service_record(
        record_pb2.Heartbeat(journal_bytes=sequence),
        writer=writer,
        sequence=Sequence(sequence),
        record_id=sequence.to_bytes(16, "big"),
        time=time,
    )


def newer_leaf(sequence: int, *, time: datetime = START) -> bytes:
    """A record with a body that only a newer version knows: field 90, empty."""
    record = parse_record(heartbeat_leaf(sequence, time=time))
    record.ClearField("heartbeat")
    return record.SerializeToString() + b"\xd2\x05\x00"


def mixed_leaves(count: int, *, seed: int = 7) -> list[bytes]:
    """Leaves of every kind an index tells apart; some stand twice, some are no records."""
    random, leaves = Random(seed), list[bytes]()
    for number in range(count):
        time = START + timedelta(microseconds=random.randrange(-2_000_000, 2_000_000) + number * 10)
        kind, writer = random.randrange(10), random.choice(WRITERS)
        if kind == 0:
            leaves.append(heartbeat_leaf(number, writer=writer, time=time))
        elif kind == 1:
            leaves.append(random.choice([NO_RECORD, newer_leaf(number, time=time)]))
        else:
            leaves.append(random_decision(random, number, writer=writer, time=time))
    return leaves


def random_decision(random: Random, number: int, *, writer: WriterId, time: datetime) -> bytes:
    return decision_leaf(
        number,
        writer=writer,
        verdict=random.choice([Verdict.ALLOW, Verdict.ALLOW, Verdict.DENY]),
        reason=random.choice([Reason.ALLOWED, Reason.NO_ROUTE]),
        rule=random.choice(["", "engineers", "orders"]),
        route=random.choice(["", "orders", "wiki"]),
        country=random.choice(["", "DE", "FR"]),
        digest=random.choice(DIGESTS),
        time=time,
    )


class FakeLeaves:
    """A log that grows when a test says so. `reads` are the calls that were made: first leaf and count."""

    def __init__(self, leaves: Many[bytes] = ()) -> None:
        self.leaves = list(leaves)
        self.reads: list[tuple[int, int]] = []
        self.waiting = asyncio.Event()
        self._grown = asyncio.Event()

    def size(self) -> TreeSize:
        return TreeSize(len(self.leaves))

    async def read(self, first: LeafIndex, count: int) -> list[bytes]:
        assert 0 <= first < first + count <= len(self.leaves), "a reader asks for what there is, and for something"
        self.reads.append((first, count))
        return self.leaves[first : first + count]

    async def wait_larger(self, size: TreeSize) -> None:
        while len(self.leaves) <= size:
            self.waiting.set()
            await self._grown.wait()

    def grow(self, leaves: Many[bytes]) -> None:
        self.leaves.extend(leaves)
        self.waiting.clear()
        self._grown.set()
        self._grown = asyncio.Event()


class MemoryIndex:
    """Keeps the contract of the port `Index`."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.tokens: list[frozenset[int]] = []

    def size(self) -> TreeSize:
        return TreeSize(len(self.leaves))

    def add(self, first: LeafIndex, leaves: Many[bytes], tokens: Many[Collection[int]]) -> None:
        assert len(tokens) == len(leaves), "each leaf has its own tokens"
        if first != len(self.leaves):
            raise ValueError(f"got leaves from {first} on, want those from {len(self.leaves)} on")
        self.leaves.extend(leaves)
        self.tokens.extend(map(frozenset, tokens))

    def forget(self, indices: Many[LeafIndex]) -> None:
        for index in indices:
            self.tokens[index] = frozenset()

    def find(self, audit_id: bytes) -> LeafIndex | None:
        return next((LeafIndex(at) for at, leaf in enumerate(self.leaves) if leaf_hash(leaf) == audit_id), None)

    def find_position(self, writer: WriterId, sequence: int) -> LeafIndex | None:
        for at, leaf in enumerate(self.leaves):
            record = parse_or_none(leaf)
            if record is not None and (record.writer, record.sequence) == (writer, sequence):
                return LeafIndex(at)
        return None

    def search(
        self,
        query: log_pb2.SearchRecordsRequest,
        *,
        tokens: Many[Collection[int]],
        after: LeafIndex | None,
        limit: int,
    ) -> list[LeafIndex]:
        clear = clear_part(query)
        if clear != query and not tokens:
            raise Malformed(f"got a search by {query} without its tokens, want one by clear fields")
        asked = [frozenset(one) for one in tokens]
        found = [
            LeafIndex(at)
            for at, leaf in enumerate(self.leaves)
            if matches(clear, parse_or_none(leaf), None) and meets(asked, self.tokens[at])
        ]
        if query.newest_first:
            found = [at for at in reversed(found) if after is None or at < after]
        return [at for at in found if query.newest_first or after is None or at > after][:limit]
