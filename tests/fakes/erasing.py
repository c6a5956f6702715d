# SPDX-License-Identifier: Apache-2.0
"""A log in which somebody can be forgotten.

`LogWithVault` has the production services over whichever stores it is given; a test says what is shipped when. To
start the process again, make another one over the same `Kept`.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.model.roles import Role
from iap_authz.ports import (
    BatchRow,
    Caller,
    Companions,
    ErasureStore,
    HoldStore,
    Index,
    Ledger,
    RoundRows,
    WriterRow,
)
from iap_authz.records.log_leaves import log_id
from iap_authz.records.record import service_record
from iap_authz.records.tokens import TokenKey, tokens_of
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.completion import Completion
from iap_authz.trail.erasure import Erasures
from iap_authz.trail.erasure_course import Course
from iap_authz.trail.erasure_cover import Coverage
from iap_authz.trail.erasure_finding import Finder
from iap_authz.trail.erasure_rounds import Rounds
from iap_authz.trail.holds import Holds
from iap_authz.trail.match import parse_or_none
from iap_authz.trail.opener import Opener
from iap_authz.trail.reader import TrailReader
from tests.fakes.clock import START, ManualClock
from tests.fakes.erasure_stores import MemoryErasures, MemoryHolds, TokenIndex
from tests.fakes.journal import ORIGIN, record_id
from tests.fakes.sealed import SealingWriter, TestVault, log_seal
from tests.fakes.stores import MemoryLedger
from tests.fakes.trail import FakeLeaves

P = ParamSpec("P")
T = TypeVar("T")

OFFICER = Caller(name="olga", roles=frozenset({Role.PRIVACY_OFFICER}), address="192.0.2.7")
SECOND = Caller(name="piet", roles=frozenset({Role.PRIVACY_OFFICER}), address="192.0.2.8")
TOKEN_KEY = TokenKey.derive(b"\x07" * 32, ORIGIN)


@dataclass(kw_only=True)
class Kept:
    """What outlives a process. `memory` makes one without a disk."""

    leaves: FakeLeaves
    index: Index
    ledger: Ledger
    companions: Companions
    erasures: ErasureStore
    holds: HoldStore
    vault: TestVault = field(default_factory=TestVault)
    clock: ManualClock = field(default_factory=ManualClock)
    epochs: list[int] = field(default_factory=lambda: [0])
    shipped: dict[WriterId, int] = field(default_factory=dict)
    writers: dict[WriterId, WriterRow] = field(default_factory=dict)

    @classmethod
    def memory(cls) -> "Kept":
        ledger, leaves = MemoryLedger(), FakeLeaves()
        return cls(
            leaves=leaves,
            index=TokenIndex(),
            ledger=ledger,
            companions=ledger.companions,
            erasures=MemoryErasures(ledger.companions, leaves),
            holds=MemoryHolds(),
        )


class Died(Exception):
    """The process is dead; not an error that anybody handles."""


@dataclass(slots=True, kw_only=True)
class Death:
    """Which changing call is the last, counted from 0, and whether it has its effect."""

    at: int | None = None
    after: bool = False
    calls: list[str] = field(default_factory=list)
    dead: bool = False

    def through(self, name: str, call: Callable[[], T]) -> T:
        if self.dead:
            raise Died(name)
        last = len(self.calls) == self.at
        self.calls.append(name)
        self.dead = last
        if last and not self.after:
            raise Died(name)
        result = call()
        if last:
            raise Died(name)
        return result


CHANGING = frozenset(
    {"put", "end", "begin_round", "set_index", "destroy_next", "finish_round", "forget", "put_hold", "end_hold"}
)


class Mortal:
    """A store in front of which the process may die."""

    def __init__(self, store: object, death: Death) -> None:
        self._store, self._death = store, death

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in CHANGING:
            return method
        return lambda *args, **kwargs: self._death.through(name, lambda: method(*args, **kwargs))


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, in a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def run_here(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Satisfies `Run` without a thread."""
    return function(*args, **kwargs)


class LogWithVault:
    """One process: the services of erasure over `Kept`."""

    def __init__(
        self, kept: Kept, *, dual_control: bool = False, death: Death | None = None, token_key: TokenKey = TOKEN_KEY
    ) -> None:
        self.kept, self.death = kept, death or Death()
        index: Any = Mortal(kept.index, self.death)
        store: Any = Mortal(kept.erasures, self.death)
        held: Any = Mortal(kept.holds, self.death)
        self.reader = TrailReader(origin=ORIGIN, leaves=kept.leaves, index=index, run=run_here)
        self.opener = Opener(kept.companions, kept.vault, origin=ORIGIN)
        self.holds = Holds(
            self.reader, store=held, vault=kept.vault, append_own=self.append_own, dual_control=dual_control
        )
        self.course = Course(
            self.reader,
            store=store,
            finder=Finder(self.reader, companions=kept.companions, opener=self.opener, store=store),
            rounds=Rounds(self.reader, store=store, opener=self.opener, append_own=self.append_own),
            holds=self.holds,
            append_own=self.append_own,
            raise_epoch=self.raise_epoch,
            token_key=token_key,
            dual_control=dual_control,
        )
        self.erasures = Erasures(
            self.reader,
            store=store,
            course=self.course,
            completion=Completion(self.reader, kept.ledger),
            epoch=self,
            append_own=self.append_own,
            token_key=token_key,
            clock=kept.clock,
        )
        self.coverage = Coverage(self.reader, kept.erasures)

    async def covers(self, index: int) -> bool:
        """Whether an Erasure record covers a leaf."""
        return LeafIndex(index) in await self.coverage.covered({LeafIndex(index): self.kept.leaves.leaves[index]})

    @property
    def seal_epoch(self) -> int:
        return self.kept.epochs[-1]

    async def raise_epoch(self, *, at_least: int = 0) -> int:
        def store() -> int:
            self.kept.epochs.append(max(self.kept.epochs[-1] + 1, at_least))
            return self.kept.epochs[-1]

        return self.death.through("raise_epoch", store)

    def append_own(self, body: Message, personal: Message | None) -> Awaitable[LeafIndex]:
        return self._append_own(body, personal)

    async def _append_own(self, body: Message, personal: Message | None) -> LeafIndex:
        return self.death.through(f"append {body.DESCRIPTOR.name}", lambda: self.add_own(body, personal))

    def add_own(self, body: Message, personal: Message | None = None) -> LeafIndex:
        """A leaf of the log's own, committed and indexed at once."""
        index = LeafIndex(len(self.kept.leaves.leaves))
        seal = log_seal(vault=self.kept.vault, seal_epoch=self.kept.epochs[-1])
        leaf = service_record(
            body,
            writer=log_id(ORIGIN),
            sequence=Sequence(index),
            record_id=record_id(index),
            time=START,
            personal=None if personal is None else (personal, seal),
        )
        self.take([leaf], companions={} if personal is None else {0: seal.beside})
        return index

    def ship(self, writer: SealingWriter, *, only: int | None = None) -> range:
        """What the writer has made since it shipped last, or the next `only` of it; the leaves in the log."""
        begin, before = self.kept.shipped.get(writer.writer, 0), self.kept.writers.get(writer.writer)
        end = len(writer.leaves) if only is None else begin + only
        first, leaves = len(self.kept.leaves.leaves), writer.leaves[begin:end]
        writer.log, note = writer.log.commit([leaf_hash(leaf) for leaf in leaves])
        self.kept.shipped[writer.writer] = end
        row = WriterRow(
            writer=writer.writer,
            public_key=writer.signer.public_key,
            workload=writer.workload,
            registered_index=LeafIndex(first + len(leaves)) if before is None else before.registered_index,
            retired_index=None,
            size=end,
            tree=(),
            note=note,
            last_seen=START,
        )
        self.kept.writers[writer.writer] = row
        besides = {at - begin: beside for at, beside in writer.besides.items() if begin <= at < end}
        size = TreeSize(first + len(leaves))
        batch = BatchRow(writer=writer.writer, begin=begin, end=end, first_index=LeafIndex(first), round_size=size)
        self.take(leaves, companions=besides, batch=batch, writer=row)
        if before is None:  # behind the batch, so that the first writer's records are the leaves from 0 on
            self.add_own(record_pb2.WriterRegistered(writer=writer.writer, enrolled_by=writer.enrolled_by))
        return range(first, size)

    def retire(self, writer: SealingWriter) -> None:
        """The log takes nothing more of this writer."""
        index = self.add_own(record_pb2.WriterRetired(writer=writer.writer))
        row = replace(self.kept.writers[writer.writer], retired_index=index)
        self._add_rows(writers=(row,))

    def take(
        self,
        leaves: Many[bytes],
        *,
        companions: Mapping[int, bytes],
        batch: BatchRow | None = None,
        writer: WriterRow | None = None,
    ) -> None:
        """Leaves into the log, what is beside them into the ledger, both into the index."""
        first = len(self.kept.leaves.leaves)
        self.kept.leaves.grow(leaves)
        self._add_rows(
            batches=() if batch is None else (batch,),
            writers=() if writer is None else (writer,),
            companions=tuple((LeafIndex(first + at), beside) for at, beside in sorted(companions.items())),
        )
        self.index_from(first)

    def index_from(self, first: int) -> None:
        """What the indexer does."""
        leaves = self.kept.leaves.leaves[first:]
        parsed = [(LeafIndex(at), parse_or_none(leaf)) for at, leaf in enumerate(leaves, first)]
        records = [(at, record) for at, record in parsed if record is not None]
        opener = Opener(self.kept.companions, self.kept.vault, origin=ORIGIN)
        opened = dict(zip((at for at, _ in records), opener.open_all(records), strict=True))
        tokens = [
            tokens_of(TOKEN_KEY, opened[at].personal) if at in opened and opened[at].personal else []  # type: ignore[arg-type]
            for at, _ in parsed
        ]
        self.kept.index.add(LeafIndex(first), leaves, tokens)

    def _add_rows(
        self,
        *,
        batches: tuple[BatchRow, ...] = (),
        writers: tuple[WriterRow, ...] = (),
        companions: tuple[tuple[LeafIndex, bytes], ...] = (),
    ) -> None:
        size = TreeSize(len(self.kept.leaves.leaves))
        self.kept.ledger.add(RoundRows(size=size, notes=(), batches=batches, writers=writers, companions=companions))

    async def ask(
        self,
        subject: str = "alice@example.com",
        *,
        issuer: str = "",
        authority: str = "DSR-42",
        dry_run: bool = False,
        approve: bytes = b"",
        caller: Caller = OFFICER,
    ) -> bytes:
        """Begin, count or approve an erasure; its id."""
        request = log_pb2.EraseSubjectRequest(
            subject=subject, issuer=issuer, authority=authority, dry_run=dry_run, approve=approve
        )
        return (await self.erasures.erase_subject(request, caller)).erasure

    async def state(self, erasure: bytes) -> log_pb2.ErasureState:
        return await self.erasures.get_erasure(log_pb2.GetErasureRequest(erasure=erasure), OFFICER)

    async def step(self) -> None:
        """One turn of the task, when it is time to look for late records."""
        self.kept.clock.advance(10)
        await self.erasures.step()

    def outcome(self, index: int) -> log_pb2.Unsealed.Outcome:
        """What becomes of a leaf that somebody opens now."""
        record = parse_or_none(self.kept.leaves.leaves[index])
        assert record is not None
        opener = Opener(self.kept.companions, self.kept.vault, origin=ORIGIN)
        return opener.open_all([(LeafIndex(index), record)])[0].outcome

    def own(self, body: str) -> list[record_pb2.Record]:
        """The log's own records of this body."""
        records = (parse_or_none(leaf) for leaf in self.kept.leaves.leaves)
        return [one for one in records if one is not None and one.WhichOneof("body") == body]


def declares(epoch: int) -> record_pb2.Heartbeat:
    """A writer's word that it holds nothing older."""
    return record_pb2.Heartbeat(oldest_seal_epoch=epoch)
