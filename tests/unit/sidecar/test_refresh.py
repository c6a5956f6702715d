# SPDX-License-Identifier: Apache-2.0
"""A bad source never replaces a good one, and a missing one is not believed for ever."""

import asyncio
from dataclasses import dataclass

import pytest

from iap_authz.errors import ConfigInvalid, SourceUnavailable
from iap_authz.sidecar.refresh import Refresher, Slot


@dataclass
class ManualSource:
    content: str = "one"
    stamp: int = 1
    problem: Exception | None = None
    loads: int = 0

    @property
    def name(self) -> str:
        return "manual"

    def load(self) -> str:
        self.loads += 1
        if self.problem is not None:
            raise self.problem
        return self.content

    def version(self) -> object:
        return self.stamp

    def change(self, content: str, problem: Exception | None = None) -> None:
        self.content, self.problem, self.stamp = content, problem, self.stamp + 1


def loaded(source: ManualSource, max_stale_seconds: float | None = 60.0) -> Slot[str]:
    slot = Slot(source, max_stale_seconds=max_stale_seconds)
    slot.load(0.0)
    return slot


def test_first_load_raises_what_the_source_raises() -> None:
    slot = Slot(ManualSource(problem=ConfigInvalid.of_file("f", "bad")), max_stale_seconds=None)
    with pytest.raises(ConfigInvalid):
        slot.load(0.0)
    assert slot.value(0.0) is None


def test_unchanged_source_is_not_read_again() -> None:
    source = ManualSource()
    slot = loaded(source)
    assert not slot.refresh(1.0)
    assert source.loads == 1
    assert slot.age_seconds(3.0) == 2.0


def test_changed_source_is_swapped_whole() -> None:
    source = ManualSource()
    slot = loaded(source)
    source.change("two")
    assert slot.refresh(1.0)
    assert slot.value(1.0) == "two"
    assert not slot.refresh(2.0)


def test_bad_source_keeps_the_last_good_value_until_its_age_limit() -> None:
    source = ManualSource()
    slot = loaded(source)
    source.change("", ConfigInvalid.of_file("f", "bad"))
    assert not slot.refresh(30.0)
    assert (slot.value(30.0), slot.problem) == ("one", "f: bad")
    assert slot.refresh(61.0)
    assert slot.value(61.0) is None
    assert not slot.refresh(62.0)
    source.change("two")
    assert slot.refresh(63.0)
    assert (slot.value(63.0), slot.problem) == ("two", "")


def test_age_is_judged_once_by_the_look_and_not_again_by_who_asks_later() -> None:
    source = ManualSource()
    slot = loaded(source, max_stale_seconds=1.0)
    assert slot.value(5.0) is None
    assert slot.served == "one"  # what a snapshot is made of, however long the start took
    assert not slot.refresh(5.0)
    assert slot.served == "one"
    source.change("", SourceUnavailable("gone"))
    assert slot.refresh(7.0)
    assert slot.served is None


def test_source_that_comes_late_is_taken() -> None:
    source = ManualSource(problem=SourceUnavailable("none"))
    slot = Slot(source, max_stale_seconds=60.0)
    assert not slot.refresh(0.0)
    source.problem = None
    assert slot.refresh(1.0)
    assert slot.value(1.0) == "one"


def test_value_without_an_age_limit_is_kept_for_ever() -> None:
    source = ManualSource()
    slot = loaded(source, max_stale_seconds=None)
    source.change("", SourceUnavailable("gone"))
    assert not slot.refresh(1e9)
    assert slot.value(1e9) == "one"


def test_row_212_value_that_must_not_follow_stays_out() -> None:
    def check(new: str, last: str | None) -> None:
        if last is not None and new < last:
            raise ConfigInvalid.of_file("f", "older")

    source = ManualSource(content="b")
    slot = Slot(source, max_stale_seconds=None, check_succession=check)
    slot.load(0.0)
    source.change("a")
    assert not slot.refresh(1.0)
    assert (slot.value(1.0), slot.problem) == ("b", "f: older")
    source.change("c")
    assert slot.refresh(2.0)
    assert (slot.value(2.0), slot.problem) == ("c", "")


def test_defect_in_a_source_is_not_swallowed() -> None:
    source = ManualSource()
    slot = loaded(source)
    source.change("", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        slot.refresh(1.0)


def test_refresher_tells_once_for_each_change_and_looks_at_once_when_woken() -> None:
    async def test() -> None:
        source, told = ManualSource(), asyncio.Event()
        slot = loaded(source)
        refresher = Refresher([slot], interval_seconds=3_600.0, monotonic=lambda: 1.0, changed=told.set)  # type: ignore[list-item]
        running = asyncio.create_task(refresher.run())
        await refresher.look()
        assert not told.is_set()
        source.change("two")
        refresher.wake()
        await asyncio.wait_for(told.wait(), 5.0)
        assert slot.value(1.0) == "two"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(test())
