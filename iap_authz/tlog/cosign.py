# SPDX-License-Identifier: Apache-2.0
r"""Cosignatures: a witness says that, at a time, this was the largest consistent tree of the log it had seen.

The invariant: a quorum counts witnesses, not lines: one witness under two names or with two keys counts once; and a
cosignature covers the log's origin, size and root.

    payload of a line   u64 big-endian POSIX seconds || signature (64 bytes, or 2,420)

    0x04 Ed25519        signs  cosignature/v1 \n  time <seconds> \n  <the whole checkpoint text>
    0x06 ML-DSA-44      signs  "subtree/v1\n\0" || len(name) name || u64 seconds || len(origin) origin
                               || u64 0 || u64 size || root (32)              len is one byte; empty context

Specification: C2SP tlog-cosignature and tlog-policy. Stricter: a time of zero is refused for both types, since it
states nothing about the largest tree; times in the future are refused; so are checkpoints with extension lines.
Consistency is the witness's to check, not done here; groups of witnesses are not here: k of n keys is all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from iap_authz.errors import BadSignature, Malformed, shown
from iap_authz.tlog.checkpoint import parse_checkpoint
from iap_authz.tlog.curve import check_public_key
from iap_authz.tlog.note import (
    SIGNATURE_BYTES,
    KeyType,
    Note,
    SignatureLine,
    check_ed25519,
    check_name,
    check_note,
    checked_length,
    key_id_of,
    parse_key_text,
    render_key_text,
)

TIME_LIMIT_SECONDS = 1 << 63
"""Times are below this (C2SP tlog-cosignature)."""

FUTURE_MAX_SECONDS = 300
"""How far a witness's clock may run ahead of ours: the skew that Kerberos made customary (RFC 4120 section 8.2)."""

ML_DSA_44_KEY_BYTES = 1312
"""The length of an ML-DSA-44 public key (FIPS 204 table 2)."""

ML_DSA_44_SIGNATURE_BYTES = 2420
"""The length of an ML-DSA-44 signature (FIPS 204 table 2)."""

_SIGNATURE_BYTES = {
    KeyType.COSIGNATURE_ED25519: SIGNATURE_BYTES,
    KeyType.COSIGNATURE_ML_DSA_44: ML_DSA_44_SIGNATURE_BYTES,
}
_U64 = Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignerKey:
    """The public key of a witness under its name. A witness has one key, and a key one witness."""

    name: str
    key_type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.key_type not in _SIGNATURE_BYTES:
            raise Malformed(f"got key type {shown(self.key_type)}, want one of a cosigner")
        if self.key_type is KeyType.COSIGNATURE_ED25519:
            check_public_key(self.public_key)
        elif len(self.public_key) != ML_DSA_44_KEY_BYTES:
            raise Malformed(f"got a public key of {len(self.public_key)} bytes, want {ML_DSA_44_KEY_BYTES}")

    @classmethod
    def parse(cls, text: str) -> "CosignerKey":
        """The key of a verifier key text of type 0x04 or 0x06."""
        name, key_type, public_key = parse_key_text(text, _SIGNATURE_BYTES)
        return cls(name=name, key_type=key_type, public_key=public_key)

    def render(self) -> str:
        """The verifier key text."""
        return render_key_text(self.name, self.key_type, public_key=self.public_key)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that start its signatures."""
        return key_id_of(self.name, self.key_type, public_key=self.public_key)

    def check(self, text: bytes, signature: bytes) -> None:
        """Raise BadSignature unless the timestamped `signature` is by this key over the checkpoint `text`."""
        time_seconds, made = _parse_payload(signature, self.key_type)
        message = _signed_message(text, self, time_seconds=time_seconds)
        if self.key_type is KeyType.COSIGNATURE_ED25519:
            check_ed25519(self.public_key, message, signature=made)
            return
        try:
            MLDSA44PublicKey.from_public_bytes(self.public_key).verify(made, message)
        except InvalidSignature as error:
            raise BadSignature(
                f"got a cosignature that is not by the ML-DSA-44 key of {shown(self.name)} over these bytes"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A cosignature that holds: whose, and from when (POSIX seconds by that cosigner's clock)."""

    cosigner: CosignerKey
    time_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigner:
    """Cosigns with the key behind `sign`, which takes the bytes to sign (ML-DSA: with an empty context)."""

    key: CosignerKey
    sign: Callable[[bytes], bytes]


def _parse_payload(payload: bytes, key_type: KeyType) -> tuple[int, bytes]:
    want = _U64.size + _SIGNATURE_BYTES[key_type]
    if len(payload) != want:
        raise BadSignature(f"got a cosignature of {len(payload)} bytes, want {want}")
    (time_seconds,) = _U64.unpack_from(payload)
    if not 0 < time_seconds < TIME_LIMIT_SECONDS:
        raise BadSignature(f"got cosignature time {time_seconds}, want 1 to 2^63 - 1")
    return time_seconds, payload[_U64.size :]


def _signed_message(text: bytes, key: CosignerKey, *, time_seconds: int) -> bytes:
    """What a cosigner signs of a checkpoint text, which must be a checkpoint for either type."""
    checkpoint = parse_checkpoint(text)
    if key.key_type is KeyType.COSIGNATURE_ED25519:
        return b"cosignature/v1\ntime %d\n" % time_seconds + text
    parts = (
        b"subtree/v1\n\x00",
        _short(key.name),
        _U64.pack(time_seconds),
        _short(checkpoint.origin),
        _U64.pack(0),
        _U64.pack(checkpoint.size),
        checkpoint.root,
    )
    return b"".join(parts)


def _short(name: str) -> bytes:
    """A name after its length in one byte; `check_name` bounds it."""
    encoded = name.encode()
    return bytes([len(encoded)]) + encoded


def cosign(text: bytes, cosigner: Cosigner, *, time_seconds: int) -> SignatureLine:
    """The line that cosigns the checkpoint `text` at `time_seconds`.

    The caller has checked the log's signature, and consistency with the largest tree it cosigned before.
    """
    if not 0 < time_seconds < TIME_LIMIT_SECONDS:
        raise ValueError(f"got time {time_seconds}, want 1 to 2^63 - 1")
    key = cosigner.key
    made = cosigner.sign(_signed_message(text, key, time_seconds=time_seconds))
    payload = _U64.pack(time_seconds) + checked_length(made, _SIGNATURE_BYTES[key.key_type])
    return SignatureLine(name=key.name, key_id=key.key_id, signature=payload)


def check_cosignatures(note: Note, cosigners: Sequence[CosignerKey], *, now_seconds: int) -> tuple[Cosignature, ...]:
    """All cosignatures of known cosigners, each checked, one a key. At least one, or BadSignature.

    Nothing is said about the log's own signature: `checkpoint.open_checkpoint` checks that.
    """
    known = {(one.name, one.key_id): one for one in cosigners}
    found = []
    for line in check_note(note, cosigners):
        (time_seconds,) = _U64.unpack_from(line.signature)
        if time_seconds > now_seconds + FUTURE_MAX_SECONDS:
            message = (
                f"got cosignature time {time_seconds} of {shown(line.name)}, want at most {FUTURE_MAX_SECONDS} s ahead"
            )
            raise BadSignature(message)
        found.append(Cosignature(cosigner=known[line.name, line.key_id], time_seconds=time_seconds))
    return tuple(found)


def count_witnesses(cosigners: Iterable[CosignerKey]) -> int:
    """How many witnesses these keys stand for: neither a second name nor a second key makes one count twice."""
    keys = list(cosigners)
    return min(len({one.name for one in keys}), len({one.public_key for one in keys}))


def check_quorum(note: Note, cosigners: Sequence[CosignerKey], *, k: int, now_seconds: int) -> tuple[Cosignature, ...]:
    """The cosignatures of at least `k` witnesses, or BadSignature. A k of 0 asks for nothing, and gets nothing."""
    most = count_witnesses(cosigners)
    if not 0 <= k <= most:
        raise ValueError(f"got a quorum of {k}, want 0 to {most}, the number of different witnesses")
    if k == 0:
        return ()
    found = check_cosignatures(note, cosigners, now_seconds=now_seconds)
    got = count_witnesses(one.cosigner for one in found)
    if got < k:
        names = [one.cosigner.name for one in found]
        raise BadSignature(f"got cosignatures of {got} witnesses ({shown(names)}), want {k}")
    return found
