# SPDX-License-Identifier: Apache-2.0
"""Erasures and legal holds in memory, and an index that knows tokens; each keeps the contract of its port."""

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Corrupt
from iap_authz.model.ids import WriterId
from iap_authz.ports import NO_ERASURE, CoveredRow, ErasureRound, ErasureRow, HoldRow, Stage
from iap_authz.records.erasure import erasure_salt
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hash
from iap_authz.trail.match import matches, parse_or_none
from tests.fakes.stores import MemoryCompanions
from tests.fakes.trail import FakeLeaves

PART = 2
"""Leaves that a memory store destroys in one call: few, so that there are many calls."""


UNFINISHED = (Stage.COUNTING, Stage.WAITS_APPROVAL, Stage.ERASING, Stage.ERASED)


class MemoryErasures:
    """Keeps the contract of the port `ErasureStore`."""

    def __init__(self, companions: MemoryCompanions, leaves: FakeLeaves) -> None:
        self.companions = companions
        self.leaves = leaves
        self.rows: dict[bytes, ErasureRow] = {}
        self.kept: dict[tuple[bytes, int], ErasureRound] = {}
        self.plans: dict[tuple[bytes, int], list[LeafIndex]] = {}
        self.taken: dict[LeafIndex, tuple[bytes, int]] = {}

    def put(self, row: ErasureRow) -> None:
        self.rows[row.erasure] = row

    def find(self, erasure: bytes) -> ErasureRow | None:
        return self.rows.get(erasure)

    def unfinished(self) -> list[ErasureRow]:
        return [row for row in self.rows.values() if row.stage in UNFINISHED]

    def end(self, erasure: bytes, stage: Stage) -> None:
        row = self.rows[erasure]
        self.rows[erasure] = replace(row, stage=stage, whose=bytes(len(row.whose)), secret=bytes(len(row.secret)))

    def rounds(self, erasure: bytes) -> list[ErasureRound]:
        return [one for (of, _), one in sorted(self.kept.items()) if of == erasure]

    def begin_round(self, row: ErasureRow, begun: ErasureRound, *, plan: Many[LeafIndex]) -> None:
        assert list(plan) == sorted(set(plan)), "a plan has each leaf once, in order"
        assert (begun.erasure, begun.number) not in self.kept, "a round is begun once"
        self.rows[row.erasure] = row
        self.kept[begun.erasure, begun.number] = begun
        self.plans[begun.erasure, begun.number] = list(plan)

    def set_index(self, begun: ErasureRound, index: LeafIndex) -> None:
        self._set(begun, index=index)

    def destroy_next(self, begun: ErasureRound) -> tuple[int, list[int]]:
        stored, kept = self.kept[begun.erasure, begun.number], self.companions
        assert stored.index is not None, "nothing is destroyed that no record in the log names"
        leaves = self.plans[begun.erasure, begun.number][stored.done : stored.done + PART]
        numbers = sorted({kept.rows[index].key for index in leaves} - {0})
        for number in numbers:
            key = kept.subject_keys[number]
            if key.erasure == NO_ERASURE:
                zeros = bytes(len(key.sealed))
                kept.subject_keys[number] = replace(key, key_id=b"", sealed=zeros, erasure=begun.erasure)
        for index, row in kept.rows.items():
            if row.key in numbers and index >= begun.log_size and row.erasure == NO_ERASURE:
                kept.rows[index] = replace(row, erasure=begun.erasure)
        if any(kept.rows[index].erasure not in (NO_ERASURE, begun.erasure) for index in leaves):
            raise Corrupt("companions", "got leaves that another erasure has taken")
        for index in leaves:
            salt = erasure_salt(self.rows[begun.erasure].secret, index)
            kept.rows[index] = replace(kept.rows[index], key=0, salt=salt, erasure=begun.erasure)
            self.taken[index] = begun.erasure, begun.number
        done = stored.done + len(leaves)
        self._set(begun, done=done)
        return done, numbers

    def plan(self, begun: ErasureRound, part: int) -> list[LeafIndex]:
        return self.plans.get((begun.erasure, begun.number), [])[part * PART : (part + 1) * PART]

    def finish_round(self, begun: ErasureRound) -> None:
        self.plans.pop((begun.erasure, begun.number), None)
        self._set(begun, finished=True)

    def late(self, erasure: bytes) -> list[LeafIndex]:
        return sorted(index for index, row in self.companions.rows.items() if row.key and row.erasure == erasure)

    def sharing(self, keys: Collection[int], begin: int, end: int) -> list[LeafIndex]:
        rows = sorted(self.companions.rows.items())
        return [at for at, row in rows if begin <= at < end and row.key in keys and row.erasure == NO_ERASURE]

    def taken_by(self, index: LeafIndex) -> tuple[bytes, int] | None:
        row = self.companions.rows.get(index)
        if row is None or row.erasure == NO_ERASURE:
            return None
        return self.taken.get(index, (row.erasure, 0))

    def covered(self, erasure: bytes, number: int, *, after: int, limit: int) -> list[CoveredRow]:
        found = sorted(index for index, taken in self.taken.items() if taken == (erasure, number) and index > after)
        return [
            CoveredRow(
                index=index,
                salt=self.companions.rows[index].salt,
                leaf_hash=leaf_hash(self.leaves.leaves[index]),
            )
            for index in found[:limit]
        ]

    def _set(self, begun: ErasureRound, **changed: Any) -> None:
        key = begun.erasure, begun.number
        self.kept[key] = replace(self.kept[key], **changed)


class MemoryHolds:
    """Keeps the contract of the port `HoldStore`."""

    def __init__(self) -> None:
        self.rows: dict[bytes, HoldRow] = {}

    def put_hold(self, row: HoldRow) -> None:
        before = self.rows.get(row.hold, row)
        self.rows[row.hold] = replace(row, scope=before.scope, vault_epoch=before.vault_epoch)

    def holds(self) -> list[HoldRow]:
        return [row for row in self.rows.values() if not row.released]

    def find_hold(self, hold: bytes) -> HoldRow | None:
        return self.rows.get(hold)

    def end_hold(self, hold: bytes) -> None:
        row = self.rows[hold]
        self.rows[hold] = replace(row, released=True, scope=bytes(len(row.scope)))

    def reseal_holds(self, scopes: Mapping[bytes, bytes], *, epoch: int) -> None:
        for hold, scope in scopes.items():
            assert len(scope) == len(self.rows[hold].scope), "a scope is overwritten where it stands"
            self.rows[hold] = replace(self.rows[hold], scope=scope, vault_epoch=epoch)


class TokenIndex:
    """Keeps the contract of the port `Index`: a loop over all leaves and their tokens."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.tokens: list[frozenset[int]] = []

    def size(self) -> TreeSize:
        return TreeSize(len(self.leaves))

    def add(self, first: LeafIndex, leaves: Many[bytes], tokens: Many[Collection[int]]) -> None:
        assert first == len(self.leaves)
        self.leaves += leaves
        self.tokens += map(frozenset, tokens)

    def forget(self, indices: Many[LeafIndex]) -> None:
        for index in indices:
            self.tokens[index] = frozenset()

    def find(self, audit_id: bytes) -> LeafIndex | None:
        raise NotImplementedError

    def find_position(self, writer: WriterId, sequence: int) -> LeafIndex | None:
        raise NotImplementedError

    def search(
        self,
        query: log_pb2.SearchRecordsRequest,
        *,
        tokens: Many[Collection[int]],
        after: LeafIndex | None,
        limit: int,
    ) -> list[LeafIndex]:
        found = [
            LeafIndex(at)
            for at, leaf in enumerate(self.leaves)
            if all(self.tokens[at] & frozenset(some) for some in tokens) and matches(query, parse_or_none(leaf), None)
        ]
        if query.newest_first:
            found = [at for at in reversed(found) if after is None or at < after]
        return [at for at in found if query.newest_first or after is None or at > after][:limit]
