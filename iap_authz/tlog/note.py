# SPDX-License-Identifier: Apache-2.0
"""Signed notes: a text, and lines that say who vouches for it.

The invariant: no text leaves `check_note` unless a known key signed exactly these bytes, and no known key's signature
in the note is wrong. A `Note` that exists renders, and renders back to the bytes it was parsed from.

    text ending in a newline
    <empty line>
    — <name> <base64(key id (4) || signature)>        one to 64 of them

    key id = SHA-256(name || 0x0A || type || public key)[:4]          a name for a key, not a commitment to it
    verifier key text = name+hex(key id)+base64(type || public key)

The text is split from the signatures at the *last* empty line; the signatures cover it with its final newline.

Specification: C2SP signed-note. Stricter in two points: no control character of any kind and no U+2028 or U+2029 (a
reader might take it for a line's end), and at most 1 MiB and 64 signatures. Types other than Ed25519 (0x01) are read
as unknown here; cosignatures are in `cosign`. Private keys are not here either: a signer is a name and a function.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from iap_authz.errors import BadSignature, Malformed, shown
from iap_authz.tlog.curve import check_public_key
from iap_authz.tlog.text import CONTROL, parse_base64, parse_utf8, render_base64

NOTE_MAX_BYTES = 1 << 20
"""What a verifier reads at most: room for 64 post-quantum signatures and for any checkpoint."""

SIGNATURES_MAX = 64
"""How many signature lines a note may have; C2SP signed-note requires at least 16 to be accepted."""

NAME_MAX_BYTES = 255
"""The length of a key name: what a `cosigned_message` can hold of it (C2SP tlog-cosignature)."""

KEY_TEXT_MAX_CHARS = 4096
"""Longer than the text of an ML-DSA-44 key with the longest name, the longest there is."""

KEY_ID_BYTES = 4
"""The length of a key id (C2SP signed-note)."""

SIGNATURE_BYTES = 64
"""The length of an Ed25519 signature (RFC 8032 section 5.1.6)."""

DASH = "\u2014 "
"""What a signature line starts with: an em dash and a space."""


class KeyType(IntEnum):
    """The signature types of C2SP signed-note that are used here."""

    ED25519 = 0x01
    COSIGNATURE_ED25519 = 0x04
    COSIGNATURE_ML_DSA_44 = 0x06


class Verifier(Protocol):
    """A key to check a signature with. Pure; raises BadSignature (or Malformed, where a type also reads the text)."""

    @property
    def name(self) -> str:
        """The key name of its signature lines."""

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that start its signatures."""

    def check(self, text: bytes, signature: bytes) -> None:
        """Return only if `signature` (without the key id) is by this key and covers `text`."""


def check_name(name: str) -> None:
    """Raise Malformed unless `name` can be a key name: 1 to 255 bytes, no space of any script, no plus, one line."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise Malformed(f"got key name {shown(name)}, want text that UTF-8 can hold") from error
    if not 1 <= length <= NAME_MAX_BYTES:
        raise Malformed(f"got a key name of {length} bytes, want 1 to {NAME_MAX_BYTES}")
    if "+" in name or CONTROL.search(name) or any(character.isspace() for character in name):
        raise Malformed(f"got key name {shown(name)}, want no space, plus or control character")


def key_id_of(name: str, key_type: KeyType, *, public_key: bytes) -> bytes:
    """The 4-byte key id. It is short: a collision costs an attacker seconds and gains nothing but a refusal."""
    return sha256(name.encode() + b"\n" + bytes([key_type]) + public_key).digest()[:KEY_ID_BYTES]


def render_key_text(name: str, key_type: KeyType, *, public_key: bytes) -> str:
    """The verifier key text that operators exchange."""
    key_id = key_id_of(name, key_type, public_key=public_key)
    return f"{name}+{key_id.hex()}+{render_base64(bytes([key_type]) + public_key)}"


def parse_key_text(text: str, types: Iterable[KeyType]) -> tuple[str, KeyType, bytes]:
    """The name, type and public key of a verifier key text, if it is of one of these types and its key id is right."""
    parts = text.split("+", 2) if len(text) <= KEY_TEXT_MAX_CHARS else []
    if len(parts) != 3:  # noqa: PLR2004 - the three parts of the line above
        raise Malformed(f"got {shown(text)}, want name+hex(key id)+base64(type || public key)")
    name, _, material = parts
    check_name(name)
    value = parse_base64(material)
    known = {int(one): one for one in types}
    if value[:1] == b"" or value[0] not in known:
        raise Malformed(f"got a key of type {shown(value[:1].hex())}, want one of {sorted(known)}")
    key_type, public_key = known[value[0]], value[1:]
    if render_key_text(name, key_type, public_key=public_key) != text:
        raise Malformed(f"got {shown(text)}, want the key id of this name, type and key in lowercase hex")
    return name, key_type, public_key


def check_ed25519(public_key: bytes, message: bytes, *, signature: bytes) -> None:
    """Raise BadSignature unless `signature` is 64 bytes, by this key, over `message`."""
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(f"got a signature of {len(signature)} bytes, want {SIGNATURE_BYTES}")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature as error:
        raise BadSignature(f"got a signature that is not by the key {public_key.hex()} over these bytes") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """The Ed25519 key (0x01) of a log or a writer, under its name."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        check_public_key(self.public_key)

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """The key of a verifier key text of type 0x01."""
        name, _, public_key = parse_key_text(text, [KeyType.ED25519])
        return cls(name=name, public_key=public_key)

    def render(self) -> str:
        """The verifier key text."""
        return render_key_text(self.name, KeyType.ED25519, public_key=self.public_key)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that start its signatures."""
        return key_id_of(self.name, KeyType.ED25519, public_key=self.public_key)

    def check(self, text: bytes, signature: bytes) -> None:
        """Raise BadSignature unless `signature` covers `text`."""
        check_ed25519(self.public_key, text, signature=signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureLine:
    """One line under a note: who, which key, and the bytes the key made."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.key_id) != KEY_ID_BYTES or not self.signature:
            message = (
                f"got a key id of {len(self.key_id)} and a signature of {len(self.signature)} bytes, want 4 and more"
            )
            raise Malformed(message)

    @classmethod
    def parse(cls, line: str) -> "SignatureLine":
        """The signature of one line, given without its newline."""
        name, space, material = line.removeprefix(DASH).partition(" ")
        if not line.startswith(DASH) or not space:
            raise Malformed(f"got signature line {shown(line)}, want a dash, a name and base64")
        value = parse_base64(material)
        return cls(name=name, key_id=value[:KEY_ID_BYTES], signature=value[KEY_ID_BYTES:])

    @property
    def length_bytes(self) -> int:
        """How long the rendered line is."""
        material = -(-(KEY_ID_BYTES + len(self.signature)) // 3) * 4
        return len(DASH.encode()) + len(self.name.encode()) + 1 + material + 1

    def render(self) -> bytes:
        """The line with its newline."""
        return f"{DASH}{self.name} {render_base64(self.key_id + self.signature)}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and its signatures, none of them checked yet: use `check_note` before you believe the text."""

    text: bytes
    signatures: tuple[SignatureLine, ...]

    def __post_init__(self) -> None:
        check_text(self.text)
        if not 1 <= len(self.signatures) <= SIGNATURES_MAX:
            raise Malformed(f"got {len(self.signatures)} signatures, want 1 to {SIGNATURES_MAX}")
        length = len(self.text) + 1 + sum(line.length_bytes for line in self.signatures)
        if length > NOTE_MAX_BYTES:
            raise Malformed(f"got a note of {length} bytes, want at most {NOTE_MAX_BYTES}")


def check_text(text: bytes) -> None:
    """Raise Malformed unless `text` can be signed as a note."""
    if not text.endswith(b"\n") or len(text) > NOTE_MAX_BYTES:
        raise Malformed(f"got a text of {len(text)} bytes, want a final newline and at most {NOTE_MAX_BYTES} bytes")
    parse_utf8(text)


def parse_note(data: bytes) -> Note:
    """The text and the signatures of a signed note. Nothing is verified."""
    if len(data) > NOTE_MAX_BYTES:
        raise Malformed(f"got a note of {len(data)} bytes, want at most {NOTE_MAX_BYTES}")
    end = data.rfind(b"\n\n")
    if end < 0:
        raise Malformed(f"got {shown(data)}, want a text, an empty line and signatures")
    return Note(text=data[: end + 1], signatures=parse_signature_lines(data[end + 2 :]))


def parse_signature_lines(data: bytes) -> tuple[SignatureLine, ...]:
    """One to 64 signature lines, each ended by a newline: the foot of a note, or the answer of a witness."""
    if len(data) > NOTE_MAX_BYTES or not data.endswith(b"\n"):
        raise Malformed(f"got {len(data)} bytes of signatures, want a final newline and at most {NOTE_MAX_BYTES} bytes")
    lines = parse_utf8(data)[:-1].split("\n", SIGNATURES_MAX)
    if len(lines) > SIGNATURES_MAX:
        raise Malformed(f"got more than {SIGNATURES_MAX} signatures, want at most that many")
    return tuple(SignatureLine.parse(line) for line in lines)


def render_note(note: Note) -> bytes:
    """The bytes of a signed note."""
    return b"".join([note.text, b"\n", *(line.render() for line in note.signatures)])


def check_note(note: Note, verifiers: Sequence[Verifier]) -> tuple[SignatureLine, ...]:
    """The signatures of known keys, each checked, one a key in the order of the note.

    Raises BadSignature if one of them fails, or if there is none. A line of an unknown key, or of a known name with
    another key id, is ignored. A second line of one key must hold too, and counts once.
    """
    known = _by_identity(verifiers)
    found: dict[tuple[str, bytes], SignatureLine] = {}
    for line in note.signatures:
        verifier = known.get((line.name, line.key_id))
        if verifier is not None:
            verifier.check(note.text, line.signature)
            found.setdefault((line.name, line.key_id), line)
    if not found:
        names = [line.name for line in note.signatures]
        raise BadSignature(f"got signatures of {shown(names)}, want one of {shown(sorted(name for name, _ in known))}")
    return tuple(found.values())


def _by_identity(verifiers: Sequence[Verifier]) -> dict[tuple[str, bytes], Verifier]:
    """The verifiers by name and key id. Two keys with one identity would make the outcome depend on their order."""
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise Malformed(f"got two keys of name {shown(verifier.name)} and id {verifier.key_id.hex()}, want one")
    return known


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSigner:
    """Signs as `name` with the Ed25519 key behind `sign`, wherever that key is kept.

    `sign` takes the bytes to sign and returns the 64-byte signature. It must be deterministic (RFC 8032): a text that
    is signed again after a crash gives the same bytes (rule C1).
    """

    name: str
    public_key: bytes
    sign: Callable[[bytes], bytes]

    def verifier(self) -> VerifierKey:
        """The key that checks what this signer makes."""
        return VerifierKey(name=self.name, public_key=self.public_key)

    def line(self, text: bytes) -> SignatureLine:
        """The signature line over `text`."""
        key_id = key_id_of(self.name, KeyType.ED25519, public_key=self.public_key)
        return SignatureLine(name=self.name, key_id=key_id, signature=checked_length(self.sign(text), SIGNATURE_BYTES))


def checked_length(signature: bytes, want: int) -> bytes:
    """Pass on what a `sign` function returned if its length is right; anything else is a defect of that function."""
    if len(signature) != want:
        raise ValueError(f"got {len(signature)} bytes from a signer, want {want}")
    return signature


def sign_note(text: bytes, signers: Sequence[NoteSigner]) -> Note:
    """The note of `text` with a signature by each signer, in order."""
    check_text(text)
    return Note(text=text, signatures=tuple(signer.line(text) for signer in signers))


def add_signatures(note: Note, lines: Sequence[SignatureLine]) -> Note:
    """The note with more signature lines under it, those it has already left out."""
    return Note(text=note.text, signatures=tuple(dict.fromkeys((*note.signatures, *lines))))
