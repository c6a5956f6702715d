# SPDX-License-Identifier: Apache-2.0
"""The canonical form: one meaning, one digest; what is not canonical is refused."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iap_authz.errors import Corrupt, Malformed, PolicyInvalid
from iap_authz.model.ids import PolicyDigest
from iap_authz.policy.bundle import check_digest, join_chunks, load_canonical, render_canonical, split_chunks
from iap_authz.policy.canonical import parse_canonical
from iap_authz.policy.compile import load_policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.parse import parse_policies
from iap_authz.policy.source import SourceFile
from tests.unit.policy.building import known_facts, load, route, source

ROOT = Path(__file__).resolve().parents[3]

PLAIN = """\
kind: Policy
name: orders
levels:
  eu: location.country in ["DE", "FR"]
routes:
- name: orders
  match: {hosts: [b.example, a.example], methods: [HEAD, GET], paths: [/b/**, "/a/{x}"]}
  challenge:
  - {id: up, when: 'device.state == ABSENT', with: {max_age: 60, acr: mfa}}
  allow:
  - {id: eu, when: level.eu}
  shadow:
  - {id: s, deny: '!level.eu'}
  on_allow: {set_headers: {x-b: '"b"', x-a: '"a"'}}
"""

SAME = """\
# the same, written by someone else
routes:
  - on_allow:
      set_headers:
        x-a: "\\"a\\""
        x-b: '"b"'
    shadow: [{deny: "!level.eu", id: s}]
    allow: [{"when": "level.eu", "id": "eu"}]
    challenge:
      - with:
          acr: "mfa"
          max_age: 60
        when: |-
          device.state == ABSENT
        id: "up"
    deny: []
    durability: journal
    match:
      paths: ["/a/{x}", '/b/**']
      methods: [GET, HEAD]
      hosts:
        - a.example
        - b.example
    name: orders
levels: {eu: 'location.country in ["DE", "FR"]'}
name: "orders"
kind: Policy
"""

CANONICAL = (
    '{"kind":"PolicyBundle","policies":[{"kind":"Policy","levels":{"eu":"location.country in [\\"DE\\", \\"FR\\"]"},'
    '"name":"orders","routes":[{"allow":[{"id":"eu","when":"level.eu"}],"challenge":[{"id":"up","when":"device.state =='
    ' ABSENT","with":{"acr":"mfa","max_age":60}}],"durability":"journal","match":{"hosts":["a.example","b.example"],'
    '"methods":["GET","HEAD"],"paths":["/a/{x}","/b/**"]},"name":"orders","on_allow":{"set_headers":{"x-a":"\\"a\\"",'
    '"x-b":"\\"b\\""}},"shadow":[{"deny":"!level.eu","id":"s"}]}]}]}'
)


def digest(content: str, name: str = "p.yaml") -> bytes:
    return load_policy([SourceFile(name=name, content=content.encode())]).digest


def test_the_canonical_bytes() -> None:
    policy = load_policy([SourceFile(name="p.yaml", content=PLAIN.encode())])
    assert policy.canonical.decode() == CANONICAL
    assert policy.digest == hashlib.sha256(CANONICAL.encode()).digest()


def test_the_same_meaning_has_the_same_digest() -> None:
    assert digest(PLAIN) == digest(SAME, "other.yaml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("level.eu}", "level.eu }"),
        ("level.eu}", "(level.eu)}"),
        ("!level.eu", "! level.eu"),
        ("max_age: 60", "max_age: 61"),
        ("acr: mfa", "acr: mfb"),
        ("name: orders\nlevels", "name: order\nlevels"),
        ("- name: orders", "- name: order"),
        ("/b/**", "/b/*"),
        ("/a/{x}", "/a/{y}"),
        ("methods: [HEAD, GET], ", ""),
        ("methods: [HEAD, GET], ", "methods: [DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT], "),
        ("{id: s, deny", "{id: s, allow"),
        ("  shadow:", "  durability: log\n  shadow:"),
        ("x-b: '\"b\"'", "x-b: '\"c\"'"),
    ],
)
def test_another_meaning_has_another_digest(old: str, new: str) -> None:
    assert PLAIN.count(old) == 1
    # A blank that YAML drops is no other text.
    same = PLAIN.replace(old, new) == PLAIN or (old, new) == ("level.eu}", "level.eu }")
    assert (digest(PLAIN.replace(old, new)) == digest(PLAIN)) is same


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        (["{}", "{assertion: false}", "{assertion: }"], None),
        (["{assertion: true}", "{assertion: {request_binding: true}}"], '{"assertion":true}'),
        (
            ["{assertion: {audience: a}}", '{assertion: {request_binding: true, audience: "a"}}'],
            '{"assertion":{"audience":"a"}}',
        ),
        (["{assertion: {request_binding: false}}"], '{"assertion":{"request_binding":false}}'),
        (
            ["{assertion: {request_binding: false, audience: a}}"],
            '{"assertion":{"audience":"a","request_binding":false}}',
        ),
        (
            ["{set_headers: {x-a: '\"a\"'}, assertion: true}"],
            '{"assertion":true,"set_headers":{"x-a":"\\"a\\""}}',
        ),
    ],
)
def test_an_assertion_has_one_canonical_form(spellings: list[str], canonical: str | None) -> None:
    for spelling in spellings:
        text = f"kind: Policy\nname: p\nroutes:\n- {{name: r, match: {{paths: [/a]}}, on_allow: {spelling}}}\n"
        policy = load_policy([SourceFile(name="p.yaml", content=text.encode())])
        tail = b"" if canonical is None else f',"on_allow":{canonical}'.encode()
        assert policy.canonical.endswith(b'"name":"r"' + tail + b"}]}]}")
        again = load_canonical(policy.canonical)
        assert (again.canonical, again.routes[0].assertion) == (policy.canonical, policy.routes[0].assertion)


def test_rules_keep_their_order_and_files_do_not() -> None:
    there = load(route({"allow": ["true", "false"]})).digest
    back = load(route({"allow": ["false", "true"]})).digest
    assert there != back
    files = [source(route({}, name=f"r{n}", match={"paths": [f"/{n}"]}), name=f"p{n}") for n in range(3)]
    forward, backward = load_policy(files), load_policy(files[::-1])
    assert forward.digest == backward.digest
    assert forward.name == backward.name == "p0+p1+p2"


@pytest.mark.parametrize("content", [PLAIN, SAME, "kind: Policy\nname: none\nroutes: []\n"])
def test_canonical_bytes_load_to_the_same_policy(content: str) -> None:
    policy = load_policy([SourceFile(name="p.yaml", content=content.encode())])
    again = load_canonical(policy.canonical)
    assert (again.digest, again.canonical, again.name) == (policy.digest, policy.canonical, policy.name)
    assert [each.name for each in again.routes] == [each.name for each in policy.routes]
    assert evaluate(again, known_facts()) == evaluate(policy, known_facts())
    assert render_canonical(parse_canonical(policy.canonical)) == policy.canonical


def test_an_empty_bundle_has_a_canonical_form() -> None:
    policy = load_policy([])
    assert policy.canonical == b'{"kind":"PolicyBundle","policies":[]}'
    assert (policy.name, policy.routes) == ("", ())
    assert load_canonical(policy.canonical).digest == policy.digest


def test_characters_outside_ascii_stay_as_they_are() -> None:
    condition = 'identity.subject == "\u00e4\u2028\U0001f600"'
    policy = load(route({"allow": [condition]}))
    assert condition.replace('"', '\\"').encode() in policy.canonical
    assert load_canonical(policy.canonical).digest == policy.digest


def nearly(**changes: object) -> bytes:
    document = json.loads(CANONICAL)
    document["policies"][0]["routes"][0].update(changes)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"kind":"PolicyBundle"}',
        b'{"kind":"PolicyBundle","policies":{}}',
        b'{"kind":"PolicyBundle","policies":[1]}',
        b'{"kind":"PolicyBundle","policies":[NaN]}',
        nearly(on_allow={"assertion": False}),
        nearly(on_allow={"assertion": {"request_binding": True}}),
        b'{"extra":1,"kind":"PolicyBundle","policies":[]}',
        b'{"policies":[],"kind":"PolicyBundle"}',
        b'{"kind":"PolicyBundle","kind":"PolicyBundle","policies":[]}',
        b'{"kind": "PolicyBundle","policies":[]}',
        b'{"kind":"PolicyBundle","policies":[]}\n',
        b'\xef\xbb\xbf{"kind":"PolicyBundle","policies":[]}',
        b"[" * 100_000,
        b'{"kind":"PolicyBundle","policies":' + b"[" * 90 + b"]" * 90 + b"}",
        CANONICAL.replace("eu", "\\u0065u").encode(),
        CANONICAL[:-10].encode(),
        nearly(deny=[]),
        nearly(durability=None),
        nearly(name=1.5),
    ],
)
def test_bytes_that_are_not_canonical_are_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        load_canonical(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"allow": [{"id": "eu", "when": "device.mangd"}]},
        {"unknown": "x"},
        {"name": "A"},
        {"name": True},
        {"name": "\ud800"},
        {"on_allow": {"assertion": "true"}},
        {"on_allow": {"assertion": 1}},
    ],
)
def test_canonical_bytes_with_wrong_content_are_invalid(changes: dict[str, object]) -> None:
    content = nearly(**changes) if changes != {"name": "\ud800"} else CANONICAL.replace("eu", "\\ud800").encode()
    with pytest.raises((PolicyInvalid, Malformed)):
        load_canonical(content)


@pytest.mark.parametrize("size_bytes", [1, 7, 49_152])
def test_chunks(size_bytes: int) -> None:
    content = CANONICAL.encode() * 200
    chunks = split_chunks(content, size_bytes)
    assert join_chunks(chunks) == content
    assert all(len(chunk) == size_bytes for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= size_bytes


def test_chunks_of_no_size_are_refused() -> None:
    with pytest.raises(ValueError, match="got chunks of 0 bytes"):
        split_chunks(b"x", 0)


def test_the_digest_tells_whether_all_chunks_are_there() -> None:
    policy = load(route({}))
    chunks = split_chunks(policy.canonical, 16)
    check_digest(join_chunks(chunks), policy.digest)
    for wrong in (chunks[1:], chunks[:-1], chunks[::-1], (*chunks, b"x")):
        with pytest.raises(Corrupt, match="got digest"):
            check_digest(join_chunks(wrong), policy.digest)
    with pytest.raises(Corrupt):
        check_digest(policy.canonical, PolicyDigest(b""))


def test_parse_policies_gives_sources_by_name() -> None:
    bundle = parse_policies([source(name="b", file="1"), source(name="a", file="2")])
    assert [policy.name.value for policy in bundle.policies] == ["a", "b"]
    with pytest.raises(PolicyInvalid):
        parse_policies([source(name="a"), source(name="a")])


PROGRAM = """
import sys
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.policy.bundle import load_canonical
from iap_authz.policy.evaluate import evaluate
canonical, facts = bytes.fromhex(sys.argv[1]), facts_pb2.Facts.FromString(bytes.fromhex(sys.argv[2]))
policy = load_canonical(canonical)
print(policy.digest.hex(), policy.canonical.hex(), evaluate(policy, facts))
"""


def test_two_processes_agree() -> None:
    """Row 228: whatever the order of their sets and dictionaries."""
    conditions = [f'identity.claims["c{n}"] == "x" && device.os == "y"' for n in range(8)]
    policy = load(route({"allow": conditions}))
    facts = known_facts()
    told = set()
    for seed in ("1", "2"):
        arguments = [sys.executable, "-c", PROGRAM, policy.canonical.hex(), facts.SerializeToString().hex()]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        told.add(subprocess.run(arguments, check=True, capture_output=True, env=environment, timeout=60).stdout)
    assert told == {f"{policy.digest.hex()} {policy.canonical.hex()} {evaluate(policy, facts)}\n".encode()}
