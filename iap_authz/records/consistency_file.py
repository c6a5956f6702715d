# SPDX-License-Identifier: Apache-2.0
"""A file that shows that one checkpoint of a log is a prefix of another: nothing was changed or taken away in between.

The invariant: `check_consistency_file` returns only if the log's key signed both checkpoints and the proof leads from
the one root to the other.

    file = JSON: {"kind": "iap-authz/consistency/v1", "old": note, "new": note, "proof": [base64 of 32 bytes, ...]}

It does not say that either checkpoint is the one that others see: compare it with theirs, or with a witness's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from iap_authz.errors import Malformed, shown
from iap_authz.tlog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import LEVELS, NodeHash
from iap_authz.tlog.note import NOTE_MAX_BYTES, VerifierKey, parse_note
from iap_authz.tlog.proof import check_consistency
from iap_authz.tlog.text import parse_base64_hash, render_base64

KIND = "iap-authz/consistency/v1"
"""What the file says it is."""

FILE_MAX_BYTES = 4 * NOTE_MAX_BYTES
"""Two notes, whose bytes JSON may double, and a proof of a few KiB."""

PROOF_MAX_HASHES = LEVELS + 1
"""No consistency proof below 2^63 leaves is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyFile:
    """The parts of the file; nothing is checked."""

    old_note: bytes
    new_note: bytes
    proof: tuple[NodeHash, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyReport:
    """Two checkpoints of one log, the old one a prefix. `pinned` says that the signatures were checked."""

    old: Checkpoint
    new: Checkpoint
    pinned: bool


def render_consistency_file(old_note: bytes, new_note: bytes, *, proof: Sequence[NodeHash]) -> bytes:
    """The bytes of the file."""
    members = {
        "kind": KIND,
        "old": old_note.decode(),
        "new": new_note.decode(),
        "proof": [render_base64(value) for value in proof],
    }
    return (json.dumps(members, indent=2, ensure_ascii=False) + "\n").encode()


def is_consistency_file(data: bytes) -> bool:
    """Whether the file says that it is one; it is not parsed for that."""
    return f'"kind": "{KIND}"'.encode() in data[:256]


def parse_consistency_file(data: bytes) -> ConsistencyFile:
    """The parts of the file, which has one spelling. Raises Malformed."""
    if len(data) > FILE_MAX_BYTES:
        raise Malformed(f"got {len(data)} bytes, want at most {FILE_MAX_BYTES}")
    try:
        members = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise Malformed("got bytes that are no JSON, want a consistency file") from error
    match members:
        case {"kind": str(kind), "old": str(old), "new": str(new), "proof": list(proof)} if kind == KIND:
            pass
        case _:
            raise Malformed(f"got {shown(members)}, want a JSON object with kind {shown(KIND)}")
    if len(proof) > PROOF_MAX_HASHES or not all(isinstance(value, str) for value in proof):
        raise Malformed(f"got a proof of {len(proof)} members, want at most {PROOF_MAX_HASHES} hashes in base64")
    try:
        notes = old.encode(), new.encode()
    except UnicodeEncodeError as error:
        raise Malformed("got a checkpoint that is no UTF-8, want a signed note") from error
    parsed = ConsistencyFile(
        old_note=notes[0], new_note=notes[1], proof=tuple(parse_base64_hash(value) for value in proof)
    )
    if render_consistency_file(*notes, proof=parsed.proof) != data:
        raise Malformed("got a consistency file in another spelling, want the one that is written")
    return parsed


def check_consistency_file(file: ConsistencyFile, *, log: VerifierKey | None = None) -> ConsistencyReport:
    """What the file shows; without the log's key, only that the proof fits the two checkpoints.

    Raises Malformed, BadSignature or BadProof.
    """
    old, new = (_open(note, log) for note in (file.old_note, file.new_note))
    if old.origin != new.origin:
        raise Malformed(f"got checkpoints of {shown(old.origin)} and {shown(new.origin)}, want two of one log")
    check_consistency(old.size, new.size, proof=file.proof, old_root=old.root, new_root=new.root)
    return ConsistencyReport(old=old, new=new, pinned=log is not None)


def _open(note: bytes, log: VerifierKey | None) -> Checkpoint:
    return parse_checkpoint(parse_note(note).text) if log is None else open_checkpoint(note, log)
