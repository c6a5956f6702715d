# SPDX-License-Identifier: Apache-2.0
"""What a failed call to the audit log means: from a gRPC status and its details back to the exception tree.

The invariant: every status has a meaning here, and one that this table does not know is LogUnavailable: it cannot be
decided now. No status makes anything believed; the text of a status is quoted, bounded, and never acted on.

    INVALID_ARGUMENT     Malformed
    DATA_LOSS            NotProven
    PERMISSION_DENIED    Refused
    NOT_FOUND            UnknownWriter with ErrorInfo UNKNOWN_WRITER, else NotFound
    FAILED_PRECONDITION  OutOfSequence with AppendExpectation, LogFrozen with ErrorInfo LOG_FROZEN, else Conflict
    RESOURCE_EXHAUSTED   QueueFull with RetryInfo, else LogUnavailable

The details are a google.rpc.Status in the trailing metadata `grpc-status-details-bin`. Details that do not parse are
no details. Pure: nothing here calls anything.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import (
    Conflict,
    IapError,
    LogFrozen,
    LogUnavailable,
    Malformed,
    NotFound,
    NotProven,
    OutOfSequence,
    QueueFull,
    Refused,
    UnknownWriter,
    shown,
)

DETAILS_KEY = "grpc-status-details-bin"
"""Where the rich error model of gRPC puts a google.rpc.Status."""

REASON_UNKNOWN_WRITER = "UNKNOWN_WRITER"
REASON_LOG_FROZEN = "LOG_FROZEN"
"""`reason` of the ErrorInfo that tells two errors of one status apart."""

RETRY_MAX_SECONDS = 60.0
"""A log that is full for longer says so again; no answer of one call may silence a writer for good."""

_PLAIN: Mapping[grpc.StatusCode, type[IapError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Malformed,
    grpc.StatusCode.DATA_LOSS: NotProven,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
}
"""Those that no detail tells apart."""

M = TypeVar("M", bound=Message)


def error_of(code: grpc.StatusCode, details: str | None, *, metadata: Iterable[tuple[str, str | bytes]]) -> IapError:
    """The exception that a status stands for."""
    message = f"the log answered {code.name}: {shown(details or '')}"
    rich = _parse_details(metadata)
    if code in _PLAIN:
        return _PLAIN[code](message)
    match code:
        case grpc.StatusCode.NOT_FOUND:
            return UnknownWriter(message) if _reason(rich) == REASON_UNKNOWN_WRITER else NotFound(message)
        case grpc.StatusCode.FAILED_PRECONDITION:
            return _conflict(message, rich)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _exhausted(message, rich)
        case _:
            return LogUnavailable(message)


def _conflict(message: str, rich: status_pb2.Status) -> Conflict:
    expectation = _detail(rich, log_pb2.AppendExpectation)
    if expectation is not None:
        return OutOfSequence(message, expectation.expected_sequence)
    return LogFrozen(message) if _reason(rich) == REASON_LOG_FROZEN else Conflict(message)


def _exhausted(message: str, rich: status_pb2.Status) -> IapError:
    """A full queue says when to come again. gRPC itself has this status for a message that is too large."""
    retry = _detail(rich, error_details_pb2.RetryInfo)
    if retry is None:
        return LogUnavailable(message)
    seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return QueueFull(message, min(max(seconds, 0.0), RETRY_MAX_SECONDS))


def _parse_details(metadata: Iterable[tuple[str, str | bytes]]) -> status_pb2.Status:
    status = status_pb2.Status()
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                return status_pb2.Status()
    return status


def _detail(rich: status_pb2.Status, kind: type[M]) -> M | None:
    """The first detail of this kind."""
    for packed in rich.details:
        message = kind()
        try:
            if packed.Unpack(message):
                return message
        except DecodeError:
            continue
    return None


def _reason(rich: status_pb2.Status) -> str:
    info = _detail(rich, error_details_pb2.ErrorInfo)
    return "" if info is None else str(info.reason)
