# SPDX-License-Identifier: Apache-2.0
"""What signs assertions, and what their keys are published from."""

from typing import Protocol


class AssertionKey(Protocol):
    """One P-256 key for ES256. The private key never leaves the implementation, and signs in its own process only."""

    @property
    def point(self) -> bytes:
        """The public key: 65 bytes, a point as X9.62 writes it uncompressed."""

    def sign(self, message: bytes) -> bytes:
        """The signature of `message` as RFC 7518 section 3.4 writes it: r || s, 64 bytes. Not deterministic."""


class KeyPublisher(Protocol):
    """Inbound: what whoever serves the key set asks for. Never waits, never raises."""

    def key_set(self) -> bytes:
        """The JSON Web Key Set of the keys that sign, will sign next, or have signed what has not expired."""
