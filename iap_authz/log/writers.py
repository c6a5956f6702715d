# SPDX-License-Identifier: Apache-2.0
"""`Writers`: who may write, and how far each one's log goes; and the leaves that say so.

The invariant: a writer's state runs ahead of the committed tree only by entries that are queued. That is safe because a
round that fails ends the process (C3), and what was not committed is then gone with its state.

    register  WriterRegistered                       one leaf of the log's own
    append    records [a, b), WriterCheckpoint       rule P1; the state moves to b when the batch is queued
    fork      Alert, WriterRetired                   rule W6; nothing of that writer is taken after it
    retire    WriterRetired                          by an operator; the same
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import BadProof, Refused, UnknownWriter
from iap_authz.log.rounds import Rendered
from iap_authz.log.sequencer import Entry
from iap_authz.model.ids import WriterId
from iap_authz.ports import BatchRow, WriterRow
from iap_authz.records.admission import Batch, Registration, SealRules, admit, check_place
from iap_authz.records.log_fold import WriterState
from iap_authz.records.log_leaves import checkpoint_body, log_leaf
from iap_authz.records.record import new_record_id
from iap_authz.records.started import writer_origin
from iap_authz.tlog.checkpoint import open_checkpoint
from iap_authz.tlog.hashing import LeafIndex, TreeSize
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.tree import CompactRange

OWN_LEAF_BYTES = 1_024
"""What a leaf of the log's own counts for in the queue: a note, a compact range and a few names."""


class Writers:
    """Every writer of one log. Owned by the event loop's thread."""

    def __init__(self, origin: str, states: Iterable[WriterState]) -> None:
        self._origin = origin
        self._states = {state.writer: state for state in states}
        self._rows: dict[WriterId, WriterRow] = {}
        self._retiring: set[WriterId] = set()

    def __iter__(self) -> Iterator[WriterState]:
        """All writers, by id."""
        return iter(sorted(self._states.values(), key=lambda state: state.writer))

    def find(self, writer: WriterId) -> WriterState | None:
        """The writer's state, if it is registered."""
        return self._states.get(writer)

    def get(self, writer: WriterId) -> WriterState:
        """The writer's state. Raises UnknownWriter."""
        state = self._states.get(writer)
        if state is None:
            raise UnknownWriter(f"got writer {writer.hex()}, which is not registered: register it first")
        return state

    def row(self, writer: WriterId) -> WriterRow | None:
        """Where the writer stands after its last entry since this process started."""
        return self._rows.get(writer)

    def registration(self, who: Registration, *, attestation: str, enrolled_by: str) -> Entry:
        """The entry that makes a writer known; its state is there once it is rendered."""
        body = record_pb2.WriterRegistered(
            writer=who.writer,
            public_key=who.verifier.public_key,
            workload=who.workload,
            attestation=attestation,
            enrolled_by=enrolled_by,
        )

        def render(index: LeafIndex, time: datetime) -> Rendered:
            self._states[who.writer] = WriterState(
                writer=who.writer,
                verifier=who.verifier,
                workload=who.workload,
                registered_index=index,
                retired_index=None,
                tree=CompactRange.empty(),
                note=b"",
            )
            return Rendered(leaves=(self._own(body, index, time),), writer=self._row(who.writer, time))

        return Entry(render=render, size_bytes=OWN_LEAF_BYTES, leaf_count=1)

    def is_retired(self, writer: WriterId) -> bool:
        """Whether the writer is retired, or is about to be: its retirement is queued, and nothing may come after it."""
        return writer in self._retiring or self.get(writer).retired_index is not None

    def batch(self, batch: Batch, *, log_size: int, seals: SealRules | None) -> Entry:
        """The entry of a writer's next batch; its state moves at once. Raises like `admission.admit`, or Refused."""
        before = self.get(batch.writer)
        if self.is_retired(batch.writer):
            raise Refused(f"got a batch of writer {batch.writer.hex()}, which is retired")
        check_place(batch, before.tree.end)
        after = self._states[batch.writer] = admit(batch, before, origin=self._origin, log_size=log_size, seals=seals)
        besides = tuple((sequence - batch.begin, beside) for sequence, beside in batch.companions)

        def render(first: LeafIndex, time: datetime) -> Rendered:
            end = LeafIndex(first + len(batch.records))
            body = checkpoint_body(batch.note, before=before.tree, end=batch.end, first_index=first, received=time)
            return Rendered(
                leaves=(*batch.records, self._own(body, end, time)),
                writer=self._row(batch.writer, time, state=after),
                batch=BatchRow(
                    writer=batch.writer,
                    begin=batch.begin,
                    end=batch.end,
                    first_index=first,
                    round_size=TreeSize(0),
                ),
                besides=besides,
            )

        size = batch.size_bytes + OWN_LEAF_BYTES
        return Entry(render=render, size_bytes=size, leaf_count=len(batch.records) + 1)

    def end(self, writer: WriterId, *, cause: str) -> Entry:
        """The entry that ends a writer which is not retired, because an operator says so; its last note is kept."""
        self._retiring.add(writer)
        retired = record_pb2.WriterRetired(writer=writer, cause=cause, final_checkpoint=self.get(writer).note)

        def render(index: LeafIndex, time: datetime) -> Rendered:
            self._states[writer] = replace(self._states[writer], retired_index=index)
            return Rendered(leaves=(self._own(retired, index, time),), writer=self._row(writer, time))

        return Entry(render=render, size_bytes=3 * OWN_LEAF_BYTES, leaf_count=1)

    def retirement(self, writer: WriterId, *, cause: str, notes: tuple[bytes, bytes]) -> Entry:
        """The entry that publishes two notes of one size and ends their writer (rule W6)."""
        known, other = notes
        self._retiring.add(writer)
        retired = record_pb2.WriterRetired(
            writer=writer, cause=cause, final_checkpoint=known, conflicting_checkpoint=other
        )
        alert = record_pb2.Alert(rule="W6", severity="critical", kind="writer_fork", count=1, evidence=notes)

        def render(first: LeafIndex, time: datetime) -> Rendered:
            index = LeafIndex(first + 1)
            self._states[writer] = replace(self._states[writer], retired_index=index)
            leaves = (self._own(alert, first, time), self._own(retired, index, time))
            return Rendered(leaves=leaves, writer=self._row(writer, time))

        return Entry(render=render, size_bytes=3 * OWN_LEAF_BYTES, leaf_count=2)

    def _own(self, body: Message, index: LeafIndex, time: datetime) -> bytes:
        return log_leaf(body, origin=self._origin, index=index, record_id=new_record_id(), time=time)

    def _row(self, writer: WriterId, time: datetime, *, state: WriterState | None = None) -> WriterRow:
        row = self._rows[writer] = row_of(state or self._states[writer], time)
        return row


def row_of(state: WriterState, last_seen: datetime) -> WriterRow:
    """A state as the ledger keeps it."""
    return WriterRow(
        writer=state.writer,
        public_key=state.verifier.public_key,
        workload=state.workload,
        registered_index=state.registered_index,
        retired_index=state.retired_index,
        size=state.tree.end,
        tree=state.tree.hashes,
        note=state.note,
        last_seen=last_seen,
    )


def state_of(row: WriterRow, origin: str) -> WriterState:
    """A ledger's row, believed as far as the writer's own note vouches for it (A4). Raises Malformed or NotProven."""
    verifier = VerifierKey(name=writer_origin(origin, row.writer), public_key=row.public_key)
    tree = CompactRange.parse(0, row.size, hashes=row.tree)
    if row.note:
        checkpoint = open_checkpoint(row.note, verifier)
        if (checkpoint.size, checkpoint.root) != (tree.end, tree.root()):
            raise BadProof(f"got a ledger row of {row.writer.hex()} that its note does not vouch for")
    return WriterState(
        writer=row.writer,
        verifier=verifier,
        workload=row.workload,
        registered_index=row.registered_index,
        retired_index=row.retired_index,
        tree=tree,
        note=row.note,
    )
