# SPDX-License-Identifier: Apache-2.0
"""How an error goes over the wire: a gRPC code, a text, and what a program needs to act on it.

The invariant: every IapError is answered by `errors.answered`, so with the same meaning at every edge; and of whatever
else is raised, which is a defect of ours, a caller learns nothing but that it happened.

    OutOfSequence             iap.audit.v1.AppendExpectation  the sequence that the log takes next
    QueueFull                 google.rpc.RetryInfo            when to come again
    UnknownWriter, LogFrozen  google.rpc.ErrorInfo            codes that others share, told apart by the reason

The details travel as a serialized google.rpc.Status in the trailer `grpc-status-details-bin`, which is where the gRPC
libraries of other languages look for them. Evidence (`Fork`, `Rollback`) does not: it is in the log's own records.
"""

from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import IapError, LogFrozen, OutOfSequence, QueueFull, UnknownWriter, answered

DETAILS_KEY = "grpc-status-details-bin"
"""The trailer of google.rpc.Status, by convention of all gRPC libraries."""

ERROR_DOMAIN = "iap-authz"
"""Whose reasons these are (google.rpc.ErrorInfo)."""

TEXT_MAX_BYTES = 1024
"""Of an error's text. Escaped and a second time in the details it stays below the 8 KiB that peers take as trailers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A call's status, if not OK. `metadata` are the trailers that go with it."""

    code: grpc.StatusCode
    text: str = ""
    metadata: tuple[tuple[str, bytes], ...] = ()


DEFECT = Refusal(code=grpc.StatusCode.INTERNAL)
"""What a caller is told of a defect of ours."""


def render_refusal(error: IapError) -> Refusal:
    """The status for `error`."""
    code = grpc.StatusCode[answered(error).grpc_code]
    text = _bounded(str(error))
    detail = _detail_of(error)
    if detail is None:
        return Refusal(code=code, text=text)
    number, _ = code.value
    status = status_pb2.Status(code=number, message=text)
    status.details.add().Pack(detail)
    return Refusal(code=code, text=text, metadata=((DETAILS_KEY, status.SerializeToString()),))


def _bounded(text: str) -> str:
    # A lone surrogate has no UTF-8, and a cut may fall into a character: neither may turn a refusal into a defect.
    return text.encode("utf-8", "backslashreplace")[:TEXT_MAX_BYTES].decode("utf-8", "ignore")


def _detail_of(error: IapError) -> Message | None:
    detail: Message | None = None
    match error:
        case OutOfSequence():
            detail = log_pb2.AppendExpectation(expected_sequence=error.expected)
        case QueueFull():
            detail = error_details_pb2.RetryInfo(retry_delay=timedelta(seconds=max(error.retry_seconds, 0.0)))
        case UnknownWriter():
            detail = error_details_pb2.ErrorInfo(reason="UNKNOWN_WRITER", domain=ERROR_DOMAIN)
        case LogFrozen():
            detail = error_details_pb2.ErrorInfo(reason="LOG_FROZEN", domain=ERROR_DOMAIN)
    return detail
