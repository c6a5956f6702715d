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
from iap_authz.model.document import Faults, Section, parse_configuration, parse_document, take_origin

_MILLISECOND, _SECOND = timedelta(milliseconds=1), timedelta(seconds=1)
_PORT_MAX = 65_535
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


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
    faults = Faults(path)
    root = parse_document(content, faults)
    faults.check(ConfigInvalid)
    if root is None:
        raise ConfigInvalid.of_file(path, "got nothing, want `tokens:` with a name and a sha256 each")
    names = {}
    for section in root.take_sections("tokens", required=True):
        name, digest = section.take_text("name"), section.take_text("sha256")
        if digest and not _SHA256.fullmatch(digest):
            section.fault("sha256", f"got {shown(digest)}, want 64 lowercase hex digits")
        section.finish()
        names[digest] = name
    root.finish()
    faults.check(ConfigInvalid)
    return names


def is_local(address: str) -> bool:
    """Whether only this machine can connect to `address`."""
    if not address or address.startswith("unix:"):
        return True
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback


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
