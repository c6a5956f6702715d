# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the audit log. Protobuf messages are values here; errors are those of `errors`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.model.roles import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody whom an access token names: what the log's access file says of them, and where the call came from."""

    name: str
    roles: frozenset[Role]
    address: str


class LogService(Protocol):
    """The audit log. Protobuf messages are values here; errors are those of `errors`. Owned by the event loop."""

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        """Rule W2. Raises Malformed, NotProven, Refused, QueueFull or LogFrozen."""

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """Rules A1, W5, W6, P1, G4. Cancelling the call does not take the batch back.

        Raises Malformed, NotProven, UnknownWriter, Refused, OutOfSequence, QueueFull or LogFrozen.
        """

    async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
        """Rule A2. At most `RECEIPTS_MAX` receipts an answer; ask again from the last one's end."""

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        """The newest signed checkpoint, or the published one. Raises NotFound before the first."""

    def watch_checkpoints(
        self, request: log_pb2.WatchCheckpointsRequest
    ) -> AsyncIterator[log_pb2.GetCheckpointResponse]:
        """Signed checkpoints larger than asked, as they come; sizes may be skipped."""

    async def prove_inclusion(self, request: log_pb2.GetInclusionProofRequest) -> log_pb2.GetInclusionProofResponse:
        """By index, or by leaf hash once the leaf is indexed. Raises Malformed or NotFound."""

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        """Between two sizes, each at most the head's. Raises Malformed."""

    async def prove_range(self, request: log_pb2.GetRangeProofRequest) -> log_pb2.GetRangeProofResponse:
        """Of a range of leaves. Raises Malformed."""

    async def get_tile(self, request: log_pb2.GetTileRequest) -> log_pb2.GetTileResponse:
        """A tile or bundle at or below the head. Raises Malformed or NotFound."""

    async def get_state(self, request: log_pb2.GetLogStateRequest) -> log_pb2.LogState:
        """Head, published checkpoint, freeze, queue."""

    async def list_writers(self, request: log_pb2.ListWritersRequest) -> log_pb2.ListWritersResponse:
        """The writers, by id."""

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        """Take nothing more of a writer; a retired one answers with the leaf that did it. Raises UnknownWriter."""


class TrailService(Protocol):
    """Reading records. The same conventions as `LogService`."""

    async def get_record(self, request: log_pb2.GetRecordRequest) -> log_pb2.GetRecordResponse:
        """One record, by index, audit id or place in its writer's log. Raises NotFound."""

    def get_entries(self, request: log_pb2.GetEntriesRequest) -> AsyncIterator[log_pb2.Entry]:
        """Leaves [first, first + count), at most `ENTRIES_MAX`, cut at the head. Raises Malformed."""

    async def search_records(self, request: log_pb2.SearchRecordsRequest) -> log_pb2.SearchRecordsResponse:
        """Matching records, page by page; page tokens are opaque. Raises Malformed."""

    def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncIterator[log_pb2.Entry]:
        """Matching records after an index, and then each new one, until cancelled."""


class PrivacyService(Protocol):
    """What not everybody may ask. Each method is told who asks, None for somebody unknown, and raises Refused for them.

    Owned by the event loop. The same conventions as `LogService`.
    """

    async def unseal(self, request: log_pb2.UnsealRequest, caller: Caller | None) -> log_pb2.UnsealResponse:
        """The openings of records, once the log has a record of this reading. Raises Malformed or NotFound."""

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest, caller: Caller | None) -> log_pb2.ErasureState:
        """Begin an erasure, count one, or approve one; it goes on by itself (rule S5)."""

    async def get_erasure(self, request: log_pb2.GetErasureRequest, caller: Caller | None) -> log_pb2.ErasureState:
        """How far an erasure is. Raises NotFound."""

    async def list_erasures(
        self, request: log_pb2.ListErasuresRequest, caller: Caller | None
    ) -> log_pb2.ListErasuresResponse:
        """All that are not complete, and those of this process."""

    async def place_hold(
        self, request: log_pb2.PlaceLegalHoldRequest, caller: Caller | None
    ) -> log_pb2.PlaceLegalHoldResponse:
        """Keep what a search finds from being erased."""

    async def release_hold(
        self, request: log_pb2.ReleaseLegalHoldRequest, caller: Caller | None
    ) -> log_pb2.ReleaseLegalHoldResponse:
        """End a hold. Raises NotFound."""

    async def list_holds(
        self, request: log_pb2.ListLegalHoldsRequest, caller: Caller | None
    ) -> log_pb2.ListLegalHoldsResponse:
        """The holds in force."""

    async def retire_writer(
        self, request: log_pb2.RetireWriterRequest, caller: Caller | None
    ) -> log_pb2.RetireWriterResponse:
        """See `LogService.retire_writer`."""
