# SPDX-License-Identifier: Apache-2.0
"""Keys for the tests of the log, made from fixed seeds so that a failure looks the same each time."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from iap_authz.tlog.cosign import Cosigner, CosignerKey
from iap_authz.tlog.hashing import TreeSize
from iap_authz.tlog.note import KeyType, NoteSigner
from tests.fakes.reference_tree import ReferenceTree

ORIGIN = "log.example/audit"


def ed25519(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def signer(name: str = ORIGIN, seed: int = 1) -> NoteSigner:
    private = ed25519(seed)
    return NoteSigner(name=name, public_key=private.public_key().public_bytes_raw(), sign=private.sign)


def cosigner(name: str = "witness.example/w1", seed: int = 11) -> Cosigner:
    private = ed25519(seed)
    key = CosignerKey(
        name=name, key_type=KeyType.COSIGNATURE_ED25519, public_key=private.public_key().public_bytes_raw()
    )
    return Cosigner(key=key, sign=private.sign)


def ml_dsa_cosigner(name: str = "witness.example/pq", seed: int = 21) -> Cosigner:
    private = MLDSA44PrivateKey.from_seed_bytes(bytes([seed]) * 32)
    key = CosignerKey(
        name=name, key_type=KeyType.COSIGNATURE_ML_DSA_44, public_key=private.public_key().public_bytes_raw()
    )
    return Cosigner(key=key, sign=private.sign)


def checkpoint(tree: ReferenceTree, size: int, origin: str = ORIGIN) -> Checkpoint:
    return Checkpoint(origin=origin, size=TreeSize(size), root=tree.root(size))


def signed(tree: ReferenceTree, size: int, seed: int = 1) -> SignedCheckpoint:
    head = checkpoint(tree, size)
    return SignedCheckpoint(checkpoint=head, note=sign_checkpoint(head, signer(seed=seed)))
