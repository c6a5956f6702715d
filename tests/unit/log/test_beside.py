# SPDX-License-Identifier: Apache-2.0
"""What a stage has beside its entries: read back as it was, each companion once, and any other bytes refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import Malformed
from iap_authz.log.beside import Beside, at_leaves, parse_besides, render_besides, shifted
from iap_authz.records.seal import COMPANION_MAX_BYTES, SALT_BYTES

companions = st.binary(min_size=1, max_size=COMPANION_MAX_BYTES)


@st.composite
def besides(draw: st.DrawFn) -> list[Beside]:
    """Rising offsets, some of them with the same companion."""
    some = draw(st.lists(companions, min_size=1, max_size=5))
    offsets = sorted(draw(st.sets(st.integers(0, 40_000), max_size=30)))
    salt = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)
    return [(offset, draw(salt) + draw(st.sampled_from(some))) for offset in offsets]


@given(besides())
def test_what_was_rendered_is_parsed(made: list[Beside]) -> None:
    data = render_besides(made)
    assert parse_besides(data, entries=40_001) == tuple(made)
    assert (data == b"") == (made == [])


@given(besides(), st.integers(0, 2_000))
def test_what_is_cut_or_longer_is_refused(made: list[Beside], at: int) -> None:
    data = render_besides(made)
    for bad in (data[: min(at, len(data) - 1)], data + b"\x00"):
        if bad and made:
            with pytest.raises(Malformed):
                parse_besides(bad, entries=40_001)


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_besides_or_malformed(data: bytes) -> None:
    try:
        found = parse_besides(data, entries=7)
    except Malformed:
        return
    assert parse_besides(render_besides(found), entries=7) == found
    assert all(offset < 7 for offset, _ in found)


def test_a_companion_stands_once() -> None:
    one = [(offset, bytes([offset]) * SALT_BYTES + b"c" * 102) for offset in range(100)]
    assert len(render_besides(one)) == 4 + 2 + 102 + 4 + 100 * 40


@pytest.mark.parametrize(
    ("offsets", "entries"), [((3, 3), 9), ((4, 3), 9), ((3, 9), 9), ((0,), 0)], ids=["twice", "back", "beyond", "none"]
)
def test_places_that_no_stage_has_are_refused(offsets: tuple[int, ...], entries: int) -> None:
    data = render_besides([(offset, bytes(SALT_BYTES) + b"companion") for offset in offsets])
    with pytest.raises(Malformed, match="want rising ones"):
        parse_besides(data, entries=entries)


def test_a_place_whose_companion_is_not_there_is_refused() -> None:
    data = bytearray(render_besides([(0, bytes(SALT_BYTES) + b"companion")]))
    data[-SALT_BYTES - 1] = 1
    with pytest.raises(Malformed):
        parse_besides(bytes(data), entries=1)


def test_offsets_become_places() -> None:
    made = [(0, b"a"), (4, b"b")]
    assert list(shifted(made, 10)) == [(10, b"a"), (14, b"b")]
    assert list(at_leaves(made, 300)) == [(300, b"a"), (304, b"b")]
