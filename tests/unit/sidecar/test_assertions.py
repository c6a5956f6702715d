# SPDX-License-Identifier: Apache-2.0
"""Keys that come and go, and what an assertion is made for."""

import asyncio
import base64
import json
import logging
import pickle
from typing import Any

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.keys.assertion import MemoryAssertionKey
from iap_authz.facts.assertion import KEY_SET_MAX_AGE_SECONDS, LIFE_SECONDS
from iap_authz.model.decision import AssertionTerms, Decision
from iap_authz.model.reason import Reason, Verdict
from iap_authz.ports import Answer
from iap_authz.sidecar import assertions as module
from iap_authz.sidecar.assertions import MARGIN_SECONDS, Assertions, AssertionSettings, NoAssertions
from tests.fakes.clock import START, ManualClock

ROTATION_SECONDS = 86_400.0


class World:
    """Assertions under a clock, with every key that was ever made."""

    def __init__(self, audience: str = "orders") -> None:
        self.clock = ManualClock()
        self.keys: list[MemoryAssertionKey] = []
        settings = AssertionSettings(
            issuer="https://iap.example.com", audience=audience, rotation_seconds=ROTATION_SECONDS
        )
        self.assertions = Assertions(settings, make_key=self.make_key, clock=self.clock)

    def make_key(self) -> MemoryAssertionKey:
        self.keys.append(MemoryAssertionKey())
        return self.keys[-1]

    def kids(self) -> list[str]:
        return [key["kid"] for key in json.loads(self.assertions.key_set())["keys"]]

    def mint(self, terms: AssertionTerms | None = None) -> tuple[Any, Any]:
        """Header and claims."""
        return parts(self.assertions.mint(answer(terms or AssertionTerms()), facts_pb2.Facts()))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.assertions.turn()


def parts(assertion: str) -> tuple[Any, Any]:
    texts = assertion.split(".")[:2]
    header, claims = (json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) for text in texts)
    return header, claims


def answer(terms: AssertionTerms | None, verdict: Verdict = Verdict.ALLOW, audit_id: str = "ab" * 32) -> Answer:
    decision = Decision(verdict=verdict, reason=Reason.ALLOWED, route="api", assertion=terms)
    return Answer(decision=decision, audit_id=audit_id)


def test_an_assertion_is_of_this_answer_and_this_second() -> None:
    world = World()
    world.clock.advance(0.75)
    _, claims = world.mint()
    now = int(START.timestamp())
    assert (claims["iat"], claims["exp"]) == (now, now + 60)
    assert (claims["aud"], claims["route"], claims["audit_id"]) == ("orders", "api", "ab" * 32)
    assert {"method", "host", "target_sha256"} <= claims.keys()


def test_the_route_says_for_whom_and_whether_it_is_bound() -> None:
    _, claims = World(audience="").mint(AssertionTerms(audience="billing", request_binding=False))
    assert claims["aud"] == "billing"
    assert claims.keys() & {"method", "host", "target_sha256"} == set()


def test_no_two_are_alike() -> None:
    world = World()
    assert len({world.mint()[1]["jti"] for _ in range(100)}) == 100


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.ALLOW])
def test_nothing_is_asserted_of_a_refusal(verdict: Verdict) -> None:
    with pytest.raises(ValueError, match="want an ALLOW that promises one"):
        World().assertions.mint(answer(AssertionTerms(), verdict), facts_pb2.Facts())


def test_nothing_is_asserted_that_is_not_promised_recorded_or_meant_for_somebody() -> None:
    for wrong in (answer(None), answer(AssertionTerms(), audit_id="")):
        with pytest.raises(ValueError, match="want an ALLOW that promises one"):
            World().assertions.mint(wrong, facts_pb2.Facts())
    with pytest.raises(ValueError, match="got no audience of route api"):
        World(audience="").mint()
    with pytest.raises(RuntimeError, match="got route api with an assertion"):
        NoAssertions().mint(answer(AssertionTerms()), facts_pb2.Facts())


# ---- rotation


def test_the_life_of_a_key() -> None:
    world = World()
    first, second = world.kids()
    assert world.mint()[0]["kid"] == first
    world.pass_time(ROTATION_SECONDS - 1)
    assert (world.kids(), world.mint()[0]["kid"]) == ([first, second], first)
    world.pass_time(1)
    assert world.mint()[0]["kid"] == second
    assert (world.kids()[0], world.kids()[2]) == (second, first)
    third = world.kids()[1]
    world.pass_time(LIFE_SECONDS + MARGIN_SECONDS - 1)
    assert world.kids() == [second, third, first]
    world.pass_time(1)
    assert world.kids() == [second, third]
    assert len({first, second, third}) == 3


def test_whoever_caches_the_set_as_long_as_it_may_always_has_the_key() -> None:
    world = World()
    cached, age = world.kids(), 0
    for _ in range(int(2.5 * ROTATION_SECONDS / 60)):
        world.pass_time(60)
        age += 60
        if age > KEY_SET_MAX_AGE_SECONDS:
            cached, age = world.kids(), 0
        assert world.mint()[0]["kid"] in cached
    assert len(world.keys) == 4


def test_the_last_assertion_of_a_key_is_over_before_its_key_is_gone() -> None:
    world = World()
    world.clock.advance(ROTATION_SECONDS)
    header, claims = world.mint()  # by the old key, right before it is turned
    world.assertions.turn()
    while header["kid"] in world.kids():
        world.pass_time(1)
    assert world.clock.now().timestamp() >= claims["exp"] + MARGIN_SECONDS


def test_a_retired_key_cannot_sign_again() -> None:
    """Its private half is gone with its object: only the list of this test still holds it."""
    world = World()
    world.pass_time(ROTATION_SECONDS)
    held = [key for key in vars(world.assertions).values() if isinstance(getattr(key, "key", None), MemoryAssertionKey)]
    assert [key.key for key in held] == world.keys[1:]


def test_a_key_that_cannot_be_made_leaves_all_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    before = world.kids()
    world.clock.advance(ROTATION_SECONDS)
    monkeypatch.setattr(world.assertions, "_make_key", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.assertions.turn()
    assert (world.kids(), world.mint()[0]["kid"]) == (before, before[0])


def test_it_turns_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        world = World()
        (first, _), turned = world.kids(), asyncio.Event()
        monkeypatch.setattr(module, "TURN_INTERVAL_SECONDS", 0.0)

        def make_key() -> MemoryAssertionKey:
            turned.set()
            return world.make_key()

        monkeypatch.setattr(world.assertions, "_make_key", make_key)
        world.clock.advance(ROTATION_SECONDS)
        running = asyncio.create_task(world.assertions.run())
        await turned.wait()
        await asyncio.sleep(0)
        running.cancel()
        assert world.mint()[0]["kid"] != first

    asyncio.run(test())


# ---- secrecy


def test_keys_are_not_copied_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = World()
    with pytest.raises(TypeError, match="stay in their process"):
        pickle.dumps(world.assertions)
    world.pass_time(ROTATION_SECONDS)
    minted = world.assertions.mint(answer(AssertionTerms()), facts_pb2.Facts())
    (line,) = caplog.records
    assert line.getMessage() == "another key signs assertions"
    private = [format(key._key.private_numbers().private_value, "x") for key in world.keys]  # noqa: SLF001 -- to search for
    told = "".join([str(vars(line)), world.assertions.key_set().decode(), repr(world.assertions), repr(world.keys)])
    assert not any(secret in told for secret in private)
    assert minted not in repr(Answer(decision=answer(None).decision, audit_id="", assertion=minted))
    assert {name for key in json.loads(world.assertions.key_set())["keys"] for name in key} == {
        *("alg", "crv", "kid", "kty", "use", "x", "y")
    }
