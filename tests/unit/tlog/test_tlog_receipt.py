# SPDX-License-Identifier: Apache-2.0
"""Rule X1: a receipt is valid only with signature, range proof and consistency from the last durable checkpoint."""

from dataclasses import replace
from typing import Any

import pytest

from iap_authz.errors import BadProof, BadSignature, Fork, Malformed
from iap_authz.tlog.checkpoint import SignedCheckpoint, sign_checkpoint
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.tlog.receipt import Receipt, check_receipt, check_stored_receipt
from tests.fakes.reference_tree import ReferenceTree
from tests.unit.tlog.tlog_keys import checkpoint, signed, signer

TREE = ReferenceTree.numbered(40)
EVIL = ReferenceTree([*TREE.entries[:12], *(b"evil %d" % number for number in range(28))])
VERIFIER = signer().verifier()
FIRST, COUNT = 9, 7
LEAVES = TREE.leaves(FIRST, FIRST + COUNT)


def receipt(size: int = 30, last: int = 12, *, tree: ReferenceTree = TREE) -> Receipt:
    low, high = sorted((size, last))
    return Receipt(
        first_index=LeafIndex(FIRST),
        count=COUNT,
        range_proof=tuple(tree.outside(FIRST, FIRST + COUNT, size)),
        checkpoint_note=signed(tree, size).note,
        consistency_proof=tuple(tree.proof(low, high)) if low else (),
    )


@pytest.mark.parametrize("last", range(31))
def test_x1_a_good_receipt_gives_its_checkpoint(last: int) -> None:
    got = check_receipt(receipt(30, last), LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, last))
    assert got == checkpoint(TREE, 30)


BROKEN: dict[str, dict[str, Any]] = {
    "signature of another key": {"checkpoint_note": signed(TREE, 30, seed=2).note},
    "checkpoint of another size": {"checkpoint_note": signed(TREE, 31).note},
    "no range proof": {"range_proof": ()},
    "range proof cut": {"range_proof": receipt().range_proof[1:]},
    "range proof reversed": {"range_proof": receipt().range_proof[::-1]},
    "range of other leaves": {"first_index": FIRST + 1},
    "negative index": {"first_index": -1},
    "other count": {"count": COUNT + 1},
    "no consistency": {"consistency_proof": ()},
    "consistency cut": {"consistency_proof": receipt().consistency_proof[:-1]},
    "consistency from elsewhere": {"consistency_proof": receipt(30, 11).consistency_proof},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_x1_each_part_is_needed(change: dict[str, Any]) -> None:
    with pytest.raises((BadProof, BadSignature)):
        check_receipt(replace(receipt(), **change), LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 12))


def test_x1_leaves_are_those_we_hold() -> None:
    for leaves in (LEAVES[:-1], LEAVES[::-1], EVIL.leaves(12, 19), []):
        with pytest.raises(BadProof):
            check_receipt(receipt(), leaves, verifier=VERIFIER, last_checkpoint=signed(TREE, 12))


def test_a_tree_that_does_not_continue_ours_is_refused() -> None:
    """The evil tree has our leaves and a valid signature; only consistency tells."""
    with pytest.raises(BadProof):
        check_receipt(
            replace(
                receipt(30, 15, tree=EVIL), first_index=LeafIndex(0), count=3, range_proof=tuple(EVIL.outside(0, 3, 30))
            ),
            TREE.leaves(0, 3),
            verifier=VERIFIER,
            last_checkpoint=signed(TREE, 15),
        )


def test_two_roots_of_one_size_are_a_fork_and_both_notes_the_evidence() -> None:
    last = signed(TREE, 30)
    forked = replace(receipt(30, 30, tree=EVIL), range_proof=())
    for check in (check_receipt, check_stored_receipt):
        with pytest.raises(Fork) as caught:
            check(forked, LEAVES, verifier=VERIFIER, last_checkpoint=last)
        assert caught.value.evidence == (last.note, signed(EVIL, 30).note)


def test_a_fork_needs_a_valid_signature() -> None:
    forged = replace(receipt(30, 30), checkpoint_note=signed(EVIL, 30, seed=2).note)
    with pytest.raises(BadSignature):
        check_receipt(forged, LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 30))


def test_a_smaller_tree_is_refused_and_is_no_fork() -> None:
    with pytest.raises(BadProof, match="already proven"):
        check_receipt(receipt(20, 30), LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 30))


def test_a_stored_receipt_is_proven_to_be_a_prefix() -> None:
    for size in range(FIRST + COUNT, 31):
        check_stored_receipt(receipt(size, 30), LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 30))
    with pytest.raises(BadProof, match="at most"):
        check_stored_receipt(receipt(31, 30), LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 30))
    for bad in (
        replace(receipt(20, 30), consistency_proof=()),
        replace(receipt(20, 30), range_proof=()),
        receipt(20, 30, tree=EVIL),
    ):
        with pytest.raises(BadProof):
            check_stored_receipt(bad, LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 30))


def test_from_the_empty_tree_no_consistency_can_be_shown_and_none_is_taken() -> None:
    bad = replace(receipt(30, 0), consistency_proof=(TREE.root(1),))
    with pytest.raises(BadProof, match="empty tree"):
        check_receipt(bad, LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 0))


def test_an_unreadable_note_is_malformed_and_a_mixed_up_log_is_a_defect() -> None:
    with pytest.raises(Malformed):
        check_receipt(
            replace(receipt(), checkpoint_note=b"junk"), LEAVES, verifier=VERIFIER, last_checkpoint=signed(TREE, 12)
        )
    other = signer("other.example")
    head = checkpoint(TREE, 12, origin="other.example")
    last = SignedCheckpoint(checkpoint=head, note=sign_checkpoint(head, other))
    with pytest.raises(ValueError, match="last checkpoint"):
        check_receipt(receipt(), LEAVES, verifier=VERIFIER, last_checkpoint=last)
