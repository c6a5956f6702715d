# SPDX-License-Identifier: Apache-2.0
"""What a condition reads, from its checked syntax tree, and what no condition may do.

A *read* is a field of a family (`device.managed`), a key of a map field (`identity.claims[team]`), or `now`. A map that
is indexed by anything but a literal is a read of the whole map. `has(p)`, and `"k" in m` for a map field, make the
read p or m[k] *guarded*: the condition asks itself whether it is there.

Invariant: every fact reaches a condition through a read found here. So a family is refused as a value
(`[device].exists(d, d.managed)` would read unseen), maps are indexed only where they stand, and messages are not made.
The same walk serves the operator's text (`device.managed`) and the text over `facts` (`facts.device.managed`); that
both give the same reads is checked in `condition`.
"""

import enum
import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from cel.expr import checked_pb2
from cel.expr.syntax_pb2 import Expr
from cel_expr_python import cel
from google.protobuf.descriptor import FieldDescriptor

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import shown
from iap_authz.model.request import CREDENTIAL_HEADERS, UNTRUSTED_HEADERS
from iap_authz.policy.environment import FAMILIES, RESERVED, Complaint, NotCompiled, compile_text, facts_environment

_NEVER_READ = frozenset({"empty", "untrusted"})
"""`empty` is how a family says that a list is known to be empty; `untrusted` is what the client claims of itself."""

_PRUNED_MAPS = frozenset({"headers", "query_parameters"})
"""Maps of `request` that hold only what conditions name, so a condition must name it."""

_TIME_ZONE_PARTS = frozenset(
    [
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
    ]
)
_FIXED_ZONE = re.compile(r"UTC|[+-]\d{2}:\d{2}", re.ASCII)
_CONSTANTS_PROBED = {"duration": "duration({})", "timestamp": "timestamp({})", "matches": '"".matches({})'}
"""Functions whose literal argument CEL looks at only when it runs, and how to run them alone."""


class Kind(enum.Enum):
    """How it is told whether a read is set."""

    ALWAYS = enum.auto()
    """Readable whatever is known: `state`, `problem`, `source`."""
    AGE = enum.auto()
    """Readable in every state, if it is set."""
    NOW = enum.auto()
    OPTIONAL = enum.auto()
    """Set if the message has it."""
    MANY = enum.auto()
    """A list or map: set if it has an element or is known to have none."""
    ENTRY = enum.auto()
    """A key of a map."""
    PLAIN = enum.auto()
    """A scalar without presence: set if it is not its default."""


@dataclass(frozen=True, slots=True)
class Read:
    """One read. `family` is empty for `now`; `key` is None but for a key of a map."""

    family: str
    field: str
    key: str | None = None

    @property
    def path(self) -> str:
        """The read as records and messages show it."""
        dotted = f"{self.family}.{self.field}" if self.family else self.field
        return dotted if self.key is None else f"{dotted}[{self.key}]"

    @property
    def kind(self) -> Kind:
        """How it is told whether this read is set."""
        return _kind_of(self.family, self.field, "" if self.key is None else "entry")


NOW = Read("", "now")


@functools.cache
def _kind_of(family: str, name: str, entry: str) -> Kind:
    if not family:
        return Kind.NOW
    if name in ("state", "problem", "source"):
        return Kind.ALWAYS
    if name == "age":
        return Kind.AGE
    descriptor = _field(family, name)
    if descriptor is None:
        raise LookupError(f"no field {name} in {family}")
    if descriptor.is_repeated:
        return Kind.ENTRY if entry else Kind.MANY
    return Kind.OPTIONAL if descriptor.has_presence else Kind.PLAIN


@functools.cache
def _field(family: str, name: str) -> FieldDescriptor | None:
    return facts_pb2.DESCRIPTOR.message_types_by_name[family.title()].fields_by_name.get(name)


def _is_map(family: str, name: str) -> bool:
    descriptor = _field(family, name)
    message = descriptor.message_type if descriptor is not None else None
    return message is not None and message.GetOptions().map_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What one text reads. `levels` are those it names; `iterates`: it loops over what is not constant."""

    plain: frozenset[Read]
    guarded: frozenset[Read]
    levels: frozenset[str]
    iterates: bool


def collect_reads(checked: checked_pb2.CheckedExpr, iterating_levels: frozenset[str] = frozenset()) -> Reads:
    """All reads of a checked expression. Raises `NotCompiled` with everything that no condition may do."""
    walk = _Walk(checked=checked, iterating_levels=iterating_levels)
    walk.visit(checked.expr, loops=0)
    if walk.complaints:
        raise NotCompiled(walk.complaints)
    return Reads(
        plain=frozenset(walk.plain),
        guarded=frozenset(walk.guarded),
        levels=frozenset(walk.levels),
        iterates=walk.iterates,
    )


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One pass over one tree. `loops` counts the comprehensions over unbounded ranges around an expression."""

    checked: checked_pb2.CheckedExpr
    iterating_levels: frozenset[str]
    plain: set[Read] = field(default_factory=set)
    guarded: set[Read] = field(default_factory=set)
    levels: set[str] = field(default_factory=set)
    complaints: list[Complaint] = field(default_factory=list)
    iterates: bool = False

    def visit(self, expr: Expr, *, loops: int) -> None:
        kind = expr.WhichOneof("expr_kind")
        if kind == "const_expr":
            self._visit_constant(expr)
        elif kind == "ident_expr":
            self._visit_name(expr, loops=loops)
        elif kind == "select_expr":
            self._visit_select(expr, loops=loops)
        elif kind == "call_expr":
            self._visit_call(expr, loops=loops)
        elif kind == "comprehension_expr":
            self._visit_comprehension(expr, loops=loops)
        elif kind == "struct_expr" and expr.struct_expr.message_name:
            self._complain(expr, "got a message that is made here, want facts only")
        else:
            self._visit_all(_children(expr), loops=loops)

    def _visit_all(self, exprs: Iterator[Expr], *, loops: int) -> None:
        for expr in exprs:
            self.visit(expr, loops=loops)

    def _complain(self, expr: Expr, message: str) -> None:
        offset = self.checked.source_info.positions.get(expr.id, 0)
        self.complaints.append(Complaint(offset=offset, message=message))

    def _visit_constant(self, expr: Expr) -> None:
        constant = expr.const_expr
        if "\0" in constant.string_value or b"\0" in constant.bytes_value:
            self._complain(expr, "got a NUL character in a constant, want none")
        if not unicodedata.is_normalized("NFC", constant.string_value):
            self._complain(expr, "got a constant that is not in Unicode normalisation form C, want that: no name is")
        if constant.WhichOneof("constant_kind") == "null_value":
            self._complain(expr, "got null, want has(...): an unknown fact is never null")

    def _visit_name(self, expr: Expr, *, loops: int) -> None:
        name = expr.ident_expr.name
        if name.startswith("level."):
            level = name.removeprefix("level.")
            self.levels.add(level)
            if loops and level in self.iterating_levels:
                self._complain(expr, f"got {name}, which iterates, inside an iteration, want one over constants")
        elif name == "now":
            self.plain.add(NOW)
        elif name in FAMILIES or name == "facts":
            self._complain(expr, f"got {name} as a value, want one of its fields")

    def _visit_select(self, expr: Expr, *, loops: int) -> None:
        if _family(expr) == "now":
            self.plain.add(NOW)
            return
        read = self._read(expr)
        if read is None:
            self._complain(expr, "got a selection from a value, want a field of a family or a key of its map")
            self.visit(expr.select_expr.operand, loops=loops)
            return
        self._note(expr, read, guarded=expr.select_expr.test_only)

    def _read(self, expr: Expr) -> Read | None:
        """The read that a selection is, or None for any other expression."""
        if expr.WhichOneof("expr_kind") != "select_expr":
            return None
        operand, name = expr.select_expr.operand, expr.select_expr.field
        family = _family(operand)
        if family in FAMILIES:
            return Read(family, name)
        outer = self._read(operand)
        if outer is not None and outer.key is None and _is_map(outer.family, outer.field):
            return Read(outer.family, outer.field, name)
        return None

    def _note(self, expr: Expr, read: Read, *, guarded: bool) -> None:
        if read.field in _NEVER_READ:
            self._complain(expr, f"got {read.family}.{read.field}, which no condition reads")
            return
        if read.family == "request" and read.field in _PRUNED_MAPS:
            if read.key is None:
                self._complain(expr, f'got request.{read.field} as a whole, want request.{read.field}["name"]')
                return
            if read.field == "headers" and read.key.lower() in UNTRUSTED_HEADERS:
                self._complain(expr, f"got header {shown(read.key)}, which a client may write as it likes")
                return
            if read.field == "headers" and read.key.lower() in CREDENTIAL_HEADERS:
                self._complain(
                    expr, f"got header {shown(read.key)}, which the record would hold: read identity instead"
                )
                return
            if read.field == "headers" and read.key != read.key.lower():
                self._complain(expr, f"got header {shown(read.key)}, want lower case")
                return
        (self.guarded if guarded else self.plain).add(read)

    def _visit_call(self, expr: Expr, *, loops: int) -> None:
        call = expr.call_expr
        if call.function == "_[_]":
            self._visit_index(expr, loops=loops)
            return
        if call.function == "@in":
            read, key = self._read(call.args[1]), _text(call.args[0])
            if read is not None and read.key is None and key is not None and _is_map(read.family, read.field):
                self.visit(call.args[0], loops=loops)
                self._note(expr, Read(read.family, read.field, key), guarded=True)
                return
        self._check_constants(expr)
        self._visit_all(_children(expr), loops=loops)

    def _visit_index(self, expr: Expr, *, loops: int) -> None:
        container, index = expr.call_expr.args
        read, key = self._read(container), _text(index)
        if read is not None and read.key is None and _is_map(read.family, read.field):
            self._note(container, Read(read.family, read.field, key), guarded=False)
            self.visit(index, loops=loops)
            return
        container_type = self.checked.type_map[container.id].WhichOneof("type_kind")
        if container_type != "list_type" and container.WhichOneof("expr_kind") != "struct_expr":
            self._complain(expr, "got an index into a map that is a value, want it where the map stands")
        self._visit_all(_children(expr), loops=loops)

    def _check_constants(self, expr: Expr) -> None:
        function, arguments = expr.call_expr.function, expr.call_expr.args
        if function in _CONSTANTS_PROBED and arguments:
            literal = _text(arguments[-1])
            if literal is not None:
                self._probe(arguments[-1], function, literal)
            elif function == "matches":
                self._complain(arguments[-1], "got a pattern that is not a literal, want one in quotes")
        if function in _TIME_ZONE_PARTS and arguments and not _FIXED_ZONE.fullmatch(_text(arguments[-1]) or ""):
            want = 'want "UTC" or "+hh:mm" (location.local_hour is the hour at the place)'
            self._complain(arguments[-1], f"got a named time zone, which is a file of this machine, {want}")

    def _probe(self, argument: Expr, function: str, literal: str) -> None:
        """Run the one call with its literal: CEL finds a bad pattern or duration only then."""
        if "\0" in literal:
            return  # said of the constant itself
        text = _CONSTANTS_PROBED[function].format(render_text(literal))
        value = compile_text(facts_environment(), text).expression.eval()
        if value.type() == cel.Type.ERROR:
            message = str(value.plain_value()).partition(": ")[2]
            self._complain(argument, f"got {shown(literal)} for {function}: {message[:120]}")

    def _visit_comprehension(self, expr: Expr, *, loops: int) -> None:
        loop = expr.comprehension_expr
        for name in (loop.iter_var, loop.iter_var2):
            if name in RESERVED:
                self._complain(expr, f"got {name} as the name of a variable, want one that means nothing else")
        self.visit(loop.iter_range, loops=loops)
        unbounded = not _is_constant(loop.iter_range)
        if unbounded and loops:
            self._complain(expr, "got an iteration inside an iteration, want one of the two over constants")
        self.iterates = self.iterates or unbounded
        inner = loops + unbounded
        for part in (loop.accu_init, loop.loop_condition, loop.loop_step, loop.result):
            self.visit(part, loops=inner)


def _family(expr: Expr) -> str:
    """`device` for the variable `device` or for `facts.device`; empty for anything else."""
    kind = expr.WhichOneof("expr_kind")
    if kind == "ident_expr":
        return expr.ident_expr.name if expr.ident_expr.name in FAMILIES else ""
    operand = expr.select_expr.operand if kind == "select_expr" else None
    if operand is not None and operand.ident_expr.name == "facts":
        return str(expr.select_expr.field)
    return ""


def _text(expr: Expr) -> str | None:
    constant = expr.const_expr if expr.WhichOneof("expr_kind") == "const_expr" else None
    if constant is None or constant.WhichOneof("constant_kind") != "string_value":
        return None
    return str(constant.string_value)


def _children(expr: Expr) -> Iterator[Expr]:
    """What a call, list, map literal or selection is made of."""
    kind = expr.WhichOneof("expr_kind")
    if kind == "call_expr":
        if expr.call_expr.HasField("target"):
            yield expr.call_expr.target
        yield from expr.call_expr.args
    elif kind == "list_expr":
        yield from expr.list_expr.elements
    elif kind == "struct_expr":
        for entry in expr.struct_expr.entries:
            if entry.HasField("map_key"):
                yield entry.map_key
            yield entry.value


def _is_constant(expr: Expr) -> bool:
    kind = expr.WhichOneof("expr_kind")
    if kind in ("list_expr", "struct_expr"):
        return all(_is_constant(child) for child in _children(expr))
    return bool(kind == "const_expr")


def render_text(text: str) -> str:
    """A CEL string literal: all but letters, digits and blanks as escapes."""
    return '"' + "".join(c if c.isascii() and (c.isalnum() or c == " ") else f"\\U{ord(c):08x}" for c in text) + '"'
