# SPDX-License-Identifier: Apache-2.0
"""`KeyUseNotes`: when each API key was last accepted, noted in memory and written down now and then.

The invariant: a check notes without waiting and without I/O, and no failure of the file refuses anything. What is noted
in memory is the last use of keys that were accepted, so it is no larger than the file of keys was since the last write.

    check --> note --> every minute, and at the stop: merged with what the file has --> replaced whole

The file belongs to the process that holds the journal's lock; it is read once. One that cannot be read is begun anew. A
crash loses the notes of a minute: the log of records is what knows every use.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import IapError
from iap_authz.facts.apikey import SOURCE_PREFIX
from iap_authz.facts.key_use import KeyUses, merge_uses, parse_uses, render_uses
from iap_authz.ports import CheckpointStore, Clock

WRITE_INTERVAL_SECONDS = 60.0
"""How often what was noted is written. A crash loses as much."""

_log = logging.getLogger("iap_authz.keys")


class KeyUseNotes:
    """Owned by the event loop; `run` is its task. `known` gives the ids of all keys, None where they are not known."""

    def __init__(
        self,
        store: CheckpointStore,
        *,
        known: Callable[[], frozenset[str] | None],
        clock: Clock,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._known = known
        self._clock = clock
        self._pause = pause
        self._noted: dict[str, datetime] = {}
        self._written: KeyUses | None = None
        self._writing = threading.Lock()
        self._problem = ""

    def note(self, identity: facts_pb2.Identity, now: datetime) -> None:
        """Note the use of the key that proved `identity`, if a good and unrevoked one did. Never waits."""
        if identity.state == facts_pb2.PRESENT and identity.source.startswith(SOURCE_PREFIX):
            self._noted[identity.token_id] = now

    async def run(self) -> None:
        """Write what was noted until cancelled; then `flush` has the rest."""
        while True:
            await self.flush()
            await self._pause(WRITE_INTERVAL_SECONDS)

    async def flush(self) -> None:
        """Write what was noted. A failure is a line in the log, and the notes are kept for the next time."""
        noted, self._noted = self._noted, {}
        if not noted and self._written is not None:
            return
        is_written = False
        try:
            await asyncio.to_thread(self._write, noted, known=self._known(), now=self._clock.now())
            is_written, self._problem = True, ""
        except OSError as error:
            if str(error) != self._problem:
                extra = {"file": str(self._store), "problem": str(error)}
                _log.warning("the last uses of API keys are not written", extra=extra)
            self._problem = str(error)
        finally:
            if not is_written:
                self._noted = {**noted, **self._noted}

    def _write(self, noted: Mapping[str, datetime], *, known: frozenset[str] | None, now: datetime) -> None:
        # A flush that was cancelled goes on in its thread, while the last one begins: one after the other.
        with self._writing:
            before = self._written or self._read(now)
            merged = merge_uses(before, noted, known=known, now=now)
            self._store.store(render_uses(merged))
            self._written = merged

    def _read(self, now: datetime) -> KeyUses:
        try:
            content = self._store.load()
            return KeyUses(since=now, used={}) if content is None else parse_uses(content)
        except IapError as error:
            extra = {"file": str(self._store), "problem": str(error)}
            _log.error("the last uses of API keys cannot be read, and are begun anew", extra=extra)
            return KeyUses(since=now, used={})
