# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of a log against its entries: which tree it was of, and which of its bytes is wrong.

The invariant: a note that `Stated` calls signed was signed by a given key, byte for byte. A corrected one is given back
only if that key signed it.

    text        known again from the entries: origin (the log's own leaves name its hash), size, recomputed root
    signature   each of the base64 characters is tried; about half a second for one signature

Without a key only the text can be checked: whom to believe is not in the files. Of several signatures, those by keys
that were not given are not looked at either.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_letters, digits

from iap_authz.errors import BadSignature, IapError, Malformed, shown
from iap_authz.records.log_inspect_findings import LogFault, LogFinding, damaged, flipped
from iap_authz.records.log_leaves import log_id
from iap_authz.tlog.checkpoint import Checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import TreeSize
from iap_authz.tlog.note import DASH, VerifierKey, check_name, check_note, parse_note

CHECKPOINT_PATH = "checkpoint"
"""Where the published checkpoint is (C2SP tlog-tiles)."""

_BASE64 = (ascii_letters + digits + "+/=\n").encode()
_ANY = bytes(range(256))
_ROOT_BYTES = 45
"""A root in base64, and its newline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the note says. `checkpoint` is None if it does not parse; `signed` is None if no key was given."""

    note: bytes
    checkpoint: Checkpoint | None
    signed: bool | None
    problem: str


def read_note(note: bytes, verifiers: Sequence[VerifierKey]) -> Stated:
    """What the note says, and whether given keys have signed it: one at least, and none of them wrongly."""
    try:
        parsed = parse_note(note)
        checkpoint = parse_checkpoint(parsed.text)
    except Malformed as error:
        return Stated(note=note, checkpoint=None, signed=False if verifiers else None, problem=str(error))
    if not verifiers:
        return Stated(note=note, checkpoint=checkpoint, signed=None, problem="")
    try:
        check_note(parsed, verifiers)
        if checkpoint.origin not in {verifier.name for verifier in verifiers}:
            raise BadSignature(f"got a checkpoint of {shown(checkpoint.origin)}, want one of the key's name")
    except IapError as error:
        return Stated(note=note, checkpoint=checkpoint, signed=False, problem=str(error))
    return Stated(note=note, checkpoint=checkpoint, signed=True, problem="")


def origins_of(note: bytes, verifiers: Sequence[VerifierKey], *, log: bytes | None) -> list[str]:
    """Which log it may be: the given keys', or what the note itself says in two places, if the log's id is of it.

    `log` is the writer of the log's first leaf, which the log itself makes; None if that is lost.
    """
    lines = note.decode("utf-8", "replace").split("\n")
    said = [verifier.name for verifier in verifiers]
    said += [lines[0], *(line.removeprefix(DASH).partition(" ")[0] for line in lines if line.startswith(DASH))]
    found = []
    for name in dict.fromkeys(said):
        try:
            check_name(name)
        except Malformed:
            continue
        if log is None or log_id(name) == log:
            found.append(name)
    return found


def trees_of(note: bytes, origins: Iterable[str], *, sizes: Iterable[int]) -> list[tuple[str, TreeSize]]:
    """Which origin and size the note may have stated before one of its bytes changed; those it states now first."""
    found = []
    for origin in origins:
        for size in sizes:
            start = f"{origin}\n{size}\n".encode()
            wrong = sum(one != other for one, other in zip(note, start, strict=False))
            if wrong <= 1 and len(note) > len(start) + _ROOT_BYTES:
                found.append((wrong, origin, TreeSize(size)))
    return [(origin, size) for _, origin, size in sorted(found, key=lambda one: one[0])]


def wrong_bytes(note: bytes, text: bytes) -> list[int]:
    """Where the note does not begin with `text`."""
    return [at for at, byte in enumerate(text) if note[at : at + 1] != bytes([byte])]


def mend_note(
    stated: Stated, verifiers: Sequence[VerifierKey], *, text: bytes
) -> tuple[list[LogFinding], bytes | None]:
    """What is wrong with a note that should have this text; and the note as it was, if a key confirms it."""
    note, wrong = stated.note, wrong_bytes(stated.note, text)
    if len(wrong) > 1 or len(note) <= len(text):
        return [damaged(CHECKPOINT_PATH, wrong[0] if wrong else 0, "no single byte explains it")], None
    if wrong and not verifiers:
        return [flipped(CHECKPOINT_PATH, wrong[0], got=note[wrong[0]], want=text[wrong[0]])], None
    changes = [(wrong[0], text[wrong[0]])] if wrong else _changes_below(note, len(text))
    best, found = _count_signed(note, text, verifiers=verifiers), None
    for at, value in changes:
        count = _count_signed(note[:at] + bytes([value]) + note[at + 1 :], text, verifiers=verifiers)
        if count > best:
            best, found = count, (at, value)
        if count == len(verifiers):
            break
    if found is not None:
        at, value = found
        return [flipped(CHECKPOINT_PATH, at, got=note[at], want=value)], note[:at] + bytes([value]) + note[at + 1 :]
    if stated.signed:
        return [], None
    message = stated.problem or "the signature lines are not well formed"
    return [unproven(f"{message}; no single byte explains it")], None


def _changes_below(note: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Each other byte that may have stood below the text. In the base64 only its own characters may, and an end."""
    material = set[int]()
    at = start + 1
    for line in note[at:].split(b"\n"):
        space = line.find(b" ", len(DASH.encode()))
        if space >= 0:
            material.update(range(at + space + 1, at + len(line)))
        at += len(line) + 1
    for at in range(start, len(note)):
        for value in _BASE64 if at in material else _ANY:
            if value != note[at]:
                yield at, value


def _count_signed(note: bytes, text: bytes, *, verifiers: Sequence[VerifierKey]) -> int:
    """How many of the keys have signed the note with this text; 0 if one of them did not, or without a key."""
    try:
        parsed = parse_note(note)
        return len(check_note(parsed, verifiers)) if parsed.text == text and verifiers else 0
    except IapError:
        return 0


def lacks_key(stated: Stated, verifiers: Sequence[VerifierKey]) -> bool:
    """Whether a signature is by nobody we know, while one of ours is missing: its name or key id may be wrong."""
    known = {(verifier.name, verifier.key_id) for verifier in verifiers}
    try:
        there = {(line.name, line.key_id) for line in parse_note(stated.note).signatures}
    except Malformed:
        return False
    return bool(known - there) and bool(there - known)


def unproven(message: str) -> LogFinding:
    """The finding for a checkpoint that does not go with the files."""
    return LogFinding(kind=LogFault.UNPROVEN, path=CHECKPOINT_PATH, offset=None, message=message)
