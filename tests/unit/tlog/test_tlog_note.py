# SPDX-License-Identifier: Apache-2.0
"""Signed notes against notes and keys that other implementations made.

Origin of the vectors: golang.org/x/mod sumdb/note (the PeterNeumann note; public domain knowledge since 2019) and the
test vector of C2SP signed-note (example.com/foo). Both were signed by code that is not ours.
"""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iap_authz.errors import BadSignature, Malformed
from iap_authz.tlog.note import (
    NOTE_MAX_BYTES,
    SIGNATURES_MAX,
    KeyType,
    Note,
    NoteSigner,
    SignatureLine,
    VerifierKey,
    add_signatures,
    check_note,
    key_id_of,
    parse_note,
    parse_signature_lines,
    render_key_text,
    render_note,
    sign_note,
)
from tests.unit.tlog.tlog_keys import ORIGIN, signer

PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETER_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_NOTE = (
    PETER_TEXT
    + (
        "\n— PeterNeumann "
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    ).encode()
)

FOO_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

TEXT = b"a text\n"


@pytest.mark.parametrize(("key", "note"), [(PETER_KEY, PETER_NOTE), (FOO_KEY, FOO_NOTE)], ids=["go", "c2sp"])
def test_notes_of_others_are_accepted(key: str, note: bytes) -> None:
    parsed = parse_note(note)
    verifier = VerifierKey.parse(key)
    assert verifier.render() == key
    assert check_note(parsed, [verifier]) == parsed.signatures
    assert render_note(parsed) == note


def test_we_sign_the_same_bytes_as_others() -> None:
    private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
    public_key = private.public_key().public_bytes_raw()
    peter = NoteSigner(name="PeterNeumann", public_key=public_key, sign=private.sign)
    assert render_note(sign_note(PETER_TEXT, [peter])) == PETER_NOTE
    assert peter.verifier().render() == PETER_KEY


def test_every_flipped_bit_of_a_note_is_refused() -> None:
    verifier = VerifierKey.parse(FOO_KEY)
    for at in range(len(FOO_NOTE)):
        for bit in (1, 0x20, 0x80):
            bad = FOO_NOTE[:at] + bytes([FOO_NOTE[at] ^ bit]) + FOO_NOTE[at + 1 :]
            with pytest.raises((Malformed, BadSignature)):
                check_note(parse_note(bad), [verifier])


def test_every_cut_of_a_key_is_refused() -> None:
    for lo in range(len(PETER_KEY)):
        for hi in range(lo + 1, len(PETER_KEY) + 1):
            if hi - lo < len(PETER_KEY):
                with pytest.raises(Malformed):
                    VerifierKey.parse(PETER_KEY[lo:hi])
    for at in range(len(PETER_KEY)):
        with pytest.raises(Malformed):
            VerifierKey.parse(PETER_KEY[:at] + chr(ord(PETER_KEY[at]) + 1) + PETER_KEY[at + 1 :])


def test_keys_of_other_types_are_refused() -> None:
    public_key = signer().public_key
    for key_type in (KeyType.COSIGNATURE_ED25519, KeyType.COSIGNATURE_ML_DSA_44):
        with pytest.raises(Malformed, match="type"):
            VerifierKey.parse(render_key_text("n", key_type, public_key=public_key))
    assert key_id_of("n", KeyType.ED25519, public_key=public_key) != key_id_of(
        "n", KeyType.COSIGNATURE_ED25519, public_key=public_key
    )


def test_the_text_ends_at_the_last_empty_line() -> None:
    text = "first\n\n— not.a signature\n\nlast\n".encode()
    parsed = parse_note(render_note(sign_note(text, [signer()])))
    assert parsed.text == text
    check_note(parsed, [signer().verifier()])


@pytest.mark.parametrize("count", [1, 16, 17, SIGNATURES_MAX])
def test_many_signatures_are_accepted(count: int) -> None:
    signers = [signer(f"log.example/{number}", number) for number in range(1, count + 1)]
    note = parse_note(render_note(sign_note(TEXT, signers)))
    assert check_note(note, [signers[-1].verifier()]) == (note.signatures[-1],)
    assert check_note(note, [one.verifier() for one in signers]) == note.signatures


def test_too_many_signatures_are_refused() -> None:
    line = signer().line(TEXT)
    with pytest.raises(Malformed, match="signatures"):
        Note(text=TEXT, signatures=(line,) * (SIGNATURES_MAX + 1))
    with pytest.raises(Malformed, match="signatures"):
        parse_note(TEXT + b"\n" + line.render() * (SIGNATURES_MAX + 1))


def test_size_is_bounded() -> None:
    line = signer().line(TEXT)
    room = NOTE_MAX_BYTES - line.length_bytes - 1
    largest = Note(text=b"x" * (room - 1) + b"\n", signatures=(line,))
    assert len(render_note(largest)) == NOTE_MAX_BYTES
    assert parse_note(render_note(largest)) == largest
    with pytest.raises(Malformed):
        Note(text=b"x" * room + b"\n", signatures=(line,))
    with pytest.raises(Malformed):
        parse_note(b"x" + render_note(largest))


def test_a_known_key_that_fails_rejects_the_whole_note() -> None:
    good, other = signer("a"), signer("b", 2)
    bad = SignatureLine(name="b", key_id=other.line(TEXT).key_id, signature=other.line(b"x\n").signature)
    for lines in ((good.line(TEXT), bad), (bad, good.line(TEXT)), (other.line(TEXT), bad)):
        with pytest.raises(BadSignature):
            check_note(Note(text=TEXT, signatures=lines), [good.verifier(), other.verifier()])
    assert check_note(Note(text=TEXT, signatures=(good.line(TEXT), bad)), [good.verifier()]) == (good.line(TEXT),)


def test_a_name_or_an_id_alone_is_unknown() -> None:
    known, stranger = signer("a"), signer("b", 2)
    same_name = SignatureLine(name="a", key_id=b"\x00" * 4, signature=b"junk")
    same_id = SignatureLine(name="b", key_id=known.line(TEXT).key_id, signature=b"junk")
    note = Note(text=TEXT, signatures=(same_name, same_id, known.line(TEXT)))
    assert check_note(note, [known.verifier()]) == (known.line(TEXT),)
    for lines in ((same_name, same_id), (stranger.line(TEXT),)):
        with pytest.raises(BadSignature, match="want one of"):
            check_note(Note(text=TEXT, signatures=lines), [known.verifier()])
    with pytest.raises(BadSignature):
        check_note(note, [])


def test_a_repeated_line_counts_once() -> None:
    line = signer().line(TEXT)
    note = Note(text=TEXT, signatures=(line, line))
    assert check_note(note, [signer().verifier(), signer().verifier()]) == (line,)
    assert add_signatures(note, [line]).signatures == (line,)
    assert add_signatures(sign_note(TEXT, [signer()]), [signer("b", 2).line(TEXT)]).signatures == (
        line,
        signer("b", 2).line(TEXT),
    )


def test_two_keys_of_one_identity_are_refused() -> None:
    class Twin:
        name = ORIGIN
        key_id = signer().verifier().key_id

        def check(self, text: bytes, signature: bytes) -> None:
            raise AssertionError(text, signature)

    with pytest.raises(Malformed, match="two keys"):
        check_note(sign_note(TEXT, [signer()]), [signer().verifier(), Twin()])


def test_signatures_of_a_wrong_length_are_refused() -> None:
    line = signer().line(TEXT)
    for signature in (line.signature[:-1], line.signature + b"\x00", b"x"):
        bad = SignatureLine(name=ORIGIN, key_id=line.key_id, signature=signature)
        with pytest.raises(BadSignature, match="want 64"):
            check_note(Note(text=TEXT, signatures=(bad,)), [signer().verifier()])


def test_a_signature_with_a_larger_scalar_is_refused() -> None:
    """S + L verifies by the group law, and would be a second signature of the same text (RFC 8032 section 5.1.7)."""
    line = signer().line(TEXT)
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(line.signature[32:], "little") + order
    bad = SignatureLine(name=ORIGIN, key_id=line.key_id, signature=line.signature[:32] + scalar.to_bytes(32, "little"))
    with pytest.raises(BadSignature):
        check_note(Note(text=TEXT, signatures=(bad,)), [signer().verifier()])


def test_a_signer_that_returns_another_length_is_a_defect() -> None:
    broken = NoteSigner(name="n", public_key=signer().public_key, sign=lambda _: b"short")
    with pytest.raises(ValueError, match="from a signer"):
        sign_note(TEXT, [broken])


def test_signature_lines_alone_as_a_witness_sends_them() -> None:
    lines = (signer("a").line(TEXT), signer("b", 2).line(TEXT))
    assert parse_signature_lines(b"".join(line.render() for line in lines)) == lines
    for bad in (b"", b"\n", lines[0].render() + b"\n", lines[0].render()[:-1], b"x" + lines[0].render()):
        with pytest.raises(Malformed):
            parse_signature_lines(bad)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\nb", "a\tb", "\u2028", "\ud800", "x" * 256]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Malformed):
        SignatureLine(name=name, key_id=b"1234", signature=b"s")
    with pytest.raises(Malformed):
        VerifierKey(name=name, public_key=signer().public_key)
