# SPDX-License-Identifier: Apache-2.0
"""The configuration of an audit log: one YAML file, read once into a frozen tree. The field docstrings are the manual.

Relative paths are relative to the folder of the file. All faults are reported at once, each with line and column.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from iap_authz.errors import ConfigInvalid, shown
from iap_authz.model.document import Faults, Section, nearest, parse_configuration, parse_document, take_origin
from iap_authz.model.roles import Role

_MILLISECOND, _SECOND = timedelta(milliseconds=1), timedelta(seconds=1)
_PORT_MAX = 65_535
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_VAULT_WANT = (
    "want {key_file: ..., index_key_file: ...}, made by `iap-authz keys new vault` and `iap-authz keys new index`, "
    "or {pkcs11: ..., index_key_file: ...}, or `none`, which leaves personal data open in the log for good"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig:
    """Section `vault.pkcs11`: a token (PKCS #11) that has the vault's private keys and never gives them away."""

    module: Path
    """The vendor's PKCS #11 library, such as `/usr/lib/softhsm/libsofthsm2.so`. Needs `iap-authz[pkcs11]`."""
    token: str
    """Label of the token."""
    label: str
    """Name of the keys on it: the key of vault epoch 3 is labelled `<label>-3`."""
    pin_file: Path
    """The user PIN, on one line; mode 0600. Read whenever the log logs in to the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultConfig:
    """Section `vault`: what opens sealed personal data, and what it is found by."""

    key_file: Path | None
    """Made by `iap-authz keys new vault`; mode 0600. A key for each vault epoch. Either this or `pkcs11`."""
    pkcs11: TokenConfig | None
    """The same keys on a token, in the place of `key_file`. Default: none."""
    index_key_file: Path
    """Made by `iap-authz keys new index`; mode 0600. Index tokens come from it: with another key, reindex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyConfig:
    """Section `privacy`: who may open, hold and erase."""

    access_file: Path | None
    """Names, roles and SHA-256 of the access tokens (`iap-authz keys new access-token`). Live. Default: nobody may."""
    dual_control: bool
    """Whether an erasure, and the release of a hold, needs a second privacy officer's word. Default false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The whole file."""

    origin: str
    """The log's name: first line of every checkpoint, name of its key. For life; no spaces, no plus sign."""
    key_file: Path
    """Made by `iap-authz keys new log`; mode 0600. Two keys while one is rotated."""
    directory: Path
    """Tiles, entry bundles and the published checkpoint; on a local disk; made if missing."""
    head_file: Path
    """The committed head (SQLite). In production on another disk than the tiles. Default `<directory>/head.sqlite`."""
    trail_file: Path
    """Ledger and index (SQLite). Default `<directory>/trail.sqlite`."""
    listen: str
    """gRPC: `unix:/run/iap/log.sock` or `ADDRESS:PORT`. Beyond loopback only with `--insecure-public`."""
    listen_http: str
    """Checkpoint and tiles over HTTP, in the same form; empty: not served. Default empty."""
    serve_entries: bool
    """Whether entry bundles, which hold the records, are served over HTTP too. Default true."""
    enrolment_file: Path
    """Names and SHA-256 of the enrolment tokens. Replaced live. See `iap-authz keys new enrolment-token`."""
    round_interval: timedelta
    """How often waiting batches become a round, at most. Default 20ms."""
    publish_interval: timedelta
    """How often a checkpoint with its tiles is published. Default 1s."""
    vault: VaultConfig | None
    """What opens sealed personal data. Or `none`: writers then write it open, and it can never be erased."""
    privacy: PrivacyConfig
    """Who may open, hold and erase personal data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the access file says of one token. Two officers are two names: one name with two tokens is one person."""

    name: str
    roles: frozenset[Role]


def parse_log_config(content: bytes, path: Path) -> LogConfig:
    """Parse the file at `path` with this `content`. Raises ConfigInvalid with every fault."""
    root, faults = parse_configuration(content, str(path), kind="Log")
    folder = path.parent
    directory = folder / root.take_text("directory")
    config = LogConfig(
        origin=take_origin(root, "origin"),
        key_file=folder / root.take_text("key_file"),
        directory=directory,
        head_file=folder / root.take_text("head_file", str(directory / "head.sqlite")),
        trail_file=folder / root.take_text("trail_file", str(directory / "trail.sqlite")),
        listen=_take_address(root, "listen", folder),
        listen_http=_take_address(root, "listen_http", folder, default=""),
        serve_entries=root.take_boolean("serve_entries", default=True),
        enrolment_file=folder / root.take_text("enrolment_file"),
        round_interval=root.take_duration("round_interval", 20 * _MILLISECOND, least=_MILLISECOND, most=10 * _SECOND),
        publish_interval=root.take_duration(
            "publish_interval", _SECOND, least=10 * _MILLISECOND, most=timedelta(minutes=1)
        ),
        vault=_take_vault(root, folder),
        privacy=_take_privacy(root, folder),
    )
    root.finish()
    faults.check(ConfigInvalid)
    return config


def load_log_config(path: Path) -> LogConfig:
    """Read and parse `path`. Raises ConfigInvalid, also where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid.of_file(path, f"cannot be read: {error.strerror}") from None
    return parse_log_config(content, path.absolute())


def parse_enrolment(content: bytes, path: str) -> Mapping[str, str]:
    """The enrolment file: names by SHA-256 of the token, in hex. Raises ConfigInvalid."""
    root, faults = _parse_tokens(content, path)
    names = {}
    for section in root.take_sections("tokens", required=True):
        name, digest = section.take_text("name"), _take_sha256(section)
        section.finish()
        names[digest] = name
    root.finish()
    faults.check(ConfigInvalid)
    return names


def parse_access(content: bytes, path: str) -> Mapping[str, Access]:
    """The access file: names and roles by SHA-256 of the token, in hex. Raises ConfigInvalid."""
    root, faults = _parse_tokens(content, path)
    found: dict[str, Access] = {}
    for section in root.take_sections("tokens", required=True):
        access, digest = Access(name=_take_name(section), roles=_take_roles(section)), _take_sha256(section)
        if digest in found:
            section.fault("sha256", "got the same token twice, want one name and its roles for each")
        section.finish()
        found[digest] = access
    root.finish()
    faults.check(ConfigInvalid)
    return found


def is_local(address: str) -> bool:
    """Whether only this machine can connect to `address`."""
    if not address or address.startswith("unix:"):
        return True
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback


def _parse_tokens(content: bytes, path: str) -> tuple[Section, Faults]:
    faults = Faults(path)
    root = parse_document(content, faults)
    faults.check(ConfigInvalid)
    if root is None:
        raise ConfigInvalid.of_file(path, "got nothing, want `tokens:` with a name and a sha256 each")
    return root, faults


def _take_sha256(section: Section) -> str:
    digest = section.take_text("sha256")
    if digest and not _SHA256.fullmatch(digest):
        section.fault("sha256", f"got {shown(digest)}, want 64 lowercase hex digits")
    return digest


def _take_name(section: Section) -> str:
    """A name that a record will have: of whoever opened something, or had it erased."""
    name = section.take_text("name")
    if section.has("name") and not _NAME.fullmatch(name):
        section.fault("name", f"got {shown(name)}, want 1 to 128 characters on one line")
    return name


def _take_roles(section: Section) -> frozenset[Role]:
    texts, known = section.take_texts("roles"), [role.value for role in Role]
    for text in texts:
        if text not in known:
            section.fault("roles", f"got {shown(text)}, want some of {', '.join(known)}{nearest(text, known)}")
    if section.has("roles") and not texts:
        section.fault("roles", f"got an empty list, want some of {', '.join(known)}")
    return frozenset(Role(text) for text in texts if text in known)


def _take_vault(root: Section, folder: Path) -> VaultConfig | None:
    """The section, None for `none`; also where it is faulty, which ends the parsing later."""
    text = Section(root.node, root.path, Faults("")).take_text("vault", "")  # a mapping has none: that is no fault yet
    section = root.take_section("vault") if not text else None
    if text:
        root.take_text("vault")
    if text not in ("", "none"):
        root.fault("vault", f"got {shown(text)}, {_VAULT_WANT}")
    if not root.has("vault"):
        root.fault("vault", f"missing, {_VAULT_WANT}")
    if section is None:
        return None
    key_file, token = section.take_text("key_file", ""), _take_token(section, folder)
    vault = VaultConfig(
        key_file=folder / key_file if key_file else None,
        pkcs11=token,
        index_key_file=folder / section.take_text("index_key_file"),
    )
    if bool(key_file) == section.has("pkcs11"):
        section.fault("", f"got {'both' if key_file else 'neither'} of key_file and pkcs11, {_VAULT_WANT}")
    section.finish()
    return vault


def _take_token(vault: Section, folder: Path) -> TokenConfig | None:
    section = vault.take_section("pkcs11")
    if section is None:
        return None
    token = TokenConfig(
        module=folder / section.take_text("module"),
        token=section.take_text("token"),
        label=section.take_text("label"),
        pin_file=folder / section.take_text("pin_file"),
    )
    section.finish()
    return token


def _take_privacy(root: Section, folder: Path) -> PrivacyConfig:
    section = root.take_section("privacy")
    if section is None:
        return PrivacyConfig(access_file=None, dual_control=False)
    access_file = section.take_text("access_file", "")
    privacy = PrivacyConfig(
        access_file=folder / access_file if access_file else None,
        dual_control=section.take_boolean("dual_control", default=False),
    )
    section.finish()
    return privacy


def _take_address(root: Section, key: str, folder: Path, *, default: str | None = None) -> str:
    text = root.take_text(key, default)
    if text.startswith("unix:"):
        return f"unix:{folder / text.removeprefix('unix:')}"
    host, _, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        host = ""
    if text and not (host and port.isascii() and port.isdecimal() and int(port) <= _PORT_MAX):
        root.fault(key, f"got {shown(text)}, want unix:PATH or ADDRESS:PORT")
    return text
