# SPDX-License-Identifier: Apache-2.0
"""What every `AssertionKey` keeps, and what keeps the key in its process."""

import os
import pickle

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from iap_authz.adapters.keys.assertion import MemoryAssertionKey


def check(key: MemoryAssertionKey, message: bytes, signature: bytes) -> None:
    assert len(signature) == 64
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key.point).verify(der, message, ECDSA(SHA256()))


def test_signatures_verify() -> None:
    key = MemoryAssertionKey()
    assert (len(key.point), key.point[0]) == (65, 4)
    for number in range(300):  # one in 128 has a number with a leading zero byte
        message = b"message" * number
        check(key, message, key.sign(message))
    with pytest.raises(InvalidSignature):
        check(key, b"another", key.sign(b"message"))


def test_each_key_is_another() -> None:
    assert len({MemoryAssertionKey().point for _ in range(20)}) == 20


def test_the_key_is_not_shown_and_not_copied() -> None:
    key = MemoryAssertionKey()
    assert repr(key) == f"<MemoryAssertionKey {key.point.hex()}>"
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(key)
    assert not hasattr(key, "__dict__")


def test_the_key_does_not_sign_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    key, here = MemoryAssertionKey(), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(RuntimeError, match="after the fork"):
        key.sign(b"message")
