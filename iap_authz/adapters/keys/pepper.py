# SPDX-License-Identifier: Apache-2.0
"""The pepper of API keys on disk: what their hashes are keyed with. It stands beside no file of hashes.

The invariant: the file is read by its owner only, and is never overwritten: with another pepper no key is good.

    iap-pepper+<base64 of 32 random bytes>
"""

import secrets
from pathlib import Path

from iap_authz.adapters.keys.file import create_private, load_private
from iap_authz.errors import Malformed
from iap_authz.facts.apikey import PEPPER_BYTES
from iap_authz.tlog.text import parse_base64, render_base64

PREFIX = b"iap-pepper+"

_WANT = "want iap-pepper+base64 on one line, as `iap-authz keys new pepper` wrote it"


def load_pepper(path: Path) -> bytes:
    """The 32 bytes in the file, which nobody but its owner may read. Raises ConfigInvalid."""
    return load_private(path, parse_pepper)


def create_pepper(path: Path) -> None:
    """Make a pepper. A file that is there stays, and is a ConfigInvalid."""
    create_private(path, render_pepper(secrets.token_bytes(PEPPER_BYTES)))


def parse_pepper(content: bytes) -> bytes:
    """The pepper of a file. Raises Malformed, which quotes nothing of it."""
    line = content.removesuffix(b"\n")
    try:
        pepper = parse_base64(line.removeprefix(PREFIX).decode("ascii"))
    except (Malformed, UnicodeDecodeError):
        # Without its cause: that one quotes what it got.
        raise Malformed(f"got a file that is no pepper, {_WANT}") from None
    if not line.startswith(PREFIX) or len(pepper) != PEPPER_BYTES:
        raise Malformed(f"got a file that is no pepper of {PEPPER_BYTES} bytes, {_WANT}")
    return pepper


def render_pepper(pepper: bytes) -> bytes:
    """The content of the file. Whoever has it and the file of hashes can try candidates, all 2^256 of them."""
    return PREFIX + render_base64(pepper).encode() + b"\n"
