# SPDX-License-Identifier: Apache-2.0
"""Stable words for numbers, also for those that a newer version wrote."""

import pytest

from iap_authz.model.reason import Reason, Verdict, code_of


@pytest.mark.parametrize("kind", [Verdict, Reason])
def test_every_number_has_its_word(kind: type[Verdict | Reason]) -> None:
    assert [code_of(kind, member.value) for member in kind] == [member.name.lower() for member in kind]


@pytest.mark.parametrize("kind", [Verdict, Reason])
def test_a_newer_number_stays_a_number(kind: type[Verdict | Reason]) -> None:
    assert code_of(kind, 9_999) == "9999"
