# SPDX-License-Identifier: Apache-2.0
"""Seal settings: what the log signs, and what a writer may believe (PROTOCOL rule S5)."""

import pytest

from iap_authz.errors import BadSignature, Malformed, NotProven
from iap_authz.records.seal_settings import SealSettings, VaultKey, open_settings, sign_settings
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.note import NoteSigner, parse_note, render_note, sign_note
from tests.fakes.journal import ORIGIN
from tests.fakes.log_core import log_signer

VAULT = VaultKey(epoch=2, public_key=bytes(range(32)))
SETTINGS = SealSettings(origin=ORIGIN, seal_epoch=41, vault=VAULT)
SIGNER = log_signer()


def note_of(text: str, signer: NoteSigner = SIGNER) -> bytes:
    return render_note(sign_note(text.encode(), [signer]))


def test_s5_the_text_is_that_of_the_specification() -> None:
    note = sign_settings(SETTINGS, [SIGNER])
    want = f"{ORIGIN}\nseal settings v1\n41\n2\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert parse_note(note).text == want.encode()
    assert open_settings(note, [SIGNER.verifier()]) == SETTINGS


def test_s5_settings_are_never_a_checkpoint() -> None:
    """The same key signs both: one must not be taken for the other."""
    with pytest.raises(Malformed):
        open_checkpoint(sign_settings(SETTINGS, [SIGNER]), SIGNER.verifier())


def test_s5_while_a_key_is_rotated_either_opens() -> None:
    other = log_signer("other")
    note = sign_settings(SETTINGS, [SIGNER, other])
    for verifiers in ([SIGNER.verifier()], [other.verifier()], [log_signer("third").verifier(), other.verifier()]):
        assert open_settings(note, verifiers) == SETTINGS


def test_s5_another_key_another_log_and_each_changed_byte_are_refused() -> None:
    verifier = SIGNER.verifier()
    with pytest.raises(BadSignature):
        open_settings(sign_settings(SETTINGS, [log_signer("other")]), [verifier])
    with pytest.raises(BadSignature):
        open_settings(note_of("other.example.com\nseal settings v1\n41\n2\n" + "A" * 43 + "=\n"), [verifier])
    note = sign_settings(SETTINGS, [SIGNER])
    for at in range(len(note)):
        changed = bytearray(note)
        changed[at] ^= 1
        with pytest.raises((Malformed, NotProven)):
            open_settings(bytes(changed), [verifier])


@pytest.mark.parametrize(
    "lines",
    [
        [ORIGIN, "seal settings v1", "41", "2"],
        [ORIGIN, "seal settings v1", "41", "2", "A" * 43 + "=", "more"],
        [ORIGIN, "seal settings v2", "41", "2", "A" * 43 + "="],
        [ORIGIN, "seal settings v1", "041", "2", "A" * 43 + "="],
        [ORIGIN, "seal settings v1", "-1", "2", "A" * 43 + "="],
        [ORIGIN, "seal settings v1", str(1 << 63), "2", "A" * 43 + "="],
        [ORIGIN, "seal settings v1", "41", "0", "A" * 43 + "="],
        [ORIGIN, "seal settings v1", "41", str(1 << 32), "A" * 43 + "="],
        [ORIGIN, "seal settings v1", "41", "2", "AAAA"],
        [ORIGIN, "7", "A" * 43 + "="],
    ],
    ids=["short", "long", "version", "zero first", "negative", "epoch", "vault 0", "vault", "key", "checkpoint"],
)
def test_s5_what_is_signed_and_no_settings_is_malformed(lines: list[str]) -> None:
    with pytest.raises(Malformed):
        open_settings(note_of("".join(f"{line}\n" for line in lines)), [SIGNER.verifier()])


def test_a_vault_key_is_one_line() -> None:
    assert VAULT.render() == "iap-vault+2+AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert VaultKey.parse(VAULT.render()) == VAULT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "iap-vault",
        "iap-vault+1",
        "iap-vault+0+" + "A" * 43 + "=",
        "iap-vault+1+AAAA",
        "iap-log+1+" + "A" * 43 + "=",
    ],
)
def test_what_is_no_vault_key_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        VaultKey.parse(text)
