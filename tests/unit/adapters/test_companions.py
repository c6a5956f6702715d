# SPDX-License-Identifier: Apache-2.0
"""Rule S6 on the real file: what was overwritten stands nowhere any more, in no page, no WAL, no shared memory."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, bindparam, select, update

from iap_authz.adapters.trail import store
from iap_authz.adapters.trail.companions import SqlCompanions
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.seal_tables import IS_ERASED, NO_KEY, companions, subject_keys
from iap_authz.adapters.trail.store import open_trail, reading, truncate_wal, writing
from iap_authz.errors import Corrupt, Unavailable
from iap_authz.ports import NO_ERASURE, RoundRows
from iap_authz.records.seal import SALT_BYTES, SEALED_KEY_BYTES, PreparedKey, take_key
from iap_authz.tlog.hashing import LeafIndex, TreeSize
from tests.fakes.journal import ORIGIN

ERASURE = b"\xee" * 16


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_trail(tmp_path / "trail")
    yield opened
    opened.dispose()


class Sent:
    """Companions of made-up keys, whose bytes nothing else has."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.sealed: list[bytes] = []
        self.companions: list[bytes] = []
        self.besides: list[tuple[LeafIndex, bytes]] = []
        self.size = 0

    def key(self, *, seal_epoch: int = 0) -> bytes:
        sealed, key_id = self.random.randbytes(SEALED_KEY_BYTES), self.random.randbytes(16)
        prepared = PreparedKey(secret=bytes(32), key_id=key_id, sealed=sealed)
        self.sealed.append(sealed)
        self.companions.append(take_key(prepared, vault_epoch=1, seal_epoch=seal_epoch).companion)
        return self.companions[-1]

    def round(self, companions_: Sequence[bytes]) -> RoundRows:
        """A round of so many sealed leaves, with others in between."""
        rows = []
        for content in companions_:
            self.size += self.random.randrange(1, 4)
            rows.append((LeafIndex(self.size), self.random.randbytes(SALT_BYTES) + content))
        self.size += 1
        self.besides += rows
        return RoundRows(size=TreeSize(self.size), notes=(), batches=(), writers=(), companions=tuple(rows))


def files_of(engine: Engine) -> bytes:
    """Every byte of the trail on the disk."""
    folder = Path(str(engine.url.database)).parent
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def overwrite(engine: Engine, numbers: Sequence[int]) -> None:
    """What an erasure does to these keys."""
    with writing(engine) as connection:
        lengths = connection.execute(
            select(subject_keys.c.number, subject_keys.c.companion).where(subject_keys.c.number.in_(numbers))
        ).all()
        zeros = [{"at": number, "zeros": bytes(len(content))} for number, content in lengths]
        connection.execute(
            update(subject_keys)
            .where(subject_keys.c.number == bindparam("at"))
            .values(sealed=bytes(SEALED_KEY_BYTES), companion=bindparam("zeros"), erasure=ERASURE),
            zeros,
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_s6_no_byte_of_an_erased_key_is_left_in_any_file(engine: Engine, seed: int) -> None:
    sent, ledger = Sent(seed), SqlLedger(engine, origin=ORIGIN)
    erased, random = set[int](), Random(seed)
    for _ in range(30):
        news = [sent.key(seal_epoch=random.choice([0, 5, 1 << 40])) for _ in range(random.randrange(1, 90))]
        olds = random.choices(sent.companions, k=random.randrange(90))
        ledger.add(sent.round(random.sample([*news, *olds], len(news) + len(olds))))
        if random.random() < 0.4:
            chosen = random.sample(range(1, len(sent.sealed) + 1), len(sent.sealed) // 10)
            erased.update(chosen)
            overwrite(engine, chosen)
    truncate_wal(engine)
    on_disk, by_sealed = files_of(engine), {one: number for number, one in enumerate(sent.sealed)}
    kept = {key.number: key.sealed for key in SqlCompanions(engine).keys(range(1, len(sent.sealed) + 1)).values()}
    gone = set(by_sealed) - set(kept.values())
    assert len(gone) == len(erased) > 100
    assert not [one for one in gone if one in on_disk or one[:24] in on_disk or one[-24:] in on_disk]
    for one in set(kept.values()) - {b""}:
        assert on_disk.count(one) == 2, "in its column and in its companion, and nowhere else"


def test_s7_a_resealed_key_leaves_nothing_of_the_former_one_but_the_companion_as_it_came(engine: Engine) -> None:
    sent, kept = Sent(), SqlCompanions(engine)
    SqlLedger(engine, origin=ORIGIN).add(sent.round([sent.key() for _ in range(700)]))
    random = Random(5)
    new = {key.number: random.randbytes(SEALED_KEY_BYTES) for key in kept.keys_to_reseal(2, limit=600)}
    kept.reseal(new, epoch=2)
    on_disk = files_of(engine)
    with reading(engine) as connection:
        rows = connection.execute(select(subject_keys.c.number, subject_keys.c.companion)).all()
    sealed = {row.number: row.companion for row in rows}
    old = [sealed[number][2 : 2 + SEALED_KEY_BYTES] for number in new]
    assert [on_disk.count(one) for one in old] == [1] * 600
    assert [on_disk.count(one) for one in new.values()] == [1] * 600


def test_s6_salts_that_are_overwritten_are_gone_too(engine: Engine) -> None:
    sent = Sent()
    rows = sent.round([sent.key() for _ in range(900)])
    SqlLedger(engine, origin=ORIGIN).add(rows)
    with writing(engine) as connection:
        connection.execute(
            update(companions).where(companions.c.log_index == bindparam("at")),
            [
                {"at": index, "key": NO_KEY, "salt": bytes(SALT_BYTES), "erasure": ERASURE}
                for index, _ in rows.companions[100:]
            ],
        )
    truncate_wal(engine)
    on_disk = files_of(engine)
    assert not [beside for _, beside in rows.companions[100:] if beside[:SALT_BYTES] in on_disk]
    assert all(on_disk.count(beside[:SALT_BYTES]) == 1 for _, beside in rows.companions[:100])


def test_the_index_of_erased_rows_is_used(engine: Engine) -> None:
    wanted = select(companions.c.log_index).where(companions.c.erasure == bindparam("erasure"), IS_ERASED)
    with reading(engine) as connection:
        text = str(wanted.compile(dialect=connection.dialect))
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (ERASURE,)).all()
    assert "companions_by_erasure" in str(plan)


def test_the_wal_is_empty_afterwards_and_what_is_in_use_is_said(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, ledger = Sent(), SqlLedger(engine, origin=ORIGIN)
    ledger.add(sent.round([sent.key()]))
    assert (tmp_path / "trail-wal").stat().st_size > 0
    truncate_wal(engine)
    assert (tmp_path / "trail-wal").stat().st_size == 0
    engine.dispose()
    monkeypatch.setitem(store._SETTINGS, "busy_timeout", (1, 1))  # noqa: SLF001 - nobody waits for ten seconds here
    impatient = open_trail(tmp_path / "trail")
    SqlLedger(impatient, origin=ORIGIN).add(sent.round([sent.key()]))
    with reading(impatient) as other:
        other.execute(select(companions)).all()
        SqlLedger(impatient, origin=ORIGIN).add(sent.round([sent.key()]))
        with pytest.raises(Unavailable, match="could not be emptied"):
            truncate_wal(impatient)
    truncate_wal(impatient)
    impatient.dispose()


def test_f19_a_flipped_byte_opens_nothing_and_stops_nobody(tmp_path: Path) -> None:
    sent, path = Sent(), tmp_path / "flipped"
    engine = open_trail(path)
    rows = sent.round([sent.key() for _ in range(4)])
    SqlLedger(engine, origin=ORIGIN).add(rows)
    truncate_wal(engine)
    engine.dispose()
    whole = path.read_bytes()
    spot = whole.index(sent.sealed[0])
    places = [*range(spot - 60, spot + 130, 3), *range(whole.index(rows.companions[0][1][:8]) - 20, spot, 997)]
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        try:
            flipped = open_trail(path)
        except Corrupt:
            continue
        look(flipped, [index for index, _ in rows.companions])
        flipped.dispose()
        for left in ("flipped-wal", "flipped-shm"):
            (tmp_path / left).unlink(missing_ok=True)


def look(engine: Engine, indices: Sequence[LeafIndex]) -> None:
    """Every question is answered, or the damage is named."""
    kept = SqlCompanions(engine)
    try:
        found = kept.find(indices)
        for key in kept.keys({row.key for row in found.values()} | {1 << 63, (1 << 64) - 1}).values():
            assert len(key.key_id) in {0, 16}
        kept.count_keys()
        kept.keys_to_reseal(2, limit=9)
    except Corrupt:
        return


def test_companions_of_leaves_of_no_batch_need_the_logs_name(engine: Engine) -> None:
    sent = Sent()
    rows = sent.round([sent.key()])
    with pytest.raises(ValueError, match="which is of no batch"):
        SqlLedger(engine).add(rows)
    assert SqlCompanions(engine).size() == 0
    SqlLedger(engine, origin=ORIGIN).add(rows)
    assert SqlCompanions(engine).find([rows.companions[0][0]])


def test_companions_out_of_order_or_beyond_are_refused(engine: Engine) -> None:
    sent, ledger = Sent(), SqlLedger(engine, origin=ORIGIN)
    one, two = sent.round([sent.key(), sent.key()]).companions
    for bad in ((two, one), (one, one), (one, (LeafIndex(sent.size), two[1]))):
        rows = RoundRows(size=TreeSize(sent.size), notes=(), batches=(), writers=(), companions=bad)
        with pytest.raises(ValueError, match="want rising ones"):
            ledger.add(rows)
    assert SqlCompanions(engine).find([one[0], two[0]]) == {}


def test_no_row_is_ever_deleted(engine: Engine, tmp_path: Path) -> None:
    """Clearing the ledger keeps what no leaf could bring back."""
    sent, ledger = Sent(), SqlLedger(engine, origin=ORIGIN)
    rows = sent.round([sent.key()] * 3)
    ledger.add(rows)
    ledger.clear()
    kept = SqlCompanions(engine)
    assert kept.size() == 0
    assert len(kept.find([index for index, _ in rows.companions])) == 3
    with closing(sqlite3.connect(tmp_path / "trail")) as other:
        assert other.execute("SELECT count(*), max(erasure) FROM subject_keys").fetchone() == (1, NO_ERASURE)
