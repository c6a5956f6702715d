# SPDX-License-Identifier: Apache-2.0
"""A writer's key, which lives and dies with its process (PROTOCOL rule W1).

The invariant: the private key is made here, is never written, shown or copied, and signs in the process that made it
only: a fork that signed with it would be a second writer of the same name.
"""

import os
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class MemorySigner:
    """Satisfies the port `Signer` with a new Ed25519 key. Make it after the last fork."""

    __slots__ = ("_key", "_process", "_public_key")

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._public_key = self._key.public_key().public_bytes_raw()
        self._process = os.getpid()

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`."""
        if os.getpid() != self._process:
            raise RuntimeError(f"got a key that was made in process {self._process}, want one made after the fork")
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"<MemorySigner {self._public_key.hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a writer's key stays in its process")
