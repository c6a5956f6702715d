# SPDX-License-Identifier: Apache-2.0
"""What a log has stored beyond its published checkpoint: stages that follow on it, and files of larger trees.

The invariant: every entry that `follow_stages` feeds on is in a stage whose name, old edge and entries lead from one
tree to the next (rule C2), beginning at the published one. Nothing of it is signed by what is published.

    published --stage--> round --stage--> round --stage--> the last committed head, or one that was never committed
"""

import re
from collections.abc import Iterable

from iap_authz.errors import IapError
from iap_authz.records.log_fold import Fold
from iap_authz.records.log_inspect_findings import Beyond, LogFault, LogFinding, damaged
from iap_authz.records.log_inspect_tree import ReadFile, parse_place
from iap_authz.tlog.batch import Stage, parse_stage, recover
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize, leaf_hashes
from iap_authz.tlog.tiles import TILE_HEIGHT, TILE_WIDTH

_STAGE_PATH = re.compile(r"stage/([0-9]{20})-([0-9a-f]{64})", re.ASCII)


def follow_stages(
    read: ReadFile, paths: Iterable[str], *, size: TreeSize, root: NodeHash | None, into: Fold
) -> tuple[Beyond, list[LogFinding]]:
    """Go from the tree of `size` and `root` as far as the stages among `paths` reach; feed their entries on."""
    paths = list(paths)
    findings = [stray for path in paths if (stray := _stray(path)) is not None]
    stages: dict[tuple[int, bytes], Stage] = {}
    results: dict[tuple[int, bytes], tuple[TreeSize, NodeHash]] = {}
    for path in sorted(paths):
        loaded = _load(read, path, findings=findings)
        if loaded is not None:
            stage, result = loaded
            stages[stage.edge.size, stage.root] = stage
            results[stage.edge.size, stage.root] = result
    at, top = size, root
    while top is not None and (at, top) in stages:
        stage = stages[at, top]
        into.add_all(LeafIndex(at), stage.entries, leaf_hashes(stage.entries))
        at, top = results[at, top]
    return Beyond(staged_size=at, root=top, files=sum(_is_beyond(path, size) for path in paths)), findings


def _load(read: ReadFile, path: str, *, findings: list[LogFinding]) -> tuple[Stage, tuple[TreeSize, NodeHash]] | None:
    """The stage at `path`, recomputed; None if it is none, or does not lead where its name says."""
    name = _STAGE_PATH.fullmatch(path)
    content = read(path) if name is not None else None
    if name is None or content is None:
        return None
    size, root = TreeSize(int(name[1])), NodeHash(bytes.fromhex(name[2]))
    try:
        stage = parse_stage(content)
        recover(stage, size=size, root=root)
    except IapError as error:
        findings.append(damaged(path, None, str(error)))
        return None
    return stage, (size, root)


def _stray(path: str) -> LogFinding | None:
    if _STAGE_PATH.fullmatch(path) or parse_place(path) is not None:
        return None
    return LogFinding(kind=LogFault.STRAY, path=path, offset=None, message="got a file that no log has")


def _is_beyond(path: str, size: int) -> bool:
    """Whether it is a tile or bundle that the tree of `size` does not have."""
    place = parse_place(path)
    if place is None:
        return False
    level, index, width = place
    return index * TILE_WIDTH + width > size >> TILE_HEIGHT * (level or 0)


def available_sizes(paths: Iterable[str]) -> list[TreeSize]:
    """The sizes that bundles end at, largest first: each may be the one that is published."""
    places = [parse_place(path) for path in paths]
    sizes = {place[1] * TILE_WIDTH + place[2] for place in places if place is not None and place[0] is None}
    return [TreeSize(size) for size in sorted(sizes, reverse=True)]
