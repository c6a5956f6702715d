# SPDX-License-Identifier: Apache-2.0
"""An audit log and a trail for the tests of their servers: they note what was asked, answer what they were told, and
insist on the port's conventions: values of the right type, one loop, every stream ended by the one who asked for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.ports import Caller

Kind = TypeVar("Kind", bound=Message)


@dataclass
class FakeService:
    """What both services share.

    `answers` are by the name of the method: messages, sent one after the other. With `error` each method raises it
    (streams after their answers). With `waits` each method waits for `release` before it
    ends, with `endless` a stream repeats its answers for ever.
    """

    answers: dict[str, list[Message]] = field(default_factory=dict)
    error: BaseException | None = None
    waits: bool = False
    endless: bool = False
    asked: list[tuple[str, Message]] = field(default_factory=list)
    produced: int = 0
    open_streams: int = 0
    cancelled: bool = False
    release: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the calls bring about."""
        async with self._changed:
            await self._changed.wait_for(holds)

    def _tell(self) -> None:
        self._told = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _note(self, method: str, request: Message, kind: type[Message]) -> None:
        assert type(request) is kind, f"{method} takes {kind}"
        self.asked.append((method, request))
        self._tell()

    async def _one(self, method: str, request: Message, *, asks: type[Message], gives: type[Kind]) -> Kind:
        self._note(method, request, asks)
        await self._suffer()
        answer = self.answers[method][0]
        assert isinstance(answer, gives)
        return answer

    async def _many(
        self, method: str, request: Message, *, asks: type[Message], gives: type[Kind]
    ) -> AsyncIterator[Kind]:
        self._note(method, request, asks)
        self.open_streams += 1
        task = asyncio.current_task()
        try:
            while True:
                for answer in self.answers[method]:
                    assert isinstance(answer, gives)
                    self.produced += 1
                    yield answer
                if not self.endless:
                    break
            await self._suffer()
        finally:
            # A stream that is left to the collector would be ended in another task.
            assert asyncio.current_task() is task
            self.open_streams -= 1
            self._tell()

    async def _suffer(self) -> None:
        if self.waits:
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                self._tell()
                raise
        if self.error is not None:
            raise self.error


class FakeLogService(FakeService):
    """A `ports.LogService`."""

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        return await self._one("register", request, asks=log_pb2.RegisterRequest, gives=log_pb2.RegisterResponse)

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        return await self._one("append", request, asks=log_pb2.AppendRequest, gives=log_pb2.AppendResponse)

    async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
        return await self._one(
            "get_receipts", request, asks=log_pb2.GetReceiptsRequest, gives=log_pb2.GetReceiptsResponse
        )

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        return await self._one(
            "get_checkpoint", request, asks=log_pb2.GetCheckpointRequest, gives=log_pb2.GetCheckpointResponse
        )

    def watch_checkpoints(
        self, request: log_pb2.WatchCheckpointsRequest
    ) -> AsyncIterator[log_pb2.GetCheckpointResponse]:
        return self._many(
            "watch_checkpoints", request, asks=log_pb2.WatchCheckpointsRequest, gives=log_pb2.GetCheckpointResponse
        )

    async def prove_inclusion(self, request: log_pb2.GetInclusionProofRequest) -> log_pb2.GetInclusionProofResponse:
        return await self._one(
            "prove_inclusion", request, asks=log_pb2.GetInclusionProofRequest, gives=log_pb2.GetInclusionProofResponse
        )

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        return await self._one(
            "prove_consistency",
            request,
            asks=log_pb2.GetConsistencyProofRequest,
            gives=log_pb2.GetConsistencyProofResponse,
        )

    async def prove_range(self, request: log_pb2.GetRangeProofRequest) -> log_pb2.GetRangeProofResponse:
        return await self._one(
            "prove_range", request, asks=log_pb2.GetRangeProofRequest, gives=log_pb2.GetRangeProofResponse
        )

    async def get_tile(self, request: log_pb2.GetTileRequest) -> log_pb2.GetTileResponse:
        return await self._one("get_tile", request, asks=log_pb2.GetTileRequest, gives=log_pb2.GetTileResponse)

    async def get_state(self, request: log_pb2.GetLogStateRequest) -> log_pb2.LogState:
        return await self._one("get_state", request, asks=log_pb2.GetLogStateRequest, gives=log_pb2.LogState)

    async def list_writers(self, request: log_pb2.ListWritersRequest) -> log_pb2.ListWritersResponse:
        return await self._one(
            "list_writers", request, asks=log_pb2.ListWritersRequest, gives=log_pb2.ListWritersResponse
        )

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        return await self._one(
            "retire_writer", request, asks=log_pb2.RetireWriterRequest, gives=log_pb2.RetireWriterResponse
        )


class FakePrivacyService(FakeService):
    """A `ports.PrivacyService` that lets everybody in; `callers` are who came, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: list[Caller | None] = []

    async def unseal(self, request: log_pb2.UnsealRequest, caller: Caller | None) -> log_pb2.UnsealResponse:
        return await self._one_as("unseal", request, caller, asks=log_pb2.UnsealRequest, gives=log_pb2.UnsealResponse)

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest, caller: Caller | None) -> log_pb2.ErasureState:
        return await self._one_as(
            "erase_subject", request, caller, asks=log_pb2.EraseSubjectRequest, gives=log_pb2.ErasureState
        )

    async def get_erasure(self, request: log_pb2.GetErasureRequest, caller: Caller | None) -> log_pb2.ErasureState:
        return await self._one_as(
            "get_erasure", request, caller, asks=log_pb2.GetErasureRequest, gives=log_pb2.ErasureState
        )

    async def list_erasures(
        self, request: log_pb2.ListErasuresRequest, caller: Caller | None
    ) -> log_pb2.ListErasuresResponse:
        return await self._one_as(
            "list_erasures", request, caller, asks=log_pb2.ListErasuresRequest, gives=log_pb2.ListErasuresResponse
        )

    async def place_hold(
        self, request: log_pb2.PlaceLegalHoldRequest, caller: Caller | None
    ) -> log_pb2.PlaceLegalHoldResponse:
        return await self._one_as(
            "place_hold", request, caller, asks=log_pb2.PlaceLegalHoldRequest, gives=log_pb2.PlaceLegalHoldResponse
        )

    async def release_hold(
        self, request: log_pb2.ReleaseLegalHoldRequest, caller: Caller | None
    ) -> log_pb2.ReleaseLegalHoldResponse:
        return await self._one_as(
            "release_hold",
            request,
            caller,
            asks=log_pb2.ReleaseLegalHoldRequest,
            gives=log_pb2.ReleaseLegalHoldResponse,
        )

    async def list_holds(
        self, request: log_pb2.ListLegalHoldsRequest, caller: Caller | None
    ) -> log_pb2.ListLegalHoldsResponse:
        return await self._one_as(
            "list_holds", request, caller, asks=log_pb2.ListLegalHoldsRequest, gives=log_pb2.ListLegalHoldsResponse
        )

    async def retire_writer(
        self, request: log_pb2.RetireWriterRequest, caller: Caller | None
    ) -> log_pb2.RetireWriterResponse:
        return await self._one_as(
            "retire_writer", request, caller, asks=log_pb2.RetireWriterRequest, gives=log_pb2.RetireWriterResponse
        )

    async def _one_as(
        self, method: str, request: Message, caller: Caller | None, *, asks: type[Message], gives: type[Kind]
    ) -> Kind:
        self.callers.append(caller)
        return await self._one(method, request, asks=asks, gives=gives)


class FakeTrailService(FakeService):
    """A `ports.TrailService`."""

    async def get_record(self, request: log_pb2.GetRecordRequest) -> log_pb2.GetRecordResponse:
        return await self._one("get_record", request, asks=log_pb2.GetRecordRequest, gives=log_pb2.GetRecordResponse)

    def get_entries(self, request: log_pb2.GetEntriesRequest) -> AsyncIterator[log_pb2.Entry]:
        return self._many("get_entries", request, asks=log_pb2.GetEntriesRequest, gives=log_pb2.Entry)

    async def search_records(self, request: log_pb2.SearchRecordsRequest) -> log_pb2.SearchRecordsResponse:
        return await self._one(
            "search_records", request, asks=log_pb2.SearchRecordsRequest, gives=log_pb2.SearchRecordsResponse
        )

    def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncIterator[log_pb2.Entry]:
        return self._many("tail_records", request, asks=log_pb2.TailRecordsRequest, gives=log_pb2.Entry)


class FakeTiles:
    """A reader of stored resources by path; `error` is raised instead. It knows which paths may be asked for."""

    def __init__(self, contents: dict[str, bytes], *, may_read: Callable[[str], bool]) -> None:
        self.contents = contents
        self.error: BaseException | None = None
        self.read_paths: list[str] = []
        self._may_read = may_read

    def read(self, path: str) -> bytes | None:
        assert self._may_read(path), f"{path} is nobody's to read"
        self.read_paths.append(path)
        if self.error is not None:
            raise self.error
        return self.contents.get(path)
