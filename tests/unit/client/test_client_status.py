# SPDX-License-Identifier: Apache-2.0
"""Every status of a call has one meaning, whatever a log puts into its details."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client.status import DETAILS_KEY, RETRY_MAX_SECONDS, error_of
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
)

Code = grpc.StatusCode
Metadata = tuple[tuple[str, str | bytes], ...]


def rich(*details: Message) -> Metadata:
    status = status_pb2.Status(code=9)
    for detail in details:
        status.details.add().Pack(detail)
    return (("date", "today"), (DETAILS_KEY, status.SerializeToString()))


EXPECTATION = log_pb2.AppendExpectation(expected_sequence=7)
UNKNOWN = error_details_pb2.ErrorInfo(reason="UNKNOWN_WRITER", domain="iap-authz")
FROZEN = error_details_pb2.ErrorInfo(reason="LOG_FROZEN", domain="iap-authz")
RETRY = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))

CASES: list[tuple[Code, Metadata, type[IapError]]] = [
    (Code.INVALID_ARGUMENT, (), Malformed),
    (Code.DATA_LOSS, (), NotProven),
    (Code.PERMISSION_DENIED, (), Refused),
    (Code.NOT_FOUND, (), NotFound),
    (Code.NOT_FOUND, rich(FROZEN), NotFound),
    (Code.NOT_FOUND, rich(UNKNOWN), UnknownWriter),
    (Code.FAILED_PRECONDITION, (), Conflict),
    (Code.FAILED_PRECONDITION, rich(UNKNOWN), Conflict),
    (Code.FAILED_PRECONDITION, rich(FROZEN), LogFrozen),
    (Code.FAILED_PRECONDITION, rich(EXPECTATION), OutOfSequence),
    (Code.FAILED_PRECONDITION, rich(RETRY, EXPECTATION), OutOfSequence),
    (Code.RESOURCE_EXHAUSTED, rich(RETRY), QueueFull),
    (Code.RESOURCE_EXHAUSTED, (), LogUnavailable),
    (Code.RESOURCE_EXHAUSTED, rich(EXPECTATION), LogUnavailable),
    *((code, (), LogUnavailable) for code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN)),
    *((code, (), LogUnavailable) for code in (Code.CANCELLED, Code.UNIMPLEMENTED, Code.ABORTED, Code.OUT_OF_RANGE)),
    *((code, (), LogUnavailable) for code in (Code.UNAUTHENTICATED, Code.ALREADY_EXISTS)),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_each_status_means(number: int) -> None:
    code, metadata, kind = CASES[number]
    error = error_of(code, "got a, want b", metadata=metadata)
    assert type(error) is kind
    assert str(error) == f"the log answered {code.name}: 'got a, want b'"


def test_every_status_that_is_a_failure_is_known() -> None:
    assert {code for code, _, _ in CASES} == set(Code) - {Code.OK}


def test_a_gap_says_what_is_expected() -> None:
    error = error_of(Code.FAILED_PRECONDITION, "", metadata=rich(EXPECTATION))
    assert isinstance(error, OutOfSequence)
    assert error.expected == 7


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        (Duration(seconds=1, nanos=500_000_000), 1.5),
        (Duration(), 0.0),
        (Duration(seconds=-5), 0.0),
        (Duration(seconds=315_576_000_000), RETRY_MAX_SECONDS),
        (Duration(seconds=2**63 - 1, nanos=2**31 - 1), RETRY_MAX_SECONDS),
    ],
    ids=range(5),
)
def test_when_to_come_again_is_bounded(delay: Duration, seconds: float) -> None:
    info = error_details_pb2.RetryInfo(retry_delay=delay)
    error = error_of(Code.RESOURCE_EXHAUSTED, "", metadata=rich(info))
    assert isinstance(error, QueueFull)
    assert error.retry_seconds == seconds


def packed(url: str, value: bytes) -> Metadata:
    status = status_pb2.Status()
    detail = status.details.add()
    detail.type_url, detail.value = url, value
    return ((DETAILS_KEY, status.SerializeToString()),)


@pytest.mark.parametrize(
    "metadata",
    [
        ((DETAILS_KEY, b"\xff\xff"),),
        ((DETAILS_KEY, b""),),
        ((DETAILS_KEY, "text"),),
        packed("type.googleapis.com/iap.audit.v1.AppendExpectation", b"\xff"),
        packed("iap.audit.v1.AppendExpectation.Not", b"\x08\x07"),
        packed("", b""),
    ],
    ids=range(6),
)
def test_details_that_do_not_parse_are_none(metadata: Metadata) -> None:
    assert type(error_of(Code.FAILED_PRECONDITION, None, metadata=metadata)) is Conflict


def test_the_text_of_a_log_is_quoted_and_bounded() -> None:
    message = str(error_of(Code.NOT_FOUND, "x\n\x1b[2J" * 1000, metadata=()))
    assert len(message) < 200
    assert "\n" not in message
    assert "\x1b" not in message
