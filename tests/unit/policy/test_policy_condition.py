# SPDX-License-Identifier: Apache-2.0
"""What a text becomes over `facts`, and that nothing is evaluated whose reads are not those that were checked."""

import dataclasses

import pytest
from cel_expr_python import cel

from iap_authz.policy.condition import Checked, Levels, check_text, compile_checked
from iap_authz.policy.environment import NotCompiled
from iap_authz.policy.reads import Read


def checked(text: str, **levels: str) -> Checked:
    held = Levels(names=tuple(levels))
    environment = held.environment()
    for name, level in levels.items():
        held.checked[name] = check_text(environment, level, held, wanted=cel.Type.BOOL)
    return check_text(environment, text, held, wanted=cel.Type.BOOL)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("device.managed", "facts.device.managed"),
        (".device.managed", ".facts.device.managed"),
        ("device . managed", "facts.device . managed"),
        ("now > identity.expires", "facts.now > facts.identity.expires"),
        ('"device" == identity.claims.device', '"device" == facts.identity.claims.device'),
        (
            "identity.groups.exists(g, g == request.method)",
            "facts.identity.groups.exists(g, g == facts.request.method)",
        ),
        ('"\u00e9\U0001f600" != "" && device.lost', '"\u00e9\U0001f600" != "" && facts.device.lost'),
        ("!level.a", "!(facts.device.managed\n)"),
        ("level\n.\na", "(facts.device.managed\n)"),
        ("level.`a` && level.b", "(facts.device.managed\n) && ((facts.device.managed\n) // device\n)"),
        ("device.state == ABSENT", "facts.device.state == ABSENT"),
    ],
)
def test_names_are_rewritten_by_their_positions(text: str, expanded: str) -> None:
    result = checked(text, a="device.managed", b="level.a // device")
    assert result.expanded == expanded
    assert compile_checked(result).return_type() == cel.Type.BOOL


def test_a_level_split_by_a_comment_is_refused() -> None:
    with pytest.raises(NotCompiled, match=r"got level\.a in an unusual place"):
        checked("level // x\n.a", a="true")


def test_an_expression_with_other_reads_than_those_checked_is_refused() -> None:
    good = checked("device.managed && has(device.lost)")
    compile_checked(good)
    nothing: frozenset[Read] = frozenset()
    for wrong in (
        dataclasses.replace(good, plain=nothing),
        dataclasses.replace(good, guarded=nothing),
        dataclasses.replace(good, expanded="facts.device.revoked && has(facts.device.lost)"),
    ):
        with pytest.raises(NotCompiled, match="got other reads in"):
            compile_checked(wrong)
