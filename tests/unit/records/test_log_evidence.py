# SPDX-License-Identifier: Apache-2.0
"""Evidence with both halves (rule P2): who made a record and that it is logged, each proven or not said."""

import json
from collections.abc import Callable

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, BadSignature, IapError, Malformed, NotProven
from iap_authz.model.ids import WriterId
from iap_authz.records.evidence import Pin, check_evidence, parse_evidence, render_evidence
from iap_authz.records.log_evidence import BatchLeaves, log_evidence, read_batch
from iap_authz.records.log_leaves import log_id
from iap_authz.records.record import audit_id, parse_record
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hashes
from iap_authz.tlog.proof import prove_inclusion
from iap_authz.tlog.tree import CompactRange
from tests.fakes.journal import ORIGIN
from tests.fakes.made_log import MadeLog, MadeWriter, small_log
from tests.fakes.reference_tree import ReferenceTree

LOG, FIRST, SECOND = small_log()
OTHER_LOG = MadeLog("another log")
OWN = [index for index, leaf in enumerate(LOG.leaves) if parse_record(leaf).writer == log_id(ORIGIN)]
THEIRS = [index for index in range(LOG.size) if index not in OWN]
RECORD = THEIRS[6]


@pytest.mark.parametrize("index", range(LOG.size))
def test_p2_each_leaf_is_proven_logged_and_made_by_who_made_it(index: int) -> None:
    evidence = parse_evidence(render_evidence(LOG.evidence(index)))
    report = check_evidence(evidence, log=LOG.key)
    record = parse_record(LOG.leaves[index])
    assert (report.audit_id, report.made_by) == (audit_id(LOG.leaves[index]), record.writer)
    assert (report.sequence, report.by_log, report.log_origin) == (record.sequence, index in OWN, ORIGIN)
    assert report.logged is not None
    assert report.logged.pinned
    assert (report.logged.origin, report.logged.size, report.logged.index) == (ORIGIN, LOG.size, index)
    assert report.pin is Pin.REGISTERED
    assert (report.registered is None) == report.by_log
    assert report.size == (LOG.size if index in OWN else parse_record(_checkpoint_leaf(index)).writer_checkpoint.to)


def _checkpoint_leaf(index: int) -> bytes:
    return next(
        batch.checkpoint_leaf
        for batch in LOG.batches
        if batch.first_index <= index < batch.first_index + len(batch.records)
    )


@pytest.mark.parametrize("begin", range(17))
def test_the_writers_proof_is_that_of_the_whole_tree_whatever_the_batch(begin: int) -> None:
    """Small sizes are exhausted: each place of each batch, against RFC 6962's own definition."""
    entries = [b"entry %d" % number for number in range(begin + 17)]
    tree = ReferenceTree(entries)
    before = CompactRange.empty().extend(leaf_hashes(entries[:begin]))
    for end in range(begin + 1, len(entries) + 1):
        read = read_batch(before, entries[begin:end])
        for place in range(begin, end):
            assert list(prove_inclusion(place, end, read=read)) == tree.path(place, end)


def test_without_the_logs_key_its_half_is_reported_and_not_pinned() -> None:
    report = check_evidence(LOG.evidence(RECORD), WriterId(parse_record(LOG.leaves[RECORD]).writer))
    assert report.logged is not None
    assert (report.logged.pinned, report.pin) == (False, Pin.NAMED)
    assert check_evidence(LOG.evidence(RECORD)).pin is Pin.NONE


def test_the_logs_id_alone_pins_nothing_since_only_its_signature_shows_that_it_made_a_leaf() -> None:
    report = check_evidence(LOG.evidence(OWN[0]), log_id(ORIGIN))
    assert (report.by_log, report.pin, report.pinned) == (True, Pin.NONE, False)


def test_a_named_writer_is_the_only_one_that_may_have_made_it() -> None:
    for index in (RECORD, OWN[0]):
        with pytest.raises(BadProof, match="got evidence of writer"):
            check_evidence(LOG.evidence(index), WriterId(bytes(32)), log=LOG.key)


def test_a_log_that_is_not_the_one_named_proves_nothing() -> None:
    for index in (RECORD, OWN[0]):
        with pytest.raises(BadSignature):
            check_evidence(LOG.evidence(index), log=OTHER_LOG.key)


def test_both_sources_of_the_writers_key_may_be_there_and_both_are_checked() -> None:
    evidence = _with_started(LOG.evidence(RECORD))
    assert check_evidence(evidence, log=LOG.key).registered is not None
    evidence.started_proof.append(bytes(32))
    with pytest.raises(BadProof):
        check_evidence(evidence, log=LOG.key)


def test_two_keys_of_two_writers_are_refused() -> None:
    """Record 0 of the writer, and another writer's registration: each is true, together they are not."""
    evidence = _with_started(LOG.evidence(9))
    assert parse_record(evidence.record).writer == FIRST.writer
    evidence.registration, evidence.registration_index = LOG.leaves[3], 3
    evidence.registration_proof[:] = LOG.tree().path(3, LOG.size)
    with pytest.raises(BadProof, match="got a registration of writer"):
        check_evidence(evidence, log=LOG.key)


def test_the_logs_half_without_a_registration_shows_that_it_is_logged_and_pins_no_writer() -> None:
    evidence = _with_started(LOG.evidence(RECORD))
    for name in ("registration", "registration_index", "registration_proof"):
        evidence.ClearField(name)
    report = check_evidence(evidence, log=LOG.key)
    assert report.logged is not None
    assert (report.logged.pinned, report.registered, report.pin) == (True, None, Pin.NONE)


def _with_started(evidence: log_pb2.Evidence) -> log_pb2.Evidence:
    """Record 0 of the writer and its proof under the same checkpoint, as a journal has them."""
    record = parse_record(evidence.record)
    writer = FIRST if record.writer == FIRST.writer else SECOND
    size = parse_record(_checkpoint_leaf(evidence.index)).writer_checkpoint.to
    evidence.started = writer.leaves[0]
    evidence.started_proof.extend(ReferenceTree(writer.leaves).path(0, size))
    return evidence


def test_a_writers_half_alone_of_another_log_than_the_named_one_is_refused() -> None:
    evidence = _with_started(LOG.evidence(RECORD))
    for field, _ in evidence.ListFields():
        if field.name not in {"record", "writer_inclusion_proof", "writer_checkpoint", "started", "started_proof"}:
            evidence.ClearField(field.name)
    assert check_evidence(evidence, log=LOG.key).logged is None
    elsewhere = MadeLog(origin="elsewhere.example.com/log")
    with pytest.raises(BadProof, match=r"want one of 'elsewhere\.example\.com/log'"):
        check_evidence(evidence, log=elsewhere.key)


def _forged(body: record_pb2.WriterRegistered, *, record_of: MadeWriter | None = None) -> log_pb2.Evidence:
    """Evidence out of a log that registered falsely, with nothing else wrong."""
    log, writer = MadeLog(), record_of or MadeWriter("first")
    log.registered[writer.writer] = log.add_own(body)
    log.append(writer, 2)
    return log.evidence(2)


def test_a_log_cannot_register_a_writer_under_a_key_of_its_own() -> None:
    """P1: else it could invent "W allowed X" and prove it."""
    mallory = MadeWriter("mallory")
    body = record_pb2.WriterRegistered(writer=FIRST.writer, public_key=mallory.signer.public_key)
    with pytest.raises(BadProof, match="whose key it holds"):
        check_evidence(_forged(body), log=LOG.key)


def test_the_registration_of_another_writer_is_no_key_for_this_one() -> None:
    mallory = MadeWriter("mallory")
    body = record_pb2.WriterRegistered(writer=mallory.writer, public_key=mallory.signer.public_key)
    with pytest.raises(BadProof, match="whose key this is"):
        check_evidence(_forged(body), log=LOG.key)


def test_a_registration_with_a_key_that_signs_everything_is_refused() -> None:
    body = record_pb2.WriterRegistered(writer=FIRST.writer, public_key=bytes(32))
    with pytest.raises(IapError):
        check_evidence(_forged(body), log=LOG.key)


def test_a_registration_after_the_record_is_refused() -> None:
    log, writer = MadeLog(), MadeWriter()
    log.registered[writer.writer] = LeafIndex(3)
    log.append(writer, 2)
    log.register(writer)
    with pytest.raises(BadProof, match="want it before the record"):
        check_evidence(log.evidence(1), log=log.key)


def test_a_leaf_of_the_logs_own_elsewhere_is_refused() -> None:
    log = MadeLog()
    log.add_own(record_pb2.Alert(rule="one"))
    log.leaves.append(log.leaves[0])
    check_evidence(log.evidence(0), log=log.key)
    with pytest.raises(BadProof, match="at its own index"):
        check_evidence(log.evidence(1), log=log.key)


def test_a_writer_cannot_make_what_only_the_log_makes() -> None:
    log, writer = MadeLog(), MadeWriter()
    log.register(writer)
    log.append(writer, 2, body=record_pb2.Erasure(records=7))
    with pytest.raises(BadProof, match="which alone makes it"):
        check_evidence(log.evidence(2), log=log.key)


def test_a_writers_note_for_another_log_is_no_note_for_this_one() -> None:
    """The writer's key signed, but under the name of a writer of another log."""
    log, writer = MadeLog(), MadeWriter(origin="elsewhere.example.com/log")
    log.register(writer)
    log.append(writer, 2)
    with pytest.raises(BadSignature):
        check_evidence(log.evidence(2), log=log.key)


def test_evidence_is_made_for_a_record_of_the_batch_only() -> None:
    batch = LOG.batches[1]
    for index, leaf in ((batch.first_index, batch.records[1]), (batch.first_index + 3, batch.checkpoint_leaf)):
        with pytest.raises(ValueError, match="want one of the 3 records"):
            _prove(leaf, index, batch)
    cut = BatchLeaves(
        first_index=batch.first_index,
        begin=batch.begin,
        records=batch.records[:2],
        checkpoint_leaf=batch.checkpoint_leaf,
    )
    with pytest.raises(Malformed, match="want the batch's own"):
        _prove(batch.records[0], batch.first_index, cut)


def _prove(leaf: bytes, index: int, batch: BatchLeaves) -> log_pb2.Evidence:
    return log_evidence(
        leaf,
        LeafIndex(index),
        batch=batch,
        size=TreeSize(LOG.size),
        note=LOG.note(),
        read=LOG.read,
        registration=LOG.leaves[0],
        registration_index=LeafIndex(0),
    )


def _clear(*names: str) -> Callable[[log_pb2.Evidence], None]:
    def clear(evidence: log_pb2.Evidence) -> None:
        for name in names:
            evidence.ClearField(name)

    return clear


CHANGES: dict[str, Callable[[log_pb2.Evidence], object]] = {
    "no-record": _clear("record"),
    "no-checkpoint": _clear("checkpoint"),
    "no-inclusion-proof": _clear("inclusion_proof"),
    "no-writer-checkpoint": _clear("writer_checkpoint"),
    "no-writers-half": _clear("writer_checkpoint", "writer_inclusion_proof", "registration", "registration_proof"),
    "the-logs-half-alone": _clear(
        "writer_checkpoint", "writer_inclusion_proof", "registration", "registration_proof", "registration_index"
    ),
    "no-key-of-the-writer": _clear("registration", "registration_proof", "registration_index"),
    "no-registration": _clear("registration"),
    "no-log": _clear("checkpoint", "index", "inclusion_proof"),
    "no-registration-proof": _clear("registration_proof"),
    "no-writer-proof": _clear("writer_inclusion_proof"),
    "another-index": lambda evidence: setattr(evidence, "index", evidence.index + 1),
    "another-registration-index": lambda evidence: setattr(evidence, "registration_index", 1),
    "the-largest-index": lambda evidence: setattr(evidence, "index", 2**64 - 1),
    "a-hash-more": lambda evidence: evidence.inclusion_proof.append(bytes(32)),
    "a-short-hash": lambda evidence: evidence.inclusion_proof.__setitem__(0, b"short"),
    "another-leaf-as-registration": lambda evidence: setattr(evidence, "registration", LOG.leaves[1]),
    "another-writers-registration": lambda evidence: setattr(evidence, "registration", LOG.leaves[3]),
    "a-note-of-another-size": lambda evidence: setattr(evidence, "checkpoint", LOG.note(LOG.size - 1)),
    "record-0-without-proof": lambda evidence: setattr(evidence, "started", FIRST.leaves[0]),
    "a-proof-of-no-record-0": lambda evidence: evidence.started_proof.append(bytes(32)),
    "the-logs-note-as-the-writers": lambda evidence: setattr(evidence, "writer_checkpoint", LOG.note()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_evidence_is_refused(change: Callable[[log_pb2.Evidence], object]) -> None:
    evidence = LOG.evidence(THEIRS[4])
    change(evidence)
    with pytest.raises((Malformed, NotProven)):
        check_evidence(evidence, log=LOG.key)


OWN_CHANGES: dict[str, Callable[[log_pb2.Evidence], object]] = {
    "with-a-writer-checkpoint": lambda evidence: setattr(evidence, "writer_checkpoint", FIRST.leaves[0]),
    "with-record-0": lambda evidence: setattr(evidence, "started", FIRST.leaves[0]),
    "with-a-registration-index": lambda evidence: setattr(evidence, "registration_index", 5),
    "no-checkpoint": _clear("checkpoint"),
    "another-index": lambda evidence: setattr(evidence, "index", evidence.index - 1),
}


@pytest.mark.parametrize("change", OWN_CHANGES.values(), ids=OWN_CHANGES.keys())
def test_changed_evidence_of_a_leaf_of_the_logs_own_is_refused(change: Callable[[log_pb2.Evidence], object]) -> None:
    evidence = LOG.evidence(OWN[3])
    change(evidence)
    with pytest.raises((Malformed, NotProven)):
        check_evidence(evidence, log=LOG.key)


def test_a_registration_cannot_ride_along_with_a_leaf_of_the_logs_own() -> None:
    evidence = LOG.evidence(OWN[3])
    other = LOG.evidence(RECORD)
    evidence.registration, evidence.registration_index = other.registration, other.registration_index
    evidence.registration_proof.extend(other.registration_proof)
    with pytest.raises(Malformed, match="the log's half only"):
        check_evidence(evidence, log=LOG.key)


@pytest.mark.parametrize("index", [RECORD, OWN[3]])
def test_every_changed_byte_of_a_file_is_refused_or_says_the_same(index: int) -> None:
    data = render_evidence(LOG.evidence(index))
    want, harmless = parse_evidence(data), 0
    for offset in range(len(data)):
        changed = data[:offset] + bytes([data[offset] ^ 0x01]) + data[offset + 1 :]
        try:
            got = parse_evidence(changed)
            check_evidence(got, log=LOG.key)
        except IapError:
            continue
        assert got == want, offset
        assert json.loads(changed) == json.loads(data)
        harmless += 1
    assert harmless < 10
