# SPDX-License-Identifier: Apache-2.0
"""Record 0: whose key it is, and that the writer has it (PROTOCOL W1, W2)."""

from collections.abc import Callable

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, BadSignature, Malformed, NotProven
from iap_authz.records.record import parse_record
from iap_authz.records.started import (
    Predecessor,
    check_started,
    possession_message,
    render_started,
    writer_id,
    writer_origin,
)
from iap_authz.records.writerlog import start_writer_log
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import leaf_hash
from tests.fakes.journal import ORIGIN, FixedSigner, build_segments, start_record

SIGNER, OTHER = FixedSigner(), FixedSigner("other")


def started() -> record_pb2.Record:
    return parse_record(start_record(SIGNER))


def test_w2_the_key_of_record_0_checks_the_notes_of_its_writer() -> None:
    verifier = check_started(started(), ORIGIN)
    assert verifier.name == f"{ORIGIN}/writers/{SIGNER.writer.hex()}"
    log, note = start_writer_log(ORIGIN, SIGNER.public_key, sign=SIGNER.sign).commit([leaf_hash(b"x")])
    assert (log.size, log.writer) == (1, SIGNER.writer)
    assert open_checkpoint(note, verifier).root == log.tree.root()


def test_w2_the_signed_bytes_are_those_of_the_specification() -> None:
    want = f"iap-authz/writer-started/v1\nlog.example.com\n{SIGNER.writer.hex()}\n".encode()
    assert possession_message("log.example.com", SIGNER.writer) == want


def test_any_log_may_be_taken_or_one_wanted() -> None:
    check_started(started())
    with pytest.raises(BadProof, match="want one of"):
        check_started(started(), "another.example.com")


def test_w2_the_predecessor_stands_in_the_record() -> None:
    note = start_writer_log(ORIGIN, OTHER.public_key, sign=OTHER.sign).commit([leaf_hash(b"x")])[1]
    before = Predecessor(writer=OTHER.writer, checkpoint=note)
    body = parse_record(start_record(SIGNER, predecessor=before)).writer_started
    assert (body.predecessor, body.predecessor_checkpoint) == (OTHER.writer, note)


def change(act: Callable[[record_pb2.Record], object]) -> record_pb2.Record:
    record = started()
    act(record)
    return record


def set_body(**fields: object) -> Callable[[record_pb2.Record], object]:
    def act(record: record_pb2.Record) -> None:
        for name, value in fields.items():
            setattr(record.writer_started, name, value)

    return act


def take_over(record: record_pb2.Record) -> None:
    """Another's key, with the id to it, and the old signature."""
    record.writer_started.public_key = OTHER.public_key
    record.writer = OTHER.writer


FALSE = {
    "another-body": (lambda record: record.heartbeat.SetInParent(), Malformed),
    "not-record-0": (lambda record: setattr(record, "sequence", 1), Malformed),
    "another-writer": (lambda record: setattr(record, "writer", bytes(32)), BadProof),
    "another-key": (set_body(public_key=OTHER.public_key), BadProof),
    "another-key-and-its-id": (take_over, BadSignature),
    "another-log": (set_body(log_origin="other.example.com"), BadSignature),
    "no-signature": (set_body(possession_signature=b""), BadSignature),
    "a-false-signature": (set_body(possession_signature=bytes(64)), BadSignature),
    "an-origin-with-a-newline": (set_body(log_origin="a\nb"), Malformed),
    "an-origin-with-a-space": (set_body(log_origin="a b"), Malformed),
    "an-origin-too-long": (set_body(log_origin="a" * 200), Malformed),
    "a-predecessor-too-short": (set_body(predecessor=bytes(31)), Malformed),
    "a-predecessor-without-a-note": (set_body(predecessor_checkpoint=b"text"), Malformed),
}


@pytest.mark.parametrize(("act", "error"), FALSE.values(), ids=FALSE.keys())
def test_w2_a_record_0_that_is_not_the_writers_own_is_refused(
    act: Callable[[record_pb2.Record], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        check_started(change(act))


def test_w1_a_key_of_small_order_is_refused() -> None:
    key = (1).to_bytes(32, "little")
    body = render_started("log", key, sign=lambda _: bytes(64), workload="", instance="", version="")
    record = record_pb2.Record(writer=writer_id(key), writer_started=body)
    with pytest.raises(Malformed, match="small order"):
        check_started(record)


def test_every_changed_byte_of_record_0_is_refused_or_says_the_same_key() -> None:
    leaf = start_record(SIGNER)
    verifier = check_started(parse_record(leaf))
    for offset in range(len(leaf)):
        changed = leaf[:offset] + bytes([leaf[offset] ^ 1]) + leaf[offset + 1 :]
        try:
            got = check_started(parse_record(changed))
        except (Malformed, NotProven):
            continue
        assert got == verifier


def test_an_origin_that_is_no_key_name_starts_no_log() -> None:
    with pytest.raises(Malformed):
        writer_origin("two words", SIGNER.writer)
    with pytest.raises(Malformed):
        build_segments(SIGNER, [], origin="two words")
