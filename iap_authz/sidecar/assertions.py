# SPDX-License-Identifier: Apache-2.0
"""`Assertions`: signs what the application is told of an ALLOW, with keys that come and go.

    made        published, signs nothing yet: for one rotation, so that caches have it before it is needed
    signing     published
    retired     its private half is dropped; published until the last assertion it signed is over, and a margin
    gone

Invariant: an assertion is made for one decision whose record is kept, and is never kept or made again for another, so
no request can be given somebody else's. The keys of a process die with it. `key_set` and `mint` see one state: both run
on the event loop, and `turn` changes all of it at once.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn, Protocol

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.assertion import (
    LIFE_SECONDS,
    PublishedKey,
    Statement,
    published_key,
    render_assertion,
    render_key_set,
)
from iap_authz.model.reason import Verdict
from iap_authz.ports import Answer, AssertionKey, Clock

MARGIN_SECONDS = 300
"""How much slower an application's clock may be and still find the key of an assertion that is over here: the most that
our own strict profile of tokens allows for."""

TURN_INTERVAL_SECONDS = 1.0
"""How often it is asked whether a key is due."""

TOKEN_ID_BYTES = 16
"""Of randomness in `jti`: no two are alike."""

_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
_log = logging.getLogger("iap_authz.assertions")


class Asserter(Protocol):
    """What a check asks for what it has promised."""

    def mint(self, answer: Answer, facts: facts_pb2.Facts) -> str:
        """What `answer`, an ALLOW whose record is kept, promises. Raises whatever keeps it from being made."""


class NoAssertions:
    """Satisfies `Asserter` where none is configured. A policy that asks for one is refused before it gets here."""

    def mint(self, answer: Answer, facts: facts_pb2.Facts) -> str:  # noqa: ARG002 -- the protocol's
        """Raise: what cannot be kept is not answered."""
        raise RuntimeError(f"got route {answer.decision.route} with an assertion, want a section assertion for it")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSettings:
    """Who asserts, to whom if the route does not say, and how long a key signs."""

    issuer: str
    audience: str
    rotation_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    key: AssertionKey
    published: PublishedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class _Retired:
    published: PublishedKey
    until: float


class Assertions:
    """Satisfies `Asserter` and the port `KeyPublisher`. Owned by the event loop."""

    def __init__(self, settings: AssertionSettings, *, make_key: Callable[[], AssertionKey], clock: Clock) -> None:
        self._settings = settings
        self._make_key = make_key
        self._clock = clock
        self._retired: tuple[_Retired, ...] = ()
        self._signing, self._next = self._make(), self._make()
        self._due = clock.monotonic() + settings.rotation_seconds
        self._key_set = self._render()

    def mint(self, answer: Answer, facts: facts_pb2.Facts) -> str:
        """What `answer` promises. Raises AssertionTooLarge; ValueError where that is nothing, or meant for nobody."""
        decision = answer.decision
        terms = decision.assertion
        if terms is None or decision.verdict is not Verdict.ALLOW or not answer.audit_id:
            raise ValueError("got an answer without an assertion to make, want an ALLOW that promises one")
        audience = terms.audience or self._settings.audience
        if not audience:
            raise ValueError(f"got no audience of route {decision.route}, want one")
        statement = Statement(
            issuer=self._settings.issuer,
            audience=audience,
            route=decision.route,
            audit_id=answer.audit_id,
            token_id=secrets.token_urlsafe(TOKEN_ID_BYTES),
            issued_at=(self._clock.now() - _EPOCH) // _SECOND,
            is_bound=terms.request_binding,
        )
        return render_assertion(facts, statement, key=self._signing.published, sign=self._signing.key.sign)

    def key_set(self) -> bytes:
        """The JSON Web Key Set of all keys that are published."""
        return self._key_set

    def turn(self) -> None:
        """Let the next key sign if it is due, and forget the keys whose last assertion is over."""
        now = self._clock.monotonic()
        retired = tuple(one for one in self._retired if now < one.until)
        if now >= self._due:
            following = self._make()  # before anything changes: where no key can be made, the old one goes on
            retired = (*retired, _Retired(published=self._signing.published, until=now + LIFE_SECONDS + MARGIN_SECONDS))
            self._signing, self._next = self._next, following
            self._due = now + self._settings.rotation_seconds
            _log.info("another key signs assertions", extra={"kid": self._signing.published.kid})
        if retired != self._retired:
            self._retired = retired
            self._key_set = self._render()

    async def run(self) -> None:
        """Turn the keys until cancelled."""
        while True:
            await asyncio.sleep(TURN_INTERVAL_SECONDS)
            self.turn()

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys of assertions stay in their process")

    def _make(self) -> _Key:
        key = self._make_key()
        return _Key(key=key, published=published_key(key.point))

    def _render(self) -> bytes:
        alive = (self._signing.published, self._next.published)
        return render_key_set([*alive, *(one.published for one in self._retired)])
