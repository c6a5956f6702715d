# SPDX-License-Identifier: Apache-2.0
r"""Record 0 of a writer: its public key, and the proof that it has the private one (PROTOCOL rules W1, W2).

The invariant: a key that came out of `check_started` signed, for this log and for this writer id, that it is the
writer's; the id is the key's own hash, so neither can be taken over by another.

    writer id = SHA-256(public key), 32 bytes
    signed    = "iap-authz/writer-started/v1\n" || log origin || "\n" || writer id in hex || "\n"
    note name = <log origin>/writers/<writer id in hex>, the origin of the writer's own checkpoints

It does not say who the writer is: that is what its registration in the audit log is for (rule W5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.model.ids import WriterId
from iap_authz.tlog.hashing import HASH_BYTES
from iap_authz.tlog.note import VerifierKey, check_ed25519, check_name, parse_note

POSSESSION_LABEL = "iap-authz/writer-started/v1"
"""Keeps this signature apart from every other one that the key makes (record.proto)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The incarnation before: its id, and its last journaled checkpoint, a signed note."""

    writer: WriterId
    checkpoint: bytes


def writer_id(public_key: bytes) -> WriterId:
    """The id of the writer whose public key this is."""
    return WriterId(sha256(public_key).digest())


def writer_origin(log_origin: str, writer: WriterId) -> str:
    """The name that a writer of the log `log_origin` signs its checkpoints under. Raises Malformed for a bad origin."""
    origin = f"{log_origin}/writers/{writer.hex()}"
    check_name(origin)
    return origin


def possession_message(log_origin: str, writer: WriterId) -> bytes:
    """What a writer signs to show that it has its key."""
    return f"{POSSESSION_LABEL}\n{log_origin}\n{writer.hex()}\n".encode()


def render_started(
    log_origin: str,
    public_key: bytes,
    *,
    sign: Callable[[bytes], bytes],
    workload: str,
    instance: str,
    version: str,
    worker: int = 0,
    predecessor: Predecessor | None = None,
) -> record_pb2.WriterStarted:
    """The body of record 0. `sign` makes the 64-byte Ed25519 signature of the key behind `public_key`."""
    writer = writer_id(public_key)
    body = record_pb2.WriterStarted(
        public_key=public_key,
        possession_signature=sign(possession_message(log_origin, writer)),
        log_origin=log_origin,
        workload=workload,
        instance=instance,
        version=version,
        worker=worker,
    )
    if predecessor is not None:
        body.predecessor = predecessor.writer
        body.predecessor_checkpoint = predecessor.checkpoint
    return body


def check_started(record: record_pb2.Record, log_origin: str | None = None) -> VerifierKey:
    """The key that checks the notes of the writer whose record 0 this is, under the name it signs them with.

    Raises Malformed if it is no such record, BadProof if it is another writer's or of another log than `log_origin`
    (None: of whichever log it says), BadSignature if the writer did not have its key.
    """
    if record.WhichOneof("body") != "writer_started" or record.sequence != 0:
        raise Malformed(f"got {shown(record.WhichOneof('body'))} as record {record.sequence}, want WriterStarted as 0")
    body = record.writer_started
    writer = writer_id(body.public_key)
    if record.writer != writer:
        raise BadProof(f"got the key of writer {writer.hex()}, want that of {record.writer.hex()}")
    if log_origin is not None and body.log_origin != log_origin:
        raise BadProof(f"got a writer of {shown(body.log_origin)}, want one of {shown(log_origin)}")
    verifier = VerifierKey(name=writer_origin(body.log_origin, writer), public_key=body.public_key)
    message = possession_message(body.log_origin, writer)
    check_ed25519(body.public_key, message, signature=body.possession_signature)
    _check_predecessor(body)
    return verifier


def _check_predecessor(body: record_pb2.WriterStarted) -> None:
    """Its note is not verified, since its key stands in its own record 0; it must have the shape of one."""
    if body.predecessor and len(body.predecessor) != HASH_BYTES:
        raise Malformed(f"got a predecessor of {len(body.predecessor)} bytes, want {HASH_BYTES}")
    if body.predecessor_checkpoint:
        parse_note(body.predecessor_checkpoint)
