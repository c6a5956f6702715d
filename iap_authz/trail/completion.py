# SPDX-License-Identifier: Apache-2.0
"""When an erasure is complete: no writer has a record left that was sealed before it (rule S5).

The invariant: a writer is done with only on its own signed word, or when the log takes nothing more of it:

    it is retired                                     nothing more comes
    its newest word is WriterStopped                  it has shipped all before that very record
    its newest word is a Heartbeat                    whose `oldest_seal_epoch` is at least the erasure's
    a later WriterStarted names it as predecessor     with its last checkpoint, which the log has reached

Only writers that were registered before the erasure are waited for: who comes later learns the new epoch with its
registration. What nobody can wait for is a writer that the log has never heard of: if one comes later with a journal
from before, its older records are taken while the erasure is open, and not after.
"""

from dataclasses import dataclass

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import IapError
from iap_authz.model.ids import WriterId
from iap_authz.ports import Ledger, WriterRow
from iap_authz.records.started import writer_origin
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import LeafIndex, TreeSize
from iap_authz.tlog.note import VerifierKey
from iap_authz.trail.match import parse_or_none
from iap_authz.trail.reader import TrailReader

NAMED_MAX = 16
"""Successors that are remembered for one writer: an honest one has one."""

SHOWN_MAX = 1_000
"""Writers that an answer names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A writer that may have more to ship. What it ships from now on was sealed in `seal_epoch` or later."""

    writer: WriterId
    size: int
    registered_index: LeafIndex
    seal_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Every writer that is not done, as of the tree of `size`: the records that the others had stand in it."""

    size: TreeSize
    holders: tuple[Holder, ...]

    def waiting_for(self, seal_epoch: int, *, registered_before: int) -> list[log_pb2.WriterPosition]:
        """Those that may hold records of an older epoch, with what the log has of each."""
        return [
            log_pb2.WriterPosition(writer=one.writer, sequence=one.size)
            for one in self.holders
            if one.registered_index < registered_before and one.seal_epoch < seal_epoch
        ][:SHOWN_MAX]


class Completion:
    """Looks at the writers. Owned by the event loop; what blocks goes through the trail's thread."""

    def __init__(self, reader: TrailReader, ledger: Ledger) -> None:
        self._reader = reader
        self._ledger = ledger
        self._run = reader.run
        self._stopped = set[WriterId]()
        self._successors: dict[WriterId, list[bytes]] = {}
        self._read_to = -1

    async def look(self) -> Holders:
        """Who is not done now. Each writer that has ended is looked at once."""
        size, rows = await self._run(self._ledger.load)
        await self._read_successors()
        holders = list[Holder]()
        for row in rows:
            if row.retired_index is not None or row.writer in self._stopped or self._is_succeeded(row):
                continue
            epoch = await self._declared(row)
            if epoch is None:
                self._stopped.add(row.writer)
                continue
            holders.append(
                Holder(writer=row.writer, size=row.size, registered_index=row.registered_index, seal_epoch=epoch)
            )
        return Holders(size=size, holders=tuple(holders))

    async def _declared(self, row: WriterRow) -> int | None:
        """The oldest seal epoch that the writer's newest word leaves open: 0 without a word, None once it stopped."""
        query = log_pb2.SearchRecordsRequest(
            bodies=["heartbeat", "writer_stopped"], writer=row.writer, newest_first=True
        )
        hits = await self._run(self._reader.index.search, query, tokens=(), after=None, limit=1)
        for index in hits:
            record = parse_or_none(await self._reader.read(index))
            if record is None or record.writer != row.writer:
                return 0
            body = record.WhichOneof("body")
            if body == "heartbeat":
                return int(record.heartbeat.oldest_seal_epoch)
            # Nothing comes after WriterStopped; a writer of ours cannot go on, another one's word is worth nothing.
            return None if body == "writer_stopped" and record.sequence == row.size - 1 else 0
        return 0

    async def _read_successors(self) -> None:
        """Take the WriterStarted records that came since the last look."""
        query = log_pb2.SearchRecordsRequest(bodies=["writer_started"])
        async for index, leaf in self._reader.search(query, after=self._read_to):
            self._read_to = index
            record = parse_or_none(leaf)
            if record is None or not record.writer_started.predecessor_checkpoint:
                continue
            named = self._successors.setdefault(WriterId(record.writer_started.predecessor), [])
            if len(named) < NAMED_MAX:
                named.append(record.writer_started.predecessor_checkpoint)

    def _is_succeeded(self, row: WriterRow) -> bool:
        """Whether a successor names a last checkpoint of this writer that the log has reached."""
        verifier = VerifierKey(name=writer_origin(self._reader.origin, row.writer), public_key=row.public_key)
        sizes = [_size(note, verifier) for note in self._successors.get(row.writer, ())]
        known = [size for size in sizes if size is not None]
        return bool(known) and max(known) <= row.size


def _size(note: bytes, verifier: VerifierKey) -> int | None:
    """What a note says if the writer signed it; whoever quotes another one says nothing of this writer."""
    try:
        return open_checkpoint(note, verifier).size
    except IapError:
        return None
