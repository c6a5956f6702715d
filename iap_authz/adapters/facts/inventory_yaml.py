# SPDX-License-Identifier: Apache-2.0
"""The YAML spelling of an inventory: nodes with positions to the plain values that `json` would give.

Invariant: the same inventory in both spellings gives the same values, so that one set of field parsers judges both.
Scalars mean what YAML 1.2's core schema says of `true`, `false`, `null` and decimal whole numbers, and text else;
what an older reader would take for another number (`1_000`, `0x10`, `15.10`) is `Unquoted`. A time needs no quotes.
"""

import re
from typing import Final

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from iap_authz.adapters.facts.inventory_fields import Doubled, Unquoted

Steps = tuple[str | int, ...]
"""Names and positions from the root of a document to one of its values."""

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None, "~": None, "": None}
_TEXT_TAGS: Final = (":str", ":timestamp")


def plain(node: Node) -> object:
    """The value of `node`. Keys are text whatever they look like; a key that is no scalar stands as its position."""
    if isinstance(node, MappingNode):
        pairs = [(_key(key), plain(value)) for key, value in node.value]
        return make_mapping(pairs)
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.value]
    return _scalar(node) if isinstance(node, ScalarNode) else None


def make_mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A mapping that remembers names that came twice. Also the hook for `json`."""
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    names = [name for name, _ in pairs]
    return Doubled(values, tuple(name for name in values if names.count(name) > 1))


def place_of(root: Node, steps: Steps) -> Node:
    """The node at the end of `steps`, or the nearest one around it that there is."""
    node = root
    for step in steps:
        if isinstance(node, MappingNode):
            found = [value for key, value in node.value if _key(key) == step]
            node = found[-1] if found else node
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
    return node


def _key(node: Node) -> str:
    return str(node.value) if isinstance(node, ScalarNode) else f"key at line {node.start_mark.line + 1}"


def _scalar(node: ScalarNode) -> object:
    text = str(node.value)
    if node.style:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    tag = str(node.tag if isinstance(node.tag, str) else getattr(node.tag, "trval", node.tag))
    return text if tag.endswith(_TEXT_TAGS) else Unquoted(text)
