# SPDX-License-Identifier: Apache-2.0
"""`Erasures`: forgetting people, as officers ask for it (rules S5, S8). One task works, calls only ask and tell.

The invariant: an erasure that was asked for is stored before its caller is answered, and goes on after any crash, from
where it was; a dry run ends with the process. Erasures are taken one at a time, so that no two of them take one leaf.

    erasure_job      one erasure as it is told              erasure_finding   which records it takes
    erasure_course   its steps                              erasure_rounds    what is destroyed, and its record
    completion       which writers may have more            erasure_cover     whether a leaf was erased, or lost its key

When the process starts it compares: the log may have Erasure records that the database does not know, when an older
copy of the database was put back. The keys that they destroyed are back then. That is logged as an error and told with
the erasures; whom to erase again only the officers know. The seal epoch is brought to where it was, as the log's
records say it: writers have heard of it, and at the next one they must drop their keys. An epoch that rose for another
reason, a new key of the vault, gets a record of its own, so that this holds for it, too.
"""

import asyncio
import contextlib
import logging
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Conflict, IapError, Malformed, NotFound, QueueFull, Refused
from iap_authz.ports import Caller, Clock, ErasureRow, ErasureStore, Stage
from iap_authz.records.erasure import ERASURE_ID_BYTES, SECRET_BYTES, Tags, Whose
from iap_authz.records.tokens import TokenKey
from iap_authz.trail.completion import Completion
from iap_authz.trail.erasure_course import Course
from iap_authz.trail.erasure_job import Job
from iap_authz.trail.erasure_rounds import AppendOwn
from iap_authz.trail.match import check_query
from iap_authz.trail.reader import TrailReader
from iap_authz.trail.requests import check_id, check_names_nobody, check_text

SWEEP_SECONDS = 5.0
"""Between two looks for what came late: writers ship once a second, and declare once a minute."""

APPROVAL_MAX = timedelta(days=7)
"""For the second officer; after that the first one asks anew."""

OPEN_MAX = 1_000
"""Erasures on their way at one time."""

KEPT_MAX = 1_000
"""Ended ones that are still told about."""

ISSUER_MAX_CHARS = 2_048
"""As long as a URL may be anywhere."""

SEAL_EPOCH = "seal_epoch"
"""In SettingChanged records: an epoch that rose without an erasure."""

CHANGED_BY = "the vault's new key"
"""What else raises it."""

PUT_BACK = "an older copy of the database was put back"
"""What it means when the log has an Erasure record that the database does not know."""

_log = logging.getLogger("iap_authz.trail.erasure")


class SealEpoch(Protocol):
    """The seal epoch in force: `log.sealing.Sealing`."""

    @property
    def seal_epoch(self) -> int:
        """What writers seal in."""

    async def raise_epoch(self, *, at_least: int = 0) -> int:
        """The next one, or `at_least`, if that is higher; durable."""


class Erasures:
    """Owned by the event loop. `run` is its task; `step` is one turn of it."""

    def __init__(
        self,
        reader: TrailReader,
        *,
        store: ErasureStore,
        course: Course,
        completion: Completion,
        epoch: SealEpoch,
        append_own: AppendOwn,
        token_key: TokenKey,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._store = store
        self._course = course
        self._completion = completion
        self._epoch = epoch
        self._append_own = append_own
        self._token_key = token_key
        self._clock = clock
        self._jobs: dict[bytes, Job] = {}
        self._unknown: list[log_pb2.ErasureState] = []
        self._loading = asyncio.Lock()
        self._loaded = False
        self._asked = asyncio.Event()
        self._next_sweep = clock.monotonic()

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest, caller: Caller) -> log_pb2.ErasureState:
        """Begin an erasure or a dry run, or approve one. It goes on by itself.

        Raises Malformed, Refused, NotFound or Conflict for an approval that fits nothing, QueueFull.
        """
        _check_request(request)
        await self._load()
        if request.approve:
            return await self._approve(request, caller)
        if sum(one.is_open for one in self._jobs.values()) >= OPEN_MAX:
            raise QueueFull(f"got one more erasure than {OPEN_MAX} on their way, want some ended first", SWEEP_SECONDS)
        erasure = secrets.token_bytes(ERASURE_ID_BYTES)
        row = ErasureRow(
            erasure=erasure,
            stage=Stage.COUNTING,
            seal_epoch=0,
            authority=request.authority,
            officers=(caller.name,),
            asked=self._clock.now(),
            whose=Tags(self._token_key, erasure).whose(request.subject, request.issuer).render(),
            secret=secrets.token_bytes(SECRET_BYTES),
        )
        if not request.dry_run:
            await self._reader.run(self._store.put, row)
        job = self._jobs[erasure] = Job(row=row, dry_run=request.dry_run, address=caller.address)
        self._asked.set()
        return job.told()

    async def get_erasure(self, request: log_pb2.GetErasureRequest, caller: Caller) -> log_pb2.ErasureState:
        """How far one is. Raises Malformed or NotFound."""
        del caller
        check_id(request.erasure, "an erasure")
        await self._load()
        job = self._jobs.get(request.erasure)
        if job is None:
            row = await self._reader.run(self._store.find, request.erasure)
            if row is None:
                raise NotFound(f"got erasure {request.erasure.hex()}, want one that was asked for")
            job = Job(row=row, rounds=await self._reader.run(self._store.rounds, row.erasure))
        return job.told()

    async def list_erasures(self, request: log_pb2.ListErasuresRequest, caller: Caller) -> log_pb2.ListErasuresResponse:
        """All that are on their way, those of this process, and those that the database does not know."""
        del request, caller
        await self._load()
        return log_pb2.ListErasuresResponse(erasures=[*(job.told() for job in self._jobs.values()), *self._unknown])

    async def run(self) -> None:
        """Until cancelled. Raises what is nobody's fault but ours, and what the database raises."""
        await self.resume()
        while True:
            await self.step()
            self._asked.clear()
            if any(job.stage == Stage.COUNTING for job in self._jobs.values()):
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._asked.wait()

    async def resume(self) -> None:
        """Load what is on its way, and compare the log with the database."""
        await self._load()
        await self._reader.caught_up()
        recorded = 0
        async for index, record in self._reader.own_records("erasure"):
            body = record.erasure
            recorded = max(recorded, body.seal_epoch)
            rounds = await self._reader.run(self._store.rounds, body.erasure)
            if all(one.root != body.leaves_root for one in rounds):
                self._unknown.append(_unknown_state(index, record.erasure.erasure, records=body.records))
        await self._settle_epoch(recorded)
        for state in self._unknown:
            extra = {"erasure": state.erasure.hex(), "index": state.erasure_index}
            _log.error("%s: it has keys that were erased", PUT_BACK, extra=extra)

    async def _settle_epoch(self, recorded: int) -> None:
        """Bring the seal epoch to what the log has recorded, or have it record what it is."""
        async for _, record in self._reader.own_records("setting_changed"):
            if record.setting_changed.setting == SEAL_EPOCH:
                recorded = max(recorded, int(record.setting_changed.after))
        if recorded > self._epoch.seal_epoch:
            await self._epoch.raise_epoch(at_least=recorded)
        elif recorded < self._epoch.seal_epoch:
            await self._record_epoch(before=recorded)

    async def _record_epoch(self, *, before: int) -> None:
        """A log that takes nothing now, such as a frozen one, has it recorded at its next start."""
        after = self._epoch.seal_epoch
        body = record_pb2.SettingChanged(
            setting=SEAL_EPOCH, before=str(before), after=str(after), changed_by=CHANGED_BY
        )
        try:
            await self._append_own(body, None)
        except IapError as error:
            _log.exception("the seal epoch is not recorded yet", extra={"seal_epoch": after, "problem": str(error)})

    async def step(self) -> None:
        """Take each erasure one step further; look for late records if it is time."""
        # First what is half done: until it is through, no other may take a leaf that it has planned.
        for job in sorted(self._jobs.values(), key=lambda one: one.stage != Stage.ERASING):
            if job.stage == Stage.ERASING or (job.stage == Stage.COUNTING and self._may_take(job)):
                await self._attempt(job)
        if not self._is_erasing() and self._clock.monotonic() >= self._next_sweep:
            self._next_sweep = self._clock.monotonic() + SWEEP_SECONDS
            await self._sweep()
        self._forget_ended()

    def _may_take(self, job: Job) -> bool:
        return job.dry_run or not self._is_erasing()

    def _is_erasing(self) -> bool:
        """Whether a round is stored and not carried out."""
        return any(job.stage == Stage.ERASING for job in self._jobs.values())

    async def _attempt(self, job: Job) -> None:
        """Count, or go on erasing. One that could not be counted has failed; one that has begun is tried again."""
        try:
            if job.stage == Stage.COUNTING:
                await self._course.count(job)
            if job.stage == Stage.ERASING:
                await self._course.carry_out(job)
        except (IapError, OSError) as error:
            job.problem = str(error)
            extra = {"erasure": job.row.erasure.hex(), "problem": str(error)}
            _log.exception("an erasure does not go on", extra=extra)
            if job.stage == Stage.COUNTING:
                await self._fail(job)

    async def _fail(self, job: Job) -> None:
        """It ends here, also if the store cannot say so now: the next start takes it up again then."""
        try:
            await self._course.end(job, Stage.FAILED)
        except (IapError, OSError):
            _log.exception("the end of an erasure is not stored", extra={"erasure": job.row.erasure.hex()})
            job.row = replace(job.row, stage=Stage.FAILED)

    async def _sweep(self) -> None:
        for job in list(self._jobs.values()):
            if job.stage == Stage.WAITS_APPROVAL and self._clock.now() - job.row.asked > APPROVAL_MAX:
                job.problem = f"nobody approved it in {APPROVAL_MAX.days} days: ask again"
                await self._fail(job)
        holders = None
        for job in [one for one in self._jobs.values() if one.stage == Stage.ERASED]:
            if self._is_erasing():
                return
            try:
                holders = holders or await self._completion.look()
                await self._course.sweep(job, holders)
            except (IapError, OSError) as error:
                job.problem = str(error)
                extra = {"erasure": job.row.erasure.hex(), "problem": str(error)}
                _log.exception("late records are not looked for", extra=extra)

    async def _approve(self, request: log_pb2.EraseSubjectRequest, caller: Caller) -> log_pb2.ErasureState:
        job = self._jobs.get(request.approve)
        if job is None:
            raise NotFound(f"got erasure {request.approve.hex()} to approve, want one that waits for it")
        if job.stage != Stage.WAITS_APPROVAL:
            raise Conflict(f"got an erasure to approve that is {Stage.Name(job.stage)}, want WAITS_APPROVAL")
        if caller.name in job.row.officers:
            raise Refused("got the approval of the officer who asked, want another one's")
        asked, whose = Whose.parse(job.row.whose), Tags(self._token_key, job.row.erasure)
        if (asked, job.row.authority) != (whose.whose(request.subject, request.issuer), request.authority):
            raise Refused("got an approval of something else, want the subject, issuer and authority of the first call")
        job.row = replace(job.row, stage=Stage.COUNTING, officers=(*job.row.officers, caller.name))
        job.address = caller.address
        await self._reader.run(self._store.put, job.row)
        self._asked.set()
        return job.told()

    async def _load(self) -> None:
        """What the store has that is on its way, once."""
        async with self._loading:
            if self._loaded:
                return
            for row in await self._reader.run(self._store.unfinished):
                rounds = await self._reader.run(self._store.rounds, row.erasure)
                swept = rounds[-1].log_size if rounds else 0
                self._jobs[row.erasure] = Job(row=row, rounds=rounds, swept=swept)
            self._loaded = True

    def _forget_ended(self) -> None:
        ended = [erasure for erasure, job in self._jobs.items() if not job.is_open]
        for erasure in ended[:-KEPT_MAX]:
            del self._jobs[erasure]


def _check_request(request: log_pb2.EraseSubjectRequest) -> None:
    if not request.subject:
        raise Malformed("got no subject to erase, want one exactly as in its records")
    check_query(log_pb2.SearchRecordsRequest(subject=request.subject))
    if len(request.issuer) > ISSUER_MAX_CHARS:
        raise Malformed(f"got an issuer of {len(request.issuer)} characters, want at most {ISSUER_MAX_CHARS}")
    check_text(request.authority, "authority")
    check_names_nobody(request.authority, "authority", subject=request.subject)
    if request.approve:
        check_id(request.approve, "an erasure")
        if request.dry_run:
            raise Malformed("got an approval of a dry run, want one of an erasure")


def _unknown_state(index: int, erasure: bytes, *, records: int) -> log_pb2.ErasureState:
    return log_pb2.ErasureState(
        erasure=erasure,
        stage=Stage.FAILED,
        records=records,
        erasure_index=index,
        problem=f"{PUT_BACK}: the keys that this erasure destroyed are back, erase again",
    )
