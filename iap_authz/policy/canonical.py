# SPDX-License-Identifier: Apache-2.0
"""The canonical form of a bundle: the bytes that are hashed, logged and replayed.

    {"kind":"PolicyBundle","policies":[{"kind":"Policy","levels":{...},"name":"orders","routes":[...]}, ...]}

Compact JSON in UTF-8, keys sorted, policies in the order of their names, hosts, methods and paths sorted, rules and
routes in the order of the file, defaults of meaning left out (`durability` is always there). Comments, key order,
quoting and file names leave no trace; conditions keep their text, character by character.

Invariant: `parse_canonical(render_canonical(source))` renders to the same bytes, and bytes that are not what
`render_canonical` would give are refused: one bundle has one digest.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ruamel.yaml.error import StringMark
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from iap_authz.errors import Malformed
from iap_authz.model.decision import AssertionTerms
from iap_authz.model.document import DOCUMENT_MAX_BYTES, DOCUMENT_MAX_DEPTH, Faults, Section
from iap_authz.model.ids import PolicyDigest
from iap_authz.model.reason import Durability
from iap_authz.policy.parse import Reading, bundle_of, check_readings, note_names_used_twice, read_policy
from iap_authz.policy.source import BundleSource, MatchSource, PolicySource, RouteSource, RuleSource

_KIND = "PolicyBundle"
_FILE = "canonical bundle"
_MARK = StringMark(_FILE, 0, 0, 0, "", 0)


def digest_of(canonical: bytes) -> PolicyDigest:
    """SHA-256 of the canonical bytes: the name of the bundle."""
    return PolicyDigest(hashlib.sha256(canonical).digest())


def render_canonical(source: BundleSource) -> bytes:
    """The canonical bytes of a bundle."""
    policies = sorted(source.policies, key=lambda policy: policy.name.value)
    document = {"kind": _KIND, "policies": [_render_policy(policy) for policy in policies]}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode("utf-8")


def _render_policy(policy: PolicySource) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": "Policy",
        "name": policy.name.value,
        "routes": [_render_route(route) for route in policy.routes],
    }
    if policy.levels:
        document["levels"] = {name: text.value for name, text in policy.levels.items()}
    return document


def _render_route(route: RouteSource) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": route.name.value,
        "match": _render_match(route.match),
        "durability": "log" if route.durability is Durability.LOG else "journal",
    }
    rows = (("deny", route.deny), ("challenge", route.challenge), ("allow", route.allow))
    document.update({row: [_render_rule(rule) for rule in rules] for row, rules in rows if rules})
    if route.shadow:
        document["shadow"] = [{"id": rule.id, rule.verdict.code: rule.condition.value} for rule in route.shadow]
    on_allow: dict[str, Any] = {}
    if route.set_headers:
        on_allow["set_headers"] = {name: text.value for name, text in route.set_headers.items()}
    if route.assertion is not None:
        on_allow["assertion"] = _render_assertion(route.assertion)
    return document | ({"on_allow": on_allow} if on_allow else {})


def _render_assertion(terms: AssertionTerms) -> bool | dict[str, str | bool]:
    """What differs from `true`, or `true`."""
    document: dict[str, str | bool] = {"audience": terms.audience} if terms.audience else {}
    if not terms.request_binding:
        document["request_binding"] = False
    return document or True


def _render_match(match: MatchSource) -> dict[str, list[str]]:
    paths = sorted(path.text.value for path in match.paths)
    lists = {"hosts": sorted(match.hosts), "methods": sorted(match.methods), "paths": paths}
    return {key: values for key, values in lists.items() if values}


def _render_rule(rule: RuleSource) -> dict[str, Any]:
    document: dict[str, Any] = {"id": rule.id, "when": rule.condition.value}
    if rule.asks:
        asks: dict[str, str | int] = dict(rule.asks)
        if "max_age" in rule.asks:
            asks["max_age"] = int(rule.asks["max_age"])
        document["with"] = asks
    return document


def read_canonical(canonical: bytes) -> list[Reading]:
    """Read canonical bytes without judging their content: that is for `check_readings`, after compiling.

    Raises `Malformed` for what is not a bundle at all.
    """
    if len(canonical) > DOCUMENT_MAX_BYTES:
        raise Malformed(f"got {len(canonical)} bytes, want at most {DOCUMENT_MAX_BYTES}")
    try:
        document = json.loads(canonical.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Malformed("got bytes that are not JSON in UTF-8, want a canonical policy bundle") from None
    if (
        not isinstance(document, dict)
        or document.get("kind") != _KIND
        or not isinstance(document.get("policies"), list)
    ):
        raise Malformed(f"got another document, want one of kind {_KIND} with a list of policies")
    readings = [_read(item) for item in document["policies"]]
    note_names_used_twice(readings)
    return readings


def parse_canonical(canonical: bytes) -> BundleSource:
    """Parse what `render_canonical` gave. Raises `Malformed` for any other bytes, `PolicyInvalid` for wrong content."""
    readings = read_canonical(canonical)
    check_readings(readings)
    source = bundle_of(readings)
    if render_canonical(source) != canonical:
        raise Malformed("got a policy bundle that is not in canonical form")
    return source


def _read(item: object) -> Reading:
    node = _node(item, 0)
    if not isinstance(node, MappingNode):
        raise Malformed("got a policy that is not an object")
    faults = Faults(_FILE)
    return Reading(faults=faults, policy=read_policy(Section(node, "", faults), ""))


def _node(value: object, depth: int) -> Node:
    """The YAML node of a JSON value, so that one reader serves both; there are no numbers but whole ones."""
    if depth > DOCUMENT_MAX_DEPTH:
        raise Malformed(f"got more than {DOCUMENT_MAX_DEPTH} levels")
    if isinstance(value, str):
        return ScalarNode("tag:yaml.org,2002:str", value, _MARK, _MARK, style='"')
    if isinstance(value, bool):
        return ScalarNode("tag:yaml.org,2002:bool", json.dumps(value), _MARK, _MARK)
    if isinstance(value, int):
        return ScalarNode("tag:yaml.org,2002:int", str(value), _MARK, _MARK)
    if isinstance(value, list):
        return SequenceNode("tag:yaml.org,2002:seq", _nodes(value, depth), _MARK, _MARK)
    if isinstance(value, dict):
        pairs = list(zip(_nodes(list(value), depth), _nodes(list(value.values()), depth), strict=True))
        return MappingNode("tag:yaml.org,2002:map", pairs, _MARK, _MARK)
    raise Malformed("got a value that no policy holds, want text, true or false, whole numbers, lists and objects")


def _nodes(values: Sequence[object], depth: int) -> list[Node]:
    return [_node(value, depth + 1) for value in values]
