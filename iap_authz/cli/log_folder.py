# SPDX-License-Identifier: Apache-2.0
"""`iap-authz fsck` of an audit log's folder: what the files say, recomputed, and what of it can be repaired."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from iap_authz.cli.journals import Step, progress_of
from iap_authz.errors import ConfigInvalid
from iap_authz.records.log_inspect import inspect_log
from iap_authz.records.log_inspect_checkpoint import CHECKPOINT_PATH
from iap_authz.records.log_inspect_findings import LogFinding, LogInspection
from iap_authz.tlog.batch import Write
from iap_authz.tlog.note import VerifierKey

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = 0, 1, 3


def is_log_folder(folder: Path) -> bool:
    """Whether a log keeps its tiles here."""
    return (folder / "checkpoint").is_file() or (folder / "tile").is_dir()


def check_log_folder(folder: Path, keys: list[VerifierKey], *, repair: bool, as_json: bool) -> int:
    """Inspect, report, and repair if asked: what is repaired is inspected again. Returns the exit code."""
    found = _inspect(folder, keys)
    repaired = [write for write in found.repairs if _replace(folder, write, found)] if repair else []
    if repaired:
        found = _inspect(folder, keys)
    if as_json:
        typer.echo(json.dumps(_as_json(found, repaired)))
    else:
        _show(found, repaired)
    if repair and found.faults and not found.may_repair:
        typer.echo(
            "iap-authz: nothing is repaired: nothing confirms that these are the entries that were signed", err=True
        )
    if not found.holds:
        return DOES_NOT_HOLD
    return HOLDS if found.signed else CANNOT_TELL


def _inspect(folder: Path, keys: list[VerifierKey]) -> LogInspection:
    paths = sorted(
        path.relative_to(folder).as_posix()
        for name in ("tile", "stage")
        for path in (folder / name).rglob("*")
        if path.is_file()
    )
    with progress_of(sum(_size(folder / path) for path in paths)) as step:
        return inspect_log(lambda path: _read(folder, path, step), paths, verifiers=keys)


def _read(folder: Path, path: str, step: Step) -> bytes | None:
    try:
        content = (folder / path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigInvalid.of_file(folder / path, f"cannot be read: {error.strerror}") from None
    step.advance(len(content))
    return content


def _size(path: Path) -> int:
    """Of a log that is served, a stage may be gone by now."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _replace(folder: Path, write: Write, found: LogInspection) -> bool:
    """Whole or not at all, and on stable storage: a repair that is torn would be worse than the damage.

    The checkpoint is replaced under the lock that a publication holds, and only if it is still the one that was
    inspected. Returns whether it was.
    """
    path = folder / write.path
    unnamed = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder):
            if write.path == CHECKPOINT_PATH and path.read_bytes() != found.note:
                return False
            try:
                _write(unnamed, write.content)
                unnamed.rename(path)
            finally:
                unnamed.unlink(missing_ok=True)
            _sync_folders(path.parent, folder)
    except OSError as error:
        raise ConfigInvalid.of_file(path, f"cannot be repaired: {error.strerror}") from None
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    """A new file for the owner only, synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_folders(path: Path, top: Path) -> None:
    """The folder, and those above it up to the log's own: some of them may be new."""
    for folder in (path, *path.parents):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder == top:
            return


def _show(found: LogInspection, repaired: list[Write]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for write in repaired:
        console.print(f"repaired {write.path}", markup=False)
    verdict = "intact" if found.holds else "damaged"
    console.print(f"log {found.origin}: {found.size} leaves of {len(found.writers)} writers, {verdict}", markup=False)
    for state in found.writers.values():
        ended = "" if state.retired_index is None else f", retired at leaf {state.retired_index}"
        console.print(
            f"  writer {state.writer.hex()}: {state.tree.end} records, once and in order{ended}", markup=False
        )
    if found.beyond.staged_size > found.size:
        console.print(f"  staged beyond the published checkpoint, up to size {found.beyond.staged_size}", markup=False)
    for finding in found.findings:
        console.print(f"  {finding}", markup=False)
    for problem in found.problems:
        console.print(f"  leaf {problem.index}: {problem.message}", markup=False)
    if found.repairs:
        console.print(f"  {len(found.repairs)} of these can be repaired: --repair", markup=False)
    if found.signed is None:
        console.print(
            "  the signature was not checked: which key you trust, the files cannot tell (--key)", markup=False
        )


def _as_json(found: LogInspection, repaired: list[Write]) -> dict[str, object]:
    return {
        "holds": found.holds if found.signed is not None or not found.holds else None,
        "origin": found.origin,
        "size": found.size,
        "root": found.root.hex(),
        "confirmed": found.confirmed,
        "signed": found.signed,
        "writers": [
            {"writer": state.writer.hex(), "records": state.tree.end, "retired": state.retired_index}
            for state in found.writers.values()
        ],
        "beyond": found.beyond.staged_size,
        "findings": [_finding_as_json(finding) for finding in found.findings],
        "problems": [{"leaf": problem.index, "message": problem.message} for problem in found.problems],
        "repairable": [write.path for write in found.repairs],
        "repaired": [write.path for write in repaired],
    }


def _finding_as_json(finding: LogFinding) -> dict[str, object]:
    return {
        "kind": finding.kind.value,
        "path": finding.path,
        "byte": finding.offset,
        "message": finding.message,
        "got": finding.got,
        "want": finding.want,
    }
