# SPDX-License-Identifier: Apache-2.0
"""CEL: the two environments, and its complaints in our words with an offset into the text.

The *check* environment has what an operator writes: `identity`, `device`, `location`, `request`, `now` and
`level.<name>`. The *facts* environment has one variable, `facts`, and is the only one that evaluates: one typed
protobuf variable is the fastest form, and strings inside a message are not cut at NUL as Python strings are.

Invariant: a complaint is never a `bool` and never an exception of CEL's: `compile_text` gives a `Compiled` or raises
`Malformed` with `Complaints`. Serialised expressions are only read, never stored or hashed: they are not deterministic.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cel.expr import checked_pb2
from cel_expr_python import cel
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Malformed
from iap_authz.model.document import nearest
from iap_authz.model.reason import State

FAMILIES = ("identity", "device", "location", "request")
STATES = tuple(state.name for state in State)
RESERVED = frozenset((*FAMILIES, *STATES, "now", "facts", "level"))
"""Names that a comprehension must not give to its variable: they mean something else around it."""

_PACKAGE = "iap.facts.v1"
_COMPLAINT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")
_UNDEFINED_FIELD = re.compile(rf"undefined field '(\w+)' not found in struct '{_PACKAGE}\.(\w+)'", re.ASCII)
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_MESSAGE_MAX_CHARS = 200
_TOO_DEEP = "got an expression that nests deeper than CEL allows, want less"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One thing wrong with a condition, at a code point offset of its text."""

    offset: int
    message: str


class NotCompiled(Malformed):
    """A condition that CEL, or the rules in `reads`, does not take. `complaints` is never empty."""

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("; ".join(complaint.message for complaint in self.complaints))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A compiled text with its checked syntax tree."""

    expression: cel.Expression
    checked: checked_pb2.CheckedExpr


def _container() -> cel.ExpressionContainer:
    return cel.ExpressionContainer(name=_PACKAGE, aliases={name: f"{_PACKAGE}.State.{name}" for name in STATES})


def check_environment(levels: Iterable[str]) -> cel.Env:
    """What an operator's text is checked in."""
    variables = {family: cel.Type(f"{_PACKAGE}.{family.title()}") for family in FAMILIES}
    variables |= {f"level.{name}": cel.Type.BOOL for name in levels}
    return cel.NewEnv(container=_container(), variables={**variables, "now": cel.Type.TIMESTAMP})


@functools.cache
def facts_environment() -> cel.Env:
    """What is evaluated in: one variable, `facts`."""
    return cel.NewEnv(container=_container(), variables={"facts": cel.Type(f"{_PACKAGE}.Facts")})


def compile_text(environment: cel.Env, text: str, levels: Iterable[str] = ()) -> Compiled:
    """Compile `text`. Raises `NotCompiled`. `levels` are only for suggestions."""
    try:
        expression = environment.compile(text)
        wrapped = any_pb2.Any.FromString(expression.serialize())
        checked = checked_pb2.CheckedExpr()
        if not wrapped.Unpack(checked):
            raise NotCompiled([Complaint(offset=0, message="CEL gave no checked expression")])
    except RuntimeError as error:
        raise NotCompiled(_complaints(str(error), text, tuple(levels))) from None
    except DecodeError:
        raise NotCompiled([Complaint(offset=0, message=_TOO_DEEP)]) from None
    return Compiled(expression=expression, checked=checked)


def _complaints(error: str, text: str, levels: tuple[str, ...]) -> list[Complaint]:
    if "recursion" in error:
        return [Complaint(offset=0, message=_TOO_DEEP)]
    lines = text.split("\n")
    found: dict[Complaint, None] = {}
    for line, column, message in _COMPLAINT.findall(error):
        offset = 0
        if int(line) > 0:
            offset = sum(len(before) + 1 for before in lines[: int(line) - 1]) + int(column) - 1
        found[_in_words(message, text, min(offset, len(text)), levels)] = None
    return list(found) or [Complaint(offset=0, message=_bounded(error))]


def _bounded(message: str) -> str:
    plain = ascii(message)[1:-1].replace("\\'", "'")
    return plain if len(plain) <= _MESSAGE_MAX_CHARS else f"{plain[:_MESSAGE_MAX_CHARS]}..."


def _in_words(message: str, text: str, offset: int, levels: tuple[str, ...]) -> Complaint:
    field = _UNDEFINED_FIELD.match(message)
    if field:
        name, family = field[1], field[2]
        hint = nearest(name, _fields_of(family))
        found = text.find(name, offset)  # CEL points at the dot in front
        return Complaint(
            offset=found if found >= 0 else offset, message=f"unknown field {name} of {family.lower()}{hint}"
        )
    undeclared = _UNDECLARED.match(message)
    if undeclared:
        return _unknown_name(undeclared[1], text, offset, levels)
    return Complaint(offset=offset, message=_bounded(message[:1].lower() + message[1:].partition(" expecting ")[0]))


def _fields_of(message: str) -> tuple[str, ...]:
    descriptor = facts_pb2.DESCRIPTOR.message_types_by_name.get(message)
    return tuple(descriptor.fields_by_name) if descriptor is not None else ()


def _unknown_name(name: str, text: str, offset: int, levels: tuple[str, ...]) -> Complaint:
    """CEL points at the last dot of a dotted name, and at the parenthesis of a call: go back to where it starts."""
    root, _, rest = name.partition(".")
    start = text.rfind(root, 0, offset + len(root))
    start = start if start >= 0 else offset
    if root == "level" and rest:
        hint = nearest(rest, levels) or (f", want one of {', '.join(levels)}" if levels else ", this file has none")
        return Complaint(offset=max(text.find(rest, offset), start), message=f"unknown level {_bounded(rest)}{hint}")
    hint = nearest(root, sorted(RESERVED - {"facts"}))
    return Complaint(offset=start, message=f"unknown name {_bounded(root)}{hint}")
