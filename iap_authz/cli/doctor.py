# SPDX-License-Identifier: Apache-2.0
"""`iap-authz doctor`: look for what would bite later, and say how to mend it.

It runs as the user that will run the service, reads what the configuration names as the service would, and changes
nothing but one temporary file without a name per storage folder. What it finds is of now: a disk may fill tomorrow.
"""

import json
import logging
import os
import re
import socket
import stat
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz.config import SidecarConfig, load_config
from iap_authz.demo.live import find_envoy
from iap_authz.errors import ConfigInvalid, IapError, SourceUnavailable
from iap_authz.identity_wiring import fetch_issuer_keys
from iap_authz.key_wiring import load_index_key, open_vault
from iap_authz.log_config import LogConfig, VaultConfig, load_log_config, parse_access, parse_enrolment
from iap_authz.records.vault_file import KEY_AGE_MAX_DAYS
from iap_authz.tlog.key_file import parse_key_file
from iap_authz.wiring import make_slots

SYNCS = 20
SYNC_SLOW_SECONDS = 0.02
"""A tenth of Envoy's 200 ms: beyond it a burst of checks misses its deadline."""

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this version was written no clock can be right."""

LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""A clock that is this wrong makes every token expired, and every record of it stays so (rule T3)."""

SPARE_BYTES = 1 << 30
"""A log has no bound of its own; below this its end is near."""

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
    yield _ok("event loop", None if find_spec("uvloop") else "uvloop is missing: install the wheel of this platform")
    clock = datetime.now(UTC)
    want = f"want a time from {EARLIEST.year} to {LATEST.year}: run NTP"
    yield _ok("clock", None if EARLIEST < clock < LATEST else f"got {clock.isoformat()}, {want}")
    steady = time.get_clock_info("monotonic").monotonic
    yield _ok("monotonic clock", None if steady else "got one that can go back: deadlines cannot be kept")
    try:
        find_envoy()
        missing = None
    except ConfigInvalid as error:
        missing = f"{error}: only `iap-authz demo` needs it"
    yield _ok("demo's Envoy", missing, health=Health.WARN)


_KIND_LOG = re.compile(rb"^kind:[ \t]*[\"']?Log\b", re.MULTILINE)


def _check_config(path: Path) -> Iterator[Checked]:
    try:
        is_log = _KIND_LOG.search(path.read_bytes()) is not None
        loaded: SidecarConfig | LogConfig = load_log_config(path) if is_log else load_config(path)
    except OSError as error:
        yield _ok(str(path), f"cannot be read: {error.strerror}")
        return
    except IapError as error:
        yield _ok(str(path), str(error))
        return
    yield Checked(name=str(path), health=Health.OK)
    yield from _check_log(loaded) if isinstance(loaded, LogConfig) else _check_sidecar(loaded)


def _check_sidecar(config: SidecarConfig) -> Iterator[Checked]:
    journal = config.journal
    yield from _check_storage(journal.directory, want_bytes=journal.bound_bytes - _used_bytes(journal.directory))
    yield from _check_sources(config)
    message = "seal: none: personal data stands open in every record, and can never be erased"
    yield _ok("seal", message if config.seal is None else None, health=Health.WARN)
    if config.log is None:
        message = "no log: records stay on this disk alone, and nothing trims the journal"
        yield _ok("audit log", message, health=Health.WARN)
        return
    yield _ok("audit log", _unreachable(config.log.address), health=Health.WARN)
    yield _ok("enrolment token", _unreadable(config.log.enrolment_token_file, _nothing))


def _check_sources(config: SidecarConfig) -> Iterator[Checked]:
    """Every source, each by itself; a secret or an authority that is wrong ends the look, as it ends the start."""
    logging.getLogger("iap_authz").addHandler(logging.NullHandler())  # what is found is reported here, once
    try:
        slots = make_slots(config, fetch_issuer_keys(config))
    except IapError as error:
        yield _ok("sources", str(error))
        return
    for slot in slots.all():
        yield _check_source(slot.name, slot.load)
    for name, keys in slots.keys.items():
        if keys.served is not None and not keys.served.keys:
            message = "got no usable key, want at least one: until then nobody of this issuer is known"
            yield _ok(f"keys of {name}", f"{message}, and `probe --sources` fails", health=Health.WARN)


def _check_source(name: str, load: Callable[[float], None]) -> Checked:
    """Whether the service can load what the configuration names. A source that is missing is not fatal to it."""
    try:
        load(time.monotonic())
    except SourceUnavailable as error:
        return _ok(f"source {name}", str(error), health=Health.WARN)
    except IapError as error:
        return _ok(f"source {name}", str(error))
    return _ok(f"source {name}", None)


def _check_log(config: LogConfig) -> Iterator[Checked]:
    for place in dict.fromkeys((config.directory, config.head_file.parent, config.trail_file.parent)):
        yield from _check_storage(place, want_bytes=SPARE_BYTES)
    same = config.head_file.parent == config.directory
    message = f"the head is beside the tiles in {config.directory}: one lost disk, or one old copy, takes both"
    yield _ok("head store", message if same else None, health=Health.WARN)
    yield _ok("key file", _unreadable(config.key_file, lambda content: _check_key(content, config.origin)))
    yield _ok("enrolment file", _unusable(config.enrolment_file, lambda content: _check_enrolment(content, config)))
    yield from _check_vault(config.vault)
    yield from _check_privacy(config)
    yield _ok("audit log", _unreachable(config.listen), health=Health.WARN)


def _check_vault(config: VaultConfig | None) -> Iterator[Checked]:
    """Whether what is sealed can be opened. A token is logged in to, with the PIN as the log would use it."""
    if config is None:
        message = "vault: none: personal data stands open in the log, and can never be erased"
        yield _ok("vault", message, health=Health.WARN)
        return
    try:
        vault = open_vault(config)
    except IapError as error:
        yield _ok("vault", str(error))
    else:
        yield _ok("vault", None)
        yield _ok("vault key's age", _too_old(vault.created(vault.epochs[-1]), config), health=Health.WARN)
    yield _ok("index key", _refused(load_index_key, config.index_key_file))


def _too_old(created: date | None, config: VaultConfig) -> str | None:
    """What is wrong with the age of the newest key. Where it is not known, nothing."""
    days = 0 if created is None else (datetime.now(UTC).date() - created).days
    if days <= KEY_AGE_MAX_DAYS:
        return None
    next_key = "new vault --pkcs11-module ..." if config.key_file is None else f"rotate {config.key_file}"
    want = f"want at most {KEY_AGE_MAX_DAYS}"
    return f"got {days} days, {want}: `iap-authz keys {next_key}`, then restart the log"


def _check_privacy(config: LogConfig) -> Iterator[Checked]:
    access_file = config.privacy.access_file
    if access_file is not None:
        yield _ok("access file", _unusable(access_file, lambda content: _check_access(content, access_file)))
    elif config.vault is not None:
        message = "no privacy.access_file: nobody may open, hold or erase anything, or retire a writer"
        yield _ok("access file", message, health=Health.WARN)


def _check_access(content: bytes, path: Path) -> None:
    parse_access(content, str(path))


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


def _refused(load: Callable[[Path], object], path: Path) -> str | None:
    """What is wrong with a file, as whoever loads it says."""
    try:
        load(path)
    except IapError as error:
        return str(error)
    return None


def _used_bytes(directory: Path) -> int:
    """What is in the folder already, and so needs no more room."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else 0


def _check_storage(directory: Path, *, want_bytes: int) -> Iterator[Checked]:
    """Whether the disk keeps what it syncs, soon enough, has the room, and shows it to nobody else."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    kind = _file_system(place)
    remote = kind.startswith(NETWORK_FILE_SYSTEMS)
    yield _ok(f"file system of {directory}", f"got {kind}, want a local disk" if remote else None)
    if place == directory.absolute():
        mode = stat.S_IMODE(place.stat().st_mode)
        shown = f"got mode {mode:04o}, others may look at the records: chmod 700 {directory}"
        yield _ok(f"mode of {directory}", shown if mode & OTHERS_BITS else None, health=Health.WARN)
    try:
        seconds = _sync_seconds(place)
    except OSError as error:
        yield _ok(f"sync in {directory}", f"{error.strerror}: this user must be able to write in {place}")
        return
    slow = f"got {seconds * 1e3:.1f} ms, want under {SYNC_SLOW_SECONDS * 1e3:.0f} ms: checks will miss their deadline"
    yield _ok(f"sync in {directory}", slow if seconds > SYNC_SLOW_SECONDS else None, health=Health.WARN)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    little = f"got {free} bytes free, want {want_bytes}: free some, or lower the bound"
    yield _ok(f"space in {directory}", little if free < want_bytes else None, health=Health.WARN)


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
    """What is wrong with the log at `address`: nobody listens, or it does not say that it serves."""
    try:
        _connect(address)
    except OSError as error:
        return f"{address} does not answer: {error.strerror or error}; is `iap-authz serve log` running?"
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest()
            response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=CONNECT_SECONDS)
        except grpc.RpcError as error:
            return f"{address} does not answer gRPC: {error.code().name}; is that the log's gRPC address?"
    serving = response.status == health_pb2.HealthCheckResponse.SERVING
    return None if serving else f"{address} is not serving: look at the log's own messages"


def _connect(address: str) -> None:
    if address.startswith("unix:"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(address.removeprefix("unix:"))
        return
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
