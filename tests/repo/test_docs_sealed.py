# SPDX-License-Identifier: Apache-2.0
"""The worked bytes of sealed parts and seal settings in docs/formats.md, computed again from the page."""

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.records.hpke import open_with
from iap_authz.records.record import parse_record
from iap_authz.records.seal import SIZE_CLASSES_BYTES, check_beside, derive_opening, open_part, seal_context
from iap_authz.records.seal import subject_key_info as info_of
from iap_authz.records.seal_settings import VaultKey, open_settings
from iap_authz.tlog.key_file import parse_key_file
from tests.repo.pages import DOCS, block, code, rows_with

PAGE = DOCS / "formats.md"
VALUES = {row["sealed"]: bytes.fromhex(code(row["hex"])) for row in rows_with(PAGE, "sealed", "hex")}
ORIGIN = "audit.example.com/orders"
VAULT = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def record() -> record_pb2.Record:
    return parse_record(bytes.fromhex(block(PAGE, "sealed-record")))


def test_the_vault_opens_the_companion_and_the_companion_the_record() -> None:
    beside = bytes.fromhex(block(PAGE, "beside"))
    companion = check_beside(record().sealed, beside)
    info = info_of(ORIGIN, record().writer, companion.key_id)
    assert VAULT.public_key().public_bytes_raw() == VALUES["vault public key"]
    assert open_with(VAULT, companion.sealed_subject_key, info=info) == VALUES["subject key"]
    assert sha256(beside).digest() == VALUES["SHA-256(beside)"]
    assert seal_context(ORIGIN, record()) == VALUES["context"]
    assert derive_opening(VALUES["subject key"], VALUES["context"]) == VALUES["opening"]
    part = open_part(record(), VALUES["opening"], origin=ORIGIN)
    said = 'upstream_address: "10.0.0.7:8443", request_id: "5f2b1c0e-1f3a-4c3e-9d51-7f8e6a1b2c3d"'
    assert said in PAGE.read_text()
    assert part == record_pb2.PersonalPart(
        outcome=record_pb2.OutcomePersonal(
            upstream_address="10.0.0.7:8443", request_id="5f2b1c0e-1f3a-4c3e-9d51-7f8e6a1b2c3d"
        )
    )


def test_the_size_classes_are_those_of_the_page() -> None:
    assert SIZE_CLASSES_BYTES[:4] == (256, 384, 512, 768)
    assert f"{SIZE_CLASSES_BYTES[-1]:,}" == "49,152"
    assert "256 and 384 bytes and their doubles, up to 49,152" in PAGE.read_text()


def test_the_settings_are_signed_by_the_worked_key() -> None:
    (key,) = parse_key_file(block(PAGE, "key-file").encode())
    settings = open_settings(block(PAGE, "seal-settings").encode(), [key.verifier()])
    assert (settings.origin, settings.seal_epoch) == (key.name, 3)
    assert settings.vault == VaultKey.parse(block(PAGE, "vault-key").strip())
    assert settings.vault.public_key == VALUES["vault public key"]
