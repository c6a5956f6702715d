# SPDX-License-Identifier: Apache-2.0
"""`Shipper`: brings the journal into the audit log, believes nothing of it without proof, and gives space back.

    next batch -> append -> receipt verified (X1) -> position      whoever waits for a record below it is told
                    | OutOfSequence: receipts of what was shipped before, each verified (A2); or a rollback (A5)
                    | UnknownWriter: register (W2)
    each second: positions are stored, the published checkpoint is proven to be of our tree, and what it covers with k
                 cosignatures is trimmed (G1)

The invariant: nothing advances but by a verified receipt, and nothing is removed that is not covered by a cosigned
checkpoint on the same tree. With a quorum of 0 the log's own signature is enough. That is unsafe: a log that is lost,
or lies later, takes with it what the journal no longer has.

One batch is in flight, and it is offered again with the same boundaries until it is answered. A writer that the log
does not take rests, and the others go on; dead ones come first, but a request that waits for its own record comes
before them. A proven fork or rollback ends it all, for good. Whatever the log does, no request waits for it but those
of `durability: log`.
"""

import asyncio
import errno
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from iap_authz.client.view import LogView
from iap_authz.errors import (
    Corrupt,
    Fork,
    IapError,
    LogUnavailable,
    NotFound,
    QueueFull,
    Refused,
    Rollback,
    Unavailable,
)
from iap_authz.ports import Backlog, Clock, Journal, LogClient
from iap_authz.sidecar.claims import LogClaims
from iap_authz.sidecar.lanes import Lane
from iap_authz.sidecar.log_alarms import Alarm, LogAlarms
from iap_authz.sidecar.log_health import LogHealth
from iap_authz.sidecar.offers import Offers, Published
from iap_authz.sidecar.sealing import SettingsTaker
from iap_authz.sidecar.tasks import run_together
from iap_authz.tlog.cosign import CosignerKey
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES

BACKOFF_MIN_SECONDS, BACKOFF_MAX_SECONDS = 0.05, 5.0
"""The rest after a log that does not answer doubles from the first to the second: a log that is back is found soon."""

QUEUE_FULL_MAX_SECONDS = 60.0
"""The longest that a log with a full queue may ask for; it is waited for once to twice as long."""

COVER_SECONDS = 2.0
"""How long shipping waits for the answer to what is published."""

REFUSED_SECONDS = 5.0
"""How long a lane rests whose records the log refuses, or answers falsely: somebody has to look first."""

CHORES_SECONDS = 1.0
"""How often positions are stored and space is given back. After a crash at most so much is offered again."""

DRAIN_SECONDS = 2.0
"""How long the end of a process waits for its last records to be in the log."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""A disk that is full: no failure of it (rule W4), and trimming may make room."""

Pause = Callable[[float], Coroutine[Any, Any, object]]

_log = logging.getLogger("iap_authz.ship")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipperSettings:
    """How much of the log's word is enough. `quorum` of `witnesses` cosign what is trimmed; 0 is unsafe."""

    enrolment_token: str
    refuse: bool = False
    cosign_deadline_seconds: float = 60.0
    witnesses: Sequence[CosignerKey] = ()
    quorum: int = 0


class Shipper:
    """Satisfies `Shipping`. Owned by the event loop; `run` is the one task that talks to the log."""

    def __init__(  # noqa: PLR0913 -- one parameter a part of the world
        self,
        backlog: Backlog,
        client: LogClient,
        view: LogView,
        *,
        journal: Journal,
        clock: Clock,
        sealing: SettingsTaker,
        settings: ShipperSettings,
        draw: Callable[[], float] = random.random,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._backlog = backlog
        self._clock = clock
        self._draw = draw
        self._pause = pause
        self._view = view
        self._claims = LogClaims(client)
        self._offers = Offers(backlog, self._claims, view, sealing=sealing, enrolment_token=settings.enrolment_token)
        self._published = Published(
            self._claims, view, witnesses=settings.witnesses, quorum=settings.quorum, now=clock.now
        )
        self._alarms = LogAlarms(journal, clock, origin=view.verifier.name)
        self._health = LogHealth(
            self._alarms,
            refuse=settings.refuse,
            deadline_seconds=settings.cosign_deadline_seconds,
            monotonic=clock.monotonic,
        )
        self._own = Lane(writer=journal.writer)
        self._lanes = [self._own]
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._rest_until = self._chores_at = 0.0
        self._failures = 0
        self._is_draining = False
        self._ended = asyncio.Event()

    # ---- what others ask

    @property
    def refuses(self) -> bool:
        """Whether nothing may be allowed because of the state of the log (`on_log_fault: refuse`)."""
        return self._health.refuses

    @property
    def position(self) -> int:
        """Records of this process below it have a verified receipt (rule G3)."""
        return self._own.position

    @property
    def log_checkpoint(self) -> bytes:
        """The last checkpoint of the log that was verified, a note; empty before the first (rule G3)."""
        return self._view.last.note

    @property
    def alarms(self) -> frozenset[Alarm]:
        """What is wrong now."""
        return self._alarms.kinds

    def shipped(self, sequence: int) -> "asyncio.Future[None]":
        """Done once a verified receipt covers record `sequence` of this process. Cancel it when it is not needed."""
        future = self._waiting.get(sequence)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if sequence < self._own.position:
                future.set_result(None)
            else:
                self._waiting[sequence] = future
                future.add_done_callback(lambda _: self._waiting.pop(sequence, None))
        return future

    async def drain(self) -> None:
        """Wait until everything of this process is in the log, at most `DRAIN_SECONDS`. For its end."""
        size = self._backlog.size(self._own.writer)
        if size and not self._alarms.is_final:
            self._is_draining = True
            await run_together(self._wait_shipped(size - 1), self._pause(DRAIN_SECONDS), self._ended.wait())

    async def _wait_shipped(self, sequence: int) -> None:
        await asyncio.wait([self.shipped(sequence)])

    # ---- the life of the shipper

    async def run(self) -> None:
        """Ship until cancelled. Raises OSError when the disk fails (rule W4)."""
        try:
            dead = [writer for writer in self._backlog.writers if writer != self._own.writer]
            self._lanes = [*[await self._resume(Lane(writer=writer)) for writer in dead], self._own]
            await run_together(self._ship(), self._watch())
        finally:
            self._ended.set()

    async def _resume(self, lane: Lane) -> Lane:
        """The lane of a dead writer, where it was left."""
        try:
            position = await self._backlog.load_shipped(lane.writer)
        except Corrupt as error:
            self._stop_lane(lane, error)
            return lane
        size: int = self._view.last.checkpoint.size
        if position and not size:
            # The checkpoint that the receipts were verified by is gone: they are asked for again, or never covered.
            position, size = await self._start_again(lane, position), SIZE_LIMIT_LEAVES
        if position:
            self._health.proven()
        return Lane.resume(lane.writer, position=position, size=size)

    async def _start_again(self, lane: Lane, position: int) -> int:
        """0 where nothing was trimmed yet."""
        try:
            await self._backlog.read_first(lane.writer)
        except NotFound:
            return position
        return 0

    async def _watch(self) -> None:
        while True:
            self._health.look(waits=any(map(self._has_more, self._lanes)))
            await self._pause(CHORES_SECONDS)

    async def _ship(self) -> None:
        while not self._alarms.is_final:
            now = self._clock.monotonic()
            if now >= max(self._chores_at, self._rest_until) and any(lane.is_dirty for lane in self._lanes):
                self._chores_at = now + CHORES_SECONDS
                await self._do_chores()
            lane = self._next_lane()
            if lane is None:
                await self._idle()
            else:
                await self._advance(lane)
        self._ended.set()
        await asyncio.Event().wait()

    def _has_more(self, lane: Lane) -> bool:
        return lane.position < self._backlog.size(lane.writer)

    def _next_lane(self) -> Lane | None:
        """Whose turn it is: the oldest dead writer's, or our own if somebody waits for it."""
        now = self._clock.monotonic()
        if now < self._rest_until:
            return None
        ready = [
            lane for lane in self._lanes if not lane.is_stopped and lane.rest_until <= now and self._has_more(lane)
        ]
        return self._own if self._waiting and self._own in ready else next(iter(ready), None)

    async def _idle(self) -> None:
        """Until there may be something to do: a new group, the end of a rest, or a chore."""
        now = self._clock.monotonic()
        if now < self._rest_until:
            await self._pause(self._rest_until - now)
            return
        times = [lane.rest_until for lane in self._lanes if lane.rest_until > now and self._has_more(lane)]
        times += [self._chores_at] if any(lane.is_dirty for lane in self._lanes) else []
        grown = self._backlog.wait_beyond(self._backlog.size(self._own.writer))
        if times:
            await run_together(grown, self._pause(max(min(times) - now, 0.0)))
        else:
            await grown

    async def _advance(self, lane: Lane) -> None:
        """One step of a lane, and what its progress means to others."""
        before = lane.position
        holds = await self._guard(self._offer(lane), lane)
        if lane.position == before:
            return
        if holds:
            self._alarms.end([Alarm.UNPROVEN, Alarm.REFUSED], about=lane.writer)
        self._health.proven()
        if self._is_draining:
            await self._guard(self._store_position(lane), lane)
        for sequence in [one for one in self._waiting if one < self._own.position]:
            future = self._waiting[sequence]
            if not future.done():
                future.set_result(None)

    async def _offer(self, lane: Lane) -> None:
        if self._published.must_come_first and not await self._published.learn() and self._published.problem:
            raise LogUnavailable(self._published.problem)
        await self._offers.offer(lane)
        self._failures = 0

    # ---- chores

    async def _do_chores(self) -> None:
        for lane in self._lanes:
            if lane.position > lane.stored:
                await self._guard(self._store_position(lane), lane)
        if any(lane.proven for lane in self._lanes):
            await self._guard(run_together(self._cover(), self._pause(COVER_SECONDS)), None)
        for lane in list(self._lanes):
            if min(lane.covered, lane.stored) > lane.trimmed:
                await self._guard(self._trim(lane), lane)

    async def _store_position(self, lane: Lane) -> None:
        position = lane.position
        await self._backlog.store_shipped(lane.writer, position)
        lane.stored = position

    async def _cover(self) -> None:
        """Learn what is published, and how far that covers each lane (rule G1)."""
        if await self._published.learn():
            self._alarms.end([Alarm.UNPROVEN, Alarm.REFUSED])
        covered = [lane.cover(self._published.size) for lane in self._lanes]
        if any(covered):
            self._health.cosigned(waits=any(lane.proven for lane in self._lanes))

    async def _trim(self, lane: Lane) -> None:
        sequence = min(lane.covered, lane.stored)
        await self._backlog.trim(lane.writer, sequence)
        lane.trimmed = sequence
        self._lanes = [one for one in self._lanes if one.writer in self._backlog.writers]

    # ---- what goes wrong

    async def _guard(self, work: Coroutine[Any, Any, None], lane: Lane | None) -> bool:
        """Do `work`; whatever the log does wrong in it ends in a rest and an alarm, and is False.

        Raises OSError of a failed disk.
        """
        try:
            await work
        except (Fork, Rollback) as error:
            alarm = Alarm.FORK if isinstance(error, Fork) else Alarm.ROLLBACK
            self._alarms.start(alarm, str(error), evidence=error.evidence)
        except Corrupt as error:
            self._stop_lane(lane, error)
        except Unavailable as error:
            self._rest(lane, error)
        except Refused as error:
            self._rest_lane(lane, Alarm.REFUSED, error)
        except IapError as error:
            self._rest_lane(lane, Alarm.UNPROVEN, error)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._rest(lane, error)
        except Exception as error:  # noqa: BLE001 -- no answer of the log's ends the service
            _log.error("an answer of the audit log was not foreseen", exc_info=error)
            self._rest_lane(lane, Alarm.UNPROVEN, error)
        else:
            return True
        return False

    def _rest(self, lane: Lane | None, error: Exception) -> None:
        """Offer nothing for a while: the log does not answer, is full, or our disk is. Chores have their time."""
        if lane is None:
            return
        self._health.problem = str(error)
        seconds = min(BACKOFF_MIN_SECONDS * 2 ** min(self._failures, 10), BACKOFF_MAX_SECONDS)
        self._failures += 1
        if isinstance(error, QueueFull):
            seconds = 2 * min(max(error.retry_seconds, BACKOFF_MIN_SECONDS), QUEUE_FULL_MAX_SECONDS)
        self._rest_until = self._clock.monotonic() + seconds * (0.5 + self._draw() / 2)

    def _rest_lane(self, lane: Lane | None, alarm: Alarm, error: Exception) -> None:
        about, seconds = b"" if lane is None else lane.writer, REFUSED_SECONDS * (0.5 + self._draw() / 2)
        self._health.problem = str(error)
        evidence = dict.fromkeys([self._view.last.note, self._claims.note])
        self._alarms.start(alarm, str(error), about=about, evidence=evidence)
        if lane is not None:
            lane.rest_until = self._clock.monotonic() + seconds
        else:
            self._chores_at = self._clock.monotonic() + seconds

    def _stop_lane(self, lane: Lane | None, error: Corrupt) -> None:
        """What was acknowledged cannot be read back. Somebody has to look; the other lanes go on."""
        about = b"" if lane is None else lane.writer
        self._alarms.start(Alarm.DAMAGED, str(error), about=about)
        if lane is not None:
            lane.is_stopped = True
