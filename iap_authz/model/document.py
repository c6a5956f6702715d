# SPDX-License-Identifier: Apache-2.0
"""YAML files of the operator, read with positions, so that every fault names file, line, column and field.

A `Document` is composed, never constructed: no tags, anchors, aliases, merge keys or doubled keys, and plain scalars
mean what YAML 1.2 says. A `Section` is one mapping of it; each `take` names a key, its kind and its default, and
`finish` reports the keys nobody took, with the nearest known one. Faults are collected in `Faults`, so a file with five
mistakes reports five.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.tokens import AliasToken, AnchorToken, TagToken, Token

from iap_authz.errors import ConfigInvalid, Fault, Invalid, shown

DOCUMENT_MAX_BYTES = 16 * 1024 * 1024
"""Larger than any configuration written by hand; bounds what a wrong file name can cost."""

DOCUMENT_MAX_DEPTH = 64
"""Deeper than any format here; keeps a hostile file from exhausting the stack."""

_ORIGIN = re.compile(r"[\x21-\x2a\x2c-\x7e]{1,200}", re.ASCII)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_DURATION_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?", re.ASCII)
_SIZE_UNIT_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


@dataclass(slots=True)
class Faults:
    """Collects what is wrong with one file."""

    file: str
    found: list[Fault] = field(default_factory=list)
    want_values: bool = False
    """A key with nothing after it is a fault: whoever has taken out what stood below it may not see what is gone."""

    def add(self, node: Node | Token | None, path: str, message: str) -> None:
        """Note one fault at `node` (None: the file as a whole) about the field `path`."""
        line, column = (node.start_mark.line + 1, node.start_mark.column + 1) if node is not None else (0, 0)
        self.found.append(Fault(file=self.file, line=line, column=column, field=path, message=message))

    def check(self, kind: type[Invalid]) -> None:
        """Raise `kind` with everything found, in the order of the file, if anything was."""
        if self.found:
            raise kind(sorted(self.found, key=lambda fault: (fault.line, fault.column)))


def parse_document(content: bytes, faults: Faults) -> "Section | None":
    """Parse one YAML document whose root is a mapping. None, with the fault noted, where it is not."""
    if len(content) > DOCUMENT_MAX_BYTES:
        faults.add(None, "", f"got {len(content)} bytes, want at most {DOCUMENT_MAX_BYTES}")
        return None
    node = None
    try:
        text = content.decode("utf-8")
        _refuse_indirection(text, faults)
        node = YAML(typ="safe", pure=True).compose(text) if not faults.found else None
    except UnicodeDecodeError as error:
        faults.add(None, "", f"got a byte that is not UTF-8 at offset {error.start}, want UTF-8")
    except MarkedYAMLError as error:
        faults.add(None, "", _describe(error))
    except (YAMLError, RecursionError) as error:
        faults.add(None, "", f"not YAML: {shown(str(error))}")
    if isinstance(node, MappingNode):
        return Section(node, "", faults)
    if not faults.found:
        faults.add(node, "", f"got {_kind(node)}, want a mapping")
    return None


def parse_configuration(content: bytes, file: str, *, kind: str) -> tuple["Section", Faults]:
    """The top of a configuration file of this kind, and where its faults go. Raises ConfigInvalid."""
    faults = Faults(file, want_values=True)
    root = parse_document(content, faults)
    faults.check(ConfigInvalid)
    if root is None:
        raise ConfigInvalid.of_file(file, f"got nothing, want a {kind.lower()} configuration")
    root.take_text("kind", choices=(kind,))
    return root, faults


def _describe(error: MarkedYAMLError) -> str:
    mark = error.problem_mark
    place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"not YAML: {error.problem}{place}"


def _refuse_indirection(text: str, faults: Faults) -> None:
    """Anchors, aliases and tags would let a small file mean a large or a surprising one; depth is bounded here too."""
    depth = 0
    for token in YAML(typ="safe", pure=True).scan(text):
        if isinstance(token, AliasToken | AnchorToken | TagToken):
            faults.add(token, "", "got an anchor, alias or tag, want plain values")
            return
        name = type(token).__name__
        if name.endswith("StartToken"):
            depth += 1
        elif name.endswith("EndToken"):
            depth -= 1
        if depth > DOCUMENT_MAX_DEPTH:
            faults.add(token, "", f"got more than {DOCUMENT_MAX_DEPTH} levels")
            return


def _kind(node: Node | None) -> str:
    if node is None:
        return "nothing"
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    return f"{shown(node.value)}"


def nearest(name: str, known: Sequence[str]) -> str:
    """` (did you mean X?)` for the known name closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar with its place, for what is parsed further and must report its own faults."""

    value: str
    node: ScalarNode
    path: str


class Section:
    """One mapping of a document. Each `take_*` consumes a key; `finish` reports the rest."""

    def __init__(self, node: MappingNode, path: str, faults: Faults) -> None:
        self.node = node
        self.path = path
        self.faults = faults
        self._taken: set[str] = set()
        self._values: dict[str, Node] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                faults.add(key_node, path, f"got {_kind(key_node)} as a key, want text")
            elif key_node.value in self._values:
                faults.add(key_node, self.at(key_node.value), "got this key twice")
            else:
                self._values[key_node.value] = value_node

    def at(self, key: str) -> str:
        """The dotted path of `key` in the document."""
        return f"{self.path}.{key}" if self.path else key

    def fault(self, key: str, message: str) -> None:
        """Note a fault about `key`, at its value where there is one."""
        self.faults.add(self._values.get(key, self.node), self.at(key) if key else self.path, message)

    def has(self, key: str) -> bool:
        """Whether `key` is there with a value that is not null."""
        node = self._values.get(key)
        return node is not None and not (isinstance(node, ScalarNode) and _is_null(node))

    def _take(self, key: str, *, required: bool) -> Node | None:
        self._taken.add(key)
        if self.has(key):
            return self._values[key]
        if required:
            self.faults.add(self.node, self.at(key), "missing")
        return None

    def _scalar(self, key: str, want: str, *, required: bool) -> ScalarNode | None:
        node = self._take(key, required=required)
        if node is None or isinstance(node, ScalarNode):
            return node
        self.faults.add(node, self.at(key), f"got {_kind(node)}, want {want}")
        return None

    def take_text(self, key: str, default: str | None = None, *, choices: Sequence[str] = ()) -> str:
        """Text. Required when there is no default; one of `choices` when given."""
        text = self.take_placed_text(key, required=default is None)
        if text is None:
            return default or ""
        if choices and text.value not in choices:
            hint = nearest(text.value, choices)
            self.fault(key, f"got {shown(text.value)}, want one of {', '.join(choices)}{hint}")
            return default or choices[0]
        return text.value

    def take_placed_text(self, key: str, *, required: bool = False) -> Text | None:
        """Text with its place in the file."""
        node = self._scalar(key, "text", required=required)
        if node is None:
            return None
        if not _is_text(node):
            self.faults.add(node, self.at(key), f"got {_kind(node)}, want text (quote it)")
            return None
        if "\0" in node.value:
            self.faults.add(node, self.at(key), "got a NUL character, want none")
            return None
        return Text(node.value, node, self.at(key))

    def take_integer(self, key: str, default: int | None = None, *, least: int, most: int) -> int:
        """A whole number in [least, most]."""
        node = self._scalar(key, "a whole number", required=default is None)
        if node is None:
            return default if default is not None else least
        if node.style or not _INTEGER.fullmatch(node.value) or not least <= int(node.value) <= most:
            self.faults.add(node, self.at(key), f"got {_kind(node)}, want a whole number from {least} to {most}")
            return default if default is not None else least
        return int(node.value)

    def take_boolean(self, key: str, *, default: bool | None = None) -> bool:
        """`true` or `false`, nothing else."""
        node = self._scalar(key, "true or false", required=default is None)
        if node is None:
            return bool(default)
        if node.style or node.value not in _BOOLEANS:
            self.faults.add(node, self.at(key), f"got {_kind(node)}, want true or false")
            return bool(default)
        return _BOOLEANS[node.value]

    def take_duration(
        self, key: str, default: timedelta | None = None, *, least: timedelta, most: timedelta
    ) -> timedelta:
        """A duration such as `150ms`, `30s`, `5m`, `1h`, `30d`, in [least, most]."""
        node = self._scalar(key, "a duration", required=default is None)
        if node is None:
            return default if default is not None else least
        match = _DURATION.fullmatch(node.value)
        value = timedelta(seconds=float(match[1]) * _DURATION_UNIT_SECONDS[match[2]]) if match else None
        if value is None or not least <= value <= most:
            want = f"a duration from {render_duration(least)} to {render_duration(most)}"
            self.faults.add(node, self.at(key), f"got {_kind(node)}, want {want}")
            return default if default is not None else least
        return value

    def take_size(self, key: str, default: int | None = None, *, least: int, most: int) -> int:
        """A size in bytes such as `512`, `64 KiB`, `1 GiB`, in [least, most]."""
        node = self._scalar(key, "a size", required=default is None)
        if node is None:
            return default if default is not None else least
        match = _SIZE.fullmatch(node.value)
        value = int(match[1]) * _SIZE_UNIT_BYTES[match[2]] if match else -1
        if not least <= value <= most:
            want = f"a size from {least} to {most} bytes, such as 64 MiB"
            self.faults.add(node, self.at(key), f"got {_kind(node)}, want {want}")
            return default if default is not None else least
        return value

    def take_texts(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of texts. Required when there is no default."""
        texts = self.take_placed_texts(key, required=default is None)
        return tuple(default or ()) if texts is None else tuple(text.value for text in texts)

    def take_placed_texts(self, key: str, *, required: bool = False) -> list[Text] | None:
        """A list of texts with their places. None where there is none."""
        node = self._take(key, required=required)
        if node is None:
            return None
        if not isinstance(node, SequenceNode):
            self.faults.add(node, self.at(key), f"got {_kind(node)}, want a list of texts")
            return None
        found = []
        for position, item in enumerate(node.value):
            path = f"{self.at(key)}[{position}]"
            if isinstance(item, ScalarNode) and _is_text(item) and "\0" not in item.value:
                found.append(Text(item.value, item, path))
            else:
                self.faults.add(item, path, f"got {_kind(item)}, want text")
        return found

    def take_section(self, key: str, *, required: bool = False) -> "Section | None":
        """A mapping under `key`. None where there is none."""
        node = self._take(key, required=required)
        if node is None:
            return None
        if isinstance(node, MappingNode):
            return Section(node, self.at(key), self.faults)
        self.faults.add(node, self.at(key), f"got {_kind(node)}, want a mapping")
        return None

    def holds_section(self, key: str) -> bool:
        """Whether a mapping stands under `key`, for what may be written short as well."""
        return isinstance(self._values.get(key), MappingNode)

    def holds_items(self, key: str) -> bool:
        """Whether something other than an empty list stands under `key`, good or not."""
        node = self._values.get(key)
        return not isinstance(node, SequenceNode) or bool(node.value)

    def take_sections(self, key: str, *, required: bool = False) -> list["Section"]:
        """A list of mappings under `key`; empty where there is none."""
        node = self._take(key, required=required)
        if node is None:
            return []
        if not isinstance(node, SequenceNode):
            self.faults.add(node, self.at(key), f"got {_kind(node)}, want a list of mappings")
            return []
        found = []
        for position, item in enumerate(node.value):
            path = f"{self.at(key)}[{position}]"
            if isinstance(item, MappingNode):
                found.append(Section(item, path, self.faults))
            else:
                self.faults.add(item, path, f"got {_kind(item)}, want a mapping")
        return found

    def take_text_map(self, key: str) -> Mapping[str, Text]:
        """A mapping of names to texts, with places; empty where there is none."""
        section = self.take_section(key)
        return dict(section.placed_texts()) if section is not None else {}

    def placed_texts(self) -> Iterator[tuple[str, Text]]:
        """Every key of this section as text."""
        for key in self._values:
            text = self.take_placed_text(key, required=True)
            if text is not None:
                yield key, text

    def keys(self) -> tuple[str, ...]:
        """The keys in the order of the file."""
        return tuple(self._values)

    def finish(self) -> None:
        """Report every key that was not taken, and in a configuration every key that has no value."""
        known, reported = sorted(self._taken), {fault.field for fault in self.faults.found}
        for key, node in self._values.items():
            if key not in self._taken:
                self.faults.add(node, self.at(key), f"unknown key, want one of {', '.join(known)}{nearest(key, known)}")
            elif self.faults.want_values and not self.has(key) and self.at(key) not in reported:
                want = "want a value ({} for a section that is all default), or the key left out"
                self.faults.add(node, self.at(key), f"got nothing, {want}")


def _is_null(node: ScalarNode) -> bool:
    return not node.style and node.value in ("", "~", "null")


def _is_text(node: ScalarNode) -> bool:
    """A plain scalar that YAML would read as a number, boolean or null is not text: the operator must quote it."""
    tag = getattr(node.tag, "trval", node.tag) if not isinstance(node.tag, str) else node.tag
    return bool(node.style) or str(tag).endswith((":str", ":timestamp"))  # YAML 1.2 has no times; they are text


def render_duration(value: timedelta) -> str:
    """The shortest spelling that `take_duration` reads back."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m", "s"):
        if seconds >= _DURATION_UNIT_SECONDS[unit] and seconds % _DURATION_UNIT_SECONDS[unit] == 0:
            return f"{int(seconds // _DURATION_UNIT_SECONDS[unit])}{unit}"
    return f"{int(seconds * 1000)}ms"


def take_matching(section: Section, key: str, pattern: re.Pattern[str], want: str) -> str:
    """A text that all of `pattern` matches; `want` says what that is."""
    text = section.take_text(key)
    if text and not pattern.fullmatch(text):
        section.fault(key, f"got {shown(text)}, want {want}")
    return text


def take_origin(section: Section, key: str) -> str:
    """The origin of an audit log, which is the name of its key too (C2SP signed-note)."""
    return take_matching(section, key, _ORIGIN, "a name without spaces and plus signs")
