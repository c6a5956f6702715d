# SPDX-License-Identifier: Apache-2.0
"""The gRPC server that Envoy asks: `envoy.service.auth.v3.Authorization/Check` and gRPC health.

The handler works on raw bytes, so that every body that arrives, well-formed or not, is parsed by `parse_check` and
ends in a record. A Unix socket is bound with mode 0660 and guarded by a lock file of its own, because gRPC would
silently take the path over from a live server.
"""

import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from iap_authz.adapters.envoy.request import parse_check
from iap_authz.adapters.envoy.response import render_answer, render_failure
from iap_authz.errors import ConfigInvalid
from iap_authz.model.decision import undecided
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request
from iap_authz.ports import SOURCES_SERVICE, Answer, Checker

SERVICE = "envoy.service.auth.v3.Authorization"
UNIX_PREFIX = "unix:"
SOCKET_UMASK = 0o117
"""Socket mode 0660: owner and group, nobody else."""

REQUEST_MAX_BYTES = 4 * 1024 * 1024
"""gRPC's own default, said aloud; Envoy's `max_request_bytes` must stay below it."""

ANSWER_MARGIN_SECONDS = 0.02
"""Kept of Envoy's own deadline for the way back."""

OPTIONS = (
    ("grpc.max_receive_message_length", REQUEST_MAX_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 4096),
)


class CheckServer:
    """Serves one `Checker` on one address until stopped."""

    def __init__(
        self, checker: Checker, *, address: str, monotonic: Callable[[], float], deadline_seconds: float
    ) -> None:
        self._checker = checker
        self._address = address
        self._monotonic = monotonic
        self._deadline_seconds = deadline_seconds
        self._lock: int | None = None
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=OPTIONS)
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> int:
        """Bind and serve. Returns the TCP port (0 for a Unix socket).

        Raises ConfigInvalid where the address cannot be bound or another live process has it.
        """
        previous = os.umask(SOCKET_UMASK)
        try:
            if self._address.startswith(UNIX_PREFIX):
                self._lock = _lock_socket(Path(self._address.removeprefix(UNIX_PREFIX)))
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise ConfigInvalid.of_file(self._address, f"cannot listen: {error}") from None
        finally:
            os.umask(previous)
        await self._server.start()
        return 0 if self._address.startswith(UNIX_PREFIX) else port

    async def set_ready(self, *, ready: bool) -> None:
        """What gRPC health answers, for the server as a whole and for the service."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def set_sources(self, *, usable: bool) -> None:
        """What gRPC health answers for `SOURCES_SERVICE`."""
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(SOURCES_SERVICE, serving if usable else not_serving)

    async def stop(self, grace_seconds: float) -> None:
        """Say "not ready", let checks in flight end, take nothing new, release the address."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)
        self._release_socket()

    def _release_socket(self) -> None:
        if self._lock is not None:
            with suppress(FileNotFoundError):
                Path(self._address.removeprefix(UNIX_PREFIX)).unlink()
            os.close(self._lock)
            self._lock = None

    async def _check(self, raw: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        remaining = context.time_remaining()
        allowed = self._deadline_seconds
        if remaining is not None:
            allowed = min(allowed, max(remaining - ANSWER_MARGIN_SECONDS, 0.0))
        request = _parsed(raw)
        answer = Answer(decision=undecided(Reason.INTERNAL_ERROR), audit_id="")
        try:
            answer = await self._checker.check(request, self._monotonic() + allowed)
            return render_answer(answer, request)
        except Exception:  # noqa: BLE001 -- a gRPC error would be an ALLOW to a fail-open Envoy; refuse in so many words
            self._checker.withhold(answer)
            return render_failure(answer.audit_id)


def _parsed(raw: bytes) -> Request:
    try:
        return parse_check(raw)
    except Exception:  # noqa: BLE001 -- a defect of ours must still end in a record and a refusal
        return Request(problem=Reason.INTERNAL_ERROR)


def _lock_socket(path: Path) -> int:
    """Hold `<path>.lock` for the life of the server; refuse a path that is something else than a socket."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigInvalid.of_file(
            str(path), f"cannot make the lock file beside the socket: {error.strerror}"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigInvalid.of_file(str(path), "is there and is no socket, want a socket path or nothing")
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigInvalid.of_file(str(path), "another process serves on this socket") from None
    except ConfigInvalid:
        os.close(descriptor)
        raise
    return descriptor
