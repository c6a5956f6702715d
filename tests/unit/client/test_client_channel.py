# SPDX-License-Identifier: Apache-2.0
"""`LogChannel` against a real server on a Unix socket: every call, every way to fail, and no call that hangs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.audit_grpc.server import AuditServer
from iap_authz.client.channel import MESSAGE_MAX_BYTES, TOKEN_MAX_CHARS, LogChannel
from iap_authz.errors import (
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
from iap_authz.model.roles import Role
from iap_authz.ports import Caller, LogClient, LogService, TrailService
from tests.fakes.log_service import FakePrivacyService
from tests.fakes.lying_log import LyingLog
from tests.fakes.senders import Sender


@asynccontextmanager
async def served(log: LyingLog, folder: Path, *, timeout_seconds: float = 30.0) -> AsyncIterator[LogChannel]:
    address = f"unix:{folder / 's'}"
    server = AuditServer(log, log, address=address)
    await server.start()
    try:
        async with LogChannel(address, timeout_seconds=timeout_seconds) as channel:
            yield channel
    finally:
        await server.stop(0.0)


Answer = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Any]


@asynccontextmanager
async def raw(
    answer: Answer, folder: Path, *, streams: bool = False, seconds: float = 30.0
) -> AsyncIterator[LogChannel]:
    """A server that answers every call with whatever bytes `answer` gives."""

    make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    server = grpc.aio.server()
    for service, method in (("AuditProofs", "GetCheckpoint"), ("AuditRecords", "TailRecords")):
        handler = grpc.method_handlers_generic_handler(f"iap.audit.v1.{service}", {method: make(answer)})
        server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{folder / 's'}")
    await server.start()
    try:
        async with LogChannel(f"unix:{folder / 's'}", timeout_seconds=seconds) as channel:
            yield channel
    finally:
        await server.stop(None)


async def filled() -> tuple[LyingLog, Sender]:
    log, sender = LyingLog(), Sender()
    await log.register(sender.registration())
    await log.append(sender.batch())
    log.calls.clear()
    return log, sender


def same_wire(writer: bytes) -> list[tuple[str, Any]]:
    """Each method, and a request that it answers."""
    return [
        ("get_receipts", log_pb2.GetReceiptsRequest(writer=writer, to=4)),
        ("get_checkpoint", log_pb2.GetCheckpointRequest(published=True)),
        ("prove_inclusion", log_pb2.GetInclusionProofRequest(index=2, tree_size=5)),
        ("prove_consistency", log_pb2.GetConsistencyProofRequest(old_size=1, new_size=6)),
        ("prove_range", log_pb2.GetRangeProofRequest(first=1, count=2, tree_size=6)),
        ("get_state", log_pb2.GetLogStateRequest()),
        ("list_writers", log_pb2.ListWritersRequest(page_size=5)),
        ("get_record", log_pb2.GetRecordRequest(index=3, with_evidence=True)),
        ("search_records", log_pb2.SearchRecordsRequest(page_size=2, bodies=["refusals"])),
    ]


STREAMS: list[tuple[str, Any, int]] = [
    ("get_entries", log_pb2.GetEntriesRequest(first=1, count=4), 4),
    ("tail_records", log_pb2.TailRecordsRequest(after_index=3), 2),
    ("watch_checkpoints", log_pb2.WatchCheckpointsRequest(larger_than=3), 1),
]


def test_every_call_arrives_and_comes_back_whole(tmp_path: Path) -> None:
    async def test() -> None:
        log, sender = await filled()
        async with served(log, tmp_path) as channel:
            for name, request in same_wire(sender.writer):
                assert await getattr(channel, name)(request) == await getattr(log, name)(request)
                assert log.calls[-2:] == [(name, request)] * 2
            second = Sender("second")
            assert (await channel.register(second.registration())).index == 6
            assert (await channel.append(second.batch())).receipt.to == 4

    asyncio.run(test())


def test_every_stream_arrives_and_comes_back_whole(tmp_path: Path) -> None:
    async def test() -> None:
        log, _ = await filled()
        async with served(log, tmp_path) as channel:
            for name, request, count in STREAMS:
                assert await take(getattr(channel, name)(request), count) == await take(
                    getattr(log, name)(request), count
                )

    asyncio.run(test())


async def take(stream: AsyncGenerator[Any, None], count: int) -> list[Any]:
    found: list[Any] = []
    async with aclosing(stream):
        async for one in stream:
            found.append(one)
            if len(found) == count:
                break
    return found


def test_a_finite_stream_ends(tmp_path: Path) -> None:
    async def test() -> None:
        log, _ = await filled()
        async with served(log, tmp_path) as channel:
            request = log_pb2.GetEntriesRequest(first=2, count=100)
            assert [entry.index async for entry in channel.get_entries(request)] == [2, 3, 4, 5]

    asyncio.run(test())


ERRORS: list[IapError] = [
    Malformed("got x, want y"),
    NotProven("no"),
    Refused("no"),
    NotFound("no"),
    UnknownWriter("no"),
    OutOfSequence("no", 7),
    LogFrozen("no"),
    QueueFull("no", 2.5),
    LogUnavailable("no"),
]


@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
def test_errors_come_back_as_what_they_were(error: IapError, tmp_path: Path) -> None:
    async def test() -> None:
        log = LyingLog()
        async with served(log, tmp_path) as channel:
            log.fail_next(error, error)
            with pytest.raises(IapError) as caught:
                await channel.append(log_pb2.AppendRequest())
            with pytest.raises(IapError) as streamed:
                await take(channel.get_entries(log_pb2.GetEntriesRequest(count=1)), 1)
        for found in (caught.value, streamed.value):
            assert type(found) is type(error)
            assert vars(found) == vars(error)

    asyncio.run(test())


def test_a_defect_of_the_log_is_no_defect_of_ours(tmp_path: Path) -> None:
    async def test() -> None:
        log = LyingLog()
        async with served(log, tmp_path) as channel:
            log.fail_next(ZeroDivisionError("a secret"))
            with pytest.raises(LogUnavailable) as caught:
                await channel.get_checkpoint(log_pb2.GetCheckpointRequest())
        assert "secret" not in str(caught.value)

    asyncio.run(test())


def test_nobody_listens(tmp_path: Path) -> None:
    async def test() -> None:
        async with LogChannel(f"unix:{tmp_path / 's'}") as channel:
            with pytest.raises(LogUnavailable):
                await channel.get_checkpoint(log_pb2.GetCheckpointRequest())
            with pytest.raises(LogUnavailable):
                await take(channel.get_entries(log_pb2.GetEntriesRequest(count=1)), 1)

    asyncio.run(test())


def test_a_log_that_comes_back_is_found(tmp_path: Path) -> None:
    async def test() -> None:
        log, _ = await filled()
        async with LogChannel(f"unix:{tmp_path / 's'}") as channel:
            with pytest.raises(LogUnavailable):
                await channel.get_checkpoint(log_pb2.GetCheckpointRequest())
            async with served(log, tmp_path):
                while True:
                    try:
                        assert (await channel.get_checkpoint(log_pb2.GetCheckpointRequest())).checkpoint
                    except LogUnavailable:
                        await asyncio.sleep(0.05)
                    else:
                        break

    asyncio.run(test())


def test_a_call_that_is_not_answered_ends_by_its_deadline(tmp_path: Path) -> None:
    async def test() -> None:
        log = LyingLog()
        log.hold()
        async with served(log, tmp_path, timeout_seconds=0.1) as channel:
            with pytest.raises(LogUnavailable, match="DEADLINE_EXCEEDED"):
                await channel.get_checkpoint(log_pb2.GetCheckpointRequest())
            with pytest.raises(LogUnavailable, match=r"got nothing from the log for 0\.1 s"):
                await take(channel.get_entries(log_pb2.GetEntriesRequest(count=1)), 1)
            log.release()

    asyncio.run(test())


# ---- who asks

PRIVATE: list[tuple[str, str, Any, Any]] = [
    ("unseal", "unseal", log_pb2.UnsealRequest(indices=[3], purpose="case 7"), log_pb2.UnsealResponse(log_read=4)),
    (
        "erase_subject",
        "erase_subject",
        log_pb2.EraseSubjectRequest(subject="alice"),
        log_pb2.ErasureState(stage=log_pb2.ErasureState.COUNTING),
    ),
    ("get_erasure", "get_erasure", log_pb2.GetErasureRequest(erasure=b"e"), log_pb2.ErasureState(records=3)),
    (
        "list_erasures",
        "list_erasures",
        log_pb2.ListErasuresRequest(),
        log_pb2.ListErasuresResponse(erasures=[log_pb2.ErasureState(records=3)]),
    ),
    (
        "place_legal_hold",
        "place_hold",
        log_pb2.PlaceLegalHoldRequest(matter="m"),
        log_pb2.PlaceLegalHoldResponse(index=4),
    ),
    (
        "release_legal_hold",
        "release_hold",
        log_pb2.ReleaseLegalHoldRequest(hold=b"h"),
        log_pb2.ReleaseLegalHoldResponse(index=5),
    ),
    (
        "list_legal_holds",
        "list_holds",
        log_pb2.ListLegalHoldsRequest(),
        log_pb2.ListLegalHoldsResponse(holds=[log_pb2.HoldState(matter="m")]),
    ),
    (
        "retire_writer",
        "retire_writer",
        log_pb2.RetireWriterRequest(cause="gone"),
        log_pb2.RetireWriterResponse(index=6),
    ),
]
"""Method of the channel, method of the port, request, answer."""

IVY = Caller(name="ivy", roles=frozenset({Role.INVESTIGATOR}), address="")


@pytest.mark.parametrize(("token", "caller"), [("", None), ("ivy's", replace(IVY, address="unix")), ("other", None)])
def test_calls_that_want_to_know_who_asks_arrive_with_the_token(
    token: str, caller: Caller | None, tmp_path: Path
) -> None:
    async def test() -> None:
        log, privacy, address = LyingLog(), FakePrivacyService(), f"unix:{tmp_path / 's'}"
        server = AuditServer(log, log, address=address, privacy=privacy, identify={"ivy's": IVY}.get)
        await server.start()
        async with LogChannel(address, token=token) as channel:
            for name, port, request, answer in PRIVATE:
                privacy.answers[port] = [answer]
                assert await getattr(channel, name)(request) == answer
                assert privacy.asked[-1] == (port, request)
        await server.stop(0.0)
        assert privacy.callers == [caller] * len(PRIVATE)

    asyncio.run(test())


def test_no_other_call_has_the_token(tmp_path: Path) -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    class Watch(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append((details.method, tuple(key for key, _ in details.invocation_metadata)))
            return await continuation(details)

    async def test() -> None:
        server = grpc.aio.server(interceptors=(Watch(),))
        server.add_insecure_port(f"unix:{tmp_path / 's'}")
        await server.start()
        async with LogChannel(f"unix:{tmp_path / 's'}", token="ivy's") as channel:
            calls = [*same_wire(b"\x01" * 32), *((name, request) for name, _, request, _ in PRIVATE)]
            calls += [("register", log_pb2.RegisterRequest()), ("append", log_pb2.AppendRequest())]
            for name, request in calls:
                with pytest.raises(LogUnavailable, match="UNIMPLEMENTED"):
                    await getattr(channel, name)(request)
            for name, request, _ in STREAMS:
                with pytest.raises(LogUnavailable, match="UNIMPLEMENTED"):
                    await take(getattr(channel, name)(request), 1)
        await server.stop(0.0)

    asyncio.run(test())
    with_token = {method for method, keys in seen if "authorization" in keys}
    without = {method for method, keys in seen if "authorization" not in keys}
    assert {method.split("/")[1] for method in with_token} == {"iap.audit.v1.AuditPrivacy", "iap.audit.v1.AuditAdmin"}
    assert {method.split("/")[1] for method in without} == {
        "iap.audit.v1.AuditWriter",
        "iap.audit.v1.AuditProofs",
        "iap.audit.v1.AuditRecords",
    }
    assert len(seen) == len(same_wire(b"")) + len(PRIVATE) + 2 + len(STREAMS)


@pytest.mark.parametrize("token", ["SECRET one", "SECRET\n", "SECRET\u00e9", "\x00SECRET", "S" * (TOKEN_MAX_CHARS + 1)])
def test_what_can_be_no_token_is_malformed_and_not_quoted(token: str) -> None:
    async def test() -> None:
        with pytest.raises(Malformed, match="got an access token of") as caught:
            LogChannel("unix:/nowhere", token=token)
        assert "SECRET" not in str(caught.value)

    asyncio.run(test())


def test_a_channel_does_not_show_its_token(tmp_path: Path) -> None:
    async def test() -> None:
        async with LogChannel(f"unix:{tmp_path / 's'}", token="SECRET") as channel:
            assert "SECRET" not in repr(channel)
            with pytest.raises(LogUnavailable) as caught:
                await channel.unseal(log_pb2.UnsealRequest())
            error: BaseException | None = caught.value
            while error is not None:
                assert "SECRET" not in f"{error!r} {error}"
                error = error.__cause__ or error.__context__

    asyncio.run(test())


# ---- ends

Ask = Callable[[LogChannel], Awaitable[object]]

ASKS: dict[str, Ask] = {
    "call": lambda channel: channel.get_checkpoint(log_pb2.GetCheckpointRequest()),
    "stream": lambda channel: take(channel.tail_records(log_pb2.TailRecordsRequest()), 1),
}


@pytest.mark.parametrize("name", ASKS)
def test_a_closed_channel_ends_its_calls_and_cancels_nobody(name: str, tmp_path: Path) -> None:
    async def test() -> None:
        log = LyingLog()
        log.hold()
        async with served(log, tmp_path) as channel:
            asking = asyncio.ensure_future(ASKS[name](channel))
            await log.asked.wait()
            await channel.close()
            with pytest.raises(LogUnavailable, match="the channel is closed"):
                await asking
            with pytest.raises(LogUnavailable, match="the channel is closed"):
                await ASKS[name](channel)
            await channel.close()
            log.release()

    asyncio.run(test())


@pytest.mark.parametrize("name", ASKS)
def test_a_cancelled_task_stays_cancelled(name: str, tmp_path: Path) -> None:
    async def test() -> None:
        log = LyingLog()
        log.hold()
        async with served(log, tmp_path) as channel:
            asking = asyncio.ensure_future(ASKS[name](channel))
            await log.asked.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            log.release()

    asyncio.run(test())


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab"], ids=range(3))
def test_an_answer_that_does_not_parse_is_malformed(body: bytes, tmp_path: Path) -> None:
    async def answer(_: bytes, __: object) -> bytes:
        return body

    async def answers(_: bytes, __: object) -> AsyncIterator[bytes]:
        yield body

    async def test() -> None:
        async with raw(answer, tmp_path) as channel:
            with pytest.raises(Malformed, match="bytes that are no GetCheckpointResponse"):
                await channel.get_checkpoint(log_pb2.GetCheckpointRequest())
        async with raw(answers, tmp_path, streams=True) as channel:
            with pytest.raises(Malformed, match="bytes that are no Entry"):
                await take(channel.tail_records(log_pb2.TailRecordsRequest()), 1)

    asyncio.run(test())


def test_an_answer_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    async def answer(_: bytes, __: object) -> bytes:
        return bytes(MESSAGE_MAX_BYTES + 1)

    async def test() -> None:
        async with raw(answer, tmp_path) as channel:
            with pytest.raises(LogUnavailable, match="RESOURCE_EXHAUSTED"):
                await channel.get_checkpoint(log_pb2.GetCheckpointRequest())

    asyncio.run(test())


def test_a_server_that_cancels_does_not_cancel_us(tmp_path: Path) -> None:
    async def answer(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        context.set_code(grpc.StatusCode.CANCELLED)
        return b""

    async def test() -> None:
        async with raw(answer, tmp_path) as channel:
            with pytest.raises(LogUnavailable, match="CANCELLED"):
                await channel.get_checkpoint(log_pb2.GetCheckpointRequest())

    asyncio.run(test())


def test_it_satisfies_the_ports(tmp_path: Path) -> None:
    async def test() -> None:
        async with LogChannel(f"unix:{tmp_path / 's'}") as channel:
            client: LogClient = channel
            log: LogService = channel
            trail: TrailService = channel
            assert client is log is trail

    asyncio.run(test())
