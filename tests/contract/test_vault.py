# SPDX-License-Identifier: Apache-2.0
"""What every `Vault` keeps (PROTOCOL S3, S7): in memory, in a file, on a token."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from iap_authz.adapters.keys.vault_file import FileVault, add_vault_key, create_vault_file
from iap_authz.errors import BadProof, NotFound
from iap_authz.ports import Vault
from iap_authz.records.hpke import seal_to
from tests.fakes.sealed import TestVault
from tests.fakes.softhsm import make_soft_token

LOW_ORDER_POINTS = (
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
)
"""The points of order 1, 2, 4 and 8 on Curve25519, and 0 and 1 spelt with the prime added (RFC 7748 section 6.1)."""

Make = Callable[[int], Vault]


@pytest.fixture(params=["memory", "file", "token"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a vault with keys of so many epochs."""

    def in_memory(epochs: int) -> Vault:
        return TestVault(*range(1, epochs + 1))

    def in_file(epochs: int) -> Vault:
        create_vault_file(tmp_path / "vault.key")
        for _ in range(epochs - 1):
            add_vault_key(tmp_path / "vault.key")
        return FileVault(tmp_path / "vault.key")

    def on_token(epochs: int) -> Vault:
        token = make_soft_token(tmp_path, monkeypatch)
        token.make_keys(epochs)
        return token.vault()

    kinds: dict[str, Make] = {"memory": in_memory, "file": in_file, "token": on_token}
    return kinds[request.param]


def test_s3_what_is_sealed_to_its_key_is_opened_under_the_same_info_only(make: Make) -> None:
    vault = make(1)
    for message in (b"", bytes(32), b"k" * 32, bytes(1000)):
        sealed = seal_to(vault.public_key(1), message, info=b"info")
        assert vault.open(sealed, epoch=1, info=b"info") == message
        with pytest.raises(BadProof):
            vault.open(sealed, epoch=1, info=b"other")


def test_s7_each_epoch_opens_its_own_and_no_other(make: Make) -> None:
    vault = make(3)
    assert list(vault.epochs) == [1, 2, 3]
    assert len({vault.public_key(epoch) for epoch in vault.epochs}) == 3
    for epoch in vault.epochs:
        sealed = seal_to(vault.public_key(epoch), b"key", info=b"")
        assert vault.open(sealed, epoch=epoch, info=b"") == b"key"
        with pytest.raises(BadProof):
            vault.open(sealed, epoch=epoch % 3 + 1, info=b"")


def test_an_epoch_without_a_key_is_not_found(make: Make) -> None:
    vault = make(1)
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    for epoch in (0, 2, -1, 1 << 32):
        with pytest.raises(NotFound, match=rf"epoch {epoch}, want one of \[1\]"):
            vault.public_key(epoch)
        with pytest.raises(NotFound):
            vault.open(sealed, epoch=epoch, info=b"")


def test_what_was_not_sealed_to_it_is_bad_and_the_next_is_opened(make: Make) -> None:
    """A writer chooses these bytes: none of them may look like a vault that has failed."""
    vault = make(1)
    good = seal_to(vault.public_key(1), b"key", info=b"")
    bad = [point + good[32:] for point in LOW_ORDER_POINTS]
    bad += [point[:31] + bytes([point[31] | 0x80]) + good[32:] for point in LOW_ORDER_POINTS]
    bad += [b"", good[:31], good[:47], good[:-1], good + b"\x00", bytes([good[0] ^ 1]) + good[1:], bytes(len(good))]
    for sealed in bad:
        with pytest.raises(BadProof):
            vault.open(sealed, epoch=1, info=b"")
    assert vault.open(good, epoch=1, info=b"") == b"key"


def test_a_vault_shows_nothing_and_is_not_copied(make: Make) -> None:
    vault = make(1)
    if isinstance(vault, TestVault):
        return
    assert repr(vault) in {"<FileVault [1]>", "<Pkcs11Vault vault [1]>"}
    with pytest.raises(TypeError, match="process"):
        pickle.dumps(vault)
