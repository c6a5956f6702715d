# SPDX-License-Identifier: Apache-2.0
"""Receipts: the log's proof to a writer that its leaves are in the log, in their order, at known places.

The invariant (rule X1): a receipt is believed only with the log's signature *and* the range proof *and* consistency
with the last checkpoint that this side has on disk. With any of the three missing, a log could show each writer a tree
of its own.

    signature    the checkpoint in the note is the log's
    consistency  last durable checkpoint -> this one; the tree we knew is still there
    range        our leaves, hashed by us, are leaves [first_index, first_index + count) of this one

What contradicts what: two signed checkpoints of one size and two roots cannot both be of one tree, so they are a Fork
and both notes are the evidence. A smaller size than the last is not one: an old receipt, sent again after a lost
answer (A1 to A3), is exactly that. But it proves nothing about the tree as it is now, so `check_receipt` refuses it
with BadProof and never moves backward; `check_stored_receipt` takes it if the log proves it to be a prefix of our
last. A proof that fails is BadProof too: it shows that this answer is bad, not that no better one exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from iap_authz.errors import BadProof, Fork
from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, NodeHash
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.proof import check_consistency, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the log answered to a batch. Nothing in it is checked yet."""

    first_index: LeafIndex
    count: int
    range_proof: tuple[NodeHash, ...]
    checkpoint_note: bytes
    consistency_proof: tuple[NodeHash, ...]


def check_receipt(
    receipt: Receipt, leaf_hashes: Sequence[LeafHash], *, verifier: VerifierKey, last_checkpoint: SignedCheckpoint
) -> Checkpoint:
    """The receipt's checkpoint, once all of X1 holds. Make it and its note durable before you act on it (G2).

    `leaf_hashes` are of the records this side holds. `last_checkpoint` is the last one on disk, opened by the same
    verifier. Raises Malformed, BadSignature, BadProof, or Fork.
    """
    checkpoint = _open(receipt, verifier, last=last_checkpoint)
    last = last_checkpoint.checkpoint
    if checkpoint.size < last.size:
        raise BadProof(f"got a receipt at size {checkpoint.size}, want at least {last.size}, the size already proven")
    _check_prefix(last, checkpoint, proof=receipt.consistency_proof)
    _check_leaves(receipt, leaf_hashes, checkpoint=checkpoint)
    return checkpoint


def check_stored_receipt(
    receipt: Receipt, leaf_hashes: Sequence[LeafHash], *, verifier: VerifierKey, last_checkpoint: SignedCheckpoint
) -> None:
    """Raise unless an old receipt still holds: its tree is a prefix of our last, and our leaves are in it.

    For `GetReceipts` (A2). The consistency proof runs from the receipt's size to that of the last checkpoint, which
    stays the last one.
    """
    checkpoint = _open(receipt, verifier, last=last_checkpoint)
    last = last_checkpoint.checkpoint
    if checkpoint.size > last.size:
        raise BadProof(
            f"got a stored receipt at size {checkpoint.size}, want at most {last.size}, the size already proven"
        )
    _check_prefix(checkpoint, last, proof=receipt.consistency_proof)
    _check_leaves(receipt, leaf_hashes, checkpoint=checkpoint)


def _open(receipt: Receipt, verifier: VerifierKey, *, last: SignedCheckpoint) -> Checkpoint:
    """The receipt's signed checkpoint. A fork is looked for first: the evidence counts whatever else is wrong."""
    if last.checkpoint.origin != verifier.name:
        raise ValueError(f"got a last checkpoint of {last.checkpoint.origin!a}, want one of {verifier.name!a}")
    checkpoint = open_checkpoint(receipt.checkpoint_note, verifier)
    if checkpoint.size == last.checkpoint.size and checkpoint.root != last.checkpoint.root:
        message = f"got two signed roots of {checkpoint.origin} at size {checkpoint.size}"
        raise Fork(message, [last.note, receipt.checkpoint_note])
    return checkpoint


def _check_prefix(old: Checkpoint, new: Checkpoint, *, proof: Sequence[NodeHash]) -> None:
    """Consistency; an empty tree, which has one root only, is a prefix of every tree and needs no proof."""
    if old.size == 0 < new.size:
        if proof:
            raise BadProof(f"got {len(proof)} hashes from the empty tree, want none")
        return
    check_consistency(old.size, new.size, proof=proof, old_root=old.root, new_root=new.root)


def _check_leaves(receipt: Receipt, leaf_hashes: Sequence[LeafHash], *, checkpoint: Checkpoint) -> None:
    if receipt.count != len(leaf_hashes):
        raise BadProof(f"got a receipt for {receipt.count} leaves, want {len(leaf_hashes)}")
    check_range(leaf_hashes, receipt.first_index, size=checkpoint.size, proof=receipt.range_proof, root=checkpoint.root)
