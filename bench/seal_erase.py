# SPDX-License-Identifier: Apache-2.0
"""A person with a tenth of a log's records is erased, while others append, prove and search: how long, at what cost.

The invariant: a fast wrong answer stops the benchmark. Before, a sample opens to what was sealed; afterwards the
person's records are ERASED, all others open as before, every proof holds, the person is not found any more, and none
of the destroyed subject keys is left in a file of the trail.
"""

import asyncio
import mmap
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bench.log import resident_mib
from bench.seal_append import processor_seconds
from bench.seal_open import PURPOSE, check_opened
from bench.seal_probe import Probe
from bench.seal_world import POLL_SECONDS, Asked, Known, LogPlace, Writer, sizes, wait_indexed
from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import AuditLogClient, CheckpointFile, LogChannel, Outcome
from iap_authz.model.roles import Role
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import LeafIndex

PERSON = "ana.to.be.forgotten@example.com"
AUTHORITY = "BENCH-1"
PEOPLE = 997
"""Besides the person: a prime, so that each of them has records, whichever are the person's."""
WRITERS = 4
A_DAY = 8
"""Records that somebody has a day at one writer; at some 1,000 people that says how many days a log spans."""
BATCH = 1_024
SAMPLE, UNSEALED = 400, 1_000
"""How many are looked at one by one, and how many of the person's one call of Unseal asks for."""
PROVEN = 40
GREPPED = 8
Stage = log_pb2.ErasureState
State = log_pb2.ErasureState


@dataclass(slots=True, kw_only=True)
class Filled:
    """What is known of a log that was filled: how much is in it, and samples of it."""

    others: dict[LeafIndex, Asked] = field(default_factory=dict)
    person: dict[LeafIndex, Asked] = field(default_factory=dict)
    records: int = 0


class Erasing:
    """The whole measurement in one log. `figures` are what is reported, in order."""

    def __init__(self, place: LogPlace, known: Known, *, pid: int, records: int, of_person: int) -> None:
        self._place, self._known, self._pid = place, known, pid
        self._records, self._of_person = records, of_person
        self._days = max(records // (WRITERS * PEOPLE * A_DAY), 2)
        self._officer = LogChannel(place.address, token=Role.PRIVACY_OFFICER.value)
        self._channel = LogChannel(place.address)
        self._writers = [Writer(place, known) for _ in range(WRITERS)]
        self._filled = Filled()
        self.figures: dict[str, float | str] = {}
        self.probe = Probe(place, known, people=PEOPLE)

    async def run(self, *, probe_seconds: float) -> None:
        """Fill, look, erase, look again."""
        await self._fill()
        keys = sealed_keys(self._place.trail)
        await self._check_open()
        await self.probe.start()
        await self._dry_run()
        self._weigh("before")
        await self.probe.phase("before", seconds=probe_seconds)
        await self._erase()
        await self.probe.phase("after", seconds=probe_seconds)
        await self.probe.stop()
        self._weigh("after")
        await self._check_erased(keys)
        for channel in (self._officer, self._channel):
            await channel.close()

    async def _fill(self) -> None:
        """Four writers over some days, each with a key a person and day, as the sidecar has them."""
        began = time.perf_counter()
        await asyncio.gather(*(self._fill_one(number, writer) for number, writer in enumerate(self._writers)))
        cpu = processor_seconds(self._pid)
        size, indexed = await sizes(self._channel)
        filled = time.perf_counter()
        assert await wait_indexed(self._channel) == size
        assert self._filled.records == self._records
        ended, behind = time.perf_counter(), size - indexed
        self.figures |= {
            "days, writers, other people": f"{self._days}, {WRITERS}, {PEOPLE}",
            "filling: records/s, sealing included": self._records / (filled - began),
            "filling: leaves not indexed at its end": behind,
            "filling: s until they were": ended - filled,
            "filling: records/s indexed then": behind / (ended - filled),
            "filling: processor us of each record then": (processor_seconds(self._pid) - cpu) * 1e6 / behind,
        }

    async def _fill_one(self, which: int, writer: Writer) -> None:
        await writer.register(self._channel)
        begin, end = (self._records * at // WRITERS for at in (which, which + 1))
        for first in range(begin, end, BATCH):
            writer.day = (first - begin) * self._days // (end - begin)
            asked = [self._asked(number) for number in range(first, min(first + BATCH, end))]
            receipt = await writer.ship(self._channel, writer.batch(asked))
            self._filled.records += len(asked)
            self._remember(receipt.first_index, asked)

    def _asked(self, number: int) -> Asked:
        """Record `number`; the person's are spread evenly."""
        share, whole = self._of_person, self._records
        is_persons = number * share // whole < (number + 1) * share // whole
        return number, PERSON if is_persons else f"user-{number * 7_919 % PEOPLE}@example.com"

    def _remember(self, first_index: int, asked: Iterable[Asked]) -> None:
        """A sample of each kind, spread over the log."""
        every = self._records // SAMPLE, self._of_person // UNSEALED
        for index, one in enumerate(asked, first_index):
            number, subject = one
            if subject == PERSON and (number * self._of_person // self._records) % every[1] == 0:
                self._filled.person[LeafIndex(index)] = one
            elif subject != PERSON and number % every[0] == 0:
                self._filled.others[LeafIndex(index)] = one

    async def _dry_run(self) -> None:
        for name in ("dry run: s, first", "dry run: s, again"):
            began = time.perf_counter()
            state = await self._ask(dry_run=True)
            state = await self._until(state, {Stage.COUNTING})
            self.figures[name] = time.perf_counter() - began
            assert (state.stage, state.records) == (Stage.COUNTED, self._of_person), state

    async def _erase(self) -> None:
        self.probe.begin("during")
        began = time.perf_counter()
        state = await self._ask(dry_run=False)
        state = await self._until(state, {Stage.COUNTING})
        self.figures["erasing: s until counted and planned"] = time.perf_counter() - began
        while state.stage == Stage.ERASING and state.done < state.records:
            await asyncio.sleep(POLL_SECONDS)
            state = await self._get(state)
        self.figures["erasing: s until all keys are overwritten"] = time.perf_counter() - began
        state = await self._until(state, {Stage.ERASING})
        self.figures["erasing: s until ERASED, waiting for writers"] = time.perf_counter() - began
        self.probe.end()
        assert (state.stage, state.records, state.done) == (Stage.ERASED, self._of_person, self._of_person), state
        for writer in (*self._writers, *self.probe.writers):
            await writer.declare(self._channel)
        state = await self._until(state, {Stage.ERASED})
        self.figures["erasing: s until COMPLETE, all writers heard"] = time.perf_counter() - began
        assert (state.stage, state.records, len(state.waiting_for)) == (Stage.COMPLETE, self._of_person, 0), state
        body = parse_record(await self._proven(state.erasure_index)).erasure
        assert (body.erasure, body.records) == (state.erasure, self._of_person)

    async def _ask(self, *, dry_run: bool) -> State:
        request = log_pb2.EraseSubjectRequest(subject=PERSON, authority=AUTHORITY, dry_run=dry_run)
        return await self._officer.erase_subject(request)

    async def _get(self, state: State) -> State:
        return await self._officer.get_erasure(log_pb2.GetErasureRequest(erasure=state.erasure))

    async def _until(self, state: State, working: set[log_pb2.ErasureState.Stage]) -> State:
        """The state once it is none of these."""
        while state.stage in working:
            await asyncio.sleep(POLL_SECONDS)
            state = await self._get(state)
        return state

    def _weigh(self, when: str) -> None:
        trail = self._place.trail
        wal = trail.with_name(trail.name + "-wal")
        self.figures[f"trail database {when}: MB"] = trail.stat().st_size / 1e6
        self.figures[f"its write-ahead log {when}: MB"] = wal.stat().st_size / 1e6
        self.figures[f"memory of the log {when}: MiB"] = resident_mib(self._pid)

    async def _check_open(self) -> None:
        """Nothing is erased yet: the samples open to what was sealed."""
        async with self._investigator() as client:
            for sample in (self._filled.person, self._filled.others):
                opened = await client.unseal(list(sample), PURPOSE)
                check_opened(opened, list(sample.values()))

    async def _check_erased(self, keys: dict[int, bytes]) -> None:
        """See the invariant of this module."""
        others, asked = self._filled.others, list(self._filled.person)[:UNSEALED]
        person = asked[:: UNSEALED // SAMPLE]
        async with self._investigator() as client:
            for name in ("first", "again"):
                await self._unseal_erased(asked, f"Unseal of {len(asked)} that are ERASED: s, {name}")
            assert {one.outcome for one in await client.unseal(person, PURPOSE)} == {Outcome.ERASED}
            check_opened(await client.unseal(list(others), PURPOSE), list(others.values()))
            for index in (*person[:: len(person) // PROVEN], *list(others)[:: len(others) // PROVEN]):
                await client.record(index=index)
        found = await self._channel.search_records(log_pb2.SearchRecordsRequest(subject=PERSON, page_size=1_000))
        assert not found.records, "an erased person is still found"
        gone = [keys[number] for number, sealed in sealed_keys(self._place.trail).items() if not any(sealed)]
        assert len(gone) == self._keys_of_person(), f"{len(gone)} keys were destroyed"
        self.figures["subject keys destroyed"] = len(gone)
        self.figures["subject keys of all people"] = len(keys)
        check_gone(self._place.trail, gone[:: max(len(gone) // GREPPED, 1)])

    async def _unseal_erased(self, indices: list[LeafIndex], name: str) -> None:
        """The bare call. The first one computes the root of the Erasure record again."""
        token = Role.INVESTIGATOR.value
        async with LogChannel(self._place.address, token=token, timeout_seconds=120) as channel:
            began = time.perf_counter()
            answer = await channel.unseal(log_pb2.UnsealRequest(indices=indices, purpose=PURPOSE))
            self.figures[name] = time.perf_counter() - began
        assert {one.outcome for one in answer.records} == {log_pb2.Unsealed.ERASED}

    def _keys_of_person(self) -> int:
        """One for each writer and each day that it has a batch on."""
        spans = [(self._records * at // WRITERS, self._records * (at + 1) // WRITERS) for at in range(WRITERS)]
        days = [
            {(first - begin) * self._days // (end - begin) for first in range(begin, end, BATCH)}
            for begin, end in spans
        ]
        return sum(map(len, days))

    async def _proven(self, index: int) -> bytes:
        async with self._investigator() as client:
            return (await client.record(index=LeafIndex(index))).record

    def _investigator(self) -> AuditLogClient:
        checkpoints = CheckpointFile(self._place.folder / "client.checkpoint")
        token = Role.INVESTIGATOR.value
        return AuditLogClient.connect(
            self._place.address, verifier=self._place.verifier, checkpoints=checkpoints, token=token
        )


def sealed_keys(trail: Path) -> dict[int, bytes]:
    """The sealed subject keys of a log, by number; zeros once erased."""
    with closing(sqlite3.connect(f"file:{trail}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("select number, sealed from subject_keys"))


def check_gone(trail: Path, secrets: list[bytes]) -> None:
    """Stop if one of these stands anywhere in the trail's files."""
    assert secrets
    for path in trail.parent.glob(f"{trail.name}*"):
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                assert not any(content.find(one) >= 0 for one in secrets), f"{path.name} still has an erased key"
