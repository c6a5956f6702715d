# SPDX-License-Identifier: Apache-2.0
"""When an erasure is complete: no writer has a record left that was sealed before it (rule S5).

The invariant: a writer is done with only on its own signed word, or when the log takes nothing more of it:

    it is retired                                     nothing more comes
    its newest word is WriterStopped                  it has shipped all before that very record
    its newest word is a Heartbeat                    whose `oldest_seal_epoch` is at least the erasure's
    a later WriterStarted names it as predecessor     at the checkpoint that the log has of it, and it is as silent as
                                                      a writer that has ended. Only of the same workload, registered
                                                      with the same token: any writer can quote any public note

Writers that were registered after the erasure are waited for, too: what they had sealed before that is still to
come. They say so themselves within seconds. What nobody can wait for is a writer that the log has never heard of: if
one comes later with a journal from before, its older records are taken while an erasure is open, and not after.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import IapError
from iap_authz.model.ids import WriterId
from iap_authz.ports import Ledger, WriterRow
from iap_authz.records.log_leaves import parse_log_leaf
from iap_authz.records.started import writer_origin
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import TreeSize
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
    seal_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What a record 0 says of the writer before it. Anybody can say so of anybody."""

    successor: WriterId
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Every writer that is not done, as of the tree of `size`: the records that the others had stand in it."""

    size: TreeSize
    holders: tuple[Holder, ...]

    def waiting_for(self, seal_epoch: int) -> list[log_pb2.WriterPosition]:
        """Those that may hold records of an older epoch, with what the log has of each."""
        return [
            log_pb2.WriterPosition(writer=one.writer, sequence=one.size)
            for one in self.holders
            if one.seal_epoch < seal_epoch
        ][:SHOWN_MAX]


class Completion:
    """Looks at the writers. Owned by the event loop; what blocks goes through the trail's thread."""

    def __init__(self, reader: TrailReader, ledger: Ledger) -> None:
        self._reader = reader
        self._ledger = ledger
        self._run = reader.run
        self._stopped = set[WriterId]()
        self._successors: dict[WriterId, list[_Named]] = {}
        self._enrolled: dict[WriterId, str] = {}
        self._read_to = -1

    async def look(self) -> Holders:
        """Who is not done now. Each writer that has ended is looked at once."""
        size, rows = await self._run(self._ledger.load)
        await self._read_successors()
        holders = list[Holder]()
        known = {row.writer: row for row in rows}
        for row in rows:
            if row.retired_index is not None or row.writer in self._stopped or await self._is_succeeded(row, known):
                continue
            epoch = await self._declared(row)
            if epoch is None:
                self._stopped.add(row.writer)
                continue
            holders.append(Holder(writer=row.writer, size=row.size, seal_epoch=epoch))
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
                note = record.writer_started.predecessor_checkpoint
                named.append(_Named(successor=WriterId(record.writer), note=note))

    async def _is_succeeded(self, row: WriterRow, known: Mapping[WriterId, WriterRow]) -> bool:
        """Whether a successor of its own names the very checkpoint that the log has of this writer as its last."""
        verifier = VerifierKey(name=writer_origin(self._reader.origin, row.writer), public_key=row.public_key)
        for named in self._successors.get(row.writer, ()):
            successor = known.get(named.successor)
            if successor is None or successor.workload != row.workload or _size(named.note, verifier) != row.size:
                continue
            if await self._enrolled_by(successor) == await self._enrolled_by(row):
                return True
        return False

    async def _enrolled_by(self, row: WriterRow) -> str:
        """The name of the token that a writer was registered with, as its registration says."""
        if row.writer not in self._enrolled:
            leaf = await self._reader.read(row.registered_index)
            record = parse_log_leaf(
                leaf, origin=self._reader.origin, index=row.registered_index, body="writer_registered"
            )
            self._enrolled[row.writer] = record.writer_registered.enrolled_by
        return self._enrolled[row.writer]


def _size(note: bytes, verifier: VerifierKey) -> int | None:
    """What a note says if the writer signed it; whoever quotes another one says nothing of this writer."""
    try:
        return open_checkpoint(note, verifier).size
    except IapError:
        return None
