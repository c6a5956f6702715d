# SPDX-License-Identifier: Apache-2.0
"""A key that signs assertions, which lives in the memory of one process.

The invariant: as for a writer's key (`memory`), the private key is made here, is never written, shown or copied, and
signs in the process that made it only. It is dropped with the object: nothing signs with it again.
"""

import os
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_NUMBER_BYTES = 32


class MemoryAssertionKey:
    """Satisfies the port `AssertionKey` with a new P-256 key. Make it after the last fork."""

    __slots__ = ("_key", "_point", "_process", "_scheme")

    def __init__(self) -> None:
        self._key = generate_private_key(SECP256R1())
        self._point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._scheme = ECDSA(SHA256())
        self._process = os.getpid()

    @property
    def point(self) -> bytes:
        """The public key, 65 bytes."""
        return self._point

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`."""
        if os.getpid() != self._process:
            raise RuntimeError(f"got a key that was made in process {self._process}, want one made after the fork")
        r, s = decode_dss_signature(self._key.sign(message, self._scheme))
        return r.to_bytes(_NUMBER_BYTES, "big") + s.to_bytes(_NUMBER_BYTES, "big")

    def __repr__(self) -> str:
        return f"<MemoryAssertionKey {self._point.hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key of assertions stays in its process")
