# SPDX-License-Identifier: Apache-2.0
"""The files of the database after an erasure, byte by byte: no key that was erased is left in any of them (S5, S6)."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, insert

from iap_authz.adapters.trail.erasures import PART_LEAVES, SqlErasures
from iap_authz.adapters.trail.legal_holds import SqlHolds
from iap_authz.adapters.trail.seal_tables import U32, U64, companions, subject_keys
from iap_authz.adapters.trail.store import open_trail, writing
from iap_authz.ports import NO_ERASURE, ErasureRound, ErasureRow, HoldRow, Stage
from iap_authz.records.erasure import WHOSE_BYTES
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize
from tests.fakes.clock import START

KEYS, LEAVES = 600, 6_000
ERASURE = b"\x01" * 16


@dataclass
class Made:
    """A database with keys in it; which secret bytes are whose."""

    file: Path
    engine: Engine
    sealed: dict[int, bytes]
    companions: dict[int, bytes]
    salts: dict[int, bytes]
    key_of: dict[int, int]

    def files(self) -> bytes:
        """All bytes that are on the disk."""
        return b"".join(path.read_bytes() for path in sorted(self.file.parent.iterdir()))


def make(folder: Path, *, seed: int = 5) -> Made:
    random, engine = Random(seed), open_trail(folder / "trail.sqlite")
    made = Made(folder / "trail.sqlite", engine, {}, {}, {}, {})
    index = 0
    while index < LEAVES:  # as the ledger does: many small transactions, rows in rising order
        with writing(engine) as connection:
            for _ in range(random.randrange(1, 400)):
                number = random.randrange(1, KEYS + 1)
                if number not in made.sealed:
                    number = len(made.sealed) + 1
                    made.sealed[number] = random.randbytes(80)
                    made.companions[number] = (
                        b"\x0a\x50" + made.sealed[number] + random.randbytes(random.choice([24, 26, 29]))
                    )
                    connection.execute(insert(subject_keys), _key_row(number, made))
                made.salts[index], made.key_of[index] = random.randbytes(32), number
                connection.execute(insert(companions), _companion_row(index, made))
                index += 1
    return made


def _key_row(number: int, made: Made) -> dict[str, object]:
    return {
        "number": number,
        "digest": number.to_bytes(16),
        "writer": bytes(32),
        "companion": made.companions[number],
        "sealed": made.sealed[number],
        "vault_epoch": U32.pack(1),
        "seal_epoch": U64.pack(0),
        "erasure": NO_ERASURE,
    }


def _companion_row(index: int, made: Made) -> dict[str, object]:
    return {
        "log_index": index,
        "key": U64.pack(made.key_of[index]),
        "salt": made.salts[index],
        "erasure": NO_ERASURE,
        "late": 0,
        "round": U32.pack(0),
    }


def row_of(erasure: bytes = ERASURE) -> ErasureRow:
    return ErasureRow(
        erasure=erasure,
        stage=Stage.ERASING,
        seal_epoch=1,
        authority="DSR-42",
        officers=("olga",),
        asked=START,
        whose=b"whose-is-it-" * 4 + b"-whose-i",
        secret=b"the secret of one erasure, 32 by",
    )


def erase(made: Made, numbers: set[int], *, size: int) -> SqlErasures:
    store, plan = SqlErasures(made.engine), [LeafIndex(at) for at, key in made.key_of.items() if key in numbers]
    begun = ErasureRound(
        erasure=ERASURE, number=1, log_size=TreeSize(size), records=len(plan), root=NodeHash(bytes(32))
    )
    store.begin_round(row_of(), begun, plan=plan)
    done = 0
    while done < len(plan):
        done, _ = store.destroy_next(begun)
    store.finish_round(begun)
    return store


@pytest.mark.parametrize("seed", range(3))
def test_no_byte_of_an_erased_key_is_left(tmp_path: Path, seed: int) -> None:
    made = make(tmp_path, seed=seed)
    numbers = set(Random(seed).sample(sorted(made.sealed), 200))
    before = made.files()
    assert all(made.sealed[number] in before for number in numbers)
    store = erase(made, numbers, size=len(made.key_of))
    assert len(made.key_of) > PART_LEAVES
    after = made.files()
    for number, sealed in made.sealed.items():
        assert (sealed in after, sealed[:16] in after) == (number not in numbers, number not in numbers)
        assert (made.companions[number] in after) == (number not in numbers)
    for index, salt in made.salts.items():
        assert (salt in after) == (made.key_of[index] not in numbers)
    assert row_of().whose in after
    store.end(ERASURE, Stage.COMPLETE)
    at_the_end = made.files()
    assert (row_of().whose in at_the_end, row_of().secret in at_the_end, len(row_of().whose)) == (
        False,
        False,
        WHOSE_BYTES,
    )
    made.engine.dispose()


def test_no_byte_of_a_released_scope_is_left(tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "trail.sqlite")
    random, holds = Random(3), SqlHolds(engine)
    scopes = {random.randbytes(16): random.randbytes(1_072) for _ in range(60)}
    for hold, scope in scopes.items():
        holds.put_hold(HoldRow(hold=hold, authority="court", matter="m", officer="olga", scope=scope, vault_epoch=1))
    ended = random.sample(sorted(scopes), 30)
    for hold in ended:
        holds.end_hold(hold)
    renewed = next(hold for hold in scopes if hold not in ended)
    holds.reseal_holds({renewed: random.randbytes(1_072)}, epoch=2)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for hold, scope in scopes.items():
        assert (scope[:32] in files) == (hold not in ended and hold != renewed)
    engine.dispose()
