# SPDX-License-Identifier: Apache-2.0
"""What the audit log says about itself and about us, kept apart from what is proven.

The invariant: an error that the log *claims* never passes for one that this side has found. "You forked" from a log is
a refusal; a fork that the view finds is evidence. Where to go on is taken from OutOfSequence, UnknownWriter and
Unavailable; whatever else the log raises is Refused.
"""

from collections.abc import Awaitable
from typing import TypeVar

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import IapError, NotFound, OutOfSequence, Refused, Unavailable
from iap_authz.ports import LogClient

A = TypeVar("A")


class LogClaims:
    """Satisfies the port `LogClient` by another client, which stays the caller's to close. For one task.

    `note` is the last checkpoint that the log has shown, or what it said of sealing, believed or not: beside the last
    checkpoint that was believed, it is the evidence where an answer does not hold.
    """

    def __init__(self, client: LogClient) -> None:
        self._client = client
        self.note = b""

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        """See the port."""
        answer = await _claimed(self._client.register(request))
        self.note = answer.receipt.checkpoint
        return answer

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """See the port."""
        answer = await _claimed(self._client.append(request))
        self.note = answer.receipt.checkpoint
        return answer

    async def get_receipts(self, request: log_pb2.GetReceiptsRequest) -> log_pb2.GetReceiptsResponse:
        """See the port."""
        answer = await _claimed(self._client.get_receipts(request))
        self.note = answer.receipts[-1].checkpoint if answer.receipts else b""
        return answer

    async def get_checkpoint(self, request: log_pb2.GetCheckpointRequest) -> log_pb2.GetCheckpointResponse:
        """See the port."""
        answer = await _claimed(self._client.get_checkpoint(request))
        self.note = answer.checkpoint
        return answer

    async def prove_consistency(
        self, request: log_pb2.GetConsistencyProofRequest
    ) -> log_pb2.GetConsistencyProofResponse:
        """See the port."""
        return await _claimed(self._client.prove_consistency(request))

    async def close(self) -> None:
        """Nothing: the connection is the caller's."""


async def _claimed(answer: Awaitable[A]) -> A:
    try:
        return await answer
    except (Unavailable, NotFound, OutOfSequence):
        raise
    except IapError as error:
        raise Refused(f"the log answered {type(error).__name__}: {error}") from error
