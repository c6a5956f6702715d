# SPDX-License-Identifier: Apache-2.0
"""The index key of a log on disk: what its index tokens come from (PROTOCOL rule S9). Writers never have it.

The invariant: the file is read by its owner only, and is never overwritten: with another key the index finds nothing
any more and must be built anew.

    iap-index+<base64 of 32 random bytes>
"""

import secrets
from pathlib import Path

from iap_authz.adapters.keys.file import create_private, load_private
from iap_authz.errors import Malformed
from iap_authz.tlog.text import parse_base64, render_base64

PREFIX = b"iap-index+"
INDEX_KEY_BYTES = 32
"""As long as the hash whose key it is: HMAC-SHA256 (RFC 2104 section 3)."""

_WANT = "want iap-index+base64 on one line, as `iap-authz keys new index` wrote it"


def load_index_key(path: Path) -> bytes:
    """The 32 bytes in the file, which nobody but its owner may read. Raises ConfigInvalid."""
    return load_private(path, parse_index_key)


def create_index_key(path: Path) -> None:
    """Make the index key of a new log. A file that is there stays, and is a ConfigInvalid."""
    create_private(path, render_index_key(secrets.token_bytes(INDEX_KEY_BYTES)))


def parse_index_key(content: bytes) -> bytes:
    """The key of a file. Raises Malformed, which quotes nothing of it."""
    line = content.removesuffix(b"\n")
    try:
        key = parse_base64(line.removeprefix(PREFIX).decode("ascii"))
    except (Malformed, UnicodeDecodeError):
        # Without its cause: that one quotes what it got.
        raise Malformed(f"got a file that is no index key, {_WANT}") from None
    if not line.startswith(PREFIX) or len(key) != INDEX_KEY_BYTES:
        raise Malformed(f"got a file that is no index key of {INDEX_KEY_BYTES} bytes, {_WANT}")
    return key


def render_index_key(key: bytes) -> bytes:
    """The content of the file. Whoever has it can tell who is meant by a token of the index."""
    return PREFIX + render_base64(key).encode() + b"\n"
