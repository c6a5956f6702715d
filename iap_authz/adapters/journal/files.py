# SPDX-License-Identifier: Apache-2.0
"""`FileJournal`: the writer's log on a local disk, by group commit (PROTOCOL rules W1 to W4 and R2).

The invariant: a record's `durable` is done only after its bytes, and a signed checkpoint over them, have been fsynced;
and a record that was accepted finds the disk space it needs, because that was preallocated before.

    append_nowait   the loop: leaf hash, frame, queue            what is queued is lost at a crash; nobody was told
    _turn           the loop: all that waits becomes one group, the tree grows, the checkpoint is signed
    write or start  the thread: one write, one fdatasync         a torn group is cut by recovery
    _committed      the loop: the futures of the group are done  the next group starts at once

What stands beside a sealed record (rule S2) is a companion frame right after the record's, in the same group.

One group at a time. Sequences are given in the order of `append_nowait` and committed in it. After any error nothing is
written again, not even to close (W4): the tree in memory is then ahead of what the disk may hold.
"""

import asyncio
import errno
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from iap_authz.adapters.journal.committer import Committer
from iap_authz.adapters.journal.directory import Recovered, lock_directory, make_directories, recover_all
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.growth import Growth
from iap_authz.adapters.journal.mark import SegmentMark
from iap_authz.adapters.journal.outcomes import settle, tell
from iap_authz.adapters.journal.segments import SegmentFiles
from iap_authz.adapters.journal.space import Space, Survey, survey_files
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.ports import Appended, Signer
from iap_authz.records.journal_format import (
    CHECKPOINT_MAX_BYTES,
    FrameType,
    SegmentHeader,
    frame_bytes,
    render_frame,
    render_header,
)
from iap_authz.records.record import RECORD_MAX_BYTES, RecordTooLarge
from iap_authz.records.room import MIB, JournalBounds, Room
from iap_authz.records.seal import COMPANION_MAX_BYTES, SALT_BYTES
from iap_authz.records.started import Predecessor
from iap_authz.records.writerlog import WriterLog, start_writer_log
from iap_authz.tlog.hashing import LeafHash, leaf_hash

GROUP_MAX_RECORDS = 256
"""One signature and one fdatasync for at most this many records: more gain nothing measurable."""

GROUP_MAX_BYTES = 2 * MIB
"""A group is never shipped in parts, so it must fit in what one batch may hold (`backlog.BATCH_MAX_BYTES`)."""

QUIET_TURNS = 32
"""Turns of the loop without a new record before a group starts; by measurement, see PERFORMANCE.md."""

BESIDE_MAX_BYTES = SALT_BYTES + COMPANION_MAX_BYTES
"""The largest payload of a companion frame."""

_CHECKPOINT_BYTES = frame_bytes(CHECKPOINT_MAX_BYTES)
_RECORD_BYTES = frame_bytes(RECORD_MAX_BYTES) + frame_bytes(BESIDE_MAX_BYTES)
_GROUPS_BEYOND = 5
"""Groups that a queue may become beyond those of full number or size: uneven cuts, one at a mark, one that waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A record that has its sequence and waits for its group. `frames` are its own and what stands beside it."""

    frames: bytes
    leaf: LeafHash
    durable: "asyncio.Future[None]"


class FileJournal:
    """Satisfies the port `Journal`. Owned by the event loop's thread; made by `open`."""

    def __init__(
        self,
        files: SegmentFiles,
        log: WriterLog,
        *,
        lock: int,
        recovered: tuple[Recovered, ...],
        survey: Survey,
        bounds: JournalBounds,
        disk: Disk,
        monotonic: Callable[[], float],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._files = files
        self._log = log
        self._writer = log.writer
        self._lock: int | None = lock
        self._recovered = recovered
        self._disk = disk
        self._committer = Committer(self._loop)
        self._space = Space(
            files, survey, bounds=bounds, committer=self._committer, monotonic=monotonic, fail=self._fail
        )
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._committing: list[_Waiting] = []
        self._is_awake = False
        self._seen, self._quiet_turns, self._last_group = 0, 0, 1
        self._next = Sequence(0)
        self._mark = SegmentMark()
        self._signed = self._checkpoint = b""
        self.growth = Growth()
        self._closing: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        origin: str,
        signer: Signer,
        bounds: JournalBounds | None = None,
        disk: Disk | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> "FileJournal":
        """Lock `directory`, recover what the writers before have left, and start a new one. Call from the running loop.

        Blocks. Raises ConfigInvalid if another process holds the directory, Corrupt if a writer before is damaged,
        Malformed if `origin` is no log origin, OSError if the disk fails.
        """
        bounds, disk = bounds or JournalBounds(), disk or Disk()
        log = start_writer_log(origin, signer.public_key, sign=signer.sign)
        make_directories(directory, disk)
        lock = lock_directory(directory)
        try:
            recovered = recover_all(directory, disk)
            files = SegmentFiles(directory / log.writer.hex(), segment_bytes=bounds.segment_bytes, disk=disk)
            survey = survey_files(files)
        except BaseException:
            disk.close(lock)
            raise
        return cls(
            files, log, lock=lock, recovered=recovered, survey=survey, bounds=bounds, disk=disk, monotonic=monotonic
        )

    @property
    def writer(self) -> WriterId:
        """Who writes."""
        return self._writer

    @property
    def failed(self) -> "asyncio.Future[None]":
        """Done with the error after the first write or fsync error."""
        return self._failed

    @property
    def predecessor(self) -> Predecessor | None:
        """The writer that wrote here last, and its last journaled checkpoint."""
        return self._recovered[-1].predecessor if self._recovered else None

    @property
    def predecessor_time(self) -> datetime | None:
        """When the last journaled record of the writer before was made: no later record may be earlier (rule T1)."""
        return self._recovered[-1].last_time if self._recovered else None

    @property
    def dead(self) -> tuple[Recovered, ...]:
        """The writers that were here before, as recovery left them, the one that wrote last at the end."""
        return self._recovered

    @property
    def directory(self) -> Path:
        """Where the writers' directories are."""
        return self._files.directory.parent

    @property
    def checkpoint(self) -> bytes:
        """The last signed checkpoint that is durable; empty before the first commit."""
        return self._checkpoint

    @property
    def used_bytes(self) -> int:
        """What counts against the bound: the files of all writers, without preallocated space, and what is queued."""
        return self._space.used_bytes + self._queued_bytes

    @property
    def segment_mark(self) -> Sequence | None:
        """The first record of the newest segment that `begin_segment` asked for; 0 if none was asked for.

        None until that record is durable. No record from before the last request has this sequence or a later one.
        """
        return self._mark.begun(self.growth.size)

    def remeasure(self) -> None:
        """Count again what the files take, off the loop: some of them were removed."""
        if not self._failed.done() and self._closing is None:
            self._space.survey_again()

    def begin_segment(self) -> Sequence:
        """Have the next record begin a new segment; its sequence.

        If the disk has given no segment yet, the first group after there is one begins it: `segment_mark` says where.
        """
        self._mark.want(self._next)
        return self._next

    def append_nowait(
        self, build: Callable[[WriterId, Sequence], bytes], *, room: Room, beside: bytes = b""
    ) -> Appended:
        """Give the record that `build` makes the next sequence and queue it for the next group commit.

        `beside` is the salt and companion of a sealed record, empty for every other (rule S2); the caller answers for
        that. Raises JournalFull when `room` has none left (`build` is not called then), RecordTooLarge if the record
        does not fit in a leaf, what `build` raises (the sequence is not used up then), OSError after a failure or
        `close`.
        """
        if len(beside) > BESIDE_MAX_BYTES:
            raise ValueError(f"got {len(beside)} bytes beside a record, want at most {BESIDE_MAX_BYTES}")
        self._check_accepting()
        self._space.check(room, _RECORD_BYTES + self._checkpoints_bytes(), queued_bytes=self._queued_bytes)
        sequence = self._next
        leaf = build(self._writer, sequence)
        if not 1 <= len(leaf) <= RECORD_MAX_BYTES:
            raise RecordTooLarge(len(leaf))
        companion = render_frame(FrameType.COMPANION, beside) if beside else b""
        waiting = _Waiting(
            frames=render_frame(FrameType.RECORD, leaf) + companion,
            leaf=leaf_hash(leaf),
            durable=self._loop.create_future(),
        )
        self._next = Sequence(sequence + 1)
        self._queue.append(waiting)
        self._queued_bytes += len(waiting.frames)
        self._wake()
        return Appended(audit_id=AuditId(waiting.leaf.hex()), sequence=sequence, durable=waiting.durable)

    async def close(self) -> None:
        """Commit what is queued, give back preallocated space, release the lock. Idempotent.

        Raises OSError if giving back fails; what was appended is durable, or its future says that it is not.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._idle.wait()
        last = self._files.abandon if self._failed.done() else self._files.finish
        finished = self._loop.create_future()
        self._committer.submit(last, partial(settle, finished))
        self._committer.stop()
        try:
            await finished
        finally:
            if self._lock is not None:
                self._disk.close(self._lock)
                self._lock = None

    def _check_accepting(self) -> None:
        if self._failed.done():
            raise OSError(errno.EIO, "the journal has failed, and takes nothing more")
        if self._closing is not None:
            raise OSError(errno.ESHUTDOWN, "the journal is closed")

    def _checkpoints_bytes(self) -> int:
        """What the checkpoints of everything that is queued may take, and of one record more."""
        groups = len(self._queue) // GROUP_MAX_RECORDS + self._queued_bytes // GROUP_MAX_BYTES + _GROUPS_BEYOND
        return groups * _CHECKPOINT_BYTES

    # ---- group commit

    def _wake(self) -> None:
        """Start a group after this turn of the loop, so that everything that arrives in it shares one."""
        self._idle.clear()
        if not self._is_awake and not self._committing:
            self._is_awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_awake = False
        if self._failed.done() or self._committing or not self._queue:
            return
        if not self._is_quiet():
            self._is_awake = True
            self._loop.call_soon(self._turn)
            return
        try:
            job = self._plan_group()
        except BaseException as error:  # noqa: BLE001 - a group that cannot be made is a journal that has failed
            self._fail(error)
            return
        self._committer.submit(job, self._committed)

    def _is_quiet(self) -> bool:
        """Whether a group should start now: a wake-up costs more than a record, so one waits while more arrive.

        A record that is alone, after a group of one, goes at once.
        """
        waiting = len(self._queue)
        self._quiet_turns = self._quiet_turns + 1 if waiting == self._seen else 0
        self._seen = waiting
        alone = waiting == 1 and self._last_group == 1
        if alone or waiting >= GROUP_MAX_RECORDS or self._quiet_turns >= QUIET_TURNS:
            self._seen = self._quiet_turns = 0
            return True
        return False

    def _plan_group(self) -> Callable[[], None]:
        """Take what waits, grow the tree, sign, and say what the thread writes: a group, or a header and a group."""
        first, before, checkpoint = self._log.size, self._log.tree, self._signed
        is_due = self._mark.is_due(first) and self._space.may_begin(self._queued_bytes + self._checkpoints_bytes())
        self._committing = self._take_group(self._mark.most(first, most=GROUP_MAX_RECORDS))
        self._last_group = len(self._committing)
        self._log, self._signed = self._log.commit([waiting.leaf for waiting in self._committing])
        group = b"".join(waiting.frames for waiting in self._committing)
        self._queued_bytes -= len(group)
        group += render_frame(FrameType.CHECKPOINT, self._signed)
        if self._space.fits(len(group)) and not is_due:
            self._space.add(len(group))
            return partial(self._files.write, group)
        header = SegmentHeader(
            public_key=self._log.signer.public_key, number=self._space.begun, before=before, checkpoint=checkpoint
        )
        group = render_frame(FrameType.HEADER, render_header(header)) + group
        self._space.begin(len(group))
        self._mark.begin(first)
        return partial(self._files.start, first, group)

    def _take_group(self, most: int) -> list[_Waiting]:
        taken = [self._queue.popleft()]
        size = len(taken[0].frames)
        while self._queue and len(taken) < most:
            size += len(self._queue[0].frames)
            if size > GROUP_MAX_BYTES:
                break
            taken.append(self._queue.popleft())
        return taken

    def _committed(self, _: object, failure: BaseException | None) -> None:
        if failure is not None:
            self._fail(failure)
        if self._failed.done():
            return
        done, self._committing = self._committing, []
        self._checkpoint = self._signed
        self.growth.advance(len(done))
        for waiting in done:
            if not waiting.durable.done():
                waiting.durable.set_result(None)
        self._space.prepare_next(is_wanted=self._mark.is_wanted)
        if self._queue:
            self._turn()
        else:
            self._idle.set()

    def _fail(self, error: BaseException) -> None:
        """After this nothing is written (rule W4). Everyone who waits is told, each with an exception of their own."""
        tell(self._failed, error)
        for waiting in (*self._committing, *self._queue):
            tell(waiting.durable, error)
        self._committing = []
        self._queue.clear()
        self._idle.set()
