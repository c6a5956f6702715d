# SPDX-License-Identifier: Apache-2.0
"""The commit of a round, as a story (rule C1). Recovery calls the same functions, in the same order.

Tree n is committed and its head signed. A round brings entries that make it tree m.

    1  stage     stage/<m>-<root> holds edge n, root n, the entries and what is beside them; never a signature (C2)
         crash here: an orphan. The head says n, so recovery removes it; its writers were told nothing and send again.
    2  swap      the head says m, if it said n; it commits to the stage's bytes by their hash (C7)
         crash before the answer: the outcome is not known, so the process ends (C3); the head tells at the next start.
         crash after: m is the truth, though nobody was told. Recovery recomputes edge n + entries = m before anything.
    3  sign      checkpoint m; in memory. Ed25519 is deterministic: recovery signs the same bytes.
    4  receipts  the writers are told. They hold proofs for m, and the stage holds all that m needs.
         crash here: nothing is lost. A writer that was not told sends again and gets the identical receipt (A1).
    5  apply     full bundles, then full tiles: immutable, compared if present (C6)
         crash here: some are there. Recovery creates the rest; what is there is the same, byte for byte.
    6  publish   partial bundle and tiles of m, then `checkpoint`, if it is still the one we know (C4)
         crash here: the old checkpoint stands, and what it needs is there. Recovery publishes m or more.
    7  record    the ledger: notes (A3), batches, writers, and what stands beside sealed leaves (S2)
         crash here: the stages are still there, and from them the same rows follow.
    8  discard   stages up to m: all they hold is durable in 5 to 7 (C5), companions too (S6)
         crash here: some stages are left. Recovery applies them again, which changes nothing, and discards them then.

Several rounds may pass between two publications; then several stages stand, each building on the one before it.
Every function here blocks, and the sequencer calls them from one thread, so no two steps ever overlap.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from iap_authz.errors import Malformed, shown
from iap_authz.log.beside import Beside, render_besides
from iap_authz.ports import Head, HeadStore, Ledger, RoundRows, TileStore
from iap_authz.tlog.batch import BatchPlan, Stage, Write, plan_partials, render_stage
from iap_authz.tlog.checkpoint import SignedCheckpoint
from iap_authz.tlog.edge import Edge
from iap_authz.tlog.hashing import NodeHash, TreeSize

_STAGE_PATH = re.compile(r"stage/([0-9]{20})-([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A round that is planned: what its stage holds, where, and the head that it leads to."""

    plan: BatchPlan
    write: Write
    head: Head


def stage_path(size: int, root: NodeHash) -> str:
    """Where the stage that leads to this tree is: names sort as they follow one another (C2)."""
    return f"stage/{size:020d}-{root.hex()}"


def parse_stage_path(path: str) -> tuple[TreeSize, NodeHash]:
    """The tree that the stage at `path` leads to. Raises Malformed."""
    found = _STAGE_PATH.fullmatch(path)
    if found is None:
        raise Malformed(f"got a stage called {shown(path)}, want stage/<20 digits>-<64 hex digits>")
    return TreeSize(int(found[1])), NodeHash(bytes.fromhex(found[2]))


def prepare(
    plan: BatchPlan, entries: tuple[bytes, ...], *, edge: Edge, time: datetime, besides: Sequence[Beside] = ()
) -> Staged:
    """What steps 1 and 2 write. `edge` is the one that the plan built on; `time` is later than the head's (T3).

    `besides` are what stands beside entries, by their offset among them.
    """
    root, beside = plan.tree.root(), render_besides(besides)
    content = render_stage(Stage(edge=edge, root=plan.before.root(), entries=entries, beside=beside))
    head = Head(size=plan.tree.end, root=root, time=time, stage_sha256=sha256(content).digest())
    return Staged(plan=plan, write=Write(path=stage_path(plan.tree.end, root), content=content), head=head)


def stage_and_swap(staged: Staged, *, expected: Head, tiles: TileStore, heads: HeadStore) -> None:
    """Steps 1 and 2. Raises HeadMoved if another sequencer has committed; every error is fatal (C3)."""
    tiles.create((staged.write,))
    heads.swap(staged.head, expected=expected)


def apply(plan: BatchPlan, tiles: TileStore) -> None:
    """Step 5."""
    if plan.full:
        tiles.create(plan.full)


def publish(
    signed: SignedCheckpoint, edge: Edge, *, published: SignedCheckpoint | None, tiles: TileStore
) -> SignedCheckpoint:
    """Step 6: `signed` is of the committed head that ends in `edge`; returns what is published now.

    Never goes back: a smaller size is left as it is. The same tree is published again where other keys sign now, so
    that whoever pins one of them can go on although nothing was added. Raises HeadMoved if another has published.
    """
    old = published.checkpoint.size if published is not None else 0
    if published is not None and not is_due(signed, published):
        return published
    partial = plan_partials(edge, published=old)
    if partial:
        tiles.create(partial)
    tiles.publish(signed.note, expected=None if published is None else published.note)
    return signed


def is_due(signed: SignedCheckpoint, published: SignedCheckpoint) -> bool:
    """Whether `signed` is more than what is published: a larger tree, or the same one under other keys."""
    same = signed.checkpoint == published.checkpoint
    return signed.checkpoint.size > published.checkpoint.size or (same and signed.note != published.note)


def record_and_discard(rows: RoundRows, *, ledger: Ledger, tiles: TileStore) -> None:
    """Steps 7 and 8: everything up to `rows.size` is applied and published."""
    ledger.add(rows)
    discard(rows.size, tiles)


def discard(size: TreeSize, tiles: TileStore) -> None:
    """Step 8: the stages up to `size`, which is published, and where the ledger stands at least."""
    for path in tiles.stages():
        staged, _ = parse_stage_path(path)
        if staged <= size:
            tiles.discard(path)
