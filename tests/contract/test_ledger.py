# SPDX-License-Identifier: Apache-2.0
"""What every `Ledger` keeps (rules A1 to A4), and what the one in SQLite keeps besides."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from iap_authz.adapters.trail.index import SqlIndex
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.store import open_trail
from iap_authz.errors import Corrupt
from iap_authz.model.ids import WriterId
from iap_authz.ports import BatchRow, Ledger, RoundRows, WriterRow
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize
from tests.fakes.clock import START
from tests.fakes.stores import MemoryLedger
from tests.fakes.trail import WRITERS, decision_leaf

FIRST, SECOND = WRITERS
NOTE = b"log.example/origin\n5\nroot\n\n\xe2\x80\x94 log.example signature\n"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_trail(tmp_path / "trail")
    yield opened
    opened.dispose()


@pytest.fixture(params=["sql", "memory"])
def ledger(request: pytest.FixtureRequest, engine: Engine) -> Ledger:
    return SqlLedger(engine) if request.param == "sql" else MemoryLedger()


def writer_row(writer: WriterId = FIRST, *, size: int = 3, retired: int | None = None, note: bytes = NOTE) -> WriterRow:
    return WriterRow(
        writer=writer,
        public_key=bytes([writer[0]]) * 32,
        workload="spiffe://example.com/überprüfung",
        registered_index=LeafIndex(0),
        retired_index=None if retired is None else LeafIndex(retired),
        size=size,
        tree=tuple(NodeHash(bytes([level]) * 32) for level in range(size.bit_count())),
        note=note,
        last_seen=START + timedelta(microseconds=size),
    )


def batch_row(begin: int, end: int, *, first_index: int, writer: WriterId = FIRST, round_size: int = 9) -> BatchRow:
    return BatchRow(
        writer=writer,
        begin=begin,
        end=end,
        first_index=LeafIndex(first_index),
        round_size=TreeSize(round_size),
    )


def rounds(size: int, **rows: tuple[object, ...]) -> RoundRows:
    return RoundRows(
        size=TreeSize(size),
        notes=rows.get("notes", ()),  # type: ignore[arg-type]
        batches=rows.get("batches", ()),  # type: ignore[arg-type]
        writers=rows.get("writers", ()),  # type: ignore[arg-type]
    )


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert ledger.load() == (0, [])
    assert ledger.note(TreeSize(0)) is None
    assert ledger.batches(FIRST, 0, 1) == []


def test_what_was_added_is_loaded(ledger: Ledger) -> None:
    writers = (writer_row(SECOND, size=0, note=b""), writer_row(FIRST, size=7, retired=12))
    ledger.add(rounds(9, writers=writers))
    assert ledger.load() == (9, [writers[1], writers[0]])


def test_a_writers_row_replaces_its_former_one(ledger: Ledger) -> None:
    ledger.add(rounds(9, writers=(writer_row(FIRST, size=3), writer_row(SECOND, size=1))))
    ledger.add(rounds(20, writers=(writer_row(FIRST, size=11, retired=19),)))
    assert ledger.load() == (20, [writer_row(FIRST, size=11, retired=19), writer_row(SECOND, size=1)])


def test_the_last_row_of_a_writer_in_one_call_stays(ledger: Ledger) -> None:
    ledger.add(rounds(9, writers=(writer_row(size=1), writer_row(size=3))))
    assert ledger.load() == (9, [writer_row(size=3)])


def test_a3_a_note_is_given_byte_for_byte(ledger: Ledger) -> None:
    ledger.add(rounds(9, notes=((TreeSize(5), NOTE), (TreeSize(9), b"\x00\xff\n"))))
    assert ledger.note(TreeSize(5)) == NOTE
    assert ledger.note(TreeSize(9)) == b"\x00\xff\n"
    assert ledger.note(TreeSize(6)) is None


BATCHES = (batch_row(0, 3, first_index=1), batch_row(3, 4, first_index=5), batch_row(4, 10, first_index=7))


@pytest.mark.parametrize("begin", range(12))
@pytest.mark.parametrize("length", [1, 2, 5, 1 << 62])
def test_batches_that_overlap_a_range_are_listed_in_order(ledger: Ledger, begin: int, length: int) -> None:
    other = batch_row(0, 100, first_index=20, writer=SECOND)
    ledger.add(rounds(9, batches=(BATCHES[2], other, BATCHES[0])))
    ledger.add(rounds(150, batches=(BATCHES[1],)))
    end = begin + length
    assert ledger.batches(FIRST, begin, end) == [row for row in BATCHES if row.begin < end and row.end > begin]
    assert ledger.batches(SECOND, begin, end) == [other]


def test_adding_the_same_rounds_again_changes_nothing(ledger: Ledger) -> None:
    """Recovery replays a round whose stage was still there (rule C5)."""
    rows = rounds(15, notes=((TreeSize(9), NOTE),), batches=BATCHES, writers=(writer_row(size=10),))
    ledger.add(rows)
    ledger.add(rows)
    assert ledger.load() == (15, [writer_row(size=10)])
    assert ledger.batches(FIRST, 0, 100) == [*BATCHES]
    assert ledger.note(TreeSize(9)) == NOTE


def test_clearing_keeps_the_notes(ledger: Ledger) -> None:
    ledger.add(rounds(15, notes=((TreeSize(9), NOTE),), batches=BATCHES, writers=(writer_row(size=10),)))
    ledger.clear()
    assert ledger.load() == (0, [])
    assert ledger.batches(FIRST, 0, 100) == []
    assert ledger.note(TreeSize(9)) == NOTE
    rebuilt = (batch_row(0, 10, first_index=1, round_size=15),)
    ledger.add(rounds(15, batches=rebuilt, writers=(writer_row(size=10),)))
    assert ledger.batches(FIRST, 0, 100) == [*rebuilt]


@pytest.mark.parametrize("value", [0, 1, (1 << 63) - 1])
def test_every_size_has_room(ledger: Ledger, value: int) -> None:
    row = batch_row(0, value + 1 if value < 5 else value, first_index=value, round_size=value)
    ledger.add(rounds(value, notes=((TreeSize(value), NOTE),), batches=(row,)))
    assert ledger.load() == (value, [])
    assert ledger.batches(FIRST, 0, 1) == [row]
    assert ledger.note(TreeSize(value)) == NOTE


# ---- what the SQL ledger keeps besides


def test_what_was_added_is_there_after_a_reopening(tmp_path: Path) -> None:
    rows = rounds(15, notes=((TreeSize(9), NOTE),), batches=BATCHES, writers=(writer_row(size=10),))
    engine = open_trail(tmp_path / "trail")
    SqlLedger(engine).add(rows)
    engine.dispose()
    engine = open_trail(tmp_path / "trail")
    ledger = SqlLedger(engine)
    assert ledger.load() == (15, [writer_row(size=10)])
    assert ledger.batches(FIRST, 3, 4) == [BATCHES[1]]
    assert ledger.note(TreeSize(9)) == NOTE
    engine.dispose()


def test_a_round_is_there_whole_or_not_at_all(engine: Engine, tmp_path: Path) -> None:
    ledger = SqlLedger(engine)
    with closing(sqlite3.connect(tmp_path / "trail")) as other, other:
        other.execute("CREATE TRIGGER stop BEFORE INSERT ON standing BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(Exception, match="no room"):
        ledger.add(rounds(15, notes=((TreeSize(9), NOTE),), batches=BATCHES, writers=(writer_row(),)))
    assert ledger.load() == (0, [])
    assert ledger.note(TreeSize(9)) is None
    assert ledger.batches(FIRST, 0, 100) == []


def test_a_range_without_records_has_no_batches(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.add(rounds(15, batches=BATCHES))
    assert ledger.batches(FIRST, 5, 5) == []
    assert ledger.batches(FIRST, 5, 4) == []


def test_the_ledger_does_not_go_back(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.add(rounds(15, writers=(writer_row(size=10),)))
    with pytest.raises(ValueError, match="got rounds up to size 14, want at least 15"):
        ledger.add(rounds(14, writers=(writer_row(size=3),)))
    assert ledger.load() == (15, [writer_row(size=10)])


def test_a3_the_first_note_of_a_size_stays(engine: Engine) -> None:
    """A log that starts with a second key signs its head again: the same checkpoint, one signature more."""
    ledger = SqlLedger(engine)
    ledger.add(rounds(5, notes=((TreeSize(5), NOTE),)))
    ledger.add(rounds(5, notes=((TreeSize(5), NOTE + b"\xe2\x80\x94 log.example another\n"),)))
    assert ledger.note(TreeSize(5)) == NOTE


@pytest.mark.parametrize(
    "rows",
    [
        rounds(9, notes=((TreeSize(5), NOTE.replace(b"root", b"fork")),)),
        rounds(9, batches=(batch_row(0, 2, first_index=1),)),
        rounds(9, batches=(batch_row(0, 3, first_index=2),)),
        rounds(9, notes=((TreeSize(6), b"a"), (TreeSize(6), b"b"))),
    ],
    ids=["note", "end", "place", "in one call"],
)
def test_a1_a3_nothing_is_put_in_the_place_of_what_was_signed(engine: Engine, rows: RoundRows) -> None:
    ledger = SqlLedger(engine)
    ledger.add(rounds(9, notes=((TreeSize(5), NOTE),), batches=BATCHES))
    with pytest.raises(Corrupt, match="got another row in the place of"):
        ledger.add(rows)
    assert ledger.note(TreeSize(5)) == NOTE
    assert ledger.note(TreeSize(6)) is None
    assert ledger.batches(FIRST, 0, 3) == [BATCHES[0]]


CHANGES: dict[str, tuple[str, Callable[[SqlLedger], object]]] = {
    "writers.tree": ("UPDATE writers SET tree = zeroblob(length(tree))", lambda ledger: ledger.load()),
    "writers.registered_index": ("UPDATE writers SET registered_index = 1", lambda ledger: ledger.load()),
    "writers.retired_index": ("UPDATE writers SET retired_index = NULL", lambda ledger: ledger.load()),
    "writers.workload": ("UPDATE writers SET workload = 'x'", lambda ledger: ledger.load()),
    "writers.text": ("UPDATE writers SET workload = CAST(x'ff' AS TEXT)", lambda ledger: ledger.load()),
    "writers.type": ("UPDATE writers SET public_key = 'text'", lambda ledger: ledger.load()),
    "batches.end": ('UPDATE batches SET "end" = "end" + 1', lambda ledger: ledger.batches(FIRST, 0, 1)),
    "batches.first": ("UPDATE batches SET first_index = 0", lambda ledger: ledger.batches(FIRST, 0, 1)),
    "notes.note": ("UPDATE notes SET note = zeroblob(5)", lambda ledger: ledger.note(TreeSize(9))),
    "standing": ("UPDATE standing SET size = -1", lambda ledger: ledger.load()),
    "standing.type": ("UPDATE standing SET size = 'many'", lambda ledger: ledger.load()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_f19_a_row_that_was_changed_is_not_believed(engine: Engine, name: str, tmp_path: Path) -> None:
    statement, ask = CHANGES[name]
    ledger = SqlLedger(engine)
    ledger.add(rounds(15, notes=((TreeSize(9), NOTE),), batches=BATCHES, writers=(writer_row(retired=4),)))
    with closing(sqlite3.connect(tmp_path / "trail")) as other, other:
        other.execute(statement)
    with pytest.raises(Corrupt):
        ask(ledger)


def test_a_ledger_that_is_not_believed_can_be_cleared(engine: Engine, tmp_path: Path) -> None:
    ledger = SqlLedger(engine)
    ledger.add(rounds(15, writers=(writer_row(),)))
    with closing(sqlite3.connect(tmp_path / "trail")) as other, other:
        other.execute("UPDATE writers SET size = 0")
        other.execute("UPDATE standing SET size = -1")
    ledger.clear()
    assert ledger.load() == (0, [])


def test_ledger_and_index_are_written_from_two_threads(engine: Engine) -> None:
    """Both write as fast as they can: neither sees the other's transaction as a failure."""
    ledger, index, failures = SqlLedger(engine), SqlIndex(engine), list[Exception]()

    def write(one: Callable[[int], None]) -> None:
        try:
            for number in range(60):
                one(number)
        except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    def add_round(number: int) -> None:
        ledger.add(rounds(number + 1, notes=((TreeSize(number), NOTE),), writers=(writer_row(size=number),)))

    def add_leaf(number: int) -> None:
        index.add(LeafIndex(number), [decision_leaf(number)], [()])

    threads = [threading.Thread(target=write, args=(one,)) for one in (add_round, add_leaf)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ledger.load() == (60, [writer_row(size=59)])
    assert index.size() == 60
