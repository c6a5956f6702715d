# SPDX-License-Identifier: Apache-2.0
"""One text with the levels it names -> one expression over `facts`, with its reads.

    operator   has(location.vpn) && level.eu
    expanded   has(facts.location.vpn) && (facts.location.country in ["DE", "FR"]
               )

The rewriting goes by the positions of names in the checked tree, never by searching text: a name inside a string, a
comment or a selected field is left alone. The newline in front of the closing parenthesis ends a comment.

Invariant: what was checked is what is evaluated. The expanded text is compiled and walked again, and its reads must be
those of the operator's text and levels together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cel.expr.syntax_pb2 import Expr
from cel_expr_python import cel

from iap_authz.errors import shown
from iap_authz.policy.environment import (
    FAMILIES,
    Compiled,
    Complaint,
    NotCompiled,
    check_environment,
    compile_text,
    facts_environment,
)
from iap_authz.policy.reads import Read, Reads, collect_reads

CONDITION_MAX_CHARS = 4_096
"""Longer than any condition that can be reviewed; bounds what one costs to compile."""

EXPANDED_MAX_CHARS = 16_384
"""The same with levels put in: a level that names a level twice doubles with each step."""

_LEVEL_BEFORE_DOT = re.compile(r"(?:\.[ \t\n]*)?\blevel[ \t\n]*\Z", re.ASCII)
_LEVEL_AFTER_DOT = re.compile(r"\.[ \t\n]*`?[a-z_][a-z0-9_]*`?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A text that holds in itself: what it becomes over `facts`, and what it reads, levels included."""

    expanded: str
    plain: frozenset[Read]
    guarded: frozenset[Read]
    iterates: bool


@dataclass(slots=True, kw_only=True)
class Levels:
    """The levels of one file while they are checked. A level that does not hold stands as `true` for its users.

    That is for messages alone: a file with any fault is never used.
    """

    names: tuple[str, ...]
    checked: dict[str, Checked] = field(default_factory=dict)

    def environment(self) -> cel.Env:
        """What texts of this file are checked in."""
        return check_environment(self.names)


NOTHING = Checked(expanded="true", plain=frozenset(), guarded=frozenset(), iterates=False)


def named_levels(environment: cel.Env, text: str, levels: Levels) -> frozenset[str]:
    """The levels that `text` names. Empty where it does not compile: its faults are reported elsewhere."""
    try:
        return collect_reads(_compiled(environment, text, levels).checked).levels
    except NotCompiled:
        return frozenset()


def check_text(environment: cel.Env, text: str, levels: Levels, *, wanted: cel.Type) -> Checked:
    """Check one text of the operator and put its levels in. Raises `NotCompiled` with all complaints."""
    compiled = _compiled(environment, text, levels)
    if compiled.expression.return_type() != wanted:
        got, want = compiled.expression.return_type().name().lower(), wanted.name().lower()
        raise NotCompiled([Complaint(offset=0, message=f"got an expression of type {got}, want {want}")])
    iterating = frozenset(name for name, level in levels.checked.items() if level.iterates)
    reads = collect_reads(compiled.checked, iterating)
    parts = [levels.checked.get(name, NOTHING) for name in sorted(reads.levels)]
    return Checked(
        expanded=_expand(text, compiled, levels.checked),
        plain=reads.plain.union(*(part.plain for part in parts)),
        guarded=reads.guarded.union(*(part.guarded for part in parts)),
        iterates=reads.iterates or any(part.iterates for part in parts),
    )


def _compiled(environment: cel.Env, text: str, levels: Levels) -> Compiled:
    if len(text) > CONDITION_MAX_CHARS:
        message = f"got {len(text)} characters, want at most {CONDITION_MAX_CHARS}"
        raise NotCompiled([Complaint(offset=0, message=message)])
    return compile_text(environment, text, levels.names)


def compile_checked(checked: Checked) -> cel.Expression:
    """The expression that is evaluated. Raises `NotCompiled` where levels nest too deep, or where reads went astray."""
    compiled = compile_text(facts_environment(), checked.expanded)
    reads: Reads = collect_reads(compiled.checked)
    if reads.plain != checked.plain or reads.guarded != checked.guarded:
        message = f"got other reads in {shown(checked.expanded)} than in what was written"
        raise NotCompiled([Complaint(offset=0, message=message)])
    return compiled.expression


def _expand(text: str, compiled: Compiled, levels: Mapping[str, Checked]) -> str:
    edits: dict[tuple[int, int], str] = {}
    positions = compiled.checked.source_info.positions
    for identifier, name in _names(compiled.checked.expr):
        offset = positions.get(identifier, 0)
        if name in FAMILIES or name == "now":
            if not text.startswith(name, offset):
                raise NotCompiled([Complaint(offset=offset, message=f"got {name} in an unusual place, want it plain")])
            edits[offset, offset] = "facts."
        elif name.startswith("level."):
            edits[_span_of_level(text, offset, name)] = (
                f"({levels.get(name.removeprefix('level.'), NOTHING).expanded}\n)"
            )
    if len(text) + sum(map(len, edits.values())) > EXPANDED_MAX_CHARS:
        message = f"got more than {EXPANDED_MAX_CHARS} characters with levels put in, want less"
        raise NotCompiled([Complaint(offset=0, message=message)])
    for (start, end), replacement in sorted(edits.items(), reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _span_of_level(text: str, dot: int, name: str) -> tuple[int, int]:
    """Where `level.<name>` starts and ends; CEL gives the position of its dot."""
    before, after = _LEVEL_BEFORE_DOT.search(text[:dot]), _LEVEL_AFTER_DOT.match(text, dot)
    if before is None or after is None:
        raise NotCompiled([Complaint(offset=dot, message=f"got {name} in an unusual place, want it in one piece")])
    return before.start(), after.end()


def _names(expr: Expr) -> list[tuple[int, str]]:
    """Expression id and name of every identifier, in no order of importance."""
    found: list[tuple[int, str]] = []
    pending = [expr]
    while pending:
        at = pending.pop()
        kind = at.WhichOneof("expr_kind")
        if kind == "ident_expr":
            found.append((at.id, at.ident_expr.name))
        elif kind == "select_expr":
            pending.append(at.select_expr.operand)
        elif kind == "call_expr":
            pending += at.call_expr.args
            if at.call_expr.HasField("target"):
                pending.append(at.call_expr.target)
        elif kind == "list_expr":
            pending += at.list_expr.elements
        elif kind == "struct_expr":
            for entry in at.struct_expr.entries:
                pending += [entry.map_key, entry.value]
        elif kind == "comprehension_expr":
            loop = at.comprehension_expr
            pending += [loop.iter_range, loop.accu_init, loop.loop_condition, loop.loop_step, loop.result]
    return found
