# SPDX-License-Identifier: Apache-2.0
"""What the commands that ask the audit log share: where it is, its key, and what of it was verified before.

The invariant: a command believes the log named by --key only, and no command believes less than the one before it did:
the last verified checkpoint is kept in a file, and each new one is proven to extend it (PROTOCOL rule G2).

What not everybody may do wants an access token besides. It is read from a file that only its owner may read: on the
command line, and in a variable of the environment, others of the machine would see it.

Without --checkpoint the file is `$XDG_STATE_HOME/iap-authz/<SHA-256 of the origin>.checkpoint`, or the same below
`~/.local/state`. A log that contradicts itself leaves both notes beside it: they prove it to anybody.
"""

import asyncio
import fcntl
import os
import re
import stat
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import ConfigInvalid, Fork, Invalid, LogUnavailable, Malformed, Rollback, shown
from iap_authz.model.ids import AuditId, WriterId
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, LeafIndex
from iap_authz.tlog.note import VerifierKey

if TYPE_CHECKING:
    from iap_authz.client import AuditLogClient, CheckpointFile, LogChannel

Address = Annotated[
    str | None,
    typer.Option("--log", envvar="IAP_AUTHZ_LOG", metavar="ADDRESS", help="The audit log: unix:/PATH or HOST:PORT."),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="IAP_AUTHZ_LOG_KEY", metavar="VERIFIER_KEY", help="The log's verifier key, or @FILE with it."
    ),
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        dir_okay=False,
        help="Where the last verified checkpoint is kept; by default below ~/.local/state/iap-authz.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="IAP_AUTHZ_TOKEN_FILE",
        metavar="FILE",
        dir_okay=False,
        help="A file of mode 0600 with your access token, from the log's operator.",
    ),
]
Journal = Annotated[
    Path | None, typer.Option("--journal", "-j", help="A journal, or one writer's folder in it; then no log is asked.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]

Which = AuditId | LeafIndex | tuple[WriterId, int]
"""How a record is named: by its audit id, its index in the log, or its writer and the sequence there."""

T = TypeVar("T")

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_POSITION = re.compile(r"([0-9a-f]{64}):(0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_KEY_FILE_MAX_BYTES = 1 << 16
_TOKEN_FILE_MAX_BYTES = 1 << 12
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Which log to ask, the key that its checkpoints must be signed with, and where the last one is kept.

    `token` is the access token of whoever asks, empty for nobody in particular.
    """

    address: str
    verifier: VerifierKey
    checkpoint: Path
    token: str = field(default="", repr=False)


def log_options(
    address: str | None, key: str | None, *, checkpoint: Path | None, token_file: Path | None = None
) -> LogOptions:
    """The options of a command as one value. Exits with 2 and what is missing."""
    if not address:
        raise typer.BadParameter("want the audit log's address, or IAP_AUTHZ_LOG set to it", param_hint="--log")
    if not key:
        hint = (
            "want the log's verifier key (its operator has it), or IAP_AUTHZ_LOG_KEY set to it: whom else to believe?"
        )
        raise typer.BadParameter(hint, param_hint="--key")
    verifier = parse_key(key, "--key")
    return LogOptions(
        address=address,
        verifier=verifier,
        checkpoint=checkpoint if checkpoint is not None else default_checkpoint(verifier.name),
        token="" if token_file is None else load_token(token_file),
    )


def check_token_file(token_file: Path | None) -> Path:
    """The file, for a command that is nothing without a token. Exits with 2 and what is missing."""
    if token_file is None:
        hint = "want a file with your access token, or IAP_AUTHZ_TOKEN_FILE set to its name: the log asks who you are"
        raise typer.BadParameter(hint, param_hint="--token-file")
    return token_file


def load_token(path: Path) -> str:
    """The access token in a file that nobody but its owner may read. Exits with 2, and never quotes it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_TOKEN_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--token-file") from None
    if status.st_mode & _OTHERS:
        mode = oct(stat.S_IMODE(status.st_mode))
        message = f"{path}: got mode {mode}, want 0o600: whoever reads the token can do what you may (chmod 600 {path})"
        raise typer.BadParameter(message, param_hint="--token-file")
    text = content.decode("ascii", "replace").strip()
    if not text or len(content) > _TOKEN_FILE_MAX_BYTES or not all("!" <= one <= "~" for one in text):
        message = f"{path}: got {len(content)} bytes that are no access token, want one on a line of its own"
        raise typer.BadParameter(message, param_hint="--token-file")
    return text


def parse_key(text: str, option: str) -> VerifierKey:
    """The key in `text`, or in the file behind its `@`. Exits with 2."""
    try:
        if text.startswith("@"):
            with Path(text[1:]).open("rb") as file:
                text = file.read(_KEY_FILE_MAX_BYTES).decode("utf-8", "replace").strip()
        return VerifierKey.parse(text)
    except (Malformed, OSError) as error:
        raise typer.BadParameter(f"{error} (a verifier key, or @FILE that holds one)", param_hint=option) from None


def parse_writer(text: str, option: str = "--writer") -> WriterId:
    """A writer's id. Exits with 2."""
    return WriterId(parse_digest(text, option))


def parse_digest(text: str, option: str) -> bytes:
    """A SHA-256 digest. Exits with 2."""
    if not _HEX.fullmatch(text):
        raise typer.BadParameter(f"got {shown(text)}, want 64 lowercase hex digits", param_hint=option)
    return bytes.fromhex(text)


def parse_which(text: str) -> Which:
    """How the user names a record. Exits with 2."""
    position = _POSITION.fullmatch(text)
    if position is not None:
        return WriterId(bytes.fromhex(position[1])), int(position[2])
    if _HEX.fullmatch(text):
        return AuditId(text)
    if _NUMBER.fullmatch(text) and int(text) < SIZE_LIMIT_LEAVES:
        return LeafIndex(int(text))
    message = f"got {shown(text)}, want an audit id (64 hex digits), an index in the log, or WRITER:SEQUENCE"
    raise typer.BadParameter(message)


def default_checkpoint(origin: str) -> Path:
    """Where the last verified checkpoint of the log `origin` is kept."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG Base Directory Specification: a relative path is invalid and is ignored.
    folder = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return folder / "iap-authz" / f"{sha256(origin.encode()).hexdigest()}.checkpoint"


@asynccontextmanager
async def open_log(options: LogOptions) -> "AsyncIterator[AuditLogClient]":
    """A client of the log. What it raises says what to do; notes that contradict each other are kept."""
    from iap_authz.client import AuditLogClient, CheckpointFile  # noqa: PLC0415 -- gRPC takes long to import

    store = LargestCheckpoint(CheckpointFile(options.checkpoint), options.checkpoint, verifier=options.verifier)
    try:
        options.checkpoint.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connected = AuditLogClient.connect(
            options.address, verifier=options.verifier, checkpoints=store, token=options.token
        )
    except OSError as error:
        raise _unusable(options.checkpoint, error) from error
    try:
        async with connected as client:
            yield client
    except LogUnavailable as error:
        raise LogUnavailable(
            f"{error}\nis `iap-authz serve log` running, and does it listen at {options.address}?"
        ) from error
    except (Fork, Rollback) as error:
        for path in keep_evidence(error, options.checkpoint):
            typer.echo(f"iap-authz: kept as evidence: {path}", err=True)
        raise


@asynccontextmanager
async def open_channel(options: LogOptions) -> "AsyncIterator[LogChannel]":
    """The log's answers as they come, for what the client has no question for; the caller checks them."""
    from iap_authz.client import LogChannel  # noqa: PLC0415 -- as above

    async with LogChannel(options.address, token=options.token) as channel:
        yield channel


async def fetch_evidence(options: LogOptions, which: Which) -> log_pb2.Evidence:
    """A record with both proofs, which the client has checked. Raises NotFound."""
    async with open_log(options) as client:
        match which:
            case str(audit_id):
                return await client.record(audit_id=audit_id)
            case int(index):
                return await client.record(index=index)
            case position:
                return await client.record(position=position)


def keep_evidence(error: Fork | Rollback, checkpoint: Path) -> list[Path]:
    """Write each statement that contradicts another beside the checkpoint's file, under a name that its bytes give."""
    kept = []
    for evidence in error.evidence:
        name = f"{checkpoint.name}.{type(error).__name__.lower()}-{sha256(evidence).hexdigest()[:16]}"
        path = checkpoint.with_name(name)
        path.write_bytes(evidence)
        kept.append(path)
    return kept


def ask(coroutine: Coroutine[object, object, T]) -> T:
    """Run what asks the log, in an event loop of its own."""
    return asyncio.run(coroutine)


class LargestCheckpoint:
    """The port CheckpointStore over one file that several commands share: the larger note stays. Blocking."""

    def __init__(self, file: "CheckpointFile", path: Path, *, verifier: VerifierKey) -> None:
        self._file, self._path, self._verifier = file, path, verifier

    def __str__(self) -> str:
        return str(self._path)

    def load(self) -> bytes | None:
        """The note in the file."""
        return self._file.load()

    def store(self, note: bytes) -> None:
        """Put `note` into the file, unless another command has put in a larger one meanwhile."""
        try:
            with self._path.with_name(f"{self._path.name}.lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = self._file.load()
                if before is None or self._size(before) <= self._size(note):
                    self._file.store(note)
        except OSError as error:
            raise _unusable(self._path, error) from error

    def _size(self, note: bytes) -> int:
        return open_checkpoint(note, self._verifier).size


def _unusable(path: Path, error: OSError) -> Invalid:
    return ConfigInvalid.of_file(
        path, f"{error.strerror}: the last verified checkpoint is kept there; see --checkpoint"
    )
