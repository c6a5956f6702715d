# SPDX-License-Identifier: Apache-2.0
r"""`Sequencer`: the single owner of the tree. It takes what is pending every round and commits it (`commit`).

The invariant: an `Entry` is answered only after its round was committed and signed, and rounds are committed one after
the other. Any error between a stage and its swap ends the process (C3): who waits is told that the outcome is unknown.

    loop     entries --take--> plan, head ----> sign, receipts ----> next round
    thread                       stage, swap /            \\ apply, (publish, record, discard)

A round starts as soon as something waits and the last one started `round_seconds` ago (B1); it takes everything that
waits, up to a bound. Publication runs beside it, every `publish_seconds`.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from iap_authz.errors import HeadMoved, LogFrozen, QueueFull, Unavailable
from iap_authz.log.beside import Beside, at_leaves, shifted
from iap_authz.log.commit import Staged, apply, discard, is_due, prepare, publish, record_and_discard, stage_and_swap
from iap_authz.log.reader import Reader, View
from iap_authz.log.recover import Recovered, sign_tree
from iap_authz.log.rounds import Rendered, Round, slices
from iap_authz.ports import BatchRow, Clock, Freeze, Head, HeadStore, Ledger, TileStore
from iap_authz.tlog.batch import BatchPlan, plan
from iap_authz.tlog.checkpoint import SignedCheckpoint
from iap_authz.tlog.edge import tree_of
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize
from iap_authz.tlog.note import NoteSigner
from iap_authz.tlog.proof import prove_range

QUEUE_MAX_BYTES = 64 << 20
"""What may wait to be sequenced; more is refused with when to come again."""

ROUND_MAX_LEAVES = 32_768
"""Keeps a round's stage and its thread time bounded: under half a second on the machine of PERFORMANCE.md."""

RETRY_SECONDS = 0.25
"""When a writer that found the queue full should come again: a few rounds."""

CLOCK_WAIT_SECONDS = 2.0
"""How long a clock that stands still is waited for (rule T3)."""

_CLOCK_POLL_SECONDS = 0.01

T = TypeVar("T")
_log = logging.getLogger("iap_authz.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequenced:
    """Where an entry is: leaves from `first_index` on, in the round whose signed checkpoint is `signed`."""

    first_index: LeafIndex
    leaves: tuple[bytes, ...]
    range_proof: tuple[NodeHash, ...]
    signed: SignedCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What waits for a round. `render` gets the index of its first leaf and the time of the round, and is called once.

    `size_bytes` counts against the queue, `leaf_count` against the round.
    """

    render: Callable[[LeafIndex, datetime], Rendered]
    size_bytes: int
    leaf_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    entry: Entry
    done: "asyncio.Future[Sequenced]"


class Sequencer:
    """Commits rounds until stopped. Owned by the event loop; storage is touched from one thread of its own."""

    def __init__(
        self,
        recovered: Recovered,
        *,
        signers: Sequence[NoteSigner],
        tiles: TileStore,
        heads: HeadStore,
        ledger: Ledger,
        clock: Clock,
        round_seconds: float = 0.02,
        publish_seconds: float = 1.0,
    ) -> None:
        self._signers, self._tiles, self._heads, self._ledger, self._clock = signers, tiles, heads, ledger, clock
        self._round_seconds, self._publish_seconds = round_seconds, publish_seconds
        self._head: Head = recovered.head
        self._edge, self._tree = recovered.edge, tree_of(recovered.edge)
        self._published = recovered.published
        self.reader = Reader(tiles, View(signed=recovered.signed, edge=recovered.edge))
        self._applied_view = self.reader.view
        self._queue: deque[_Waiting] = deque()
        self._taken: list[_Waiting] = []
        self._queued_bytes = 0
        self._arrived, self._stopping = asyncio.Event(), asyncio.Event()
        self._unrecorded: dict[TreeSize, Round] = {}
        self._freeze: Freeze | None = heads.load_freeze()
        self._freezing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-commit")
        self._applying: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def frozen(self) -> Freeze | None:
        """Why nothing is taken any more, if so."""
        return self._freeze

    @property
    def published(self) -> SignedCheckpoint | None:
        """What is published."""
        return self._published

    @property
    def queued_leaves(self) -> int:
        """How many leaves wait for a round."""
        return sum(waiting.entry.leaf_count for waiting in self._queue)

    def unrecorded_batches(self) -> list[BatchRow]:
        """Batches that are committed and not in the ledger yet, in order."""
        rounds = self._unrecorded.values()
        return [row for group in rounds for row in group.batches()]

    def unrecorded_note(self, size: int) -> bytes | None:
        """The note that was signed at `size`, if it is not in the ledger yet."""
        found = self._unrecorded.get(TreeSize(size))
        return found.signed.note if found is not None else None

    def check_open(self, size_bytes: int) -> None:
        """Raise LogFrozen or QueueFull unless an entry of this size may be submitted."""
        self.check_not_frozen()
        if self._queued_bytes + size_bytes > QUEUE_MAX_BYTES:
            raise QueueFull(f"got {self._queued_bytes} bytes waiting, want at most {QUEUE_MAX_BYTES}", RETRY_SECONDS)

    def check_not_frozen(self) -> None:
        """Raise LogFrozen if the log takes nothing more."""
        if self._freeze is not None:
            raise _as_error(self._freeze)

    def submit(self, entry: Entry) -> "asyncio.Future[Sequenced]":
        """Queue an entry after all before it. Whoever waits must shield the future. Call `check_open` first."""
        done: asyncio.Future[Sequenced] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(entry=entry, done=done))
        self._queued_bytes += entry.size_bytes
        self._arrived.set()
        return done

    async def freeze(self, because: str, evidence: Sequence[bytes]) -> None:
        """Take nothing more, durably (rule G4). What waits is told so.

        Whoever brought the evidence may go away: it is stored all the same, or the process ends.
        """
        if self._freeze is None:
            self._freeze = Freeze(because=because, evidence=tuple(evidence))
            _log.critical("the log is frozen", extra={"problem": because})
            self._freezing = asyncio.ensure_future(self._store_freeze(self._freeze))
        if self._freezing is not None:
            await asyncio.shield(self._freezing)

    async def _store_freeze(self, freeze: Freeze) -> None:
        try:
            await self.in_thread(partial(self._heads.freeze, freeze))
        except BaseException as error:  # noqa: BLE001 - told to `run`, which ends the process
            self._fail(error)
        self._fail_waiting(_as_error(freeze))

    def stop(self) -> None:
        """End `run` once everything that waits is committed and published."""
        self._stopping.set()
        self._arrived.set()

    async def run(self) -> None:
        """Commit and publish until `stop`. Raises HeadMoved, OSError, Unavailable: the process must end (C3)."""
        works = [asyncio.ensure_future(self._commit_rounds()), asyncio.ensure_future(self._publish_often())]
        try:
            waiting = {*works, self._failed}
            while not all(work.done() for work in works):
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
            await asyncio.gather(*self._applying)
            await self._publish()
        finally:
            for one in works:
                one.cancel()
            freezing = [] if self._freezing is None else [self._freezing]
            await asyncio.gather(*works, *self._applying, *freezing, return_exceptions=True)
            self._fail_waiting(Unavailable("the log has stopped: send again, nothing is doubled"))
            await asyncio.to_thread(self._thread.shutdown)

    async def _commit_rounds(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue or not self._stopping.is_set():
            await self._arrived.wait()
            started = loop.time()
            if self._freeze is not None:
                self._fail_waiting(_as_error(self._freeze))
            elif self._queue:
                await self._commit_round()
            if not self._queue and not self._stopping.is_set():
                self._arrived.clear()
            rest = self._round_seconds - (loop.time() - started)
            if rest > 0 and not self._stopping.is_set():
                await asyncio.sleep(rest)

    async def _commit_round(self) -> None:
        """Steps 1 to 5 of the story in `commit`; the fifth runs on while the next round is planned."""
        time = await self._next_time()
        if self._freeze is not None or not self._queue:
            return  # while the clock was waited for, the log was frozen
        taken = self._taken = self._take()
        before = self._tree.end
        entries: list[bytes] = []
        besides: list[Beside] = []
        rendered: list[tuple[LeafIndex, Rendered]] = []
        for waiting in taken:
            first = LeafIndex(before + len(entries))
            one = waiting.entry.render(first, time)
            rendered.append((first, one))
            besides.extend(shifted(one.besides, len(entries)))
            entries.extend(one.leaves)
        result = plan(self._tree, entries, edge=self._edge)
        staged = prepare(result, tuple(entries), edge=self._edge, time=time, besides=besides)
        await self.in_thread(partial(self._commit, staged))
        signed = sign_tree(staged.head.size, staged.head.root, self._signers)
        self._edge, self._tree = result.edge, result.tree
        pending = {write.path: write.content for write in result.full}
        view = View(signed=signed, edge=result.edge, pending=pending)
        self.reader.move_to(view)
        self._unrecorded[result.tree.end] = Round(
            signed=signed,
            rendered=tuple(one for _, one in rendered),
            companions=tuple(at_leaves(besides, before)),
        )
        # Submitted before anything else can be: the next round is staged after this one is applied.
        applied = asyncio.get_running_loop().run_in_executor(self._thread, partial(apply, result, self._tiles))
        applying = asyncio.ensure_future(self._finish_applying(applied, view))
        self._applying.add(applying)
        applying.add_done_callback(self._applying.discard)
        _answer(taken, rendered, result, signed=signed)

    def _commit(self, staged: Staged) -> None:
        """In the thread: steps 1 and 2."""
        stage_and_swap(staged, expected=self._head, tiles=self._tiles, heads=self._heads)
        self._head = staged.head

    async def _finish_applying(self, applied: "asyncio.Future[None]", view: View) -> None:
        """After step 5: what `view` lacked in the store is there."""
        try:
            await applied
        except BaseException as error:  # noqa: BLE001 - told to `run`, which ends the process
            self._fail(error)
            return
        self._applied_view = replace(view, pending={})
        if self.reader.view is view:
            self.reader.move_to(self._applied_view)

    def _take(self) -> list[_Waiting]:
        taken, leaves = [], 0
        while self._queue and leaves < ROUND_MAX_LEAVES:
            waiting = self._queue.popleft()
            self._queued_bytes -= waiting.entry.size_bytes
            leaves += waiting.entry.leaf_count
            taken.append(waiting)
        return taken

    async def _next_time(self) -> datetime:
        """A time after the head's (rule T3). Raises Unavailable when the clock stands still for too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOCK_WAIT_SECONDS
        while (now := self._clock.now()) <= self._head.time:
            if loop.time() > deadline:
                raise Unavailable(f"got the time {now} for {CLOCK_WAIT_SECONDS:g} s, want one after {self._head.time}")
            await asyncio.sleep(_CLOCK_POLL_SECONDS)
        return now

    async def _publish_often(self) -> None:
        if self._published is not None:  # `restart` has brought the ledger up to the head: what a crash left may go
            await self.in_thread(partial(discard, self._published.checkpoint.size, self._tiles))
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._publish_seconds)
            await self.in_thread(self._check_head)
            await self._publish()

    def _check_head(self) -> None:
        """In the thread: whether another sequencer has committed, even while nothing is to be committed here."""
        if self._heads.load() != self._head:
            raise HeadMoved("another sequencer has committed to this log: this one ends")

    async def _publish(self) -> None:
        """Steps 6 to 8, for the newest head that is applied."""
        view = self._applied_view
        if self._freeze is not None or (self._published is not None and not is_due(view.signed, self._published)):
            return
        self._published = await self.in_thread(
            partial(publish, view.signed, view.edge, published=self._published, tiles=self._tiles)
        )
        rounds = [one for one in self._unrecorded.values() if one.size <= view.size]
        for rows in slices(rounds, size=view.size):
            await self.in_thread(partial(record_and_discard, rows, ledger=self._ledger, tiles=self._tiles))
            for size, _ in rows.notes:
                del self._unrecorded[size]

    async def in_thread(self, job: Callable[[], T]) -> T:
        """Run `job` in the thread that touches storage, after what was submitted before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def _fail(self, error: BaseException) -> None:
        """Have `run` raise this."""
        if not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # `run` may be ending over another error already

    def _fail_waiting(self, error: Exception) -> None:
        waiting_all, self._queued_bytes = [*self._taken, *self._queue], 0
        self._queue.clear()
        for waiting in waiting_all:
            if not waiting.done.done():
                waiting.done.set_exception(error)
                waiting.done.exception()
        self._arrived.clear()


def _as_error(freeze: Freeze) -> LogFrozen:
    return LogFrozen(f"the log is frozen: {freeze.because}")


def _answer(
    taken: Sequence[_Waiting],
    rendered: Sequence[tuple[LeafIndex, Rendered]],
    result: BatchPlan,
    *,
    signed: SignedCheckpoint,
) -> None:
    """Step 4: each entry's place and proof."""
    for waiting, (first, one) in zip(taken, rendered, strict=True):
        if not waiting.done.done():
            proof = prove_range(first, len(one.leaves), size=result.tree.end, read=result.read)
            waiting.done.set_result(Sequenced(first_index=first, leaves=one.leaves, range_proof=proof, signed=signed))
