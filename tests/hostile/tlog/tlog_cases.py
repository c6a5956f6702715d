# SPDX-License-Identifier: Apache-2.0
"""What the hostile tests of the log share: an honest tree, an honest checkpoint, and the table of cases.

A test's id starts with the number of its row in the corpus. Each case is an attempt and the exception it must end in;
the attempts of one row share what an honest log would have answered, so that each is wrong in one respect only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from iap_authz.errors import IapError
from iap_authz.tlog.hashing import NodeHash
from iap_authz.tlog.note import (
    parse_note,
)
from tests.fakes.reference_tree import ReferenceTree
from tests.unit.tlog.tlog_keys import signed, signer

TREE = ReferenceTree.numbered(70)
EVIL = ReferenceTree([b"evil", *TREE.entries[1:]])
SIZE, INDEX = 21, 13
LEAF, PATH, ROOT = TREE.leaf(INDEX), TREE.path(INDEX, SIZE), TREE.root(SIZE)
VERIFIER = signer().verifier()
NOTE = signed(TREE, SIZE).note
TEXT = parse_note(NOTE).text
NOW = 1_800_000_000
JUNK = NodeHash(b"\x5a" * 32)


Row = tuple[int, str, Callable[[], object], type[IapError]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attempt against row `row`, and how it must end."""

    row: int
    name: str
    attempt: Callable[[], object]
    ends_in: type[IapError]


def cases_of(*sources: Callable[[], Iterator[Row]]) -> list[Case]:
    """All cases of these sources, for one parametrized test."""
    return [
        Case(row=row, name=name, attempt=attempt, ends_in=ends_in)
        for source in sources
        for row, name, attempt, ends_in in source()
    ]


def check_refused(case: Case) -> None:
    """The attempt ends as it must, with a message of the house: bounded, one line, no full stop."""
    with pytest.raises(case.ends_in) as caught:
        case.attempt()
    message = str(caught.value)
    assert len(message) < 600
    assert "\n" not in message
    assert not message.endswith(".")
