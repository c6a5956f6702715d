# SPDX-License-Identifier: Apache-2.0
"""The log's stores in memory, with the ports' contracts, and a process that dies at one chosen call to them.

A memory store is the disk: what a call has done stays done, whoever made it. `failing` puts a process in front of any
number of them, which share one `Plan`; to start again after its death, use the memory stores themselves.
"""

import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any, Literal, TypeVar, cast

from iap_authz.errors import Corrupt, HeadMoved, Malformed
from iap_authz.model.ids import WriterId
from iap_authz.ports import NO_ERASURE, BatchRow, Freeze, Head, KeptCompanion, RoundRows, SealedKey, WriterRow
from iap_authz.records.log_leaves import log_id
from iap_authz.records.seal import SALT_BYTES, SEALED_KEY_BYTES, parse_beside
from iap_authz.tlog.batch import Write
from iap_authz.tlog.hashing import HASH_BYTES, LeafIndex, TreeSize
from iap_authz.tlog.tiles import parse_bundle_path, parse_tile_path
from tests.fakes.journal import ORIGIN

T = TypeVar("T")


class MemoryTileStore:
    """Keeps the contract of the port `TileStore`. `resources` is what is stored, by path."""

    def __init__(self) -> None:
        self.resources: dict[str, bytes] = {}
        self._lock = RLock()

    def read(self, path: str) -> bytes | None:
        if path != "checkpoint":
            check_immutable(path)
        return self.resources.get(path)

    def create(self, writes: Sequence[Write]) -> None:
        for write in writes:
            check_immutable(write.path)
        with self._lock:
            for write in writes:
                if self.resources.setdefault(write.path, write.content) != write.content:
                    raise Corrupt(write.path, "got other bytes than those that are there")

    def publish(self, note: bytes, *, expected: bytes | None) -> None:
        with self._lock:
            if self.resources.get("checkpoint") != expected:
                raise HeadMoved("got another published checkpoint than expected")
            self.resources["checkpoint"] = note

    def stages(self) -> list[str]:
        return sorted(path for path in list(self.resources) if path.startswith("stage/"))

    def discard(self, path: str) -> None:
        check_stage(path)
        self.resources.pop(path, None)


def check_stage(path: str) -> None:
    found = re.fullmatch(r"stage/([0-9]{20})-[0-9a-f]{64}", path, re.ASCII)
    if found is None or int(found[1]) >= 1 << 63:
        raise Malformed(f"got {path!r}, want the path of a stage")


def check_immutable(path: str) -> None:
    if path.startswith("tile/entries/"):
        parse_bundle_path(path)
    elif path.startswith("tile/"):
        parse_tile_path(path)
    else:
        check_stage(path)


class MemoryHeadStore:
    """Keeps the contract of the port `HeadStore`. `heads` are all that were committed, for a test to look back at."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self._freeze: Freeze | None = None
        self._lock = RLock()

    def load(self) -> Head | None:
        return self.heads[-1] if self.heads else None

    def swap(self, head: Head, *, expected: Head | None) -> None:
        if head.time.tzinfo is None or len(head.root) != HASH_BYTES or len(head.stage_sha256) != HASH_BYTES:
            raise ValueError("got a time without its zone, or a digest of another length")
        if expected is not None and (head.time <= expected.time or head.size <= expected.size):
            raise ValueError("got a head that does not follow the expected one (rule T3)")
        with self._lock:
            if self.load() != expected:
                raise HeadMoved("got another head than expected")
            self.heads.append(head)

    def load_freeze(self) -> Freeze | None:
        return self._freeze

    def freeze(self, freeze: Freeze) -> None:
        with self._lock:
            self._freeze = self._freeze or freeze


class MemoryCompanions:
    """Keeps the contract of the port `Companions`. `sent` are all that ever came, by leaf, for a test to look at."""

    def __init__(self) -> None:
        self.standing = TreeSize(0)
        self.sent: dict[LeafIndex, bytes] = {}
        self.rows: dict[LeafIndex, KeptCompanion] = {}
        self.subject_keys: dict[int, SealedKey] = {}
        self._numbers: dict[tuple[WriterId, bytes], int] = {}

    def add(self, index: LeafIndex, writer: WriterId, beside: bytes) -> None:
        """A companion that came with the leaf of a writer. One that is there stays."""
        self.sent.setdefault(index, beside)
        if index in self.rows:
            return
        content, companion = beside[SALT_BYTES:], parse_beside(beside)
        number = self._numbers.setdefault((writer, content), len(self._numbers) + 1)
        if number not in self.subject_keys:
            self.subject_keys[number] = SealedKey(
                number=number,
                writer=writer,
                key_id=companion.key_id,
                sealed=companion.sealed_subject_key,
                vault_epoch=companion.vault_epoch,
                seal_epoch=companion.seal_epoch,
                erasure=NO_ERASURE,
            )
        erasure = self.subject_keys[number].erasure
        self.rows[index] = KeptCompanion(key=number, salt=beside[:SALT_BYTES], erasure=erasure)

    def erase(self, indices: Collection[LeafIndex], erasure: bytes, *, salt: bytes = bytes(SALT_BYTES)) -> None:
        """What an erasure does to these rows and to the keys they name."""
        for index in indices:
            number = self.rows[index].key
            if number:
                self.subject_keys[number] = replace(self.subject_keys[number], key_id=b"", sealed=b"", erasure=erasure)
            self.rows[index] = KeptCompanion(key=0, salt=salt, erasure=erasure)

    def size(self) -> int:
        return self.standing

    def find(self, indices: Collection[LeafIndex]) -> Mapping[LeafIndex, KeptCompanion]:
        return {index: self.rows[index] for index in indices if index in self.rows}

    def keys(self, numbers: Collection[int]) -> Mapping[int, SealedKey]:
        return {number: self.subject_keys[number] for number in numbers if number in self.subject_keys}

    def count_keys(self) -> Mapping[int, int]:
        return Counter(key.vault_epoch for key in self._living())

    def keys_to_reseal(self, epoch: int, *, limit: int) -> list[SealedKey]:
        return [key for key in self._living() if key.vault_epoch != epoch][:limit]

    def reseal(self, sealed: Mapping[int, bytes], *, epoch: int) -> None:
        assert all(len(one) == SEALED_KEY_BYTES for one in sealed.values()), "a row is overwritten where it stands"
        for key in self._living():
            if key.number in sealed:
                self.subject_keys[key.number] = replace(key, sealed=sealed[key.number], vault_epoch=epoch)

    def _living(self) -> list[SealedKey]:
        return [key for key in self.subject_keys.values() if key.erasure == NO_ERASURE]


class MemorySealEpochs:
    """Keeps the contract of the port `SealEpochs`. `stored` are all that were in force, in order."""

    def __init__(self) -> None:
        self.stored: list[tuple[int, int]] = []

    def load(self) -> tuple[int, int]:
        return self.stored[-1] if self.stored else (0, 0)

    def store(self, seal_epoch: int, vault_epoch: int) -> None:
        now = self.load()
        if seal_epoch < now[0] or vault_epoch < now[1]:
            raise ValueError(f"got epochs {seal_epoch} and {vault_epoch}, want at least {now[0]} and {now[1]}")
        self.stored.append((seal_epoch, vault_epoch))


class MemoryLedger:
    """Keeps the contract of the port `Ledger`, and asserts the caller's side. Adding rows again changes nothing.

    What came beside leaves is in `companions`.
    """

    def __init__(self, origin: str = ORIGIN) -> None:
        self._origin = origin
        self.size = TreeSize(0)
        self.notes: dict[TreeSize, bytes] = {}
        self.rows: dict[tuple[WriterId, int], BatchRow] = {}
        self.writers: dict[WriterId, WriterRow] = {}
        self.companions = MemoryCompanions()

    def load(self) -> tuple[TreeSize, list[WriterRow]]:
        return self.size, [self.writers[writer] for writer in sorted(self.writers)]

    def add(self, rows: RoundRows) -> None:
        assert rows.size >= self.size, "the ledger never goes back"
        assert all(self.notes.get(size, note) == note for size, note in rows.notes), "a size is signed once (A3)"
        places = [index for index, _ in rows.companions]
        assert places == sorted(set(places)), "companions come in the order of their leaves"
        assert all(index < rows.size for index in places), "and are those of leaves up to the size"
        self.size = self.companions.standing = rows.size
        self.notes.update(rows.notes)
        self.rows.update({(row.writer, row.begin): row for row in rows.batches})
        self.writers.update({row.writer: row for row in rows.writers})
        for index, beside in rows.companions:
            self.companions.add(index, self._writer_at(index), beside)

    def _writer_at(self, index: int) -> WriterId:
        """Whose leaf it is: of a batch, or else of the log's own."""
        rows = self.rows.values()
        found = (row.writer for row in rows if row.first_index <= index < row.first_index + row.end - row.begin)
        return next(found, log_id(self._origin))

    def batches(self, writer: WriterId, begin: int, end: int) -> list[BatchRow]:
        found = [row for row in self.rows.values() if row.writer == writer and row.begin < end and begin < row.end]
        return sorted(found, key=lambda row: row.begin)

    def note(self, size: TreeSize) -> bytes | None:
        return self.notes.get(size)

    def clear(self) -> None:
        self.size = self.companions.standing = TreeSize(0)
        self.rows.clear()
        self.writers.clear()


CHANGING = frozenset(
    {"create", "publish", "discard"}  # TileStore
    | {"swap", "freeze", "thaw"}  # HeadStore
    | {"add", "clear"}  # Ledger
    | {"make_directory", "write", "sync", "link", "rename", "remove", "sync_directory"}  # the disk under a store
)
"""Methods that change something: the calls that a `Plan` counts. `create` is the disk's as well."""

Flavour = Literal["before", "after"]
"""A call that fails may have done its work all the same, and a caller must survive both."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """Which changing call fails, counted from 0 over all stores that share this plan, and in which flavour.

    From then on every call raises: the process is dead. (Not `close`: the kernel does that for the dead.) Without
    `fail_at` it only counts; `calls` says what was called.
    """

    fail_at: int | None = None
    flavour: Flavour = "before"
    calls: list[str] = field(default_factory=list)
    dead: bool = False

    def run(self, name: str, call: Callable[[], object]) -> object:
        if self.dead and name != "close":
            raise OSError(errno.EIO, f"{os.strerror(errno.EIO)}: {name} of a dead process")
        if name not in CHANGING:
            return call()
        self.dead = len(self.calls) == self.fail_at
        self.calls.append(name)
        if self.dead and self.flavour == "before":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        result = call()
        if self.dead:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return result


class Failing:
    """A store, or the disk under one, as a process sees it that fails as planned. See `failing`."""

    def __init__(self, store: object, plan: Plan) -> None:
        self._store = store
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._plan.run(name, lambda: found(*args, **kwargs))


def failing(store: T, plan: Plan) -> T:
    """`store` behind a `Failing`: the same methods, of the same types."""
    return cast("T", Failing(store, plan))
