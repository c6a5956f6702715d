# SPDX-License-Identifier: Apache-2.0
"""The audit log over gRPC: each method is one call, and every failure is one of `errors`.

The invariant: nothing in an answer is believed here, and no answer hangs: a single call ends by its deadline, each
step of a finite stream by the same, and only `watch_checkpoints` and `tail_records` wait for as long as they are asked.

Answers are taken as bytes and parsed here, because grpc.aio gives None for an answer that does not parse; that is
Malformed. A call that ends because the channel is closed is LogUnavailable; only a cancelled task sees CancelledError.

Satisfies the ports LogClient, LogService and TrailService. The channel is not encrypted and shows no identity: it is
for a Unix socket, for loopback, and for a network that does both by itself. An access token goes with the calls that
want one and with no other; nothing here repeats it.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client.status import error_of
from iap_authz.errors import IapError, LogUnavailable, Malformed

MESSAGE_MAX_BYTES = 16 << 20
"""Of one answer: a page of 1,000 records at 16 KiB each. A single record has at most 64 KiB, a receipt far less."""

BACKOFF_MAX_MS = 1_000
"""A log that is back is found within a second; gRPC's own bound is two minutes."""

DEADLINE_SECONDS = 10.0
"""Ten rounds of the slowest log (PROTOCOL rule B1)."""

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", BACKOFF_MAX_MS),  # which is what one attempt to connect may take, too
    ("grpc.max_reconnect_backoff_ms", BACKOFF_MAX_MS),
    ("grpc.enable_http_proxy", 0),  # a variable of the environment does not choose who sees the records
    ("grpc.service_config_disable_resolution", 1),  # nor does DNS choose the policy of retries
    ("grpc.use_local_subchannel_pool", 1),  # a closed channel leaves no connection behind
)

TOKEN_MAX_CHARS = 512
"""Of an access token: those that the log's operator makes have 43 characters."""

CLOSED = "got no answer from the log: the channel is closed"
"""The message where a call outlives its channel."""

R = TypeVar("R", bound=Message)

_WRITER, _PROOFS = "/iap.audit.v1.AuditWriter/", "/iap.audit.v1.AuditProofs/"
_RECORDS, _ADMIN = "/iap.audit.v1.AuditRecords/", "/iap.audit.v1.AuditAdmin/"
_PRIVACY = "/iap.audit.v1.AuditPrivacy/"

_WANT_TOKEN = (_PRIVACY, _ADMIN)
"""The services whose calls say who calls."""


class LogChannel:
    """A connection to the audit log. Make and use it in one running loop; it connects at the first call."""

    def __init__(self, address: str, *, timeout_seconds: float = DEADLINE_SECONDS, token: str = "") -> None:
        """`address` is `unix:/path` or `host:port`; `token` says who asks, where the log wants to know.

        Raises Malformed for what can be no token.
        """
        self._authorization = _authorization(token)
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Release the connection; calls that have not ended raise LogUnavailable. Idempotent."""
        await self._channel.close()

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        """See LogService.register."""
        return await self._call(_WRITER + "Register", request, log_pb2.RegisterResponse)

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """See LogService.append. Idempotent: after LogUnavailable, ask again."""
        return await self._call(_WRITER + "Append", request, log_pb2.AppendResponse)

    async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
        """See LogService.get_receipts."""
        return await self._call(_WRITER + "GetReceipts", request, log_pb2.GetReceiptsResponse)

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        """See LogService.get_checkpoint."""
        return await self._call(_PROOFS + "GetCheckpoint", request, log_pb2.GetCheckpointResponse)

    def watch_checkpoints(
        self, request: log_pb2.WatchCheckpointsRequest
    ) -> AsyncGenerator[log_pb2.GetCheckpointResponse, None]:
        """See LogService.watch_checkpoints. Waits for as long as it is asked."""
        return self._stream(_PROOFS + "WatchCheckpoints", request, log_pb2.GetCheckpointResponse)

    async def prove_inclusion(self, request: log_pb2.GetInclusionProofRequest) -> log_pb2.GetInclusionProofResponse:
        """See LogService.prove_inclusion."""
        return await self._call(_PROOFS + "GetInclusionProof", request, log_pb2.GetInclusionProofResponse)

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        """See LogService.prove_consistency."""
        return await self._call(_PROOFS + "GetConsistencyProof", request, log_pb2.GetConsistencyProofResponse)

    async def prove_range(self, request: log_pb2.GetRangeProofRequest) -> log_pb2.GetRangeProofResponse:
        """See LogService.prove_range."""
        return await self._call(_PROOFS + "GetRangeProof", request, log_pb2.GetRangeProofResponse)

    async def get_tile(self, request: log_pb2.GetTileRequest) -> log_pb2.GetTileResponse:
        """See LogService.get_tile."""
        return await self._call(_PROOFS + "GetTile", request, log_pb2.GetTileResponse)

    async def get_state(self, request: log_pb2.GetLogStateRequest) -> log_pb2.LogState:
        """See LogService.get_state."""
        return await self._call(_ADMIN + "GetLogState", request, log_pb2.LogState)

    async def list_writers(self, request: log_pb2.ListWritersRequest) -> log_pb2.ListWritersResponse:
        """See LogService.list_writers."""
        return await self._call(_ADMIN + "ListWriters", request, log_pb2.ListWritersResponse)

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        """See LogService.retire_writer. Wants the token of an admin, or raises Refused."""
        return await self._call(_ADMIN + "RetireWriter", request, log_pb2.RetireWriterResponse)

    async def unseal(self, request: log_pb2.UnsealRequest) -> log_pb2.UnsealResponse:
        """See PrivacyService.unseal. Wants the token of an investigator."""
        return await self._call(_PRIVACY + "Unseal", request, log_pb2.UnsealResponse)

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest) -> log_pb2.ErasureState:
        """See PrivacyService.erase_subject. Like all below that concern erasures, wants that of a privacy officer."""
        return await self._call(_PRIVACY + "EraseSubject", request, log_pb2.ErasureState)

    async def get_erasure(self, request: log_pb2.GetErasureRequest) -> log_pb2.ErasureState:
        """See PrivacyService.get_erasure."""
        return await self._call(_PRIVACY + "GetErasure", request, log_pb2.ErasureState)

    async def list_erasures(self, request: log_pb2.ListErasuresRequest) -> log_pb2.ListErasuresResponse:
        """See PrivacyService.list_erasures."""
        return await self._call(_PRIVACY + "ListErasures", request, log_pb2.ListErasuresResponse)

    async def place_legal_hold(self, request: log_pb2.PlaceLegalHoldRequest) -> log_pb2.PlaceLegalHoldResponse:
        """See PrivacyService.place_hold."""
        return await self._call(_PRIVACY + "PlaceLegalHold", request, log_pb2.PlaceLegalHoldResponse)

    async def release_legal_hold(self, request: log_pb2.ReleaseLegalHoldRequest) -> log_pb2.ReleaseLegalHoldResponse:
        """See PrivacyService.release_hold."""
        return await self._call(_PRIVACY + "ReleaseLegalHold", request, log_pb2.ReleaseLegalHoldResponse)

    async def list_legal_holds(self, request: log_pb2.ListLegalHoldsRequest) -> log_pb2.ListLegalHoldsResponse:
        """See PrivacyService.list_holds."""
        return await self._call(_PRIVACY + "ListLegalHolds", request, log_pb2.ListLegalHoldsResponse)

    async def get_record(self, request: log_pb2.GetRecordRequest) -> log_pb2.GetRecordResponse:
        """See TrailService.get_record."""
        return await self._call(_RECORDS + "GetRecord", request, log_pb2.GetRecordResponse)

    def get_entries(self, request: log_pb2.GetEntriesRequest) -> AsyncGenerator[log_pb2.Entry, None]:
        """See TrailService.get_entries. Raises LogUnavailable if one entry takes longer than a call may."""
        return self._stream(_RECORDS + "GetEntries", request, log_pb2.Entry, step_seconds=self._timeout_seconds)

    async def search_records(self, request: log_pb2.SearchRecordsRequest) -> log_pb2.SearchRecordsResponse:
        """See TrailService.search_records."""
        return await self._call(_RECORDS + "SearchRecords", request, log_pb2.SearchRecordsResponse)

    def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncGenerator[log_pb2.Entry, None]:
        """See TrailService.tail_records. Waits for as long as it is asked."""
        return self._stream(_RECORDS + "TailRecords", request, log_pb2.Entry)

    async def _call(self, method: str, request: Message, answer: type[R]) -> R:
        try:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
            who = self._authorization if method.startswith(_WANT_TOKEN) else None
            data = await call(request.SerializeToString(), timeout=self._timeout_seconds, metadata=who)
        except grpc.aio.AioRpcError as error:
            raise _error_of(error) from error
        except (asyncio.CancelledError, grpc.aio.UsageError) as error:
            _check_cancelled(error)
            raise LogUnavailable(CLOSED) from error
        return _parse(data, answer)

    async def _stream(
        self, method: str, request: Message, answer: type[R], *, step_seconds: float | None = None
    ) -> AsyncGenerator[R, None]:
        """The answers of a stream. Ends the call when the iteration ends, however it does."""
        try:
            start: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(method)
            call = start(request.SerializeToString())
        except grpc.aio.UsageError as error:
            raise LogUnavailable(CLOSED) from error
        try:
            while (data := await _read(call, step_seconds)) is not None:
                yield _parse(data, answer)
        finally:
            call.cancel()


async def _read(call: "grpc.aio.UnaryStreamCall[bytes, bytes]", step_seconds: float | None) -> bytes | None:
    """The next message of a stream; None at its proper end."""
    try:
        async with asyncio.timeout(step_seconds):
            data = await call.read()
    except grpc.aio.AioRpcError as error:
        raise _error_of(error) from error
    except TimeoutError as error:
        raise LogUnavailable(f"got nothing from the log for {step_seconds} s") from error
    except asyncio.CancelledError as error:
        _check_cancelled(error)
        raise LogUnavailable(CLOSED) from error
    return data if isinstance(data, bytes) else None


def _authorization(token: str) -> tuple[tuple[str, str], ...] | None:
    """The metadata of RFC 6750. A token is what its log made: printable ASCII without a blank."""
    if not token:
        return None
    if len(token) > TOKEN_MAX_CHARS or not token.isascii() or not all("!" <= one <= "~" for one in token):
        raise Malformed(
            f"got an access token of {len(token)} characters, want printable ASCII of at most {TOKEN_MAX_CHARS}"
        )
    return (("authorization", f"Bearer {token}"),)


def _parse(data: bytes, answer: type[R]) -> R:
    message = answer()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise Malformed(f"got {len(data)} bytes that are no {answer.DESCRIPTOR.name} from the log") from error
    return message


def _error_of(error: grpc.aio.AioRpcError) -> IapError:
    return error_of(error.code(), error.details(), metadata=tuple(error.trailing_metadata()))


def _check_cancelled(error: BaseException) -> None:
    """Raise on the cancellation of this task. Without one, it was the channel's end that cancelled the call."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
