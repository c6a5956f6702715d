# SPDX-License-Identifier: Apache-2.0
"""A record, and the proof that its writer made it (PROTOCOL rule P2, the writer's half).

The invariant: a report names a writer only if that writer's key signed a checkpoint whose tree holds the record at its
sequence, and record 0, in the same tree, shows that the key is the writer's. Whether the record is in the audit log is
another question, and a report says that it was not shown.

    file = the protobuf JSON of iap.audit.v1.Evidence, with "kind": "iap-authz/evidence/v1" before its fields

One statement has one spelling: a file whose values do not render back to themselves is refused. Only the white space
and the order of its members are free. The log's half (index, inclusion proof, checkpoint, registration) is refused
until this module can check it, so nothing unchecked is ever carried along.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from google.protobuf import json_format

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.model.ids import AuditId, WriterId
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.records.findings import Inspection, NoSuchRecord, Place
from iap_authz.records.record import audit_id, parse_record, time_of
from iap_authz.records.started import check_started, writer_id
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import leaf_hash, parse_node_hash
from iap_authz.tlog.proof import check_inclusion, prove_inclusion

KIND = "iap-authz/evidence/v1"
"""What an evidence file says it is, so that no other JSON passes for one."""

EVIDENCE_MAX_BYTES = 1 << 20
"""Two records, two notes and two proofs in base64 take less than a fifth of it."""

NOT_SHOWN = "not shown"
"""What a report says of the audit log while the evidence holds nothing about it."""

_WRITERS_HALF = frozenset({"record", "writer_inclusion_proof", "writer_checkpoint", "started", "started_proof"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReport:
    """What evidence shows. `pinned` says that the writer is the one the verifier had in mind, not just some writer."""

    audit_id: AuditId
    made_by: WriterId
    pinned: bool
    logged: str
    log_origin: str
    sequence: RecordSequence
    size: int
    time: datetime
    record: record_pb2.Record


def prove_record(inspection: Inspection, wanted: AuditId, *, read: Callable[[Place], bytes]) -> log_pb2.Evidence:
    """The evidence for one record of an inspected journal. `read` fetches the bytes at a place of its segments.

    Raises NoSuchRecord if the journal does not hold it, or holds record 0 no longer.
    """
    sequence = inspection.sequence_of(wanted)
    if inspection.first != 0:
        raise NoSuchRecord(f"got a journal that starts at record {inspection.first}, want record 0 for the proof")
    evidence = log_pb2.Evidence(
        record=read(inspection.places[sequence]),
        writer_inclusion_proof=prove_inclusion(sequence, inspection.size, read=inspection.read),
        writer_checkpoint=inspection.checkpoint,
        started=read(inspection.places[0]),
        started_proof=prove_inclusion(0, inspection.size, read=inspection.read),
    )
    check_evidence(evidence, inspection.writer)
    return evidence


def check_evidence(evidence: log_pb2.Evidence, writer: WriterId | None = None) -> EvidenceReport:
    """What the evidence shows; if `writer` is given, only of that writer.

    Raises Malformed, BadSignature or BadProof.
    """
    record, started = parse_record(evidence.record), parse_record(evidence.started)
    _check_half(evidence)
    verifier = check_started(started)
    made_by = writer_id(verifier.public_key)
    if record.writer != made_by:
        raise BadProof(f"got a record of writer {record.writer.hex()}, want {made_by.hex()}, whose record 0 this is")
    if writer is not None and made_by != writer:
        raise BadProof(f"got evidence of writer {made_by.hex()}, want {writer.hex()}")
    checkpoint = open_checkpoint(evidence.writer_checkpoint, verifier)
    for leaf, index, proof in (
        (evidence.record, record.sequence, evidence.writer_inclusion_proof),
        (evidence.started, 0, evidence.started_proof),
    ):
        hashes = [parse_node_hash(value) for value in proof]
        check_inclusion(leaf_hash(leaf), index, size=checkpoint.size, proof=hashes, root=checkpoint.root)
    return EvidenceReport(
        audit_id=audit_id(evidence.record),
        made_by=made_by,
        pinned=writer is not None,
        logged=NOT_SHOWN,
        log_origin=started.writer_started.log_origin,
        sequence=RecordSequence(record.sequence),
        size=checkpoint.size,
        time=time_of(record),
        record=record,
    )


def render_evidence(evidence: log_pb2.Evidence) -> bytes:
    """The bytes of an evidence file."""
    return (json.dumps(_members(evidence), indent=2) + "\n").encode()


def parse_evidence(data: bytes) -> log_pb2.Evidence:
    """The evidence in a file. Nothing is verified yet. Raises Malformed."""
    if len(data) > EVIDENCE_MAX_BYTES:
        raise Malformed(f"got {len(data)} bytes, want at most {EVIDENCE_MAX_BYTES}")
    try:
        members = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed("got bytes that are no JSON, want an evidence file") from error
    if not isinstance(members, dict) or members.get("kind") != KIND:
        raise Malformed(f"got another kind of file, want a JSON object with kind {shown(KIND)}")
    try:
        fields = {name: value for name, value in members.items() if name != "kind"}
        evidence = json_format.ParseDict(fields, log_pb2.Evidence())
    except (json_format.ParseError, ValueError) as error:
        raise Malformed("got JSON that is no Evidence, want the protobuf JSON of iap.audit.v1.Evidence") from error
    if _members(evidence) != members:
        raise Malformed("got an evidence file in another spelling, want the canonical protobuf JSON")
    return evidence


def _members(evidence: log_pb2.Evidence) -> dict[str, object]:
    return {"kind": KIND, **json_format.MessageToDict(evidence)}


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _check_half(evidence: log_pb2.Evidence) -> None:
    """Raise Malformed for a field that this version cannot check."""
    other = sorted(field.name for field, _ in evidence.ListFields() if field.name not in _WRITERS_HALF)
    if other:
        raise Malformed(f"got {shown(other)} in the evidence, want the writer's half only")
