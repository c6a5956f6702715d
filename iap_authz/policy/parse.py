# SPDX-License-Identifier: Apache-2.0
"""YAML -> `BundleSource`, with every fault of every file at its line and column.

Invariant: what could be read is read even where a neighbour is at fault, so that one run reports everything; a bundle
with any fault never gets out of `check_readings`. Empty lists are refused: "no hosts" must not come to mean "any host"
because the last line of a list was deleted. Conditions are not looked into here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from iap_authz.errors import Fault, Malformed, PolicyInvalid, shown
from iap_authz.model.decision import AssertionTerms
from iap_authz.model.document import Faults, Section, Text, parse_document
from iap_authz.model.reason import Durability, Verdict
from iap_authz.policy import patterns
from iap_authz.policy.source import (
    BundleSource,
    MatchSource,
    PathPattern,
    PolicySource,
    RouteSource,
    RuleSource,
    ShadowSource,
    SourceFile,
)

MAX_AGE_MAX_SECONDS = 31_536_000
"""A year: a login that may be older than that is no step-up."""

_SHADOW_KINDS = {"allow": Verdict.ALLOW, "deny": Verdict.DENY, "challenge": Verdict.CHALLENGE}
_DURABILITIES = {"journal": Durability.JOURNAL, "log": Durability.LOG}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One file on its way: what was read of it, and what is wrong with it so far."""

    faults: Faults
    policy: PolicySource | None


def parse_policies(files: Sequence[SourceFile]) -> BundleSource:
    """Parse all files of a bundle. Raises `PolicyInvalid` with all faults of all files."""
    readings = read_files(files)
    check_readings(readings)
    return bundle_of(readings)


def read_files(files: Sequence[SourceFile]) -> list[Reading]:
    """Read what can be read of all files."""
    readings = [_read_file(file) for file in files]
    note_names_used_twice(readings)
    return readings


def note_names_used_twice(readings: Sequence[Reading]) -> None:
    """Note where names that must be unique in the bundle are not: policies and routes."""
    policies: dict[str, str] = {}
    routes: dict[str, str] = {}
    for reading in readings:
        if reading.policy is None:
            continue
        _note_twice(reading, reading.policy.name, policies)
        for route in reading.policy.routes:
            _note_twice(reading, route.name, routes)


def check_readings(readings: Sequence[Reading]) -> None:
    """Raise `PolicyInvalid` with all faults: files in their order, faults in the order of the file."""
    found: list[Fault] = []
    for reading in readings:
        found += sorted(reading.faults.found, key=lambda fault: (fault.line, fault.column))
    if found:
        raise PolicyInvalid(found)


def bundle_of(readings: Sequence[Reading]) -> BundleSource:
    """The policies that were read, in the order of their names."""
    policies = [reading.policy for reading in readings if reading.policy is not None]
    return BundleSource(policies=tuple(sorted(policies, key=lambda policy: policy.name.value)))


def _read_file(file: SourceFile) -> Reading:
    faults = Faults(file.name)
    section = parse_document(file.content, faults)
    policy = None
    if section is not None:
        policy = read_policy(section, file.content.decode("utf-8"))
    return Reading(faults=faults, policy=policy)


def _note_twice(reading: Reading, name: Text, seen: dict[str, str]) -> None:
    if not name.value:
        return
    if name.value in seen:
        where = seen[name.value]
        reading.faults.add(
            name.node, name.path, f"got {shown(name.value)} twice, want a unique name (first in {where})"
        )
        return
    seen[name.value] = f"{reading.faults.file}:{name.node.start_mark.line + 1}"


def read_policy(section: Section, content: str) -> PolicySource:
    """Read one document; faults go to the section's. `content` is the text it was read from, for places in it."""
    _note_surrogates(section.node, section.faults)
    section.take_text("kind", choices=("Policy",))
    name = _take_name(section, "name")
    levels = section.take_text_map("levels")
    for level, text in levels.items():
        _checked(section, text, patterns.parse_level_name, level)
    routes = tuple(_read_route(item) for item in section.take_sections("routes", required=True))
    section.finish()
    return PolicySource(name=name, levels=levels, routes=routes, content=content)


def _note_surrogates(node: Node, faults: Faults) -> None:
    """A lone surrogate (an escape in double quotes) is no character: neither UTF-8 nor CEL can carry it."""
    if isinstance(node, ScalarNode):
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            faults.add(node, "", "got a lone surrogate, want characters")
            node.value = ""
        return
    children: list[Node] = []
    if isinstance(node, MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, SequenceNode):
        children = node.value
    for child in children:
        _note_surrogates(child, faults)


def _checked(section: Section, text: Text, parse: Callable[[str], T], value: str | None = None) -> T | None:
    """`parse` of the text (or of `value` that stands near it), its complaint noted as a fault at the text."""
    try:
        return parse(text.value if value is None else value)
    except Malformed as error:
        section.faults.add(text.node, text.path, str(error))
        return None


def _take_name(section: Section, key: str) -> Text:
    text = section.take_placed_text(key, required=True)
    if text is None:
        return Text("", ScalarNode("", "", section.node.start_mark, section.node.end_mark), section.at(key))
    _checked(section, text, patterns.parse_name)
    return text


def _read_route(section: Section) -> RouteSource:
    name = _take_name(section, "name")
    match = section.take_section("match", required=True)
    ids: dict[str, str] = {}
    set_headers, assertion = _read_on_allow(section)
    route = RouteSource(
        name=name,
        match=_read_match(match) if match is not None else MatchSource(hosts=(), methods=(), paths=()),
        deny=_read_rules(section, "deny", ids),
        challenge=_read_rules(section, "challenge", ids),
        allow=_read_rules(section, "allow", ids),
        shadow=_read_shadow(section, ids),
        durability=_DURABILITIES[section.take_text("durability", "journal", choices=tuple(_DURABILITIES))],
        set_headers=set_headers,
        assertion=assertion,
    )
    section.finish()
    return route


def _read_match(section: Section) -> MatchSource:
    hosts = set(_take_list(section, "hosts", patterns.parse_host))
    methods = set(_take_list(section, "methods", patterns.parse_method))
    paths: list[PathPattern] = []
    for text in _take_placed(section, "paths", required=True):
        try:
            paths.append(patterns.parse_path(text))
        except Malformed as error:
            section.faults.add(text.node, text.path, str(error))
    section.finish()
    return MatchSource(
        hosts=tuple(sorted(hosts)),
        methods=tuple(sorted(methods)),
        paths=tuple(sorted(paths, key=lambda path: path.text.value)),
    )


def _take_placed(section: Section, key: str, *, required: bool = False) -> list[Text]:
    texts = section.take_placed_texts(key, required=required)
    if texts is None:
        given = section.keys()
        if key in given and not section.has(key) and not required:
            section.fault(key, "got nothing, want a list, or no such key")
        return []
    if not texts:
        section.fault(key, "got an empty list, want at least one")
    seen: set[str] = set()
    for text in texts:
        if text.value in seen:
            section.faults.add(text.node, text.path, f"got {shown(text.value)} twice")
        seen.add(text.value)
    return texts


def _take_list(section: Section, key: str, parse: Callable[[str], str]) -> list[str]:
    found = (_checked(section, text, parse) for text in _take_placed(section, key))
    return [value for value in found if value is not None]


def _take_id(section: Section, ids: dict[str, str]) -> str:
    text = _take_name(section, "id")
    if text.value and text.value in ids:
        message = f"got {shown(text.value)} twice in this route, want unique ids (first at {ids[text.value]})"
        section.faults.add(text.node, text.path, message)
    ids.setdefault(text.value, text.path)
    return text.value


def _read_rules(section: Section, row: str, ids: dict[str, str]) -> tuple[RuleSource, ...]:
    rules: list[RuleSource] = []
    for item in section.take_sections(row):
        rule = _take_id(item, ids)
        condition = item.take_placed_text("when", required=True)
        asks: Mapping[str, str] = {}
        if row == "challenge":
            wanted = item.take_section("with")
            asks = _read_asks(wanted) if wanted is not None else {}
        item.finish()
        if condition is not None:
            rules.append(RuleSource(id=rule, condition=condition, asks=asks))
    return tuple(rules)


def _read_asks(section: Section) -> dict[str, str]:
    asks: dict[str, str] = {}
    for key, parse in (("redirect", patterns.parse_redirect), ("acr", patterns.parse_acr)):
        text = section.take_placed_text(key)
        value = _checked(section, text, parse) if text is not None else None
        if value is not None:
            asks[key] = value
    max_age = section.take_integer("max_age", -1, least=0, most=MAX_AGE_MAX_SECONDS)
    if max_age >= 0:
        asks["max_age"] = str(max_age)
    section.finish()
    return asks


def _read_shadow(section: Section, ids: dict[str, str]) -> tuple[ShadowSource, ...]:
    rules: list[ShadowSource] = []
    for item in section.take_sections("shadow"):
        rule = _take_id(item, ids)
        kinds = [(kind, item.take_placed_text(kind)) for kind in _SHADOW_KINDS]
        given = [(kind, text) for kind, text in kinds if text is not None]
        item.finish()
        if len(given) != 1:
            item.fault("", f"got {len(given)} conditions, want exactly one of allow, deny, challenge")
        rules += [ShadowSource(id=rule, verdict=_SHADOW_KINDS[kind], condition=text) for kind, text in given]
    return tuple(rules)


def _read_on_allow(section: Section) -> tuple[dict[str, Text], AssertionTerms | None]:
    on_allow = section.take_section("on_allow")
    if on_allow is None:
        return {}, None
    headers = on_allow.take_text_map("set_headers")
    assertion = _read_assertion(on_allow)
    on_allow.finish()
    names = {name: _checked(on_allow, text, patterns.parse_header_name, name) for name, text in headers.items()}
    return {name: text for name, text in headers.items() if names[name] is not None}, assertion


def _read_assertion(on_allow: Section) -> AssertionTerms | None:
    """`true`, or a mapping that says how it differs from that; `false` is the same as nothing."""
    if not on_allow.holds_section("assertion"):
        return AssertionTerms() if on_allow.take_boolean("assertion", default=False) else None
    section = on_allow.take_section("assertion")
    given = section.keys() if section is not None else ()
    if section is None or not given:
        on_allow.fault("assertion", "got an empty mapping, want true, or at least one of audience, request_binding")
        return None
    audience = section.take_placed_text("audience", required="audience" in given)  # an empty one is no default
    terms = AssertionTerms(
        audience=(_checked(section, audience, patterns.parse_audience) or "") if audience is not None else "",
        request_binding=section.take_boolean("request_binding", default=True),
    )
    section.finish()
    return terms
