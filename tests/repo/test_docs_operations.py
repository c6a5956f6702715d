# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/operations.md: bounds, alarms, findings and messages are those of the code."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from iap_authz.records.findings import Kind
from iap_authz.records.log_inspect_findings import LogFault
from iap_authz.sidecar.log_alarms import Alarm
from tests.repo.pages import DOCS, code, rows_with
from tests.repo.tree import package_sources

OPERATIONS = DOCS / "operations.md"


@pytest.mark.parametrize("row", rows_with(OPERATIONS, "what", "bound", "constant"), ids=lambda row: row["what"])
def test_a_bound_is_that_of_the_code(row: dict[str, str]) -> None:
    module, _, name = code(row["constant"]).partition(":")
    assert getattr(importlib.import_module(module), name) == float(row["bound"].replace(",", ""))


def test_every_alarm_about_the_log_is_explained() -> None:
    rows = rows_with(OPERATIONS, "alarm", "means", "what to do")
    assert sorted(code(row["alarm"]) for row in rows) == sorted(alarm.value for alarm in Alarm)


def test_every_finding_of_fsck_is_explained() -> None:
    journals = rows_with(OPERATIONS, "finding", "means", "what to do")
    logs = rows_with(OPERATIONS, "finding of a log", "means", "what to do")
    assert {row["finding"] for row in journals} == {kind.value for kind in Kind}
    assert {row["finding of a log"] for row in logs} == {kind.value for kind in LogFault}


def texts_of(path: Path) -> str:
    """Every text in a source file but its docstrings, one a line; what is filled in is left out of it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in joined for part in node.values}
    inside |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = ["".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)) for node in joined]
    texts += [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside
    ]
    return "\n".join(texts)


def test_what_a_log_says_at_its_start_is_what_it_says() -> None:
    said = "\n".join(map(texts_of, package_sources()))
    phrases = [
        phrase.strip()
        for row in rows_with(OPERATIONS, "it says", "what has happened", "what to do")
        for phrase in re.split(r"; |\.\.\.", row["it says"])
    ]
    assert len(phrases) >= 10
    assert [phrase for phrase in phrases if phrase not in said] == []
