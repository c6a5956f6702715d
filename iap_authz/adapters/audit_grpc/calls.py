# SPDX-License-Identifier: Apache-2.0
"""From bytes to a method of a service and back: one handler for calls with one answer, one for calls with many.

The invariant: every call that reaches a handler ends with the service's answer, with a `Refusal`, or with the
caller's own cancellation; and what a method has begun is ended before its call is.

The handlers take raw bytes. With a deserializer of gRPC's, a body that does not parse would be answered UNKNOWN with
the exception's text. A body that is no gRPC frame at all arrives here empty, as an empty request does; it is for the
services to refuse empty fields.

A stream asks its method for the next answer only when the last one has passed flow control, so a slow reader costs
one answer and what HTTP/2 has buffered. It does not read ahead, and it has no deadline but the caller's.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from iap_authz.adapters.audit_grpc.callers import Identify, find_caller
from iap_authz.adapters.audit_grpc.refusal import DEFECT, Refusal, render_refusal
from iap_authz.errors import IapError, LogUnavailable, Malformed, QueueFull
from iap_authz.ports import Caller

Request = TypeVar("Request", bound=Message)
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

STREAM_RETRY_SECONDS = 5.0
"""When a caller that found no place for its stream may come again: streams are long, so not at once."""

_log = logging.getLogger("iap_authz.audit")


class Calls:
    """Makes handlers, holds them to their bounds, and ends the streams that would not end by themselves."""

    def __init__(self, *, unary_max_seconds: float, streams_max: int) -> None:
        self._unary_max_seconds = unary_max_seconds
        self._streams_max = streams_max
        self._streams: set[asyncio.Timeout] = set()
        self._stopping = False

    def unary(self, kind: type[Request], method: Callable[[Request], Awaitable[Message]]) -> Handler:
        """A handler for a method with one answer."""

        async def answer(raw: bytes, context: Context) -> bytes:
            return await self._answer(raw, context, kind=kind, method=method)

        return grpc.unary_unary_rpc_method_handler(answer)

    def unary_as(
        self, kind: type[Request], method: Callable[[Request, Caller | None], Awaitable[Message]], *, identify: Identify
    ) -> Handler:
        """The same, for a method that is told who calls: None where no token that is known says so."""

        async def answer(raw: bytes, context: Context) -> bytes:
            def called(request: Request) -> Awaitable[Message]:
                metadata = context.invocation_metadata() or ()
                return method(request, find_caller(metadata, context.peer(), identify=identify))

            return await self._answer(raw, context, kind=kind, method=called)

        return grpc.unary_unary_rpc_method_handler(answer)

    def stream(self, kind: type[Request], method: Callable[[Request], AsyncIterator[Message]]) -> Handler:
        """A handler for a method with any number of answers."""

        async def answer(raw: bytes, context: Context) -> None:
            try:
                await self._many(_parse(raw, kind), method, context=context)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- as above
                refusal = _refusal_of(error, kind)
            else:
                return
            await _refuse(context, refusal)

        return grpc.unary_stream_rpc_method_handler(answer)

    def end_streams(self) -> None:
        """End every stream with UNAVAILABLE, now and from now on: a follower would hold a stop for all its grace."""
        self._stopping = True
        streams, self._streams = self._streams, set()
        now = asyncio.get_running_loop().time()
        for bound in streams:
            bound.reschedule(now)

    async def _answer(
        self,
        raw: bytes,
        context: Context,
        *,
        kind: type[Request],
        method: Callable[[Request], Awaitable[Message]],
    ) -> bytes:
        try:
            return await self._one(_parse(raw, kind), method)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- what is none of ours becomes INTERNAL
            refusal = _refusal_of(error, kind)
        return await _refuse(context, refusal)

    async def _one(self, request: Request, method: Callable[[Request], Awaitable[Message]]) -> bytes:
        bound = asyncio.timeout(self._unary_max_seconds)
        try:
            async with bound:
                return (await method(request)).SerializeToString()
        except TimeoutError:
            if bound.expired():
                raise _Late from None
            raise

    async def _many(
        self, request: Request, method: Callable[[Request], AsyncIterator[Message]], *, context: Context
    ) -> None:
        if self._stopping:
            raise LogUnavailable("the server is stopping")
        if len(self._streams) >= self._streams_max:
            raise QueueFull(f"got {len(self._streams)} streams open already, want fewer", STREAM_RETRY_SECONDS)
        bound = asyncio.timeout(None)
        try:
            async with bound:
                self._streams.add(bound)
                await _write_all(method(request), context)
        except TimeoutError:
            if bound.expired():
                raise LogUnavailable("the server is stopping") from None
            raise
        finally:
            self._streams.discard(bound)


class _Late(Exception):
    """A method took longer than a call may."""


async def _write_all(answers: AsyncIterator[Message], context: Context) -> None:
    try:
        async for answer in answers:
            await context.write(answer.SerializeToString())
    finally:
        # Now, not when the collector comes by: the method may hold a place among the log's watchers.
        if isinstance(answers, AsyncGenerator):
            await answers.aclose()


def _parse(raw: bytes, kind: type[Request]) -> Request:
    with suppress(DecodeError):
        return kind.FromString(raw)
    raise Malformed(f"got {len(raw)} bytes that are no {kind.DESCRIPTOR.full_name}")


def _refusal_of(error: BaseException, kind: type[Message]) -> Refusal:
    """What to say of `error`; raises it again where the caller has gone and nobody listens."""
    if isinstance(error, IapError):
        return render_refusal(error)
    if isinstance(error, _Late):
        return Refusal(code=grpc.StatusCode.DEADLINE_EXCEEDED, text="the log did not answer in time")
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    # A CancelledError that nobody asked for is a defect too: unanswered, it would leave the caller waiting for ever.
    _log.error("a call failed", exc_info=error, extra={"request": kind.DESCRIPTOR.full_name})
    return DEFECT


async def _refuse(context: Context, refusal: Refusal) -> NoReturn:
    await context.abort(refusal.code, refusal.text, refusal.metadata)
