# SPDX-License-Identifier: Apache-2.0
"""`SubjectKeys`: whose key seals a record, and where a fresh one comes from without anybody waiting (rule S3).

The invariant: a key seals the records of one issuer and subject, or of nobody, for at most its age, in one seal epoch.

    prepare, 100 us  -->  pool: 1,024 keys that are sealed already and belong to nobody
                            | take, 2 us: the first record of somebody, or the first after their key was too old
                            v
    seal_for(facts)  -->  kept: 10,000 people's keys, the least recently used leaves first

A subject that was proven has a key of its own. All other records share one key, `NOBODY`: who has no identity cannot
make us prepare keys. An empty pool refuses nobody; the key is prepared then and there, and somebody is told.

New settings drop every key that is kept. Prepared ones carry no seal epoch yet, so they stay for as long as the vault's
key does. Keys are secrets: they live in this object, which shows and logs none, and are dropped by reference.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import BadProof, Malformed
from iap_authz.model.ids import WriterId
from iap_authz.records.seal import PreparedKey, Seal, SubjectKey, new_seal, prepare_key, take_key
from iap_authz.records.seal_settings import SealSettings
from iap_authz.sidecar.tasks import run_together

POOL_KEYS = 1_024
"""As many people as may come at once without waiting; 0.1 s of one core to fill, 200 kB."""

KEPT_MAX = 10_000
"""People with a key at one moment, about 5 MB. Whoever comes back later gets a new key: one more row in the log."""

PERSON_SECONDS = 86_400.0
"""The longest that a person's key seals new records (rule S3)."""

NOBODY_SECONDS = 3_600.0
"""The same of nobody's key, which many people's records share: fewer of them do."""

REST_FACTOR, REST_MIN_SECONDS = 4.0, 0.0004
"""After each key that is prepared the loop has four times as long for requests: 20% at most while the pool fills."""

SWEEP_SECONDS = 600.0
"""How often keys that nobody has used any more are looked for. One that is too old is never used, found or not."""

SWEEP_SLICE = 512
"""How many of them are looked at in one turn of the loop: some 50 us."""

TELL_SECONDS = 60.0
"""At most so often the log is told that the pool was empty."""

Pause = Callable[[float], Coroutine[Any, Any, object]]

_Who = tuple[str, str]

NOBODY: _Who = ("", "")
"""In the place of issuer and subject. No subject is empty."""

_log = logging.getLogger("iap_authz.seal")


class _Kept(NamedTuple):
    key: SubjectKey
    until: float


def check_vault(settings: SealSettings, *, writer: WriterId) -> None:
    """Raise BadProof unless keys can be sealed to the vault's: a few X25519 keys make no secret with any other."""
    try:
        prepare_key(settings.origin, writer, vault_public_key=settings.vault.public_key)
    except (Malformed, ValueError):
        raise BadProof(f"got {settings.vault.render()} as the vault's key, want one that can be sealed to") from None


class SubjectKeys:
    """Satisfies `Seals`. Owned by the event loop; `run` is its one background task."""

    def __init__(
        self,
        settings: SealSettings,
        *,
        writer: WriterId,
        monotonic: Callable[[], float],
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._monotonic = monotonic
        self._pause = pause
        self._pool: list[PreparedKey] = []
        self._kept: OrderedDict[_Who, _Kept] = OrderedDict()
        self._wanted = asyncio.Event()
        self._tell_at = monotonic()
        self.late = 0
        """Keys that were prepared while a request waited."""

    @property
    def settings(self) -> SealSettings:
        """What is in force."""
        return self._settings

    def seal_for(self, facts: facts_pb2.Facts) -> Seal:
        """The seal of one more record with these facts. Never waits."""
        identity, who = facts.identity, NOBODY
        if identity.state == facts_pb2.PRESENT and identity.subject:
            who = identity.issuer, identity.subject
        kept = self._kept.get(who)
        if kept is None or self._monotonic() >= kept.until:
            kept = self._renew(who)
        self._kept.move_to_end(who)
        return new_seal(self._settings.origin, kept.key)

    def use(self, settings: SealSettings) -> None:
        """From now on seal by these: no key that sealed anything before does so again (rule S5)."""
        if settings.vault != self._settings.vault:
            self._pool.clear()
        self._settings = settings
        self._kept.clear()
        self._wanted.set()

    def fill(self) -> None:
        """Fill the pool at once. Blocks for 0.1 s: for before the first check."""
        while len(self._pool) < POOL_KEYS:
            self._pool.append(self._prepare())

    async def run(self) -> None:
        """Keep the pool full, and forget keys that are too old, until cancelled."""
        await run_together(self._refill(), self._sweep())

    def _renew(self, who: _Who) -> _Kept:
        settings = self._settings
        key = take_key(self._take(), vault_epoch=settings.vault.epoch, seal_epoch=settings.seal_epoch)
        seconds = NOBODY_SECONDS if who == NOBODY else PERSON_SECONDS
        kept = self._kept[who] = _Kept(key, self._monotonic() + seconds)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return kept

    def _take(self) -> PreparedKey:
        self._wanted.set()
        if self._pool:
            return self._pool.pop()
        self.late += 1
        if self._monotonic() >= self._tell_at:
            self._tell_at = self._monotonic() + TELL_SECONDS
            _log.warning("no subject key was prepared: requests wait 0.1 ms for one", extra={"keys": self.late})
        return self._prepare()

    def _prepare(self) -> PreparedKey:
        settings = self._settings
        return prepare_key(settings.origin, self._writer, vault_public_key=settings.vault.public_key)

    async def _refill(self) -> None:
        while True:
            self._wanted.clear()
            while len(self._pool) < POOL_KEYS:
                before = self._monotonic()
                self._pool.append(self._prepare())
                spent = self._monotonic() - before
                await self._pause(max(REST_FACTOR * spent, REST_MIN_SECONDS))
            await self._wanted.wait()

    async def _sweep(self) -> None:
        while True:
            await self._pause(SWEEP_SECONDS)
            people = list(self._kept)
            for first in range(0, len(people), SWEEP_SLICE):
                self._forget_old(people[first : first + SWEEP_SLICE])
                await self._pause(0.0)

    def _forget_old(self, people: list[_Who]) -> None:
        now = self._monotonic()
        for who in people:
            kept = self._kept.get(who)
            if kept is not None and now >= kept.until:
                del self._kept[who]
