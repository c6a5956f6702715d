# SPDX-License-Identifier: Apache-2.0
"""What every `Journal` keeps: the one on disk and the fake, by one suite."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.journal.reading import load_segments, writer_directories
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.ports import Appended, Journal
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.record import RecordTooLarge
from iap_authz.records.room import MIB, JournalBounds, Room
from tests.fakes.journal import (
    ORIGIN,
    FixedSigner,
    MemoryJournal,
    counted,
    fixed_seal,
    ids_of,
    sealed_leaf,
    start_record,
)

SMALL = JournalBounds(bound_bytes=8 * MIB, reserve_bytes=MIB // 4, segment_bytes=MIB)


class Made(Protocol):
    """A journal of a kind, and the audit ids that it holds after it was closed."""

    def open(self) -> Journal: ...

    def held(self) -> list[str]: ...


class OnDisk:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> Journal:
        return FileJournal.open(self._folder, origin=ORIGIN, signer=FixedSigner(), bounds=SMALL)

    def held(self) -> list[str]:
        (writer,) = writer_directories(self._folder)
        inspection = inspect_writer(load_segments(writer), ORIGIN)
        assert inspection.findings == ()
        return [leaf.hex() for leaf in inspection.hashes]


class InMemory:
    def __init__(self, _: Path) -> None:
        self._journal: MemoryJournal | None = None

    def open(self) -> Journal:
        self._journal = MemoryJournal()
        return self._journal

    def held(self) -> list[str]:
        assert self._journal is not None
        return ids_of(self._journal.leaves)


@pytest.fixture(params=[OnDisk, InMemory])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    kind: Callable[[Path], Made] = request.param
    return kind(tmp_path / "journal")


def run(made: Made, work: Callable[[Journal], Awaitable[None]]) -> None:
    async def main() -> None:
        journal = made.open()
        try:
            await work(journal)
        finally:
            await journal.close()

    asyncio.run(main())


def start(journal: Journal) -> Appended:
    return journal.append_nowait(lambda _writer, _sequence: start_record(FixedSigner()), room=Room.RESERVE)


def append(journal: Journal, count: int = 1) -> Appended:
    return journal.append_nowait(lambda writer, sequence: counted(writer, sequence, count=count), room=Room.ALLOW)


def test_sequences_follow_the_order_of_appending_and_ids_are_known_at_once(made: Made) -> None:
    given: list[Appended] = []

    async def work(journal: Journal) -> None:
        given.append(start(journal))
        given.extend(append(journal, count) for count in range(1, 600))
        assert not any(one.durable.done() for one in given)
        await asyncio.gather(*(asyncio.shield(one.durable) for one in given))

    run(made, work)
    assert [one.sequence for one in given] == list(range(600))
    assert made.held() == [one.audit_id for one in given]


def test_the_writer_is_the_hash_of_the_key(made: Made) -> None:
    async def work(journal: Journal) -> None:
        assert journal.writer == FixedSigner().writer
        assert not journal.failed.done()
        start(journal)

    run(made, work)


def test_close_commits_what_waits(made: Made) -> None:
    given: list[Appended] = []

    async def work(journal: Journal) -> None:
        given.extend([start(journal), append(journal)])
        await journal.close()
        assert all(one.durable.done() and one.durable.exception() is None for one in given)

    run(made, work)
    assert made.held() == [one.audit_id for one in given]


def test_close_is_idempotent_and_ends_appending(made: Made) -> None:
    async def work(journal: Journal) -> None:
        start(journal)
        await asyncio.gather(journal.close(), journal.close())
        await journal.close()
        with pytest.raises(OSError, match="closed"):
            append(journal)

    run(made, work)
    assert len(made.held()) == 1


def test_a_cancelled_waiter_takes_nothing_from_the_others(made: Made) -> None:
    async def work(journal: Journal) -> None:
        given = [start(journal), append(journal), append(journal)]

        async def wait(one: Appended) -> None:
            await asyncio.shield(one.durable)

        tasks = [asyncio.create_task(wait(one)) for one in given]
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.shield(given[1].durable)
        given[2].durable.cancel()
        await asyncio.shield(append(journal).durable)

    run(made, work)
    assert len(made.held()) == 4


def test_a_build_that_raises_uses_no_sequence(made: Made) -> None:
    def refuse(_writer: WriterId, _sequence: Sequence) -> bytes:
        raise LookupError("no facts")

    async def work(journal: Journal) -> None:
        start(journal)
        with pytest.raises(LookupError):
            journal.append_nowait(refuse, room=Room.ALLOW)
        assert append(journal).sequence == 1

    run(made, work)
    assert len(made.held()) == 2


def _fixed(leaf: bytes, _writer: WriterId, _sequence: Sequence) -> bytes:
    return leaf


def test_a_record_that_does_not_fit_uses_no_sequence(made: Made) -> None:
    async def work(journal: Journal) -> None:
        start(journal)
        for leaf in (b"", bytes(65_536)):
            with pytest.raises(RecordTooLarge):
                journal.append_nowait(partial(_fixed, leaf), room=Room.ALLOW)
        assert append(journal).sequence == 1

    run(made, work)


def test_groups_follow_one_another(made: Made) -> None:
    async def work(journal: Journal) -> None:
        await asyncio.shield(start(journal).durable)
        for count in range(20):
            await asyncio.shield(append(journal, count).durable)

    run(made, work)
    assert len(made.held()) == 21


def append_sealed(journal: Journal, sequence: int) -> Appended:
    return journal.append_nowait(sealed_leaf, room=Room.ALLOW, beside=fixed_seal(sequence).beside)


def test_s2_a_sealed_record_takes_its_companion_along(made: Made) -> None:
    given: list[Appended] = []

    async def work(journal: Journal) -> None:
        given.extend([start(journal), append_sealed(journal, 1), append(journal), append_sealed(journal, 3)])
        await asyncio.gather(*(asyncio.shield(one.durable) for one in given))

    run(made, work)
    assert made.held() == [one.audit_id for one in given]


def test_s5_a_segment_begins_where_it_was_asked_for(made: Made) -> None:
    given: list[Appended] = []

    async def work(journal: Journal) -> None:
        given.extend([start(journal), append_sealed(journal, 1)])
        assert journal.begin_segment() == 2
        assert journal.begin_segment() == 2
        given.extend([append_sealed(journal, 2), append(journal)])
        await asyncio.gather(*(asyncio.shield(one.durable) for one in given))
        assert journal.begin_segment() == 4

    run(made, work)
    assert [one.sequence for one in given] == [0, 1, 2, 3]
    assert made.held() == [one.audit_id for one in given]
