# SPDX-License-Identifier: Apache-2.0
"""One round of an erasure: from the leaves that were found to keys that are gone, whatever interrupts it (rule S5).

The invariant: nothing is destroyed that no Erasure record in the log names, and what one names is destroyed in the end.

    step                                  a crash after it leaves
    1 store round and plan, durably       a plan: the next start goes on with 2
    2 append Erasure (root over salts)    the record, whose index is not stored: it is found in the log by id and root
    3 store its index
    4 destroy keys, companions, salts     some parts destroyed, and how many of them: 4 goes on behind them
    5 forget the tokens                   nothing can be opened; 5 begins again, which changes nothing
    6 drop the plan, empty the WAL        6 begins again
    7 the round is finished

Each step may be made again. An Erasure record is not appended before it was looked for, so it stands there once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from google.protobuf.message import Message

from iap_authz.ports import ErasureRound, ErasureRow, ErasureStore
from iap_authz.records.erasure import erasure_body, erasure_salt, leaves_root
from iap_authz.tlog.hashing import LeafHash, LeafIndex, TreeSize
from iap_authz.trail.erasure_finding import PartOpener
from iap_authz.trail.reader import TrailReader

AppendOwn = Callable[[Message, Message | None], Awaitable[LeafIndex]]
"""Appends a body of the log's own, with its personal part if it has one; the leaf is committed when it returns."""

Progress = Callable[[int], None]
"""Told how many leaves of the round are destroyed."""


def new_round(row: ErasureRow, *, number: int, size: TreeSize, taken: Mapping[LeafIndex, LeafHash]) -> ErasureRound:
    """The round that takes these leaves of a tree of `size`. Pure."""
    pairs = ((erasure_salt(row.secret, index), hashed) for index, hashed in taken.items())
    return ErasureRound(erasure=row.erasure, number=number, log_size=size, records=len(taken), root=leaves_root(pairs))


class Rounds:
    """Carries out rounds, one after the other. Owned by the event loop; what blocks goes through `run`."""

    def __init__(self, reader: TrailReader, *, store: ErasureStore, opener: PartOpener, append_own: AppendOwn) -> None:
        self._reader = reader
        self._store = store
        self._opener = opener
        self._append_own = append_own
        self._run = reader.run

    async def carry_out(self, row: ErasureRow, begun: ErasureRound, *, progress: Progress) -> ErasureRound:
        """Steps 2 to 7, those of them that are left. What this raises leaves the round to be gone on with."""
        if begun.index is None:
            index = await self._find_record(begun)
            if index is None:
                index = await self._append_own(_body(row, begun), None)
            await self._run(self._store.set_index, begun, index)
            begun = replace(begun, index=index)
        done = begun.done
        while done < begun.records:
            done = await self._run(self._destroy, begun)
            progress(done)
        await self._forget(begun)
        await self._run(self._store.finish_round, begun)
        return replace(begun, done=done, finished=True)

    def _destroy(self, begun: ErasureRound) -> int:
        """In the thread, which opens too: no key is opened between its end and its being forgotten."""
        done, keys = self._store.destroy_next(begun)
        self._opener.forget(keys)
        return done

    async def _forget(self, begun: ErasureRound) -> None:
        part = 0
        while leaves := await self._run(self._store.plan, begun, part):
            await self._run(self._reader.index.forget, leaves)
            part += 1

    async def _find_record(self, begun: ErasureRound) -> LeafIndex | None:
        """Where the log has the Erasure record of this round, if an attempt before a crash appended it."""
        await self._reader.caught_up()
        async for index, record in self._reader.own_records("erasure", after=begun.log_size - 1):
            body = record.erasure
            if (body.erasure, body.leaves_root, body.records) == (begun.erasure, begun.root, begun.records):
                return index
        return None


def _body(row: ErasureRow, begun: ErasureRound) -> Message:
    return erasure_body(
        erasure=row.erasure,
        records=begun.records,
        root=begun.root,
        seal_epoch=row.seal_epoch,
        log_size=begun.log_size,
        authority=row.authority,
        officers=row.officers,
    )
