# SPDX-License-Identifier: Apache-2.0
"""HPKE (RFC 9180): the library's sealing and both ways of opening are one thing."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import BadProof, Malformed
from iap_authz.records.hpke import OVERHEAD_BYTES, decapsulate, open_by_exchange, open_with, seal_to

# RFC 9180, appendix A.1.1 (DHKEM(X25519, HKDF-SHA256)); the shared secret does not depend on the AEAD.
SK_R = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
PK_R = bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
ENC = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
SHARED = bytes.fromhex("fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc")

PRIVATE = X25519PrivateKey.from_private_bytes(SK_R)


def exchange(public_key: bytes) -> bytes:
    return PRIVATE.exchange(X25519PublicKey.from_public_bytes(public_key))


def test_the_shared_secret_is_that_of_the_rfc() -> None:
    assert PRIVATE.public_key().public_bytes_raw() == PK_R
    assert decapsulate(exchange, ENC, public_key=PK_R) == SHARED


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_what_is_sealed_is_opened_by_either_way(message: bytes, info: bytes) -> None:
    sealed = seal_to(PK_R, message, info=info)
    assert len(sealed) == len(message) + OVERHEAD_BYTES
    assert open_with(PRIVATE, sealed, info=info) == message
    assert open_by_exchange(exchange, sealed, public_key=PK_R, info=info) == message


def by_library(sealed: bytes, info: bytes) -> bytes:
    return open_with(PRIVATE, sealed, info=info)


def by_keeper(sealed: bytes, info: bytes) -> bytes:
    return open_by_exchange(exchange, sealed, public_key=PK_R, info=info)


@pytest.mark.parametrize("opened", [by_library, by_keeper])
def test_each_bit_that_changes_is_refused(opened: Callable[[bytes, bytes], bytes]) -> None:
    sealed = seal_to(PK_R, b"key", info=b"info")
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        if bit == 8 * 32 - 1:
            continue  # RFC 7748 section 5: the highest bit of a public key is not looked at by an exchange
        with pytest.raises(BadProof):
            opened(bytes(changed), b"info")
    for part in range(len(sealed)):
        with pytest.raises(BadProof):
            opened(sealed[:part], b"info")


@pytest.mark.parametrize("opened", [by_library, by_keeper])
def test_another_info_or_another_key_does_not_open(opened: Callable[[bytes, bytes], bytes]) -> None:
    sealed = seal_to(PK_R, b"key", info=b"info")
    with pytest.raises(BadProof):
        opened(sealed, b"inf")
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(BadProof):
        opened(seal_to(other, b"key", info=b"info"), b"info")


@pytest.mark.parametrize("answer", [bytes(32), b"", b"x" * 31, b"x" * 33], ids=["zero", "empty", "short", "long"])
def test_a_keeper_that_answers_falsely_is_refused(answer: bytes) -> None:
    with pytest.raises(BadProof):
        open_by_exchange(lambda _: answer, seal_to(PK_R, b"key", info=b""), public_key=PK_R, info=b"")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_of_another_length_is_malformed(length: int) -> None:
    with pytest.raises(Malformed):
        seal_to(bytes(length), b"key", info=b"")
