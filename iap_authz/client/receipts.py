# SPDX-License-Identifier: Apache-2.0
"""What a receipt of the audit log must say, before any of its proofs is computed (PROTOCOL rules P1 and X1).

The invariant: a receipt that passed is the answer to what was asked: this writer, these records, and as its last leaf
a statement of the log's own, at its own place, that names the same records and holds the writer's own note. Whether
those leaves are in the log is for the proofs to show (`view`).

    leaves of a batch        first_index ... first_index + (end - begin) - 1   the records
                             first_index + (end - begin)                       WriterCheckpoint (P1)
    leaf of a registration   first_index                                       WriterRegistered

Pure: values in, nothing out. It does not trust the receipt's own count, and never hashes a record that the log sent.
"""

from collections.abc import Iterable, Sequence

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.model.ids import WriterId
from iap_authz.records.log_leaves import begin_of, parse_log_leaf, range_before
from iap_authz.records.record import parse_time
from iap_authz.records.started import writer_id
from iap_authz.tlog.checkpoint import Checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, NodeHash, parse_node_hash
from iap_authz.tlog.note import parse_note
from iap_authz.tlog.proof import check_consistency
from iap_authz.tlog.receipt import Receipt


def parse_hashes(values: Iterable[bytes]) -> tuple[NodeHash, ...]:
    """The hashes of a proof, each 32 bytes. Raises Malformed."""
    return tuple(parse_node_hash(value) for value in values)


def parse_receipt(receipt: log_pb2.Receipt) -> Receipt:
    """The part of a receipt that proofs are computed from. Raises Malformed."""
    return Receipt(
        first_index=LeafIndex(receipt.first_index),
        count=receipt.leaves,
        range_proof=parse_hashes(receipt.range_proof),
        checkpoint_note=receipt.checkpoint,
        consistency_proof=parse_hashes(receipt.consistency_proof),
    )


def parse_size(note: bytes) -> int:
    """The tree size that a note speaks of. Nothing is verified: good for asking the right question, for nothing else.

    Raises Malformed.
    """
    return parse_checkpoint(parse_note(note).text).size


def check_prefix(old: Checkpoint, new: Checkpoint, *, proof: Sequence[NodeHash]) -> None:
    """Raise BadProof unless the tree of `old` is a prefix of that of `new`.

    The empty tree is a prefix of every tree, and there is nothing to prove of it.
    """
    if old.size == 0 < new.size:
        if proof:
            raise BadProof(f"got {len(proof)} hashes from the empty tree, want none")
        return
    check_consistency(old.size, new.size, proof=proof, old_root=old.root, new_root=new.root)


def check_batch_receipt(
    receipt: log_pb2.Receipt,
    leaf_hashes: Sequence[LeafHash],
    *,
    origin: str,
    writer: WriterId,
    begin: int,
    end: int,
    note: bytes,
) -> None:
    """Raise unless the receipt is for records [begin, end) of `writer`, which signed `note` at `end`.

    `leaf_hashes` are of these records, hashed by this side. Raises Malformed or BadProof.
    """
    if len(leaf_hashes) != end - begin or not leaf_hashes:
        raise ValueError(f"got {len(leaf_hashes)} hashes for records {begin} to {end}, want one for each")
    _check_asked(receipt, writer=writer, begin=begin, end=end, leaves=end - begin + 1)
    last_index = receipt.first_index + end - begin
    record = parse_log_leaf(receipt.writer_checkpoint_leaf, origin=origin, index=last_index, body="writer_checkpoint")
    body = record.writer_checkpoint
    got = (begin_of(body), body.to, body.first_index)
    if got != (begin, end, receipt.first_index):
        raise BadProof(f"got a WriterCheckpoint of {got}, want {(begin, end, receipt.first_index)}")
    if body.note != note:
        raise BadProof(f"got a WriterCheckpoint with the note {shown(body.note)}, want the one that was sent")
    _check_writer_tree(body, leaf_hashes, note=note)
    if not body.HasField("received"):
        raise Malformed("got a WriterCheckpoint without the time it was received, want one")
    parse_time(body.received)


def check_registration_receipt(receipt: log_pb2.Receipt, *, origin: str, public_key: bytes) -> None:
    """Raise unless the receipt is for the registration of the writer with this key. Raises Malformed or BadProof."""
    writer = writer_id(public_key)
    _check_asked(receipt, writer=writer, begin=0, end=0, leaves=1)
    record = parse_log_leaf(
        receipt.writer_checkpoint_leaf, origin=origin, index=receipt.first_index, body="writer_registered"
    )
    body = record.writer_registered
    if body.writer != writer or body.public_key != public_key:
        raise BadProof(f"got a WriterRegistered of {shown(body.writer.hex())}, want {writer.hex()} with its key")


def _check_asked(receipt: log_pb2.Receipt, *, writer: WriterId, begin: int, end: int, leaves: int) -> None:
    if receipt.writer != writer:
        raise BadProof(f"got a receipt for writer {shown(receipt.writer.hex())}, want {writer.hex()}")
    got = (getattr(receipt, "from"), receipt.to, receipt.leaves)
    if got != (begin, end, leaves):
        raise BadProof(f"got a receipt for {got}, want {(begin, end, leaves)}: from, to and leaves")


def _check_writer_tree(body: record_pb2.WriterCheckpoint, leaf_hashes: Sequence[LeafHash], *, note: bytes) -> None:
    """The compact range in the leaf, grown by the batch, must be the tree that the writer signed (rule A4)."""
    root = range_before(body).extend(leaf_hashes).root()
    signed = parse_checkpoint(parse_note(note).text)
    if (signed.size, signed.root) != (body.to, root):
        raise BadProof(f"got a compact range that leads to root {root.hex()}, want {signed.root.hex()} of the note")
