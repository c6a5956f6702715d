# SPDX-License-Identifier: Apache-2.0
"""A log's files, recomputed: every entry, tile and signature, every writer's records; and what is wrong, by the byte.

The invariant: a log that `holds` has exactly the entries that its checkpoint was signed for, each writer's records
once, in order and under that writer's own signatures (rules O1, A4, W5, G3), and tiles that follow from them. One wrong
byte in a bundle, a tile or the checkpoint is a finding that names it, and what it was.

    checkpoint --states--> origin, size, root        damaged: known again from the bundles that are there
    bundles + tiles --`TreeWalk`--> root             with the entries --`Fold`--> writers
    stages --`follow_stages`--> what is committed beyond the checkpoint

What can be repaired is what can be derived: a tile from its entries, one byte whose hash confirms it. `repairs` is
empty unless the root is the checkpoint's and no given key denies it. An entry that is lost stays lost.

Bundles are read one at a time; a damaged checkpoint may need a second reading of them all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from iap_authz.errors import Malformed
from iap_authz.records.log_fold import Fold
from iap_authz.records.log_inspect_checkpoint import (
    CHECKPOINT_PATH,
    Stated,
    lacks_key,
    mend_note,
    origins_of,
    read_note,
    trees_of,
    unproven,
    wrong_bytes,
)
from iap_authz.records.log_inspect_findings import Beyond, LogFinding, LogInspection, missing
from iap_authz.records.log_inspect_head import read_head
from iap_authz.records.log_inspect_stages import available_sizes, follow_stages
from iap_authz.records.log_inspect_tree import ReadFile, TreeWalk, parse_place
from iap_authz.tlog.batch import Write
from iap_authz.tlog.checkpoint import Checkpoint, render_checkpoint
from iap_authz.tlog.hashing import NodeHash, TreeSize
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.text import parse_base64_hash
from iap_authz.tlog.tiles import parse_bundle

ATTEMPTS_MAX = 4
"""Trees that a damaged checkpoint may have been of, which are tried: one byte of a size leaves one or two."""

_ROOT_CHARS = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """The files read as the tree of `size` of the log `origin`. `text` is what its checkpoint says."""

    origin: str
    size: TreeSize
    walk: TreeWalk
    fold: Fold
    text: bytes

    @property
    def root(self) -> NodeHash:
        return self.walk.root

    def finish_fold(self) -> None:
        """No leaf follows; what writers quote is compared with this tree (rule G3)."""
        self.fold.finish()
        self.fold.check_quotes(lambda size: self.walk.root_at(size) if size <= self.size else None)


def inspect_log(
    read: ReadFile,
    paths: Iterable[str],
    *,
    verifiers: Sequence[VerifierKey] = (),
    head: tuple[TreeSize, NodeHash] | None = None,
) -> LogInspection:
    """Inspect the log whose files are at `paths`, relative to its folder: all of `tile/` and `stage/`.

    `verifiers` are the keys that its checkpoint must be signed with, one or, during a rotation, two. `head` is what
    was committed last, if that is known.
    """
    paths, note = list(paths), read(CHECKPOINT_PATH)
    stated = read_note(note or b"", verifiers)
    attempt = _read_tree(read, paths, stated=stated, verifiers=verifiers)
    findings, repairs = list(attempt.walk.findings), list(attempt.walk.repairs)
    confirmed = len(wrong_bytes(stated.note, attempt.text)) <= 1
    found, mended = _judge_checkpoint(stated, verifiers, attempt=attempt)
    findings += found if note is not None else [missing(CHECKPOINT_PATH)]
    if note is not None and mended is not None:
        repairs.append(Write(path=CHECKPOINT_PATH, content=mended))
        stated = read_note(mended, verifiers)
    root = attempt.root if confirmed else None
    beyond, more = follow_stages(read, paths, size=attempt.size, root=root, into=attempt.fold)
    findings += [*more, *_check_head(head, beyond)]
    attempt.finish_fold()
    return LogInspection(
        origin=attempt.origin,
        note=note or b"",
        size=attempt.size,
        root=attempt.root,
        confirmed=confirmed,
        signed=stated.signed,
        writers=attempt.fold.writers,
        batches=len(attempt.fold.drain_batches()),
        findings=tuple(findings),
        problems=tuple(attempt.fold.problems),
        beyond=beyond,
        repairs=tuple(repairs) if confirmed and stated.signed is not False else (),
    )


def _check_head(head: tuple[TreeSize, NodeHash] | None, beyond: Beyond) -> list[LogFinding]:
    """What is wrong if the files do not lead to the committed head."""
    if head is None or head == (beyond.staged_size, beyond.root):
        return []
    return [unproven(f"the committed head is at size {head[0]}, and the files reach {beyond.staged_size}")]


def _read_tree(
    read: ReadFile,
    paths: Sequence[str],
    *,
    stated: Stated,
    verifiers: Sequence[VerifierKey],
) -> _Attempt:
    """The tree that the checkpoint is of, or was of before one byte of it changed; else the largest there is."""
    attempts: list[_Attempt] = []
    for origin, size in _candidates(read, paths, stated=stated, verifiers=verifiers)[:ATTEMPTS_MAX]:
        wanted = _wanted_root(stated.note, f"{origin}\n{size}\n")
        walk, fold = TreeWalk(read, size, wanted=wanted, older=paths), Fold(origin)
        walk.run(fold)
        text = render_checkpoint(Checkpoint(origin=origin, size=size, root=walk.root))
        attempts.append(_Attempt(origin=origin, size=size, walk=walk, fold=fold, text=text))
        if len(wrong_bytes(stated.note, text)) <= 1:
            return attempts[-1]
    return attempts[0]


def _candidates(
    read: ReadFile, paths: Sequence[str], *, stated: Stated, verifiers: Sequence[VerifierKey]
) -> list[tuple[str, TreeSize]]:
    """Origins and sizes to try, the likeliest first; at least one."""
    if stated.checkpoint is not None and stated.signed:
        return [(stated.checkpoint.origin, stated.checkpoint.size)]
    log, sizes = _log_of(read, paths), available_sizes(paths)
    origins = origins_of(stated.note, verifiers, log=log) or origins_of(stated.note, verifiers, log=None)
    trees = trees_of(stated.note, origins, sizes=sizes)
    if stated.checkpoint is not None:
        said = stated.checkpoint.origin, stated.checkpoint.size
        trees = [said, *(tree for tree in trees if tree != said)]
        if said[0] not in origins and len(trees) > 1:
            trees = [*trees[1:], said]
    return trees or [(origins[0] if origins else "unknown", sizes[0] if sizes else TreeSize(0))]


def _log_of(read: ReadFile, paths: Iterable[str]) -> bytes | None:
    """The writer of the first leaf, which is the log itself: it registers a writer before that has a record."""
    for path in paths:
        place = parse_place(path)
        content = read(path) if place is not None and place[:2] == (None, 0) else None
        if place is None or content is None:
            continue
        try:
            head = read_head(parse_bundle(content, place[2])[0])
        except Malformed:
            continue
        if head is not None:
            return head[0]
    return None


def _wanted_root(note: bytes, start: str) -> NodeHash | None:
    """The root that stands after `start` in the note, if one does."""
    at = len(start.encode())
    try:
        return parse_base64_hash(note[at : at + _ROOT_CHARS].decode("ascii"))
    except (Malformed, UnicodeDecodeError):
        return None


def _judge_checkpoint(
    stated: Stated, verifiers: Sequence[VerifierKey], *, attempt: _Attempt
) -> tuple[list[LogFinding], bytes | None]:
    """What is wrong with the checkpoint; and the note as it was written, if a key confirms that."""
    wrong = wrong_bytes(stated.note, attempt.text)
    if len(wrong) > 1:
        message = f"got entries with root {attempt.root.hex()} at size {attempt.size}, want what the checkpoint says"
        problem = f"; {stated.problem}" if stated.problem else ""
        return [unproven(f"{message}{problem}")], None
    if not wrong and stated.checkpoint is not None and stated.signed is not False and not lacks_key(stated, verifiers):
        return [], None
    return mend_note(stated, verifiers, text=attempt.text)
