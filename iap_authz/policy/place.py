# SPDX-License-Identifier: Apache-2.0
"""From an offset in a YAML scalar's value to line and column of the file, both from 1.

The value is walked beside the source text it came from, in the scalar's own style:

    plain, folded  white space of the source stands for one blank or for newlines of the value
    'single'       '' is one quote
    "double"       an escape is one character; an escaped newline is none
    | literal      the indentation of each line is skipped

Best effort: where the two cannot be brought together, the place is where the scalar starts. Nothing but messages
depends on it.
"""

import re

from ruamel.yaml.nodes import ScalarNode

from iap_authz.model.document import Text

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_SPACE = " \t\r\n"
_ESCAPE_CHARS = {"x": 4, "u": 6, "U": 10}
"""How long the escapes of YAML's double quotes are that are not two characters long."""


def locate(text: Text, offset: int, content: str) -> tuple[int, int]:
    """Line and column of the character at `offset` of `text` in the file `content`."""
    node = text.node
    fallback = node.start_mark.line + 1, node.start_mark.column + 1
    source = content.removeprefix("\ufeff")
    starts = [0, *(match.end() for match in _BREAK.finditer(source))]
    if node.start_mark.line >= len(starts):
        return fallback
    at = starts[node.start_mark.line] + node.start_mark.column
    try:
        found = _walk(node, text.value[: offset + 1], source, at) + (0 < len(text.value) <= offset)
    except IndexError:
        return fallback
    line = sum(start <= found for start in starts) - 1
    return line + 1, found - starts[line] + 1


def _walk(node: ScalarNode, value: str, source: str, at: int) -> int:
    """The position in `source` of the last character of `value`. Raises IndexError where there is none."""
    if node.style in ("|", ">"):
        return _walk_block(value, source, at)
    position = at + 1 if node.style else at
    here = position
    for character in value:
        here, position = _step(node.style or "", character, source, position)
    return here


def _step(style: str, character: str, source: str, position: int) -> tuple[int, int]:
    """Where `character` of a flow scalar is, and where the next may be."""
    if source[position] in "\r\n" and character in " \n":
        return position, _skip(source, position) if character == " " else position + 1
    if source[position] != character or character == "\\":
        if character not in _SPACE:
            position = _skip(source, position)
        while style == '"' and source[position] == "\\" and source[position + 1] in "\r\n":
            position = _skip(source, position + 1)
        if style == '"' and source[position] == "\\":
            return position, position + _ESCAPE_CHARS.get(source[position + 1], 2)
    if style == "'" and source[position : position + 2] == "''":
        return position, position + 2
    return position, position + 1


def _skip(source: str, position: int) -> int:
    while source[position] in _SPACE:
        position += 1
    return position


def _walk_block(value: str, source: str, at: int) -> int:
    lines = source[at:].splitlines(keepends=True)
    body = lines[1:]
    first = next(line for line in [*body, "x"] if line.strip())
    shown = next((line for line in value.split("\n") if line.strip()), "")
    indent = max(len(first) - len(first.lstrip(" ")) - (len(shown) - len(shown.lstrip(" "))), 0)
    position = at + len(lines[0]) + indent
    here = position
    for character in value:
        while source[position] in "\r\n" and character not in " \n":
            position = _skip(source, position)
        here = position
        if source[position] in "\r\n":
            position += 1
            end = position + indent
            while position < end and source[position] == " ":
                position += 1
        else:
            position += 1
    return here
