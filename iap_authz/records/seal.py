# SPDX-License-Identifier: Apache-2.0
"""The personal part of a record, sealed and opened (PROTOCOL rules S1 to S3).

The invariant: a sealed part opens under one opening only, in one record only. The key commitment in the leaf names the
opening (AES-GCM alone opens under two keys), and origin, writer, sequence and id of the record are bound to it.

    opening    = HKDF-Expand-SHA256(subject key, context, 64) = AEAD key (32) || key commitment (32)
    context    = "iap-authz/seal/v1" || origin || writer (32) || u64 sequence || id (16)
    plaintext  = u32 length || PersonalPart || zeros up to a size class
    ciphertext = AES-256-GCM(AEAD key, nonce zero, plaintext, associated data = context)
    beside     = salt (32) || Companion           stays outside the leaf, which has SHA-256(beside) only (rule S2)

    Companion.sealed_subject_key = HPKE(vault key, subject key, info)      `hpke`
    info       = "iap-authz/subject-key/v1" || origin || writer (32) || key id (16)

Numbers are big-endian. The parts of a context behind the origin have fixed lengths, so no two contexts are the same
bytes. A nonce of zero is sound because a key is used once: record ids are random, sequences never repeat.

An opening says nothing about another record, so it can be given to whoever is entitled to read this one: with the leaf
at hand they open and check it themselves. Specifications: RFC 5869, NIST SP 800-38D, RFC 9180.
"""

import hmac
import secrets
from bisect import bisect_left
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, Malformed
from iap_authz.records.hpke import OVERHEAD_BYTES, seal_to

SEAL_LABEL = b"iap-authz/seal/v1"
SUBJECT_KEY_LABEL = b"iap-authz/subject-key/v1"
"""Keep the two uses of keys apart from each other, and from every other hash."""

VERSION = 1
"""Of `SealedPart`: the construction above."""

SUBJECT_KEY_BYTES, KEY_ID_BYTES, SALT_BYTES = 32, 16, 32
"""256 bits each for what must be secret or hiding; enough random bits that two key ids are never the same."""

SEALED_KEY_BYTES = SUBJECT_KEY_BYTES + OVERHEAD_BYTES
"""The length of every sealed subject key: 80."""

AEAD_KEY_BYTES, COMMITMENT_BYTES = 32, 32
OPENING_BYTES = AEAD_KEY_BYTES + COMMITMENT_BYTES
"""The two halves of an opening (rule S1)."""

SIZE_CLASSES_BYTES = tuple(sorted(base << power for base in (256, 384) for power in range(8)))
"""Plaintexts have one of these lengths: at most a third is padding beyond the smallest, and a length tells no name."""

COMPANION_MAX_BYTES = 256
"""A companion has about 110 bytes; nothing that is longer is one."""

_LENGTH_BYTES, _SEQUENCE_BYTES, _TAG_BYTES = 4, 8, 16

PART_MAX_BYTES = SIZE_CLASSES_BYTES[-1] - _LENGTH_BYTES
"""Of a personal part that can be sealed: with the clear part beside it, it still fits in a leaf."""

_ZERO_NONCE = bytes(12)
_SHA256 = hashes.SHA256()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectKey:
    """The key of one person's records at one writer, and the companion that stands for it outside: a secret."""

    secret: bytes = field(repr=False)
    companion: bytes = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a subject key lives in memory only")


class Seal(NamedTuple):
    """What one record is sealed with. `salt` is fresh."""

    origin: str
    key: SubjectKey
    salt: bytes

    @property
    def beside(self) -> bytes:
        """What travels beside the leaf."""
        return self.salt + self.key.companion


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedKey:
    """A subject key that is sealed already and belongs to nobody yet (rule S3)."""

    secret: bytes = field(repr=False)
    key_id: bytes
    sealed: bytes = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a subject key lives in memory only")


def prepare_key(origin: str, writer: bytes, *, vault_public_key: bytes) -> PreparedKey:
    """A fresh subject key, sealed to the vault: about 100 us, so never while somebody waits. Raises Malformed."""
    secret, key_id = secrets.token_bytes(SUBJECT_KEY_BYTES), secrets.token_bytes(KEY_ID_BYTES)
    sealed = seal_to(vault_public_key, secret, info=subject_key_info(origin, writer, key_id))
    return PreparedKey(secret=secret, key_id=key_id, sealed=sealed)


def take_key(prepared: PreparedKey, *, vault_epoch: int, seal_epoch: int) -> SubjectKey:
    """The key, from now on somebody's, with the companion of all that it will seal."""
    companion = record_pb2.Companion(
        sealed_subject_key=prepared.sealed, key_id=prepared.key_id, vault_epoch=vault_epoch, seal_epoch=seal_epoch
    )
    return SubjectKey(secret=prepared.secret, companion=companion.SerializeToString(deterministic=True))


def new_seal(origin: str, key: SubjectKey) -> Seal:
    """The seal of one more record, with a fresh salt."""
    return Seal(origin=origin, key=key, salt=secrets.token_bytes(SALT_BYTES))


def subject_key_info(origin: str, writer: bytes, key_id: bytes) -> bytes:
    """What a sealed subject key is bound to (rule S3)."""
    return SUBJECT_KEY_LABEL + origin.encode() + writer + key_id


def seal_context(origin: str, record: record_pb2.Record) -> bytes:
    """What a sealed part is bound to (rule S1): the record's own envelope, as it stands in the leaf."""
    return SEAL_LABEL + origin.encode() + record.writer + record.sequence.to_bytes(_SEQUENCE_BYTES) + record.id


def derive_opening(secret: bytes, context: bytes) -> bytes:
    """The opening of one record: AEAD key || key commitment."""
    return HKDFExpand(_SHA256, OPENING_BYTES, context).derive(secret)


def put_sealed(record: record_pb2.Record, part: record_pb2.PersonalPart, seal: Seal) -> None:
    """Seal `part` into `record`, whose envelope is set. Raises Malformed where it is larger than every size class."""
    context = seal_context(seal.origin, record)
    opening = derive_opening(seal.key.secret, context)
    sealed = record.sealed
    sealed.version = VERSION
    sealed.ciphertext = AESGCM(opening[:AEAD_KEY_BYTES]).encrypt(_ZERO_NONCE, _pad(part.SerializeToString()), context)
    sealed.key_commitment = opening[AEAD_KEY_BYTES:]
    sealed.companion_sha256 = sha256(seal.beside).digest()


def open_part(record: record_pb2.Record, opening: bytes, *, origin: str) -> record_pb2.PersonalPart:
    """What is sealed in the `record` of a leaf, under `opening`. Raises BadProof unless it is what was sealed."""
    sealed = record.sealed
    if sealed.version != VERSION:
        raise BadProof(f"got a sealed part of version {sealed.version}, want {VERSION}")
    if len(opening) != OPENING_BYTES or not hmac.compare_digest(opening[AEAD_KEY_BYTES:], sealed.key_commitment):
        raise BadProof("got an opening that the record's key commitment does not name")
    try:
        plaintext = AESGCM(opening[:AEAD_KEY_BYTES]).decrypt(
            _ZERO_NONCE, sealed.ciphertext, seal_context(origin, record)
        )
    except InvalidTag:
        raise BadProof("got a ciphertext that the record's own key does not open: it was made wrong") from None
    return _parse_plaintext(plaintext)


def check_sealed(sealed: record_pb2.SealedPart) -> None:
    """Raise Malformed for the shape of a sealed part that no writer of ours makes. Opens nothing."""
    sizes = len(sealed.key_commitment), len(sealed.companion_sha256)
    if sealed.version != VERSION or sizes != (COMMITMENT_BYTES, sha256().digest_size):
        raise Malformed(f"got a sealed part of version {sealed.version} with hashes of {sizes} bytes, want 1, (32, 32)")
    if len(sealed.ciphertext) - _TAG_BYTES not in SIZE_CLASSES_BYTES:
        raise Malformed(f"got a ciphertext of {len(sealed.ciphertext)} bytes, want a size class and a tag")


def check_beside(sealed: record_pb2.SealedPart, beside: bytes) -> record_pb2.Companion:
    """The companion of a sealed part, if it is the one that its leaf names (rule S2). Raises Malformed or BadProof."""
    companion = parse_beside(beside)
    if sha256(beside).digest() != sealed.companion_sha256:
        raise BadProof("got a companion that is not the one its record names")
    return companion


def parse_beside(beside: bytes) -> record_pb2.Companion:
    """The companion of `beside`, whose one spelling it has. Raises Malformed."""
    content = beside[SALT_BYTES:]
    if not SALT_BYTES < len(beside) <= SALT_BYTES + COMPANION_MAX_BYTES:
        raise Malformed(f"got {len(beside)} bytes beside a record, want a salt of {SALT_BYTES} and a companion")
    companion = record_pb2.Companion()
    try:
        companion.ParseFromString(content)
    except DecodeError:
        raise Malformed("got bytes beside a record that are no companion") from None
    sizes = len(companion.sealed_subject_key), len(companion.key_id)
    is_plain = not len(UnknownFieldSet(companion)) and companion.SerializeToString(deterministic=True) == content
    if sizes != (SEALED_KEY_BYTES, KEY_ID_BYTES) or not is_plain:
        raise Malformed(f"got a companion with a key of {sizes[0]} and an id of {sizes[1]} bytes, want 80 and 16")
    return companion


def _pad(part: bytes) -> bytes:
    if len(part) > PART_MAX_BYTES:
        raise Malformed(f"got a personal part of {len(part)} bytes, want at most {PART_MAX_BYTES}")
    size = SIZE_CLASSES_BYTES[bisect_left(SIZE_CLASSES_BYTES, _LENGTH_BYTES + len(part))]
    return (len(part).to_bytes(_LENGTH_BYTES) + part).ljust(size, b"\x00")


def _parse_plaintext(plaintext: bytes) -> record_pb2.PersonalPart:
    length = int.from_bytes(plaintext[:_LENGTH_BYTES])
    end = _LENGTH_BYTES + length
    if len(plaintext) not in SIZE_CLASSES_BYTES or end > len(plaintext) or any(plaintext[end:]):
        raise BadProof(f"got a plaintext of {len(plaintext)} bytes that says {length}, want a padded personal part")
    part = record_pb2.PersonalPart()
    try:
        part.ParseFromString(plaintext[_LENGTH_BYTES:end])
    except DecodeError:
        raise BadProof("got a plaintext that is no personal part: it was made wrong") from None
    return part
