# SPDX-License-Identifier: Apache-2.0
"""`IssuerKeys`: fetched in the background, one at a time, kept and aged when the issuer is away (rows 71 to 75)."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

import pytest

from iap_authz.errors import SourceUnavailable
from iap_authz.facts.keyset import KeySet
from iap_authz.ports import Fetched
from iap_authz.sidecar import issuer_keys
from iap_authz.sidecar.issuer_keys import COOLDOWN_SECONDS, JITTER, IssuerKeys, KeyPlace
from iap_authz.sidecar.refresh import Slot
from tests.fakes.clock import ManualClock
from tests.fakes.senders import MemoryCheckpoints
from tests.fakes.timers import until
from tests.fakes.tokens import jwk, rsa_key

ISSUER = "https://login.example.com"
URL, DISCOVERY = "https://keys.example.com/jwks", f"{ISSUER}/.well-known/openid-configuration"
HOUR = timedelta(hours=1)


def key_set(*kids: str) -> bytes:
    return json.dumps({"keys": [jwk(rsa_key("one"), kid=kid) for kid in kids]}).encode()


class Endpoint:
    """Answers from `said`; an exception there is raised. Asserts that one fetch is under way at a time."""

    def __init__(self, **said: bytes | Exception) -> None:
        self.said: dict[str, bytes | Exception] = {URL: said.get("keys", key_set("a"))}
        self.asked: list[tuple[str, str]] = []
        self.busy = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, url: str, *, etag: str = "") -> Fetched | None:
        assert not self.busy, "one at a time"
        self.busy = True
        self.asked.append((url, etag))
        await self.gate.wait()
        self.busy = False
        found = self.said.get(url, SourceUnavailable(f"got status 404 from {url}"))
        if isinstance(found, Exception):
            raise found
        name = f'"{sha256(found).hexdigest()}"'
        return None if name == etag else Fetched(content=found, etag=name)


class World:
    def __init__(self, *, url: str = URL, store: MemoryCheckpoints | None = None, **said: bytes | Exception) -> None:
        self.endpoint, self.clock, self.store = Endpoint(**said), ManualClock(), store or MemoryCheckpoints()
        self.place = KeyPlace(name="corp", issuer=ISSUER, jwks_url=url, interval=timedelta(minutes=5), max_stale=HOUR)
        self.keys = self.again()

    def again(self) -> IssuerKeys:
        """The next process."""
        return IssuerKeys(self.place, endpoint=self.endpoint, store=self.store, clock=self.clock, chance=lambda: 0.5)

    def slot(self) -> Slot[KeySet]:
        return Slot(self.keys, max_stale_seconds=HOUR.total_seconds(), confirmed_at=self.keys.confirmed_at)


def kids(keys: KeySet | None) -> list[str | None]:
    return [key.kid for key in keys.keys] if keys is not None else []


def in_loop(test: Callable[[], object]) -> None:
    async def run() -> None:
        await test()  # type: ignore[misc]

    asyncio.run(run())


def test_what_is_published_is_what_is_loaded() -> None:
    async def test() -> None:
        world = World()
        with pytest.raises(SourceUnavailable, match="no keys of the issuer corp"):
            world.keys.load()
        await world.keys.fetch()
        assert (kids(world.keys.load()), world.keys.version()) == (["a"], 1)
        await world.keys.fetch()
        assert world.keys.version() == 1, "nothing has changed"
        assert world.endpoint.asked[1][1], "the second time it is asked whether it has changed"
        world.endpoint.said[URL] = key_set("a", "b")
        await world.keys.fetch()
        assert (kids(world.keys.load()), world.keys.version()) == (["a", "b"], 2)

    in_loop(test)


def test_a_discovery_document_is_followed() -> None:
    async def test() -> None:
        world = World(url="")
        world.endpoint.said[DISCOVERY] = json.dumps({"issuer": ISSUER, "jwks_uri": URL}).encode()
        await world.keys.fetch()
        assert kids(world.keys.load()) == ["a"]
        other = "https://keys.example.com/moved"
        world.endpoint.said |= {
            DISCOVERY: json.dumps({"issuer": ISSUER, "jwks_uri": other}).encode(),
            other: key_set("moved"),
        }
        await world.keys.fetch()
        assert kids(world.keys.load()) == ["moved"]
        world.endpoint.said[DISCOVERY] = json.dumps({"issuer": "https://evil.example", "jwks_uri": URL}).encode()
        await world.keys.fetch()
        assert kids(world.keys.load()) == ["moved"]
        with pytest.raises(SourceUnavailable, match="byte for byte"):
            world.keys.version()

    in_loop(test)


@pytest.mark.parametrize(
    "bad", [SourceUnavailable("down"), b"<html>", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": ""}]}', b"{}"]
)
def test_74_the_last_good_set_stays_and_ages(bad: bytes | Exception) -> None:
    async def test() -> None:
        world = World()
        await world.keys.fetch()
        slot = world.slot()
        slot.load(world.clock.monotonic())
        world.endpoint.said[URL] = bad
        for minutes, served in ((59, True), (2, False)):
            world.clock.advance(minutes * 60)
            await world.keys.fetch()
            slot.refresh(world.clock.monotonic())
            assert (slot.served is not None) == served
            assert slot.problem
        world.endpoint.said[URL] = key_set("b")
        await world.keys.fetch()
        slot.refresh(world.clock.monotonic())
        assert (kids(slot.served), slot.problem) == (["b"], "")

    in_loop(test)


def test_75_a_start_without_the_issuer_has_the_keys_of_before_for_as_long_as_they_would_have_counted() -> None:
    async def test() -> None:
        world = World()
        await world.keys.fetch()
        world.endpoint.said[URL] = SourceUnavailable("down")
        world.clock.advance(50 * 60)
        world.keys = world.again()
        slot = world.slot()
        slot.load(world.clock.monotonic())
        assert kids(slot.served) == ["a"]
        world.clock.advance(11 * 60)
        await world.keys.fetch()
        slot.refresh(world.clock.monotonic())
        assert slot.served is None, "confirmed an hour ago, whatever has started since"
        world.keys = world.again()
        with pytest.raises(SourceUnavailable):
            world.slot().load(world.clock.monotonic())

    in_loop(test)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"x",
        b"12",
        b"-5\n{}",
        b"1700000000\n<html>",
        b"9" * 15 + b'\n{"keys": []}',
        b"99999999999\n" + key_set("a"),
    ],
)
def test_what_is_stored_and_is_no_good_set_of_the_past_is_not_used(stored: bytes) -> None:
    async def test() -> None:
        world = World(store=MemoryCheckpoints(stored))
        with pytest.raises(SourceUnavailable):
            world.keys.load()
        await world.keys.fetch()
        assert kids(world.keys.load()) == ["a"]

    in_loop(test)


def test_a_store_that_fails_costs_the_copy_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        world = World()

        def full(_: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(world.store, "store", full)
        await world.keys.fetch()
        assert kids(world.keys.load()) == ["a"]

    in_loop(test)


def test_waits_are_shortened_by_chance_and_lengthen_with_failures() -> None:
    async def test() -> None:
        world = World()
        assert world.keys.next_delay() == 300 * (1 - JITTER / 2)
        world.endpoint.said[URL] = SourceUnavailable("down")
        waits = []
        for _ in range(12):
            await world.keys.fetch()
            waits.append(world.keys.next_delay() / (1 - JITTER / 2))
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]

    in_loop(test)


def test_an_issuer_that_hangs_is_left_alone_between_two_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        world = World()
        await world.keys.fetch()
        assert world.keys.due() == world.clock.monotonic() + world.keys.next_delay()

        async def hang(_url: str, *, etag: str = "") -> Fetched | None:
            world.clock.advance(10)
            raise SourceUnavailable(f"got no answer in time {etag}")

        monkeypatch.setattr(world.endpoint, "fetch", hang)
        for _ in range(3):
            await world.keys.fetch()
            assert world.keys.due() == world.clock.monotonic() + world.keys.next_delay()

    in_loop(test)


def test_71_a_storm_of_unknown_kids_asks_once_in_a_cooldown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        assert COOLDOWN_SECONDS >= 10
        monkeypatch.setattr(issuer_keys, "COOLDOWN_SECONDS", 0.05)
        world, changes = World(), []
        world.endpoint.gate.clear()
        running = asyncio.create_task(world.keys.run(lambda: changes.append(1)))
        await until(lambda: len(world.endpoint.asked) == 1)
        for _ in range(1_000):
            world.keys.want()
        await asyncio.sleep(0)
        assert len(world.endpoint.asked) == 1, "one fetch at a time"
        world.endpoint.gate.set()
        world.endpoint.said[URL] = key_set("a", "b")
        world.keys.want()
        await until(lambda: kids(world.keys.load()) == ["a", "b"] if changes else False)
        asked = len(world.endpoint.asked)
        assert asked <= 3
        await until(lambda: not world.endpoint.busy)
        running.cancel()

    in_loop(test)


def test_an_unknown_kid_is_fetched_without_waiting_for_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(issuer_keys, "COOLDOWN_SECONDS", 0.0)
        world, changes = World(), []
        running = asyncio.create_task(world.keys.run(lambda: changes.append(1)))
        await until(lambda: len(changes) == 1)
        world.endpoint.said[URL] = key_set("new")
        world.keys.want()
        await until(lambda: len(changes) == 2)
        assert kids(world.keys.load()) == ["new"]
        running.cancel()

    in_loop(test)


def test_the_issuer_going_and_coming_back_is_a_change() -> None:
    async def test() -> None:
        world = World()
        await world.keys.fetch()
        world.endpoint.said[URL] = SourceUnavailable("down")
        await world.keys.fetch()
        with pytest.raises(SourceUnavailable, match="down"):
            world.keys.version()
        assert kids(world.keys.load()) == ["a"]
        world.endpoint.said[URL] = key_set("a")
        await world.keys.fetch()
        assert world.keys.version() == 1

    in_loop(test)
