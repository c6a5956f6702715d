# SPDX-License-Identifier: Apache-2.0
"""`Lane`: how far one writer's records are on their way into the audit log.

The invariant: trimmed <= covered <= position, and trimmed <= stored <= position <= what is durable.

    0 .... trimmed ........ covered ............ stored ........ position ........ durable
           gone from disk   published, cosigned  on disk that     verified          fsynced
                            (rule G1)            receipts exist   receipts
"""

from collections import deque
from dataclasses import dataclass, field

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.model.ids import WriterId
from iap_authz.records.journaled import FirstRecord, JournaledBatch
from iap_authz.records.seal import SALT_BYTES

PROVEN_MAX = 1_024
"""Receipts of a lane that wait for a cosigned checkpoint one by one; where there are more, neighbours wait together."""


@dataclass(slots=True, kw_only=True)
class Lane:
    """One writer. `batch` was offered and is not answered yet: it is offered again with the same boundaries (A1)."""

    writer: WriterId
    position: int = 0
    stored: int = 0
    covered: int = 0
    trimmed: int = 0
    batch: JournaledBatch | None = None
    proven: deque[tuple[int, int]] = field(default_factory=deque)
    rest_until: float = 0.0
    is_stopped: bool = False

    @classmethod
    def resume(cls, writer: WriterId, *, position: int, size: int) -> "Lane":
        """A writer whose receipts up to `position` were verified before the log's tree had `size` leaves."""
        return cls(
            writer=writer,
            position=position,
            stored=position,
            proven=deque([(position, size)] if position else []),
        )

    @property
    def is_dirty(self) -> bool:
        """Whether something is left to store, to cover or to trim."""
        return self.position > self.stored or bool(self.proven) or min(self.covered, self.stored) > self.trimmed

    def advance(self, end: int, size: int) -> None:
        """A verified receipt: the records below `end` are in the log's tree of `size` leaves."""
        self.position, self.batch = end, None
        self.proven.append((end, size))
        if len(self.proven) > PROVEN_MAX:
            self.proven = deque(_joined(self.proven))

    def cover(self, size: int) -> bool:
        """A checkpoint of `size` is cosigned and on our tree. Whether that covers more than before."""
        before = self.covered
        while self.proven and self.proven[0][1] <= size:
            self.covered = self.proven.popleft()[0]
        return self.covered > before


def _joined(proven: deque[tuple[int, int]]) -> list[tuple[int, int]]:
    """Two by two, each pair as late as its later one: nothing is covered earlier than it was."""
    pairs = list(proven)
    joined = [(second[0], max(first[1], second[1])) for first, second in zip(pairs[::2], pairs[1::2], strict=False)]
    return joined + pairs[len(joined) * 2 :]


def append_request(batch: JournaledBatch) -> log_pb2.AppendRequest:
    """A batch as it is offered."""
    request = log_pb2.AppendRequest(writer=batch.writer, to=batch.end, records=batch.records, checkpoint=batch.note)
    setattr(request, "from", batch.begin)
    for sequence, beside in batch.companions:
        request.companions.add(sequence=sequence, salt=beside[:SALT_BYTES], companion=beside[SALT_BYTES:])
    return request


def receipts_request(lane: Lane, end: int, *, consistent_from: int) -> log_pb2.GetReceiptsRequest:
    """What was shipped before and is not verified yet (rule A2)."""
    request = log_pb2.GetReceiptsRequest(writer=lane.writer, to=end, consistent_from=consistent_from)
    setattr(request, "from", lane.position)
    return request


def register_request(first: FirstRecord, enrolment_token: str) -> log_pb2.RegisterRequest:
    """Who this writer is (rule W2)."""
    return log_pb2.RegisterRequest(
        public_key=first.public_key,
        started=first.record,
        checkpoint=first.note,
        inclusion_proof=first.proof,
        enrolment_token=enrolment_token,
    )
