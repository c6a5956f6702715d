# SPDX-License-Identifier: Apache-2.0
"""What a sequencer does before its first signature: find the committed head, and make the store agree with it.

The invariant: nothing is signed or applied before the head was recomputed from what the store holds (C2), and before
the published checkpoint was shown to be a prefix of it (G5). Whatever does not fit is refused with what to do; nothing
is ever mended by signing over it.

    head's stage is there   the chain of stages from the oldest to the head's is recomputed and applied again
    it is not               the head is the published one: its edge is read from the published partial tiles
    neither                 the head store is ahead of the tile store: an older copy of the tiles was put back
    head behind published   an older copy of the head store was put back
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from iap_authz.errors import Corrupt, IapError, Rollback
from iap_authz.log.beside import at_leaves, parse_besides
from iap_authz.log.commit import apply, parse_stage_path, stage_path
from iap_authz.log.reader import Reader, View
from iap_authz.ports import Clock, Head, HeadStore, TileStore
from iap_authz.tlog.batch import BatchPlan, Stage, parse_stage, recover
from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint_of, sign_checkpoint
from iap_authz.tlog.edge import EMPTY_EDGE, Edge, check_edge
from iap_authz.tlog.hashing import EMPTY_ROOT, HASH_BYTES, LeafIndex, NodeHash, TreeSize
from iap_authz.tlog.note import NoteSigner, VerifierKey
from iap_authz.tlog.proof import check_consistency, prove_consistency
from iap_authz.tlog.tiles import level_count, partial_bundle, partial_tiles, render_bundle_path, render_tile_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A log that may go on. `rounds` are the plans of the stages that are still there, oldest first.

    `companions` are what these stages have beside sealed leaves, by leaf index.
    """

    head: Head
    signed: SignedCheckpoint
    edge: Edge
    published: SignedCheckpoint | None
    rounds: tuple[BatchPlan, ...]
    companions: tuple[tuple[LeafIndex, bytes], ...]


def recover_log(
    tiles: TileStore,
    heads: HeadStore,
    *,
    signers: Sequence[NoteSigner],
    clock: Clock,
    retired: Sequence[VerifierKey] = (),
) -> Recovered:
    """Recover, or start a new log. `retired` are keys that were rotated out: what they published is still ours.

    Raises Corrupt or Rollback with what to do; OSError, HeadMoved.
    """
    published = _open_published(tiles, [*(signer.verifier() for signer in signers), *retired])
    head = heads.load()
    if head is None:
        head = _start(tiles, heads, published=published, clock=clock)
    if published is not None and published.checkpoint.size > head.size:
        raise Rollback(
            f"the head store says size {head.size} and {published.checkpoint.size} is published: an older copy of the"
            " head store was put back. Put back the newest one; if there is none, retire the log: new key, new origin",
            [published.note],
        )
    chain = _chain_to(head, tiles)
    edge = chain[-1].plan.edge if chain else _load_edge(head, tiles)
    for one in chain:
        apply(one.plan, tiles)
    _discard_orphans(head, tiles)
    signed = sign_tree(head.size, head.root, signers)
    if published is not None:
        _check_published(published, signed, Reader(tiles, View(signed=signed, edge=edge)))
    return Recovered(
        head=head,
        signed=signed,
        edge=edge,
        published=published,
        rounds=tuple(one.plan for one in chain),
        companions=tuple(companion for one in chain for companion in one.companions),
    )


def sign_tree(size: TreeSize, root: NodeHash, signers: Sequence[NoteSigner]) -> SignedCheckpoint:
    """Step 3: the signed checkpoint of a head that was committed. The same tree gives the same bytes."""
    checkpoint = Checkpoint(origin=signers[0].name, size=size, root=root)
    return SignedCheckpoint(checkpoint=checkpoint, note=sign_checkpoint(checkpoint, *signers))


def _start(tiles: TileStore, heads: HeadStore, *, published: SignedCheckpoint | None, clock: Clock) -> Head:
    """The head of a new log. A store that holds anything belongs to a log whose head store is gone."""
    if published is not None or tiles.stages():
        size = published.checkpoint.size if published is not None else "unknown"
        raise Rollback(
            f"there is no head and the tile store holds a log of size {size}: the head store is missing. Put it back;"
            " if it is gone, retire the log: new key, new origin",
            [] if published is None else [published.note],
        )
    head = Head(size=TreeSize(0), root=EMPTY_ROOT, time=clock.now(), stage_sha256=bytes(HASH_BYTES))
    heads.swap(head, expected=None)
    return head


def _open_published(tiles: TileStore, verifiers: Sequence[VerifierKey]) -> SignedCheckpoint | None:
    """The published checkpoint, if one of our keys signed it."""
    note = tiles.read("checkpoint")
    if note is None:
        return None
    try:
        return SignedCheckpoint(checkpoint=open_checkpoint_of(note, verifiers), note=note)
    except IapError as error:
        message = f"{error}: it is not signed by this log's key, or was changed: run `iap-authz fsck`"
        raise Corrupt("checkpoint", message) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A round whose stage is still there."""

    plan: BatchPlan
    companions: tuple[tuple[LeafIndex, bytes], ...]


def _chain_to(head: Head, tiles: TileStore) -> list[_Link]:
    """The rounds whose stages are still there, oldest first, the last of them leading to the head."""
    chain: list[_Link] = []
    size, root, digest = head.size, head.root, head.stage_sha256
    while size > 0:
        path = stage_path(size, root)
        content = tiles.read(path)
        if content is None:
            break
        if not chain and sha256(content).digest() != digest:
            raise Corrupt(path, "got another stage than the head was committed with")
        try:
            stage = parse_stage(content)
            chain.append(_recover(stage, size=size, root=root))
        except IapError as error:
            raise Corrupt(path, f"{error}; restore this file, nothing was signed") from error
        size, root = stage.edge.size, stage.root
    return chain[::-1]


def _recover(stage: Stage, *, size: TreeSize, root: NodeHash) -> _Link:
    """Raises BadProof or Malformed."""
    besides = parse_besides(stage.beside, entries=len(stage.entries))
    plan = recover(stage, size=size, root=root)
    return _Link(plan=plan, companions=tuple(at_leaves(besides, stage.edge.size)))


def _load_edge(head: Head, tiles: TileStore) -> Edge:
    """The edge of a head that was published, from its partial tiles."""
    if head.size == 0:
        return EMPTY_EDGE
    contents = {tile.level: tiles.read(render_tile_path(tile)) for tile in partial_tiles(head.size)}
    bundle = partial_bundle(head.size)
    entries = b"" if bundle is None else tiles.read(render_bundle_path(bundle))
    if None in contents.values() or entries is None:
        raise Rollback(
            f"the head store says size {head.size}, and the tile store has neither its stage nor its tiles: an older"
            " copy of the tile store was put back. Put back the newest one; if it is gone, retire the log",
            [],
        )
    row = tuple(contents.get(level) or b"" for level in range(level_count(head.size)))
    try:
        edge = Edge(size=head.size, tiles=row, bundle=entries)
        check_edge(edge, head.root)
    except IapError as error:
        raise Corrupt(f"tile/ at size {head.size}", f"{error}: run `iap-authz fsck`; nothing was signed") from error
    return edge


def _discard_orphans(head: Head, tiles: TileStore) -> None:
    """Stages that no head was committed with: their swap failed or never came (story, step 1)."""
    for path in tiles.stages():
        size, root = parse_stage_path(path)
        if size > head.size or (size == head.size and root != head.root):
            tiles.discard(path)


def _check_published(published: SignedCheckpoint, signed: SignedCheckpoint, reader: Reader) -> None:
    """Rule G5: what was published is a prefix of what will be signed."""
    old, new = published.checkpoint, signed.checkpoint
    if old.size == 0:
        return
    try:
        proof = prove_consistency(old.size, new.size, read=reader.reading())
        check_consistency(old.size, new.size, proof=proof, old_root=old.root, new_root=new.root)
    except IapError as error:
        raise Corrupt(
            "checkpoint", f"the published tree of size {old.size} is no prefix of the head at {new.size}: {error}"
        ) from error
