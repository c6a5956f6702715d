# SPDX-License-Identifier: Apache-2.0
"""The gRPC server of the audit log on a real socket: every call, every kind of error, and callers that misbehave."""

import asyncio
import logging
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
import uvloop
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.audit_grpc.callers import TOKEN_MAX_CHARS, peer_address
from iap_authz.adapters.audit_grpc.refusal import DETAILS_KEY, TEXT_MAX_BYTES, render_refusal
from iap_authz.adapters.audit_grpc.server import PACKAGE, SERVICES, AuditServer, Bounds
from iap_authz.errors import (
    ANSWERS,
    BadProof,
    BadSignature,
    ConfigInvalid,
    Conflict,
    Corrupt,
    Fork,
    HeadMoved,
    IapError,
    JournalFull,
    LogFrozen,
    LogUnavailable,
    Malformed,
    NotFound,
    OutOfSequence,
    QueueFull,
    Refused,
    Rollback,
    UnknownWriter,
)
from iap_authz.model.roles import Role
from iap_authz.ports import Caller
from tests.fakes.log_service import FakeLogService, FakePrivacyService, FakeService, FakeTrailService

Metadata = Sequence[tuple[str, str | bytes]]

WRITER = bytes(range(32))
ENTRIES: list[Message] = [log_pb2.Entry(index=index, record=b"record %d" % index) for index in range(5)]
RECEIPT = log_pb2.Receipt(writer=WRITER, to=2, leaves=3, range_proof=[WRITER], checkpoint=b"note")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method on the wire, the method of the port that answers it, and a call."""

    service: str
    method: str
    port: str
    request: Message
    answers: list[Message]
    stream: bool = False

    @property
    def path(self) -> str:
        return f"/{PACKAGE}.{self.service}/{self.method}"


CHECKPOINT = log_pb2.GetCheckpointResponse(checkpoint=b"note")
CASES = [
    Case(
        service="AuditWriter",
        method="Register",
        port="register",
        request=log_pb2.RegisterRequest(public_key=WRITER, enrolment_token="t"),
        answers=[log_pb2.RegisterResponse(index=7, receipt=RECEIPT, log_origin="log.example")],
    ),
    Case(
        service="AuditWriter",
        method="Append",
        port="append",
        request=log_pb2.AppendRequest(**{"from": 0}, to=2, writer=WRITER, records=[b"a", b"b"]),  # type: ignore[arg-type]
        answers=[log_pb2.AppendResponse(receipt=RECEIPT)],
    ),
    Case(
        service="AuditWriter",
        method="GetReceipts",
        port="get_receipts",
        request=log_pb2.GetReceiptsRequest(writer=WRITER, to=9, consistent_from=4),
        answers=[log_pb2.GetReceiptsResponse(receipts=[RECEIPT, RECEIPT])],
    ),
    Case(
        service="AuditProofs",
        method="GetCheckpoint",
        port="get_checkpoint",
        request=log_pb2.GetCheckpointRequest(published=True),
        answers=[CHECKPOINT],
    ),
    Case(
        service="AuditProofs",
        method="WatchCheckpoints",
        port="watch_checkpoints",
        request=log_pb2.WatchCheckpointsRequest(larger_than=2**63 - 1),
        answers=[CHECKPOINT, log_pb2.GetCheckpointResponse(checkpoint=b"larger")],
        stream=True,
    ),
    Case(
        service="AuditProofs",
        method="GetInclusionProof",
        port="prove_inclusion",
        request=log_pb2.GetInclusionProofRequest(index=3, tree_size=5),
        answers=[log_pb2.GetInclusionProofResponse(index=3, tree_size=5, proof=[WRITER])],
    ),
    Case(
        service="AuditProofs",
        method="GetConsistencyProof",
        port="prove_consistency",
        request=log_pb2.GetConsistencyProofRequest(old_size=3, new_size=5),
        answers=[log_pb2.GetConsistencyProofResponse(old_size=3, new_size=5, proof=[WRITER])],
    ),
    Case(
        service="AuditProofs",
        method="GetRangeProof",
        port="prove_range",
        request=log_pb2.GetRangeProofRequest(first=1, count=2, tree_size=5),
        answers=[log_pb2.GetRangeProofResponse(tree_size=5, proof=[WRITER])],
    ),
    Case(
        service="AuditProofs",
        method="GetTile",
        port="get_tile",
        request=log_pb2.GetTileRequest(level=1, index=2, width=3),
        answers=[log_pb2.GetTileResponse(tile=WRITER * 3)],
    ),
    Case(
        service="AuditRecords",
        method="GetRecord",
        port="get_record",
        request=log_pb2.GetRecordRequest(audit_id=WRITER, with_evidence=True),
        answers=[log_pb2.GetRecordResponse(evidence=log_pb2.Evidence(record=b"r"))],
    ),
    Case(
        service="AuditRecords",
        method="GetEntries",
        port="get_entries",
        request=log_pb2.GetEntriesRequest(first=0, count=5),
        answers=ENTRIES,
        stream=True,
    ),
    Case(
        service="AuditRecords",
        method="SearchRecords",
        port="search_records",
        request=log_pb2.SearchRecordsRequest(host="orders.example.com", bodies=["decision"]),
        answers=[log_pb2.SearchRecordsResponse(next_page_token="n", indexed_size=9)],
    ),
    Case(
        service="AuditRecords",
        method="TailRecords",
        port="tail_records",
        request=log_pb2.TailRecordsRequest(after_index=4),
        answers=ENTRIES,
        stream=True,
    ),
    Case(
        service="AuditAdmin",
        method="GetLogState",
        port="get_state",
        request=log_pb2.GetLogStateRequest(),
        answers=[log_pb2.LogState(origin="log.example", pending_records=2)],
    ),
    Case(
        service="AuditAdmin",
        method="ListWriters",
        port="list_writers",
        request=log_pb2.ListWritersRequest(page_size=2),
        answers=[log_pb2.ListWritersResponse(writers=[log_pb2.WriterState(writer=WRITER)])],
    ),
]
PRIVACY_CASES = [
    Case(
        service="AuditPrivacy",
        method="Unseal",
        port="unseal",
        request=log_pb2.UnsealRequest(indices=[3, 1], purpose="case 7"),
        answers=[log_pb2.UnsealResponse(records=[log_pb2.Unsealed(index=3, opening=WRITER * 2)], log_read=9)],
    ),
    Case(
        service="AuditPrivacy",
        method="EraseSubject",
        port="erase_subject",
        request=log_pb2.EraseSubjectRequest(subject="alice", authority="ticket 7", dry_run=True),
        answers=[log_pb2.ErasureState(erasure=WRITER[:16], stage=log_pb2.ErasureState.COUNTING)],
    ),
    Case(
        service="AuditPrivacy",
        method="GetErasure",
        port="get_erasure",
        request=log_pb2.GetErasureRequest(erasure=WRITER[:16]),
        answers=[log_pb2.ErasureState(erasure=WRITER[:16], stage=log_pb2.ErasureState.COMPLETE)],
    ),
    Case(
        service="AuditPrivacy",
        method="ListErasures",
        port="list_erasures",
        request=log_pb2.ListErasuresRequest(),
        answers=[log_pb2.ListErasuresResponse(erasures=[log_pb2.ErasureState(erasure=WRITER[:16])])],
    ),
    Case(
        service="AuditPrivacy",
        method="PlaceLegalHold",
        port="place_hold",
        request=log_pb2.PlaceLegalHoldRequest(authority="court", matter="4 O 1/26"),
        answers=[log_pb2.PlaceLegalHoldResponse(hold=WRITER[:16], index=4)],
    ),
    Case(
        service="AuditPrivacy",
        method="ReleaseLegalHold",
        port="release_hold",
        request=log_pb2.ReleaseLegalHoldRequest(hold=WRITER[:16], authority="court"),
        answers=[log_pb2.ReleaseLegalHoldResponse(needs_approval=True)],
    ),
    Case(
        service="AuditPrivacy",
        method="ListLegalHolds",
        port="list_holds",
        request=log_pb2.ListLegalHoldsRequest(),
        answers=[log_pb2.ListLegalHoldsResponse(holds=[log_pb2.HoldState(hold=WRITER[:16])])],
    ),
    Case(
        service="AuditAdmin",
        method="RetireWriter",
        port="retire_writer",
        request=log_pb2.RetireWriterRequest(writer=WRITER, cause="gone"),
        answers=[log_pb2.RetireWriterResponse(index=12)],
    ),
]
"""Those that are told who calls."""
CASES += PRIVACY_CASES
BY_METHOD = {case.method: case for case in CASES}
EVERY = pytest.mark.parametrize("case", CASES, ids=[case.method for case in CASES])
STREAMS = pytest.mark.parametrize(
    "case", [case for case in CASES if case.stream], ids=[case.method for case in CASES if case.stream]
)


@dataclass(kw_only=True)
class World:
    """A log and a trail behind a server, and a channel to it."""

    log: FakeLogService = field(default_factory=FakeLogService)
    trail: FakeTrailService = field(default_factory=FakeTrailService)
    privacy: FakePrivacyService = field(default_factory=FakePrivacyService)
    server: AuditServer
    channel: grpc.aio.Channel

    def behind(self, case: Case) -> FakeService:
        """The fake that answers `case`, told to."""
        fake: FakeService = self.trail if case.service == "AuditRecords" else self.log
        if case in PRIVACY_CASES:
            fake = self.privacy
        fake.answers[case.port] = case.answers
        return fake

    async def call(self, case: Case, raw: bytes | None = None) -> list[bytes]:
        """All answers to one call."""
        body = case.request.SerializeToString() if raw is None else raw
        if not case.stream:
            return [await self.ask(case, body)]
        return [answer async for answer in self.follow(case, body)]

    def ask(
        self,
        case: Case,
        raw: bytes = b"",
        *,
        seconds: float | None = None,
        compression: grpc.Compression | None = None,
        metadata: Metadata = (),
    ) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
        """A call with one answer, on its way."""
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(case.path)
        return unary(raw, timeout=seconds, compression=compression, metadata=metadata)

    def follow(
        self, case: Case, raw: bytes = b"", *, seconds: float | None = None
    ) -> "grpc.aio.UnaryStreamCall[bytes, bytes]":
        """A stream that has been asked for."""
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self.channel.unary_stream(case.path)
        return stream(raw, timeout=seconds)

    async def refused(self, case: Case, raw: bytes | None = None) -> grpc.aio.AioRpcError:
        """The error that a call ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(case, raw)
        return caught.value


Test = Callable[[World], Awaitable[None]]


TOKENS = {
    "ivy's": Caller(name="ivy", roles=frozenset({Role.INVESTIGATOR}), address=""),
    "T" * TOKEN_MAX_CHARS: Caller(name="long", roles=frozenset({Role.ADMIN}), address=""),
}


@asynccontextmanager
async def world(address: str, *, with_privacy: bool = True, **bounds: float) -> AsyncIterator[World]:
    log, trail, privacy = FakeLogService(), FakeTrailService(), FakePrivacyService()
    server = AuditServer(
        log,
        trail,
        address=address,
        privacy=privacy if with_privacy else None,
        identify=TOKENS.get,
        bounds=Bounds(**bounds),  # type: ignore[arg-type]
    )
    port = await server.start()
    target = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    try:
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            yield World(log=log, trail=trail, privacy=privacy, server=server, channel=channel)
    finally:
        await server.stop(0)


def served(folder: Path, test: Test, *, with_privacy: bool = True, **bounds: float) -> None:
    async def run() -> None:
        async with world(f"unix:{folder / 's'}", with_privacy=with_privacy, **bounds) as made:
            await test(made)

    asyncio.run(run())


async def last_of(call: "grpc.aio.UnaryUnaryCall[bytes, bytes] | grpc.aio.UnaryStreamCall[bytes, bytes]") -> None:
    """Read a call to its end, whatever its kind."""
    if isinstance(call, grpc.aio.UnaryStreamCall):
        async for _ in call:
            pass
    else:
        await call


def details_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    raw = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    return None if raw is None else status_pb2.Status.FromString(raw)


# ---- calls


@EVERY
def test_a_call_is_handed_over_and_its_answer_back(tmp_path: Path, case: Case) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        assert await made.call(case) == [answer.SerializeToString() for answer in case.answers]
        assert fake.asked == [(case.port, case.request)]
        assert fake.open_streams == 0

    served(tmp_path, test)


def declared() -> list[tuple[str, str]]:
    services = log_pb2.DESCRIPTOR.services_by_name
    return [(name, method.name) for name, service in services.items() for method in service.methods]


def test_calls_are_those_of_the_protocol() -> None:
    for case in CASES:
        method = log_pb2.DESCRIPTOR.services_by_name[case.service].methods_by_name[case.method]
        assert method.input_type is case.request.DESCRIPTOR
        assert {answer.DESCRIPTOR for answer in case.answers} == {method.output_type}
        assert method.server_streaming == case.stream
    assert {case.service for case in CASES} == set(SERVICES)


def test_what_this_version_has_not_is_unimplemented(tmp_path: Path) -> None:
    missing = sorted(set(declared()) - {(case.service, case.method) for case in CASES})
    assert {service for service, _ in missing} == {"AuditAdmin"}
    assert len(missing) == 5

    async def test(made: World) -> None:
        for service, method in [*missing, ("AuditWriter", "append"), ("AuditWriterX", "Append")]:
            case = Case(service=service, method=method, port="", request=log_pb2.GetLogStateRequest(), answers=[])
            assert (await made.refused(case)).code() is grpc.StatusCode.UNIMPLEMENTED

    served(tmp_path, test)


def test_without_a_privacy_service_its_calls_are_unimplemented(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        for case in PRIVACY_CASES:
            assert (await made.refused(case)).code() is grpc.StatusCode.UNIMPLEMENTED
        assert made.privacy.asked == []
        stub = health_pb2_grpc.HealthStub(made.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service=f"{PACKAGE}.AuditPrivacy"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert len(await made.call(made_case(made, "ListWriters"))) == 1

    def made_case(made: World, method: str) -> Case:
        made.behind(BY_METHOD[method])
        return BY_METHOD[method]

    served(tmp_path, test, with_privacy=False)


# ---- callers

IVY = TOKENS["ivy's"]
PRIVACY = pytest.mark.parametrize("case", PRIVACY_CASES, ids=[case.method for case in PRIVACY_CASES])


@PRIVACY
def test_a_method_is_told_whose_token_came_and_from_where(tmp_path: Path, case: Case) -> None:
    async def test(made: World) -> None:
        made.behind(case)
        await made.ask(case, case.request.SerializeToString(), metadata=[("authorization", "Bearer ivy's")])
        await made.ask(case, case.request.SerializeToString())
        assert made.privacy.callers == [replace(IVY, address="unix"), None]
        assert made.privacy.asked == [(case.port, case.request)] * 2

    served(tmp_path, test)


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ([], None),
        ([("authorization", "Bearer ivy's")], "ivy"),
        ([("authorization", "bearer ivy's")], "ivy"),
        ([("authorization", "BEARER ivy's"), ("other", "Bearer x")], "ivy"),
        ([("authorization", "Bearer " + "T" * TOKEN_MAX_CHARS)], "long"),
        ([("authorization", "Bearer " + "T" * TOKEN_MAX_CHARS + "T")], None),
        ([("authorization", "Bearer ivy'")], None),
        ([("authorization", "Bearer")], None),
        ([("authorization", "Bearer ")], None),
        ([("authorization", "Bearer  ivy's")], None),
        ([("authorization", "Bearer ivy's x")], None),
        ([("authorization", "Basic ivy's")], None),
        ([("authorization", "ivy's")], None),
        ([("authorization", "")], None),
        ([("authorization", "Bearer ivy's"), ("authorization", "Bearer ivy's")], None),
        ([("authorization-bin", b"Bearer ivy's")], None),
        ([("x-authorization", "Bearer ivy's")], None),
    ],
)
def test_nobody_is_who_does_not_show_one_token(tmp_path: Path, metadata: Metadata, name: str | None) -> None:
    async def test(made: World) -> None:
        case = BY_METHOD["Unseal"]
        made.behind(case)
        await made.ask(case, metadata=metadata)
        assert [None if one is None else one.name for one in made.privacy.callers] == [name]

    served(tmp_path, test)


def test_a_refusal_and_a_defect_say_no_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(made: World) -> None:
        case = BY_METHOD["Unseal"]
        for error in (Refused("got no access token that this log knows"), ValueError("a defect")):
            made.behind(case).error = error
            for token in ("ivy's", "SECRET-token"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await made.ask(case, metadata=[("authorization", f"Bearer {token}")])
                assert token not in repr(caught.value)
                assert token not in repr(caught.value.trailing_metadata())

    served(tmp_path, test)
    assert "ivy's" not in caplog.text
    assert "SECRET-token" not in caplog.text


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_address_of_a_caller_has_no_port(address: str) -> None:
    async def run() -> None:
        host = f"[{address}]" if ":" in address else address
        async with world(f"{host}:0") as made:
            case = BY_METHOD["Unseal"]
            made.behind(case)
            await made.ask(case, metadata=[("authorization", "Bearer ivy's")])
            assert made.privacy.callers == [replace(IVY, address=address)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:50000", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("ipv6:[fe80::1%25eth0]:50000", "fe80::1%eth0"),
        ("unix:", "unix"),
        ("unix:/run/iap/log.sock", "unix"),
        ("vsock:3:1234", ""),
        ("ipv4:", ""),
        ("", ""),
    ],
)
def test_each_kind_of_peer_has_an_address_or_none(peer: str, address: str) -> None:
    assert peer_address(peer) == address


def test_row_187_no_reflection_and_no_channelz(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        for path in (
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.channelz.v1.Channelz/GetServers",
        ):
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = made.channel.unary_unary(f"/{path}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    served(tmp_path, test)


# ---- errors

APPEND = BY_METHOD["Append"]

ERRORS: list[tuple[IapError, grpc.StatusCode]] = [
    (Malformed("got 31 bytes, want 32"), grpc.StatusCode.INVALID_ARGUMENT),
    (BadSignature("no"), grpc.StatusCode.DATA_LOSS),
    (BadProof("no"), grpc.StatusCode.DATA_LOSS),
    (Corrupt("tile/0/000", "no"), grpc.StatusCode.DATA_LOSS),
    (Fork("two roots", [b"SECRET-A", b"SECRET-B"]), grpc.StatusCode.DATA_LOSS),
    (Rollback("less", [b"SECRET-A"]), grpc.StatusCode.DATA_LOSS),
    (Refused("a wrong token"), grpc.StatusCode.PERMISSION_DENIED),
    (NotFound("no such leaf"), grpc.StatusCode.NOT_FOUND),
    (UnknownWriter("no such writer"), grpc.StatusCode.NOT_FOUND),
    (Conflict("does not fit"), grpc.StatusCode.FAILED_PRECONDITION),
    (OutOfSequence("a gap", 2**63 - 1), grpc.StatusCode.FAILED_PRECONDITION),
    (HeadMoved("moved"), grpc.StatusCode.FAILED_PRECONDITION),
    (LogFrozen("frozen"), grpc.StatusCode.FAILED_PRECONDITION),
    (JournalFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (QueueFull("full", 0.25), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (LogUnavailable("gone"), grpc.StatusCode.UNAVAILABLE),
    (IapError("else"), grpc.StatusCode.INTERNAL),
]


@EVERY
def test_every_error_of_ours_is_answered_by_the_table(
    tmp_path: Path, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        for error, code in ERRORS:
            fake.error = error
            got = await made.refused(case)
            assert (got.code(), got.details()) == (code, str(error))
            assert "SECRET" not in repr(got.trailing_metadata())
        assert fake.open_streams == 0

    served(tmp_path, test)
    assert caplog.records == []


def test_every_kind_that_the_table_lists_has_a_code_of_grpc() -> None:
    for kind, answer in ANSWERS.items():
        assert grpc.StatusCode[answer.grpc_code] not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}, kind


def test_a1_a_gap_carries_the_expected_sequence(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND).error = OutOfSequence("got 9, want 4", 4)
        error = await made.refused(APPEND)
        status = details_of(error)
        assert status is not None
        assert (status.code, status.message) == (error.code().value[0], "got 9, want 4")
        (detail,) = status.details
        expectation = log_pb2.AppendExpectation()
        assert detail.Unpack(expectation)
        assert expectation.expected_sequence == 4

    served(tmp_path, test)


@pytest.mark.parametrize(("seconds", "nanos"), [(0.25, 250_000_000), (0.0, 0), (-1.0, 0)])
def test_a_full_queue_says_when_to_come_again(tmp_path: Path, seconds: float, nanos: int) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND).error = QueueFull("full", seconds)
        status = details_of(await made.refused(APPEND))
        assert status is not None
        info = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert (info.retry_delay.seconds, info.retry_delay.nanos) == (0, nanos)

    served(tmp_path, test)


@pytest.mark.parametrize(
    ("error", "reason"), [(UnknownWriter("who"), "UNKNOWN_WRITER"), (LogFrozen("frozen"), "LOG_FROZEN")]
)
def test_codes_that_others_share_are_told_apart_by_a_reason(tmp_path: Path, error: IapError, reason: str) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND).error = error
        status = details_of(await made.refused(APPEND))
        assert status is not None
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == (reason, "iap-authz")

    served(tmp_path, test)


def test_errors_without_a_detail_have_no_details() -> None:
    detailed = {type(error) for error, _ in ERRORS if render_refusal(error).metadata}
    assert detailed == {OutOfSequence, QueueFull, UnknownWriter, LogFrozen}


@pytest.mark.parametrize("text", ["x" * 5000, "\u20ac" * 5000, "\n" * 5000, "\ud800" * 5000, "\0\r\n" * 5000])
def test_a_text_of_any_length_and_content_arrives_bounded(tmp_path: Path, text: str) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND).error = UnknownWriter(text)
        error = await made.refused(APPEND)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        got = (error.details() or "").encode()
        assert TEXT_MAX_BYTES - 3 <= len(got) <= TEXT_MAX_BYTES
        assert text.encode("utf-8", "backslashreplace").startswith(got)
        assert details_of(error) is not None

    served(tmp_path, test)


@EVERY
@pytest.mark.parametrize("error", [ValueError("SECRET"), TimeoutError("SECRET"), asyncio.CancelledError("SECRET")])
def test_row_167_a_defect_is_internal_without_a_word_and_logged(
    tmp_path: Path, case: Case, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        fake.error = error
        got = await made.refused(case)
        assert (got.code(), got.details()) == (grpc.StatusCode.INTERNAL, "")
        assert "SECRET" not in repr(got.trailing_metadata())
        fake.error = None
        assert len(await made.call(case)) == len(case.answers)

    served(tmp_path, test)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "a call failed")
    assert vars(record)["request"] == case.request.DESCRIPTOR.full_name


# ---- hostile callers


@EVERY
@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x07"])
def test_row_182_bytes_that_are_no_message_are_malformed(tmp_path: Path, case: Case, raw: bytes) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        error = await made.refused(case, raw)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == f"got {len(raw)} bytes that are no {case.request.DESCRIPTOR.full_name}"
        assert fake.asked == []

    served(tmp_path, test)


def test_text_that_is_no_utf8_is_malformed(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        case = BY_METHOD["SearchRecords"]
        fake = made.behind(case)
        assert (await made.refused(case, b"\x0a\x01\xff")).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert fake.asked == []

    served(tmp_path, test)


def test_trap_2_an_empty_message_is_for_the_service_to_refuse(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND)
        await made.call(APPEND, b"")
        assert made.log.asked == [("append", log_pb2.AppendRequest())]

    served(tmp_path, test)


def test_row_284_a_message_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND)
        fits = log_pb2.AppendRequest(records=[bytes(60_000)] * 15).SerializeToString()
        assert len(await made.call(APPEND, fits)) == 1
        error = await made.refused(APPEND, log_pb2.AppendRequest(records=[bytes(60_000)] * 18).SerializeToString())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(made.log.asked) == 1

    served(tmp_path, test, max_message_bytes=1_000_000)


def test_row_284_the_default_limit_is_eight_mebibytes(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND)
        field_bytes = 5  # the tag and a length of four bytes
        assert len(await made.call(APPEND, b"\x0a" + length(8 * 1024 * 1024 - field_bytes))) == 1
        error = await made.refused(APPEND, b"\x0a" + length(8 * 1024 * 1024 - field_bytes + 1))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    def length(count: int) -> bytes:
        return bytes([count & 127 | 128, count >> 7 & 127 | 128, count >> 14 & 127 | 128, count >> 21]) + bytes(count)

    served(tmp_path, test)


def test_row_284_a_gzip_bomb_is_held_to_the_limit_of_what_it_unpacks_to(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.behind(APPEND)
        fits = log_pb2.AppendRequest(records=[bytes(60_000)] * 15).SerializeToString()
        await made.ask(APPEND, fits, compression=grpc.Compression.Gzip)
        assert made.log.asked == [("append", log_pb2.AppendRequest.FromString(fits))]
        bomb = log_pb2.AppendRequest(records=[bytes(64_000)] * 1000).SerializeToString()
        for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await made.ask(APPEND, bomb, compression=kind)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(made.log.asked) == 1

    served(tmp_path, test, max_message_bytes=1_000_000)


def test_row_284_calls_over_the_limit_are_refused_at_once(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        fake = made.behind(APPEND)
        fake.waits = True
        waiting = [asyncio.ensure_future(made.call(APPEND)) for _ in range(3)]
        await fake.until(lambda: len(fake.asked) == 3)
        assert (await made.refused(BY_METHOD["GetLogState"])).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    served(tmp_path, test, calls_max=3)


def test_row_284_followers_never_shut_writers_out(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        tail = BY_METHOD["TailRecords"]
        made.behind(tail).waits = True
        made.behind(APPEND)
        followers = [made.follow(tail) for _ in range(2)]
        for follower in followers:
            await follower.read()
        error = await made.refused(tail)
        assert (error.code(), details_of(error) is None) == (grpc.StatusCode.RESOURCE_EXHAUSTED, False)
        assert len(await made.call(APPEND)) == 1
        followers[0].cancel()
        await made.trail.until(lambda: made.trail.open_streams == 1)
        again = made.follow(tail)
        assert await again.read() == ENTRIES[0].SerializeToString()

    served(tmp_path, test, streams_max=2)


@STREAMS
def test_row_284_a_slow_reader_costs_what_http2_buffers_and_no_more(tmp_path: Path, case: Case) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        kind = type(case.answers[0])
        large = log_pb2.Entry(record=bytes(60_000)) if kind is log_pb2.Entry else None
        fake.answers[case.port] = [large or log_pb2.GetCheckpointResponse(checkpoint=bytes(60_000))]
        fake.endless = True
        made.behind(APPEND)
        follower = made.follow(case)
        await follower.read()
        before = -1
        while fake.produced != before:  # until nothing more comes about while others are served
            before = fake.produced
            for _ in range(30):
                await made.call(APPEND)
            assert before * 60_000 < 16_000_000
        follower.cancel()
        await fake.until(lambda: not fake.open_streams)

    served(tmp_path, test)


# ---- ends


@EVERY
def test_a_caller_that_goes_ends_its_call(tmp_path: Path, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        fake.waits = True
        call = made.follow(case) if case.stream else made.ask(case)
        await fake.until(lambda: bool(fake.asked))
        call.cancel()
        await fake.until(lambda: not fake.open_streams if case.stream else fake.cancelled)

    served(tmp_path, test)
    assert caplog.records == []


@EVERY
def test_the_callers_deadline_ends_its_call(tmp_path: Path, case: Case) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        fake.waits = True
        call = made.follow(case, seconds=0.2) if case.stream else made.ask(case, seconds=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await last_of(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # On a slow machine the deadline may pass before the server has heard of the call.
        await fake.until(lambda: not fake.open_streams if case.stream else fake.cancelled or not fake.asked)

    served(tmp_path, test)


@EVERY
def test_a_call_with_one_answer_is_bounded_and_a_stream_is_not(tmp_path: Path, case: Case) -> None:
    async def test(made: World) -> None:
        fake = made.behind(case)
        fake.waits = True
        if case.stream:
            follower = made.follow(case)
            for _ in case.answers:
                await follower.read()
            made.log.waits = True
            assert (await made.refused(BY_METHOD["GetLogState"])).code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert fake.open_streams == 1
            return
        error = await made.refused(case)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert fake.cancelled

    served(tmp_path, test, unary_max_seconds=0.01)


@STREAMS
def test_a_stop_ends_streams_and_lets_calls_end(tmp_path: Path, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    async def test(made: World) -> None:
        follows = made.behind(case)
        follows.waits = True
        follower = made.follow(case)
        for _ in case.answers:
            await follower.read()
        writes = made.behind(APPEND)
        writes.waits = True
        appending = asyncio.ensure_future(made.call(APPEND))
        await writes.until(lambda: ("append", APPEND.request) in writes.asked)
        stopping = asyncio.ensure_future(made.server.stop(60.0))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await follower.read()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        assert not stopping.done()
        writes.release.set()
        assert len(await appending) == 1
        await stopping
        assert follows.open_streams == 0

    served(tmp_path, test)
    assert caplog.records == []


def test_health_says_whether_it_serves(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        stub = health_pb2_grpc.HealthStub(made.channel)
        names = ["", *(f"{PACKAGE}.{name}" for name in SERVICES)]
        for ready, want in (
            (None, health_pb2.HealthCheckResponse.NOT_SERVING),
            (True, health_pb2.HealthCheckResponse.SERVING),
            (False, health_pb2.HealthCheckResponse.NOT_SERVING),
        ):
            if ready is not None:
                await made.server.set_ready(ready=ready)
            for name in names:
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == want

    served(tmp_path, test)


# ---- addresses


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "unix:{folder}/s"], ids=["v4", "v6", "unix"])
def test_it_serves_on_each_kind_of_address(
    tmp_path: Path, address: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def run() -> None:
        async with world(address.format(folder=tmp_path)) as made:
            made.behind(APPEND)
            assert len(await made.call(APPEND)) == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def test_row_185_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    socket = tmp_path / "s"

    async def test(made: World) -> None:
        assert stat.S_IMODE(socket.stat().st_mode) == 0o660
        second = AuditServer(made.log, made.trail, address=f"unix:{socket}")
        with pytest.raises(ConfigInvalid, match="another process serves on this socket"):
            await second.start()
        made.behind(APPEND)
        assert len(await made.call(APPEND)) == 1

    served(tmp_path, test)
    assert not socket.exists()


def test_a_file_in_the_place_of_the_socket_is_kept(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    socket.write_text("precious")

    async def run() -> None:
        for _ in range(2):  # the lock is free again after the first
            server = AuditServer(FakeLogService(), FakeTrailService(), address=f"unix:{socket}")
            with pytest.raises(ConfigInvalid, match="is no socket"):
                await server.start()

    asyncio.run(run())
    assert socket.read_text() == "precious"


def test_an_address_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    async def run() -> None:
        async with world("127.0.0.1:0") as made:
            taken = AuditServer(made.log, made.trail, address="127.0.0.1:0")
            port = await taken.start()
            for address in (f"127.0.0.1:{port}", "no address", f"unix:{tmp_path / 'missing' / 's'}"):
                with pytest.raises(ConfigInvalid):
                    await AuditServer(made.log, made.trail, address=address).start()
            await taken.stop(0)

    asyncio.run(run())
