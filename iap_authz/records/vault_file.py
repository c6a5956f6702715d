# SPDX-License-Identifier: Apache-2.0
"""The keys of a vault as text: one line a vault epoch, the oldest first (PROTOCOL rules S3 and S7).

The invariant: a line that parses renders back to itself, epochs rise from line to line, and no message, `repr` or
exception of this module holds a byte of a private key.

    PRIVATE+VAULT+<vault epoch>+<the day it was made, YYYY-MM-DD, UTC>+<base64 of the X25519 private key>

Writers seal to the last key. The others open what was sealed before it, until nothing is; then they are dropped, and an
epoch is never given out again: the next key is one above the newest, which is never dropped.

The public half of a line is `seal_settings.VaultKey`. Where the file is, and who may read it, is for `adapters/keys`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from iap_authz.errors import Malformed
from iap_authz.records.hpke import KEY_BYTES
from iap_authz.records.seal_settings import VaultKey
from iap_authz.tlog.text import parse_base64, render_base64

PREFIX = "PRIVATE+VAULT+"
"""What a line starts with; the log's own key file says `PRIVATE+KEY+`."""

KEYS_MAX = 16
"""At a rotation a month more than a year's: long before that, re-sealing has emptied the older ones."""

FILE_MAX_BYTES = 4_096
"""More than that many lines, of 90 bytes or so."""

KEY_AGE_MAX_DAYS = 30
"""When a key is due to be followed by the next (rule S7)."""

_LINE = re.compile(
    re.escape(PREFIX) + r"(?P<epoch>[1-9][0-9]{0,9})\+(?P<made>[0-9]{4}-[0-9]{2}-[0-9]{2})\+(?P<key>[A-Za-z0-9+/=]+)",
    re.ASCII,
)
_WANT = "want PRIVATE+VAULT+epoch+date+base64, as `iap-authz keys new vault` wrote it"


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultPrivateKey:
    """The key of one vault epoch. What it is made of shows nowhere."""

    epoch: int
    created: date
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise Malformed(f"got a private key of {len(self.secret)} bytes, want {KEY_BYTES}")

    def key(self) -> X25519PrivateKey:
        """The key that opens."""
        return X25519PrivateKey.from_private_bytes(self.secret)

    def public(self) -> VaultKey:
        """The key that writers seal to. Raises Malformed for an epoch that is too high."""
        return VaultKey(epoch=self.epoch, public_key=self.key().public_key().public_bytes_raw())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault's key is kept in its file only")


def is_vault_file(content: bytes) -> bool:
    """What kind of key file this is meant to be, by its beginning. Says nothing about whether it is sound."""
    return content.startswith(PREFIX.encode())


def parse_vault_line(line: str) -> VaultPrivateKey:
    """The key of one line, given without its newline. Raises Malformed, which quotes nothing of the line."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise Malformed(f"got a line that is no vault key, {_WANT}")
    try:
        created, secret = date.fromisoformat(found["made"]), parse_base64(found["key"])
    except (Malformed, ValueError):
        # Without its cause: that one quotes what it got.
        raise Malformed(f"got a vault key whose date or base64 is wrong, {_WANT}") from None
    key = VaultPrivateKey(epoch=int(found["epoch"]), created=created, secret=secret)
    key.public()
    return key


def render_vault_line(key: VaultPrivateKey) -> str:
    """The line without its newline. Whoever has it can open what is sealed to it."""
    return f"{PREFIX}{key.epoch}+{key.created.isoformat()}+{render_base64(key.secret)}"


def parse_vault_file(content: bytes) -> tuple[VaultPrivateKey, ...]:
    """The keys of a file, epochs rising. Raises Malformed."""
    if len(content) > FILE_MAX_BYTES:
        raise Malformed(f"got a vault key file of {len(content)} bytes, want at most {FILE_MAX_BYTES}")
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("got a vault key file that is no ASCII text") from None
    if not text.endswith("\n"):
        raise Malformed("got a vault key file without a final newline")
    keys = tuple(map(parse_vault_line, text[:-1].split("\n")))
    check_vault_keys(keys)
    return keys


def render_vault_file(keys: Sequence[VaultPrivateKey]) -> bytes:
    """The bytes of a file with these keys, epochs rising."""
    return "".join(f"{render_vault_line(key)}\n" for key in keys).encode()


def check_vault_keys(keys: Sequence[VaultPrivateKey]) -> None:
    """Raise Malformed unless these keys may stand in one file."""
    if not 1 <= len(keys) <= KEYS_MAX:
        raise Malformed(f"got {len(keys)} vault keys, want 1 to {KEYS_MAX}")
    epochs = [key.epoch for key in keys]
    if any(later <= earlier for earlier, later in pairwise(epochs)):
        raise Malformed(f"got vault epochs {epochs}, want each above the one before it")
    if len({key.secret for key in keys}) != len(keys):
        raise Malformed("got one key in two vault epochs, want a new key for each")
