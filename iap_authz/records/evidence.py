# SPDX-License-Identifier: Apache-2.0
"""A record, and the proofs that its writer made it and that it is in the audit log (PROTOCOL rule P2).

The invariant: "made by" and "logged" are two statements, each reported only if its own proof is in the evidence, and
every part of the evidence belongs to a proof that was checked: nothing is carried along.

    writer's half   record, its proof in the writer's tree, the writer's signed checkpoint;
                    the writer's key out of record 0 (`started`, under the same checkpoint) or out of the registration
    log's half      record, its proof in the log's tree, the log's signed checkpoint; the writer's WriterRegistered leaf

    file = the protobuf JSON of iap.audit.v1.Evidence, with "kind": "iap-authz/evidence/v1" before its fields

A writer's id is the hash of its key, so either source of the key authenticates itself. A journal gives the writer's
half alone, the log gives both; the log's half alone is refused, since a log could invent "W allowed X" and prove it. A
leaf that the log made itself has no other maker: its half is the log's. One statement has one spelling: a file whose
values do not render back to themselves is refused. Only the white space and the order of its members are free.
"""

import enum
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
from iap_authz.records.log_evidence import Logged, LogHalf, Registered, check_leaf, check_log_half
from iap_authz.records.log_leaves import log_id
from iap_authz.records.record import audit_id, parse_record, time_of
from iap_authz.records.started import check_started, writer_id
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import TreeSize
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.proof import prove_inclusion

KIND = "iap-authz/evidence/v1"
"""What an evidence file says it is, so that no other JSON passes for one."""

EVIDENCE_MAX_BYTES = 1 << 20
"""Three records, two notes and four proofs in base64 take less than a third of it."""

_WRITERS_HALF = ("writer_inclusion_proof", "writer_checkpoint", "registration", "started")
"""What only the evidence for a writer's record may have; the fields that go with them are in `_GO_WITH`."""

_GO_WITH = {
    "writer_checkpoint": ("writer_inclusion_proof",),
    "started": ("started_proof",),
    "checkpoint": ("index", "inclusion_proof", "registration"),
    "registration": ("registration_index", "registration_proof"),
}
"""Fields that say something only together with another one."""


class Pin(enum.Enum):
    """Why the maker of a record is the one the verifier had in mind, and not just some writer."""

    NONE = "the file names its writer itself"
    NAMED = "the writer that was named"
    REGISTERED = "registered in the log whose key was given, or this log itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceReport:
    """What evidence shows.

    `made_by` is the writer, or for a leaf of the log's own (`by_log`) the log's id, which nothing but the log's
    signature proves: naming that id pins nothing. The record stands at `sequence` of the maker's tree of `size`.
    `logged` is None where nothing about the audit log is shown, and not proven unless it is `pinned`. `log_origin` is
    the log that the record was made for.
    """

    audit_id: AuditId
    made_by: WriterId
    by_log: bool
    pin: Pin
    logged: Logged | None
    registered: Registered | None
    log_origin: str
    sequence: RecordSequence
    size: TreeSize
    time: datetime
    record: record_pb2.Record

    @property
    def pinned(self) -> bool:
        """Whether the maker is pinned by something that the verifier has named."""
        return self.pin is not Pin.NONE


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


def check_evidence(
    evidence: log_pb2.Evidence, writer: WriterId | None = None, *, log: VerifierKey | None = None
) -> EvidenceReport:
    """What the evidence shows; if `writer` is given, only of that writer; if `log` is, only of the log with that key.

    Raises Malformed, BadSignature or BadProof.
    """
    _check_parts(evidence)
    record = parse_record(evidence.record)
    half = check_log_half(evidence, record, log=log) if evidence.checkpoint else None
    if half is not None and record.writer == log_id(half.logged.origin):
        made = _made_by_log(evidence, half)
    else:
        made = _made_by_writer(evidence, record, half=half, log=log)
    maker = WriterId(record.writer)
    if writer is not None and maker != writer:
        raise BadProof(f"got evidence of writer {maker.hex()}, want {writer.hex()}")
    return EvidenceReport(
        audit_id=audit_id(evidence.record),
        made_by=maker,
        by_log=made.by_log,
        pin=Pin.NAMED if writer is not None and not made.by_log else made.pin,
        logged=half.logged if half is not None else None,
        registered=half.registered if half is not None else None,
        log_origin=made.log_origin,
        sequence=RecordSequence(record.sequence),
        size=made.size,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What is known of the maker: the log it made the record for, the size of its own tree, and who vouches for it."""

    by_log: bool
    log_origin: str
    size: TreeSize
    pin: Pin


def _check_parts(evidence: log_pb2.Evidence) -> None:
    """Raise Malformed for a part that no check would look at, because what it belongs to is missing."""
    present = {field.name for field, _ in evidence.ListFields()}
    for whole, parts in _GO_WITH.items():
        alone = sorted(present.intersection(parts))
        if alone and whole not in present:
            raise Malformed(f"got {shown(alone)} in the evidence without {whole}, want both or none")


def _made_by_log(evidence: log_pb2.Evidence, half: LogHalf) -> _Made:
    """A leaf of the log's own, of which `check_log_half` has seen that it stands at its own index."""
    other = sorted({field.name for field, _ in evidence.ListFields()}.intersection(_WRITERS_HALF))
    if other:
        raise Malformed(f"got {shown(other)} with a leaf that the log made itself, want the log's half only")
    pin = Pin.REGISTERED if half.logged.pinned else Pin.NONE
    return _Made(by_log=True, log_origin=half.logged.origin, size=half.logged.size, pin=pin)


def _made_by_writer(
    evidence: log_pb2.Evidence, record: record_pb2.Record, *, half: LogHalf | None, log: VerifierKey | None
) -> _Made:
    """A writer's record: in the tree of the writer's own checkpoint, signed by a key that is the writer's."""
    registered = half.registered if half is not None else None
    verifier, log_origin = _key_of_writer(evidence, half=half, log=log)
    made_by = writer_id(verifier.public_key)
    if record.writer != made_by:
        raise BadProof(f"got a record of writer {record.writer.hex()}, want {made_by.hex()}, whose key this is")
    if registered is not None and registered.writer != made_by:
        raise BadProof(f"got a registration of writer {registered.writer.hex()}, want {made_by.hex()}")
    checkpoint = open_checkpoint(evidence.writer_checkpoint, verifier)
    check_leaf(evidence.record, record.sequence, proof=evidence.writer_inclusion_proof, checkpoint=checkpoint)
    if evidence.started:
        check_leaf(evidence.started, 0, proof=evidence.started_proof, checkpoint=checkpoint)
    pin = Pin.REGISTERED if registered is not None and log is not None else Pin.NONE
    return _Made(by_log=False, log_origin=log_origin, size=checkpoint.size, pin=pin)


def _key_of_writer(
    evidence: log_pb2.Evidence, *, half: LogHalf | None, log: VerifierKey | None
) -> tuple[VerifierKey, str]:
    """The key that checks the writer's checkpoint, and the origin of the log that the writer writes for."""
    if not evidence.writer_checkpoint:
        raise Malformed("got a writer's record without the writer's checkpoint, want the writer's half too")
    if evidence.started:
        started = parse_record(evidence.started)
        log_origin = started.writer_started.log_origin
        want = half.logged.origin if half is not None else log.name if log is not None else log_origin
        return check_started(started, want), log_origin
    if half is None or half.registered is None:
        raise Malformed("got a writer's record without the writer's key, want its record 0 or its registration")
    return half.registered.verifier, half.logged.origin
