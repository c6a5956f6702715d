# SPDX-License-Identifier: Apache-2.0
"""Files of one random secret each, whose kind their first letters say.

The invariant: such a file is read by its owner only, and is never overwritten; and no message quotes what it holds.

    <prefix><base64 of the secret>
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from iap_authz.adapters.keys.file import create_private, load_private
from iap_authz.errors import Malformed
from iap_authz.tlog.text import parse_base64, render_base64


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """A kind of file: how it begins, how many bytes the secret has, what it is called and which command makes it."""

    prefix: str
    size_bytes: int
    name: str
    command: str

    def load(self, path: Path) -> bytes:
        """The secret in the file, which nobody but its owner may read. Raises ConfigInvalid."""
        return load_private(path, self.parse)

    def create(self, path: Path) -> None:
        """Make a secret. A file that is there stays, and is a ConfigInvalid."""
        create_private(path, self.render(secrets.token_bytes(self.size_bytes)))

    def parse(self, content: bytes) -> bytes:
        """The secret of a file. Raises Malformed, which quotes nothing of it."""
        prefix, line = self.prefix.encode(), content.removesuffix(b"\n")
        want = f"want {self.prefix}base64 on one line, as `{self.command}` wrote it"
        try:
            secret = parse_base64(line.removeprefix(prefix).decode("ascii"))
        except (Malformed, UnicodeDecodeError):
            # Without its cause: that one quotes what it got.
            raise Malformed(f"got a file that is no {self.name}, {want}") from None
        if not line.startswith(prefix) or len(secret) != self.size_bytes:
            raise Malformed(f"got a file that is no {self.name} of {self.size_bytes} bytes, {want}")
        return secret

    def render(self, secret: bytes) -> bytes:
        """The content of the file."""
        return f"{self.prefix}{render_base64(secret)}\n".encode()
