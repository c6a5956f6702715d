# SPDX-License-Identifier: Apache-2.0
"""What the pages say is so: links lead somewhere, commands and options exist, examples load, tables match the code."""

import ast
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from iap_authz.adapters.facts.api_keys import API_KEY_FIELDS, API_KEYS_FIELDS, parse_api_keys
from iap_authz.adapters.facts.inventory_fields import DEVICE_FIELDS, INVENTORY_FIELDS
from iap_authz.adapters.facts.inventory_file import parse_inventory
from iap_authz.adapters.facts.network_lists import parse_network_lists
from iap_authz.adapters.facts.revocations import REVOCATIONS_FIELDS, REVOKED_FIELDS, parse_revocations
from iap_authz.bootstrap.oauth2_settings import parse_oauth2
from iap_authz.cli import make_app
from iap_authz.config import SidecarConfig, parse_config
from iap_authz.errors import ConfigInvalid
from iap_authz.key_wiring import load_index_key, open_vault
from iap_authz.log_config import parse_access, parse_enrolment, parse_log_config
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile
from iap_authz.tlog.key_file import parse_key_file
from tests.repo.pages import DOCS, Block, anchors, blocks, code, links, pages, prose, rows_with
from tests.repo.tree import PACKAGE, ROOT, files, package_sources, shown

README = ROOT / "README.md"
CONFIGURATION = DOCS / "configuration.md"
BLOCKS = [block for page in pages() for block in blocks(page)]
YAML = [block for block in BLOCKS if block.language == "yaml"]


def place(block: Block) -> str:
    """The name of a test's parameter."""
    return block.place


# ---- links


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere: to no file, or to no heading of one."""
    found = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def test_every_link_resolves() -> None:
    assert {shown(page): broken for page in pages() if (broken := broken_links(page))} == {}


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `x` title\n[a](page.md#one-x-title) [b](page.md#two) [c](none.md) [d](https://e.example/f)\n"
    )
    assert broken_links(page) == ["page.md#two", "none.md"]


def test_every_page_is_reached_from_the_index() -> None:
    index = DOCS / "README.md"
    reached = {(DOCS / link.partition("#")[0]).resolve() for link in links(index)} | {index}
    assert {shown(page) for page in pages() if page.is_relative_to(DOCS)} <= {
        shown(page) for page in reached if page.is_relative_to(ROOT)
    }


# ---- commands


def console_lines() -> list[tuple[str, str]]:
    """Place and text of each command of the console blocks, continued lines joined."""
    texts = [(block.place, block.text.replace("\\\n", " ")) for block in BLOCKS if block.language == "console"]
    return [(where, line) for where, text in texts for line in text.splitlines() if line.strip()]


def check_command(line: str) -> None:
    """Assert that a line calls a command of ours with arguments and options that it has."""
    program, *words = shlex.split(line)
    assert program == "iap-authz"
    command = get_command(make_app())
    while isinstance(command, TyperGroup):
        assert words, f"no command in {line}"
        known, command_name = command.commands, words.pop(0)
        assert command_name in known, f"no command {command_name} in {line}"
        command = known[command_name]
    options = {name: option for option in command.params for name in option.opts if isinstance(option, TyperOption)}
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    given = 0
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            given += 1
            continue
        assert word in options, f"no option {word} in {line}"
        if not options[word].is_flag:
            assert words, f"no value for {word} in {line}"
            words.pop(0)
    least = sum(argument.required for argument in arguments)
    most = 99 if any(argument.nargs < 0 for argument in arguments) else len(arguments)
    assert least <= given <= most, f"got {given} arguments in {line}"


@pytest.mark.parametrize(("where", "line"), console_lines())
def test_every_command_and_option_exists(where: str, line: str) -> None:
    if line.startswith("make "):
        (target,) = shlex.split(line)[1:]
        assert re.search(rf"^{re.escape(target)}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE), where
    else:
        check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "iap-authz nothing",
        "iap-authz policy check",
        "iap-authz probe a b",
        "iap-authz fsck j --jsn",
        "iap-authz fsck --origin",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(line)


def test_the_two_commands_stand_in_the_readme() -> None:
    assert {"make demo", "make test"} <= {line for where, line in console_lines() if where.startswith("README.md")}


def test_the_readmes_steps_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(README):
        if block.language == "yaml":  # a file that is shown in two parts is both of them
            with (tmp_path / block.text.splitlines()[0].removeprefix("# ")).open("a") as file:
                file.write(block.text)
    config = parse_config((tmp_path / "sidecar.yaml").read_bytes(), tmp_path / "sidecar.yaml")
    log = parse_log_config((tmp_path / "log.yaml").read_bytes(), tmp_path / "log.yaml")
    assert config.policies == (tmp_path / "policy.yaml",)
    assert config.log is not None
    assert (config.log_origin, config.log.address) == (log.origin, log.listen)
    assert parse_enrolment(log.enrolment_file.read_bytes(), "enrolment.yaml")
    lines = [line for where, line in console_lines() if where.startswith("README.md")]
    for prefix in ("policy check", "envoy render", "keys new log", "keys new vault", "keys new index"):
        (line,) = [line for line in lines if line.startswith(f"iap-authz {prefix}")]
        result = CliRunner().invoke(make_app(), shlex.split(line)[1:], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert config.listen.removeprefix("unix:") in (tmp_path / "envoy.yaml").read_text()
    assert [key.name for key in parse_key_file(log.key_file.read_bytes())] == [log.origin]
    assert log.vault is not None
    assert open_vault(log.vault).epochs == (1,)
    assert load_index_key(log.vault.index_key_file)


# ---- examples


def load_yaml(block: Block) -> str:
    """Load an example as the program would; returns what it is."""
    content = block.text.encode()
    if "kind: Policy\n" in block.text:
        load_policy([SourceFile(name=block.place, content=content)])
        return "policy"
    if "kind: Sidecar\n" in block.text:
        parse_config(content, block.page)
        return "sidecar"
    if "kind: Log\n" in block.text:
        parse_log_config(content, block.page)
        return "log"
    if "kind: OAuth2\n" in block.text:
        parse_oauth2(content, block.place)
        return "oauth2"
    return load_part(block, content)


def load_part(block: Block, content: bytes) -> str:
    """The same, for files that do not say what they are."""
    if block.text.startswith("# sidecar.yaml\nlog:\n"):
        (whole,) = [each.text for each in blocks(block.page) if each.text.startswith("# sidecar.yaml\nkind:")]
        assert parse_config(f"{whole}{block.text}".encode(), block.page).log is not None
        return "log section"
    for kind, is_one, parse in PARTS:
        if is_one(block.text):
            assert parse(content, f"{block.place}.yaml")
            return kind
    raise AssertionError(block.place)


PARTS: list[tuple[str, Callable[[str], bool], Callable[[bytes, str], object]]] = [
    ("access", lambda text: "tokens:\n" in text and "roles:" in text, parse_access),
    ("enrolment", lambda text: "tokens:\n" in text, parse_enrolment),
    ("revocations", lambda text: "revoked:\n" in text, parse_revocations),
    ("API keys", lambda text: "keys:\n" in text, lambda *file: parse_api_keys(*file, pepper=bytes(32))),
    ("networks", lambda text: text.startswith("networks:"), parse_network_lists),
    ("inventory", lambda _: True, parse_inventory),
]
"""What each is, how its example is told from those after it, and what loads it."""


@pytest.mark.parametrize("block", YAML, ids=place)
def test_every_yaml_example_loads(block: Block) -> None:
    assert load_yaml(block)


def test_each_kind_of_file_has_an_example() -> None:
    assert {load_yaml(block) for block in YAML} == {
        *("policy", "sidecar", "log section", "log", "enrolment", "access", "networks", "inventory"),
        *("revocations", "API keys", "oauth2"),
    }


# ---- configuration.md

SECTIONS = {
    "SidecarConfig": "",
    "JournalConfig": "journal.",
    "AuditLogConfig": "log.",
    "SealConfig": "seal.",
    "IssuerConfig": "identity.issuers[].",
    "FetchConfig": "identity.issuers[].fetch.",
    "TokenSourceConfig": "identity.token_sources[].",
    "KubernetesConfig": "identity.issuers[].kubernetes.",
    "TrustDomainConfig": "identity.trust_domains[].",
    "RevocationsConfig": "identity.revocations.",
    "ApiKeysConfig": "identity.api_keys.",
    "DeviceConfig": "device.",
    "LocationConfig": "location.",
    "AssertionConfig": "assertion.",
    "ClientCertificateConfig": "client_certificate.",
}
LOG_SECTIONS = {
    "LogConfig": "",
    "VaultConfig": "vault.",
    "TokenConfig": "vault.pkcs11.",
    "PrivacyConfig": "privacy.",
}
KEYS = {
    "journal.bound_bytes": "journal.bound",
    "issuers": "identity.issuers[]",
    "token_sources": "identity.token_sources[]",
    "trust_domains": "identity.trust_domains[]",
    "revocations": "identity.revocations",
    "api_keys": "identity.api_keys",
}
"""Fields whose key in the file is another."""

OPENINGS = {
    "journal": "journal: {",
    "log": "log: {",
    "device": "device: {",
    "identity.issuers[]": "issuers: [{",
    "identity.issuers[].fetch": "fetch: {",
    "assertion": "assertion: {",
    "client_certificate": "client_certificate: {",
    "identity.revocations": "revocations: {",
    "identity.api_keys": "api_keys: {",
    "identity.issuers[].kubernetes": "kubernetes: {",
    "identity.token_sources[]": "token_sources: [{",
}
"""Where a section of `MINIMAL` begins."""

MINIMAL = """\
kind: Sidecar
listen: 127.0.0.1:0
log_origin: x
journal: {directory: j}
log: {address: "unix:l", verifier_key: "x+dcffef98+AUIpUJJGMwC/QE8foR4RNFf6vpk/LYdYYkGHrYdAe0Lr",
  enrolment_token_file: t}
seal: none
policies: [p]
identity: {issuers: [{name: a, issuer: b, audiences: [c], algorithms: [RS256], jwks_file: d},
  {name: e, issuer: f, audiences: [c], algorithms: [RS256], fetch: {jwks_url: "https://g/h"},
    kubernetes: {}}],
  trust_domains: [{name: k, bundle_file: l}],
  token_sources: [{header: authorization}],
  revocations: {file: r}, api_keys: {file: k, pepper_file: p}}
device: {inventory_file: i}
assertion: {issuer: i, listen: "unix:k"}
client_certificate: {proxies: ["spiffe://k/p"]}
"""


def documented_fields(module: str = "config.py", sections: Mapping[str, str] = SECTIONS) -> dict[str, str]:
    """Key of the file -> docstring, for every field of the configuration tree."""
    found = {}
    for node in ast.parse((PACKAGE / module).read_text()).body:
        if not isinstance(node, ast.ClassDef) or node.name not in sections:
            continue
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                key = sections[node.name] + field.target.id
                text = (
                    after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
                )
                found[KEYS.get(key, key)] = str(text)
    return found


def settings() -> list[dict[str, str]]:
    """The rows of the table of settings, but `kind`, which is no field."""
    rows = rows_with(CONFIGURATION, "key", "value", "default", "what")
    return [row for row in rows if row["key"] != "`kind`"]


def test_every_setting_is_explained_in_the_words_of_its_docstring() -> None:
    modules = (
        *("config", "config_seal", "config_identity", "config_credentials", "config_tokens", "config_certificate"),
        "config_assertion",
    )
    documented = {key: text for module in modules for key, text in documented_fields(f"{module}.py").items()}
    assert {code(row["key"]): row["what"] for row in settings()} == documented


def test_every_setting_of_a_log_is_explained_in_the_words_of_its_docstring() -> None:
    rows = rows_with(CONFIGURATION, "key of log.yaml", "value", "default", "what")
    explained = {code(row["key of log.yaml"]): row["what"] for row in rows}
    assert explained == documented_fields("log_config.py", LOG_SECTIONS)


def test_every_setting_of_a_login_is_explained_in_the_words_of_its_docstring() -> None:
    rows = rows_with(CONFIGURATION, "key of oauth2.yaml", "value", "default", "what")
    fields = documented_fields("bootstrap/oauth2_settings.py", {"OAuth2Settings": ""})
    assert {code(row["key of oauth2.yaml"]): row["what"] for row in rows} == {
        key: " ".join(text.split()) for key, text in fields.items()
    }
    with pytest.raises(ConfigInvalid) as bare:
        parse_oauth2(b"kind: OAuth2\n", "x")
    assert {fault.field for fault in bare.value.faults} == {
        code(row["key of oauth2.yaml"]) for row in rows if row["default"] == "required"
    }


def test_required_settings_of_a_log_are_required() -> None:
    rows = rows_with(CONFIGURATION, "key of log.yaml", "value", "default", "what")
    required = {code(row["key of log.yaml"]) for row in rows if row["default"] == "required"}
    with pytest.raises(ConfigInvalid) as bare:
        parse_log_config(b"kind: Log\n", Path("/x"))
    with pytest.raises(ConfigInvalid) as sections:
        parse_log_config(b"kind: Log\nvault: {pkcs11: {}}\nprivacy: {}\n", Path("/x"))
    faults = [*bare.value.faults, *sections.value.faults]
    assert {fault.field for fault in faults if fault.message.startswith("missing")} == required


def test_each_place_of_a_vault_has_an_example() -> None:
    texts = [block.text for block in YAML if block.page == CONFIGURATION and "kind: Log\n" in block.text]
    vaults = [parse_log_config(text.encode(), Path("/x")).vault for text in texts]
    assert {vault and vault.pkcs11 is not None for vault in vaults} == {True, False}


def config_with(changes: dict[str, str]) -> SidecarConfig:
    """The minimal configuration with other values, by dotted key."""
    text = MINIMAL
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        opening = OPENINGS.get(section)
        if section == "location":
            text += f"{'' if 'location:' in text else 'location:' + chr(10)}  {name}: {value}\n"
        elif opening is None:
            text = f"{name}: {value}\n{text}"
        else:
            text = text.replace(opening, f"{opening}{name}: {value}, ")
    return parse_config(text.encode(), Path("/x/sidecar.yaml"))


def test_the_defaults_are_those_of_the_code() -> None:
    defaults = {
        code(row["key"]): row["default"].strip("`")
        for row in settings()
        if row["default"] not in ("required", "none") and row["value"]
    }
    assert len(defaults) >= 12
    assert config_with(defaults) == config_with({})


def bounded() -> list[tuple[str, str]]:
    """Key and bounds of each setting that has some."""
    return [
        (code(row["key"]), row["value"]) for row in settings() if re.fullmatch(r"\w+ to \w+(?: bytes)?", row["value"])
    ]


@pytest.mark.parametrize(("key", "bounds"), bounded())
def test_the_bounds_are_those_of_the_code(key: str, bounds: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        config_with({key: "nonsense"})
    message = str(caught.value)
    least, _, most = bounds.partition(" to ")
    assert f"from {least} to {most}" in message


def test_required_settings_are_required() -> None:
    required = {code(row["key"]) for row in settings() if row["default"] == "required"}
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(
            b"kind: Sidecar\nidentity: {issuers: [{}], trust_domains: [{}], revocations: {}, api_keys: {}}\n"
            b"client_certificate: {}\ndevice: {}\njournal: {}\nlog: {}\nseal: {}\nassertion: {}\n",
            Path("/x"),
        )
    missing = [fault for fault in caught.value.faults if fault.message.startswith("missing")]
    fields = {fault.field.replace("[0]", "[]") for fault in missing}
    assert required - {"journal", "seal"} == fields


def test_every_field_of_an_inventory_is_explained() -> None:
    keys = {code(row["key"]) for row in rows_with(CONFIGURATION, "key", "value", "what")}
    assert keys == (INVENTORY_FIELDS.keys() - {"devices"}) | {f"devices[].{name}" for name in DEVICE_FIELDS}


def test_every_field_of_a_revocation_is_explained() -> None:
    rows = rows_with(CONFIGURATION, "key of a revocation list", "value", "what")
    want = (REVOCATIONS_FIELDS.keys() - {"revoked"}) | {f"revoked[].{name}" for name in REVOKED_FIELDS}
    assert {code(row["key of a revocation list"]) for row in rows} == want


def test_every_field_of_an_api_key_is_explained() -> None:
    rows = rows_with(CONFIGURATION, "key of an API key file", "value", "what")
    want = (API_KEYS_FIELDS.keys() - {"keys"}) | {f"keys[].{name}" for name in API_KEY_FIELDS}
    assert {code(row["key of an API key file"]) for row in rows} == want


# ---- threat-model.md, protocol.md, adr/


def names_of_tests(path: Path) -> set[str]:
    """The names of the tests in a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", prose(DOCS / "threat-model.md"))
    assert len(named) >= 30
    assert [f"{file}::{name}" for file, name in named if name not in names_of_tests(ROOT / file)] == []


def test_every_file_of_tests_that_is_named_exists() -> None:
    named = {(shown(page), path) for page in pages() for path in re.findall(r"`(tests/[\w/-]+\.py)", prose(page))}
    assert len(named) >= 30
    assert {(page, path) for page, path in named if not (ROOT / path).is_file()} == set()


RULES = re.compile(r"\b[Rr]ules?((?:(?:,| and| to)? [A-Z]\d\d?\b)+)")
DEFINED = re.compile(r"^- \*\*([A-Z]\d\d?)\*\*", re.MULTILINE)


def test_every_rule_that_is_named_is_defined() -> None:
    defined = set(DEFINED.findall((DOCS / "protocol.md").read_text()))
    sources = [*package_sources(), *(page for page in pages() if page.is_relative_to(DOCS))]
    cited = {rule for path in sources for found in RULES.findall(path.read_text()) for rule in found.split()}
    cited = {rule.strip(",") for rule in cited} - {"and", "to", ""}
    assert {"W1", "W3", "R2", "P2"} <= cited
    assert cited - defined == set()


def test_what_holds_and_what_is_planned_is_said_once() -> None:
    text = (DOCS / "protocol.md").read_text()
    holds, planned = (DEFINED.findall(part) for part in text.split("\n## Planned\n"))
    assert len(set(holds)) == len(holds)
    assert len(set(planned)) == len(planned)
    assert set(holds) & set(planned) == set()


def test_decisions_say_why_what_and_at_what_cost() -> None:
    records = [path for path in files() if path.parent == DOCS / "adr"]
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "What was given up"]
