# SPDX-License-Identifier: Apache-2.0
"""What the audit log stands on: where its bytes, its head, its writers and its index are."""

from collections.abc import Collection
from collections.abc import Sequence as Many
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.model.ids import WriterId
from iap_authz.tlog.batch import Write
from iap_authz.tlog.hashing import LeafIndex, NodeHash, TreeSize


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
    """What one or more rounds add to the ledger: up to `size`. `notes` are the signed notes by tree size.

    `companions` are what stands beside sealed leaves (rule S2), by leaf index, in order.
    """

    size: TreeSize
    notes: tuple[tuple[TreeSize, bytes], ...]
    batches: tuple[BatchRow, ...]
    writers: tuple[WriterRow, ...]
    companions: tuple[tuple[LeafIndex, bytes], ...] = ()


class Ledger(Protocol):
    """Writers, batch boundaries and the notes of the rounds (rules A1 to A4). Blocking, one thread.

    All but the notes and the companions can be rebuilt from the log's leaves.
    """

    def load(self) -> tuple[TreeSize, list[WriterRow]]:
        """The tree size up to which the ledger stands, and all writers as of then. (0, []) when new."""

    def add(self, rows: RoundRows) -> None:
        """Add rounds, in one durable transaction; a writer's row replaces its former one.

        A companion that is there stays as it is, erased or not: adding rounds again brings back nothing.
        """

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

    def add(self, first: LeafIndex, leaves: Many[bytes], tokens: Many[Collection[int]]) -> None:
        """Index the leaves from `first` on, which is `size()`, in one transaction; `tokens` are those of each leaf."""

    def forget(self, indices: Many[LeafIndex]) -> None:
        """Remove every token of these leaves (rules S5, S9). Their clear fields stay. Durable; idempotent."""

    def find(self, audit_id: bytes) -> LeafIndex | None:
        """The index of the first leaf with this hash."""

    def find_position(self, writer: WriterId, sequence: int) -> LeafIndex | None:
        """The index of a writer's record."""

    def search(
        self,
        query: log_pb2.SearchRecordsRequest,
        *,
        tokens: Many[Collection[int]],
        after: LeafIndex | None,
        limit: int,
    ) -> list[LeafIndex]:
        """Indices of matching leaves in the order asked for, those after (or, newest first, before) `after` only.

        Of each collection in `tokens` a leaf has at least one. The personal fields of `query` are not looked at.
        """
