# SPDX-License-Identifier: Apache-2.0
"""`OwnRecords`: leaves of the log's own that others ask for, LogRead, Erasure, LegalHold and the like (rules S2, S4).

The invariant: what such a leaf says of a person is sealed, under a key that seals nothing else, wherever the log has a
vault. Its companion goes the way of all others: stage, then database.

A leaf is sealed when it gets its place, since its index is bound to what is sealed; all that could fail is tried before
it is queued. In between the seal epoch may rise: then it is late, like a writer's (rule S5).
"""

import asyncio
from datetime import UTC, datetime

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.log.rounds import Rendered
from iap_authz.log.sealing import Sealing
from iap_authz.log.sequencer import Entry, Sequencer
from iap_authz.records.log_leaves import log_id, log_leaf
from iap_authz.records.record import new_record_id
from iap_authz.records.seal import Seal, new_seal
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, LeafIndex

OWN_BODIES = (
    record_pb2.LogRead,
    record_pb2.Erasure,
    record_pb2.LegalHold,
    record_pb2.SettingChanged,
    record_pb2.Alert,
)
"""Bodies that stand for themselves. Others belong to a writer, or move the state of one (`writers`)."""

_OWN_NAMES = frozenset(body.DESCRIPTOR.full_name for body in OWN_BODIES)
_LAST_PLACE = LeafIndex(SIZE_LIMIT_LEAVES - 1)
_LAST_TIME = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""The place and the time that take the most bytes in a leaf."""


class OwnRecords:
    """Appends leaves of the log's own. Owned by the event loop."""

    def __init__(self, sequencer: Sequencer, sealing: Sealing, *, origin: str) -> None:
        self._sequencer, self._sealing, self._origin = sequencer, sealing, origin

    async def append(self, body: Message, personal: Message | None = None) -> LeafIndex:
        """Append `body`, with what it says of a person; its index, once it is committed and signed.

        Cancelling the call does not take it back. Raises RecordTooLarge, LogFrozen, QueueFull, Unavailable.
        """
        if body.DESCRIPTOR.full_name not in _OWN_NAMES:
            raise ValueError(f"got a body of type {body.DESCRIPTOR.full_name}, want one that the log itself appends")
        seal = self._new_seal() if personal is not None else None
        part = None if personal is None else (personal, seal)
        record_id = new_record_id()

        def leaf_at(index: LeafIndex, time: datetime) -> bytes:
            return log_leaf(body, origin=self._origin, index=index, record_id=record_id, time=time, personal=part)

        def render(index: LeafIndex, time: datetime) -> Rendered:
            besides = () if seal is None else ((0, seal.beside),)
            return Rendered(leaves=(leaf_at(index, time),), besides=besides)

        size = len(leaf_at(_LAST_PLACE, _LAST_TIME))
        self._sequencer.check_open(size)
        queued = self._sequencer.submit(Entry(render=render, size_bytes=size, leaf_count=1))
        return (await asyncio.shield(queued)).first_index

    def _new_seal(self) -> Seal | None:
        """The seal of one leaf; none without a vault."""
        prepared = self._sealing.prepare_key(log_id(self._origin))
        return None if prepared is None else new_seal(self._origin, self._sealing.take_key(prepared))
