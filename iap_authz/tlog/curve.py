# SPDX-License-Identifier: Apache-2.0
"""Which 32 bytes are fit to be an Ed25519 public key.

The invariant: a key that passes is the one encoding of a point of the curve, and not one of the eight points of small
order, under which a signature can be forged for every text.

    32 bytes little-endian:  y (255 bits) | sign of x (the top bit of the last byte)

Specification: RFC 8032 sections 5.1.2 and 5.1.3. Libraries differ in which of these keys they accept, and two
verifiers that differ about a signature are two views of a log; so they are refused before any library sees them.

It does not check signatures. It handles public values only, so nothing here needs constant time.
"""

from iap_authz.errors import Malformed

PUBLIC_KEY_BYTES = 32
"""The length of an Ed25519 public key (RFC 8032 section 5.1.5)."""

PRIME = 2**255 - 19
"""The field of the curve (RFC 8032 section 5.1)."""

CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
"""The constant of the curve's equation -x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032 section 5.1)."""

ORDER_EIGHT_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
"""The y of a point of order eight. The tests double the point three times and find the neutral element."""

SMALL_ORDER_Y = frozenset({0, 1, PRIME - 1, ORDER_EIGHT_Y, PRIME - ORDER_EIGHT_Y})
"""The y of all eight points of small order: 1 (order 1), -1 (2), 0 (4, twice), and four points of order 8."""


def check_public_key(key: bytes) -> None:
    """Raise Malformed unless `key` is a canonical point of the curve and not of small order. Takes about 0.1 ms."""
    if not isinstance(key, bytes) or len(key) != PUBLIC_KEY_BYTES:
        raise Malformed(f"got a public key of {len(key)} bytes, want {PUBLIC_KEY_BYTES}")
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    if y >= PRIME:
        raise Malformed("got a public key whose y is not below 2^255 - 19, want the canonical encoding")
    if y in SMALL_ORDER_Y:
        raise Malformed("got a public key of small order, want a point of the large subgroup")
    above, below = y * y - 1, CURVE_D * y * y + 1
    # x^2 = above / below has a root exactly when above * below is a square (Euler); y = 1 and -1 are gone already.
    if pow(above * below, (PRIME - 1) // 2, PRIME) != 1:
        raise Malformed("got a public key that is no point of the curve")
