# SPDX-License-Identifier: Apache-2.0
"""What every `Index` keeps, and what the one in SQLite keeps besides."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.trail import rows
from iap_authz.adapters.trail.index import SqlIndex
from iap_authz.adapters.trail.spans import SPAN_LEAVES
from iap_authz.adapters.trail.store import open_trail
from iap_authz.adapters.trail.terms import CACHE_MAX_TERMS, CACHED_TERM_MAX_BYTES, Terms
from iap_authz.errors import Malformed
from iap_authz.model.ids import WriterId
from iap_authz.model.reason import Reason, Verdict
from iap_authz.ports import Index
from iap_authz.records.record import parse_record, render_time
from iap_authz.tlog.hashing import LeafIndex, leaf_hash
from iap_authz.trail.match import BODIES, PERSONAL_FIELDS, UNKNOWN_BODY, matches, parse_or_none
from tests.fakes.clock import START
from tests.fakes.trail import (
    DIGESTS,
    NO_RECORD,
    WRITERS,
    MemoryIndex,
    add_plain,
    decision_leaf,
    heartbeat_leaf,
    mixed_leaves,
)

Query = log_pb2.SearchRecordsRequest
MIXED = mixed_leaves(300)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_trail(tmp_path / "trail")
    yield opened
    opened.dispose()


@pytest.fixture(params=["sql", "memory"])
def index(request: pytest.FixtureRequest, engine: Engine) -> Index:
    return SqlIndex(engine) if request.param == "sql" else MemoryIndex()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The SQL index of `MIXED`, added in uneven chunks."""
    engine = open_trail(tmp_path_factory.mktemp("filled") / "trail")
    index, first = SqlIndex(engine), 0
    for count in (1, 99, 200):
        add_plain(index, LeafIndex(first), MIXED[first : first + count])
        first += count
    yield index
    engine.dispose()


def search(index: Index, query: Query, *, after: int | None = None, limit: int = 1_000) -> list[int]:
    return [*index.search(query, tokens=(), after=None if after is None else LeafIndex(after), limit=limit)]


def test_a_new_index_is_empty(index: Index) -> None:
    assert index.size() == 0
    assert index.find(bytes(32)) is None
    assert index.find_position(WRITERS[0], 0) is None
    assert search(index, Query()) == []


def test_leaves_are_found_by_hash_and_by_position(index: Index) -> None:
    leaves = [decision_leaf(0), heartbeat_leaf(1), decision_leaf(0, writer=WRITERS[1]), NO_RECORD]
    add_plain(index, LeafIndex(0), leaves[:1])
    add_plain(index, LeafIndex(1), leaves[1:])
    assert index.size() == 4
    assert [index.find(leaf_hash(leaf)) for leaf in leaves] == [0, 1, 2, 3]
    assert [index.find_position(WRITERS[0], sequence) for sequence in (0, 1, 2)] == [0, 1, None]
    assert index.find_position(WRITERS[1], 0) == 2
    assert index.find_position(WriterId(bytes(32)), 0) is None


def test_the_first_of_equal_leaves_is_found(index: Index) -> None:
    add_plain(index, LeafIndex(0), [heartbeat_leaf(5), decision_leaf(1), decision_leaf(1), heartbeat_leaf(5)])
    assert index.find(leaf_hash(decision_leaf(1))) == 1
    assert index.find_position(WRITERS[0], 1) == 1
    assert index.find_position(WRITERS[0], 5) == 0


def test_hashes_that_share_their_first_bytes_are_told_apart(index: Index) -> None:
    leaf = decision_leaf(1)
    add_plain(index, LeafIndex(0), [leaf])
    assert index.find(leaf_hash(leaf)[: rows.AUDIT_KEY_BYTES] + bytes(24)) is None


@pytest.mark.parametrize("first", [0, 1, 3])
def test_leaves_are_added_where_the_index_ends(index: Index, first: int) -> None:
    add_plain(index, LeafIndex(0), [decision_leaf(0), decision_leaf(1)])
    with pytest.raises(ValueError, match=f"got leaves from {first} on, want those from 2 on"):
        add_plain(index, LeafIndex(first), [decision_leaf(2)])
    assert index.size() == 2
    assert index.find(leaf_hash(decision_leaf(2))) is None


def test_adding_nothing_changes_nothing(index: Index) -> None:
    add_plain(index, LeafIndex(0), [])
    assert index.size() == 0


@pytest.mark.parametrize("sequence", [-1, 1 << 63, (1 << 64) - 1])
def test_282_a_sequence_that_no_record_has_is_not_found(index: Index, sequence: int) -> None:
    add_plain(index, LeafIndex(0), [decision_leaf(0)])
    assert index.find_position(WRITERS[0], sequence) is None


def test_pages_follow_each_other_in_both_orders(index: Index) -> None:
    add_plain(index, LeafIndex(0), [decision_leaf(n, country="DE" if n % 2 else "FR") for n in range(10)])
    forward, backward = Query(country="DE"), Query(country="DE", newest_first=True)
    assert search(index, forward, limit=2) == [1, 3]
    assert search(index, forward, after=3, limit=2) == [5, 7]
    assert search(index, forward, after=9) == []
    assert search(index, backward, limit=2) == [9, 7]
    assert search(index, backward, after=7, limit=2) == [5, 3]
    assert search(index, backward, after=0) == []


@pytest.mark.parametrize("name", sorted(PERSONAL_FIELDS))
def test_s9_what_is_personal_is_found_by_tokens_only(index: Index, name: str) -> None:
    leaves = [decision_leaf(at, subject="alice@example.com") for at in range(3)]
    index.add(LeafIndex(0), leaves, [{7, -9}, (), {7}])
    query = Query(**{name: 64_500 if name == "asn" else "alice@example.com"})
    for tokens, want in (([{7}], [0, 2]), ([{7, 8}, {-9}], [0]), ([{8}], [])):
        assert index.search(query, tokens=tokens, after=None, limit=9) == want
    with pytest.raises(Malformed, match=name):
        index.search(query, tokens=[], after=None, limit=9)
    index.forget([LeafIndex(0)])
    assert index.search(query, tokens=[{7}], after=None, limit=9) == [2]


# ---- searches: SQL says what the predicate says


def stamps() -> st.SearchStrategy[int]:
    """Microseconds around the times of `MIXED`, in and out of range."""
    return st.integers(-2_500_000, 2_500_000) | st.sampled_from([-(10**9), 10**9])


@st.composite
def queries(draw: st.DrawFn) -> Query:
    query = Query(newest_first=draw(st.booleans()))
    some = {
        "verdicts": st.lists(st.sampled_from([*Verdict, 0]), max_size=3),
        "reasons": st.lists(st.sampled_from([Reason.ALLOWED, Reason.NO_ROUTE, Reason.EXPIRED]), max_size=3),
        "bodies": st.lists(st.sampled_from(["decision", "heartbeat", UNKNOWN_BODY, "alert"]), max_size=3),
    }
    one = {
        "rule": st.sampled_from(["engineers", "orders", "nobody"]),
        "route": st.sampled_from(["orders", "wiki", "engineers"]),
        "country": st.sampled_from(["DE", "FR", "XX"]),
        "writer": st.sampled_from([*WRITERS, bytes(32)]),
        "policy_digest": st.sampled_from([*DIGESTS[1:], bytes(32)]),
    }
    for name in draw(st.sets(st.sampled_from([*some, *one, "from", "to"]), max_size=4)):
        if name in some:
            getattr(query, name).extend(draw(some[name]))
        elif name in one:
            setattr(query, name, draw(one[name]))
        else:
            getattr(query, name).CopyFrom(render_time(START + timedelta(microseconds=draw(stamps()))))
            getattr(query, name).nanos += draw(st.sampled_from([0, 1, 999]))
    return query


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries(), after=st.none() | st.integers(0, 320), limit=st.integers(1, 400))
def test_sql_finds_what_the_predicate_accepts(filled: Index, query: Query, after: int | None, limit: int) -> None:
    found = [at for at, leaf in enumerate(MIXED) if matches(query, parse_or_none(leaf), None)]
    if query.newest_first:
        wanted = [at for at in reversed(found) if after is None or at < after]
    else:
        wanted = [at for at in found if after is None or at > after]
    assert search(filled, query, after=after, limit=limit) == wanted[:limit]


def test_every_body_is_told_apart_and_named_alike() -> None:
    assert rows.UNKNOWN_BODY == UNKNOWN_BODY
    assert {matches(Query(bodies=[body]), None, None) for body in BODIES - {UNKNOWN_BODY}} == {False}


def test_times_are_found_across_spans(engine: Engine) -> None:
    index = SqlIndex(engine)
    leaves = [heartbeat_leaf(n, time=START + timedelta(seconds=n)) for n in range(SPAN_LEAVES * 2 + 50)]
    for first in range(0, len(leaves), 3_000):
        add_plain(index, LeafIndex(first), leaves[first : first + 3_000])
    for begin, end in [(0, 3), (4_094, 4_099), (8_190, 8_195), (8_240, 9_000), (9_000, 9_001)]:
        query = Query(to=render_time(START + timedelta(seconds=end)))
        getattr(query, "from").CopyFrom(render_time(START + timedelta(seconds=begin)))
        assert search(index, query) == [*range(begin, min(end, len(leaves)))]


# ---- what the SQL index keeps besides


def test_s4_nothing_personal_is_in_the_file(tmp_path: Path) -> None:
    engine = open_trail(tmp_path / "trail")
    add_plain(SqlIndex(engine), LeafIndex(0), [decision_leaf(n, subject="alice@example.com") for n in range(50)])
    engine.dispose()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"engineers" in content
    assert b"alice" not in content


def test_an_index_goes_on_after_it_was_opened_again(tmp_path: Path) -> None:
    for first, count in ((0, 100), (100, 150), (250, 50)):
        engine = open_trail(tmp_path / "trail")
        index = SqlIndex(engine)
        assert index.size() == first
        add_plain(index, LeafIndex(first), MIXED[first : first + count])
        engine.dispose()
    engine = open_trail(tmp_path / "trail")
    found = search(SqlIndex(engine), Query(rule="engineers"))
    engine.dispose()
    assert found == [at for at, leaf in enumerate(MIXED) if matches(Query(rule="engineers"), parse_or_none(leaf), None)]


def test_a_cleared_index_is_built_anew(engine: Engine) -> None:
    index = SqlIndex(engine)
    add_plain(index, LeafIndex(0), MIXED)
    index.clear()
    assert index.size() == 0
    assert search(index, Query()) == []
    add_plain(index, LeafIndex(0), MIXED[100:200])
    assert search(index, Query(bodies=["decision"])) == [
        at for at, leaf in enumerate(MIXED[100:200]) if matches(Query(bodies=["decision"]), parse_or_none(leaf), None)
    ]


def test_an_addition_that_failed_leaves_nothing_behind(engine: Engine, tmp_path: Path) -> None:
    """The second half of the transaction is refused; what the first half cached or wrote must not be believed."""
    index = SqlIndex(engine)
    with closing(sqlite3.connect(tmp_path / "trail")) as other, other:
        other.execute("CREATE TRIGGER stop BEFORE INSERT ON spans BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(Exception, match="no room"):
        add_plain(index, LeafIndex(0), [decision_leaf(0, rule="first")])
    with closing(sqlite3.connect(tmp_path / "trail")) as other, other:
        other.execute("DROP TRIGGER stop")
    assert index.size() == 0
    add_plain(index, LeafIndex(0), [decision_leaf(0, rule="other"), decision_leaf(1, rule="first")])
    assert search(index, Query(rule="first")) == [1]


def test_284_too_many_values_are_refused(engine: Engine) -> None:
    index = SqlIndex(engine)
    with pytest.raises(Malformed, match="got 100000 values of verdicts"):
        search(index, Query(verdicts=range(100_000)))
    with pytest.raises(Malformed, match="values of bodies"):
        search(index, Query(bodies=[f"body {n}" for n in range(100_000)]))


def test_a_field_without_a_column_is_never_passed_over(engine: Engine) -> None:
    """All fields of a search are either answered or refused: none widens the answer in silence."""
    index = SqlIndex(engine)
    fields = {field.name for field in Query.DESCRIPTOR.fields}
    known = {"verdicts", "reasons", "rule", "route", "country", "from", "to", "writer", "policy_digest", "bodies"}
    page = {"page_size", "page_token", "newest_first", "with_evidence"}
    assert fields - known - page == PERSONAL_FIELDS
    assert search(index, Query(page_size=1, page_token="x", newest_first=True, with_evidence=True)) == []


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        (Query(), "SCAN records"),
        (Query(newest_first=True), "SCAN records"),
        (Query(writer=WRITERS[0]), "SEARCH records USING COVERING INDEX records_by_writer (writer=?)"),
        (Query(country="DE"), "SCAN records"),
    ],
    ids=["all", "newest", "writer", "country"],
)
def test_pages_come_in_order_without_a_sort(engine: Engine, query: Query, plan: str, tmp_path: Path) -> None:
    index = SqlIndex(engine)
    add_plain(index, LeafIndex(0), MIXED)
    statements = list[str]()
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.set_trace_callback(statements.append)
    search(index, query)
    (select,) = [statement for statement in statements if "FROM records" in statement]
    with closing(sqlite3.connect(tmp_path / "trail")) as other:
        assert [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {select}")] == [plan]


def test_the_cache_of_terms_is_bounded() -> None:
    terms = Terms()
    terms.keep({b"x" * (CACHED_TERM_MAX_BYTES + 1): 1})
    assert terms._cache == {}  # noqa: SLF001 - a bound on memory shows nowhere else
    for first in range(0, CACHE_MAX_TERMS * 2, 10_000):
        terms.keep({str(number).encode(): number for number in range(first, first + 10_000)})
    assert len(terms._cache) <= CACHE_MAX_TERMS  # noqa: SLF001 - the same


def test_a_long_term_is_found_too(engine: Engine) -> None:
    index = SqlIndex(engine)
    add_plain(
        index, LeafIndex(0), [decision_leaf(0, rule="r" * 1_000), decision_leaf(1), decision_leaf(2, rule="r" * 1_000)]
    )
    assert search(index, Query(rule="r" * 1_000)) == [0, 2]
    assert parse_record(decision_leaf(0, rule="r" * 1_000)).decision.rule == "r" * 1_000
