# SPDX-License-Identifier: Apache-2.0
"""Postings of the index: found in both directions over blocks, and gone when they are forgotten (PROTOCOL rule S9)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, func, select

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.trail.index import SqlIndex
from iap_authz.adapters.trail.postings_tables import postings
from iap_authz.adapters.trail.store import open_trail
from iap_authz.tlog.hashing import LeafIndex
from tests.fakes.trail import decision_leaf

LEAVES = 5_000
Query = log_pb2.SearchRecordsRequest


@pytest.fixture(scope="module")
def leaves() -> list[bytes]:
    return [decision_leaf(number, country="DE" if number % 2 else "FR") for number in range(LEAVES)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_trail(tmp_path / "trail.sqlite")
    yield engine
    engine.dispose()


def tokens_by_leaf() -> list[set[int]]:
    random = Random(4)
    return [{random.randrange(3), 10 + random.randrange(40), -1000 - number} for number in range(LEAVES)]


def filled(engine: Engine, leaves: Sequence[bytes]) -> tuple[SqlIndex, list[set[int]]]:
    index, tokens = SqlIndex(engine), tokens_by_leaf()
    for first in range(0, LEAVES, 777):
        index.add(LeafIndex(first), leaves[first : first + 777], tokens[first : first + 777])
    return index, tokens


def expected(tokens: list[set[int]], asked: list[set[int]], *, country: str = "") -> list[int]:
    return [
        at
        for at, there in enumerate(tokens)
        if all(there & one for one in asked) and country in ("", "DE" if at % 2 else "FR")
    ]


@pytest.mark.parametrize(
    "asked", [[{1}], [{1}, {12, 13}], [{0, 2}, {20}, {-1500, -1007}], [{99}], [{1}, {99}], [set()]]
)
@pytest.mark.parametrize("country", ["", "DE"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_in_both_directions_find_exactly_what_has_the_tokens(
    engine: Engine, leaves: list[bytes], asked: list[set[int]], country: str, *, newest_first: bool
) -> None:
    index, tokens = filled(engine, leaves)
    query, found, after = Query(country=country, newest_first=newest_first), list[int](), None
    while page := index.search(query, tokens=asked, after=after, limit=61):
        found, after = [*found, *page], page[-1]
    want = expected(tokens, asked, country=country)
    assert found == (want[::-1] if newest_first else want)


def test_what_is_forgotten_is_in_no_row(engine: Engine, leaves: list[bytes]) -> None:
    index, tokens = filled(engine, leaves)
    gone = [LeafIndex(at) for at in range(0, LEAVES, 3)]
    for _ in range(2):
        index.forget(gone)
    for at in gone:
        tokens[at] = set()
    assert list(index.search(Query(), tokens=[{1}], after=None, limit=LEAVES)) == expected(tokens, [{1}])
    with engine.connect() as connection:
        left = connection.execute(select(func.sum(func.length(postings.c.offsets)))).scalar_one() // 2
    assert left == sum(map(len, tokens))


def test_forgetting_nothing_and_the_unknown_changes_nothing(engine: Engine, leaves: list[bytes]) -> None:
    index, tokens = filled(engine, leaves)
    index.forget([])
    index.forget([LeafIndex(1 << 40)])
    assert list(index.search(Query(), tokens=[{2}], after=None, limit=LEAVES)) == expected(tokens, [{2}])


def test_clearing_takes_the_postings_too(engine: Engine, leaves: list[bytes]) -> None:
    index, _ = filled(engine, leaves)
    index.clear()
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(postings)).scalar_one() == 0
