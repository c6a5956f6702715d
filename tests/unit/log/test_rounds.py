# SPDX-License-Identifier: Apache-2.0
"""Rounds go to the ledger in portions: each round in one of them, in order, and the last one reaches the size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.log.rounds import SLICE_COMPANIONS, Rendered, Round, slices
from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize
from tests.fakes.journal import ORIGIN


def rounds_of(counts: list[int]) -> list[Round]:
    """Rounds with so many companions each, and one leaf more."""
    made, size = list[Round](), 0
    for count in counts:
        first, size = size, size + count + 1
        checkpoint = Checkpoint(origin=ORIGIN, size=TreeSize(size), root=NodeHash(bytes(32)))
        made.append(
            Round(
                signed=SignedCheckpoint(checkpoint=checkpoint, note=b"%d" % size),
                rendered=(Rendered(leaves=(b"leaf",) * (count + 1)),),
                companions=tuple((LeafIndex(first + at), b"beside") for at in range(count)),
            )
        )
    return made


@given(st.lists(st.sampled_from([0, 1, 900, SLICE_COMPANIONS - 1, SLICE_COMPANIONS, SLICE_COMPANIONS + 1]), max_size=7))
def test_each_round_is_in_one_portion(counts: list[int]) -> None:
    rounds = rounds_of(counts)
    size = TreeSize((rounds[-1].size if rounds else 0) + 5)
    portions = list(slices(rounds, size=size))
    assert [note for rows in portions for note in rows.notes] == [(one.size, one.signed.note) for one in rounds]
    assert [one for rows in portions for one in rows.companions] == [two for one in rounds for two in one.companions]
    assert [rows.size for rows in portions] == [*(rows.notes[-1][0] for rows in portions[:-1]), size]
    for rows in portions:
        assert len(rows.companions) <= SLICE_COMPANIONS or len(rows.notes) == 1
        assert all(index < rows.size for index, _ in rows.companions)


@pytest.mark.parametrize("size", [0, 7])
def test_no_rounds_are_one_portion(size: int) -> None:
    (rows,) = slices([], size=TreeSize(size))
    assert (rows.size, rows.notes, rows.batches, rows.writers, rows.companions) == (size, (), (), (), ())
