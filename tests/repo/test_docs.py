# SPDX-License-Identifier: Apache-2.0
"""The documentation says what the code does: links, commands, examples, tables and worked bytes are all looked at."""

import ast
import base64
import json
import re
import shlex
import struct
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from ruamel.yaml import YAML
from typer.testing import CliRunner

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.facts.inventory_fields import DEVICE_FIELDS, INVENTORY_FIELDS
from iap_authz.adapters.facts.inventory_file import parse_inventory
from iap_authz.adapters.facts.network_lists import parse_network_lists
from iap_authz.cli import make_app
from iap_authz.config import SidecarConfig, parse_config
from iap_authz.errors import ConfigInvalid
from iap_authz.facts.device import OPERATING_SYSTEMS, RISKS
from iap_authz.model.decision import Decision
from iap_authz.model.document import render_duration
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.status import http_status
from iap_authz.policy.compile import load_policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile
from iap_authz.records.evidence import check_evidence, parse_evidence
from iap_authz.records.journal_format import parse_header, read_frames
from iap_authz.records.record import parse_record
from iap_authz.records.started import possession_message, writer_id, writer_origin
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import NodeHash, leaf_hash, node_hash, parse_leaf_hash
from iap_authz.tlog.note import KeyType, VerifierKey, check_ed25519, parse_key_text
from iap_authz.tlog.proof import check_range
from iap_authz.tlog.proof_file import check_proof_file, parse_proof_file
from iap_authz.tlog.tiles import Bundle, Tile, render_bundle_path, render_tile_path
from tests.repo.tree import PACKAGE, ROOT, shown

DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
GOLDEN = ROOT / "tests" / "golden" / "journal-v1"

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SHELL_ENDS = frozenset({"|", "||", ">", ">>", "2>", "<", "&", "&&", ";"})


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """What a page's code blocks are called, and their text."""
    return ((found[1].strip(), found[2]) for found in FENCE.finditer(page.read_text()))


def block(page: str, name: str) -> str:
    (text,) = [text for label, text in blocks(DOCS / page) if label == name]
    return text.rstrip("\n")


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of every table of a page whose heading row starts with `first`."""
    found: list[list[str]] = []
    inside = False
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == first)
        if inside and cells[0] != first and not cells[0].startswith("---"):
            found.append(cells)
    assert found, f"{page} has no table of {first}"
    return found


# ---- links


def anchors(page: Path) -> set[str]:
    """As GitHub makes them out of headings."""
    text = FENCE.sub("", page.read_text())
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if path.startswith(("https:", "http:", "mailto:")):
            continue
        there = (page.parent / path).resolve() if path else page
        is_lost = not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there))
        if is_lost or not there.is_relative_to(ROOT):
            lost.append(target)
    assert lost == []


# ---- commands


def commands(page: Path) -> list[list[str]]:
    """The command lines of `console` blocks, each up to the first pipe or redirection."""
    found = []
    for label, text in blocks(page):
        for line in text.replace("\\\n", " ").splitlines() if label == "console" else ():
            words = line.removeprefix("$ ").strip()
            if words.startswith(("iap-authz ", "make ")):
                parts = shlex.split(words, comments=True)
                end = next((at for at, part in enumerate(parts) if part in SHELL_ENDS), len(parts))
                found.append(parts[:end])
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_commands_are_there(page: Path) -> None:
    application = make_app()
    for name, *arguments in commands(page):
        if name == "make":
            assert {word for word in arguments if "=" not in word} <= targets()
            continue
        # click looks for unknown commands and options before it shows the help that ends it
        result = CliRunner().invoke(application, [*arguments, "--help"])
        assert result.exit_code == 0, f"{arguments}: {result.output}"


def test_readme_has_the_two_commands() -> None:
    assert {("make", "demo"), ("make", "test")} <= {tuple(words) for words in commands(ROOT / "README.md")}


# ---- examples


def load_example(text: str) -> str:
    """What kind of file an example is, once it has been loaded as one."""
    content = text.encode()
    documents = list(YAML(typ="safe", pure=True).load_all(text))
    keys = documents[0] if isinstance(documents[0], dict) else {}
    if keys.get("kind") == "Sidecar":
        parse_config(content, ROOT / "sidecar.yaml")
        return "sidecar"
    if keys.get("kind") == "Policy":
        load_policy([SourceFile(name="policy.yaml", content=content)])
        return "policy"
    if "devices" in keys:
        parse_inventory(content, "inventory.yaml")
        return "inventory"
    if set(keys) == {"networks"}:
        parse_network_lists(content, "networks.yaml")
        return "networks"
    return "other"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_examples_load(page: Path) -> None:
    for label, text in blocks(page):
        if label.split(" ")[0] == "yaml":
            load_example(text)
        elif label.split(" ")[0] == "json":
            json.loads(text)


@pytest.mark.parametrize(
    ("page", "kinds"),
    [
        ("README.md", ["sidecar", "policy"]),
        ("docs/configuration.md", ["sidecar", "inventory", "networks"]),
        ("docs/policy.md", ["policy", "policy"]),
    ],
)
def test_examples_are_whole_files(page: str, kinds: list[str]) -> None:
    assert [load_example(text) for label, text in blocks(ROOT / page) if label == "yaml"] == kinds


# ---- reasons.md


@cache
def reasons_given() -> frozenset[str]:
    """The reasons that some module of the package names, beside the list itself and the ranges of statuses."""
    listed = {PACKAGE / "model" / "reason.py", PACKAGE / "model" / "status.py"}
    sources = [path for path in PACKAGE.rglob("*.py") if path not in listed and "_pb" not in path.parts]
    return frozenset(
        name for path in sources for name in re.findall(r"(?:\bReason\.|\bREASON_)([A-Z_]+)\b", path.read_text())
    )


def status_of(reason: Reason) -> str:
    if reason in (Reason.CANCELLED, Reason.DEVICE_UNKNOWN):
        return "-"
    verdict = Verdict.DENY
    if reason is Reason.ALLOWED:
        verdict = Verdict.ALLOW
    elif reason in (Reason.CHALLENGED_BY_RULE, Reason.IDENTITY_ABSENT):
        verdict = Verdict.CHALLENGE
    elif Reason.SOURCE_STALE <= reason <= Reason.CONFIG_ERROR:
        verdict = Verdict.UNDECIDED
    asks = {"redirect": "https://login.example.com/"} if reason is Reason.CHALLENGED_BY_RULE else {}
    decision = Decision(verdict=verdict, reason=reason, asks=asks)
    return ", ".join(dict.fromkeys(str(http_status(decision, wants=wants)) for wants in ("json", "html")))


def test_reasons_are_those_of_the_code() -> None:
    table = rows("reasons.md", "number")
    assert [(int(number), code.strip("`")) for number, code, _, _ in table] == [(one.value, one.code) for one in Reason]
    assert [(code, status) for _, code, status, _ in table] == [(f"`{one.code}`", status_of(one)) for one in Reason]
    later = {code.strip("`").upper() for _, code, _, meaning in table if "not in this version" in meaning}
    bound_tokens_are_refused = {"BINDING_MISMATCH"}
    assert later - bound_tokens_are_refused == {one.name for one in Reason} - reasons_given()


# ---- configuration.md

PREFIXES = {
    "IssuerConfig": "identity.issuers[].",
    "DeviceConfig": "device.",
    "LocationConfig": "location.",
    "JournalConfig": "journal.",
    "SidecarConfig": "",
}
LEAST = {
    "kind": "Sidecar",
    "listen": "127.0.0.1:9001",
    "log_origin": "log.example.com",
    "journal": {"directory": "journal"},
    "policies": ["policy.yaml"],
    "identity": {
        "issuers": [{"name": "a", "issuer": "b", "audiences": ["c"], "algorithms": ["ES256"], "jwks_file": "jwks.json"}]
    },
    "device": {"inventory_file": "inventory.yaml"},
    "location": {},
}


def documented_keys() -> dict[str, str]:
    """Each key of the file with the docstring of its field."""
    found = {}
    for node in ast.parse((PACKAGE / "config.py").read_text()).body:
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    key = ast.unparse(field.target).replace("bound_bytes", "bound")
                    found[PREFIXES[node.name] + key] = str(ast.literal_eval(text.value))
    return found


def configure(key: str = "", value: object = None) -> SidecarConfig:
    """The smallest configuration with one key set."""
    document = json.loads(json.dumps(LEAST))
    section = document
    *path, last = key.split(".")
    for name in path:
        section = section[name.removesuffix("[]")]
        section = section[0] if name.endswith("[]") else section
    if key:
        section[last] = value
    return parse_config(json.dumps(document).encode(), ROOT / "sidecar.yaml")


def value_of(config: SidecarConfig, key: str) -> str:
    """A value as the page shows it."""
    value: object = config
    for name in key.replace("identity.", "").replace("journal.bound", "journal.bound_bytes").split("."):
        value = getattr(value, name.removesuffix("[]"))
        value = value[0] if name.endswith("[]") and isinstance(value, tuple) else value
    if key == "journal.bound":
        return f"{int(str(value)) // 1024**3} GiB"
    if isinstance(value, timedelta):
        return render_duration(value)
    return "none" if value in (None, ()) else ".".join(value) if isinstance(value, tuple) else str(value)


def test_every_key_is_documented_as_in_the_code() -> None:
    table = {key.strip("`"): meaning for key, _, _, meaning in rows("configuration.md", "key") if key != "`kind`"}
    assert table == documented_keys()


def test_defaults_and_limits_hold() -> None:
    table = [
        (key.strip("`"), default.strip("`"), limits) for key, default, limits, _ in rows("configuration.md", "key")
    ]
    assert {key: default for key, default, _ in table if default != "-"} == {
        key: value_of(configure(), key) for key, default, _ in table if default != "-"
    }
    for key, default, limits in table:
        for text, step in zip(re.findall("`(.+?)`", limits), (-1, 1), strict=False):
            number = int(re.findall(r"\d+", text)[0])
            configure(key, int(text) if default.isdecimal() else text)
            beyond = text.replace(str(number), str(number + step))
            if number + step >= 0:
                with pytest.raises(ConfigInvalid):
                    configure(key, int(beyond) if default.isdecimal() else beyond)


def test_every_field_of_an_inventory_is_documented() -> None:
    table = {row[0].strip("`"): row[1] for row in rows("configuration.md", "inventory key")}
    assert list(table) == [*INVENTORY_FIELDS, *(f"devices[].{name}" for name in DEVICE_FIELDS)]
    assert tuple(re.findall("`(.+?)`", table["devices[].os"])) == OPERATING_SYSTEMS
    assert tuple(re.findall("`(.+?)`", table["devices[].risk"])) == RISKS


# ---- policy.md


def type_of(field: FieldDescriptor) -> str:
    message = field.message_type
    if message is not None:
        words = {"Timestamp": "time", "Duration": "duration"}
        return "map of text" if message.GetOptions().map_entry else words[message.name]
    if field.enum_type is not None:
        return {"State": "state", "Reason": "reason number"}[field.enum_type.name]
    words = {"TYPE_STRING": "text", "TYPE_BOOL": "boolean", "TYPE_INT64": "whole number", "TYPE_DOUBLE": "number"}
    name = next(name for name in (*words, "TYPE_BYTES") if getattr(FieldDescriptor, name) == field.type)
    return "list of text" if field.is_repeated else words.get(name, "bytes")


def note_on(family: str, name: str) -> str:
    if name in ("empty", "untrusted"):
        return "never read"
    source = re.sub(r'""".*?"""', "", (PACKAGE / "facts" / f"{family}.py").read_text(), flags=re.DOTALL)
    return "" if re.search(rf'\b{name}=|\.{name}\b|"{name}"', source) else "not in this version"


@pytest.mark.parametrize("family", ["identity", "device", "location", "request"])
def test_every_fact_is_documented(family: str) -> None:
    fields = facts_pb2.DESCRIPTOR.message_types_by_name[family.title()].fields
    want = [[f"`{family}.{field.name}`", type_of(field), note_on(family, field.name)] for field in fields]
    assert rows("policy.md", f"fact of `{family}`") == want


def decide(rules: dict[str, str], **states: tuple[int, int]) -> Decision:
    """The decision of one rule a row about a request of which nothing is known but the states given."""
    facts = facts_pb2.Facts()
    facts.request.method, facts.request.host = "GET", "orders.example.com"
    facts.request.segments.append("a")
    for family in ("request", "identity", "device", "location"):
        part = getattr(facts, family)
        part.state, part.problem = states.get(family, (facts_pb2.PRESENT, 0))
    route: dict[str, object] = {row: [{"id": "rule", "when": text}] for row, text in rules.items()}
    route |= {"name": "a", "match": {"paths": ["/a"]}}
    content = json.dumps({"kind": "Policy", "name": "a", "routes": [route]}).encode()
    return evaluate(load_policy([SourceFile(name="policy.yaml", content=content)]), facts)


def test_absent_is_shown_as_it_is_decided() -> None:
    broken = (facts_pb2.ERROR, Reason.SOURCE_ERROR.value)
    for condition, *said in rows("policy.md", "condition"):
        decisions = [decide({"allow": condition.strip("`")}, device=state) for state in ((facts_pb2.ABSENT, 0), broken)]
        words = {"allowed": "TRUE", "no_rule_matched": "FALSE", "fact_absent": "ABSENT", "source_error": "UNKNOWN"}
        assert said == [words[decision.reason.code] for decision in decisions], condition


def test_decision_table_is_that_of_the_code() -> None:
    absent, broken = (facts_pb2.ABSENT, 0), (facts_pb2.ERROR, Reason.SOURCE_ERROR.value)
    table = rows("policy.md", "row")
    assert [row for row, *_ in table] == ["deny", "challenge", "allow", "after all rows"]
    for row, is_true, is_unknown, _ in table[:3]:
        assert decide({row: 'request.method == "GET"'}).verdict.name == is_true
        assert decide({row: "device.managed"}, device=broken).verdict.name == is_unknown
        assert decide({row: "device.managed"}, device=absent).verdict is Verdict.DENY
        assert decide({row: 'identity.subject == "a"'}, identity=absent).verdict is Verdict.CHALLENGE
    assert decide({}).reason is Reason.NO_RULE_MATCHED


def test_routes_are_found_in_the_order_told() -> None:
    example = [text for label, text in blocks(DOCS / "policy.md") if label == "yaml"][1]
    policy = load_policy([SourceFile(name="policy.yaml", content=example.encode())])
    for request, route in rows("policy.md", "request"):
        method, host, path = request.strip("`").split(" ")
        found = policy.find_route(method, host, path.split("/")[1:])
        assert found is not None
        assert found.route.name == route


# ---- formats.md: everything is computed out of the page


def bytes_of(name: str) -> bytes:
    """The bytes of a block of hex or of a dump with offsets and text."""
    lines = block("formats.md", name).splitlines()
    return bytes.fromhex("".join(line[10:58] if re.match(r"[0-9a-f]{8}  ", line) else line for line in lines))


def last_words(name: str) -> list[str]:
    return [line.split()[-1] for line in block("formats.md", name).splitlines()]


def note() -> bytes:
    return (block("formats.md", "text note") + "\n").encode()


def verifier() -> VerifierKey:
    name, _, public_key = parse_key_text(block("formats.md", "text key"), [KeyType.ED25519])
    return VerifierKey(name=name, public_key=public_key)


def test_hashes_and_audit_id() -> None:
    leaves = [leaf_hash(b"a"), leaf_hash(b"b")]
    want = [sha256(b"").digest(), *leaves, node_hash(*leaves)]
    assert last_words("text tree") == [digest.hex() for digest in want]
    record = bytes_of("text record")
    assert sha256(b"\0" + record).hexdigest() == block("formats.md", "text audit-id")
    assert parse_record(record).WhichOneof("body") == "writer_stopped"


def test_writer_and_possession() -> None:
    public_key, writer = (bytes.fromhex(word) for word in last_words("text writer"))
    assert sha256(public_key).digest() == writer
    message = (block("formats.md", "text possession") + "\n").encode()
    origin = message.decode().splitlines()[1]
    assert message == possession_message(origin, writer_id(public_key))
    check_ed25519(public_key, message, signature=bytes_of("text possession-signature"))
    assert verifier() == VerifierKey(name=writer_origin(origin, writer_id(public_key)), public_key=public_key)


def test_checkpoint_key_and_proofs() -> None:
    checkpoint = open_checkpoint(note(), verifier())
    assert checkpoint.root.hex() == block("formats.md", "text root")
    key_id = base64.b64decode(note().split()[-1])[:4].hex()
    assert f"here `{key_id}`" in (DOCS / "formats.md").read_text()
    leaves = [parse_leaf_hash(bytes.fromhex(word)) for word in last_words("text leaves")]
    proof = [NodeHash(bytes.fromhex(word)) for word in last_words("text range-proof")]
    check_range(leaves[2:5], 2, size=checkpoint.size, proof=proof, root=checkpoint.root)
    check_range(leaves, 0, size=len(leaves), proof=[], root=checkpoint.root)


def test_proof_file_and_evidence() -> None:
    record = bytes_of("text record")
    proof_file = parse_proof_file((block("formats.md", "text proof-file") + "\n").encode())
    assert check_proof_file(proof_file, leaf_hash(record), verifier=verifier()).size == len(last_words("text leaves"))
    evidence = parse_evidence(block("formats.md", "json evidence").encode())
    report = check_evidence(evidence, writer_id(verifier().public_key))
    assert (evidence.record, report.audit_id) == (record, block("formats.md", "text audit-id"))


def test_frames() -> None:
    segments = sorted(GOLDEN.glob("*/*.segment"))
    frame, small = bytes_of("text header-frame"), bytes_of("text small-frames")
    assert segments[0].read_bytes().startswith(frame)
    assert small in segments[1].read_bytes()
    (header,) = read_frames(frame)
    assert parse_header(header.payload).public_key == verifier().public_key
    length, checksum = struct.unpack_from(">II", frame)
    assert f"length {length}, checksum `{checksum:#010x}`, type {header.type}." in (DOCS / "formats.md").read_text()
    assert [(one.type, one.payload) for one in read_frames(small)] == [
        (3, b"a companion"),
        (200, b"of a later version"),
    ]


def test_tile_paths() -> None:
    for level, index, width, path in rows("formats.md", "level or entries"):
        place = (int(index), int(width))
        got = render_bundle_path(Bundle(*place)) if level == "entries" else render_tile_path(Tile(int(level), *place))
        assert f"`{got}`" == path
