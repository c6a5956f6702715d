# SPDX-License-Identifier: Apache-2.0
"""Rule O1: what all leaves of a log prove of one writer, and what each way to break that is called."""

import re
from collections.abc import Callable, Sequence

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.records.completeness import NOT_PROVABLE, Completeness, CompletenessReport, Tail
from iap_authz.records.started import render_started
from iap_authz.tlog.checkpoint import Checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize, leaf_hash
from tests.fakes.journal import ORIGIN
from tests.fakes.made_log import MadeLog, MadeWriter, small_log


def check(leaves: Sequence[bytes], writer: MadeWriter) -> CompletenessReport:
    completeness = Completeness(ORIGIN, writer.writer)
    for index, leaf in enumerate(leaves):
        completeness.add(LeafIndex(index), leaf, leaf_hash(leaf))
    return completeness.finish()


def test_o1_records_occur_exactly_once_in_order_up_to_the_largest_checkpoint() -> None:
    log, first, second = small_log()
    for writer, size, registered in ((first, 11, 0), (second, 4, 3)):
        report = check(log.leaves, writer)
        assert (report.holds, report.faults) == (True, ())
        assert (report.size, report.log_size, report.registered_index) == (size, log.size, registered)
        assert (report.retired_index, report.tail, report.successor) == (None, Tail.UNKNOWN, None)
        assert report.note == parse_note_of(log, writer)


def parse_note_of(log: MadeLog, writer: MadeWriter) -> bytes:
    """The note of the writer's last batch."""
    last = [batch for batch in log.batches if batch.records[0] in writer.leaves][-1]
    record = record_pb2.Record.FromString(last.checkpoint_leaf)
    return record.writer_checkpoint.note


@pytest.mark.parametrize("size", range(small_log()[0].size + 1))
def test_every_prefix_that_does_not_cut_a_batch_of_the_writer_holds(size: int) -> None:
    log, first, _ = small_log()
    theirs = [batch for batch in log.batches if batch.records[0] in first.leaves]
    cut = any(batch.first_index < size <= batch.first_index + len(batch.records) for batch in theirs)
    assert check(log.leaves[:size], first).holds == (size > 0 and not cut)


def test_leaves_are_taken_in_order_only() -> None:
    completeness = Completeness(ORIGIN, MadeWriter().writer)
    with pytest.raises(ValueError, match="got leaf 1, want 0"):
        completeness.add(LeafIndex(1), b"x", leaf_hash(b"x"))


def gap(log: MadeLog, writer: MadeWriter) -> None:
    """The log lost a batch: the next one stands at the right place in the writer's tree."""
    log.register(writer)
    log.append(writer, 2)
    leaves = list(log.leaves)
    log.append(writer, 3)
    log.leaves = leaves
    log.append(writer, 1)


def double(log: MadeLog, writer: MadeWriter) -> None:
    """The log has a batch twice, with a WriterCheckpoint that is right for its place."""
    log.register(writer)
    log.append(writer, 2)
    before = writer.log, list(writer.leaves)
    log.append(writer, 3)
    writer.log, writer.leaves = before
    log.append(writer, 3)


def late(log: MadeLog, writer: MadeWriter) -> None:
    """The log took batch [2, 5) after [5, 6)."""
    log.register(writer)
    log.append(writer, 2)
    early, leaves = (writer.log, list(writer.leaves)), list(log.leaves)
    log.append(writer, 3)
    log.leaves = leaves
    log.append(writer, 1)
    writer.log, writer.leaves = early
    log.append(writer, 3)


def unregistered(log: MadeLog, writer: MadeWriter) -> None:
    log.append(writer, 2)


def registered_late(log: MadeLog, writer: MadeWriter) -> None:
    log.append(writer, 2)
    log.register(writer)


def registered_twice(log: MadeLog, writer: MadeWriter) -> None:
    log.register(writer)
    log.append(writer, 2)
    log.register(writer)


def after_retirement(log: MadeLog, writer: MadeWriter) -> None:
    log.register(writer)
    log.append(writer, 2)
    log.add_own(record_pb2.WriterRetired(writer=writer.writer, cause="fork"))
    log.append(writer, 1)


def without_checkpoint(log: MadeLog, writer: MadeWriter) -> None:
    log.register(writer)
    log.append(writer, 2)
    log.leaves.pop()


def changed(log: MadeLog, writer: MadeWriter) -> None:
    """A record that the writer did not sign for, in the place of one that it did."""
    log.register(writer)
    log.append(writer, 3)
    record = record_pb2.Record.FromString(log.leaves[2])
    record.refusals.count = 99
    log.leaves[2] = record.SerializeToString(deterministic=True)


def of_another_key(log: MadeLog, writer: MadeWriter) -> None:
    other = MadeWriter("mallory")
    log.add_own(record_pb2.WriterRegistered(writer=writer.writer, public_key=other.signer.public_key))


def moved(log: MadeLog, writer: MadeWriter) -> None:
    """A leaf of the log's own that is not at its own index."""
    log.register(writer)
    log.leaves.insert(0, log.leaves[0])


def unreadable(log: MadeLog, writer: MadeWriter) -> None:
    log.register(writer)
    log.append(writer, 2)
    log.leaves.append(b"\xff")


def rewritten(log: MadeLog, writer: MadeWriter) -> None:
    """A4: the writer signed a second tree, with another record 1, and the log went on with that one."""
    log.register(writer)
    log.append(writer, 2)
    other = MadeWriter("first")
    others = [other.add(), other.add(record_pb2.Refusals(count=99))]
    writer.log = other.log.commit([leaf_hash(leaf) for leaf in others])[0]
    log.append(writer, 1)


def of_another_batch(log: MadeLog, writer: MadeWriter) -> None:
    """P1: a WriterCheckpoint that says another first index than its batch has."""
    log.register(writer)
    log.append(writer, 2)
    record = record_pb2.Record.FromString(log.leaves[3])
    record.writer_checkpoint.first_index = 0
    log.leaves[3] = record.SerializeToString(deterministic=True)


def apart(log: MadeLog, writer: MadeWriter) -> None:
    """A WriterCheckpoint that does not stand right after its batch."""
    log.register(writer)
    log.append(writer, 2)
    log.leaves.pop()
    log.add_own(record_pb2.Alert(rule="between"))
    record = record_pb2.Record.FromString(log.batches[0].checkpoint_leaf)
    log.add_own(record.writer_checkpoint)


FAULTS = {
    "rewritten": (rewritten, "another tree at size 2"),
    "of-another-batch": (of_another_batch, r"first index of \(0, 2, 0\)"),
    "apart": (apart, "without the writer's records right before it"),
    "gap": (gap, r"records \[2, 5\) are not there"),
    "double": (double, r"records \[2, 5\) again or late, want 5 next"),
    "late": (late, r"records \[2, 5\) again or late, want 6 next"),
    "unregistered": (unregistered, "got no registration"),
    "registered-late": (registered_late, "before the writer is registered"),
    "registered-twice": (registered_twice, "registered again"),
    "after-retirement": (after_retirement, "retired at leaf 4"),
    "without-checkpoint": (without_checkpoint, r"records \[0, 2\) without a WriterCheckpoint"),
    "changed": (changed, "want what the writer signed"),
    "of-another-key": (of_another_key, "got a registration with the key of"),
    "moved": (moved, "got the log's own leaf 0, want 1"),
    "unreadable": (unreadable, "no Record"),
}


@pytest.mark.parametrize(("order", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_not_complete_is_named(order: Callable[[MadeLog, MadeWriter], None], message: str) -> None:
    log, writer = MadeLog(), MadeWriter("first")
    order(log, writer)
    report = check(log.leaves, writer)
    assert not report.holds
    assert any(re.search(message, fault.message) for fault in report.faults), report.faults


def test_another_writer_cannot_make_this_one_incomplete() -> None:
    """Neither by its own faults nor by naming this one as its predecessor under a note of its own."""
    log, writer, mallory = MadeLog(), MadeWriter(), MadeWriter("mallory")
    log.register(writer)
    log.append(writer, 2)
    log.register(mallory)
    false = sign_checkpoint(
        Checkpoint(origin=mallory.log.signer.name, size=TreeSize(9), root=NodeHash(bytes(32))), mallory.log.signer
    )
    log.append(mallory, 1, body=succeeding(mallory, writer, false))
    log.leaves.append(mallory.add())
    assert check(log.leaves, writer).holds
    assert not check(log.leaves, mallory).holds


def succeeding(writer: MadeWriter, predecessor: MadeWriter, note: bytes) -> record_pb2.WriterStarted:
    body = render_started(
        ORIGIN, writer.signer.public_key, sign=writer.signer.sign, workload="orders", instance="pod-2", version="0"
    )
    body.predecessor, body.predecessor_checkpoint = predecessor.writer, note
    return body


def test_the_end_is_known_if_the_last_record_is_writer_stopped() -> None:
    log, writer = MadeLog(), MadeWriter()
    log.register(writer)
    log.append(writer, 3, body=record_pb2.WriterStopped(cause="sigterm"))
    assert check(log.leaves, writer).tail is Tail.STOPPED
    log.append(writer, 1)
    assert check(log.leaves, writer).tail is Tail.UNKNOWN


def test_the_end_is_known_if_a_successor_names_it() -> None:
    log, writer, successor = MadeLog(), MadeWriter(), MadeWriter("successor")
    log.register(writer)
    log.append(writer, 3)
    log.register(successor)
    log.append(successor, 1, body=succeeding(successor, writer, parse_note_of(log, writer)))
    report = check(log.leaves, writer)
    assert (report.holds, report.tail, report.successor) == (True, Tail.SUCCEEDED, successor.writer)


def test_a_tail_that_the_log_does_not_hold_is_proven_missing_by_the_successor() -> None:
    log, writer, successor = MadeLog(), MadeWriter(), MadeWriter("successor")
    log.register(writer)
    log.append(writer, 3)
    held = list(log.leaves)
    log.append(writer, 4)
    note = parse_note_of(log, writer)
    log.leaves = held
    log.register(successor)
    log.append(successor, 1, body=succeeding(successor, writer, note))
    report = check(log.leaves, writer)
    assert (report.size, report.tail) == (3, Tail.UNKNOWN)
    assert [fault.message for fault in report.faults] == [
        "got records [0, 3), want [0, 7), which the writer signed: a tail is missing"
    ]


def test_w6_two_trees_of_one_size_are_a_fault_that_the_writer_signed_itself() -> None:
    log, writer = MadeLog(), MadeWriter()
    log.register(writer)
    log.append(writer, 2)
    other = Checkpoint(origin=writer.log.signer.name, size=TreeSize(2), root=NodeHash(bytes(32)))
    log.add_own(
        record_pb2.WriterRetired(
            writer=writer.writer,
            final_checkpoint=parse_note_of(log, writer),
            conflicting_checkpoint=sign_checkpoint(other, writer.log.signer),
        )
    )
    messages = [fault.message for fault in check(log.leaves, writer).faults]
    assert set(messages) == {"got two trees of size 2 that the writer signed"}


def test_o1_names_what_no_log_can_prove() -> None:
    assert NOT_PROVABLE == (
        "what was never journaled",
        "a tail lost with the pod",
        "an unknown writer",
        "traffic around Envoy",
        "completeness of a search answer",
    )
