# SPDX-License-Identifier: Apache-2.0
r"""How writers shall seal, as the log says it: a note under the log's key, so that nobody on the way can say another.

The invariant: settings of one log are totally ordered by their seal epoch. A new vault key, like an erasure, raises the
epoch; a writer takes settings of a higher epoch only, and drops every subject key that it made before (rule S5).

    text = <origin> "\nseal settings v1\n" <seal epoch> "\n" <vault epoch> "\n" <base64 of the vault's public key> "\n"

The second line is no number, so the text is no checkpoint (C2SP tlog-checkpoint), whatever key signs it.
The vault's key as a configuration has it, and as `iap-authz keys show` prints it:

    iap-vault+<vault epoch>+<base64 of the X25519 public key>
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from iap_authz.errors import BadSignature, Malformed, shown
from iap_authz.records.hpke import KEY_BYTES
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES
from iap_authz.tlog.note import NoteSigner, VerifierKey, check_note, parse_note, render_note, sign_note
from iap_authz.tlog.text import parse_base64, parse_decimal, parse_utf8, render_base64

SECOND_LINE = "seal settings v1"
VAULT_PREFIX = "iap-vault"
VAULT_EPOCH_MAX = (1 << 32) - 1
"""As it travels in a companion, a uint32."""

_LINES, _PARTS = 5, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultKey:
    """The public half of a vault's key. Epochs count from 1."""

    epoch: int
    public_key: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.epoch <= VAULT_EPOCH_MAX or len(self.public_key) != KEY_BYTES:
            got = f"epoch {self.epoch} and {len(self.public_key)} bytes"
            raise Malformed(f"got a vault key of {got}, want epoch 1 or more and {KEY_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> "VaultKey":
        """The key of one line. Raises Malformed."""
        parts = text.split("+", _PARTS - 1)
        if len(parts) != _PARTS or parts[0] != VAULT_PREFIX:
            raise Malformed(f"got {shown(text)}, want {VAULT_PREFIX}+epoch+base64, as `iap-authz keys show` prints it")
        return cls(epoch=parse_decimal(parts[1]), public_key=parse_base64(parts[2]))

    def render(self) -> str:
        """One line, without its newline."""
        return f"{VAULT_PREFIX}+{self.epoch}+{render_base64(self.public_key)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealSettings:
    """What a writer seals with: to `vault`, and never with a key that it made in an epoch before `seal_epoch`."""

    origin: str
    seal_epoch: int
    vault: VaultKey

    def __post_init__(self) -> None:
        if not 0 <= self.seal_epoch < SIZE_LIMIT_LEAVES:
            raise Malformed(f"got seal epoch {self.seal_epoch}, want 0 to 2^63 - 1")


def sign_settings(settings: SealSettings, signers: Sequence[NoteSigner]) -> bytes:
    """The note of `settings`, signed by each of the log's keys."""
    return render_note(sign_note(_render(settings), signers))


def open_settings(note: bytes, verifiers: Sequence[VerifierKey]) -> SealSettings:
    """The settings in `note`, if any of the keys of one log signed it. Raises Malformed or BadSignature."""
    parsed = parse_note(note)
    *others, last = verifiers
    for verifier in others:
        with suppress(BadSignature):
            check_note(parsed, [verifier])
            return _parse(parsed.text, verifier.name)
    check_note(parsed, [last])
    return _parse(parsed.text, last.name)


def _render(settings: SealSettings) -> bytes:
    vault = settings.vault
    lines = (
        settings.origin,
        SECOND_LINE,
        str(settings.seal_epoch),
        str(vault.epoch),
        render_base64(vault.public_key),
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _parse(text: bytes, origin: str) -> SealSettings:
    lines = parse_utf8(text).split("\n")
    if len(lines) != _LINES + 1 or lines[1] != SECOND_LINE or lines[-1]:
        raise Malformed(f"got {len(lines) - 1} lines, want seal settings of {_LINES}")
    if lines[0] != origin:
        raise BadSignature(f"got seal settings of {shown(lines[0])}, want those of {shown(origin)}")
    vault = VaultKey(epoch=parse_decimal(lines[3]), public_key=parse_base64(lines[4]))
    return SealSettings(origin=origin, seal_epoch=parse_decimal(lines[2]), vault=vault)
