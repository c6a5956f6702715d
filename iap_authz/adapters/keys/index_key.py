# SPDX-License-Identifier: Apache-2.0
"""The index key of a log on disk: what its index tokens come from (PROTOCOL rule S9). Writers never have it.

The invariant: the file is read by its owner only, and is never overwritten: with another key the index finds nothing
any more and must be built anew.

    iap-index+<base64 of 32 random bytes>
"""

from pathlib import Path

from iap_authz.adapters.keys.secret_file import SecretFile

INDEX_KEY_BYTES = 32
"""As long as the hash whose key it is: HMAC-SHA256 (RFC 2104 section 3)."""

_FILE = SecretFile(
    prefix="iap-index+", size_bytes=INDEX_KEY_BYTES, name="index key", command="iap-authz keys new index"
)


def load_index_key(path: Path) -> bytes:
    """The 32 bytes in the file, which nobody but its owner may read. Raises ConfigInvalid."""
    return _FILE.load(path)


def create_index_key(path: Path) -> None:
    """Make the index key of a new log. A file that is there stays, and is a ConfigInvalid."""
    _FILE.create(path)


def parse_index_key(content: bytes) -> bytes:
    """The key of a file. Raises Malformed, which quotes nothing of it."""
    return _FILE.parse(content)


def render_index_key(key: bytes) -> bytes:
    """The content of the file. Whoever has it can tell who is meant by a token of the index."""
    return _FILE.render(key)
