# SPDX-License-Identifier: Apache-2.0
"""Page sizes and page tokens."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Malformed
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.trail.paging import page_size, parse_token, render_token

Query = log_pb2.SearchRecordsRequest


@pytest.mark.parametrize(("asked", "given_"), [(0, 100), (1, 1), (1_000, 1_000)])
def test_a_page_size(asked: int, given_: int) -> None:
    assert page_size(Query(page_size=asked)) == given_


@pytest.mark.parametrize("asked", [1_001, 1_000_000_000, (1 << 32) - 1])
def test_282_a_page_size_beyond_the_bound_is_refused(asked: int) -> None:
    with pytest.raises(Malformed, match=f"got a page size of {asked}, want 1 to 1000"):
        page_size(Query(page_size=asked))


@given(last=st.integers(0, (1 << 63) - 1))
def test_a_token_continues_its_search(last: int) -> None:
    query = Query(rule="engineers", newest_first=True)
    query.page_token = render_token(query, LeafIndex(last))
    assert parse_token(query) == last
    query.page_size, query.with_evidence = 7, True
    assert parse_token(query) == last


def test_the_first_page_has_no_token() -> None:
    assert parse_token(Query()) is None


@pytest.mark.parametrize(
    "other",
    [Query(), Query(rule="orders"), Query(rule="engineers", newest_first=True), Query(rule="engineers", route="x")],
    ids=["all", "value", "order", "more"],
)
def test_a_token_of_another_search_is_refused(other: Query) -> None:
    other.page_token = render_token(Query(rule="engineers"), LeafIndex(5))
    with pytest.raises(Malformed, match="another search"):
        parse_token(other)


TOKEN = render_token(Query(), LeafIndex(5))


@pytest.mark.parametrize(
    "token",
    [
        "5",
        TOKEN[:-1],
        TOKEN[:-4],
        TOKEN + "AAAA",
        TOKEN + "=",
        TOKEN[:-1] + " ",
        " " + TOKEN[1:],
        TOKEN[:-1] + "+",
        "é" * 32,
        "=" * 32,
        "A" * 100_000,
        "\0" * 32,
    ],
)
def test_what_no_answer_held_is_refused(token: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_token(Query(page_token=token))
    assert len(str(caught.value)) < 300


def test_a_token_beyond_every_log_is_refused() -> None:
    content = base64.urlsafe_b64decode(TOKEN)
    token = base64.urlsafe_b64encode(b"\x80" + content[1:]).decode()
    with pytest.raises(Malformed):
        parse_token(Query(page_token=token))


def test_every_changed_character_of_the_digest_is_refused() -> None:
    for at in range(11, len(TOKEN)):
        token = TOKEN[:at] + ("A" if TOKEN[at] != "A" else "B") + TOKEN[at + 1 :]
        with pytest.raises(Malformed):
            parse_token(Query(page_token=token))
