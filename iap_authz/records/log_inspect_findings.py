# SPDX-License-Identifier: Apache-2.0
"""What an inspection of a log's files says, as values.

The invariant: a byte is called flipped, and what it was is said, only where the bytes as they were lead to the hash
that the rest of the log has. Whether the rest is the log that was signed is said apart, by `confirmed` and `signed`.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from iap_authz.model.ids import WriterId
from iap_authz.records.log_fold import Problem, WriterState
from iap_authz.tlog.batch import Write
from iap_authz.tlog.hashing import NodeHash, TreeSize

NAMED_BYTES_MAX = 8
"""Wrong bytes of one resource that are named one by one; more are one damage."""


class LogFault(enum.Enum):
    """What is wrong with a file of a log."""

    FLIPPED = "flipped"
    """One byte is not what was written; which, and what it was, is known."""
    DAMAGED = "damaged"
    """Bytes are not what was written, and no single byte explains it."""
    MISSING = "missing"
    """The tree of the checkpoint has this resource, and there is nothing."""
    UNPROVEN = "unproven"
    """The files hash to another tree than the checkpoint says, or nobody is known to have signed it."""
    STRAY = "stray"
    """A file that no log has. Nothing reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFinding:
    """One thing that was found. `got` and `want` are byte values, for FLIPPED only; without `offset` the whole file."""

    kind: LogFault
    path: str
    offset: int | None
    message: str
    got: int | None = None
    want: int | None = None

    @property
    def is_fault(self) -> bool:
        """Whether the log is not as it was written."""
        return self.kind is not LogFault.STRAY

    def __str__(self) -> str:
        place = self.path if self.offset is None else f"{self.path}: byte {self.offset}"
        return f"{place}: {self.kind.value}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """What is stored after the published size: committed or about to be, and not covered by the checkpoint.

    `staged_size` and `root` are where the chain of stages leads to; `files` counts tiles and bundles of larger sizes.
    """

    staged_size: TreeSize
    root: NodeHash | None
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogInspection:
    """The files of a log, recomputed up to the published checkpoint, and beyond as far as the stages reach.

    `note` is the checkpoint as it is stored; `root` is what the entries hash to. `confirmed`: that is the checkpoint's,
    and what is wrong with some files is known against it. `signed`: a given key has signed that checkpoint; None if no
    key was given.
    """

    origin: str
    note: bytes
    size: TreeSize
    root: NodeHash
    confirmed: bool
    signed: bool | None
    writers: Mapping[WriterId, WriterState]
    batches: int
    findings: tuple[LogFinding, ...]
    problems: tuple[Problem, ...]
    beyond: Beyond
    repairs: tuple[Write, ...]

    @property
    def faults(self) -> tuple[LogFinding, ...]:
        """The findings that say that the log is not as it was written."""
        return tuple(finding for finding in self.findings if finding.is_fault)

    @property
    def may_repair(self) -> bool:
        """Whether the entries are those of the checkpoint, and no given key denies it."""
        return self.confirmed and self.signed is not False

    @property
    def holds(self) -> bool:
        """Whether everything that was checked is as it must be. A signature that could not be checked is no fault."""
        return self.may_repair and not self.faults and not self.problems


def flipped(path: str, offset: int, *, got: int, want: int) -> LogFinding:
    """The finding for one wrong byte."""
    message = f"got {got:#04x}, want {want:#04x}"
    return LogFinding(kind=LogFault.FLIPPED, path=path, offset=offset, message=message, got=got, want=want)


def damaged(path: str, offset: int | None, message: str) -> LogFinding:
    """The finding for bytes that no single change explains."""
    return LogFinding(kind=LogFault.DAMAGED, path=path, offset=offset, message=message)


def missing(path: str) -> LogFinding:
    """The finding for a resource that is not there."""
    return LogFinding(kind=LogFault.MISSING, path=path, offset=None, message="got nothing, want it")


def differences(path: str, got: bytes, *, want: bytes) -> Iterator[LogFinding]:
    """How the bytes of a resource differ from what they must be."""
    if len(got) != len(want):
        shared = min(len(got), len(want))
        first = next((at for at in range(shared) if got[at] != want[at]), shared)
        yield damaged(path, first, f"got {len(got)} bytes, want {len(want)}, the same up to here")
        return
    wrong = [at for at in range(len(want)) if got[at] != want[at]]
    if len(wrong) > NAMED_BYTES_MAX:
        yield damaged(path, wrong[0], f"got {len(wrong)} wrong bytes up to {wrong[-1]}, want others")
        return
    for at in wrong:
        yield flipped(path, at, got=got[at], want=want[at])
