# SPDX-License-Identifier: Apache-2.0
"""A file is read in one sitting, a function at one look, a call without counting its arguments."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.repo.tree import package_sources, shown

FILE_MAX_LINES = 400
FUNCTION_MAX_LINES = 40
NESTING_MAX_LEVELS = 3
POSITIONAL_MAX = 4
"""What may be given by position, after `self`. Two is the habit; more than four nobody reads without the signature."""

EXCEPTIONS: Mapping[str, str] = {}
"""`file` or `file:function`, and the reason that it may break a rule of this file. Empty is the aim."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[tuple[Function, bool]]:
    """Every function of a module, and whether it is a method: bound when called."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                static = any(isinstance(name, ast.Name) and name.id == "staticmethod" for name in child.decorator_list)
                yield child, isinstance(node, ast.ClassDef) and not static


def nesting(body: list[ast.stmt]) -> int:
    """How deep blocks stand in blocks. An `elif` is no deeper than its `if`; functions in functions start anew."""
    return max((depth_of(statement) for statement in body), default=0)


def depth_of(statement: ast.stmt) -> int:
    """The levels of blocks that one statement opens."""
    match statement:
        case ast.If(body=body, orelse=[ast.If() as chained]):
            return max(1 + nesting(body), depth_of(chained))
        case ast.For() | ast.AsyncFor() | ast.While() | ast.If():
            return 1 + nesting([*statement.body, *statement.orelse])
        case ast.With() | ast.AsyncWith():
            return 1 + nesting(statement.body)
        case ast.Try() | ast.TryStar():
            handlers = [inner for handler in statement.handlers for inner in handler.body]
            return 1 + nesting([*statement.body, *handlers, *statement.orelse, *statement.finalbody])
        case ast.Match(cases=cases):
            return 1 + nesting([inner for case in cases for inner in case.body])
        case _:
            return 0


def positional(function: Function, *, method: bool) -> int:
    """How many arguments a call may give by position."""
    return len(function.args.posonlyargs) + len(function.args.args) - method


def size_violations(name: str, source: str) -> Iterator[tuple[str, str]]:
    """What breaks a rule in one file: the place as `EXCEPTIONS` names it, and the measure."""
    lines = len(source.splitlines())
    if lines > FILE_MAX_LINES:
        yield name, f"got {lines} lines, want at most {FILE_MAX_LINES}"
    for function, method in functions(ast.parse(source)):
        place = f"{name}:{function.name}"
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_MAX_LINES:
            yield place, f"got {length} lines, want at most {FUNCTION_MAX_LINES}"
        if (levels := nesting(function.body)) > NESTING_MAX_LEVELS:
            yield place, f"got {levels} levels of nesting, want at most {NESTING_MAX_LEVELS}"
        if (count := positional(function, method=method)) > POSITIONAL_MAX and not is_given(function):
            yield place, f"got {count} arguments by position, want at most {POSITIONAL_MAX}"


def is_given(function: Function) -> bool:
    """Whether a signature is another's to choose: a special method's is the language's."""
    return function.name.startswith("__") and function.name.endswith("__") and function.name != "__init__"


def violations() -> Iterator[tuple[str, str]]:
    """What breaks a rule in the package."""
    for path in package_sources():
        yield from size_violations(shown(path), path.read_text())


def test_the_package_keeps_to_its_sizes() -> None:
    assert [f"{place}: {measure}" for place, measure in violations() if place not in EXCEPTIONS] == []


def test_no_exception_outlives_its_reason() -> None:
    assert EXCEPTIONS.keys() - {place for place, _ in violations()} == set()
    assert all(EXCEPTIONS.values())


def test_the_package_was_read() -> None:
    assert Path("iap_authz/errors.py") in {Path(shown(path)) for path in package_sources()}


BLOCKS = "def f(a):\n    for b in a:\n        if b:\n            with b:\n                {}"

PLANTED = {
    "long file": ("x = 1\n" * 401, "a.py: got 401 lines"),
    "long function": ("def f():\n" + "    x = 1\n" * 40, "a.py:f: got 41 lines"),
    "long method": ("class C:\n    async def f(self):\n" + "        x = 1\n" * 40, "a.py:f: got 41 lines"),
    "deep": (BLOCKS.format("while b: pass"), "a.py:f: got 4 levels"),
    "deep in an else": (
        "def f(a):\n    if a: pass\n    else:\n        for b in a:\n            if b:\n                while b: pass",
        "a.py:f: got 4 levels",
    ),
    "deep in a case": (BLOCKS.format("match b:\n                    case _: pass"), "a.py:f: got 4 levels"),
    "deep in a handler": (BLOCKS.format("try: pass\n                except b: pass"), "a.py:f: got 4 levels"),
    "positions": ("def f(a, b, c, d, e): pass", "a.py:f: got 5 arguments"),
    "positions of a method": ("class C:\n    def f(self, a, b, c, d, e): pass", "a.py:f: got 5 arguments"),
    "positions of a constructor": (
        "class C:\n    def __init__(self, a, b, c, d, e): pass",
        "a.py:__init__: got 5 arguments",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_violation_is_found(name: str) -> None:
    source, expected = PLANTED[name]
    ((place, measure),) = size_violations("a.py", source)
    assert f"{place}: {measure}".startswith(expected)


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n" * 400,
        "def f():\n" + "    x = 1\n" * 39,
        BLOCKS.format("pass"),
        "def f(a):\n    if a: pass\n    elif b: pass\n    elif c: pass\n    elif d: pass\n    elif e: pass",
        "def f(a, b, c, d, *, e): pass",
        "class C:\n    def f(self, a, b, c, d): pass\n    @staticmethod\n    def g(a, b, c, d): pass",
        "class C:\n    def __new__(cls, a, b, c, d, e): pass",
    ],
    ids=["file", "function", "nesting", "elif", "keywords", "methods", "special"],
)
def test_what_keeps_to_the_rules_is_not(source: str) -> None:
    assert list(size_violations("a.py", source)) == []
