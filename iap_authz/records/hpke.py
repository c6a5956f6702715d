# SPDX-License-Identifier: Apache-2.0
"""HPKE in base mode, one message a sealing: how a subject key is sealed to the vault (PROTOCOL rule S3).

    suite   DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM          ids 0x0020, 0x0001, 0x0002
    sealed  = enc (32) || ciphertext || tag (16)                           associated data: none

`seal_to` and `open_with` are the library's. `open_by_exchange` is for a private key that cannot be read: all that is
asked of its keeper is one X25519 exchange with `enc`, and the rest of the opening is computed here.

Specification: RFC 9180, sections 4, 4.1 and 5.1; test vectors in its appendix A.
"""

import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from iap_authz.errors import BadProof, Malformed

KEY_BYTES = 32
"""Of an X25519 key, private or public, and of a shared secret (RFC 7748)."""

TAG_BYTES = 16
"""Of AES-256-GCM (RFC 9180 section 7.3)."""

OVERHEAD_BYTES = KEY_BYTES + TAG_BYTES
"""What a sealed message is longer than what is sealed."""

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_KEM_SUITE = b"KEM" + (0x0020).to_bytes(2)
_HPKE_SUITE = b"HPKE" + (0x0020).to_bytes(2) + (0x0001).to_bytes(2) + (0x0002).to_bytes(2)
_BASE_MODE = b"\x00"
_NONCE_BYTES = 12
_VERSION = b"HPKE-v1"


def seal_to(public_key: bytes, message: bytes, *, info: bytes) -> bytes:
    """Seal `message` so that only the holder of the private key opens it, under the same `info`. About 90 us.

    Raises Malformed for a key that is none.
    """
    return _SUITE.encrypt(message, _public(public_key), info)


def open_with(private_key: X25519PrivateKey, sealed: bytes, *, info: bytes) -> bytes:
    """The message. Raises BadProof if it was not sealed to this key under this `info`."""
    _check_length(sealed)
    try:
        return _SUITE.decrypt(sealed, private_key, info)
    except (InvalidTag, ValueError):
        raise _not_opened() from None


def open_by_exchange(exchange: Callable[[bytes], bytes], sealed: bytes, *, public_key: bytes, info: bytes) -> bytes:
    """The same by a key that stays where it is: `exchange` computes X25519 of it and a public key, 32 bytes.

    Raises BadProof, and what `exchange` raises.
    """
    _check_length(sealed)
    key, nonce = _schedule(decapsulate(exchange, sealed[:KEY_BYTES], public_key=public_key), info)
    try:
        return AESGCM(key).decrypt(nonce, sealed[KEY_BYTES:], None)
    except InvalidTag:
        raise _not_opened() from None


def decapsulate(exchange: Callable[[bytes], bytes], enc: bytes, *, public_key: bytes) -> bytes:
    """The shared secret of `enc` (RFC 9180 section 4.1, `Decap`). Raises BadProof, and what `exchange` raises."""
    shared = exchange(enc)
    if len(shared) != KEY_BYTES or not any(shared):
        raise _not_opened()  # section 7.1.4: an all-zero result is refused
    return _extract_and_expand(shared, enc + public_key)


def _public(public_key: bytes) -> X25519PublicKey:
    if len(public_key) != KEY_BYTES:
        raise Malformed(f"got an X25519 public key of {len(public_key)} bytes, want {KEY_BYTES}")
    return X25519PublicKey.from_public_bytes(public_key)


def _check_length(sealed: bytes) -> None:
    if len(sealed) < OVERHEAD_BYTES:
        raise BadProof(f"got a sealed message of {len(sealed)} bytes, want at least {OVERHEAD_BYTES}")


def _not_opened() -> BadProof:
    return BadProof("got a message that was not sealed to this key, or was changed")


def _extract_and_expand(shared: bytes, context: bytes) -> bytes:
    """RFC 9180 section 4.1, `ExtractAndExpand`."""
    extracted = _labeled_extract(b"", b"eae_prk", shared, suite=_KEM_SUITE)
    return _labeled_expand(extracted, b"shared_secret", context, suite=_KEM_SUITE, length=KEY_BYTES)


def _schedule(secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """RFC 9180 section 5.1, `KeySchedule` in base mode: the key and the nonce of the first message."""
    context = (
        _BASE_MODE
        + _labeled_extract(b"", b"psk_id_hash", b"", suite=_HPKE_SUITE)
        + _labeled_extract(b"", b"info_hash", info, suite=_HPKE_SUITE)
    )
    extracted = _labeled_extract(secret, b"secret", b"", suite=_HPKE_SUITE)
    key = _labeled_expand(extracted, b"key", context, suite=_HPKE_SUITE, length=KEY_BYTES)
    return key, _labeled_expand(extracted, b"base_nonce", context, suite=_HPKE_SUITE, length=_NONCE_BYTES)


def _labeled_extract(salt: bytes, label: bytes, material: bytes, *, suite: bytes) -> bytes:
    """RFC 9180 section 4, `LabeledExtract`; HKDF-Extract is one HMAC (RFC 5869 section 2.2)."""
    return hmac.digest(salt, _VERSION + suite + label + material, "sha256")


def _labeled_expand(extracted: bytes, label: bytes, info: bytes, *, suite: bytes, length: int) -> bytes:
    """RFC 9180 section 4, `LabeledExpand`."""
    labeled = length.to_bytes(2) + _VERSION + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, labeled).derive(extracted)
