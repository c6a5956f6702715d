# SPDX-License-Identifier: Apache-2.0
"""Evidence for one record: what it shows, and that no changed byte of it shows anything else (PROTOCOL P2)."""

import json
from collections.abc import Callable

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import BadProof, IapError, Malformed, NotProven
from iap_authz.model.ids import AuditId
from iap_authz.records.evidence import (
    EVIDENCE_MAX_BYTES,
    KIND,
    check_evidence,
    parse_evidence,
    prove_record,
    render_evidence,
)
from iap_authz.records.findings import NoSuchRecord, Place
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.record import audit_id
from tests.fakes.journal import ORIGIN, FixedSigner, build_segments, sample_leaves

SIGNER, OTHER = FixedSigner(), FixedSigner("other")
LEAVES = sample_leaves(SIGNER, 7)
SEGMENTS = build_segments(SIGNER, [[LEAVES[:1], LEAVES[1:4]], [LEAVES[4:7]]], unused_bytes=10)
INSPECTION = inspect_writer(SEGMENTS, ORIGIN)


def read(place: Place) -> bytes:
    return dict(SEGMENTS)[place.segment][place.offset : place.offset + place.length]


def prove(sequence: int) -> log_pb2.Evidence:
    return prove_record(INSPECTION, audit_id(LEAVES[sequence]), read=read)


@pytest.mark.parametrize("sequence", range(len(LEAVES)))
def test_p2_each_record_is_proven_to_be_its_writers(sequence: int) -> None:
    report = check_evidence(parse_evidence(render_evidence(prove(sequence))), SIGNER.writer)
    assert (report.audit_id, report.made_by, report.sequence) == (audit_id(LEAVES[sequence]), SIGNER.writer, sequence)
    assert (report.pinned, report.logged, report.log_origin, report.size) == (True, None, ORIGIN, 7)
    assert report.record.SerializeToString(deterministic=True) == LEAVES[sequence]


def test_a_report_without_a_wanted_writer_says_that_it_is_not_pinned() -> None:
    assert not check_evidence(prove(3)).pinned


def test_evidence_of_another_writer_is_refused() -> None:
    with pytest.raises(BadProof, match="want"):
        check_evidence(prove(3), OTHER.writer)


def test_a_record_that_is_not_there_is_not_proven() -> None:
    with pytest.raises(NoSuchRecord):
        prove_record(INSPECTION, AuditId("ab" * 32), read=read)


def test_a_journal_without_record_0_proves_nothing_by_itself() -> None:
    trimmed = inspect_writer(SEGMENTS[1:], ORIGIN)
    with pytest.raises(NoSuchRecord, match="want record 0"):
        prove_record(trimmed, audit_id(LEAVES[5]), read=read)


def test_a_writer_cannot_take_over_anothers_record() -> None:
    """Evidence of W's record under V's start and checkpoint."""
    others = sample_leaves(OTHER, 7)
    theirs = inspect_writer(build_segments(OTHER, [[others]]), ORIGIN)
    evidence = prove(3)
    evidence.started = others[0]
    evidence.writer_checkpoint = theirs.checkpoint
    with pytest.raises(BadProof, match="whose key this is"):
        check_evidence(evidence)


CHANGES: dict[str, Callable[[log_pb2.Evidence], object]] = {
    "another-record": lambda evidence: setattr(evidence, "record", LEAVES[2]),
    "another-start": lambda evidence: setattr(evidence, "started", LEAVES[1]),
    "no-checkpoint": lambda evidence: evidence.ClearField("writer_checkpoint"),
    "a-hash-less": lambda evidence: evidence.writer_inclusion_proof.pop(),
    "a-hash-more": lambda evidence: evidence.writer_inclusion_proof.append(bytes(32)),
    "hashes-in-another-order": lambda evidence: evidence.writer_inclusion_proof.reverse(),
    "a-short-hash": lambda evidence: evidence.writer_inclusion_proof.__setitem__(0, b"short"),
    "no-proof-of-the-start": lambda evidence: evidence.ClearField("started_proof"),
    "the-logs-half": lambda evidence: setattr(evidence, "index", 5),
    "the-logs-checkpoint": lambda evidence: setattr(evidence, "checkpoint", b"note"),
    "no-record": lambda evidence: evidence.ClearField("record"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_evidence_is_refused(change: Callable[[log_pb2.Evidence], object]) -> None:
    evidence = prove(3)
    change(evidence)
    with pytest.raises((Malformed, NotProven)):
        check_evidence(evidence)


def test_every_changed_byte_of_a_file_is_refused_or_says_the_same() -> None:
    data = render_evidence(prove(3))
    want = parse_evidence(data)
    harmless = 0
    for offset in range(len(data)):
        for mask in (0x01, 0x20, 0x80):
            changed = data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]
            try:
                got = parse_evidence(changed)
                check_evidence(got)
            except IapError:
                continue
            assert got == want, offset
            assert json.loads(changed) == json.loads(data)
            harmless += 1
    assert harmless < 10


def members() -> dict[str, object]:
    found = json.loads(render_evidence(prove(3)))
    assert isinstance(found, dict)
    return found


def rendered(**more: object) -> bytes:
    return json.dumps({**members(), **more}).encode()


BAD_FILES = {
    "empty": b"",
    "not-json": b"{",
    "not-utf-8": b"\xff" + rendered(),
    "a-list": b"[]",
    "no-kind": json.dumps({name: value for name, value in members().items() if name != "kind"}).encode(),
    "another-kind": rendered(kind="iap-authz/evidence/v2"),
    "an-unknown-member": rendered(more="x"),
    "a-member-twice": b'{"kind": "' + KIND.encode() + b'",' + rendered()[1:],
    "a-proto-name": json.dumps(
        {"writer_checkpoint" if name == "writerCheckpoint" else name: value for name, value in members().items()}
    ).encode(),
    "url-safe-base64": rendered(
        startedProof=[
            str(one).replace("/", "_").replace("+", "-").replace("=", "")
            for one in json.loads(rendered())["startedProof"]
        ]
    ),
    "null": rendered(index=None),
    "an-empty-list": rendered(registrationProof=[]),
    "a-number-for-text": rendered(record=5),
    "too-deep": b"[" * 100_000,
    "too-long": rendered() + b" " * EVIDENCE_MAX_BYTES,
}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_files_in_another_shape_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_evidence(data)


def test_white_space_and_order_of_a_file_are_free() -> None:
    reordered = json.dumps(dict(reversed(members().items())), indent=7).encode()
    assert parse_evidence(reordered) == prove(3)
