# SPDX-License-Identifier: Apache-2.0
"""Private keys of a log as text: one line a key, in the form that Go's `note` package reads.

The invariant: a line that parses renders back to itself, its key id is the one of its name and key, and no message,
`repr` or exception of this module holds a byte of a seed.

    PRIVATE+KEY+<name>+<key id, 8 hex digits>+<base64(0x01 || 32-byte seed)>

    key id = SHA-256(name || 0x0A || 0x01 || public key)[:4], as in the verifier key text (`note`)

A file holds one line, and two while a key is rotated: the older one first. Both have the log's origin as their name,
and every checkpoint then carries both signatures, so that a reader who pins either of them goes on.

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

FILE_MAX_BYTES = 4096
"""Far more than two lines with the longest names."""

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
    """The keys of a file, the oldest first: one or two, of one name, each once. Raises Malformed."""
    if len(content) > FILE_MAX_BYTES:
        raise Malformed(f"got a key file of {len(content)} bytes, want at most {FILE_MAX_BYTES}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Malformed("got a key file that is no UTF-8 text") from None
    if not text.endswith("\n"):
        raise Malformed("got a key file without a final newline")
    keys = tuple(parse_key_line(line) for line in text[:-1].split("\n"))
    check_keys(keys)
    return keys


def render_key_file(keys: Sequence[PrivateKey]) -> bytes:
    """The bytes of a file with these keys, the oldest first."""
    return "".join(f"{render_key_line(key)}\n" for key in keys).encode()


def check_keys(keys: Sequence[PrivateKey]) -> None:
    """Raise Malformed unless these keys may stand in one file."""
    if not 1 <= len(keys) <= KEYS_MAX:
        raise Malformed(f"got {len(keys)} keys, want 1, or {KEYS_MAX} during a rotation")
    if len({key.name for key in keys}) != 1 or len({key.key_id for key in keys}) != len(keys):
        raise Malformed("got keys of several names, or two with one key id, want different keys of one log")
