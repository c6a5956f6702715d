# SPDX-License-Identifier: Apache-2.0
"""The log's half of evidence: that a record is a leaf of the audit log, and whom the log registered as its writer.

The invariant: all that `check_log_half` reports stands under one checkpoint, the one in the evidence. Its signature is
checked only if the log's key is given; without it the report says `pinned=False`, and nobody may take it for proven.

    evidence = record, its index and inclusion proof ┐
               WriterRegistered leaf, index and proof├ under one checkpoint of the log
               (none for a leaf of the log's own)    ┘

    writer's tree at `to`:  [0, from)  compact range in the WriterCheckpoint leaf (rule P1)
                            [from, to) the batch itself

So a log makes the writer's half of the evidence from one batch, whatever the writer has sent before: the sibling of a
node above a leaf of the batch lies before the batch, and is then in the compact range, or in the batch, or across.
`log_evidence` proves; `check_log_half` takes nothing from it on trust. Whether the log had retired the writer before
the record is not shown: no proof for one record can, an auditor who reads all leaves can (`log_fold`, `completeness`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.model.ids import WriterId
from iap_authz.records.log_leaves import LOG_BODIES, begin_of, log_id, parse_log_leaf, range_before
from iap_authz.records.record import parse_record
from iap_authz.records.started import writer_id, writer_origin
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize, leaf_hash, leaf_hashes, parse_node_hash
from iap_authz.tlog.note import VerifierKey, parse_note
from iap_authz.tlog.proof import Read, check_inclusion, prove_inclusion
from iap_authz.tlog.tree import CompactRange, Subtree


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLeaves:
    """A batch as it stands in the log: `records` from `first_index` on, the first one record `begin` of its writer.

    `checkpoint_leaf` is the WriterCheckpoint leaf that follows them.
    """

    first_index: LeafIndex
    begin: int
    records: Sequence[bytes]
    checkpoint_leaf: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Leaf `index` of the log `origin` at `size` leaves. `pinned` says that the checkpoint's signature was checked."""

    origin: str
    size: TreeSize
    index: LeafIndex
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Whom the log registered, as which workload, and on whose word. `verifier` checks the writer's notes."""

    writer: WriterId
    verifier: VerifierKey
    index: LeafIndex
    workload: str
    enrolled_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHalf:
    """What the log's half shows. `registered` is None where the evidence has no registration."""

    logged: Logged
    registered: Registered | None


def log_evidence(
    record: bytes,
    index: LeafIndex,
    *,
    batch: BatchLeaves,
    size: TreeSize,
    note: bytes,
    read: Read,
    registration: bytes,
    registration_index: LeafIndex,
) -> log_pb2.Evidence:
    """Both halves for `record`, leaf `index` and part of `batch`. `note` is the log's checkpoint at `size`.

    `read` gives subtrees of the log's own tree. Raises Malformed if the batch's last leaf is no WriterCheckpoint.
    """
    evidence = own_leaf_evidence(record, index, size=size, note=note, read=read)
    position = index - batch.first_index
    if not 0 <= position < len(batch.records) or batch.records[position] != record:
        raise ValueError(f"got leaf {index}, want one of the {len(batch.records)} records from {batch.first_index} on")
    body = parse_record(batch.checkpoint_leaf).writer_checkpoint
    if begin_of(body) != batch.begin or body.to != batch.begin + len(batch.records):
        raise Malformed(f"got a WriterCheckpoint from {begin_of(body)} to {body.to}, want the batch's own")
    evidence.writer_inclusion_proof.extend(
        prove_inclusion(batch.begin + position, body.to, read=read_batch(range_before(body), batch.records))
    )
    evidence.writer_checkpoint = body.note
    evidence.registration = registration
    evidence.registration_index = registration_index
    evidence.registration_proof.extend(prove_inclusion(registration_index, size, read=read))
    return evidence


def own_leaf_evidence(record: bytes, index: LeafIndex, *, size: TreeSize, note: bytes, read: Read) -> log_pb2.Evidence:
    """The evidence for a leaf that the log made itself: it is vouched for by the log's tree, and by nothing else."""
    return log_pb2.Evidence(
        record=record, index=index, inclusion_proof=prove_inclusion(index, size, read=read), checkpoint=note
    )


def read_batch(before: CompactRange, records: Sequence[bytes]) -> Read:
    """The subtrees beside the path of a leaf of the batch, out of the tree before it and its own leaves."""
    starts = [subtree.index << subtree.level for subtree in before.subtrees()]
    known = dict(zip(before.subtrees(), before.hashes, strict=True))
    leaves = leaf_hashes(records)

    def root(subtree: Subtree) -> NodeHash:
        if subtree in known:
            return known[subtree]
        begin = subtree.index << subtree.level
        end = begin + (1 << subtree.level)
        # A subtree starts at a multiple of its length, so what the range holds of it is a range of its own.
        left = [value for start, value in zip(starts, before.hashes, strict=True) if start >= begin]
        inside = CompactRange.parse(0, max(before.end - begin, 0), hashes=left)
        return inside.extend(leaves[max(begin - before.end, 0) : end - before.end]).root()

    return lambda subtrees: [root(subtree) for subtree in subtrees]


def check_log_half(evidence: log_pb2.Evidence, record: record_pb2.Record, *, log: VerifierKey | None = None) -> LogHalf:
    """What the log's half shows of `record`, the parsed `evidence.record`.

    Raises Malformed, BadSignature (if `log`, the log's key, did not sign) or BadProof.
    """
    checkpoint = _open(evidence.checkpoint, log)
    check_leaf(evidence.record, evidence.index, proof=evidence.inclusion_proof, checkpoint=checkpoint)
    _check_maker(record, evidence.index, origin=checkpoint.origin)
    logged = Logged(
        origin=checkpoint.origin, size=checkpoint.size, index=LeafIndex(evidence.index), pinned=log is not None
    )
    registered = _check_registration(evidence, checkpoint) if evidence.registration else None
    return LogHalf(logged=logged, registered=registered)


def _open(note: bytes, log: VerifierKey | None) -> Checkpoint:
    """The checkpoint; without a key, what the note says, which nobody vouches for yet."""
    return parse_checkpoint(parse_note(note).text) if log is None else open_checkpoint(note, log)


def check_leaf(leaf: bytes, index: int, *, proof: Sequence[bytes], checkpoint: Checkpoint) -> None:
    """Raise Malformed or BadProof unless `leaf` is leaf `index` under the checkpoint, of the log or of a writer."""
    hashes = [parse_node_hash(value) for value in proof]
    check_inclusion(leaf_hash(leaf), index, size=checkpoint.size, proof=hashes, root=checkpoint.root)


def _check_maker(record: record_pb2.Record, index: int, *, origin: str) -> None:
    """Raise BadProof for a leaf of the log's own elsewhere than at its index, or made by a writer."""
    body, own = record.WhichOneof("body"), record.writer == log_id(origin)
    if own and record.sequence != index:
        raise BadProof(f"got the log's own leaf {record.sequence} at {index}, want it at its own index")
    if not own and body in LOG_BODIES:
        raise BadProof(f"got {shown(body)} of writer {record.writer.hex()}, want it of the log, which alone makes it")


def _check_registration(evidence: log_pb2.Evidence, checkpoint: Checkpoint) -> Registered:
    """Whom the log registered, before the record and under the same checkpoint."""
    index = LeafIndex(evidence.registration_index)
    if index >= evidence.index:
        raise BadProof(f"got a registration at {index}, want it before the record at {evidence.index}")
    leaf = parse_log_leaf(evidence.registration, origin=checkpoint.origin, index=index, body="writer_registered")
    check_leaf(evidence.registration, index, proof=evidence.registration_proof, checkpoint=checkpoint)
    body = leaf.writer_registered
    writer = writer_id(body.public_key)
    if body.writer != writer:
        raise BadProof(f"got a registration of {body.writer.hex()}, want {writer.hex()}, whose key it holds")
    return Registered(
        writer=writer,
        verifier=VerifierKey(name=writer_origin(checkpoint.origin, writer), public_key=body.public_key),
        index=index,
        workload=body.workload,
        enrolled_by=body.enrolled_by,
    )
