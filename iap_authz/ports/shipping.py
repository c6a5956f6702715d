# SPDX-License-Identifier: Apache-2.0
"""What brings a journal into the audit log: its backlog, the log as a writer sees it, and the last checkpoint of it."""

from collections.abc import Sequence as Many
from typing import Protocol

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.model.ids import WriterId
from iap_authz.records.journaled import FirstRecord, JournaledBatch


class Backlog(Protocol):
    """What of a journal directory the log may not have yet, if durable (W3). For one task. Raises Corrupt, OSError."""

    @property
    def writers(self) -> Many[WriterId]:
        """Those of which something is left: the dead ones oldest first, then the one that runs."""

    def size(self, writer: WriterId) -> int:
        """How many durable records a writer has, trimmed ones included."""

    async def wait_beyond(self, size: int) -> None:
        """Until the writer that runs has more than `size` durable records. May be cancelled."""

    async def read(self, writer: WriterId, begin: int, *, end: int | None = None) -> JournaledBatch:
        """Whole groups from `begin` on, which is below `size`; exactly up to `end`, if given, or BadProof."""

    async def read_first(self, writer: WriterId) -> FirstRecord:
        """Record 0. Raises NotFound once it was trimmed."""

    async def load_shipped(self, writer: WriterId) -> int:
        """Up to where verified receipts exist, as far as that was stored: the end of a batch, or 0."""

    async def store_shipped(self, writer: WriterId, sequence: int) -> None:
        """Remember that, durably."""

    def first(self, writer: WriterId) -> int:
        """The first record whose bytes are still on the disk: what is below it was trimmed."""

    async def trim(self, writer: WriterId, sequence: int) -> None:
        """Remove whole files below `sequence`, which is stored; never the one in use (G1). The room counts at once."""


class LogClient(Protocol):
    """The audit log as a writer sees it: nothing in an answer is checked. Errors are those of `errors`."""

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        """Raises like LogService.register, and LogUnavailable."""

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """Raises like LogService.append, and LogUnavailable."""

    async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
        """Raises like LogService.get_receipts, and LogUnavailable."""

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        """Raises like LogService.get_checkpoint, and LogUnavailable."""

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        """Raises like LogService.prove_consistency, and LogUnavailable."""

    async def close(self) -> None:
        """Release the connection. Idempotent."""


class CheckpointStore(Protocol):
    """The last checkpoint of the audit log that this side has verified (rule G2)."""

    def load(self) -> bytes | None:
        """Its note; None if there is none yet."""

    def store(self, note: bytes) -> None:
        """Replace it, durably, before returning. Blocking."""
