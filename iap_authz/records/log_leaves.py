# SPDX-License-Identifier: Apache-2.0
r"""The leaves that the audit log makes itself: WriterCheckpoint, WriterRegistered, WriterRetired, its own Alerts.

The invariant: such a leaf names the log as its writer and its own place in the log as its sequence. So it is vouched
for by the log's tree and checkpoint alone, no writer can make one, and a copy of it elsewhere in the log is false.

    log id = SHA-256("iap-authz/log/v1\n" || origin || "\n"), 32 bytes; no writer has it, since theirs hash a key
    batch  = records [from, to) of one writer, then one WriterCheckpoint leaf (rule P1)
"""

from datetime import datetime
from hashlib import sha256

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.model.ids import WriterId
from iap_authz.records.record import parse_record, render_time, service_record
from iap_authz.records.seal import Seal
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.tlog.tree import CompactRange

LOG_ID_LABEL = "iap-authz/log/v1"
"""Keeps a log's id apart from every other hash."""

LOG_BODIES = frozenset(
    {"writer_registered", "writer_retired", "writer_checkpoint", "log_read", "erasure", "legal_hold"}
)
"""Bodies that only the log may make."""


QUOTING_BODIES = frozenset({"writer_started", "heartbeat", "writer_stopped"})
"""Bodies of writers that quote a checkpoint of the log, in `log_checkpoint` (rule G3)."""


def log_id(origin: str) -> WriterId:
    """The id that the log of this origin uses as the writer of its own leaves."""
    return WriterId(sha256(f"{LOG_ID_LABEL}\n{origin}\n".encode()).digest())


def log_leaf(
    body: Message,
    *,
    origin: str,
    index: LeafIndex,
    record_id: bytes,
    time: datetime,
    personal: tuple[Message, Seal | None] | None = None,
) -> bytes:
    """A leaf of the log's own at `index`, and what it says of a person, with what seals it. Raises RecordTooLarge."""
    sequence = RecordSequence(index)
    return service_record(
        body, writer=log_id(origin), sequence=sequence, record_id=record_id, time=time, personal=personal
    )


def checkpoint_body(
    note: bytes, *, before: CompactRange, end: int, first_index: LeafIndex, received: datetime
) -> record_pb2.WriterCheckpoint:
    """What ends a batch (rule P1): the writer's note at `end`, and its tree over [0, from)."""
    body = record_pb2.WriterCheckpoint(
        note=note, to=end, first_index=first_index, compact_range=before.hashes, received=render_time(received)
    )
    setattr(body, "from", before.end)
    return body


def begin_of(body: record_pb2.WriterCheckpoint) -> int:
    """The first sequence of the batch that `body` ends; the field's name is a word of Python's."""
    begin: int = getattr(body, "from")
    return begin


def range_before(body: record_pb2.WriterCheckpoint) -> CompactRange:
    """The writer's tree over the records before the batch. Raises Malformed."""
    return CompactRange.parse(0, begin_of(body), hashes=list(body.compact_range))


def parse_log_leaf(leaf: bytes, *, origin: str, index: int, body: str) -> record_pb2.Record:
    """A leaf of the log's own at `index` with this body. Raises Malformed, or BadProof if it is somebody else's."""
    record = parse_record(leaf)
    if record.WhichOneof("body") != body:
        raise Malformed(f"got {shown(record.WhichOneof('body'))} at leaf {index}, want {body}")
    if record.writer != log_id(origin) or record.sequence != index:
        raise BadProof(
            f"got a {body} of {record.writer.hex()}, record {record.sequence}, want the log's own at {index}"
        )
    return record
