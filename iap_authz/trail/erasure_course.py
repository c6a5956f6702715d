# SPDX-License-Identifier: Apache-2.0
"""The course of one erasure, step by step; who calls decides when (rule S5).

The invariant: nothing of a person is destroyed unless it was counted after the last approval, no hold that was stored
by then keeps it, and as many officers as the log wants stand behind it.

    COUNTING -> COUNTED (dry run) | AMBIGUOUS | HELD | WAITS_APPROVAL -> COUNTING | ERASING -> ERASED -> COMPLETE
                                                                                       ^ late records  |
                                                                                       `---------------'

The seal epoch rises before the round is stored: if the round is lost in between, it is counted anew and rises again.
Also an erasure that found nothing raises it, is recorded, and stays open: what the person did may not have been
shipped yet. So every epoch that an erasure raised stands in the log, where an older copy of the database finds it.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import Conflict
from iap_authz.model.roles import Role
from iap_authz.ports import ErasureStore, Stage
from iap_authz.records.erasure import ANY_ISSUER, Tags, Whose
from iap_authz.records.tokens import TokenKey
from iap_authz.tlog.hashing import TreeSize
from iap_authz.trail.completion import Holders
from iap_authz.trail.erasure_finding import Finder, Found, Scope, Wanted
from iap_authz.trail.erasure_job import Job
from iap_authz.trail.erasure_rounds import AppendOwn, Rounds, new_round
from iap_authz.trail.reader import TrailReader

METHOD = "EraseSubject"
"""The name of the call in log.proto, and of its readings in the log."""

OTHER_KEY = "the index key is another one than when this erasure was asked for: ask again"
"""Nobody would be known again by it: what comes late would be missed."""

RaiseEpoch = Callable[[], Awaitable[int]]
"""Raises the seal epoch, durably; the new one."""

_log = logging.getLogger("iap_authz.trail.erasure")


class HeldScopes(Protocol):
    """What is asked of `trail.holds.Holds`."""

    @property
    def version(self) -> int:
        """Grows before a hold is stored."""

    async def scopes(self) -> tuple[Scope, ...]:
        """What the holds in force keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """What was found in the tree of `size`, under the holds of `version`."""

    size: TreeSize
    version: int
    found: Found


class Course:
    """Takes erasures further. Owned by the event loop; one at a time."""

    def __init__(  # noqa: PLR0913 -- its collaborators, one each
        self,
        reader: TrailReader,
        *,
        store: ErasureStore,
        finder: Finder,
        rounds: Rounds,
        holds: HeldScopes,
        append_own: AppendOwn,
        raise_epoch: RaiseEpoch,
        token_key: TokenKey,
        dual_control: bool,
    ) -> None:
        self._reader = reader
        self._store = store
        self._finder = finder
        self._rounds = rounds
        self._holds = holds
        self._append_own = append_own
        self._raise_epoch = raise_epoch
        self._token_key = token_key
        self._dual_control = dual_control
        self._run = reader.run

    async def count(self, job: Job) -> None:
        """From COUNTING to wherever it leads. Raises what keeps it from that; nothing was changed then."""
        while job.stage == Stage.COUNTING:
            counted = await self._count(job)
            if job.dry_run:
                job.row = replace(job.row, stage=Stage.COUNTED)
            elif Whose.parse(job.row.whose).issuer == ANY_ISSUER and len(counted.found.issuers) > 1:
                await self.end(job, Stage.AMBIGUOUS)
            elif counted.found.holds:
                await self.end(job, Stage.HELD)
            elif self._dual_control and len(job.row.officers) < 2:  # noqa: PLR2004 -- dual control is two
                job.row = replace(job.row, stage=Stage.WAITS_APPROVAL)
                await self._run(self._store.put, job.row)
            else:
                job.row = replace(job.row, seal_epoch=await self._raise_epoch())
                await self._begin(job, counted)

    async def carry_out(self, job: Job) -> None:
        """From ERASING to ERASED. What this raises leaves it to be gone on with."""
        begun = job.rounds[-1]
        if not begun.finished:
            done = await self._rounds.carry_out(
                job.row, begun, progress=lambda count: job.take_round(replace(job.rounds[-1], done=count))
            )
            job.take_round(done)
            extra = {"erasure": begun.erasure.hex(), "records": done.records, "round": done.number}
            _log.warning("records are erased", extra=extra)
        job.row = replace(job.row, stage=Stage.ERASED)
        await self._run(self._store.put, job.row)

    async def sweep(self, job: Job, holders: Holders) -> None:
        """An ERASED one: take what came late; once nobody has more, it is COMPLETE."""
        waiting = holders.waiting_for(job.row.seal_epoch)
        job.waiting_for, job.problem = tuple(waiting), ""
        if not self._knows(job):
            job.problem = OTHER_KEY
            await self.end(job, Stage.FAILED)
            return
        size = await self._reader.caught_up()
        if size < holders.size:
            return  # the ledger is ahead: what the others had is not in this tree yet
        late = await self._run(self._store.late, job.row.erasure)
        version, scopes = self._holds.version, await self._holds.scopes()
        found = await self._finder.find(
            Wanted(
                tags=self._tags(job),
                whose=Whose.parse(job.row.whose),
                begin=job.swept,
                size=size,
                before_epoch=job.row.seal_epoch,
                late=tuple(index for index in late if index < size),
                scopes=scopes,
            )
        )
        await self._settle(job, _Counted(size=size, version=version, found=found), rest=bool(late))

    async def end(self, job: Job, stage: Stage) -> None:
        """It is over; what said whose it was goes."""
        if not job.dry_run:
            await self._run(self._store.end, job.row.erasure, stage)
        job.row = replace(job.row, stage=stage, whose=bytes(len(job.row.whose)), secret=bytes(len(job.row.secret)))

    async def _settle(self, job: Job, counted: _Counted, *, rest: bool) -> None:
        """What a sweep leads to. `rest`: there are late leaves, so it is not the last sweep."""
        found, any_issuer = counted.found, Whose.parse(job.row.whose).issuer == ANY_ISSUER
        job.holds = tuple(sorted(found.holds))
        if any_issuer and len(found.issuers) > 1:
            job.issuers, job.problem = tuple(sorted(found.issuers)), "records came late of several issuers: ask again"
            await self.end(job, Stage.FAILED)
        elif found.holds:
            job.problem = "a legal hold keeps records that came late"
        elif found.taken:
            await self._begin(job, counted)
            if job.stage == Stage.ERASING:
                await self.carry_out(job)
        else:
            job.swept = counted.size
            if not rest and not job.waiting_for:
                await self.end(job, Stage.COMPLETE)
                _log.warning("an erasure is complete", extra={"erasure": job.row.erasure.hex()})

    async def _count(self, job: Job) -> _Counted:
        """Find, tell, and have the log record that it was read."""
        if not self._knows(job):
            raise Conflict(OTHER_KEY)
        size = await self._reader.caught_up()
        version, scopes = self._holds.version, await self._holds.scopes()
        wanted = Wanted(tags=self._tags(job), whose=Whose.parse(job.row.whose), size=size, scopes=scopes)
        found = await self._finder.find(wanted)
        await self._record_reading(job, found, size)  # before anybody is told anything of it
        job.swept, job.counted, job.remark = size, len(found.taken), _remark(found)
        job.issuers, job.holds = tuple(sorted(found.issuers)), tuple(sorted(found.holds))
        return _Counted(size=size, version=version, found=found)

    async def _record_reading(self, job: Job, found: Found, size: TreeSize) -> None:
        body = record_pb2.LogRead(
            method=METHOD, to_index=size, records=len(found.taken), unsealed=found.opened, role=Role.PRIVACY_OFFICER
        )
        personal = record_pb2.LogReadPersonal(
            reader=job.row.officers[-1], address=job.address, purpose=job.row.authority
        )
        await self._append_own(body, personal)

    async def _begin(self, job: Job, counted: _Counted) -> None:
        """Store the next round, unless a hold was placed since it was counted: then it is to be counted again."""
        taken, number = counted.found.taken, len(job.rounds) + 1
        begun = await self._run(new_round, job.row, number=number, size=counted.size, taken=taken)
        whose = _pinned(self._tags(job), Whose.parse(job.row.whose), counted.found.issuers)
        row = replace(job.row, stage=Stage.ERASING, whose=whose.render())
        plan = await self._run(sorted, taken)
        # Nothing may wait between this comparison and the call: calls of the thread are made in their order.
        if self._holds.version != counted.version:
            return
        await self._run(self._store.begin_round, row, begun, plan=plan)
        job.row, job.swept = row, counted.size
        job.take_round(begun)

    def _knows(self, job: Job) -> bool:
        """Whether the person of this erasure would be known again."""
        return Whose.parse(job.row.whose).key == self._tags(job).key()

    def _tags(self, job: Job) -> Tags:
        return Tags(self._token_key, job.row.erasure)


def _pinned(tags: Tags, whose: Whose, issuers: Iterable[str]) -> Whose:
    """The person with the one issuer that was found: what comes late of another issuer is somebody else's."""
    if whose.issuer == ANY_ISSUER:
        for issuer in issuers:
            return replace(whose, issuer=tags.issuer(issuer))
    return whose


def _remark(found: Found) -> str:
    """What stays after this erasure, in words."""
    said = []
    if found.in_the_clear:
        said.append(f"{found.in_the_clear} records of this subject were never sealed: they stay")
    if found.unopened:
        said.append(f"{found.unopened} records that may be of this subject cannot be opened: they stay as they are")
    return "; ".join(said)
