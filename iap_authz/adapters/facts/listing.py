# SPDX-License-Identifier: Apache-2.0
"""Files of the operator that list things, JSON or YAML in one shape: read, and judged field by field.

Invariant: what the file does not say is not there, and `null` says nothing. All faults are reported at once, up to a
bound: with line and column for YAML, with the position in the list and the field for both (`devices[3].os_version`).

A name ending in `.json`, or another name and content that starts with `{`, is JSON (for large lists); the rest is YAML,
where `model/document.py` refuses anchors, aliases and tags.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from ruamel.yaml.nodes import Node

from iap_authz.adapters.facts.inventory_fields import Doubled, FieldParser
from iap_authz.adapters.facts.inventory_yaml import Steps, make_mapping, place_of, plain
from iap_authz.errors import Fault, Invalid, Malformed, shown
from iap_authz.model.document import Faults, nearest, parse_document

FAULTS_MAX: Final = 100
"""Enough to see what is wrong; one wrong export can have a fault in each of 100,000 entries."""

KEY_SHOWN_MAX_CHARS: Final = 64


def read_listing(content: bytes, file: str) -> tuple[object, "Report"]:
    """The plain values of the whole file, and where its faults go. Raises Invalid for what is neither JSON nor YAML."""
    faults = Faults(file)
    if file.endswith(".json") or (not file.endswith((".yaml", ".yml")) and content.lstrip()[:1] == b"{"):
        return _read_json(content, faults), Report(faults, None)
    document = parse_document(content, faults)
    if document is None:
        raise Invalid(faults.found)
    faults.found.clear()  # names that came twice at the top are found again by `parse_fields`, with those inside
    return plain(document.node), Report(faults, document.node)


def _read_json(content: bytes, faults: Faults) -> object:
    try:
        text = content.decode("utf-8")
        return json.loads(text, object_pairs_hook=make_mapping, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg}"
        raise Invalid(
            [Fault(file=faults.file, line=error.lineno, column=error.colno, field="", message=message)]
        ) from error
    except UnicodeDecodeError as error:
        raise Invalid.of_file(faults.file, f"got a byte that is not UTF-8 at offset {error.start}") from error
    except RecursionError:
        raise Invalid.of_file(faults.file, "not JSON: nested too deep") from None
    except (Malformed, ValueError) as error:
        raise Invalid.of_file(faults.file, f"not JSON: {shown(str(error))}") from error


def _refuse_constant(name: str) -> object:
    raise Malformed(f"got {name}, want a number")


class Report:
    """Collects faults by their steps from the root, up to a bound."""

    def __init__(self, faults: Faults, root: Node | None) -> None:
        self._faults = faults
        self._root = root
        self._more = 0

    def count(self) -> int:
        """How many were noted so far."""
        return len(self._faults.found) + self._more

    def add(self, steps: Steps, message: str) -> None:
        """Note one fault, at its line and column where the file has them."""
        if len(self._faults.found) >= FAULTS_MAX:
            self._more += 1
            return
        node = place_of(self._root, steps) if self._root is not None else None
        self._faults.add(node, _dotted(steps), message)

    def check(self) -> None:
        """Raise Invalid if anything was noted."""
        if self._more:
            self._faults.add(None, "", f"and {self._more} more faults")
        self._faults.check(Invalid)


def _dotted(steps: Steps) -> str:
    text = ""
    for step in steps:
        key = step if isinstance(step, int) or len(step) <= KEY_SHOWN_MAX_CHARS else f"{step[:KEY_SHOWN_MAX_CHARS]}..."
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")


def parse_fields(
    value: object, fields: Mapping[str, FieldParser], steps: Steps, *, report: Report, required: tuple[str, ...]
) -> dict[str, Any]:
    """What `value`, a mapping, says of `fields`. Everything wrong with it goes to `report`."""
    if not isinstance(value, dict):
        report.add(steps, f"got {shown(value)}, want a mapping")
        return {}
    for doubled in value.names if isinstance(value, Doubled) else ():
        report.add((*steps, doubled), "got this name twice")
    found: dict[str, Any] = {}
    for key, raw in value.items():
        parse = fields.get(key)
        if parse is None:
            report.add((*steps, key), f"unknown key, want one of {', '.join(fields)}{nearest(key, tuple(fields))}")
        elif raw is not None:
            try:
                found[key] = parse(raw)
            except Malformed as error:
                report.add((*steps, key), str(error))
    for key in required:
        if value.get(key) is None:
            report.add((*steps, key), "missing")
    return found
