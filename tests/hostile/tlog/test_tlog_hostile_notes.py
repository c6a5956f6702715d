# SPDX-License-Identifier: Apache-2.0
"""Hostile checkpoints, notes, cosignatures and proof files.

A test's id starts with the number of its row in the corpus. Each case is an attempt and the exception it must end in;
the attempts of one row share what an honest log would have answered, so that each is wrong in one respect only.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from iap_authz.errors import BadProof, BadSignature, Fork, Malformed
from iap_authz.tlog.checkpoint import open_checkpoint, parse_checkpoint, render_checkpoint
from iap_authz.tlog.cosign import CosignerKey, check_cosignatures, check_quorum, cosign
from iap_authz.tlog.hashing import LeafIndex, leaf_hash
from iap_authz.tlog.note import (
    KeyType,
    Note,
    NoteSigner,
    SignatureLine,
    VerifierKey,
    add_signatures,
    check_note,
    parse_note,
    render_note,
    sign_note,
)
from iap_authz.tlog.proof_file import ProofFile, check_proof_file, parse_proof_file, render_proof_file
from iap_authz.tlog.receipt import Receipt, check_receipt
from iap_authz.tlog.text import render_base64
from tests.fakes.reference_tree import ReferenceTree
from tests.hostile.tlog.tlog_cases import (
    EVIL,
    INDEX,
    LEAF,
    NOTE,
    NOW,
    PATH,
    ROOT,
    SIZE,
    TEXT,
    TREE,
    VERIFIER,
    Case,
    Row,
    cases_of,
    check_refused,
)
from tests.unit.tlog.tlog_keys import ORIGIN, checkpoint, cosigner, ml_dsa_cosigner, signed, signer


def receipt_of(tree: ReferenceTree, size: int, last: int) -> Receipt:
    return Receipt(
        first_index=LeafIndex(3),
        count=2,
        range_proof=tuple(tree.outside(3, 5, size)),
        checkpoint_note=signed(tree, size).note,
        consistency_proof=tuple(tree.proof(*sorted((last, size)))),
    )


def head_cases() -> Iterator[Row]:
    def received(tree: ReferenceTree, size: int, last: int) -> Callable[[], object]:
        return lambda: check_receipt(
            receipt_of(tree, size, last), tree.leaves(3, 5), verifier=VERIFIER, last_checkpoint=signed(TREE, last)
        )

    yield 248, "smaller than the last seen", received(TREE, 20, 21), BadProof
    yield 248, "smaller, and of another tree", received(EVIL, 20, 21), BadProof
    yield 250, "two trees of one size", received(EVIL, 21, 21), Fork
    yield 250, "another tree, grown", received(EVIL, 30, 21), BadProof
    size_line = TEXT.split(b"\n")[1]
    for size in (
        "007",
        "+7",
        " 7",
        "7 ",
        "1_0",
        "\u0661",
        "",
        "-0",
        "-1",
        "0x7",
        "7.0",
        "1e1",
        "9223372036854775808",
        "9" * 5_000,
        "00",
    ):
        text = TEXT.replace(b"\n" + size_line + b"\n", b"\n" + size.encode() + b"\n")
        yield 254, f"size {size[:20]!a}", partial(parse_checkpoint, text), Malformed
    url_root = next(root for root in (TREE.root(size) for size in range(1, 70)) if b"+" in render_base64(root).encode())
    good = render_base64(ROOT)
    for name, root in {
        "url-safe": render_base64(url_root).replace("+", "-").replace("/", "_"),
        "unpadded": good.rstrip("="),
        "stray bits": good[:-2] + chr(ord(good[-2]) + 1) + "=",
        "31 bytes": render_base64(ROOT[:31]),
        "33 bytes": render_base64(ROOT + b"\x00"),
        "empty": "",
        "a space inside": good[:10] + " " + good[10:],
        "a newline inside": good[:10] + "\n" + good[10:],
        "padded twice": good + "=",
        "hex": ROOT.hex(),
    }.items():
        text = f"{ORIGIN}\n{SIZE}\n{root}\n".encode()
        yield 255, f"root {name}", partial(parse_checkpoint, text), Malformed
    for name, wrong in {"of another size": TREE.root(1), "of zeros": bytes(32)}.items():
        text = f"{ORIGIN}\n0\n{render_base64(wrong)}\n".encode()
        yield 255, f"root {name} at size 0", partial(parse_checkpoint, text), Malformed


def note_cases() -> Iterator[Row]:
    for name, data in {
        "no final newline": NOTE[:-1],
        "carriage returns": NOTE.replace(b"\n", b"\r\n"),
        "one carriage return": NOTE.replace(b"\n", b"\r\n", 1),
        "tab": NOTE.replace(ORIGIN.encode(), b"log\t.example", 1),
        "NUL": NOTE.replace(ORIGIN.encode(), b"log\x00.example", 1),
        "escape": NOTE.replace(ORIGIN.encode(), b"log\x1b.example", 1),
        "delete": NOTE.replace(ORIGIN.encode(), b"log\x7f.example", 1),
        "U+0085": NOTE.replace(ORIGIN.encode(), "log\u0085.example".encode(), 1),
        "U+2028": NOTE.replace(ORIGIN.encode(), "log\u2028.example".encode(), 1),
        "U+2029": NOTE.replace(ORIGIN.encode(), "log\u2029.example".encode(), 1),
        "invalid UTF-8": NOTE.replace(ORIGIN.encode(), b"log\xff.example", 1),
        "overlong UTF-8": NOTE.replace(b"/", b"\xc0\xaf", 1),
        "surrogate": NOTE.replace(ORIGIN.encode(), b"log\xed\xa0\x80", 1),
        "hyphen for a dash": NOTE.replace("\u2014".encode(), b"-"),
        "en dash": NOTE.decode().replace("\u2014", "\u2013").encode(),
        "two spaces": NOTE.replace("\u2014 ".encode(), "\u2014  ".encode()),
        "no-break space": NOTE.replace("\u2014 ".encode(), "\u2014\u00a0".encode()),
        "trailing text": NOTE + b"trailing\n",
        "trailing empty line": NOTE + b"\n",
        "no signature": TEXT + b"\n",
        "no empty line": NOTE.replace(b"\n\n", b"\n"),
        "empty": b"",
    }.items():
        yield 257, name, partial(open_checkpoint, data, VERIFIER), Malformed
    forged = "\u2014 witness.example/w1 AAAAAAAA"
    for name, text in {
        "blank line in the text": TEXT.replace(b"\n", b"\n\n", 1),
        "blank line after the text": TEXT + b"\n",
        "two blank lines": TEXT + b"\n\n",
        "signature-looking line in the text": TEXT + forged.encode() + b"\n",
        "signatures in the text": TEXT + b"\n" + forged.encode() + b"\n",
        "extension line": TEXT + b"extension\n",
        "a second checkpoint": TEXT + b"\n" + TEXT,
        "two lines": TEXT.rsplit(b"\n", 2)[0] + b"\n",
    }.items():
        data = render_note(sign_note(text, [signer()]))
        yield 258, name, partial(open_checkpoint, data, VERIFIER), Malformed
    good, second = signer().line(TEXT), signer("other.example", 2)
    bad = replace(second.line(TEXT), signature=second.line(b"other\n").signature)
    known = [VERIFIER, second.verifier()]
    for name, lines in {
        "after": (good, bad),
        "before": (bad, good),
        "after its own good one": (good, second.line(TEXT), bad),
    }.items():
        yield (
            260,
            f"bad signature {name}",
            partial(check_note, Note(text=TEXT, signatures=lines), known),
            BadSignature,
        )
    unknown = signer("stranger.example", 3)
    yield 261, "only unknown signatures", lambda: check_note(sign_note(TEXT, [unknown]), known), BadSignature
    yield 261, "65 signatures", lambda: parse_note(TEXT + b"\n" + good.render() * 65), Malformed
    yield 261, "a million signatures", lambda: parse_note(TEXT + b"\n" + good.render() * 1_000_000), Malformed
    yield 261, "more than 1 MiB", lambda: parse_note(b"x" * (1 << 20) + NOTE), Malformed
    colliding = SignatureLine(name=ORIGIN, key_id=good.key_id, signature=signer(seed=5).line(TEXT).signature)
    yield (
        262,
        "the attacker's key under our name and id",
        lambda: check_note(Note(text=TEXT, signatures=(colliding,)), known),
        BadSignature,
    )
    for name, line in {
        "only the name": replace(colliding, key_id=b"\x00" * 4),
        "only the id": replace(colliding, name="attacker.example"),
    }.items():
        yield 262, name, partial(check_note, Note(text=TEXT, signatures=(line,)), known), BadSignature
    yield (
        262,
        "key text with the id of another key",
        lambda: VerifierKey.parse(
            signer(seed=5).verifier().render().replace(signer(seed=5).verifier().key_id.hex(), VERIFIER.key_id.hex())
        ),
        Malformed,
    )


def cosignature_cases() -> Iterator[Row]:
    one, alias, other = cosigner(), cosigner("witness.example/alias"), cosigner("witness.example/w2", 12)
    post_quantum = ml_dsa_cosigner(one.key.name)
    head = parse_note(NOTE)

    def with_time(time: int) -> Note:
        """A cosignature that its key really made, over this time."""
        message = b"cosignature/v1\ntime %d\n" % time + head.text
        payload = time.to_bytes(8, "big") + one.sign(message)
        return add_signatures(head, [SignatureLine(name=one.key.name, key_id=one.key.key_id, signature=payload)])

    for time in (0, 1 << 63, (1 << 64) - 1, NOW + 301, NOW + 10 * 365 * 86_400):
        yield (
            264,
            f"time {time}",
            partial(check_quorum, with_time(time), [one.key], k=1, now_seconds=NOW),
            BadSignature,
        )
    line = cosign(head.text, one, time_seconds=NOW)
    shifted = replace(line, signature=(NOW + 1).to_bytes(8, "big") + line.signature[8:])
    yield (
        264,
        "time changed",
        lambda: check_cosignatures(add_signatures(head, [shifted]), [one.key], now_seconds=NOW),
        BadSignature,
    )
    for name, second in {"the same line": one, "another name": alias, "another key": post_quantum}.items():
        lines = [line, cosign(head.text, second, time_seconds=NOW)]
        yield (
            265,
            f"one witness twice, {name}",
            partial(
                check_quorum,
                add_signatures(head, lines),
                [one.key, second.key, other.key],
                k=2,
                now_seconds=NOW,
            ),
            BadSignature,
        )
    as_log = Note(
        text=head.text, signatures=(SignatureLine(name=ORIGIN, key_id=VERIFIER.key_id, signature=line.signature[8:]),)
    )
    yield 268, "a cosignature as the log's signature", lambda: check_note(as_log, [VERIFIER]), BadSignature
    twin = CosignerKey(name=ORIGIN, key_type=KeyType.COSIGNATURE_ED25519, public_key=signer().public_key)
    replayed = SignatureLine(
        name=ORIGIN, key_id=twin.key_id, signature=NOW.to_bytes(8, "big") + signer().line(head.text).signature
    )
    yield (
        268,
        "the log's signature as a cosignature",
        lambda: check_note(Note(text=head.text, signatures=(replayed,)), [twin]),
        BadSignature,
    )
    foreign = render_checkpoint(checkpoint(TREE, SIZE, origin="other.example"))
    moved = Note(text=foreign, signatures=head.signatures)
    yield 268, "a signature moved to another log", lambda: open_checkpoint(render_note(moved), VERIFIER), BadSignature
    signed_foreign = sign_note(foreign, [NoteSigner(name=ORIGIN, public_key=signer().public_key, sign=signer().sign)])
    yield (
        268,
        "our key under another origin",
        lambda: open_checkpoint(render_note(signed_foreign), VERIFIER),
        BadSignature,
    )


def proof_file_cases() -> Iterator[Row]:
    claimed = ProofFile(
        index=LeafIndex(INDEX), proof=tuple(PATH), checkpoint_note=NOTE, extra_untrusted=TREE.entries[INDEX]
    )
    yield (
        277,
        "extra names the entry, another is held",
        lambda: check_proof_file(claimed, leaf_hash(b"held"), verifier=VERIFIER),
        BadProof,
    )
    hidden = render_proof_file(claimed).replace(
        b"index 13\n", b"index 13\nextra " + render_base64(b"x").encode() + b"\n"
    )
    yield 277, "extra among the hashes", lambda: parse_proof_file(hidden), Malformed


CASES = cases_of(head_cases, note_cases, cosignature_cases, proof_file_cases)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row}-{case.name}")
def test_refused(case: Case) -> None:
    check_refused(case)


def test_250_the_evidence_of_a_split_view_is_both_notes() -> None:
    with pytest.raises(Fork) as caught:
        check_receipt(receipt_of(EVIL, 21, 21), EVIL.leaves(3, 5), verifier=VERIFIER, last_checkpoint=signed(TREE, 21))
    heads = [open_checkpoint(note, VERIFIER) for note in caught.value.evidence]
    assert [head.size for head in heads] == [21, 21]
    assert heads[0].root != heads[1].root


def test_258_the_text_ends_at_the_last_blank_line() -> None:
    text = b"a\n\nb\n\n\xe2\x80\x94 c AAAAAAAA\n"
    assert parse_note(render_note(sign_note(text, [signer()]))).text == text


def test_261_sixteen_signatures_and_unknown_ones_are_accepted() -> None:
    strangers = [signer(f"stranger.example/{number}", number + 2) for number in range(63)]
    for count in (15, 63):
        note = sign_note(TEXT, [*strangers[:count], signer()])
        assert check_note(parse_note(render_note(note)), [VERIFIER]) == (signer().line(TEXT),)


def test_277_extra_changes_nothing() -> None:
    for extra in (b"", b"index 99", b"\x00" * 100, NOTE):
        made = ProofFile(index=LeafIndex(INDEX), proof=tuple(PATH), checkpoint_note=NOTE, extra_untrusted=extra)
        assert check_proof_file(parse_proof_file(render_proof_file(made)), LEAF, verifier=VERIFIER) == checkpoint(
            TREE, SIZE
        )
