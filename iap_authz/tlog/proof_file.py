# SPDX-License-Identifier: Apache-2.0
"""Proof files: that one entry is in a log, in a text to keep beside it for years and check without asking anyone.

The invariant: `check_proof_file` uses the leaf hash its caller computed, the index, the proof and the checkpoint. The
`extra` bytes are carried and never looked at: they are signed by nobody.

    c2sp.org/tlog-proof@v1
    extra <base64>                 (left out if there is none)
    index <decimal>
    <base64 hash>                  the leaf's sibling first; 0 to 63 lines
    <empty line>
    <the checkpoint: a signed note, verbatim>

Specification: C2SP tlog-proof; stored with the suffix `.tlog-proof`. Bounded to 63 hashes, 64 KiB of `extra` and the
size of a note. Cosignatures are in the note: `cosign.check_quorum` counts them.
"""

from dataclasses import dataclass

from iap_authz.errors import BadProof, Malformed, shown
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint
from iap_authz.tlog.hashing import LEVELS, SIZE_LIMIT_LEAVES, LeafHash, LeafIndex, NodeHash, check_index
from iap_authz.tlog.note import NOTE_MAX_BYTES, VerifierKey, parse_note
from iap_authz.tlog.proof import check_inclusion
from iap_authz.tlog.text import parse_base64, parse_base64_hash, parse_decimal, parse_utf8, render_base64

SUFFIX = ".tlog-proof"
"""The file name extension (C2SP tlog-proof)."""

HEADER_LINE = "c2sp.org/tlog-proof@v1"
"""The first line (C2SP tlog-proof)."""

EXTRA_MAX_BYTES = 1 << 16
"""What we carry beside a proof at most: as much as an entry can have."""

FILE_MAX_BYTES = NOTE_MAX_BYTES + 2 * EXTRA_MAX_BYTES
"""No valid file is longer: base64 adds a third to `extra`, and the other lines take under 3 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofFile:
    """The parts of a proof file. `extra_untrusted` is covered by no signature and by no hash; b"" means none."""

    index: LeafIndex
    proof: tuple[NodeHash, ...]
    checkpoint_note: bytes
    extra_untrusted: bytes = b""

    def __post_init__(self) -> None:
        check_index(self.index, SIZE_LIMIT_LEAVES - 1)
        if len(self.proof) > LEVELS:
            raise Malformed(f"got {len(self.proof)} hashes, want at most {LEVELS}")
        if len(self.extra_untrusted) > EXTRA_MAX_BYTES:
            raise Malformed(f"got {len(self.extra_untrusted)} bytes of extra data, want at most {EXTRA_MAX_BYTES}")
        parse_note(self.checkpoint_note)


def parse_proof_file(data: bytes) -> ProofFile:
    """The parts of a proof file. Nothing is verified."""
    end = data.find(b"\n\n")
    if len(data) > FILE_MAX_BYTES or end < 0:
        raise Malformed(f"got {len(data)} bytes of proof, want an empty line and at most {FILE_MAX_BYTES} bytes")
    lines = parse_utf8(data[:end]).split("\n")
    if lines.pop(0) != HEADER_LINE:
        raise Malformed(f"got {shown(data)}, want the first line {HEADER_LINE}")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = parse_base64(lines.pop(0).removeprefix("extra "))
        if not extra:
            raise Malformed("got an empty extra line, want it left out")
    if not lines or not lines[0].startswith("index "):
        raise Malformed(f"got {shown(lines[:1])}, want a line with the index")
    index = parse_decimal(lines.pop(0).removeprefix("index "))
    if len(lines) > LEVELS:
        raise Malformed(f"got {len(lines)} hashes, want at most {LEVELS}")
    return ProofFile(
        index=LeafIndex(index),
        proof=tuple(parse_base64_hash(line) for line in lines),
        checkpoint_note=data[end + 2 :],
        extra_untrusted=extra,
    )


def render_proof_file(proof_file: ProofFile) -> bytes:
    """The bytes of a proof file."""
    extra = [f"extra {render_base64(proof_file.extra_untrusted)}"] if proof_file.extra_untrusted else []
    hashes = [render_base64(value) for value in proof_file.proof]
    head = "\n".join([HEADER_LINE, *extra, f"index {proof_file.index}", *hashes])
    return head.encode() + b"\n\n" + proof_file.checkpoint_note


def check_proof_file(proof_file: ProofFile, leaf: LeafHash, *, verifier: VerifierKey) -> Checkpoint:
    """The checkpoint that the entry with this leaf hash is under: signed by `verifier`, and the proof leads to it.

    The caller hashes the entry it holds. Raises Malformed, BadSignature or BadProof.
    """
    checkpoint = open_checkpoint(proof_file.checkpoint_note, verifier)
    if proof_file.index >= checkpoint.size:
        raise BadProof(f"got leaf index {proof_file.index}, want one below the checkpoint's size {checkpoint.size}")
    check_inclusion(leaf, proof_file.index, size=checkpoint.size, proof=proof_file.proof, root=checkpoint.root)
    return checkpoint
