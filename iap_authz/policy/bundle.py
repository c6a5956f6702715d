# SPDX-License-Identifier: Apache-2.0
"""A bundle as bytes: what goes into the log before the first decision, and what replay compiles again.

Invariant: `load_canonical(policy.canonical)` has the digest of `policy`, and `join_chunks(split_chunks(b)) == b`.
The canonical form itself is `canonical`'s; whether the chunks are the right ones, the digest tells.
"""

from collections.abc import Sequence

from iap_authz.errors import Corrupt, Malformed
from iap_authz.model.ids import PolicyDigest
from iap_authz.policy.canonical import digest_of, read_canonical, render_canonical
from iap_authz.policy.compile import compile_readings
from iap_authz.policy.compiled import Policy

__all__ = ["CHUNK_MAX_BYTES", "check_digest", "join_chunks", "load_canonical", "render_canonical", "split_chunks"]

CHUNK_MAX_BYTES = 49_152
"""48 KiB: with the rest of its record a chunk stays below the 65,535 bytes of a log entry."""


def load_canonical(canonical: bytes) -> Policy:
    """Compile canonical bytes. Raises `Malformed` if they are not canonical, `PolicyInvalid` for wrong content."""
    policy = compile_readings(read_canonical(canonical))
    if policy.canonical != canonical:
        raise Malformed("got a policy bundle that is not in canonical form")
    return policy


def check_digest(canonical: bytes, digest: PolicyDigest) -> None:
    """Raise `Corrupt` unless `canonical` is the bundle that `digest` names."""
    got = digest_of(canonical)
    if got != digest:
        raise Corrupt("policy bundle", f"got digest {got.hex()}, want {digest.hex()}")


def split_chunks(canonical: bytes, size_bytes: int = CHUNK_MAX_BYTES) -> tuple[bytes, ...]:
    """Cut a bundle into chunks of `size_bytes`, the last one shorter."""
    if size_bytes < 1:
        raise ValueError(f"got chunks of {size_bytes} bytes, want at least 1")
    return tuple(canonical[start : start + size_bytes] for start in range(0, len(canonical), size_bytes))


def join_chunks(chunks: Sequence[bytes]) -> bytes:
    """Put chunks together in the order of their index. Whether all are there, `check_digest` tells."""
    return b"".join(chunks)
