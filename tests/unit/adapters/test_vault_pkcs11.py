# SPDX-License-Identifier: Apache-2.0
"""A vault on a real token in software (SoftHSM): found, logged in to, lost and found again; rules S3 and S7."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import AttributeSensitive, GeneralError

from iap_authz.adapters.keys import vault_pkcs11
from iap_authz.adapters.keys.vault_pkcs11 import Pkcs11Vault, TokenPlace, create_token_key, parse_pin
from iap_authz.errors import BadProof, ConfigInvalid, Malformed, NotFound, SourceUnavailable
from iap_authz.records.hpke import seal_to
from iap_authz.records.vault_file import KEYS_MAX
from tests.fakes.softhsm import LABEL, PIN, SoftToken, add_token, make_soft_token


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    return make_soft_token(tmp_path, monkeypatch)


def changed(place: TokenPlace, **fields: Any) -> TokenPlace:
    kept = {name: getattr(place, name) for name in ("module", "token", "label", "pin_file")}
    return TokenPlace(**(kept | fields))


def private_keys(token: SoftToken) -> list[Any]:
    return list(token.session().get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))


# ---- keys


def test_a_key_is_made_on_the_token_and_does_not_leave_it(token: SoftToken) -> None:
    made = create_token_key(token.place)
    (key,) = private_keys(token)
    assert key[Attribute.LABEL] == f"{LABEL}-1"
    wanted = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True, Attribute.DERIVE: True}
    assert {name: key[name] for name in wanted} == wanted
    with pytest.raises(AttributeSensitive):
        key[Attribute.VALUE]
    (public,) = token.session().get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
    assert public[Attribute.EC_POINT] == b"\x04\x20" + made.public_key


def test_s7_the_same_command_makes_the_next_key(token: SoftToken) -> None:
    first = create_token_key(token.place)
    sealed = seal_to(first.public_key, b"subject key", info=b"info")
    second = create_token_key(token.place)
    assert (first.epoch, second.epoch) == (1, 2)
    vault = token.vault()
    assert vault.epochs == (1, 2)
    assert [vault.public_key(epoch) for epoch in (1, 2)] == [first.public_key, second.public_key]
    assert vault.open(sealed, epoch=1, info=b"info") == b"subject key"
    assert vault.created(2) == datetime.now(UTC).date()


def test_an_epoch_is_not_given_out_again(token: SoftToken) -> None:
    token.make_keys(2)
    token.delete(f"{LABEL}-1")
    assert create_token_key(token.place).epoch == 3
    assert token.vault().epochs == (2, 3)


def test_a_token_has_so_many_keys_at_most(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_pkcs11, "KEYS_MAX", 2)
    token.make_keys(2)
    with pytest.raises(ConfigInvalid, match="delete an old one first"):
        create_token_key(token.place)
    assert KEYS_MAX == 16


def test_keys_made_by_hand_are_found_by_their_label_alone(token: SoftToken) -> None:
    token.make_by_hand(f"{LABEL}-7", id=b"\x01")
    for label in (
        LABEL,
        f"{LABEL}-",
        f"{LABEL}-0",
        f"{LABEL}-08",
        f"{LABEL}-1x",
        f"x{LABEL}-1",
        "Vault-1",
        f"{LABEL}-+1",
    ):
        token.make_by_hand(label)
    vault = token.vault()
    assert vault.epochs == (7,)
    assert vault.created(7) is None
    assert vault.open(seal_to(vault.public_key(7), b"key", info=b""), epoch=7, info=b"") == b"key"


def test_a_label_is_no_pattern(token: SoftToken) -> None:
    token.make_by_hand("v.ult-1")
    token.make_by_hand("vault-2")
    assert Pkcs11Vault(changed(token.place, label="v.ult")).epochs == (1,)


def test_two_keys_of_one_epoch_are_refused(token: SoftToken) -> None:
    for _ in range(2):
        token.make_by_hand(f"{LABEL}-1")
    with pytest.raises(ConfigInvalid, match="two private keys labelled 'vault-1'"):
        token.vault()


def test_a_key_that_may_not_derive_is_refused(token: SoftToken) -> None:
    token.make_by_hand(f"{LABEL}-1", derive=False)
    with pytest.raises(ConfigInvalid, match="of another kind, want X25519"):
        token.vault()


def test_a_key_of_another_kind_is_refused(token: SoftToken) -> None:
    token.session().generate_keypair(pkcs11.KeyType.RSA, 2048, store=True, label=f"{LABEL}-1")
    with pytest.raises(ConfigInvalid, match="of another kind, want X25519"):
        token.vault()


def test_a_montgomery_key_is_read_as_one(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    """SoftHSM calls X25519 a key of EC_EDWARDS; a library that has the newer type is as good, and another is not."""
    token.make_keys(1)
    monkeypatch.setattr(vault_pkcs11, "KEY_TYPES", frozenset({0x41}))
    with pytest.raises(ConfigInvalid, match="of another kind"):
        token.vault()

    class Montgomery:
        """Packs and unpacks a CK_ULONG, but says EC_MONTGOMERY for every key type that is read."""

        size = vault_pkcs11.ULONG.size
        pack = staticmethod(vault_pkcs11.ULONG.pack)

        @staticmethod
        def unpack(_: bytes) -> tuple[int]:
            return (0x41,)

    monkeypatch.setattr(vault_pkcs11, "ULONG", Montgomery)
    vault = token.vault()
    assert vault.open(seal_to(vault.public_key(1), b"key", info=b""), epoch=1, info=b"") == b"key"


def test_another_public_object_does_not_say_what_writers_seal_to(token: SoftToken) -> None:
    made = create_token_key(token.place)
    session = token.session()
    (public,) = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
    public.destroy()
    assert token.vault().public_key(1) == made.public_key


def test_shared_secrets_that_begin_or_end_with_zero_are_whole(token: SoftToken) -> None:
    """A library that drops leading zeros of a secret would open all but a few hundredths of the keys."""
    token.make_keys(1)
    public = X25519PublicKey.from_public_bytes(token.vault().public_key(1))
    (on_token,) = private_keys(token)
    for wanted in (0, -1):
        made = (X25519PrivateKey.generate() for _ in range(20_000))
        key = next(key for key in made if not key.exchange(public)[wanted])
        enc = key.public_key().public_bytes_raw()
        assert vault_pkcs11.exchange(on_token, enc) == key.exchange(public)


def test_nothing_is_left_on_the_token_by_an_exchange(token: SoftToken) -> None:
    token.make_keys(1)
    (key,) = private_keys(token)
    for _ in range(3):
        vault_pkcs11.exchange(key, vault_pkcs11.BASE_POINT)
    assert list(key.session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})) == []


# ---- what is not there, and what is refused


def test_a_token_that_is_not_there_is_unavailable(token: SoftToken) -> None:
    for act in (Pkcs11Vault, create_token_key):
        with pytest.raises(SourceUnavailable, match="no token labelled 'other'"):
            act(changed(token.place, token="other"))


def test_two_tokens_of_one_label_are_refused(token: SoftToken) -> None:
    add_token(token.place.token)
    with pytest.raises(ConfigInvalid, match="several tokens"):
        token.vault()


def test_a_token_without_a_key_says_how_to_make_one(token: SoftToken) -> None:
    with pytest.raises(
        ConfigInvalid, match=r"'vault-1' or above on the token: make one \(`iap-authz keys new vault`\)"
    ):
        token.vault()


def test_a_library_that_is_none_is_refused(token: SoftToken, tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    for module in (tmp_path / "none.so", tmp_path / "text.so"):
        with pytest.raises(ConfigInvalid, match="cannot be used as a PKCS #11 library"):
            Pkcs11Vault(changed(token.place, module=module))


def test_a_wrong_pin_is_refused_and_not_shown(token: SoftToken) -> None:
    token.make_keys(1)
    token.place.pin_file.write_text("0000-wrong\n")
    for act in (Pkcs11Vault, create_token_key):
        with pytest.raises(ConfigInvalid, match="does not take this PIN") as caught:
            act(token.place)
        assert "0000" not in str(caught.value)


def test_a_pin_that_others_may_read_is_refused(token: SoftToken) -> None:
    token.place.pin_file.chmod(0o640)
    with pytest.raises(ConfigInvalid, match="chmod 600"):
        token.vault()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"12\n34\n", b"12\x0034", b"p\xc3\xa4ss", b"1" * 257], ids=lambda content: repr(content[:9])
)
def test_what_is_no_pin_is_refused_and_not_quoted(content: bytes) -> None:
    with pytest.raises(Malformed, match="got no PIN, want 1 to 256 printable ASCII") as caught:
        parse_pin(content)
    assert "34" not in str(caught.value)


@pytest.mark.parametrize("content", [b"12 34", b"12 34\n", b"12 34\r\n"])
def test_a_pin_is_one_line(content: bytes) -> None:
    assert parse_pin(content) == "12 34"


# ---- a session that is lost


def test_a_lost_session_is_opened_again(token: SoftToken) -> None:
    token.make_keys(1)
    vault = token.vault()
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    for _ in range(3):
        token.session()  # the library starts anew: every handle of before is void
        assert vault.open(sealed, epoch=1, info=b"") == b"key"


def test_two_vaults_of_one_library_take_turns(token: SoftToken) -> None:
    token.make_keys(1)
    vaults = [token.vault(), token.vault()]
    sealed = seal_to(vaults[0].public_key(1), b"key", info=b"")
    for vault in vaults * 3:
        assert vault.open(sealed, epoch=1, info=b"") == b"key"


def test_a_token_that_is_gone_is_unavailable_until_it_is_back(token: SoftToken) -> None:
    token.make_keys(1)
    vault = token.vault()
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    tokens = token.folder / "tokens"
    tokens.rename(token.folder / "away")
    tokens.mkdir()
    pkcs11.lib(str(token.place.module)).reinitialize()
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            vault.open(sealed, epoch=1, info=b"")
        with pytest.raises(BadProof):
            vault.open(bytes(80), epoch=1, info=b"")
    assert vault.epochs == (1,)
    tokens.rmdir()
    (token.folder / "away").rename(tokens)
    assert vault.open(sealed, epoch=1, info=b"") == b"key"


def test_a_key_that_is_gone_is_not_found(token: SoftToken) -> None:
    token.make_keys(2)
    vault = token.vault()
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    token.delete(f"{LABEL}-1")
    with pytest.raises(NotFound):
        vault.open(sealed, epoch=1, info=b"")
    assert vault.epochs == (2,)


def test_all_keys_that_are_gone_are_unavailable(token: SoftToken) -> None:
    token.make_keys(1)
    vault = token.vault()
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    token.delete(f"{LABEL}-1")
    with pytest.raises(SourceUnavailable, match="make one"):
        vault.open(sealed, epoch=1, info=b"")


def test_a_token_that_fails_is_asked_twice_and_no_more(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    token.make_keys(1)
    vault = token.vault()
    sealed, asked = seal_to(vault.public_key(1), b"key", info=b""), []
    exchange = vault_pkcs11.exchange

    def fail(key: Any, public_key: bytes) -> bytes:
        if public_key == vault_pkcs11.BASE_POINT:
            return exchange(key, public_key)
        asked.append(public_key)
        raise GeneralError

    monkeypatch.setattr(vault_pkcs11, "exchange", fail)
    with pytest.raises(SourceUnavailable, match="the token 'audit' failed: GeneralError"):
        vault.open(sealed, epoch=1, info=b"")
    assert asked == [sealed[:32]] * 2
    monkeypatch.undo()


def test_a_pin_that_was_refused_is_not_tried_again(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token counts wrong PINs and locks itself; each record to open would be one more."""
    token.make_keys(1)
    vault, logins = token.vault(), []
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    log_in = vault_pkcs11.log_in

    def count(place: TokenPlace, *, writing: bool = False) -> pkcs11.Session:
        logins.append(place)
        return log_in(place, writing=writing)

    monkeypatch.setattr(vault_pkcs11, "log_in", count)
    token.session()
    token.place.pin_file.write_text("0000-wrong\n")
    for _ in range(5):
        with pytest.raises(SourceUnavailable, match="does not take this PIN"):
            vault.open(sealed, epoch=1, info=b"")
    assert len(logins) == 1
    token.place.pin_file.write_text(f"{PIN}\n")
    with pytest.raises(SourceUnavailable, match="restart the log"):
        vault.open(sealed, epoch=1, info=b"")


def test_a_changed_pin_is_read_when_it_is_needed(token: SoftToken) -> None:
    token.make_keys(1)
    vault = token.vault()
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    token.session().set_pin(PIN, "9999-9999")
    pkcs11.lib(str(token.place.module)).reinitialize()
    token.place.pin_file.write_text("9999-9999\n")
    assert vault.open(sealed, epoch=1, info=b"") == b"key"
