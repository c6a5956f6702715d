# SPDX-License-Identifier: Apache-2.0
"""`iap-authz doctor`: look for what would bite later, and say how to mend it."""

import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.internal import api_implementation

from iap_authz.config import SidecarConfig, load_config
from iap_authz.demo.live import find_envoy
from iap_authz.errors import ConfigInvalid, IapError
from iap_authz.log_config import LogConfig, load_log_config, parse_enrolment
from iap_authz.tlog.key_file import parse_key_file

SYNCS = 20
SYNC_SLOW_SECONDS = 0.02
"""A tenth of Envoy's 200 ms: beyond it a burst of checks misses its deadline."""

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this version was written no clock can be right."""

CONNECT_SECONDS = 2.0
OTHERS_BITS = 0o077
NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse.", "ceph", "glusterfs", "lustre", "afs")
"""Beginnings of the types whose sync, link and rename promise less than a local disk's."""


class Health(Enum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One check. `message` says what is wrong and how to mend it."""

    name: str
    health: Health
    message: str = ""


def doctor(
    config: Annotated[
        list[Path] | None, typer.Option("--config", "-c", help="A sidecar's or a log's YAML file; may be repeated.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Check this machine, and what the configuration files name, before it is relied upon.

    Exit 0 if nothing has failed, 1 otherwise. Warnings do not fail. Nothing is changed.
    """
    checks = [*_check_machine(), *(one for path in config or () for one in _check_config(path))]
    if as_json:
        shown = [{"check": one.name, "health": one.health.value, "message": one.message} for one in checks]
        typer.echo(json.dumps({"holds": not _failed(checks), "checks": shown}))
    else:
        for one in checks:
            typer.echo(f"{one.health.value:<5} {one.name}{': ' if one.message else ''}{one.message}")
    raise typer.Exit(1 if _failed(checks) else 0)


def _failed(checks: list[Checked]) -> bool:
    return any(one.health is Health.FAIL for one in checks)


def _ok(name: str, problem: str | None, *, health: Health = Health.FAIL) -> Checked:
    return Checked(name=name, health=Health.OK if problem is None else health, message=problem or "")


def _check_machine() -> Iterator[Checked]:
    version = sys.version_info[:2]
    yield _ok("python", None if (3, 11) <= version <= (3, 13) else f"got {version}, want 3.11 to 3.13")
    kind = api_implementation.Type()
    yield _ok("protobuf", None if kind == "upb" else f"got the {kind} implementation, want upb: install the wheel")
    clock = datetime.now(UTC)
    yield _ok("clock", None if clock > EARLIEST else f"got {clock.isoformat()}, want the time of day: run NTP")
    try:
        find_envoy()
        missing = None
    except ConfigInvalid as error:
        missing = f"{error}: only `iap-authz demo` needs it"
    yield _ok("demo's Envoy", missing, health=Health.WARN)


def _check_config(path: Path) -> Iterator[Checked]:
    try:
        kind = "Log" if b"kind: Log" in path.read_bytes() else "Sidecar"
        loaded: SidecarConfig | LogConfig = load_log_config(path) if kind == "Log" else load_config(path)
    except OSError as error:
        yield _ok(str(path), f"cannot be read: {error.strerror}")
        return
    except IapError as error:
        yield _ok(str(path), str(error))
        return
    yield Checked(name=str(path), health=Health.OK)
    yield from _check_log(loaded) if isinstance(loaded, LogConfig) else _check_sidecar(loaded)


def _check_sidecar(config: SidecarConfig) -> Iterator[Checked]:
    yield from _check_storage(config.journal.directory, want_bytes=config.journal.bound_bytes)
    if config.log is None:
        message = "no log: records stay on this disk alone, and nothing trims the journal"
        yield _ok("audit log", message, health=Health.WARN)
        return
    yield _ok("audit log", _unreachable(config.log.address), health=Health.WARN)
    yield _ok("enrolment token", _unreadable(config.log.enrolment_token_file, _nothing))


def _check_log(config: LogConfig) -> Iterator[Checked]:
    yield from _check_storage(config.directory, want_bytes=0)
    same = config.head_file.parent == config.directory
    message = f"the head is beside the tiles in {config.directory}: one lost disk, or one old copy, takes both"
    yield _ok("head store", message if same else None, health=Health.WARN)
    yield _ok("key file", _unreadable(config.key_file, lambda content: _check_key(content, config.origin)))
    yield _ok("enrolment file", _unusable(config.enrolment_file, lambda content: _check_enrolment(content, config)))


def _check_key(content: bytes, origin: str) -> None:
    name = parse_key_file(content)[0].name
    if name != origin:
        raise ConfigInvalid.of_file("key_file", f"got a key named {name}, want {origin}")


def _check_enrolment(content: bytes, config: LogConfig) -> None:
    parse_enrolment(content, str(config.enrolment_file))


def _nothing(_: bytes) -> None:
    """Any content will do."""


def _unreadable(path: Path, check: Callable[[bytes], None]) -> str | None:
    """What is wrong with a file that holds a secret."""
    try:
        if path.stat().st_mode & OTHERS_BITS:
            return f"{path} may be read by others: chmod 600 {path}"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return _unusable(path, check)


def _unusable(path: Path, check: Callable[[bytes], None]) -> str | None:
    """What is wrong with the content of a file."""
    try:
        check(path.read_bytes())
    except OSError as error:
        return f"{path}: {error.strerror}"
    except IapError as error:
        return str(error)
    return None


def _check_storage(directory: Path, *, want_bytes: int) -> Iterator[Checked]:
    """Whether the disk keeps what it syncs, soon enough, and has the room."""
    place = directory
    while not place.exists():
        place = place.parent
    kind = _file_system(place)
    remote = kind.startswith(NETWORK_FILE_SYSTEMS)
    yield _ok(f"file system of {place}", f"got {kind}, want a local disk" if remote else None)
    try:
        seconds = _sync_seconds(place)
    except OSError as error:
        yield _ok(f"sync in {place}", f"{error.strerror}: this user must be able to write there")
        return
    slow = f"got {seconds * 1e3:.1f} ms, want under {SYNC_SLOW_SECONDS * 1e3:.0f} ms: checks will miss their deadline"
    yield _ok(f"sync in {place}", slow if seconds > SYNC_SLOW_SECONDS else None, health=Health.WARN)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    little = f"got {free} bytes free, want the bound of {want_bytes}"
    yield _ok(f"space in {place}", little if free < want_bytes else None, health=Health.WARN)


def _file_system(place: Path) -> str:
    """The type of the file system that `place` is on: the longest mount point above it, the last of them."""
    found, length = "unknown", -1
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4].replace("\\040", " "))
        if place.resolve().is_relative_to(mount) and len(mount.parts) >= length:
            found, length = after.split()[0], len(mount.parts)
    return found


def _sync_seconds(place: Path) -> float:
    """The median time of a small synced write."""
    times = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(SYNCS):
            started = time.monotonic()
            file.write(bytes(512))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - started)
    return statistics.median(times)


def _unreachable(address: str) -> str | None:
    try:
        if address.startswith("unix:"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(CONNECT_SECONDS)
                connection.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        return f"{address} does not answer: {error.strerror or error}; is `iap-authz serve log` running?"
    return None
