# SPDX-License-Identifier: Apache-2.0
"""The gRPC server on a real Unix socket: every body that arrives ends in a well-formed answer."""

import asyncio
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz.adapters.envoy.server import SERVICE, CheckServer
from iap_authz.errors import ConfigInvalid
from iap_authz.model.decision import Decision, denied
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.ports import Answer
from tests.fakes.checks import check_request

AUDIT_ID = "cd" * 32


@dataclass
class FixedChecker:
    """Answers everything well-formed with one decision and notes what it was asked."""

    decision: Decision = field(default_factory=lambda: Decision(verdict=Verdict.ALLOW, reason=Reason.ALLOWED))
    asked: list[tuple[Request, float]] = field(default_factory=list)
    withheld: list[Answer] = field(default_factory=list)

    async def check(self, request: Request, deadline: float) -> Answer:
        self.asked.append((request, deadline))
        decision = denied(request.problem) if request.problem is not None else self.decision
        return Answer(decision=decision, audit_id=AUDIT_ID)

    def withhold(self, answer: Answer) -> None:
        self.withheld.append(answer)


def served(socket: Path, checker: FixedChecker, test: Callable[[grpc.aio.Channel], Awaitable[None]]) -> None:
    async def run() -> None:
        server = CheckServer(checker, address=f"unix:{socket}", monotonic=lambda: 100.0, deadline_seconds=0.15)
        await server.start()
        await server.set_ready(ready=True)
        try:
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                await test(channel)
        finally:
            await server.stop(1.0)

    asyncio.run(run())


async def call(channel: grpc.aio.Channel, method: str, raw: bytes, *, seconds: float | None = None) -> bytes:
    stub: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return await stub(raw, timeout=seconds)


async def ask(
    channel: grpc.aio.Channel, raw: bytes, *, seconds: float | None = None
) -> external_auth_pb2.CheckResponse:
    reply = await call(channel, f"/{SERVICE}/Check", raw, seconds=seconds)
    return external_auth_pb2.CheckResponse.FromString(reply)


def test_good_request_is_answered(tmp_path: Path) -> None:
    checker = FixedChecker()

    async def test(channel: grpc.aio.Channel) -> None:
        response = await ask(channel, check_request().SerializeToString())
        assert response.status.code == 0
        assert response.ok_response.headers[0].header.value == AUDIT_ID

    served(tmp_path / "s", checker, test)
    ((request, deadline),) = checker.asked
    assert request.path == "/api/orders"
    assert deadline == pytest.approx(100.15)


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", b"\n\x02\x12\x00", b"\0" * 100])
def test_trap_2_any_body_is_refused_in_a_well_formed_answer(tmp_path: Path, raw: bytes) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        response = await ask(channel, raw)
        assert response.status.code != 0
        assert response.denied_response.status.code == 400

    served(tmp_path / "s", FixedChecker(), test)


def test_callers_deadline_bounds_ours(tmp_path: Path) -> None:
    checker = FixedChecker()

    async def test(channel: grpc.aio.Channel) -> None:
        await ask(channel, check_request().SerializeToString(), seconds=0.1)

    served(tmp_path / "s", checker, test)
    assert 100.0 <= checker.asked[0][1] < 100.1


def test_answer_that_cannot_be_rendered_is_withheld_and_refused(tmp_path: Path) -> None:
    surrogate = Decision(verdict=Verdict.ALLOW, reason=Reason.ALLOWED, set_headers={"x-team": "\ud800"})
    checker = FixedChecker(decision=surrogate)

    async def test(channel: grpc.aio.Channel) -> None:
        response = await ask(channel, check_request().SerializeToString())
        assert response.status.code == 14
        assert response.denied_response.status.code == 503

    served(tmp_path / "s", checker, test)
    assert [answer.audit_id for answer in checker.withheld] == [AUDIT_ID]


def test_row_167_a_defect_behind_the_port_is_a_refusal_and_no_grpc_error(tmp_path: Path) -> None:
    class BrokenChecker(FixedChecker):
        async def check(self, request: Request, deadline: float) -> Answer:  # noqa: ARG002
            raise RecursionError("defect")

    async def test(channel: grpc.aio.Channel) -> None:
        response = await ask(channel, check_request().SerializeToString())
        assert response.status.code == 14
        assert response.denied_response.status.code == 503

    served(tmp_path / "s", BrokenChecker(), test)


def test_row_184_version_2_is_unimplemented(tmp_path: Path) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "/envoy.service.auth.v2.Authorization/Check", b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    served(tmp_path / "s", FixedChecker(), test)


def test_row_187_no_reflection(tmp_path: Path) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        for service in ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel, f"/{service}/ServerReflectionInfo", b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    served(tmp_path / "s", FixedChecker(), test)


def test_health_says_whether_it_serves(tmp_path: Path) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING

    served(tmp_path / "s", FixedChecker(), test)


def test_row_185_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    socket = tmp_path / "s"

    async def test(channel: grpc.aio.Channel) -> None:  # noqa: ARG001
        assert stat.S_IMODE(socket.stat().st_mode) == 0o660

    served(socket, FixedChecker(), test)
    assert not socket.exists()


def test_a_live_socket_is_not_taken_over(tmp_path: Path) -> None:
    socket = tmp_path / "s"

    async def test(channel: grpc.aio.Channel) -> None:
        second = CheckServer(FixedChecker(), address=f"unix:{socket}", monotonic=lambda: 0.0, deadline_seconds=1.0)
        with pytest.raises(ConfigInvalid, match="another process serves on this socket"):
            await second.start()
        response = await ask(channel, check_request().SerializeToString())
        assert response.status.code == 0

    served(socket, FixedChecker(), test)


def test_a_file_in_the_place_of_the_socket_is_kept(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    socket.write_text("precious")

    async def run() -> None:
        server = CheckServer(FixedChecker(), address=f"unix:{socket}", monotonic=lambda: 0.0, deadline_seconds=1.0)
        with pytest.raises(ConfigInvalid, match="is no socket"):
            await server.start()

    asyncio.run(run())
    assert socket.read_text() == "precious"
