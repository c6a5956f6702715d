# SPDX-License-Identifier: Apache-2.0
"""What every `Companions` and every `SealEpochs` keeps (rules S2, S5, S6, S7)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from iap_authz.adapters.trail.companions import SqlCompanions
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.seal_epochs import SqlSealEpochs
from iap_authz.adapters.trail.seal_tables import NO_KEY, companions, seal_epochs, subject_keys
from iap_authz.adapters.trail.store import open_trail, writing
from iap_authz.errors import Corrupt
from iap_authz.model.ids import WriterId
from iap_authz.ports import NO_ERASURE, BatchRow, Companions, Ledger, RoundRows, SealEpochs
from iap_authz.records.log_leaves import log_id
from iap_authz.records.seal import SALT_BYTES, SEALED_KEY_BYTES, parse_beside, subject_key_info
from iap_authz.tlog.hashing import LeafIndex, TreeSize
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import VAULT, TestVault, seal_of, subject_key
from tests.fakes.stores import MemoryLedger, MemorySealEpochs

WRITER, OTHER = WriterId(b"\x01" * 32), WriterId(b"\x02" * 32)
ERASURE = b"\xee" * 16
SALT = b"\x77" * SALT_BYTES


@dataclass
class World:
    """A ledger, what it keeps beside leaves, and an erasure as another part of the trail does it."""

    ledger: Ledger
    kept: Companions
    erase: Callable[[Sequence[int], int], None]
    size: int = 0

    def add(self, *besides: tuple[int, bytes], writer: WriterId = WRITER, size: int = 0) -> RoundRows:
        """Rounds with these companions, all of one batch of `writer`, from the last size on."""
        begin, self.size = self.size, size or max(index for index, _ in besides) + 2
        batch = BatchRow(
            writer=writer,
            begin=begin,
            end=self.size - 1,
            first_index=LeafIndex(begin),
            round_size=TreeSize(self.size),
        )
        rows = RoundRows(
            size=TreeSize(self.size),
            notes=(),
            batches=(batch,),
            writers=(),
            companions=tuple((LeafIndex(index), beside) for index, beside in besides),
        )
        self.ledger.add(rows)
        return rows


def sql_world(engine: Engine) -> World:
    def erase(indices: Sequence[int], number: int) -> None:
        """What stands in `adapters.trail.erasures`, in two statements."""
        with writing(engine) as connection:
            for table, place, values in (
                (subject_keys, subject_keys.c.number == number, {"sealed": bytes(SEALED_KEY_BYTES)}),
                (companions, companions.c.log_index.in_(indices), {"key": NO_KEY, "salt": SALT}),
            ):
                connection.execute(update(table).where(place).values(erasure=ERASURE, **values))

    return World(SqlLedger(engine, origin=ORIGIN), SqlCompanions(engine), erase)


def memory_world() -> World:
    ledger = MemoryLedger()
    kept = ledger.companions
    return World(ledger, kept, lambda indices, _: kept.erase([LeafIndex(one) for one in indices], ERASURE, salt=SALT))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_trail(tmp_path / "trail")
    yield opened
    opened.dispose()


@pytest.fixture(params=["sql", "memory"])
def world(request: pytest.FixtureRequest, engine: Engine) -> World:
    return sql_world(engine) if request.param == "sql" else memory_world()


@pytest.fixture(params=["sql", "memory"])
def epochs(request: pytest.FixtureRequest, engine: Engine) -> SealEpochs:
    return SqlSealEpochs(engine) if request.param == "sql" else MemorySealEpochs()


def beside(**settings: int) -> bytes:
    return seal_of(ORIGIN, WRITER, **settings).beside  # type: ignore[arg-type]


def test_nothing_is_there_at_first(world: World) -> None:
    assert world.kept.size() == 0
    assert world.kept.find([]) == world.kept.find([LeafIndex(0), LeafIndex(5)]) == {}
    assert world.kept.keys([]) == world.kept.keys([0, 1, 7]) == {}
    assert (dict(world.kept.count_keys()), world.kept.keys_to_reseal(1, limit=9)) == ({}, [])


def test_s2_what_came_is_found_and_opens(world: World) -> None:
    sent = {3: beside(), 5: beside(seal_epoch=7), 1_000: beside()}
    world.add(*sent.items())
    assert world.kept.size() == 1_002
    found = world.kept.find([LeafIndex(index) for index in (3, 4, 5, 1_000, 1_001)])
    assert found.keys() == sent.keys()
    keys = world.kept.keys({row.key for row in found.values()})
    for index, row in found.items():
        companion, key = parse_beside(sent[index]), keys[row.key]
        assert (row.salt, row.erasure, key.erasure) == (sent[index][:SALT_BYTES], NO_ERASURE, NO_ERASURE)
        assert (key.number, key.writer, key.key_id) == (row.key, WRITER, companion.key_id)
        assert (key.sealed, key.vault_epoch) == (companion.sealed_subject_key, companion.vault_epoch)
        assert key.seal_epoch == companion.seal_epoch
        info = subject_key_info(ORIGIN, key.writer, key.key_id)
        assert len(VAULT.open(key.sealed, epoch=key.vault_epoch, info=info)) == 32


def test_many_are_found_at_once(world: World) -> None:
    key = subject_key(WRITER)
    sent = {index: seal_of(ORIGIN, WRITER, key=key).beside for index in range(0, 4_000, 3)}
    world.add(*sent.items())
    found = world.kept.find([LeafIndex(index) for index in range(4_000)])
    assert {index: row.salt for index, row in found.items()} == {at: one[:SALT_BYTES] for at, one in sent.items()}
    assert len({row.key for row in found.values()}) == 1
    assert dict(world.kept.count_keys()) == {1: 1}


def test_a_key_stands_once_and_apart_for_each_writer(world: World) -> None:
    key = subject_key(WRITER)
    world.add((0, seal_of(ORIGIN, WRITER, key=key).beside), (1, seal_of(ORIGIN, WRITER, key=key).beside))
    world.add((4, seal_of(ORIGIN, WRITER, key=key).beside))
    world.add((8, seal_of(ORIGIN, WRITER, key=key).beside), writer=OTHER)
    found = world.kept.find([LeafIndex(index) for index in (0, 1, 4, 8)])
    assert found[LeafIndex(0)].key == found[LeafIndex(1)].key == found[LeafIndex(4)].key != found[LeafIndex(8)].key
    writers = {key.writer for key in world.kept.keys({row.key for row in found.values()}).values()}
    assert writers == {WRITER, OTHER}


def test_a_leaf_of_no_batch_is_the_logs_own(world: World) -> None:
    own = seal_of(ORIGIN, log_id(ORIGIN)).beside
    rows = RoundRows(size=TreeSize(3), notes=(), batches=(), writers=(), companions=((LeafIndex(2), own),))
    world.ledger.add(rows)
    (row,) = world.kept.find([LeafIndex(2)]).values()
    assert world.kept.keys([row.key])[row.key].writer == log_id(ORIGIN)


def test_between_two_batches_stand_leaves_of_the_logs_own(world: World) -> None:
    def batch(writer: WriterId, first: int) -> BatchRow:
        return BatchRow(writer=writer, begin=0, end=2, first_index=LeafIndex(first), round_size=TreeSize(9))

    sent = tuple((LeafIndex(index), beside()) for index in (0, 1, 3, 4, 6, 8))
    batches = (batch(OTHER, 4), batch(WRITER, 0))
    world.ledger.add(RoundRows(size=TreeSize(9), notes=(), batches=batches, writers=(), companions=sent))
    found = world.kept.find([index for index, _ in sent])
    keys = world.kept.keys({row.key for row in found.values()})
    writers = [keys[found[index].key].writer for index, _ in sent]
    assert writers == [WRITER, WRITER, log_id(ORIGIN), OTHER, log_id(ORIGIN), log_id(ORIGIN)]


def test_rounds_that_come_again_change_nothing(world: World) -> None:
    rows = world.add((3, beside()), (4, beside()))
    before = dict(world.kept.find([LeafIndex(3), LeafIndex(4)]))
    world.ledger.add(rows)
    assert world.kept.find([LeafIndex(3), LeafIndex(4)]) == before
    assert dict(world.kept.count_keys()) == {1: 2}


def test_s6_rounds_that_come_again_bring_back_nothing_that_was_erased(world: World) -> None:
    rows = world.add((3, beside()), (4, beside()))
    number = world.kept.find([LeafIndex(3)])[LeafIndex(3)].key
    world.erase([3], number)
    world.ledger.clear()
    world.ledger.add(rows)
    erased = world.kept.find([LeafIndex(3)])[LeafIndex(3)]
    assert (erased.key, erased.salt, erased.erasure) == (0, SALT, ERASURE)
    key = world.kept.keys([number])[number]
    assert (key.sealed, key.key_id, key.erasure) == (b"", b"", ERASURE)
    assert world.kept.size() == rows.size


def test_s5_a_copy_of_an_erased_key_that_comes_late_is_not_kept(world: World) -> None:
    key = subject_key(WRITER)
    world.add((3, seal_of(ORIGIN, WRITER, key=key).beside))
    number = world.kept.find([LeafIndex(3)])[LeafIndex(3)].key
    world.erase([3], number)
    late = seal_of(ORIGIN, WRITER, key=key).beside
    world.add((9, late), (10, beside()))
    found = world.kept.find([LeafIndex(9), LeafIndex(10)])
    assert found[LeafIndex(9)].erasure == ERASURE
    assert (found[LeafIndex(9)].key, found[LeafIndex(9)].salt) == (number, late[:SALT_BYTES])
    assert found[LeafIndex(10)].erasure == NO_ERASURE
    assert world.kept.keys([number])[number].sealed == b""
    assert dict(world.kept.count_keys()) == {1: 1}


def test_s7_keys_are_resealed_and_erased_ones_are_not(world: World) -> None:
    vault = TestVault(1, 2)
    for at in range(4):
        world.add((at * 10 + 1, beside()))
    world.add((60, seal_of(ORIGIN, WRITER, vault=vault, epoch=2).beside))
    gone = world.kept.find([LeafIndex(11)])[LeafIndex(11)].key
    world.erase([11], gone)
    assert dict(world.kept.count_keys()) == {1: 3, 2: 1}
    some = world.kept.keys_to_reseal(2, limit=2)
    assert len(some) == 2
    rest = world.kept.keys_to_reseal(2, limit=100)
    assert {key.vault_epoch for key in rest} == {1}
    assert gone not in {key.number for key in rest}
    new = {key.number: bytes([key.number]) * SEALED_KEY_BYTES for key in rest}
    world.kept.reseal({**new, gone: b"x" * SEALED_KEY_BYTES}, epoch=2)
    assert world.kept.keys_to_reseal(2, limit=100) == []
    assert dict(world.kept.count_keys()) == {2: 4}
    keys = world.kept.keys([*new, gone])
    assert keys.pop(gone).sealed == b""  # type: ignore[attr-defined]
    assert {number: (key.sealed, key.vault_epoch) for number, key in keys.items()} == {
        number: (sealed, 2) for number, sealed in new.items()
    }
    world.kept.reseal({}, epoch=2)


def test_epochs_are_none_at_first_and_then_what_was_stored(epochs: SealEpochs) -> None:
    assert epochs.load() == (0, 0)
    for pair in ((1, 1), (2, 1), (2, 2), (2, 2), ((1 << 63) - 1, 7)):
        epochs.store(*pair)
        assert epochs.load() == pair


@pytest.mark.parametrize("pair", [(4, 3), (5, 2), (4, 9), (9, 2), (0, 0)])
def test_s5_no_epoch_goes_back(epochs: SealEpochs, pair: tuple[int, int]) -> None:
    epochs.store(5, 3)
    with pytest.raises(ValueError, match="want at least"):
        epochs.store(*pair)
    assert epochs.load() == (5, 3)


def test_epochs_outlive_the_process_and_flipped_ones_are_noticed(engine: Engine, tmp_path: Path) -> None:
    SqlSealEpochs(engine).store(5, 3)
    again = open_trail(tmp_path / "trail")
    assert SqlSealEpochs(again).load() == (5, 3)
    with writing(again) as connection:
        connection.execute(update(seal_epochs).values(seal_epoch=4))
    for act in (lambda: SqlSealEpochs(again).load(), lambda: SqlSealEpochs(again).store(9, 9)):
        with pytest.raises(Corrupt):
            act()
    again.dispose()


def test_reseal_takes_no_key_of_another_length(engine: Engine) -> None:
    world = sql_world(engine)
    world.add((1, beside()))
    with pytest.raises(ValueError, match="want 80"):
        world.kept.reseal({1: bytes(79)}, epoch=2)
    assert world.kept.keys([1])[1].vault_epoch == 1
