# SPDX-License-Identifier: Apache-2.0
"""The contract of the ports `ErasureStore` and `HoldStore`: one suite for all that satisfy them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import Engine, insert, select

from iap_authz.adapters.trail.erasures import SqlErasures
from iap_authz.adapters.trail.legal_holds import SqlHolds
from iap_authz.adapters.trail.seal_tables import NO_KEY, U32, U64, companions, subject_keys
from iap_authz.adapters.trail.store import open_trail, writing
from iap_authz.adapters.trail.tables import records
from iap_authz.errors import Corrupt, NotFound
from iap_authz.ports import NO_ERASURE, ErasureRound, ErasureRow, ErasureStore, HoldRow, HoldStore, KeptCompanion, Stage
from iap_authz.records.erasure import WHOSE_BYTES, erasure_salt
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize, leaf_hash
from tests.fakes.clock import START
from tests.fakes.erasure_stores import MemoryErasures, MemoryHolds
from tests.fakes.sealed import SealingWriter
from tests.fakes.stores import MemoryCompanions
from tests.fakes.trail import FakeLeaves

ERASURE, OTHER, SECRET = b"\x01" * 16, b"\x02" * 16, b"\x03" * 32
PEOPLE, LEAVES = 3, 30
"""Leaf n is sealed with the key of person n % 3; keys are numbered from 1 on."""

SIZE = TreeSize(24)
"""The tree that is looked through; what stands behind it came later."""


class Trail(Protocol):
    """A store, and what it destroys, as a test looks at it."""

    @property
    def store(self) -> ErasureStore: ...

    @property
    def holds(self) -> HoldStore: ...

    def companion(self, index: int) -> KeptCompanion: ...

    def key(self, number: int) -> tuple[bytes, bytes]:
        """What is left of a subject key, and its erasure."""


class MemoryTrail:
    def __init__(self) -> None:
        self.companions, leaves = MemoryCompanions(), FakeLeaves()
        writer = SealingWriter()
        for index in range(LEAVES):
            leaves.leaves.append(writer.add_sealed(f"person-{index % PEOPLE}"))
            self.companions.add(LeafIndex(index), writer.writer, writer.besides[index])
        self.leaves = leaves
        self.store, self.holds = MemoryErasures(self.companions, leaves), MemoryHolds()

    def companion(self, index: int) -> KeptCompanion:
        return self.companions.rows[LeafIndex(index)]

    def key(self, number: int) -> tuple[bytes, bytes]:
        found = self.companions.subject_keys[number]
        return found.sealed, found.erasure


class SqlTrail:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store, self.holds = SqlErasures(engine), SqlHolds(engine)
        memory = MemoryTrail()
        with writing(engine) as connection:
            for number in range(1, PEOPLE + 1):
                row = memory.companions.subject_keys[number]
                beside = memory.companions.sent[LeafIndex(number - 1)]
                connection.execute(
                    insert(subject_keys),
                    {
                        "number": number,
                        "digest": number.to_bytes(16),
                        "writer": row.writer,
                        "companion": beside[32:],
                        "sealed": row.sealed,
                        "vault_epoch": U32.pack(1),
                        "seal_epoch": U64.pack(0),
                        "erasure": NO_ERASURE,
                    },
                )
            for index in range(LEAVES):
                kept = memory.companion(index)
                connection.execute(
                    insert(companions),
                    {
                        "log_index": index,
                        "key": U64.pack(kept.key),
                        "salt": kept.salt,
                        "erasure": NO_ERASURE,
                        "late": 0,
                        "round": U32.pack(0),
                    },
                )
                audit_id = leaf_hash(memory.leaves.leaves[index])
                connection.execute(
                    insert(records), {"log_index": index, "audit_key": index, "audit_id": audit_id, "body": 1}
                )

    def companion(self, index: int) -> KeptCompanion:
        with writing(self.engine) as connection:
            row = connection.execute(select(companions).where(companions.c.log_index == index)).one()
        return KeptCompanion(key=int.from_bytes(row.key), salt=row.salt, erasure=row.erasure)

    def key(self, number: int) -> tuple[bytes, bytes]:
        with writing(self.engine) as connection:
            row = connection.execute(select(subject_keys).where(subject_keys.c.number == number)).one()
        return row.sealed + row.companion, row.erasure


@pytest.fixture(params=["memory", "sql"])
def trail(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trail]:
    if request.param == "memory":
        yield MemoryTrail()
        return
    monkeypatch.setattr("iap_authz.adapters.trail.erasures.PART_LEAVES", 2)
    engine = open_trail(tmp_path / "trail.sqlite")
    try:
        yield SqlTrail(engine)
    finally:
        engine.dispose()


def row_of(erasure: bytes = ERASURE, stage: Stage = Stage.COUNTING) -> ErasureRow:
    return ErasureRow(
        erasure=erasure,
        stage=stage,
        seal_epoch=0,
        authority="DSR-42",
        officers=("olga",),
        asked=START,
        whose=b"w" * WHOSE_BYTES,
        secret=SECRET,
    )


def round_of(*, number: int = 1, count: int = 8, erasure: bytes = ERASURE, size: int = SIZE) -> ErasureRound:
    return ErasureRound(
        erasure=erasure, number=number, log_size=TreeSize(size), records=count, root=NodeHash(b"\x05" * 32)
    )


def of_person(number: int, *, below: int = SIZE) -> list[LeafIndex]:
    return [LeafIndex(index) for index in range(below) if index % PEOPLE == number]


def begin(trail: Trail, plan: list[LeafIndex], *, number: int = 1, size: int = SIZE) -> ErasureRound:
    """A round whose record is in the log."""
    begun = round_of(number=number, count=len(plan), size=size)
    trail.store.begin_round(replace(row_of(stage=Stage.ERASING), seal_epoch=7), begun, plan=plan)
    trail.store.set_index(begun, LeafIndex(40 + number))
    return trail.store.rounds(ERASURE)[number - 1]


def destroy(trail: Trail, begun: ErasureRound) -> list[int]:
    numbers, done = list[int](), begun.done
    while done < begun.records:
        before = done
        done, some = trail.store.destroy_next(begun)
        assert done > before
        numbers += some
    return numbers


def test_erasures_are_kept_and_changed(trail: Trail) -> None:
    first, second = row_of(), row_of(OTHER, Stage.WAITS_APPROVAL)
    trail.store.put(first)
    trail.store.put(second)
    assert (trail.store.find(ERASURE), trail.store.find(OTHER), trail.store.find(bytes(16))) == (first, second, None)
    assert trail.store.unfinished() == [first, second]
    changed = replace(first, stage=Stage.ERASING, officers=("olga", "piet"), seal_epoch=3, whose=b"v" * WHOSE_BYTES)
    trail.store.put(changed)
    assert trail.store.unfinished() == [changed, second]


@pytest.mark.parametrize("stage", [Stage.COMPLETE, Stage.FAILED, Stage.HELD, Stage.AMBIGUOUS])
def test_at_the_end_nothing_says_whose_it_was(trail: Trail, stage: Stage) -> None:
    trail.store.put(row_of())
    for _ in range(2):
        trail.store.end(ERASURE, stage)
        row = trail.store.find(ERASURE)
        assert row is not None
        assert (row.stage, row.whose, row.secret) == (stage, bytes(WHOSE_BYTES), bytes(32))
        assert trail.store.unfinished() == []


def test_a_round_is_begun_with_its_erasure(trail: Trail) -> None:
    plan = of_person(0)
    trail.store.put(row_of())
    begun = begin(trail, plan)
    assert begun == replace(round_of(count=len(plan)), index=LeafIndex(41))
    row = trail.store.find(ERASURE)
    assert row is not None
    assert (row.stage, row.seal_epoch) == (Stage.ERASING, 7)
    parts = [trail.store.plan(begun, part) for part in range(5)]
    assert [leaf for part in parts for leaf in part] == plan
    assert parts[-1] == []


def test_destroying_takes_the_plan_and_nothing_else(trail: Trail) -> None:
    plan = of_person(0)
    others = [trail.companion(index) for index in range(LEAVES) if index % PEOPLE]
    keys = [trail.key(number) for number in (2, 3)]
    begun = begin(trail, plan)
    assert set(destroy(trail, begun)) == {1}
    left, erasure = trail.key(1)
    assert (set(left), len(left) >= 80, erasure) == ({0}, True, ERASURE)
    for index in plan:
        assert trail.companion(index) == KeptCompanion(key=0, salt=erasure_salt(SECRET, index), erasure=ERASURE)
        assert trail.store.taken_by(index) == (ERASURE, 1)
    assert [trail.companion(index) for index in range(LEAVES) if index % PEOPLE] == others
    assert [trail.key(number) for number in (2, 3)] == keys
    assert trail.store.rounds(ERASURE)[0].done == len(plan)


def test_what_came_after_the_plan_is_late(trail: Trail) -> None:
    begun = begin(trail, of_person(0))
    assert trail.store.late(ERASURE) == []
    destroy(trail, begun)
    late = [index for index in of_person(0, below=LEAVES) if index >= SIZE]
    assert trail.store.late(ERASURE) == late
    assert {trail.store.taken_by(index) for index in late} == {(ERASURE, 0)}
    assert {trail.companion(index).erasure for index in late} == {ERASURE}
    assert trail.store.late(OTHER) == []
    trail.store.finish_round(begun)
    second = begin(trail, late, number=2, size=LEAVES)
    destroy(trail, second)
    assert trail.store.late(ERASURE) == []
    assert {trail.store.taken_by(index) for index in late} == {(ERASURE, 2)}


def test_a_leaf_that_another_erasure_has_taken_is_not_taken_again(trail: Trail) -> None:
    plan = of_person(0)
    destroy(trail, begin(trail, plan))
    other = round_of(count=1, erasure=OTHER)
    trail.store.begin_round(row_of(OTHER, Stage.ERASING), other, plan=plan[:1])
    trail.store.set_index(other, LeafIndex(50))
    with pytest.raises(Corrupt):
        trail.store.destroy_next(trail.store.rounds(OTHER)[0])
    assert trail.store.taken_by(plan[0]) == (ERASURE, 1)
    assert trail.companion(plan[0]).salt == erasure_salt(SECRET, plan[0])
    assert trail.store.rounds(OTHER)[0].done == 0


def test_a_round_that_was_interrupted_goes_on_behind_what_is_done(trail: Trail) -> None:
    plan = of_person(0)
    begun = begin(trail, plan)
    done, _ = trail.store.destroy_next(begun)
    assert 0 < done < len(plan)
    assert trail.store.plan(begun, 0) == plan[: len(trail.store.plan(begun, 0))], "the plan stays until the end"
    destroy(trail, trail.store.rounds(ERASURE)[0])
    assert {trail.companion(index).key for index in plan} == {0}


def test_a_finished_round_has_no_plan(trail: Trail) -> None:
    begun = begin(trail, of_person(0))
    destroy(trail, begun)
    for _ in range(2):
        trail.store.finish_round(begun)
        (found,) = trail.store.rounds(ERASURE)
        assert (found.finished, trail.store.plan(begun, 0)) == (True, [])


def test_leaves_that_share_keys_are_found(trail: Trail) -> None:
    assert trail.store.sharing({1}, 0, LEAVES) == of_person(0, below=LEAVES)
    assert trail.store.sharing({1, 3}, 4, 9) == [5, 6, 8]
    assert trail.store.sharing({99}, 0, LEAVES) == []
    destroy(trail, begin(trail, of_person(0)))
    assert trail.store.sharing({1}, 0, LEAVES) == []


def test_covered_leaves_come_with_their_salts_and_hashes(trail: Trail) -> None:
    plan = of_person(0)
    destroy(trail, begin(trail, plan))
    rows = trail.store.covered(ERASURE, 1, after=-1, limit=99)
    assert [row.index for row in rows] == plan
    assert [row.salt for row in rows] == [erasure_salt(SECRET, index) for index in plan]
    assert all(row.leaf_hash for row in rows)
    assert trail.store.covered(ERASURE, 1, after=plan[1], limit=2) == rows[2:4]
    assert trail.store.covered(ERASURE, 2, after=-1, limit=9) == []
    assert trail.store.taken_by(LeafIndex(1)) is None
    assert trail.store.taken_by(LeafIndex(99)) is None


def hold_of(hold: bytes = ERASURE) -> HoldRow:
    return HoldRow(hold=hold, authority="court", matter="12 O 34/26", officer="olga", scope=b"s" * 1_072, vault_epoch=1)


def test_holds_are_kept_changed_and_ended(trail: Trail) -> None:
    first, second = hold_of(), hold_of(OTHER)
    trail.holds.put_hold(first)
    trail.holds.put_hold(second)
    assert trail.holds.holds() == [first, second]
    changed = replace(first, index=LeafIndex(4), released_by=("olga", "piet"), release_authority="x", releasing=True)
    trail.holds.put_hold(replace(changed, scope=b"", vault_epoch=0))
    assert trail.holds.holds() == [changed, second], "the scope is not replaced by the way"
    for _ in range(2):
        trail.holds.end_hold(ERASURE)
        assert trail.holds.holds() == [second]
        assert trail.holds.find_hold(ERASURE) == replace(changed, released=True, scope=bytes(1_072))
    assert trail.holds.find_hold(bytes(16)) is None


def test_scopes_are_sealed_anew(trail: Trail) -> None:
    trail.holds.put_hold(hold_of())
    trail.holds.put_hold(hold_of(OTHER))
    trail.holds.reseal_holds({OTHER: b"t" * 1_072}, epoch=2)
    assert trail.holds.holds() == [hold_of(), replace(hold_of(OTHER), scope=b"t" * 1_072, vault_epoch=2)]


def test_what_is_not_there_cannot_be_changed(tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "trail.sqlite")
    trail = SqlTrail(engine)
    with pytest.raises(NotFound):
        trail.store.end(ERASURE, Stage.COMPLETE)
    with pytest.raises(NotFound):
        trail.holds.end_hold(ERASURE)
    with pytest.raises(NotFound):
        trail.holds.reseal_holds({ERASURE: b""}, epoch=1)
    engine.dispose()
    assert bytes(8) == NO_KEY
