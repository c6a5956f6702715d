# SPDX-License-Identifier: Apache-2.0
"""Public keys that must not be used, derived here with plain affine arithmetic and no code of the package."""

import pytest

from iap_authz.errors import Malformed
from iap_authz.tlog.curve import CURVE_D, ORDER_EIGHT_Y, PRIME, check_public_key
from iap_authz.tlog.note import KeyType, VerifierKey, render_key_text
from tests.unit.tlog.tlog_keys import ed25519

SMALL_ORDER = {
    "order 1": "0100000000000000000000000000000000000000000000000000000000000000",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4 even": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4 odd": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8 a": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8 b": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8 c": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8 d": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}
"""All eight points of small order in their canonical encoding; the list is public knowledge about the curve."""

NOT_CANONICAL = {
    "1 with a sign": "0100000000000000000000000000000000000000000000000000000000000080",
    "-1 with a sign": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "y = p": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "y = p, sign": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "y = p + 1": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "y = p + 1, sign": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "y = p + 3, of large order": "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "y = 2^255 - 1": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "all ones": "ff" * 32,
}


def double(x: int, y: int) -> tuple[int, int]:
    product = CURVE_D * x * x * y * y
    return (
        2 * x * y * pow(1 + product, -1, PRIME) % PRIME,
        (y * y + x * x) * pow(1 - product, -1, PRIME) % PRIME,
    )


def x_of(y: int) -> int:
    """A root of the curve's equation for x, by the usual exponent for primes that are 5 modulo 8."""
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    root = pow(square, (PRIME + 3) // 8, PRIME)
    return root if root * root % PRIME == square else root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME


def test_the_point_of_order_eight_has_order_eight() -> None:
    point = (x_of(ORDER_EIGHT_Y), ORDER_EIGHT_Y)
    seen = [point := double(*point) for _ in range(3)]
    assert [y for _, y in seen] == [0, PRIME - 1, 1]
    assert seen[-1] == (0, 1)


@pytest.mark.parametrize("encoded", SMALL_ORDER.values(), ids=SMALL_ORDER)
def test_small_order_keys_are_refused(encoded: str) -> None:
    key = bytes.fromhex(encoded)
    with pytest.raises(Malformed, match="small order"):
        check_public_key(key)
    with pytest.raises(Malformed, match="small order"):
        VerifierKey.parse(render_key_text("log.example", KeyType.ED25519, public_key=key))


@pytest.mark.parametrize("encoded", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_keys_that_are_not_canonical_are_refused(encoded: str) -> None:
    with pytest.raises(Malformed):
        check_public_key(bytes.fromhex(encoded))


def test_y_values_off_the_curve_are_refused() -> None:
    refused = 0
    for y in range(2, 60):
        x = x_of(y)
        on_curve = (y * y - x * x - 1 - CURVE_D * x * x * y * y) % PRIME == 0
        if on_curve:
            check_public_key(y.to_bytes(32, "little"))
        else:
            refused += 1
            with pytest.raises(Malformed, match="no point"):
                check_public_key(y.to_bytes(32, "little"))
    assert 10 < refused < 50


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(Malformed, match="want 32"):
        check_public_key(bytes(length))


def test_honest_keys_are_accepted() -> None:
    for seed in range(64):
        check_public_key(ed25519(seed).public_key().public_bytes_raw())
