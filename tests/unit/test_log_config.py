# SPDX-License-Identifier: Apache-2.0
"""A log's configuration: what opens sealed data must be said, and who may open it is nobody until it is said."""

from hashlib import sha256
from pathlib import Path

import pytest

from iap_authz.errors import ConfigInvalid
from iap_authz.log_config import LogConfig, parse_access, parse_log_config
from iap_authz.model.roles import Role

FOLDER = Path("/etc/iap")
HEAD = "kind: Log\norigin: x\nkey_file: k\ndirectory: d\nlisten: unix:s\nenrolment_file: e\n"
TOKEN = "pkcs11: {module: /usr/lib/m.so, token: t, label: v, pin_file: pin}"
DIGESTS = [sha256(name.encode()).hexdigest() for name in ("one", "two", "three")]


def parse(text: str) -> LogConfig:
    return parse_log_config(f"{HEAD}{text}\n".encode(), FOLDER / "log.yaml")


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text)
    return [f"{fault.field}: {fault.message}" for fault in caught.value.faults]


# ---- the vault


def test_a_vault_in_a_file() -> None:
    vault = parse("vault: {key_file: vault.key, index_key_file: /run/index.key}").vault
    assert vault is not None
    assert (vault.key_file, vault.pkcs11, vault.index_key_file) == (FOLDER / "vault.key", None, Path("/run/index.key"))


def test_a_vault_on_a_token() -> None:
    vault = parse(f"vault: {{{TOKEN}, index_key_file: i}}").vault
    assert vault is not None
    assert vault.key_file is None
    assert vault.pkcs11 is not None
    place = vault.pkcs11
    assert (place.module, place.token, place.label, place.pin_file) == (Path("/usr/lib/m.so"), "t", "v", FOLDER / "pin")


@pytest.mark.parametrize("text", ["vault: none", "vault: 'none'"])
def test_no_vault_is_said_and_not_left_out(text: str) -> None:
    assert parse(text).vault is None
    (fault,) = faults("")
    assert fault.startswith("vault: missing, want {key_file: ..., index_key_file: ...}")
    assert "`iap-authz keys new vault`" in fault
    assert "`iap-authz keys new index`" in fault
    assert "`none`" in fault


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("vault: nothing", ["vault: got 'nothing', want {key_file"]),
        ("vault: None", ["vault: got 'None', want {key_file"]),
        ("vault: no", ["vault: got 'no', want {key_file"]),
        ("vault: ''", ["vault: got '', want a mapping"]),
        ("vault: null", ["vault: missing, want {key_file"]),
        ("vault: false", ["vault: got 'false', want a mapping"]),
        ("vault: [none]", ["vault: got a list, want a mapping"]),
        ("vault: {}", ["vault.index_key_file: missing", "vault: got neither of key_file and pkcs11"]),
        ("vault: {key_file: k}", ["vault.index_key_file: missing"]),
        ("vault: {index_key_file: i}", ["vault: got neither of key_file and pkcs11"]),
        (f"vault: {{key_file: k, index_key_file: i, {TOKEN}}}", ["vault: got both of key_file and pkcs11"]),
        ("vault: {key_file: k, index_key_file: i, key: x}", ["vault.key: unknown key"]),
        ("vault: {key_file: none, index_key_file: i, pkcs11: none}", ["vault.pkcs11: got 'none', want a mapping"]),
        (
            "vault: {index_key_file: i, pkcs11: {pin: 1234}}",
            [
                *(f"vault.pkcs11.{key}: missing" for key in ("module", "token", "label", "pin_file")),
                "vault.pkcs11.pin: unk",
            ],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_vault_that_is_wrong_is_refused(text: str, want: list[str]) -> None:
    found = faults(text)
    assert all(any(fault.startswith(one) for fault in found) for one in want), found


# ---- who may


def test_nobody_may_until_it_is_said() -> None:
    for text in ("vault: none", "vault: none\nprivacy: {}"):
        privacy = parse(text).privacy
        assert (privacy.access_file, privacy.dual_control) == (None, False)
    said = parse("vault: none\nprivacy: {access_file: access.yaml, dual_control: true}").privacy
    assert (said.access_file, said.dual_control) == (FOLDER / "access.yaml", True)


@pytest.mark.parametrize("text", ["dual_control: yes", "dual_control: 'true'", "access: x", "access_file: 1"])
def test_a_privacy_section_that_is_wrong_is_refused(text: str) -> None:
    assert len(faults(f"vault: none\nprivacy: {{{text}}}")) == 1


def access(*entries: str) -> bytes:
    return "".join(["tokens:\n", *(f"- {{{entry}}}\n" for entry in entries)]).encode()


def test_an_access_file_says_names_and_roles() -> None:
    found = parse_access(
        access(
            f"name: Alice Łuczak, roles: [investigator, privacy_officer], sha256: {DIGESTS[0]}",
            f"name: bob, roles: [admin], sha256: {DIGESTS[1]}",
            f"name: bob, roles: [admin, admin], sha256: {DIGESTS[2]}",
        ),
        "access.yaml",
    )
    assert {digest: (one.name, one.roles) for digest, one in found.items()} == {
        DIGESTS[0]: ("Alice Łuczak", {Role.INVESTIGATOR, Role.PRIVACY_OFFICER}),
        DIGESTS[1]: ("bob", {Role.ADMIN}),
        DIGESTS[2]: ("bob", {Role.ADMIN}),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "want a mapping"),
        (b"tokens: {}\n", "want a list"),
        (b"tokens: []\nextra: 1\n", "unknown key"),
        (access(f"name: a, sha256: {DIGESTS[0]}"), "roles: missing"),
        (access(f"name: a, roles: [], sha256: {DIGESTS[0]}"), "empty list, want some of investigator"),
        (access(f"name: a, roles: admin, sha256: {DIGESTS[0]}"), "want a list of texts"),
        (access(f"name: a, roles: [root], sha256: {DIGESTS[0]}"), "got 'root', want some of"),
        (access(f"name: a, roles: [Admin], sha256: {DIGESTS[0]}"), "got 'Admin', want some of"),
        (access(f"name: a, roles: [privacy-officer], sha256: {DIGESTS[0]}"), "did you mean privacy_officer"),
        (access("name: a, roles: [admin]"), "sha256: missing"),
        (access("name: a, roles: [admin], sha256: abc"), "want 64 lowercase hex digits"),
        (access(f"name: a, roles: [admin], sha256: {DIGESTS[0].upper()}"), "want 64 lowercase hex digits"),
        (access(f"roles: [admin], sha256: {DIGESTS[0]}"), "name: missing"),
        (access(f"name: '', roles: [admin], sha256: {DIGESTS[0]}"), "want 1 to 128 characters"),
        (access(f"name: {'n' * 129}, roles: [admin], sha256: {DIGESTS[0]}"), "want 1 to 128 characters"),
        (access(f'name: "a\\nb", roles: [admin], sha256: {DIGESTS[0]}'), "on one line"),
        (access(f"name: a, roles: [admin], sha256: {DIGESTS[0]}, token: x"), "unknown key"),
        (
            access(*(f"name: {name}, roles: [admin], sha256: {DIGESTS[0]}" for name in "ab")),
            "got the same token twice",
        ),
    ],
    ids=range(18),
)
def test_an_access_file_that_is_wrong_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ConfigInvalid, match=message):
        parse_access(content, "access.yaml")
