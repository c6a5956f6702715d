# SPDX-License-Identifier: Apache-2.0
"""Sealing and opening the personal part of a record (PROTOCOL rules S1 to S3)."""

import hmac
import pickle
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, Malformed
from iap_authz.records.hpke import open_with
from iap_authz.records.personal import put_personal
from iap_authz.records.seal import (
    PART_MAX_BYTES,
    SALT_BYTES,
    SIZE_CLASSES_BYTES,
    Seal,
    SubjectKey,
    check_beside,
    check_sealed,
    derive_opening,
    new_seal,
    open_part,
    parse_beside,
    prepare_key,
    seal_context,
    subject_key_info,
    take_key,
)

ORIGIN = "log.example.com"
WRITER = bytes(range(32))
VAULT = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
VAULT_PUBLIC = VAULT.public_key().public_bytes_raw()
KEY = take_key(prepare_key(ORIGIN, WRITER, vault_public_key=VAULT_PUBLIC), vault_epoch=1, seal_epoch=3)


def envelope(**changed: object) -> record_pb2.Record:
    values: dict[str, object] = {"id": bytes(range(16)), "writer": WRITER, "sequence": 7, **changed}
    return record_pb2.Record(**values)  # type: ignore[arg-type]


def part_of(subject: str = "alice") -> record_pb2.PersonalPart:
    part = record_pb2.PersonalPart()
    part.decision.facts.identity.subject = subject
    return part


def sealed_record(part: record_pb2.PersonalPart | None = None, seal: Seal | None = None) -> record_pb2.Record:
    record = envelope()
    put_personal(record, part or part_of(), seal or new_seal(ORIGIN, KEY))
    return record


def opening_of(record: record_pb2.Record, key: SubjectKey = KEY, origin: str = ORIGIN) -> bytes:
    return derive_opening(key.secret, seal_context(origin, record))


def test_s1_the_construction_is_that_of_the_specification() -> None:
    """Recomputed from RFC 5869 with HMAC alone, and from AES-GCM with a nonce of zero."""
    record, seal = envelope(), Seal(origin=ORIGIN, key=KEY, salt=b"s" * 32)
    put_personal(record, part_of(), seal)
    context = b"iap-authz/seal/v1" + b"log.example.com" + WRITER + (7).to_bytes(8, "big") + bytes(range(16))
    first = hmac.digest(KEY.secret, context + b"\x01", "sha256")
    second = hmac.digest(KEY.secret, first + context + b"\x02", "sha256")
    assert record.sealed.version == 1
    assert record.sealed.key_commitment == second
    content = part_of().SerializeToString()
    plaintext = len(content).to_bytes(4, "big") + content
    want = AESGCM(first).encrypt(bytes(12), plaintext + bytes(256 - len(plaintext)), context)
    assert record.sealed.ciphertext == want
    assert record.sealed.companion_sha256 == sha256(b"s" * 32 + KEY.companion).digest()
    assert not record.HasField("open")


def test_s3_a_subject_key_is_sealed_to_the_vault_for_its_writer_and_id() -> None:
    companion = record_pb2.Companion.FromString(KEY.companion)
    info = b"iap-authz/subject-key/v1" + b"log.example.com" + WRITER + companion.key_id
    assert subject_key_info(ORIGIN, WRITER, companion.key_id) == info
    assert open_with(VAULT, companion.sealed_subject_key, info=info) == KEY.secret
    assert (companion.vault_epoch, companion.seal_epoch) == (1, 3)


@given(st.text(max_size=3_000))
def test_s1_what_is_sealed_is_opened(subject: str) -> None:
    record = sealed_record(part_of(subject))
    check_sealed(record.sealed)
    assert len(record.sealed.ciphertext) - 16 in SIZE_CLASSES_BYTES
    assert open_part(record, opening_of(record), origin=ORIGIN) == part_of(subject)


@pytest.mark.parametrize("size", SIZE_CLASSES_BYTES)
def test_s1_each_size_class_is_filled_to_its_last_byte(size: int) -> None:
    record_of = {}
    for want in (size - 4, size - 3):
        part = part_of("x" * (want - 64))
        part.decision.parent_audit_id = "y" * (want - part.ByteSize() - 4)
        while part.ByteSize() > want:
            part.decision.parent_audit_id = part.decision.parent_audit_id[:-1]
        while part.ByteSize() < want:
            part.decision.parent_audit_id += "y"
        if want <= PART_MAX_BYTES:
            record_of[want] = sealed_record(part)
            assert open_part(record_of[want], opening_of(record_of[want]), origin=ORIGIN) == part
        else:
            with pytest.raises(Malformed, match="at most"):
                sealed_record(part)
    assert len(record_of[size - 4].sealed.ciphertext) == size + 16


@pytest.mark.parametrize(
    "changed",
    [{"id": bytes(16)}, {"writer": bytes(32)}, {"sequence": 8}, {"sequence": 0}],
    ids=["id", "writer", "sequence", "no sequence"],
)
def test_s1_a_sealed_part_opens_in_its_own_record_only(changed: dict[str, object]) -> None:
    record, moved = sealed_record(), envelope(**changed)
    moved.sealed.CopyFrom(record.sealed)
    with pytest.raises(BadProof):
        open_part(moved, opening_of(record), origin=ORIGIN)
    with pytest.raises(BadProof):
        open_part(moved, opening_of(moved), origin=ORIGIN)


def test_s1_a_sealed_part_opens_in_its_own_log_only() -> None:
    record = sealed_record()
    with pytest.raises(BadProof):
        open_part(record, opening_of(record), origin="log.example.org")


def test_s1_the_commitment_is_checked_before_anything_is_opened() -> None:
    """A ciphertext made to open under two keys (AES-GCM does not commit to its key) opens under the named one only."""
    record = sealed_record()
    opening = opening_of(record)
    other = derive_opening(b"another key" + bytes(21), seal_context(ORIGIN, record))
    with pytest.raises(BadProof, match="commitment"):
        open_part(record, other, origin=ORIGIN)
    with pytest.raises(BadProof, match="key"):
        open_part(record, other[:32] + opening[32:], origin=ORIGIN)
    for length in (0, 32, 63, 65):
        with pytest.raises(BadProof, match="commitment"):
            open_part(record, (opening * 2)[:length], origin=ORIGIN)


def test_s1_each_bit_of_a_sealed_part_counts() -> None:
    record = sealed_record()
    opening = opening_of(record)
    for name in ("ciphertext", "key_commitment"):
        content = getattr(record.sealed, name)
        for bit in range(8 * len(content)):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            bad = envelope()
            bad.sealed.CopyFrom(record.sealed)
            setattr(bad.sealed, name, bytes(changed))
            with pytest.raises(BadProof):
                open_part(bad, opening, origin=ORIGIN)


def made_with(plaintext: bytes) -> record_pb2.Record:
    """A record whose writer has the key and does not keep to the format."""
    record = sealed_record()
    context = seal_context(ORIGIN, record)
    record.sealed.ciphertext = AESGCM(opening_of(record)[:32]).encrypt(bytes(12), plaintext, context)
    return record


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        bytes(255),
        (253).to_bytes(4, "big") + bytes(252),
        (0).to_bytes(4, "big") + bytes(251) + b"\x01",
        (1).to_bytes(4, "big") + b"\xff" + bytes(251),
        (1 << 31).to_bytes(4, "big") + bytes(252),
    ],
    ids=["empty", "no class", "length too long", "padding not zero", "no message", "length huge"],
)
def test_s1_a_plaintext_that_no_writer_of_ours_makes_is_no_proof(plaintext: bytes) -> None:
    record = made_with(plaintext)
    with pytest.raises(BadProof):
        open_part(record, opening_of(record), origin=ORIGIN)


def test_s1_another_version_is_not_opened() -> None:
    record = sealed_record()
    record.sealed.version = 2
    with pytest.raises(BadProof, match="version 2"):
        open_part(record, opening_of(record), origin=ORIGIN)
    with pytest.raises(Malformed, match="version 2"):
        check_sealed(record.sealed)


@pytest.mark.parametrize("name", ["key_commitment", "companion_sha256", "ciphertext"])
@pytest.mark.parametrize("length", [0, 31, 33, 300])
def test_s2_a_sealed_part_of_another_shape_is_malformed(name: str, length: int) -> None:
    sealed = sealed_record().sealed
    setattr(sealed, name, bytes(length))
    with pytest.raises(Malformed):
        check_sealed(sealed)


def test_s2_the_leaf_names_its_companion_and_no_other() -> None:
    seal = new_seal(ORIGIN, KEY)
    sealed = sealed_record(seal=seal).sealed
    assert check_beside(sealed, seal.beside).seal_epoch == 3
    for bit in range(8 * len(seal.beside)):
        changed = bytearray(seal.beside)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((BadProof, Malformed)):
            check_beside(sealed, bytes(changed))
    with pytest.raises(BadProof):
        check_beside(sealed, new_seal(ORIGIN, KEY).beside)


def test_s2_nothing_in_a_leaf_leads_from_one_record_of_a_person_to_the_next() -> None:
    """No key reference and no token: what is sealed of two records of one key shares no eight bytes."""
    leaves = []
    for sequence in (7, 8):
        record = envelope(sequence=sequence)
        put_personal(record, part_of(), new_seal(ORIGIN, KEY))
        leaves.append(
            b"".join((record.sealed.ciphertext, record.sealed.key_commitment, record.sealed.companion_sha256))
        )
    one, two = leaves
    companion = record_pb2.Companion.FromString(KEY.companion)
    for secret in (KEY.secret, companion.key_id, companion.sealed_subject_key[:16]):
        assert secret not in one
    assert not {one[at : at + 8] for at in range(len(one) - 7)} & {two[at : at + 8] for at in range(len(two) - 7)}


@pytest.mark.parametrize(
    "companion",
    [
        b"",
        b"\xff",
        record_pb2.Companion(key_id=bytes(16)).SerializeToString(),
        record_pb2.Companion(sealed_subject_key=bytes(80), key_id=bytes(15)).SerializeToString(),
        record_pb2.Companion(sealed_subject_key=bytes(79), key_id=bytes(16)).SerializeToString(),
        KEY.companion + b"\x28\x01",
        KEY.companion[:-2] + KEY.companion[-2:] * 2,
        bytes(257),
    ],
    ids=["empty", "no message", "no key", "short id", "short key", "unknown field", "twice", "too long"],
)
def test_s2_what_is_no_companion_is_malformed(companion: bytes) -> None:
    with pytest.raises(Malformed):
        parse_beside(bytes(SALT_BYTES) + companion)


def test_a_secret_shows_nowhere() -> None:
    prepared = prepare_key(ORIGIN, WRITER, vault_public_key=VAULT_PUBLIC)
    key = take_key(prepared, vault_epoch=1, seal_epoch=0)
    for value in (prepared, key, new_seal(ORIGIN, key)):
        assert repr(key.secret)[2:-1] not in repr(value)
        assert key.secret.hex() not in repr(value)
    for value in (prepared, key):
        with pytest.raises(TypeError, match="memory"):
            pickle.dumps(value)


def test_two_keys_and_two_seals_are_never_the_same() -> None:
    keys = [prepare_key(ORIGIN, WRITER, vault_public_key=VAULT_PUBLIC) for _ in range(3)]
    assert len({key.secret for key in keys} | {key.key_id for key in keys}) == 6
    assert len({new_seal(ORIGIN, KEY).salt for _ in range(10)}) == 10
