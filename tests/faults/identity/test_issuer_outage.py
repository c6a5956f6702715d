# SPDX-License-Identifier: Apache-2.0
"""An issuer that hangs, is slow or is gone, under load: no check waits for it, and it is asked no more often for that
(rows 71, 72 and 74).

The issuer is a real HTTPS server. It says itself that it still holds an answer back: so a check that ends before it is
told to go on did not wait for it. No time is measured, and the clock of the sidecar goes on when a test says so.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from iap_authz.adapters.envoy.request import parse_check
from iap_authz.adapters.facts import https
from iap_authz.adapters.facts.https import HttpsEndpoint
from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.config import load_config
from iap_authz.facts.keyset import KeySet
from iap_authz.model.reason import Reason
from iap_authz.sidecar import issuer_keys
from iap_authz.sidecar.check import Check
from iap_authz.sidecar.issuer_keys import STORED_MAX_BYTES, IssuerKeys, KeyPlace
from iap_authz.sidecar.snapshot import Snapshot
from iap_authz.wiring import Slots, build_snapshot, load_slots, make_slots
from tests.fakes.checks import check_request
from tests.fakes.idp import KNOWN_POLICY, Idp, Said, key_set, serving_idp
from tests.fakes.timers import settle, until
from tests.fakes.tokens import AUDIENCE, claims, forge, rsa_key
from tests.unit.sidecar.test_check import Bench

LONG_SECONDS = 100_000.0
"""Instead of bounds that pass by themselves: a fetch of these tests ends when its issuer says so."""

HOUR = timedelta(hours=1)
UNKNOWN, CACHED, FRESH = 1_000, 1_000, 40
"""Checks with made-up kids, with one good token, and with good tokens that were not seen before."""


def kids(keys: KeySet | None) -> list[str | None]:
    return [key.kid for key in keys.keys] if keys is not None else []


class World:
    """A sidecar from its own assembly but for the clock and the journal, and its issuer."""

    def __init__(self, folder: Path, idp: Idp, *, stored: bytes | None) -> None:
        self.idp, self.bench = idp, Bench()
        self.clock = self.bench.clock
        (folder / "policy.yaml").write_text(KNOWN_POLICY)
        (folder / "sidecar.yaml").write_text(
            "kind: Sidecar\nlisten: unix:authz.sock\nlog_origin: x\njournal: {directory: journal}\nseal: none\n"
            f"policies: [policy.yaml]\nidentity: {{issuers: [{{name: corp, issuer: '{idp.url('')}', max_stale: 1h,"
            f" audiences: ['{AUDIENCE}'], algorithms: [RS256], fetch: {{jwks_url: '{idp.url('/keys')}'}}}}]}}\n"
        )
        self.config = load_config(folder / "sidecar.yaml")
        store = CheckpointFile(folder / "keys-corp", max_bytes=STORED_MAX_BYTES)
        if stored is not None:
            store.store(b"%d\n%b" % (int(self.clock.now().timestamp()), stored))
        self.keys = IssuerKeys(
            KeyPlace(
                name="corp", issuer=idp.url(""), jwks_url=idp.url("/keys"), interval=timedelta(days=1), max_stale=HOUR
            ),
            endpoint=HttpsEndpoint(ca_file=idp.ca_file, private_addresses=True),
            store=store,
            clock=self.clock,
        )
        self.slots: Slots = make_slots(self.config, {"corp": self.keys})
        load_slots(self.slots, self.clock.monotonic())
        self.snapshot: Snapshot = self._build(None)
        self.wanted = 0
        self.check = Check(
            snapshot=lambda: self.snapshot,
            journal=self.bench.journal,
            clock=self.clock,
            refusals=self.bench.refusals,
            seals=self.bench.seals,
            max_in_flight=10_000,
        )

    def _build(self, previous: Snapshot | None) -> Snapshot:
        return build_snapshot(self.config, self.slots, previous=previous, want_keys=self._want)

    def _want(self, issuer: str) -> None:
        assert issuer == self.idp.url("")
        self.wanted += 1
        self.keys.want()

    def look(self) -> None:
        """What the refresher does with what a fetch has changed."""
        for slot in self.slots.all():
            slot.refresh(self.clock.monotonic())
        self.snapshot = self._build(self.snapshot)

    def token(self, kid: str, *, subject: str = "ada") -> str:
        """A good token, if the issuer has a key of this name; without it, anybody's signature does."""
        now = int(self.clock.now().timestamp())
        said = claims(iss=self.idp.url(""), sub=subject, iat=now - 5, exp=now + 36_000)
        if kid in {"old", "new"}:
            return forge(said, key=rsa_key("one" if kid == "old" else "two"), header={"kid": kid})
        return forge(said, header={"kid": kid}, sign_it=lambda _: b"\1" * 256)

    async def ask(self, token: str) -> Reason:
        request = parse_check(check_request(headers=[("authorization", f"Bearer {token}")]).SerializeToString())
        return (await self.check.check(request, self.clock.monotonic() + 1)).decision.reason

    async def ask_all(self, tokens: Iterable[str]) -> Counter[Reason]:
        """All of them at once."""
        return Counter(await asyncio.gather(*(self.ask(token) for token in tokens)))

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator["asyncio.Task[None]"]:
        """A first fetch is under way, and its issuer holds it back."""
        running = asyncio.create_task(self.keys.run(self.look))
        try:
            await until(lambda: self.idp.holding == 1)
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def idp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Idp]:
    monkeypatch.setattr(https, "TOTAL_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(issuer_keys, "COOLDOWN_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(issuer_keys, "RETRY_SECONDS", LONG_SECONDS)
    with serving_idp(tmp_path) as idp:
        idp.answers["/keys"] = Said(body=key_set("old", "new"))
        yield idp


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await test()

    asyncio.run(run())


def hang(idp: Idp, how: str) -> None:
    idp.deaf = how == "no handshake"
    idp.answers["/keys"] = Said(body=key_set("old", "new"), slow=how == "no answer", half=how == "half an answer")


@pytest.mark.parametrize("how", ["no handshake", "no answer", "half an answer"])
def test_71_thousands_of_checks_end_while_the_fetch_hangs(tmp_path: Path, idp: Idp, how: str) -> None:
    async def test() -> None:
        hang(idp, how)
        world = World(tmp_path, idp, stored=key_set("old"))
        cached = world.token("old")
        assert await world.ask(cached) is Reason.ALLOWED
        async with world.fetching() as running:
            tokens = [world.token(f"made-up-{number}") for number in range(UNKNOWN)] + [cached] * CACHED
            tokens += [world.token("old", subject=f"user-{number}") for number in range(FRESH)]
            random.Random(1).shuffle(tokens)
            found = await world.ask_all([*tokens, world.token("new")])
            assert found == {Reason.UNKNOWN_KID: UNKNOWN + 1, Reason.ALLOWED: CACHED + FRESH}
            assert world.wanted == UNKNOWN + 1
            assert (idp.holding, running.done()) == (1, False), "all of them have ended, and the fetch has not"
            assert idp.connected == 1, "one fetch, however many kids are made up"
            idp.deaf = False
            idp.release()
            if how != "no handshake":
                await until(lambda: kids(world.slots.keys["corp"].served) == ["old", "new"])
                assert await world.ask(world.token("new")) is Reason.ALLOWED, "what was fetched is in force"
            assert await world.ask(cached) is Reason.ALLOWED
            await world.ask_all(world.token(f"later-{number}") for number in range(100))
            await settle()
            assert idp.connected == 1, "nobody is asked again before the cooldown is over"

    in_loop(test)


def test_72_a_thousand_checks_on_a_cold_cache_are_one_fetch_and_no_wait(tmp_path: Path, idp: Idp) -> None:
    async def test() -> None:
        idp.answers["/keys"] = Said(body=key_set("old"), slow=True)
        world = World(tmp_path, idp, stored=None)
        tokens = [world.token("old", subject=f"user-{number}") for number in range(50)] * 20
        async with world.fetching():
            assert await world.ask_all(tokens) == {Reason.NO_KEYS: 1_000}
            assert await world.ask(world.token("made-up")) is Reason.NO_KEYS
            assert (idp.holding, idp.connected) == (1, 1)
            idp.release()
            await until(lambda: world.slots.keys["corp"].served is not None)
            assert await world.ask_all(tokens) == {Reason.ALLOWED: 1_000}
            assert idp.connected == 1

    in_loop(test)


def test_74_an_hour_without_the_issuer_is_bridged_and_then_nobody_is_known(tmp_path: Path, idp: Idp) -> None:
    async def test() -> None:
        world = World(tmp_path, idp, stored=None)
        await world.keys.fetch()
        world.look()
        cached = world.token("old")
        assert await world.ask(cached) is Reason.ALLOWED
        idp.answers["/keys"] = Said(status=503)
        for _ in range(12):
            world.clock.advance(299)
            await world.keys.fetch()
            world.look()
            found = await world.ask_all([cached, world.token("new"), world.token("made-up")])
            assert found == {Reason.ALLOWED: 2, Reason.UNKNOWN_KID: 1}
            assert world.slots.keys["corp"].problem, "it is said that the keys were not confirmed"
        world.clock.advance(60)
        await world.keys.fetch()
        world.look()
        found = await world.ask_all([cached, world.token("new"), world.token("made-up")])
        assert found == {Reason.NO_KEYS: 3}, "what was verified with keys that are too old is not believed either"
        assert world.slots.keys["corp"].age_seconds(world.clock.monotonic()) > HOUR.total_seconds()
        assert world.wanted == 12
        idp.answers["/keys"] = Said(body=key_set("old"))
        await world.keys.fetch()
        world.look()
        assert await world.ask(cached) is Reason.ALLOWED

    in_loop(test)


def test_74_a_storm_while_nobody_listens_there_is_answered_and_asks_once(
    tmp_path: Path, idp: Idp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        world = World(tmp_path, idp, stored=key_set("old"))
        fetched, fetch = [], world.keys.fetch

        async def counted() -> None:
            await fetch()
            fetched.append(world.slots.keys["corp"])

        monkeypatch.setattr(world.keys, "fetch", counted)
        idp.deaf = True
        async with world.fetching():
            idp.deaf = False
            idp.release()
            await until(lambda: len(fetched) == 1)
            found = await world.ask_all(world.token(f"made-up-{number}") for number in range(UNKNOWN))
            assert found == {Reason.UNKNOWN_KID: UNKNOWN}
            assert await world.ask(world.token("old")) is Reason.ALLOWED
            await settle()
            assert (len(fetched), idp.connected) == (1, 1)

    in_loop(test)
