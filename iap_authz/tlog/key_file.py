# SPDX-License-Identifier: Apache-2.0
"""The keys of a log as text: one line a key, private ones in the form that Go's `note` package reads.

The invariant: a line that parses renders back to itself, its key id is the one of its name and key, and no message,
`repr` or exception of this module holds a byte of a seed.

    PRIVATE+KEY+<name>+<key id, 8 hex digits>+<base64(0x01 || 32-byte seed)>

    key id = SHA-256(name || 0x0A || 0x01 || public key)[:4], as in the verifier key text (`note`)

A file holds one private key, and two while a key is rotated: the older one first. Both have the log's origin as their
name, and every checkpoint then carries both signatures, so that a reader who pins either of them goes on.

Before them stand the verifier keys of those that were rotated out, `<name>+<key id>+<base64(0x01 || public key)>`, the
oldest first. They sign nothing any more; the log needs them to read what they have signed.

Specification: golang.org/x/mod/sumdb/note, `GenerateKey`. Where the file is and who may read it is for `adapters/keys`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iap_authz.errors import Malformed
from iap_authz.tlog.note import KeyType, NoteSigner, VerifierKey, check_name, key_id_of
from iap_authz.tlog.text import parse_base64, render_base64

PREFIX = "PRIVATE+KEY+"
"""What a line starts with (Go's note package)."""

SEED_BYTES = 32
"""The length of an Ed25519 private key (RFC 8032 section 5.1.5)."""

KEYS_MAX = 2
"""The key in force and, during a rotation, the one that follows it."""

RETIRED_MAX = 16
"""Rotations that a file remembers: at one a year, longer than any log of this kind has lived."""

FILE_MAX_BYTES = 16_384
"""Far more than that many lines with the longest names."""

_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """An Ed25519 key and the name that it signs under. Its seed shows nowhere."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.seed) != SEED_BYTES:
            raise Malformed(f"got a seed of {len(self.seed)} bytes, want {SEED_BYTES}")

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return self._key().public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that start its signatures."""
        return key_id_of(self.name, KeyType.ED25519, public_key=self.public_key)

    def signer(self) -> NoteSigner:
        """Who signs notes with this key."""
        return NoteSigner(name=self.name, public_key=self.public_key, sign=self._key().sign)

    def verifier(self) -> VerifierKey:
        """The key that checks what this one makes."""
        return VerifierKey(name=self.name, public_key=self.public_key)

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a log's key is kept in its file only")


def parse_key_line(line: str) -> PrivateKey:
    """The key of one line, given without its newline. Raises Malformed, which quotes nothing of the line."""
    parts = line.removeprefix(PREFIX).split("+", _PARTS - 1)
    if not line.startswith(PREFIX) or len(parts) != _PARTS:
        raise Malformed(f"got a line that is no private key, want {PREFIX}name+key id+base64")
    name, _, material = parts
    try:
        value = parse_base64(material)
        check_name(name)
    except Malformed:
        # Without its cause: that one quotes what it got.
        raise Malformed("got a private key whose name or base64 is wrong, want what `keys new log` wrote") from None
    if value[:1] != bytes([KeyType.ED25519]) or len(value) != 1 + SEED_BYTES:
        raise Malformed(f"got a private key of {len(value)} bytes, want 0x01 and a seed of {SEED_BYTES}")
    key = PrivateKey(name=name, seed=value[1:])
    if render_key_line(key) != line:
        raise Malformed("got a private key with the key id of another one, want the id of its name and key")
    return key


def render_key_line(key: PrivateKey) -> str:
    """The line without its newline. Whoever has it can sign as the log."""
    material = render_base64(bytes([KeyType.ED25519]) + key.seed)
    return f"{PREFIX}{key.name}+{key.key_id.hex()}+{material}"


def parse_key_file(content: bytes) -> tuple[PrivateKey, ...]:
    """The private keys of a file, the oldest first: one or two, of one name, each once. Raises Malformed."""
    return _parse(content)[1]


def parse_retired(content: bytes) -> tuple[VerifierKey, ...]:
    """The verifier keys of a file that were rotated out, the oldest first. Raises Malformed."""
    return _parse(content)[0]


def render_key_file(keys: Sequence[PrivateKey], *, retired: Sequence[VerifierKey] = ()) -> bytes:
    """The bytes of a file with these keys, the oldest first."""
    lines = [*(key.render() for key in retired), *map(render_key_line, keys)]
    return "".join(f"{line}\n" for line in lines).encode()


def check_keys(keys: Sequence[PrivateKey], *, retired: Sequence[VerifierKey] = ()) -> None:
    """Raise Malformed unless these keys may stand in one file."""
    if not 1 <= len(keys) <= KEYS_MAX:
        raise Malformed(f"got {len(keys)} keys, want 1, or {KEYS_MAX} during a rotation")
    if len(retired) > RETIRED_MAX:
        raise Malformed(f"got {len(retired)} retired keys, want at most {RETIRED_MAX}")
    names = {key.name for key in keys} | {key.name for key in retired}
    ids = {key.key_id for key in keys} | {key.key_id for key in retired}
    if len(names) != 1 or len(ids) != len(keys) + len(retired):
        raise Malformed("got keys of several names, or two with one key id, want different keys of one log")


def _parse(content: bytes) -> tuple[tuple[VerifierKey, ...], tuple[PrivateKey, ...]]:
    if len(content) > FILE_MAX_BYTES:
        raise Malformed(f"got a key file of {len(content)} bytes, want at most {FILE_MAX_BYTES}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Malformed("got a key file that is no UTF-8 text") from None
    if not text.endswith("\n"):
        raise Malformed("got a key file without a final newline")
    lines = text[:-1].split("\n")
    first = next((at for at, line in enumerate(lines) if line.startswith("PRIVATE")), 0)
    retired = tuple(map(_parse_retired_line, lines[:first]))
    keys = tuple(map(parse_key_line, lines[first:]))
    check_keys(keys, retired=retired)
    return retired, keys


def _parse_retired_line(line: str) -> VerifierKey:
    try:
        return VerifierKey.parse(line)
    except Malformed:
        # Without its cause, which quotes the line: a private key that was mangled may stand here.
        raise Malformed("got a line before the private key that is no verifier key, want what `keys` wrote") from None
