# SPDX-License-Identifier: Apache-2.0
"""`IssuerKeys`: the key set of one issuer, fetched in the background. No request ever fetches, or waits for it.

The invariant: what `load` gives was published by the issuer, and was last confirmed at `confirmed_at`, whatever has
failed since. One fetch is under way at a time, and no more than one in `COOLDOWN_SECONDS` because somebody has shown
the name of a key that is not known.

    every `interval`, less up to a fifth of it by chance ---.
    somebody shows an unknown kid, after the cooldown ------+--> fetch --> good: kept, stored, the snapshot is renewed
    after a failure: 1, 2, 4, ... seconds up to `interval` -'          `-> bad: the last good set stays, and ages

The last good set is on the disk as well, with the time it was confirmed, so that a start while the issuer is away has
keys, if they are young enough. A `Slot` reads this as it reads a file, and drops what was not confirmed for longer than
`max_stale`.

    stored = seconds since 1970 in decimal || 0x0A || the key set as it was published
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import random

from iap_authz.errors import IapError, Malformed, SourceUnavailable
from iap_authz.facts.discovery import discovery_url, parse_discovery
from iap_authz.facts.keyset import KeySet, parse_jwks
from iap_authz.ports import CheckpointStore, Clock, Endpoint, Fetched

COOLDOWN_SECONDS = 30.0
"""Between two fetches that unknown key ids ask for: whoever makes tokens up cannot have the issuer asked more often."""

RETRY_SECONDS = 1.0
"""After the first failure; doubled with each further one."""

JITTER = 0.2
"""The part of a wait that chance takes off it, so that many sidecars do not ask at one moment."""

STORED_MAX_BYTES = (1 << 20) + 16
"""A key set of the largest size, and its stamp."""

FETCHED_MAX = 4
"""Contents that are kept to be asked for by their ETag: a discovery document, a key set, and two that they were."""

_DOUBLINGS_MAX = 20
_STAMP_MAX_CHARS = 15

_log = logging.getLogger("iap_authz.keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlace:
    """Where an issuer's keys are. Without `jwks_url` the issuer's discovery document says it."""

    name: str
    issuer: str
    jwks_url: str
    interval: timedelta
    max_stale: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What is known; replaced as a whole, since the refresher reads it in a thread."""

    keys: KeySet | None = None
    generation: int = 0
    confirmed: float = 0.0
    problem: str = "not fetched yet"


class IssuerKeys:
    """Satisfies `FactSource[KeySet]`. Owned by the event loop; `run` is its task."""

    def __init__(
        self,
        place: KeyPlace,
        *,
        endpoint: Endpoint,
        store: CheckpointStore,
        clock: Clock,
        chance: Callable[[], float] = random,
    ) -> None:
        """`store` keeps the last good set. What it has is taken at once, if it is young enough. Blocking."""
        self._place = place
        self._endpoint = endpoint
        self._store = store
        self._clock = clock
        self._chance = chance
        self._state = _State()
        self._fetched: dict[str, Fetched] = {}
        self._failures = 0
        self._attempted = 0.0
        self._wanted = asyncio.Event()
        self._restore()

    @property
    def name(self) -> str:
        """For messages and facts."""
        return f"keys:{self._place.name}"

    def load(self) -> KeySet:
        """The last good set. Raises SourceUnavailable if there never was one."""
        state = self._state
        if state.keys is None:
            raise SourceUnavailable(f"no keys of the issuer {self._place.name}: {state.problem}")
        return state.keys

    def version(self) -> object:
        """Changes with the set. Raises SourceUnavailable while the last fetch has failed."""
        state = self._state
        if state.problem and state.keys is not None:
            raise SourceUnavailable(f"the keys of the issuer {self._place.name} were not confirmed: {state.problem}")
        return state.generation

    def confirmed_at(self, _now: float) -> float:
        """When the issuer last published what `load` gives (monotonic seconds)."""
        return self._state.confirmed

    def want(self) -> None:
        """Somebody has shown a key id that is not in the set. Never waits."""
        self._wanted.set()

    async def run(self, changed: Callable[[], None]) -> None:
        """Fetch until cancelled; `changed` is called after each fetch that changed what `load` or `version` say."""
        while True:
            before = self._state
            await self.fetch()
            if (before.generation, before.problem) != (self._state.generation, self._state.problem):
                changed()
            await self._wait()

    async def fetch(self) -> None:
        """One fetch, and what follows from it. Raises nothing of what the issuer can do."""
        self._wanted.clear()
        self._attempted = self._clock.monotonic()
        try:
            content = await self._fetch_keys()
            keys = parse_jwks(content)
            if not keys.keys:
                raise Malformed(f"got a key set without a single key that may be used: {'; '.join(keys.problems[:3])}")
        except IapError as error:
            self._failures += 1
            self._attempted = self._clock.monotonic()  # an issuer that hangs is left alone between two fetches too
            self._say(str(error))
            return
        self._failures = 0
        await self._take(content, keys)

    def next_delay(self) -> float:
        """Seconds from the last fetch, from its end if it failed, to the next one that nobody has to ask for."""
        longest = self._place.interval.total_seconds()
        if self._failures:
            longest = min(longest, RETRY_SECONDS * 2 ** min(self._failures - 1, _DOUBLINGS_MAX))
        return longest * (1.0 - JITTER * self._chance())

    def due(self) -> float:
        """When the next fetch is due by itself (monotonic seconds): counted from the last one."""
        return self._attempted + self.next_delay()

    async def _wait(self) -> None:
        """Until the next fetch is due: by itself, or because it is wanted and the cooldown is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self.due() - self._clock.monotonic())):
                await self._wanted.wait()
                await asyncio.sleep(max(0.0, self._attempted + COOLDOWN_SECONDS - self._clock.monotonic()))

    async def _fetch_keys(self) -> bytes:
        url = self._place.jwks_url
        if not url:
            document = await self._get(discovery_url(self._place.issuer))
            url = parse_discovery(document, issuer=self._place.issuer)
        return await self._get(url)

    async def _get(self, url: str) -> bytes:
        known = self._fetched.get(url)
        found = await self._endpoint.fetch(url, etag=known.etag if known is not None else "")
        if found is None and known is not None:
            return known.content
        if found is None:
            raise SourceUnavailable(f"got no content from {url} that nobody had before, want some")
        if len(self._fetched) >= FETCHED_MAX:
            self._fetched.clear()
        self._fetched[url] = found
        return found.content

    async def _take(self, content: bytes, keys: KeySet) -> None:
        known, confirmed = self._state, self._clock.monotonic()
        changed = known.keys != keys
        self._state = _State(
            keys=keys if changed else known.keys,
            generation=known.generation + changed,
            confirmed=confirmed,
            problem="",
        )
        if changed:
            extra = {"issuer": self._place.name, "keys": len(keys.keys), "left_out": list(keys.problems[:10])}
            _log.log(logging.WARNING if keys.problems else logging.INFO, "the keys of an issuer changed", extra=extra)
        stamp = int(self._clock.now().timestamp())
        try:
            await asyncio.to_thread(self._store.store, b"%d\n%b" % (stamp, content))
        except OSError as error:
            extra = {"issuer": self._place.name, "problem": str(error)}
            _log.warning("the keys of an issuer are not stored", extra=extra)

    def _say(self, problem: str) -> None:
        """The last good set stays; what is wrong is said once."""
        state = self._state
        if problem != state.problem:
            extra = {"issuer": self._place.name, "problem": problem}
            _log.error("the keys of an issuer cannot be fetched", extra=extra)
        self._state = _State(keys=state.keys, generation=state.generation, confirmed=state.confirmed, problem=problem)

    def _restore(self) -> None:
        try:
            stored = self._store.load()
            if stored is None:
                return
            fetched, content = _parse_stored(stored)
            keys = parse_jwks(content)
        except (IapError, OSError) as error:
            _log.warning("stored keys are not used", extra={"issuer": self._place.name, "problem": str(error)})
            return
        age = self._clock.now() - fetched
        if timedelta(0) <= age <= self._place.max_stale and keys.keys:
            confirmed = self._clock.monotonic() - age.total_seconds()
            self._state = _State(keys=keys, generation=1, confirmed=confirmed, problem="")


def _parse_stored(stored: bytes) -> tuple[datetime, bytes]:
    stamp, _, content = stored.partition(b"\n")
    if not stamp.isdigit() or len(stamp) > _STAMP_MAX_CHARS:
        raise Malformed("got stored keys without the time they were fetched")
    try:
        return datetime.fromtimestamp(int(stamp), UTC), content
    except (OverflowError, ValueError, OSError):
        raise Malformed("got stored keys of a time that cannot be") from None
