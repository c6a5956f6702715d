# SPDX-License-Identifier: Apache-2.0
"""Proof files."""

from dataclasses import replace
from typing import Any

import pytest

from iap_authz.errors import BadProof, BadSignature, Malformed
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.tlog.proof_file import (
    EXTRA_MAX_BYTES,
    ProofFile,
    check_proof_file,
    parse_proof_file,
    render_proof_file,
)
from tests.fakes.reference_tree import ReferenceTree
from tests.unit.tlog.tlog_keys import checkpoint, signed, signer

TREE = ReferenceTree.numbered(21)
VERIFIER = signer().verifier()
NOTE = signed(TREE, 21).note


def proof_file(index: int, extra: bytes = b"") -> ProofFile:
    return ProofFile(
        index=LeafIndex(index), proof=tuple(TREE.path(index, 21)), checkpoint_note=NOTE, extra_untrusted=extra
    )


@pytest.mark.parametrize("extra", [b"", b"\x00", b"e" * EXTRA_MAX_BYTES], ids=["none", "short", "longest"])
@pytest.mark.parametrize("index", [0, 13, 20])
def test_files_render_back_and_hold(index: int, extra: bytes) -> None:
    made = proof_file(index, extra)
    data = render_proof_file(made)
    assert parse_proof_file(data) == made
    assert check_proof_file(made, TREE.leaf(index), verifier=VERIFIER) == checkpoint(TREE, 21)


def test_the_text_is_that_of_the_specification() -> None:
    lines = render_proof_file(proof_file(20, b"why")).decode().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra d2h5", "index 20"]
    assert lines[5] == ""
    assert "\n".join(lines[6:]).encode() == NOTE


def test_a_tree_of_one_leaf_has_no_hash_lines() -> None:
    made = ProofFile(index=LeafIndex(0), proof=(), checkpoint_note=signed(TREE, 1).note)
    assert b"index 0\n\n" in render_proof_file(made)
    check_proof_file(parse_proof_file(render_proof_file(made)), TREE.leaf(0), verifier=VERIFIER)


def test_falsehoods_are_refused() -> None:
    made = proof_file(13)
    with pytest.raises(BadProof):
        check_proof_file(made, TREE.leaf(12), verifier=VERIFIER)
    for wrong in (12, 14, 15, 21, 1 << 60):
        with pytest.raises(BadProof):
            check_proof_file(replace(made, index=LeafIndex(wrong)), TREE.leaf(13), verifier=VERIFIER)
    with pytest.raises(BadProof):
        check_proof_file(replace(made, proof=made.proof[1:]), TREE.leaf(13), verifier=VERIFIER)
    with pytest.raises(BadProof):
        check_proof_file(replace(made, checkpoint_note=signed(TREE, 20).note), TREE.leaf(13), verifier=VERIFIER)
    with pytest.raises(BadSignature):
        check_proof_file(made, TREE.leaf(13), verifier=signer(seed=2).verifier())


GOOD = render_proof_file(proof_file(13, b"why"))
BROKEN = {
    "empty": b"",
    "no checkpoint": GOOD.split(b"\n\n")[0] + b"\n",
    "other version": GOOD.replace(b"@v1", b"@v2"),
    "no index": GOOD.replace(b"index 13\n", b""),
    "index after hashes": GOOD.replace(b"index 13\n", b"").replace(b"\n\n", b"\nindex 13\n\n", 1),
    "two indices": GOOD.replace(b"index 13\n", b"index 13\nindex 13\n"),
    "extra after index": GOOD.replace(b"extra d2h5\nindex 13\n", b"index 13\nextra d2h5\n"),
    "extra twice": GOOD.replace(b"extra d2h5\n", b"extra d2h5\nextra d2h5\n"),
    "extra empty": GOOD.replace(b"extra d2h5\n", b"extra \n"),
    "extra with stray bits": GOOD.replace(b"extra d2h5\n", b"extra d2h=\n"),
    "index 013": GOOD.replace(b"index 13", b"index 013"),
    "index +13": GOOD.replace(b"index 13", b"index +13"),
    "index two spaces": GOOD.replace(b"index 13", b"index  13"),
    "index 2^63 - 1": GOOD.replace(b"index 13", b"index 9223372036854775807"),
    "carriage returns": GOOD.replace(b"\n", b"\r\n"),
    "hash of 31 bytes": GOOD.replace(b"index 13\n", b"index 13\n" + b"A" * 40 + b"AA==\n"),
    "64 hashes": GOOD.replace(b"index 13\n", b"index 13\n" + (b"A" * 43 + b"=\n") * 64),
    "note unsigned": GOOD[: GOOD.rindex(b"\n\n") + 1],
    "too long": GOOD + b"x" * (1 << 21),
    "not UTF-8": GOOD.replace(b"index", b"ind\xffx"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_files_that_are_none(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_proof_file(data)


def test_values_that_are_none() -> None:
    changes: list[dict[str, Any]] = [
        {"index": -1},
        {"proof": (TREE.root(1),) * 64},
        {"extra_untrusted": b"x" * (EXTRA_MAX_BYTES + 1)},
    ]
    for change in changes:
        with pytest.raises(Malformed):
            replace(proof_file(1), **change)
