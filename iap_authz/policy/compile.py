# SPDX-License-Identifier: Apache-2.0
"""Files of the operator -> `Policy`, or all their faults at once.

Invariant: a `Policy` exists only if every file, every condition, every level and all routes together hold. A fault
stops nothing until all have been looked at: what depends on something faulty is checked as if that were fine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cel_expr_python import cel

from iap_authz.errors import Malformed, shown
from iap_authz.model.document import Faults, Text, nearest
from iap_authz.policy.canonical import digest_of, render_canonical
from iap_authz.policy.compiled import Condition, Policy, Probe, Route, Rule, ShadowRule
from iap_authz.policy.condition import Checked, Levels, check_text, compile_checked, named_levels
from iap_authz.policy.environment import Complaint, NotCompiled, compile_text, facts_environment
from iap_authz.policy.parse import Reading, bundle_of, check_readings, read_files
from iap_authz.policy.patterns import parse_level_name
from iap_authz.policy.place import locate
from iap_authz.policy.reads import Kind, Read
from iap_authz.policy.routes import RouteIndex
from iap_authz.policy.source import PolicySource, RouteSource, RuleSource, SourceFile

_UNSOURCED = frozenset({Kind.ALWAYS, Kind.AGE, Kind.NOW})
"""What may be read whatever the state of its family is."""


def load_policy(files: Sequence[SourceFile]) -> Policy:
    """Compile all files of a bundle together. Raises `PolicyInvalid` with all faults of all files.

    No file at all is an empty bundle: it has no route, so it refuses everything.
    """
    return compile_readings(read_files(files))


def compile_readings(readings: Sequence[Reading]) -> Policy:
    """Compile what was read. Raises `PolicyInvalid` with the faults of reading and those found here."""
    ordered = sorted(
        (reading for reading in readings if reading.policy is not None),
        key=lambda reading: reading.policy.name.value if reading.policy is not None else "",
    )
    files = [_File(faults=reading.faults, policy=reading.policy) for reading in ordered if reading.policy is not None]
    routes = [route for file in files for route in file.compile_routes()]
    index = _index(files)
    check_readings(readings)
    canonical = render_canonical(bundle_of(readings))
    reads = {read for file in files for read in file.reads}
    return Policy(
        name="+".join(file.policy.name.value for file in files),
        digest=digest_of(canonical),
        canonical=canonical,
        routes=tuple(routes),
        headers_read=_keys(reads, "headers"),
        query_parameters_read=_keys(reads, "query_parameters"),
        headers_set=frozenset(name for route in routes for name, _ in route.set_headers),
        index=index,
    )


def _keys(reads: Iterable[Read], name: str) -> frozenset[str]:
    keys = (read.key for read in reads if read.family == "request" and read.field == name)
    return frozenset(key for key in keys if key is not None)


def _index(files: Sequence["_File"]) -> RouteIndex:
    """All routes of all files in one index; a tie is a fault of the later route."""
    index = RouteIndex()
    places = [(file, route) for file in files for route in file.policy.routes]
    for position, (file, route) in enumerate(places):
        for earlier, this in index.add(position, route.match):
            other_file, other = places[earlier.route]
            line = earlier.pattern.text.node.start_mark.line + 1
            text = this.pattern.text
            message = (
                f"ambiguous routes: {shown(text.value)} of {shown(route.name.value)} and "
                f"{shown(earlier.pattern.text.value)} of {shown(other.name.value)} "
                f"({other_file.faults.file}:{line}) tie on a request"
            )
            file.faults.add(text.node, text.path, message)
    return index


@dataclass(slots=True, kw_only=True)
class _File:
    """One file while it is compiled."""

    faults: Faults
    policy: PolicySource
    levels: Levels = field(init=False)
    environment: cel.Env = field(init=False)
    reads: set[Read] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.levels = Levels(names=tuple(name for name in self.policy.levels if _is_level_name(name)))
        self.environment = self.levels.environment()
        self._check_levels()

    def _note(self, text: Text, complaints: Iterable[Complaint]) -> None:
        for complaint in complaints:
            self.faults.add(text.node, text.path, complaint.message)
            line, column = locate(text, complaint.offset, self.policy.content)
            fault = self.faults.found[-1]
            self.faults.found[-1] = type(fault)(
                file=fault.file, line=line, column=column, field=fault.field, message=fault.message
            )

    def _check_levels(self) -> None:
        """Check each level after those it names."""
        texts = {name: self.policy.levels[name] for name in self.levels.names}
        names = {name: named_levels(self.environment, text.value, self.levels) for name, text in texts.items()}
        ordered, cycles = _order(names)
        for cycle in cycles:
            message = f"got a level that needs itself: {' -> '.join(cycle)}"
            self._note(texts[cycle[0]], [Complaint(offset=0, message=message)])
        for name in ordered:
            checked = self._check(texts[name], cel.Type.BOOL)
            if checked is not None:
                self.levels.checked[name] = checked
                self._compile(texts[name], checked)

    def _check(self, text: Text, wanted: cel.Type) -> Checked | None:
        try:
            return check_text(self.environment, text.value, self.levels, wanted=wanted)
        except NotCompiled as error:
            self._note(text, error.complaints)
            return None

    def _compile(self, text: Text, checked: Checked) -> cel.Expression | None:
        try:
            return compile_checked(checked)
        except NotCompiled as error:
            message = f"with its levels put in: {error.complaints[0].message}"
            self._note(text, [Complaint(offset=0, message=message)])
            return None

    def compile_routes(self) -> list[Route]:
        """All routes that could be compiled; with a fault anywhere, nobody gets to see them."""
        return [_RouteCompiler(file=self, source=source).compile() for source in self.policy.routes]

    def compile_condition(
        self, text: Text, wanted: cel.Type, *, captures: Sequence[str]
    ) -> tuple[cel.Expression, Checked] | None:
        """One condition, or a header's text. None, with the faults noted, where it does not hold."""
        checked = self._check(text, wanted)
        expression = self._compile(text, checked) if checked is not None else None
        if checked is None or expression is None:
            return None
        self._check_captures(text, checked, captures)
        self.reads |= checked.plain | checked.guarded
        return expression, checked

    def _check_captures(self, text: Text, checked: Checked, captures: Sequence[str]) -> None:
        for read in sorted(checked.plain | checked.guarded, key=_by_path):
            if read.family != "request" or read.field != "captures" or read.key is None or read.key in captures:
                continue
            message = f"no path of this route names {shown(read.key)}{nearest(read.key, captures)}"
            self._note(text, [Complaint(offset=max(text.value.find(read.key), 0), message=message)])


@dataclass(slots=True, kw_only=True)
class _RouteCompiler:
    """One route while it is compiled: gives slots in the list expression, gathers what all conditions need."""

    file: _File
    source: RouteSource
    texts: list[str] = field(default_factory=list)
    needed: dict[Read, int] = field(default_factory=dict)
    guarded: set[Read] = field(default_factory=set)

    def compile(self) -> Route:
        source = self.source
        rows = {row: self._rules(getattr(source, row)) for row in ("deny", "challenge", "allow")}
        shadow = [
            ShadowRule(id=rule.id, verdict=rule.verdict, condition=condition)
            for rule in source.shadow
            if (condition := self._condition(rule.condition)) is not None
        ]
        headers = [
            (name, condition)
            for name, text in sorted(source.set_headers.items())
            if (condition := self._header(text)) is not None
        ]
        return Route(
            name=source.name.value,
            durability=source.durability,
            **rows,
            shadow=tuple(shadow),
            set_headers=tuple(headers),
            assertion=source.assertion,
            batch=_batch(self.texts),
            needed=tuple(self.needed),
            probes=_probes(self.needed),
            guarded=tuple(sorted(self.guarded, key=_by_path)),
        )

    def _rules(self, sources: Sequence[RuleSource]) -> tuple[Rule, ...]:
        found = ((rule, self._condition(rule.condition)) for rule in sources)
        return tuple(
            Rule(id=rule.id, condition=condition, asks=rule.asks) for rule, condition in found if condition is not None
        )

    def _condition(self, text: Text) -> Condition | None:
        return self._compiled(text, cel.Type.BOOL)

    def _header(self, text: Text) -> Condition | None:
        return self._compiled(text, cel.Type.STRING)

    def _compiled(self, text: Text, wanted: cel.Type) -> Condition | None:
        captures = sorted({name for path in self.source.match.paths for _, name in path.captures})
        compiled = self.file.compile_condition(text, wanted, captures=captures)
        if compiled is None:
            return None
        expression, checked = compiled
        slot = -1
        if wanted == cel.Type.BOOL:
            slot = len(self.texts)
            self.texts.append(checked.expanded)
        self.guarded |= checked.guarded
        sourced = frozenset(read for read in checked.plain | checked.guarded if read.kind not in _UNSOURCED)
        return Condition(
            expression=expression,
            needed=self._bits(checked.plain - checked.guarded),
            sourced=sourced,
            families=frozenset(read.family for read in sourced),
            slot=slot,
        )

    def _bits(self, reads: Iterable[Read]) -> int:
        """The bits of reads that must be set; a read that the route has not needed before gets the next bit."""
        bits = 0
        for read in sorted(reads, key=_by_path):
            if read.kind is not Kind.ALWAYS:
                bits |= 1 << self.needed.setdefault(read, len(self.needed))
        return bits


def _probes(needed: Mapping[Read, int]) -> dict[str, tuple[Probe, ...]]:
    probes: dict[str, tuple[Probe, ...]] = {}
    for read, number in needed.items():
        probe = Probe(bit=1 << number, kind=read.kind, field=read.field, key=read.key)
        probes[read.family] = (*probes.get(read.family, ()), probe)
    return probes


def _by_path(read: Read) -> str:
    return read.path


def _batch(texts: Sequence[str]) -> cel.Expression | None:
    """One list expression of all conditions of a route, in the order of their slots.

    None where one condition alone gains nothing, or where the list would nest deeper than CEL allows.
    """
    if len(texts) <= 1:
        return None
    elements = ",".join(f"{text}\n" for text in texts)  # the newline ends a comment
    try:
        return compile_text(facts_environment(), f"[{elements}]").expression
    except NotCompiled:
        return None


def _is_level_name(name: str) -> bool:
    try:
        parse_level_name(name)
    except Malformed:
        return False
    return True


def _order(names: dict[str, frozenset[str]]) -> tuple[list[str], list[list[str]]]:
    """Levels after those they need, and the cycles among them. A level on or behind a cycle is still ordered once."""
    ordered: list[str] = []
    cycles: list[list[str]] = []
    trail: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        if name in trail:
            cycles.append([*trail[trail.index(name) :], name])
            return
        if name in done:
            return
        trail.append(name)
        for needed in sorted(names.get(name, ())):
            visit(needed)
        trail.pop()
        done.add(name)
        ordered.append(name)

    for name in names:
        visit(name)
    return ordered, cycles
