# SPDX-License-Identifier: Apache-2.0
"""`ports.HeadStore`: one suite for every implementation."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from iap_authz.adapters.stores.head_sqlite import SqliteHeadStore
from iap_authz.errors import HeadMoved
from iap_authz.ports import Freeze, Head, HeadStore
from iap_authz.tlog.hashing import NodeHash, TreeSize
from tests.fakes.clock import START
from tests.fakes.stores import MemoryHeadStore

Open = Callable[[], HeadStore]


def same(store: HeadStore) -> Open:
    return lambda: store


@pytest.fixture(params=["sqlite", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the one store of a test: each time as another process would."""
    with ExitStack() as opened:
        if request.param == "sqlite":
            yield lambda: opened.enter_context(closing(SqliteHeadStore(tmp_path / "head.db")))
        else:
            yield same(MemoryHeadStore())


def digest(of: object) -> bytes:
    return sha256(repr(of).encode()).digest()


def head(size: int, *, seconds: float | None = None) -> Head:
    time = START + timedelta(seconds=size if seconds is None else seconds)
    return Head(size=TreeSize(size), root=NodeHash(digest(size)), time=time, stage_sha256=digest((size, time)))


FREEZE = Freeze(because="two notes of one size \N{SNOWMAN}", evidence=(b"note one\n", b"", b"\x00\xff", bytes(100_000)))


def test_a_new_store_has_no_head(reopen: Open) -> None:
    assert reopen().load() is None
    assert reopen().load_freeze() is None


def test_what_was_committed_is_loaded(reopen: Open) -> None:
    reopen().swap(head(0), expected=None)
    assert reopen().load() == head(0)
    reopen().swap(head(5), expected=head(0))
    assert reopen().load() == head(5)


@pytest.mark.parametrize(
    "time",
    [
        START + timedelta(microseconds=1),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 10, 25, 2, 30, 0, 7, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_times_are_kept_to_the_microsecond(reopen: Open, time: datetime) -> None:
    reopen().swap(replace(head(1), time=time), expected=None)
    loaded = reopen().load()
    assert loaded is not None
    assert loaded.time == time
    assert loaded.time.utcoffset() is not None


def test_the_largest_size_is_kept(reopen: Open) -> None:
    reopen().swap(head((1 << 63) - 1, seconds=1), expected=None)
    assert reopen().load() == head((1 << 63) - 1, seconds=1)


OTHER = {
    "none": None,
    "size": replace(head(5), size=TreeSize(4)),
    "root": replace(head(5), root=NodeHash(digest("other"))),
    "time": replace(head(5), time=head(5).time + timedelta(microseconds=1)),
    "stage": replace(head(5), stage_sha256=digest("other")),
    "older": head(3),
}


@pytest.mark.parametrize("what", OTHER)
def test_another_head_has_moved_and_stays(reopen: Open, what: str) -> None:
    reopen().swap(head(3), expected=None)
    reopen().swap(head(5), expected=head(3))
    with pytest.raises(HeadMoved):
        reopen().swap(head(9), expected=OTHER[what])
    assert reopen().load() == head(5)
    reopen().swap(head(9), expected=head(5))
    assert reopen().load() == head(9)


def test_a_head_that_is_not_there_is_not_expected(reopen: Open) -> None:
    with pytest.raises(HeadMoved):
        reopen().swap(head(5), expected=head(3))
    assert reopen().load() is None


def test_the_same_swap_twice_has_moved(reopen: Open) -> None:
    store = reopen()
    store.swap(head(3), expected=None)
    store.swap(head(5), expected=head(3))
    with pytest.raises(HeadMoved):
        store.swap(head(5), expected=head(3))


@pytest.mark.parametrize(
    "next_head",
    [head(5, seconds=3), head(5, seconds=2.999_999), head(3, seconds=4), head(2, seconds=4), head(3)],
    ids=["same time", "earlier", "same size", "smaller", "itself"],
)
def test_t3_time_and_size_only_grow(reopen: Open, next_head: Head) -> None:
    store = reopen()
    store.swap(head(3), expected=None)
    with pytest.raises(ValueError, match="got a head"):
        store.swap(next_head, expected=head(3))
    assert reopen().load() == head(3)


@pytest.mark.parametrize(
    "wrong", [{"time": START.replace(tzinfo=None)}, {"root": b"short"}, {"stage_sha256": b""}], ids=str
)
def test_what_is_no_head_is_not_committed(reopen: Open, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^got "):
        reopen().swap(replace(head(3), **wrong), expected=None)
    assert reopen().load() is None


def test_of_racing_swaps_one_wins(reopen: Open) -> None:
    stores, before = [reopen() for _ in range(4)], head(0)
    stores[0].swap(before, expected=None)

    def swap(number: int, expected: Head) -> bool:
        with suppress(HeadMoved):
            stores[number].swap(racing(number, expected), expected=expected)
            return True
        return False

    def racing(number: int, expected: Head) -> Head:
        return head(expected.size + 1 + number)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            won = [done.result() for done in [threads.submit(swap, number, before) for number in range(4)]]
            assert won.count(True) == 1
            before = racing(won.index(True), before)
            assert reopen().load() == before


def test_it_may_be_used_in_another_thread(reopen: Open) -> None:
    store = reopen()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(store.swap, head(1), expected=None).result()
        thread.submit(store.freeze, FREEZE).result()
        assert thread.submit(store.load).result() == head(1)
    assert store.load() == head(1)


@pytest.mark.parametrize("freeze", [FREEZE, Freeze(because="", evidence=()), Freeze(because="x", evidence=(b"",))])
def test_a_freeze_is_kept(reopen: Open, freeze: Freeze) -> None:
    reopen().freeze(freeze)
    assert reopen().load_freeze() == freeze


def test_the_first_freeze_stays(reopen: Open) -> None:
    reopen().freeze(FREEZE)
    reopen().freeze(Freeze(because="later", evidence=(b"other",)))
    assert reopen().load_freeze() == FREEZE


def test_a_freeze_and_the_head_leave_each_other_alone(reopen: Open) -> None:
    reopen().swap(head(1), expected=None)
    reopen().freeze(FREEZE)
    reopen().swap(head(2), expected=head(1))
    assert (reopen().load(), reopen().load_freeze()) == (head(2), FREEZE)
