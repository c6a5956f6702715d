# SPDX-License-Identifier: Apache-2.0
"""The fold of a log's leaves: states, batches, and each thing that must not stand there."""

from collections.abc import Callable

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.records.log_fold import Fold, FoldedBatch
from iap_authz.records.log_inspect_head import parse_head, read_head
from iap_authz.records.log_leaves import log_id, log_leaf
from iap_authz.records.record import parse_record, service_record
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize, leaf_hashes
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, counted, record_id
from tests.hostile.log_store.log_building import LogBuilder, Writer, small_log


def folded(leaves: list[bytes]) -> Fold:
    fold = Fold(ORIGIN)
    fold.add_all(LeafIndex(0), leaves, leaf_hashes(leaves))
    fold.finish()
    return fold


def test_an_honest_log_folds_to_its_writers() -> None:
    log, writer, other = LogBuilder(), Writer.of("writer"), Writer.of("other")
    log.register(writer)
    log.batch(writer, 3)
    log.register(other)
    first = log.batch(other, 1)
    last = log.batch(writer, 300)
    log.retire(writer)
    fold = folded(log.leaves)
    assert fold.problems == []
    state = fold.writers[writer.signer.writer]
    assert (state.tree, state.note, state.registered_index, state.retired_index) == (writer.log.tree, last, 0, 309)
    assert state.verifier.name == writer.log.signer.name
    assert state.workload == "orders"
    assert fold.writers[other.signer.writer].note == first
    mine, theirs = writer.signer.writer, other.signer.writer
    assert fold.drain_batches() == [
        FoldedBatch(writer=mine, begin=0, end=3, first_index=LeafIndex(1)),
        FoldedBatch(writer=theirs, begin=0, end=1, first_index=LeafIndex(6)),
        FoldedBatch(writer=mine, begin=3, end=303, first_index=LeafIndex(8)),
    ]
    assert fold.drain_batches() == []
    assert fold.size == len(log.leaves) == 310


def test_a_fold_that_resumes_ends_like_one_that_did_not() -> None:
    leaves = small_log().leaves
    whole = folded(leaves)
    for batch in whole.batches:
        cut = batch.first_index + batch.end - batch.begin + 1
        before = folded(leaves[:cut])
        fold = Fold.resume(ORIGIN, before.writers.values(), size=TreeSize(cut))
        fold.add_all(LeafIndex(cut), leaves[cut:], leaf_hashes(leaves[cut:]))
        fold.finish()
        assert fold.problems == []
        assert fold.writers == whole.writers
        assert before.batches + fold.batches == whole.batches


def test_a_leaf_out_of_turn_is_a_defect_of_the_caller() -> None:
    leaves = small_log().leaves
    with pytest.raises(ValueError, match="got leaf 1, want 0"):
        Fold(ORIGIN).add(LeafIndex(1), leaves[1], leaf_hashes(leaves)[1])


# ---- what must not stand there

Change = Callable[[LogBuilder, Writer], None]


def drop(index: int) -> Change:
    def change(log: LogBuilder, _: Writer) -> None:
        del log.leaves[index]

    return change


def twice(index: int) -> Change:
    def change(log: LogBuilder, _: Writer) -> None:
        log.leaves.insert(index, log.leaves[index])

    return change


def of_writer(body: record_pb2.WriterRegistered | record_pb2.Heartbeat | record_pb2.WriterStarted) -> Change:
    def change(log: LogBuilder, writer: Writer) -> None:
        log.batch(writer, bodies=[body])

    return change


def of_log(body: record_pb2.Refusals | record_pb2.WriterRetired | record_pb2.WriterRegistered) -> Change:
    def change(log: LogBuilder, _: Writer) -> None:
        log.own(body)

    return change


def ended_with(name: str, value: object) -> Change:
    def change(log: LogBuilder, writer: Writer) -> None:
        def spoil(body: record_pb2.WriterCheckpoint) -> None:
            if isinstance(value, list):
                body.ClearField("compact_range")
                body.compact_range.extend(value)
            else:
                setattr(body, name, value)

        log.batch(writer, 2, change=spoil)

    return change


def another_note(log: LogBuilder, writer: Writer) -> None:
    """The note of other records, signed by the writer."""
    bodies = [record_pb2.Refusals(count=1), record_pb2.Refusals(count=2)]
    note = LogBuilder().batch(Writer(signer=writer.signer, log=writer.log), bodies=bodies)
    ended_with("note", note)(log, writer)


def retired_twice(log: LogBuilder, writer: Writer) -> None:
    log.retire(writer)
    log.retire(writer)


def stranger(log: LogBuilder, _: Writer) -> None:
    log.batch(Writer.of("stranger"), 2)


def after_retirement(log: LogBuilder, writer: Writer) -> None:
    log.retire(writer)
    log.batch(writer, 2)


def retired_on_a_false_note(log: LogBuilder, writer: Writer) -> None:
    log.retire(writer, conflicting_checkpoint=log.note())


def retired_inside_a_batch(log: LogBuilder, writer: Writer) -> None:
    log.leaves.append(writer.record(3))
    log.retire(writer)


def registered_again(log: LogBuilder, writer: Writer) -> None:
    log.register(writer)


def registered_under_another_id(log: LogBuilder, _: Writer) -> None:
    body = record_pb2.WriterRegistered(writer=b"\1" * 32, public_key=Writer.of("stranger").signer.public_key)
    log.own(body)


def registered_late(log: LogBuilder, _: Writer) -> None:
    log.register(Writer.of("stranger"), first_sequence=7)


def at_another_index(log: LogBuilder, _: Writer) -> None:
    log.own(record_pb2.Alert(), index=3)


def no_end(log: LogBuilder, writer: Writer) -> None:
    log.leaves.append(writer.record(3))


def another_writer_before_the_end(log: LogBuilder, writer: Writer) -> None:
    other = Writer.of("stranger")
    log.register(other)
    log.leaves.append(writer.record(3))
    log.batch(other, 1)


def no_record(log: LogBuilder, _: Writer) -> None:
    log.leaves.append(b"no record at all")


def end_without_records(log: LogBuilder, _: Writer) -> None:
    log.own(parse_record(log.leaves[4]).writer_checkpoint)


def not_started(log: LogBuilder, _: Writer) -> None:
    other = Writer.of("stranger")
    log.register(other)
    log.batch(other, bodies=[record_pb2.Refusals(count=1)])


def of_another_log(log: LogBuilder, writer: Writer) -> None:
    note = log.note().replace(b"orders", b"others")
    log.batch(writer, bodies=[record_pb2.Heartbeat(log_checkpoint=note)])


def of_a_larger_log(log: LogBuilder, writer: Writer) -> None:
    ahead = LogBuilder(leaves=[*log.leaves, b"1", b"2"])
    log.batch(writer, bodies=[record_pb2.Heartbeat(log_checkpoint=ahead.note())])


WRONG: dict[str, tuple[Change, int, str]] = {
    "record left out": (drop(2), 2, "got record 2 of"),
    "record twice": (twice(2), 3, "got record 1 of"),
    "batch without its end": (drop(4), 4, "got no WriterCheckpoint after records 0 to 3 of"),
    "end of the log in a batch": (no_end, 6, "got no WriterCheckpoint after records 3 to 4 of"),
    "another writer before the end": (another_writer_before_the_end, 7, "got no WriterCheckpoint"),
    "end without records": (end_without_records, 5, "no record of a registered writer stands before"),
    "stranger": (stranger, 5, "which is not registered before it"),
    "after retirement": (after_retirement, 6, "retired at leaf 5"),
    "retired twice": (retired_twice, 6, "retired at leaf 5"),
    "retired unknown": (of_log(record_pb2.WriterRetired(writer=b"\2" * 32)), 5, "which is not registered"),
    "retired on a false note": (retired_on_a_false_note, 5, "got signatures of"),
    "retired inside a batch": (retired_inside_a_batch, 6, "got no WriterCheckpoint after records 3 to 4"),
    "registered twice": (registered_again, 5, "registered at leaf 0"),
    "registered under another id": (registered_under_another_id, 5, "got the key of writer"),
    "registered late": (registered_late, 5, "got first sequence 7, want 0"),
    "registered without a key": (of_log(record_pb2.WriterRegistered()), 5, "got the key of writer"),
    "own leaf at another index": (at_another_index, 5, "got the log's own leaf 3, want 5"),
    "own leaf moved": (twice(0), 1, "got the log's own leaf 0, want 1"),
    "decision by the log": (of_log(record_pb2.Refusals(count=1)), 5, "got refusals by the log"),
    "registration by a writer": (of_writer(record_pb2.WriterRegistered()), 5, "which only the log may make"),
    "started twice": (of_writer(record_pb2.WriterStarted()), 5, "got writer_started as record 3"),
    "not started": (not_started, 6, "got refusals as record 0, want WriterStarted"),
    "no record": (no_record, 5, "got a leaf that is no record"),
    "checkpoint of another log": (of_another_log, 5, "got a checkpoint of 'log.example.com/others'"),
    "checkpoint of a larger log": (of_a_larger_log, 5, "got a checkpoint of size 7, want at most 5"),
    "checkpoint that is none": (of_writer(record_pb2.Heartbeat(log_checkpoint=b"x")), 5, "want a text"),
    "wrong from": (ended_with("from", 2), 7, "got a batch from, to, first index of (2, 5, 5), want (3, 5, 5)"),
    "wrong to": (ended_with("to", 6), 7, "got a batch from, to, first index of (3, 6, 5)"),
    "wrong first index": (ended_with("first_index", 4), 7, "got a batch from, to, first index of (3, 5, 4)"),
    "wrong compact range": (ended_with("compact_range", [b"\3" * 32, b"\4" * 32]), 7, "got another tree of"),
    "short compact range": (ended_with("compact_range", [b"\3" * 32]), 7, "got 1 hashes"),
    "no note": (ended_with("note", b""), 7, "want a text, an empty line and signatures"),
    "another note": (another_note, 7, "got a note at size 5, root"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_must_not_stand_in_a_log_is_a_problem(name: str) -> None:
    change, index, message = WRONG[name]
    log, writer = LogBuilder(), Writer.of("writer")
    log.register(writer)
    log.batch(writer, 3)
    assert folded(log.leaves).problems == []
    change(log, writer)
    problems = folded(log.leaves).problems
    assert (problems[0].index, message in problems[0].message) == (index, True), problems[0]
    assert len(problems) <= 3


def test_one_lost_record_does_not_drown_what_follows() -> None:
    """What the next signed note vouches for is believed again; a later problem is seen."""
    log, writer = LogBuilder(), Writer.of("writer")
    log.register(writer)
    log.batch(writer, 3)
    for _ in range(20):
        log.batch(writer, 4)
    whole = list(log.leaves)
    # A replacement keeps every index: a record of another writer in place of one of ours.
    log.leaves[6] = counted(Writer.of("stranger").signer.writer, RecordSequence(1))
    log.leaves[51] = b"no record at all"
    problems = folded(log.leaves).problems
    assert {problem.index for problem in problems} == {6, 9, 51, 54}
    assert folded(log.leaves).writers == folded(whole).writers


def test_a_quoted_checkpoint_must_lie_on_the_tree() -> None:
    """G3: Heartbeat and WriterStarted embed the last log checkpoint the writer verified."""
    log = small_log()
    fold = folded(log.leaves)
    assert [quote.checkpoint.size for quote in fold.quotes] == [14, 24, 35, 47]
    asked: list[int] = []

    def root_at(size: int) -> NodeHash | None:
        asked.append(size)
        return {24: None, 35: NodeHash(b"\5" * 32)}.get(size, NodeHash(log.root(size)))

    fold.check_quotes(root_at)
    assert asked == [14, 24, 35, 47]
    ((problem),) = fold.problems
    assert "two views of this log" in problem.message
    fold.check_quotes(root_at)
    assert len(fold.problems) == 1


# ---- the head of a record


def test_the_head_that_is_read_fast_is_the_one_that_a_parser_reads() -> None:
    writer = Writer.of("writer").signer.writer
    bodies = [record_pb2.Refusals(count=1), record_pb2.Alert(), record_pb2.Heartbeat(journal_bytes=1 << 40)]
    for sequence in (0, 1, 127, 128, 16_383, 16_384, (1 << 32) + 5, (1 << 63) - 1):
        for body in bodies:
            personal = record_pb2.AlertPersonal(detail="d" * 300) if isinstance(body, record_pb2.Alert) else None
            leaf = service_record(
                body,
                writer=writer,
                sequence=RecordSequence(sequence),
                record_id=record_id(1),
                time=START,
                personal=None if personal is None else (personal, None),
            )
            assert read_head(leaf) == parse_head(leaf)
            assert read_head(leaf) == (writer, sequence, number_of(parse_record(leaf).WhichOneof("body")))


def number_of(body: str | None) -> int:
    return record_pb2.Record.DESCRIPTOR.fields_by_name[str(body)].number


def test_a_head_that_looks_different_is_left_to_the_parser() -> None:
    leaf = counted(Writer.of("writer").signer.writer, RecordSequence(300))
    assert read_head(leaf) is not None
    for strange in (leaf[:-1], leaf + leaf, leaf + b"\x18\x01", leaf[18:] + leaf[:18], leaf[:60], b"", b"\x0a\x10"):
        assert read_head(strange) is None
    sequence = leaf.index(b"\x18\xac\x02")
    overlong = leaf[:sequence] + b"\x18\xac\x82\x00" + leaf[sequence + 3 :]
    assert read_head(overlong) is None


def test_a_record_of_another_serializer_counts_the_same() -> None:
    """Fields in another order: the same record to every reader."""
    writer = Writer.of("writer")
    leaf = writer.record(0)
    moved = leaf[18:] + leaf[:18]
    assert parse_record(moved) == parse_record(leaf)
    log = LogBuilder()
    log.register(writer)
    writer.log, note = writer.log.commit(leaf_hashes([moved]))
    log.leaves.append(moved)
    body = record_pb2.WriterCheckpoint(note=note, to=1, first_index=1)
    log.own(body)
    assert folded(log.leaves).problems == []


def test_the_log_is_no_writer() -> None:
    leaf = log_leaf(record_pb2.Alert(), origin=ORIGIN, index=LeafIndex(0), record_id=record_id(0), time=START)
    assert read_head(leaf) == (log_id(ORIGIN), 0, 35)
    assert folded([leaf]).problems == []
