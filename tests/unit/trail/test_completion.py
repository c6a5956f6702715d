# SPDX-License-Identifier: Apache-2.0
"""Which writers an erasure waits for: each by its own signed word, or because the log takes nothing more of it."""

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import leaf_hash
from iap_authz.trail.completion import Completion
from tests.fakes.erasing import Kept, LogWithVault, declares, in_loop
from tests.fakes.sealed import SealingWriter


def log_of(*seeds: str) -> tuple[LogWithVault, list[SealingWriter]]:
    log = LogWithVault(Kept.memory())
    writers = [SealingWriter(seed, vault=log.kept.vault) for seed in seeds]
    for writer in writers:
        writer.add()
        log.ship(writer)
    return log, writers


async def waiting(log: LogWithVault, epoch: int = 1, *, completion: Completion | None = None) -> dict[bytes, int]:
    completion = completion or Completion(log.reader, log.kept.ledger)
    holders = await completion.look()
    assert holders.size == len(log.kept.leaves.leaves)
    return {one.writer: one.sequence for one in holders.waiting_for(epoch)}


def starts_after(successor: SealingWriter, writer: SealingWriter, *, size: int) -> None:
    """The successor's record 0 names a checkpoint of the writer at this size."""
    log = SealingWriter(_seed_of(writer), vault=writer.vault).log
    _, note = log.commit([leaf_hash(leaf) for leaf in writer.leaves[:size]])
    record = parse_record(successor.add())
    record.writer_started.predecessor = writer.writer
    record.writer_started.predecessor_checkpoint = note
    successor.leaves[0] = record.SerializeToString(deterministic=True)


def _seed_of(writer: SealingWriter) -> str:
    return next(seed for seed in ("first", "second") if SealingWriter(seed).writer == writer.writer)


@in_loop
async def test_a_writer_without_a_word_is_waited_for() -> None:
    log, (first, second) = log_of("first", "second")
    assert await waiting(log) == {first.writer: 1, second.writer: 1}
    assert await waiting(log, 0) == {}


@pytest.mark.parametrize(
    ("declared", "done"), [((0,), False), ((1,), True), ((2,), True), ((1, 0), False), ((0, 1), True)]
)
@in_loop
async def test_the_newest_heartbeat_counts(declared: tuple[int, ...], done: bool) -> None:  # noqa: FBT001 -- of the table
    log, (first,) = log_of("first")
    for epoch in declared:
        first.add(declares(epoch))
    log.ship(first)
    assert await waiting(log) == ({} if done else {first.writer: 1 + len(declared)})


@in_loop
async def test_a_writer_that_has_stopped_is_done_with() -> None:
    log, (first, second) = log_of("first", "second")
    first.add(declares(0))
    first.add(record_pb2.WriterStopped(cause="sigterm"))
    log.ship(first)
    assert list(await waiting(log)) == [second.writer]


@in_loop
async def test_a_stop_that_is_not_the_last_word_is_none() -> None:
    log, (first,) = log_of("first")
    first.add(record_pb2.WriterStopped(cause="sigterm"))
    first.add()
    log.ship(first)
    assert list(await waiting(log)) == [first.writer]


@in_loop
async def test_a_retired_writer_is_done_with() -> None:
    log, (first, second) = log_of("first", "second")
    log.retire(first)
    assert list(await waiting(log)) == [second.writer]


@pytest.mark.parametrize(("size", "done"), [(1, False), (2, False), (3, True), (4, False)])
@in_loop
async def test_a_successor_says_where_it_ended(size: int, done: bool) -> None:  # noqa: FBT001 -- of the table
    log, (first,) = log_of("first")
    for _ in range(3):
        first.add()
    log.ship(first, only=2)
    successor = SealingWriter("second", vault=log.kept.vault)
    starts_after(successor, first, size=size)
    log.ship(successor)
    assert (first.writer in await waiting(log)) == (not done)


@in_loop
async def test_a_note_that_the_writer_did_not_sign_says_nothing() -> None:
    log, (first,) = log_of("first")
    liar, other = SealingWriter("second", vault=log.kept.vault), SealingWriter("other", vault=log.kept.vault)
    record = parse_record(liar.add())
    record.writer_started.predecessor = first.writer
    record.writer_started.predecessor_checkpoint = other.log.commit([leaf_hash(other.add())])[1]
    liar.leaves[0] = record.SerializeToString(deterministic=True)
    log.ship(liar)
    assert first.writer in await waiting(log)


@pytest.mark.parametrize("field", ["workload", "enrolled_by"])
@in_loop
async def test_a_successor_of_another_workload_or_token_says_nothing(field: str) -> None:
    log, (first,) = log_of("first")
    other = SealingWriter("second", vault=log.kept.vault)
    setattr(other, field, "another")
    starts_after(other, first, size=1)
    log.ship(other)
    assert first.writer in await waiting(log)


@in_loop
async def test_a_writer_that_goes_on_has_no_successor() -> None:
    log, (first,) = log_of("first")
    successor = SealingWriter("second", vault=log.kept.vault)
    starts_after(successor, first, size=1)
    log.ship(successor)
    assert first.writer not in await waiting(log)
    first.add()
    log.ship(first)
    assert first.writer in await waiting(log)


@in_loop
async def test_who_was_registered_later_is_waited_for_until_its_own_word() -> None:
    log, (first,) = log_of("first")
    first.add(declares(1))
    log.ship(first)
    assert await waiting(log) == {}
    fresh = SealingWriter("fresh", vault=log.kept.vault)
    fresh.add()
    log.ship(fresh)
    assert list(await waiting(log)) == [fresh.writer]
    fresh.add(declares(1))
    log.ship(fresh)
    assert await waiting(log) == {}


@in_loop
async def test_one_that_has_ended_is_looked_at_once() -> None:
    log, (first,) = log_of("first")
    first.add(record_pb2.WriterStopped(cause="sigterm"))
    log.ship(first)
    completion = Completion(log.reader, log.kept.ledger)
    assert await waiting(log, completion=completion) == {}
    reads = len(log.kept.leaves.reads)
    assert await waiting(log, completion=completion) == {}
    assert len(log.kept.leaves.reads) == reads
