# SPDX-License-Identifier: Apache-2.0
"""What the audit log takes from a writer, decided without any state but the writer's own (rules W2, W5, A1, P1).

The invariant: a batch that `admit` returned holds exactly the records that the writer signed for: each parses, is of
this writer and stands at its own index, and the tree over all of them has the root in the writer's note.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import BadProof, Fork, Malformed, OutOfSequence, Refused, shown
from iap_authz.model.ids import WriterId
from iap_authz.records.log_fold import WriterState
from iap_authz.records.log_leaves import LOG_BODIES, log_id
from iap_authz.records.record import parse_record
from iap_authz.records.started import check_started, writer_id
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES, leaf_hash, leaf_hashes, parse_node_hash
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.proof import check_inclusion

BATCH_MAX_RECORDS = 4_096
"""Four times what a sidecar sends: one signature check and one range proof for all of them."""

BATCH_MAX_BYTES = 4 << 20
"""Keeps a round's memory and its stage small; a sidecar sends at most half of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A writer that has shown its key, and record 0 under its own signature."""

    writer: WriterId
    verifier: VerifierKey
    workload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records [begin, end) of a writer, and its note at `end`. Only the shape is checked."""

    writer: WriterId
    begin: int
    end: int
    records: tuple[bytes, ...]
    note: bytes


def check_registration(request: log_pb2.RegisterRequest, origin: str) -> Registration:
    """Who registers (rule W2). Raises Malformed, BadProof or BadSignature.

    The key is refused where it is of small order or not canonical: such a key signs everything.
    """
    record = parse_record(request.started)
    verifier = check_started(record, origin)
    if verifier.public_key != request.public_key:
        raise BadProof("got a public key that is not the one in record 0")
    if writer_id(verifier.public_key) == log_id(origin):
        raise Refused("got the log's own id, want that of a writer")
    checkpoint = open_checkpoint(request.checkpoint, verifier)
    proof = [parse_node_hash(value) for value in request.inclusion_proof]
    check_inclusion(leaf_hash(request.started), 0, size=checkpoint.size, proof=proof, root=checkpoint.root)
    return Registration(
        writer=writer_id(verifier.public_key), verifier=verifier, workload=record.writer_started.workload
    )


def parse_batch(request: log_pb2.AppendRequest) -> Batch:
    """The batch of a request. Raises Malformed for a shape that no batch has."""
    begin, end, count = getattr(request, "from"), request.to, len(request.records)
    if len(request.writer) != HASH_BYTES:
        raise Malformed(f"got a writer id of {len(request.writer)} bytes, want {HASH_BYTES}")
    if not begin < end < SIZE_LIMIT_LEAVES or count != end - begin or count > BATCH_MAX_RECORDS:
        raise Malformed(f"got {count} records from {begin} to {end}, want 1 to {BATCH_MAX_RECORDS}, one for each place")
    size = sum(map(len, request.records))
    if size > BATCH_MAX_BYTES:
        raise Malformed(f"got records of {size} bytes, want at most {BATCH_MAX_BYTES}")
    return Batch(
        writer=WriterId(request.writer), begin=begin, end=end, records=tuple(request.records), note=request.checkpoint
    )


def check_place(batch: Batch, size: int) -> None:
    """Raise OutOfSequence unless the batch is the next one of a writer with `size` records (rule A1)."""
    if batch.begin != size:
        raise OutOfSequence(f"got records from {batch.begin} to {batch.end}, want them from {size} on", size)


def admit(batch: Batch, state: WriterState) -> WriterState:
    """The writer's state after the batch, which begins where the state ends. Raises Malformed, BadProof, BadSignature.

    A note that a writer signed for a tree which is not the one of its records is BadProof: one note is no fork.
    """
    _check_records(batch.records, writer=batch.writer, begin=batch.begin)
    checkpoint = open_checkpoint(batch.note, state.verifier)
    if checkpoint.size != batch.end:
        raise BadProof(f"got a note at {checkpoint.size}, want one at {batch.end}")
    tree = state.tree.extend(leaf_hashes(batch.records))
    if tree.root() != checkpoint.root:
        raise BadProof(f"got records with root {tree.root().hex()}, want {checkpoint.root.hex()}, which was signed")
    return replace(state, tree=tree, note=batch.note)


def check_same_note(batch: Batch, known: bytes, *, verifier: VerifierKey) -> None:
    """Raise Fork if the writer signed another root at the size of a batch that is known (rule W6)."""
    if batch.note == known:
        return
    got, want = open_checkpoint(batch.note, verifier), open_checkpoint(known, verifier)
    if got.size == want.size and got.root != want.root:
        raise Fork(f"got two signed roots of {got.origin} at size {got.size}", [known, batch.note])


def _check_records(records: Sequence[bytes], *, writer: WriterId, begin: int) -> None:
    """Rule W5, and that no writer makes what only the log may make."""
    for sequence, leaf in enumerate(records, begin):
        record = parse_record(leaf)
        if record.writer != writer or record.sequence != sequence:
            raise BadProof(f"got record {record.sequence} of {record.writer.hex()}, want {sequence} of {writer.hex()}")
        body = record.WhichOneof("body")
        if body in LOG_BODIES or (body == "writer_started") != (sequence == 0):
            raise Malformed(f"got {shown(body)} as record {sequence}, which only the log or record 0 may be")


def check_token(token: str, names_by_sha256: Mapping[str, str]) -> str:
    """The name of an enrolment token. Raises Refused. The table holds hashes, so a look-up reveals nothing of use."""
    name = names_by_sha256.get(sha256(token.encode()).hexdigest())
    if not token or name is None:
        raise Refused("got no enrolment token that this log knows, want one of its enrolment file")
    return name
