# SPDX-License-Identifier: Apache-2.0
"""`Shipper`: nothing advances but by a verified receipt, nothing goes that is not covered, every lie is an alarm."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.journal.reading import segment_paths, writer_directories
from iap_authz.adapters.journal.shipped import load_shipped
from iap_authz.errors import (
    BadProof,
    Fork,
    IapError,
    JournalFull,
    LogFrozen,
    LogUnavailable,
    Malformed,
    OutOfSequence,
    QueueFull,
    Refused,
    Rollback,
    UnknownWriter,
)
from iap_authz.records.record import parse_record
from iap_authz.records.room import Room
from iap_authz.sidecar.log_alarms import Alarm
from iap_authz.sidecar.shipper import BACKOFF_MAX_SECONDS, CHORES_SECONDS, COVER_SECONDS, DRAIN_SECONDS, ShipperSettings
from iap_authz.tlog.checkpoint import open_checkpoint
from tests.fakes.journal import FixedSigner
from tests.fakes.lies import EARLIER, LIES
from tests.fakes.senders import MemoryCheckpoints
from tests.fakes.shipping import TOKEN, PublishingLog, Witness, World, large_record, process
from tests.fakes.timers import settle, until

REFUSE = ShipperSettings(enrolment_token=TOKEN, refuse=True, cosign_deadline_seconds=60)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def records_of(log: PublishingLog, writer: bytes) -> list[int]:
    """The sequences of a writer's records, in the order of the log."""
    return [int(record.sequence) for record in map(parse_record, log.leaves) if record.writer == writer]


def refuses(world: World) -> bool:
    """Asked anew each time: it is computed from the clock."""
    return world.shipper.refuses


# ---- shipping


def test_records_are_in_the_log_in_their_order(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            for count in (1, 300, 2, 1_500):
                await world.append(count)
            await world.shipped(1_804)
            assert records_of(log, world.writer) == list(range(1_804))
            (registered,) = log.requests("register")
            assert isinstance(registered, log_pb2.RegisterRequest)
            assert registered.enrolment_token == TOKEN
            assert max(end - begin for begin, end in log.appended(world.writer)) <= 1_024
            assert open_checkpoint(world.shipper.log_checkpoint, log.verifier).size == len(log.leaves)
            assert world.shipper.alarms == frozenset()

    run(test)


def test_g4_each_batch_quotes_the_last_checkpoint(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            for position in range(2, 5):
                await world.append()
                await world.shipped(position)
            quoted = [request.last_log_checkpoint for request in log.requests("append")]  # type: ignore[attr-defined]
            assert quoted[0] == b""
            assert [open_checkpoint(note, log.verifier).size for note in quoted[-2:]] == sorted(
                open_checkpoint(note, log.verifier).size for note in quoted[-2:]
            )

    run(test)


def test_new_groups_are_shipped_without_any_time_passing(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            before = world.clock.monotonic()
            for position in range(2, 12):
                await world.append()
                await asyncio.wait_for(world.shipper.shipped(position - 1), 30)
            assert world.clock.monotonic() == before

    run(test)


def test_what_waits_meanwhile_is_one_batch_and_one_is_in_flight(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            log.hold()
            await world.append()
            await until(lambda: len(log.appended(world.writer)) > 0 and log.appended(world.writer)[-1] == (1, 2))
            offered = len(log.calls)
            for _ in range(5):
                await world.append(3)
            await settle()
            assert len(log.calls) == offered
            log.release()
            await world.shipped(17)
            assert log.appended(world.writer)[-2:] == [(1, 2), (2, 17)]

    run(test)


def test_those_who_wait_are_told_when_a_receipt_covers_their_record(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        log.hold()
        async with process(tmp_path, log) as world:
            await world.append(3)
            first, last, beyond = (world.shipper.shipped(sequence) for sequence in (0, 3, 4))
            assert not first.done()
            log.release()
            await asyncio.wait([first, last])
            assert world.shipper.shipped(2).done()
            assert not beyond.done()
            beyond.cancel()
            await settle(2)
            assert world.shipper._waiting == {}  # noqa: SLF001 -- whoever gives up leaves nothing behind

    run(test)


@pytest.mark.parametrize("replies", [1, 2, 3])
def test_a1_a_lost_reply_is_asked_for_with_the_same_boundaries(tmp_path: Path, replies: int) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            log.lose_replies(replies)
            await world.append(4)
            await until(lambda: log.holds(world.writer) == 5)
            await world.append(4)
            await world.shipped(9, seconds=0.1)
            assert log.appended(world.writer)[-replies - 2 :] == [(1, 5)] * (replies + 1) + [(5, 9)]
            assert log.requests("get_receipts") == []
            assert records_of(log, world.writer) == list(range(9))

    run(test)


# ---- resuming


def test_a_restart_ships_the_dead_writer_and_removes_it(tmp_path: Path) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        log.publishes_all = True
        async with process(tmp_path, log, seed="first", checkpoints=checkpoints, runs=False) as world:
            await world.append(30)
        async with process(tmp_path, log, seed="second", checkpoints=checkpoints) as world:
            await world.shipped(1)
            first = FixedSigner("first").writer
            assert log.holds(first) == 31
            assert records_of(log, first) == list(range(31))
            assert max(i for i, leaf in enumerate(log.leaves) if parse_record(leaf).writer == first) < min(
                i for i, leaf in enumerate(log.leaves) if parse_record(leaf).writer == world.writer
            )
            await until(lambda: len(writer_directories(tmp_path)) == 1, lambda: world.clock.advance(0.2))
            assert world.backlog.writers == (world.writer,)

    run(test)


def test_several_dead_writers_go_one_after_the_other(tmp_path: Path) -> None:
    async def test() -> None:
        log, seeds = PublishingLog(), ("a", "b", "c")
        for seed in seeds:
            async with process(tmp_path, log, seed=seed, runs=False) as world:
                await world.append(3)
        async with process(tmp_path, log, seed="d") as world:
            order = list(world.backlog.writers)
            await world.shipped(1)
            by_log = [parse_record(leaf).writer for leaf in log.leaves]
            assert [writer for writer in dict.fromkeys(by_log) if writer in order] == order
            assert len(order) == 4

    run(test)


def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        first = FixedSigner("first").writer
        async with process(tmp_path, log, seed="first", checkpoints=checkpoints) as world:
            await world.append(5)
            await world.shipped(6, seconds=0.3)
            await until(lambda: load_shipped(tmp_path / first.hex()) == 6, lambda: world.clock.advance(0.3))
            log.hold()
            await world.append(5)
            await settle()
        log.release()
        offered = len(log.appended(first))
        async with process(tmp_path, log, seed="second", checkpoints=checkpoints) as world:
            await world.shipped(1)
            assert log.appended(first)[offered:] == [(6, 11)]
            assert log.requests("get_receipts") == []

    run(test)


def test_a2_what_was_shipped_and_not_stored_is_proven_by_its_receipts(tmp_path: Path) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        first = FixedSigner("first").writer
        async with process(tmp_path, log, seed="first", checkpoints=checkpoints) as world:
            for position in range(2, 8):
                await world.append()
                await world.shipped(position)
        batches = log.appended(first)
        async with process(tmp_path, log, seed="second", checkpoints=checkpoints) as world:
            await world.shipped(1)
            assert log.requests("get_receipts")
            assert log.appended(first)[len(batches) :][0][0] <= 1
            assert records_of(log, first) == list(range(7))
            assert world.shipper.alarms == frozenset()

    run(test)


@pytest.mark.parametrize("lost", ["view", "nothing"])
def test_a2_receipts_are_verified_also_when_the_checkpoint_was_lost(tmp_path: Path, lost: str) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        log.publishes_all = True
        async with process(tmp_path, log, seed="first", checkpoints=checkpoints) as world:
            for position in range(2, 5):
                await world.append()
                await world.shipped(position)
            folder = tmp_path / world.writer.hex()
            await until(lambda: load_shipped(folder) == 4, lambda: world.clock.advance(0.3))
        kept = MemoryCheckpoints() if lost == "view" else checkpoints
        asked = len(log.requests("get_receipts"))
        async with process(tmp_path, log, seed="second", checkpoints=kept) as world:
            await world.shipped(1)
            await until(lambda: len(writer_directories(tmp_path)) == 1, lambda: world.clock.advance(0.3))
            assert (len(log.requests("get_receipts")) > asked) == (lost == "view")

    run(test)


def test_a2_a_number_alone_moves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            await world.append(3)
            await world.shipped(4)
            await world.ready()
            log.fail_next(OutOfSequence("go on", 7))
            await world.append(3)
            await world.alarmed(Alarm.UNPROVEN)
            assert world.shipper.position == 4
            await world.shipped(7, seconds=1.0)
            await world.alarmed()

    run(test)


@pytest.mark.parametrize("expected", [4, 8, 10**6, 2**64 - 1])
def test_an_expectation_that_cannot_be_is_unproven(tmp_path: Path, expected: int) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.append(3)
            await world.shipped(4)
            await world.ready()
            log.fail_next(OutOfSequence("go on", expected))
            await world.append(3)
            await world.alarmed(Alarm.UNPROVEN)
            assert world.shipper.position == 4
            await world.shipped(7, seconds=1.0)

    run(test)


# ---- lies


def test_the_note_of_an_answer_that_does_not_hold_is_kept_as_evidence(tmp_path: Path) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        async with process(tmp_path, log, checkpoints=checkpoints) as world:
            await world.ready()
            log.fork(at=1)  # what was signed before is no prefix of what is signed from now on
            await world.append(3)
            await world.alarmed(Alarm.UNPROVEN)
            (alert,) = await world.alerts()
            assert list(alert.evidence) == [checkpoints.notes[-1], log.notes[len(log.leaves)]]
            assert world.shipper.position == 1

    run(test)


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_a_batch_moves_nothing_and_is_an_alarm(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        async with process(tmp_path, log, checkpoints=checkpoints) as world:
            await world.append(2)
            await world.shipped(3)
            await world.ready()
            believed = list(checkpoints.notes)
            LIES[name].tell(log)
            await world.append(3)
            await until(lambda: Alarm.UNPROVEN in world.shipper.alarms)
            assert (world.shipper.position, checkpoints.notes) == (3, believed)
            assert not world.shipper.shipped(3).done()
            (alert,) = [one for one in await world.alerts() if one.kind == "log_unproven"]
            assert (alert.severity, alert.evidence[0]) == ("critical", believed[-1])
            if name in EARLIER:
                log.be_honest()
                await world.shipped(6, seconds=1.0)
                assert Alarm.UNPROVEN not in world.shipper.alarms

    run(test)


def test_an_alarm_is_said_once_when_it_begins_and_once_when_it_ends(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            LIES["flipped signature"].tell(log)
            await world.append()
            await until(lambda: len(log.requests("append")) > 6, lambda: world.clock.advance(1.0))
            log.be_honest()
            await world.shipped(2, seconds=1.0)
            await world.append()
            await world.shipped(5, seconds=1.0)
            assert [(one.kind, one.severity) for one in await world.alerts() if one.kind == "log_unproven"] == [
                ("log_unproven", "critical"),
                ("log_unproven", "info"),
            ]

    run(test)


def test_a_lie_is_asked_about_again_every_five_seconds_at_most(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            LIES["no range proof"].tell(log)
            await world.append()
            await world.alarmed(Alarm.UNPROVEN)
            offered = len(log.requests("append"))
            world.clock.advance(4.9)
            await settle()
            assert len(log.requests("append")) == offered
            world.clock.advance(0.2)
            await until(lambda: len(log.requests("append")) == offered + 1)

    run(test)


def test_a_fork_ends_shipping_for_good(tmp_path: Path) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        async with process(tmp_path, log, checkpoints=checkpoints, settings=REFUSE) as world:
            await world.ready()
            log.fork(at=1)
            log.publish()
            await until(lambda: Alarm.FORK in world.shipper.alarms, lambda: world.clock.advance(0.3))
            believed, calls = list(checkpoints.notes), len(log.calls)
            await world.append(3)
            world.clock.advance(100)
            await settle()
            assert (len(log.calls), checkpoints.notes) == (calls, believed)
            assert refuses(world)
            alert = next(one for one in await world.alerts() if one.kind == "log_fork")
            assert list(alert.evidence) == [believed[-1], log.notes[open_checkpoint(believed[-1], log.verifier).size]]
            sizes = {open_checkpoint(note, log.verifier) for note in alert.evidence}
            assert len({one.size for one in sizes}) == 1
            assert len({one.root for one in sizes}) == 2

    run(test)


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a5_a_log_that_denies_what_it_proved_has_rolled_back(tmp_path: Path, *, restart: bool) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        seed, writer = "first", FixedSigner("first").writer
        async with process(tmp_path, log, seed=seed, checkpoints=checkpoints) as world:
            await world.append(3)
            await world.shipped(4, seconds=0.3)
            await until(lambda: load_shipped(tmp_path / writer.hex()) == 4, lambda: world.clock.advance(0.3))
            log.hold()
            await world.append(3)
            if not restart:
                await until(lambda: log.appended(writer)[-1] == (4, 7), lambda: world.clock.advance(0.3))
                log.roll_back(to=3)
                log.release()
                await world.alarmed(Alarm.ROLLBACK)
                assert world.shipper.position == 4
        if not restart:
            return
        log.roll_back(to=3)
        log.release()
        async with process(tmp_path, log, seed="second", checkpoints=checkpoints) as world:
            await until(lambda: Alarm.ROLLBACK in world.shipper.alarms)
            alert = next(one for one in await world.alerts() if one.kind == "log_rollback")
            assert alert.evidence[0] == checkpoints.notes[-1]
            assert len(writer_directories(tmp_path)) == 2

    run(test)


def test_a5_a_log_that_forgot_a_writer_has_rolled_back(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            log.fail_next(UnknownWriter("who are you"))
            await world.append()
            await world.alarmed(Alarm.ROLLBACK)
            assert len(log.requests("register")) == 1

    run(test)


@pytest.mark.parametrize(
    "error",
    [
        Refused("no"),
        LogFrozen("an operator has to look"),
        Malformed("what is this"),
        BadProof("your records are not those of your note"),
        Fork("you forked", []),
        Rollback("you rolled back", []),
        IapError("whatever"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_log_claims_is_a_refusal_and_no_proof(tmp_path: Path, error: IapError) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log, settings=REFUSE) as world:
            await world.ready()
            log.fail_next(error)
            await world.append()
            await world.alarmed(Alarm.REFUSED)
            assert not refuses(world)
            await world.shipped(2, seconds=1.0)
            await world.alarmed(seconds=1.0)

    run(test)


def test_a_defect_that_an_answer_finds_in_us_ends_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            log.fail_next(RecursionError("deep"))
            await world.append()
            await world.alarmed(Alarm.UNPROVEN)
            await world.shipped(2, seconds=1.0)

    run(test)


def test_one_writer_that_is_refused_does_not_hold_up_the_others(tmp_path: Path) -> None:
    class Picky(PublishingLog):
        async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
            if request.writer == FixedSigner("first").writer:
                raise Refused("this writer is retired")
            return await super().append(request)

    async def test() -> None:
        log = Picky()
        async with process(tmp_path, log, seed="first", runs=False) as world:
            await world.append(3)
        async with process(tmp_path, log, seed="second") as world:
            await world.append(3)
            await world.shipped(4)
            assert world.shipper.alarms == {Alarm.REFUSED}

    run(test)


def test_a_request_that_waits_goes_before_the_dead(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log, seed="first", runs=False) as world:
            await world.append(3)
        async with process(tmp_path, log, seed="second", runs=False) as world:
            await asyncio.sleep(0)
            waiting = world.shipper.shipped(0)
            world.run()
            await asyncio.wait([waiting])
            assert log.holds(FixedSigner("first").writer) == 0
            await until(lambda: log.holds(FixedSigner("first").writer) == 4)

    run(test)


def test_a_journal_that_was_damaged_stops_its_lane_and_no_other(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log, seed="first", runs=False) as world:
            await world.append(3)
        async with process(tmp_path, log, seed="second", runs=False) as world:
            (path,) = segment_paths(tmp_path / FixedSigner("first").writer.hex())
            path.write_bytes(path.read_bytes()[:300] + b"x" + path.read_bytes()[301:])
            world.run()
            await world.shipped(1)
            assert world.shipper.alarms == {Alarm.DAMAGED}
            assert log.holds(FixedSigner("first").writer) == 0

    run(test)


# ---- a log that does not answer


def test_a_full_queue_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            log.fail_next(QueueFull("come again", 7.0))
            await world.append(2)
            await until(lambda: bool(log.appended(world.writer)) and log.appended(world.writer)[-1] == (1, 3))
            offered = len(log.appended(world.writer))
            await world.append(2)
            world.clock.advance(6.9)
            await settle()
            assert len(log.appended(world.writer)) == offered
            await world.shipped(5, seconds=0.5)
            assert [begin for begin, _ in log.appended(world.writer)[offered:]] == [1, 3]
            assert log.appended(world.writer)[offered] == (1, 3)

    run(test)


def rests_of(world: World) -> list[float]:
    """The pauses that are neither the watch's nor a chore's bound."""
    return [one for one in world.clock.pauses if one not in {CHORES_SECONDS, COVER_SECONDS}]


def test_a_log_that_is_down_is_tried_less_and_less_and_is_back_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            log.down = True
            world.clock.pauses.clear()
            await world.append()
            rests: list[float] = []
            for _ in range(10):
                await until(lambda: bool(rests_of(world)))
                rests.append(round(rests_of(world)[0], 3))
                world.clock.pauses.clear()
                world.clock.advance(rests[-1] + 0.001)
            assert rests == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[BACKOFF_MAX_SECONDS] * 3]
            await until(lambda: Alarm.UNAVAILABLE in world.shipper.alarms, lambda: world.clock.advance(1.0))
            log.down = False
            await world.shipped(2, seconds=1.0)
            await world.alarmed(seconds=1.0)
            kinds = [(one.kind, one.severity) for one in await world.alerts()]
            assert kinds == [("log_unavailable", "critical"), ("log_unavailable", "info")]

    run(test)


def test_a_short_absence_is_no_alarm(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            log.fail_next(*[LogUnavailable("restarting")] * 3)
            await world.append()
            await world.shipped(2, seconds=0.05)
            assert world.shipper.alarms == frozenset()

    run(test)


def test_a_log_that_hangs_is_an_alarm_too(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        log.publishes_all = True
        async with process(tmp_path, log, settings=REFUSE) as world:
            await world.ready()
            log.hold()
            await world.append()
            await until(lambda: bool(log.appended(world.writer)) and log.appended(world.writer)[-1] == (1, 2))
            await world.alarmed(Alarm.UNAVAILABLE, seconds=1.0)
            assert not refuses(world)
            world.clock.advance(60)
            assert refuses(world)
            log.release()
            await until(lambda: not refuses(world), lambda: world.clock.advance(0.1))

    run(test)


def test_with_continue_nothing_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            LIES["no range proof"].tell(log)
            await world.append()
            await world.alarmed(Alarm.UNPROVEN)
            world.clock.advance(1_000)
            assert not refuses(world)

    run(test)


def test_refuse_while_the_log_is_at_fault_and_no_longer(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log, settings=REFUSE) as world:
            await world.ready()
            assert not refuses(world)
            LIES["no range proof"].tell(log)
            await world.append()
            await world.alarmed(Alarm.UNPROVEN)
            assert refuses(world)
            log.be_honest()
            await world.shipped(2, seconds=1.0)
            assert not refuses(world)

    run(test)


# ---- trimming, by rule G1


async def fill_segments(world: World, count: int = 40) -> None:
    for _ in range(count // 4):
        await world.append(4, large=True)
    await world.shipped(count + 1)


def firsts(world: World) -> list[int]:
    return [int(path.stem) for path in segment_paths(tmp_of(world))]


def tmp_of(world: World) -> Path:
    return world.directory / world.writer.hex()


def test_g1_nothing_goes_before_a_checkpoint_is_published(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await fill_segments(world)
            await world.looked(4)
            assert firsts(world)[0] == 0
            size = sorted(log.notes)[len(log.notes) // 2]
            log.publish(size)
            await until(lambda: firsts(world)[0] > 0, lambda: world.clock.advance(0.3))
            await world.looked(4)
            covered = len(records_of_prefix(log, world, size))
            assert 0 < firsts(world)[0] <= covered
            assert all(first > covered for first in firsts(world)[1:])
            log.publish()
            await until(lambda: len(firsts(world)) == 1, lambda: world.clock.advance(0.3))

    run(test)


def records_of_prefix(log: PublishingLog, world: World, size: int) -> list[int]:
    return [1 for leaf in log.leaves[:size] if parse_record(leaf).writer == world.writer]


def test_g1_only_a_quorum_of_witnesses_covers(tmp_path: Path) -> None:
    one, two, stranger = Witness("w.example/one"), Witness("w.example/two"), Witness("w.example/stranger")
    settings = ShipperSettings(
        enrolment_token=TOKEN, witnesses=(one.key, two.key), quorum=2, refuse=True, cosign_deadline_seconds=60
    )

    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log, settings=settings) as world:
            await fill_segments(world)
            for witnesses in ((), (one,), (one, stranger)):
                log.publish(None, *witnesses)
                await world.looked(3)
                assert firsts(world)[0] == 0
            await until(lambda: Alarm.NOT_COSIGNED in world.shipper.alarms, lambda: world.clock.advance(5.0))
            assert refuses(world)
            log.publish(None, one, two)
            await until(lambda: len(firsts(world)) == 1, lambda: world.clock.advance(0.3))
            await until(lambda: Alarm.NOT_COSIGNED not in world.shipper.alarms)
            assert not refuses(world)

    run(test)


def test_g1_a_published_checkpoint_of_another_tree_covers_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        log, other = PublishingLog(), PublishingLog()
        other.leaves = [b"another"] * 5
        other._append([b"tree"])  # noqa: SLF001 -- a second tree by the same key
        async with process(tmp_path, log) as world:
            await fill_segments(world)
            log.published = other.notes[6]
            await world.alarmed(Alarm.UNPROVEN, seconds=0.3)
            assert firsts(world)[0] == 0
            log.publish()
            await until(lambda: len(firsts(world)) == 1, lambda: world.clock.advance(0.5))
            await world.alarmed(seconds=0.3)

    run(test)


def test_g1_a_published_checkpoint_may_be_ahead_of_ours(tmp_path: Path) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        async with process(tmp_path, log, checkpoints=checkpoints) as world:
            await fill_segments(world)
            log._append([b"of another writer"])  # noqa: SLF001 -- the log has grown without us
            log.publish()
            await until(lambda: len(firsts(world)) == 1, lambda: world.clock.advance(0.3))
            assert checkpoints.notes[-1] == log.published

    run(test)


def test_g2_with_a_quorum_the_first_checkpoint_is_a_cosigned_one(tmp_path: Path) -> None:
    witness = Witness("w.example/one")
    settings = ShipperSettings(enrolment_token=TOKEN, witnesses=(witness.key,), quorum=1)

    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        log._append([b"before us"])  # noqa: SLF001 -- the log has a past
        log.publish()
        async with process(tmp_path, log, checkpoints=checkpoints, settings=settings) as world:
            await world.looked(4)
            assert (checkpoints.notes, log.requests("append")) == ([], [])
            log.publish(1, witness)
            await world.shipped(1, seconds=1.0)
            assert checkpoints.notes[0] == log.published

    run(test)


def test_a_crash_between_stored_and_trimmed_is_made_good(tmp_path: Path) -> None:
    async def test() -> None:
        log, checkpoints = PublishingLog(), MemoryCheckpoints()
        first = FixedSigner("first").writer
        async with process(tmp_path, log, seed="first", checkpoints=checkpoints) as world:
            await fill_segments(world)
            await until(lambda: load_shipped(tmp_of(world)) == 41, lambda: world.clock.advance(0.3))
            assert firsts(world)[0] == 0
        log.publish()
        async with process(tmp_path, log, seed="second", checkpoints=checkpoints) as world:
            await until(lambda: not (tmp_path / first.hex()).exists(), lambda: world.clock.advance(0.3))
            await world.shipped(1, seconds=0.3)
            assert log.appended(first)[-1][1] == 41

    run(test)


async def fill_up(world: World) -> None:
    """Until the journal takes no more."""
    with contextlib.suppress(JournalFull):
        while True:
            await world.append(4, large=True)


def test_r2_a_full_journal_comes_back_through_the_log(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        log.publishes_all = True
        log.hold()
        async with process(tmp_path, log) as world:
            await fill_up(world)
            assert world.journal.used_bytes > 7 << 20
            log.release()
            await until(lambda: world.journal.used_bytes < 2 << 20, lambda: world.clock.advance(0.03))
            world.journal.append_nowait(large_record, room=Room.ALLOW)

    run(test)


def test_a_log_whose_published_checkpoint_hangs_still_takes_records(tmp_path: Path) -> None:
    class Hanging(PublishingLog):
        async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
            self.calls.append(("get_checkpoint", request))
            await asyncio.Event().wait()
            raise AssertionError

    async def test() -> None:
        log = Hanging()
        async with process(tmp_path, log) as world:
            for position in range(2, 6):
                await world.append()
                await world.shipped(position, seconds=0.3)
            assert log.requests("get_checkpoint")

    run(test)


# ---- the end


def test_the_end_waits_for_the_last_record_and_stores_how_far_it_came(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.append(5)
            await world.shipper.drain()
            assert log.holds(world.writer) == 6
            assert load_shipped(tmp_of(world)) == 6

    run(test)


def test_the_end_does_not_wait_for_long(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        log.hold()
        async with process(tmp_path, log) as world:
            await world.append(5)
            draining = asyncio.create_task(world.shipper.drain())
            await until(lambda: DRAIN_SECONDS in world.clock.pauses)
            assert not draining.done()
            world.clock.advance(DRAIN_SECONDS)
            await draining

    run(test)


@pytest.mark.parametrize("how", ["ended", "fault"])
def test_the_end_does_not_wait_for_nobody(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        log = PublishingLog()
        async with process(tmp_path, log) as world:
            await world.ready()
            if how == "fault":
                log.fail_next(UnknownWriter("who are you"))
                await world.append()
                await world.alarmed(Alarm.ROLLBACK)
            else:
                log.hold()
                await world.append()
                await world.end()
            await world.shipper.drain()
            assert log.holds(world.writer) == 1

    run(test)


# ---- disks


def test_w4_a_disk_that_fails_ends_the_shipper(tmp_path: Path) -> None:
    async def test() -> None:
        checkpoints = MemoryCheckpoints()
        checkpoints.error = OSError(5, "I/O error")
        async with process(tmp_path, PublishingLog(), checkpoints=checkpoints) as world:
            assert world.running is not None
            with pytest.raises(OSError, match="I/O error"):
                await asyncio.wait_for(asyncio.shield(world.running), 30)

    run(test)


def test_a_disk_that_is_full_is_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        checkpoints = MemoryCheckpoints()
        checkpoints.error = OSError(28, "No space left on device")
        log = PublishingLog()
        async with process(tmp_path, log, checkpoints=checkpoints) as world:
            await until(lambda: len(log.calls) > 6, lambda: world.clock.advance(1.0))
            assert world.shipper.position == 0
            checkpoints.error = None
            await world.shipped(1, seconds=1.0)

    run(test)
