# SPDX-License-Identifier: Apache-2.0
"""The ports: what the services need of the world and what the world may ask of them, each with its contract.

An adapter satisfies a port by its shape; there are no base classes. Contracts that a type cannot say (durability,
concurrency, ownership) stand in the docstrings and are tested in `tests/contract/`, one suite for all
implementations of a port.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.model.decision import Decision
from iap_authz.model.ids import AuditId, Sequence, WriterId
from iap_authz.model.request import Request
from iap_authz.records.journaled import FirstRecord, JournaledBatch
from iap_authz.records.room import Room
from iap_authz.tlog.batch import Write
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize

T_co = TypeVar("T_co", covariant=True)


class Clock(Protocol):
    """Time. Owned by the assembly; one per process."""

    def now(self) -> datetime:
        """Wall time in UTC, never earlier than any value returned before (PROTOCOL rule T1)."""

    def monotonic(self) -> float:
        """Seconds that only grow, for ages and deadlines."""


class Signer(Protocol):
    """One Ed25519 key. The private key never leaves the implementation."""

    @property
    def public_key(self) -> bytes:
        """32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`. Deterministic: the same message gives the same signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A record that has its place in the writer's log.

    `durable` is done when the record and a signed checkpoint over it have been fsynced; it fails with OSError only
    after a write or fsync error, right before the process ends. Whoever waits for it must not cancel it.
    """

    audit_id: AuditId
    sequence: Sequence
    durable: "asyncio.Future[None]"


class Journal(Protocol):
    """The writer's log on stable storage: append-only, one per process, owned by the event loop thread.

    Records of one writer get sequences 0, 1, 2, ... in the order of `append_nowait`. Each group commit is one write of
    its records and a signed checkpoint, then one fdatasync (W3). After any write or fsync error nothing more is
    accepted and `failed` is done (W4): the process must end.
    """

    @property
    def writer(self) -> WriterId:
        """Who writes."""

    @property
    def failed(self) -> "asyncio.Future[None]":
        """Done with the error after the first write or fsync error."""

    def append_nowait(self, build: Callable[[WriterId, Sequence], bytes], *, room: Room) -> Appended:
        """Give the record that `build` makes the next sequence and queue it for the next group commit.

        Raises JournalFull when `room` has none left (`build` is not called then). Never blocks.
        """

    async def close(self) -> None:
        """Commit what is queued, write the last checkpoint, release the lock. Idempotent."""


class FactSource(Protocol[T_co]):
    """A file, database or feed that facts come from. Read whole, swapped whole; never read by a request."""

    @property
    def name(self) -> str:
        """For messages, facts (`source`) and metrics; no path, no secret."""

    def load(self) -> T_co:
        """Read and parse the whole source. Blocking; called from a thread.

        Raises Invalid or Malformed for bad content and SourceUnavailable where there is none: the caller keeps what
        it had until that is older than its age limit.
        """

    def version(self) -> object:
        """A value that changes when the source may have; cheap (for a file: inode, size and change time)."""


class Checker(Protocol):
    """Answers checks. Every call ends in exactly one record, or in one count of a later Refusals record."""

    async def check(self, request: Request, deadline: float) -> "Answer":
        """Decide, record, and answer before `deadline` (monotonic seconds). Never raises but CancelledError."""

    def withhold(self, answer: "Answer") -> None:
        """Say that `answer`, an ALLOW, was not given after all (PROTOCOL rule R1). Never raises, never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Envoy is told. `audit_id` is empty only where no record could be kept (the refusal was counted)."""

    decision: Decision
    audit_id: str


# ---- the audit log: what it stands on


class TileStore(Protocol):
    """Where the log's bytes are: tiles, bundles, stages, the published checkpoint. Paths are relative and use `/`.

    Blocking; safe to call from several threads. What a call that returned has written is on stable storage: bytes,
    names, and every new directory. Raises OSError; after one, nobody may believe that the call had no effect.
    """

    def read(self, path: str) -> bytes | None:
        """The bytes at `path`; None if there is nothing."""

    def create(self, writes: Many[Write]) -> None:
        """Write immutable resources, in order. One that is there already is compared (rule C6): Corrupt if it differs.

        A crash leaves each of them either whole or absent.
        """

    def publish(self, note: bytes, *, expected: bytes | None) -> None:
        """Replace the resource `checkpoint` by `note`, at once, if it is `expected` (None: absent). Else HeadMoved."""

    def stages(self) -> list[str]:
        """The paths of all stages, `stage/<size, 20 digits>-<root, hex>`, in order."""

    def discard(self, path: str) -> None:
        """Remove a stage; absent is fine. Nothing else is ever removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The one mutable truth of a log: its tree, when it was committed, and the digest of the stage that led to it.

    `time` strictly increases from head to head (rule T3). `stage_sha256` commits to every effect of the round (C7).
    """

    size: TreeSize
    root: NodeHash
    time: datetime
    stage_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Why a log takes nothing more, and the notes that prove it."""

    because: str
    evidence: tuple[bytes, ...]


class HeadStore(Protocol):
    """The head, by compare-and-swap; in production not in the tile store's failure domain. Blocking, one thread."""

    def load(self) -> Head | None:
        """The committed head; None if there never was one. Raises Corrupt for bytes that were not written so."""

    def swap(self, head: Head, *, expected: Head | None) -> None:
        """Commit `head` durably, if the head is `expected`. Raises HeadMoved if it is another one.

        Any other exception leaves the outcome unknown: the process must end (rule C3).
        """

    def load_freeze(self) -> Freeze | None:
        """Whether the log is frozen. Stays until an operator removes it."""

    def freeze(self, freeze: Freeze) -> None:
        """Freeze the log durably. The first freeze stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterRow:
    """A writer as the ledger keeps it. `tree` are the hashes of its compact range [0, size); `note` is at `size`."""

    writer: WriterId
    public_key: bytes
    workload: str
    registered_index: LeafIndex
    retired_index: LeafIndex | None
    size: int
    tree: tuple[NodeHash, ...]
    note: bytes
    last_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch in the log: records [begin, end) of `writer` from `first_index` on, of the round of `round_size`.

    Leaf `first_index + end - begin` is its WriterCheckpoint. `round_size` is the tree size of the round's signed note.
    """

    writer: WriterId
    begin: int
    end: int
    first_index: LeafIndex
    round_size: TreeSize


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRows:
    """What one or more rounds add to the ledger: up to `size`. `notes` are the signed notes by tree size."""

    size: TreeSize
    notes: tuple[tuple[TreeSize, bytes], ...]
    batches: tuple[BatchRow, ...]
    writers: tuple[WriterRow, ...]


class Ledger(Protocol):
    """Writers, batch boundaries and the notes of the rounds (rules A1 to A4). Blocking, one thread.

    All but the notes can be rebuilt from the log's leaves.
    """

    def load(self) -> tuple[TreeSize, list[WriterRow]]:
        """The tree size up to which the ledger stands, and all writers as of then. (0, []) when new."""

    def add(self, rows: RoundRows) -> None:
        """Add rounds, in one durable transaction; a writer's row replaces its former one."""

    def batches(self, writer: WriterId, begin: int, end: int) -> list[BatchRow]:
        """The batches of a writer that overlap [begin, end), in order."""

    def note(self, size: TreeSize) -> bytes | None:
        """The note that was signed at `size`, byte for byte (rule A3)."""

    def clear(self) -> None:
        """Forget writers and batches, keep the notes: what is forgotten is rebuilt from the leaves."""


class Index(Protocol):
    """Derived and disposable: where records are. Blocking, one thread."""

    def size(self) -> TreeSize:
        """Leaves below this are indexed."""

    def add(self, first: LeafIndex, leaves: Many[bytes]) -> None:
        """Index the leaves from `first` on, which is `size()`, in one transaction."""

    def find(self, audit_id: bytes) -> LeafIndex | None:
        """The index of the first leaf with this hash."""

    def find_position(self, writer: WriterId, sequence: int) -> LeafIndex | None:
        """The index of a writer's record."""

    def search(self, query: log_pb2.SearchRecordsRequest, *, after: LeafIndex | None, limit: int) -> list[LeafIndex]:
        """Indices of matching leaves in the order asked for, those after (or, newest first, before) `after` only."""


# ---- the audit log: what may be asked of it


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


# ---- a writer's backlog


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

    async def trim(self, writer: WriterId, sequence: int) -> None:
        """Remove whole files below `sequence`, which is stored; never the one in use (G1). The room counts at once."""
