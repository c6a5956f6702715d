# SPDX-License-Identifier: Apache-2.0
"""Alarms: said once, with evidence that fits in a record, and lanes that know what is covered."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.records.room import Room
from iap_authz.sidecar.lanes import PROVEN_MAX, Lane
from iap_authz.sidecar.log_alarms import EVIDENCE_MAX_BYTES, Alarm, LogAlarms
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.note import SignatureLine, add_signatures, parse_note, render_note
from tests.fakes.clock import ManualClock
from tests.fakes.journal import ORIGIN, FixedSigner, MemoryJournal, start_record
from tests.fakes.made_log import MadeLog

WRITER = FixedSigner().writer


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def made() -> tuple[LogAlarms, MemoryJournal]:
    journal = MemoryJournal()
    journal.append_nowait(lambda _, __: start_record(FixedSigner()), room=Room.RESERVE)
    return LogAlarms(journal, ManualClock(), origin=ORIGIN), journal


def alerts(journal: MemoryJournal) -> list[record_pb2.Alert]:
    return [record.alert for record in journal.records if record.HasField("alert")]


def test_an_alarm_of_several_is_on_until_the_last_of_them_is_over() -> None:
    async def test() -> None:
        alarms, journal = made()
        alarms.start(Alarm.REFUSED, "no", about=WRITER)
        alarms.start(Alarm.REFUSED, "no")
        alarms.end([Alarm.REFUSED], about=WRITER)
        alarms.end([Alarm.REFUSED], about=WRITER)
        assert alarms.kinds == {Alarm.REFUSED}
        alarms.end([Alarm.REFUSED])
        assert alarms.kinds == frozenset()
        assert [(one.rule, one.kind, one.severity) for one in alerts(journal)] == [
            ("audit-log", "log_refused", "critical"),
            ("audit-log", "log_refused", "info"),
        ]
        assert set(journal.rooms) == {Room.RESERVE}

    run(test)


def test_a_fork_is_never_over() -> None:
    async def test() -> None:
        alarms, journal = made()
        alarms.start(Alarm.FORK, "two roots", evidence=[b"one", b"two"])
        alarms.end(list(Alarm))
        assert (alarms.kinds, alarms.is_final, alarms.says_false) == ({Alarm.FORK}, True, True)
        (alert,) = alerts(journal)
        assert list(alert.evidence) == [b"one", b"two"]

    run(test)


def test_evidence_that_is_too_long_keeps_what_the_log_signed() -> None:
    async def test() -> None:
        log = MadeLog()
        log.add_own(record_pb2.Alert())
        note = log.note()
        padding = [
            SignatureLine(name=f"w.example/{n}", key_id=bytes([n, 0, 0, 1]), signature=bytes(3_000)) for n in range(12)
        ]
        long = render_note(add_signatures(parse_note(note), padding))
        assert len(long) > EVIDENCE_MAX_BYTES
        alarms, journal = made()
        alarms.start(Alarm.FORK, "two roots", evidence=[long, bytes(EVIDENCE_MAX_BYTES + 1), note])
        (alert,) = alerts(journal)
        assert list(alert.evidence) == [note, note]
        assert open_checkpoint(alert.evidence[0], log.key) == log.checkpoint()

    run(test)


def test_an_alarm_without_room_in_the_journal_is_on_all_the_same() -> None:
    async def test() -> None:
        alarms, journal = made()
        journal.full = set(Room)
        alarms.start(Alarm.UNPROVEN, "no proof")
        assert (alarms.says_false, alarms.is_final, alerts(journal)) == (True, False, [])

    run(test)


def test_g1_a_lane_is_covered_up_to_the_last_receipt_that_a_checkpoint_holds() -> None:
    lane = Lane(writer=WRITER)
    for end, size in ((3, 10), (5, 20), (6, 20), (9, 31)):
        lane.advance(end, size)
    assert [(lane.cover(size), lane.covered) for size in (9, 10, 19, 20, 30, 31, 40)] == [
        (False, 0),
        (True, 3),
        (False, 3),
        (True, 6),
        (False, 6),
        (True, 9),
        (False, 9),
    ]


def test_g1_many_receipts_that_wait_are_joined_and_never_covered_too_early() -> None:
    lane, receipts = Lane(writer=WRITER), [(end, 3 * end) for end in range(1, 3 * PROVEN_MAX)]
    for end, size in receipts:
        lane.advance(end, size)
    assert len(lane.proven) <= PROVEN_MAX
    assert lane.proven[-1] == receipts[-1]
    for size in range(0, receipts[-1][1] + 1, 97):
        lane.cover(size)
        assert lane.covered <= size // 3
    lane.cover(receipts[-1][1])
    assert (lane.covered, lane.proven) == (receipts[-1][0], deque())
