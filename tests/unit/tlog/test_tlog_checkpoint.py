# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and cosignatures, ours and real ones.

Origin of the vectors: checkpoints that public Certificate Transparency logs and public witnesses signed in 2026, as
also kept in the tests of tlog_scales: arche2025h1 (Ed25519 log key, Ed25519 cosignature of remora.n621.de) and
coachandhorses2026h1 (ML-DSA-44 cosignature of witness.navigli.sunlight.geomys.org; files in `vectors/`).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from iap_authz.errors import BadSignature, Malformed
from iap_authz.tlog.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint,
    render_checkpoint,
    sign_checkpoint,
)
from iap_authz.tlog.cosign import (
    FUTURE_MAX_SECONDS,
    Cosignature,
    Cosigner,
    CosignerKey,
    check_cosignatures,
    check_quorum,
    cosign,
    count_witnesses,
)
from iap_authz.tlog.hashing import EMPTY_ROOT, TreeSize
from iap_authz.tlog.note import KeyType, Note, SignatureLine, VerifierKey, add_signatures, parse_note, render_key_text
from tests.fakes.reference_tree import ReferenceTree
from tests.unit.tlog.tlog_keys import ORIGIN, checkpoint, cosigner, ml_dsa_cosigner, signed, signer

VECTORS = Path(__file__).parent / "vectors"
TREE = ReferenceTree.numbered(20)
NOW = 1_800_000_000

ARCHE = """arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
""".encode()  # noqa: E501 - published lines
ARCHE_KEY = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
REMORA_KEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"


def head_note(size: int = 20) -> Note:
    return parse_note(signed(TREE, size).note)


def cosigned(*cosigners: Cosigner, time_seconds: int = NOW) -> Note:
    note = head_note()
    return add_signatures(note, [cosign(note.text, one, time_seconds=time_seconds) for one in cosigners])


def test_a_real_checkpoint_opens() -> None:
    opened = open_checkpoint(ARCHE, VerifierKey.parse(ARCHE_KEY))
    assert (opened.origin, opened.size) == ("arche2025h1.staging.ct.transparency.dev", 1432088532)
    assert render_checkpoint(opened) == parse_note(ARCHE).text


def test_a_real_cosignature_holds() -> None:
    key = CosignerKey.parse(REMORA_KEY)
    assert key.render() == REMORA_KEY
    found = check_quorum(parse_note(ARCHE), [key], k=1, now_seconds=NOW)
    assert found == (Cosignature(cosigner=key, time_seconds=0x6A122120),)


def test_a_real_post_quantum_cosignature_holds() -> None:
    note = parse_note((VECTORS / "coachandhorses2026h1.note").read_bytes())
    key = CosignerKey.parse((VECTORS / "navigli-ml-dsa-44.vkey").read_text(encoding="utf-8").strip())
    assert key.key_type is KeyType.COSIGNATURE_ML_DSA_44
    (found,) = check_quorum(note, [key], k=1, now_seconds=NOW)
    assert found.time_seconds == 0x6A6FB0F3
    other = Note(text=note.text.replace(b"\n185550722\n", b"\n185550723\n"), signatures=note.signatures)
    with pytest.raises(BadSignature, match="ML-DSA-44"):
        check_quorum(other, [key], k=1, now_seconds=NOW)


def test_ours_opens_and_renders_back() -> None:
    for size in (0, 1, 20):
        note = signed(TREE, size).note
        assert open_checkpoint(note, signer().verifier()) == checkpoint(TREE, size)
        assert parse_checkpoint(render_checkpoint(checkpoint(TREE, size))) == checkpoint(TREE, size)
        assert sign_checkpoint(checkpoint(TREE, size), signer()) == note


def test_size_zero_has_one_root() -> None:
    with pytest.raises(Malformed, match="empty tree"):
        Checkpoint(origin=ORIGIN, size=TreeSize(0), root=TREE.root(1))
    assert Checkpoint(origin=ORIGIN, size=TreeSize(0), root=EMPTY_ROOT).root == EMPTY_ROOT


def test_the_key_must_be_the_expected_one() -> None:
    note = signed(TREE, 20).note
    for wrong in (signer(seed=2), signer("other.example")):
        with pytest.raises(BadSignature):
            open_checkpoint(note, wrong.verifier())


def test_a_checkpoint_of_another_log_is_refused_even_if_our_key_signed_it() -> None:
    other = render_checkpoint(checkpoint(TREE, 20, origin="other.example"))
    note = Note(text=other, signatures=(signer().line(other),))
    with pytest.raises(BadSignature, match=r"other\.example"):
        open_checkpoint(b"".join([note.text, b"\n", note.signatures[0].render()]), signer().verifier())
    with pytest.raises(ValueError, match="signer named"):
        sign_checkpoint(checkpoint(TREE, 20, origin="other.example"), signer())


@pytest.mark.parametrize("make", [cosigner, ml_dsa_cosigner])
def test_cosignatures_hold_and_cover_everything(make: Callable[[], Cosigner]) -> None:
    one = make()
    note = cosigned(one)
    (found,) = check_cosignatures(note, [one.key], now_seconds=NOW)
    assert found == Cosignature(cosigner=one.key, time_seconds=NOW)
    assert CosignerKey.parse(one.key.render()) == one.key
    for changed in (
        render_checkpoint(checkpoint(TREE, 19)),
        render_checkpoint(replace(checkpoint(TREE, 20), root=TREE.root(19))),
        render_checkpoint(checkpoint(TREE, 20, origin="other.example")),
    ):
        with pytest.raises(BadSignature):
            check_cosignatures(Note(text=changed, signatures=note.signatures), [one.key], now_seconds=NOW)
    line = note.signatures[-1]
    for at in (0, 7, 8, 40, len(line.signature) - 1):
        flipped = line.signature[:at] + bytes([line.signature[at] ^ 1]) + line.signature[at + 1 :]
        with pytest.raises(BadSignature):
            one.key.check(note.text, flipped)
    for wrong in (line.signature[:-1], line.signature + b"\x00", line.signature[8:]):
        with pytest.raises(BadSignature, match="bytes, want"):
            one.key.check(note.text, wrong)


def test_a_post_quantum_cosignature_covers_the_name_of_the_cosigner() -> None:
    one, renamed = ml_dsa_cosigner(), ml_dsa_cosigner(name="witness.example/other")
    line = cosign(head_note().text, one, time_seconds=NOW)
    with pytest.raises(BadSignature):
        renamed.key.check(head_note().text, line.signature)


def test_a_log_signature_is_no_cosignature_and_the_other_way_round() -> None:
    key = CosignerKey(name=ORIGIN, key_type=KeyType.COSIGNATURE_ED25519, public_key=signer().public_key)
    assert key.key_id != signer().verifier().key_id
    with pytest.raises(BadSignature, match="want one of"):
        check_cosignatures(head_note(), [key], now_seconds=NOW)
    line = cosign(head_note().text, Cosigner(key=key, sign=signer().sign), time_seconds=NOW)
    with pytest.raises(BadSignature):
        signer().verifier().check(head_note().text, line.signature[8:])


def test_quorum_counts_witnesses() -> None:
    a, b, pq = cosigner(), cosigner("witness.example/w2", 12), ml_dsa_cosigner()
    keys = [a.key, b.key, pq.key]
    assert len(check_quorum(cosigned(a, b, pq), keys, k=3, now_seconds=NOW)) == 3
    assert len(check_quorum(cosigned(a, pq), keys, k=2, now_seconds=NOW)) == 2
    with pytest.raises(BadSignature, match="want 3"):
        check_quorum(cosigned(a, pq), keys, k=3, now_seconds=NOW)
    with pytest.raises(BadSignature, match="want one of"):
        check_quorum(head_note(), keys, k=1, now_seconds=NOW)
    assert check_quorum(head_note(), keys, k=0, now_seconds=NOW) == ()
    for k in (-1, 4):
        with pytest.raises(ValueError, match="quorum"):
            check_quorum(cosigned(a), keys, k=k, now_seconds=NOW)


def test_one_witness_never_counts_twice() -> None:
    a, alias = cosigner(), cosigner("witness.example/alias")
    both_types = ml_dsa_cosigner(a.key.name)
    other = cosigner("witness.example/w2", 12)
    for second in (alias, both_types):
        assert count_witnesses([a.key, second.key]) == 1
        with pytest.raises(BadSignature, match="cosignatures of 1"):
            check_quorum(cosigned(a, second), [a.key, second.key, other.key], k=2, now_seconds=NOW)
    twice = add_signatures(cosigned(a), [cosign(head_note().text, a, time_seconds=NOW - 1)])
    with pytest.raises(BadSignature, match="cosignatures of 1"):
        check_quorum(twice, [a.key, other.key], k=2, now_seconds=NOW)


def test_times() -> None:
    a = cosigner()
    latest = NOW + FUTURE_MAX_SECONDS
    assert check_quorum(cosigned(a, time_seconds=latest), [a.key], k=1, now_seconds=NOW)[0].time_seconds == latest
    with pytest.raises(BadSignature, match="ahead"):
        check_quorum(cosigned(a, time_seconds=latest + 1), [a.key], k=1, now_seconds=NOW)
    for wrong in (0, -1, 1 << 63):
        with pytest.raises(ValueError, match="got time"):
            cosign(head_note().text, a, time_seconds=wrong)


def test_a_bad_cosignature_beside_good_ones_rejects_the_note() -> None:
    a, b = cosigner(), cosigner("witness.example/w2", 12)
    note = cosigned(a, b)
    bad = replace(note.signatures[-1], signature=note.signatures[1].signature)
    with pytest.raises(BadSignature):
        check_quorum(
            Note(text=note.text, signatures=(*note.signatures[:-1], bad)), [a.key, b.key], k=1, now_seconds=NOW
        )


def test_cosigner_keys_that_are_none() -> None:
    public_key = signer().public_key
    for text in (
        render_key_text("n", KeyType.ED25519, public_key=public_key),
        render_key_text("n", KeyType.COSIGNATURE_ED25519, public_key=public_key[:-1]),
        render_key_text("n", KeyType.COSIGNATURE_ML_DSA_44, public_key=public_key),
        render_key_text("n", KeyType.COSIGNATURE_ED25519, public_key=bytes(32)),
    ):
        with pytest.raises(Malformed):
            CosignerKey.parse(text)
    with pytest.raises(Malformed):
        CosignerKey(name="n", key_type=KeyType.ED25519, public_key=public_key)


def test_only_checkpoints_are_cosigned() -> None:
    with pytest.raises(Malformed):
        cosign(b"not a checkpoint\n", cosigner(), time_seconds=NOW)
    line = SignatureLine(name="n", key_id=b"1234", signature=b"\x00" * 7 + b"\x01" + b"s" * 64)
    with pytest.raises(Malformed):
        cosigner().key.check(b"not a checkpoint\n", line.signature)
