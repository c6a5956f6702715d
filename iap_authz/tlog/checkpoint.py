# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the root of a log at a size, signed by the log.

The invariant: a `Checkpoint` that came out of `open_checkpoint` was signed by the key named like its origin, and by
the key that was expected; two logs never share an origin, so a checkpoint of one never passes for another's.

    <origin>                              the key name of the log
    <size, decimal>
    <root, base64 of 32 bytes>
    <empty line>
    — <origin> <base64(key id || signature)>, and those of others

Specification: C2SP tlog-checkpoint. Stricter: the key name is the origin (there SHOULD), and there are no extension
lines, which no monitor can audit (there NOT RECOMMENDED). A size of 0 goes with the root SHA-256("") and no other.
It cannot know what was signed before: that two inconsistent checkpoints are never signed is the commit's to keep (C1).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from iap_authz.errors import BadSignature, Malformed, shown
from iap_authz.tlog.hashing import EMPTY_ROOT, NodeHash, TreeSize, check_hash, check_size
from iap_authz.tlog.note import NoteSigner, VerifierKey, check_name, check_note, parse_note, render_note, sign_note
from iap_authz.tlog.text import parse_base64_hash, parse_decimal, parse_utf8, render_base64

LINES = 3
"""Origin, size and root (C2SP tlog-checkpoint); no extension lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log says of itself: at `size` leaves, `origin` has this root."""

    origin: str
    size: TreeSize
    root: NodeHash

    def __post_init__(self) -> None:
        check_name(self.origin)
        check_size(self.size)
        check_hash(self.root)
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise Malformed(f"got root {self.root.hex()} at size 0, want that of the empty tree")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint and the note it was opened from, byte for byte: with it, the checkpoint is evidence."""

    checkpoint: Checkpoint
    note: bytes


def parse_checkpoint(text: bytes) -> Checkpoint:
    """The checkpoint of a note's text. It says nothing about who signed it."""
    lines = parse_utf8(text).split("\n", LINES + 1)
    if len(lines) != LINES + 1 or lines[-1]:
        raise Malformed(f"got {shown(text)}, want {LINES} lines: origin, size and root")
    origin, size, root, _ = lines
    return Checkpoint(origin=origin, size=TreeSize(parse_decimal(size)), root=parse_base64_hash(root))


def render_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The text that is signed."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{render_base64(checkpoint.root)}\n".encode()


def open_checkpoint(note: bytes, verifier: VerifierKey) -> Checkpoint:
    """The checkpoint in `note`, if `verifier` signed it and its origin is the verifier's name.

    Raises Malformed or BadSignature. Cosignatures are not looked at (`cosign.check_quorum`).
    """
    parsed = parse_note(note)
    check_note(parsed, [verifier])
    checkpoint = parse_checkpoint(parsed.text)
    if checkpoint.origin != verifier.name:
        raise BadSignature(f"got a checkpoint of {shown(checkpoint.origin)}, want one of {shown(verifier.name)}")
    return checkpoint


def open_checkpoint_of(note: bytes, verifiers: Sequence[VerifierKey]) -> Checkpoint:
    """The same, if any of the keys of one log signed it: at least one key, all of one name.

    Each key is asked by itself: a signature of another one of them is to it that of a stranger.
    """
    *others, last = verifiers
    for verifier in others:
        with suppress(BadSignature):
            return open_checkpoint(note, verifier)
    return open_checkpoint(note, last)


def sign_checkpoint(checkpoint: Checkpoint, *signers: NoteSigner) -> bytes:
    """The note of `checkpoint`, signed by each signer, all named like its origin: two while a key is rotated.

    Only a committed head is ever signed (C1).
    """
    for signer in signers:
        if signer.name != checkpoint.origin:
            raise ValueError(f"got a signer named {shown(signer.name)}, want {shown(checkpoint.origin)}")
    return render_note(sign_note(render_checkpoint(checkpoint), signers))
