# SPDX-License-Identifier: Apache-2.0
"""The exception tree, drawn once, and the one table that says how each kind is answered.

    IapError
    ├── Malformed                 bytes or text that do not parse; the input is at fault
    │   ├── MalformedRequest      a check request, or a part of one (carries a `Reason`)
    │   └── InvalidCredential     a credential that was shown and is false (carries a `Reason`)
    ├── NotProven                 a proof, signature or checksum that does not hold
    │   ├── BadSignature          a signature that does not cover the bytes
    │   ├── BadProof              an inclusion, consistency or range proof that does not lead to the root
    │   ├── Corrupt               stored bytes that are not what was written
    │   ├── Fork                  two valid statements that cannot both be true; both are the evidence
    │   └── Rollback              less than was proven before; both statements are the evidence
    ├── Invalid                   a file of the operator that cannot be used
    │   ├── ConfigInvalid         the configuration tree
    │   └── PolicyInvalid         a policy bundle
    ├── Refused                   the caller may not do this
    ├── NotFound                  there is no such thing (yet)
    │   └── UnknownWriter         a writer that the audit log does not know
    ├── Conflict                  what was asked does not fit the state of the log
    │   ├── OutOfSequence         a batch that is not the writer's next (carries the expected sequence)
    │   ├── HeadMoved             another sequencer has committed: the process must end
    │   └── LogFrozen             the log takes nothing more until an operator has looked
    └── Unavailable               cannot decide now; the answer is a refusal
        ├── JournalFull           no room for this kind of record
        ├── QueueFull             too much is waiting (carries when to come again)
        ├── LogUnavailable        the audit log cannot be reached, or does not answer in time
        └── SourceUnavailable     keys, inventory or geography missing or too old

Anything else that is raised is a defect of ours and is never caught but by the one exit of a check.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_MAX_CHARS = 80
"""How much of a bad value a message quotes: enough to find it, too little to flood a log."""


def shown(value: object) -> str:
    """Quote `value` for a message: bounded, escaped, on one line."""
    text = ascii(value)
    return text if len(text) <= SHOWN_MAX_CHARS else f"{text[:SHOWN_MAX_CHARS]}... ({len(text)} characters)"


class IapError(Exception):
    """Everything this package raises on purpose."""


class Malformed(IapError):
    """Bytes or text that do not parse: the message says what was got and what was wanted."""


class MalformedRequest(Malformed):
    """A check request that cannot be understood the one safe way. `reason` is a `model.Reason`."""

    def __init__(self, reason: enum.IntEnum, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InvalidCredential(Malformed):
    """A credential that was shown and is false. `reason` is a `model.Reason`; the message never quotes it."""

    def __init__(self, reason: enum.IntEnum, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotProven(IapError):
    """A proof, signature or checksum that does not hold."""


class BadSignature(NotProven):
    """A signature that does not cover the bytes under the named key."""


class BadProof(NotProven):
    """An inclusion, consistency or range proof that does not lead to the root."""


class Corrupt(NotProven):
    """Stored bytes that are not what was written. `where` names the file and the byte offset."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where


class Fork(NotProven):
    """Two valid statements that cannot both be true; `evidence` holds both, byte for byte."""

    def __init__(self, message: str, evidence: Sequence[bytes]) -> None:
        super().__init__(message)
        self.evidence = tuple(evidence)


class Rollback(NotProven):
    """Less than was proven before; `evidence` holds what was proven and what is said now, byte for byte."""

    def __init__(self, message: str, evidence: Sequence[bytes]) -> None:
        super().__init__(message)
        self.evidence = tuple(evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a file of the operator. `line` and `column` count from 1; 0 means the whole file."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class Invalid(IapError):
    """A file of the operator that cannot be used. All faults found are reported at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)

    @classmethod
    def of_file(cls, file: Path | str, message: str) -> "Invalid":
        """The same, for a fault of the file as a whole."""
        return cls([Fault(file=str(file), line=0, column=0, field="", message=message)])


class ConfigInvalid(Invalid):
    """The configuration tree cannot be used: the process refuses to start, or keeps the running one."""


class PolicyInvalid(Invalid):
    """A policy bundle cannot be used: the process refuses to start, or keeps the running one."""


class Refused(IapError):
    """The caller may not do this: no enrolment, a wrong token, a writer that is retired."""


class NotFound(IapError):
    """There is no such thing, or not yet."""


class UnknownWriter(NotFound):
    """A writer that the audit log does not know: it must register first."""


class Conflict(IapError):
    """What was asked does not fit the state of the log."""


class OutOfSequence(Conflict):
    """A batch that is not the writer's next. `expected` is the sequence that the log takes next (rule A1)."""

    def __init__(self, message: str, expected: int) -> None:
        super().__init__(message)
        self.expected = expected


class HeadMoved(Conflict):
    """Another sequencer has committed to this log. Fatal: the process must end (rule C3)."""


class LogFrozen(Conflict):
    """The log takes nothing more until an operator has looked (rule G4)."""


class Unavailable(IapError):
    """It cannot be decided now. The answer is a refusal, never an allow."""


class JournalFull(Unavailable):
    """No room in the journal for this kind of record; it comes back when there is."""


class QueueFull(Unavailable):
    """Too much is waiting to be sequenced. Come again after `retry_seconds`."""

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class LogUnavailable(Unavailable):
    """The audit log cannot be reached, or does not answer in time."""


class SourceUnavailable(Unavailable):
    """Keys, inventory or geography are missing or older than their age limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How one kind of error is answered at each edge."""

    http_status: int
    grpc_code: str
    exit_code: int
    metric: str


ANSWERS: dict[type[IapError], Answered] = {
    Malformed: Answered(http_status=400, grpc_code="INVALID_ARGUMENT", exit_code=2, metric="malformed"),
    InvalidCredential: Answered(http_status=401, grpc_code="UNAUTHENTICATED", exit_code=1, metric="credential"),
    NotProven: Answered(http_status=422, grpc_code="DATA_LOSS", exit_code=1, metric="not_proven"),
    Invalid: Answered(http_status=500, grpc_code="FAILED_PRECONDITION", exit_code=2, metric="invalid_file"),
    Refused: Answered(http_status=403, grpc_code="PERMISSION_DENIED", exit_code=1, metric="refused"),
    NotFound: Answered(http_status=404, grpc_code="NOT_FOUND", exit_code=1, metric="not_found"),
    Conflict: Answered(http_status=409, grpc_code="FAILED_PRECONDITION", exit_code=1, metric="conflict"),
    Unavailable: Answered(http_status=503, grpc_code="UNAVAILABLE", exit_code=3, metric="unavailable"),
    JournalFull: Answered(http_status=503, grpc_code="RESOURCE_EXHAUSTED", exit_code=3, metric="journal_full"),
    QueueFull: Answered(http_status=429, grpc_code="RESOURCE_EXHAUSTED", exit_code=3, metric="queue_full"),
}
"""Looked up through the method resolution order: the nearest class that is listed answers."""


def answered(error: IapError) -> Answered:
    """How `error` is answered: HTTP status, gRPC code, exit code of a command, metric label."""
    for kind in type(error).__mro__:
        if kind in ANSWERS:
            return ANSWERS[kind]
    return Answered(http_status=500, grpc_code="INTERNAL", exit_code=1, metric="other")
