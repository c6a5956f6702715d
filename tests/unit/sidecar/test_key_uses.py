# SPDX-License-Identifier: Apache-2.0
"""Uses of API keys: noted without waiting, written now and then, and no failure of the file is anybody's."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.key_use import KeyUses, parse_uses, render_uses
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.model.request import Request
from iap_authz.sidecar.key_uses import WRITE_INTERVAL_SECONDS, KeyUseNotes
from iap_authz.sidecar.snapshot import Snapshot
from tests.fakes.api_keys import KEY, KEY_ID, access, api_key, shows_key
from tests.fakes.clock import START
from tests.fakes.senders import MemoryCheckpoints
from tests.fakes.timers import Timers, until
from tests.fakes.tokens import NOW, bearer, forge, rsa_issuer
from tests.unit.sidecar.test_check import Bench

OTHER_ID = "f" * 16


def machine(key_id: str = KEY_ID, **changes: object) -> facts_pb2.Identity:
    fields = {"state": facts_pb2.PRESENT, "source": "api-key:nightly", "token_id": key_id, **changes}
    return facts_pb2.Identity(**fields)  # type: ignore[arg-type]


class World:
    def __init__(self, before: KeyUses | None = None, *, content: bytes | None = None) -> None:
        self.store = MemoryCheckpoints(content if before is None else render_uses(before))
        self.timers = Timers()
        self.known: frozenset[str] | None = frozenset((KEY_ID, OTHER_ID))
        self.notes = KeyUseNotes(self.store, known=lambda: self.known, clock=self.timers, pause=self.timers.pause)

    @property
    def written(self) -> KeyUses:
        return parse_uses(self.store.notes[-1])


def in_loop(test: Callable[[], object]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_uses_are_written_at_the_start_then_once_an_interval_and_at_the_end() -> None:
    async def test() -> None:
        world = World()
        running = asyncio.create_task(world.notes.run())
        await until(lambda: world.timers.pauses == [WRITE_INTERVAL_SECONDS])
        assert world.written == KeyUses(since=START, used={}), "from now on a key that is missing was not used"
        for _ in range(1_000):
            world.notes.note(machine(), START + timedelta(seconds=3))
        assert len(world.store.notes) == 1, "a check writes nothing"
        world.timers.advance(WRITE_INTERVAL_SECONDS)
        await until(lambda: len(world.timers.pauses) == 2)
        assert world.written.used == {KEY_ID: START + timedelta(seconds=3)}
        world.timers.advance(WRITE_INTERVAL_SECONDS)
        await until(lambda: len(world.timers.pauses) == 3)
        assert len(world.store.notes) == 2, "nothing new, nothing written"
        running.cancel()
        world.notes.note(machine(OTHER_ID), START + timedelta(seconds=70))
        await world.notes.flush()
        assert world.written.used.keys() == {KEY_ID, OTHER_ID}

    in_loop(test)


def test_what_the_file_had_is_merged() -> None:
    async def test() -> None:
        since = START - timedelta(days=300)
        gone, late = "0" * 16, START - timedelta(hours=1)
        world = World(KeyUses(since=since, used={KEY_ID: late, gone: START - timedelta(days=91)}))
        world.notes.note(machine(), START - timedelta(days=2))
        world.notes.note(machine(OTHER_ID), START)
        await world.notes.flush()
        assert world.written == KeyUses(since=since, used={KEY_ID: late, OTHER_ID: START})

    in_loop(test)


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"x" * 100])
def test_a_file_that_cannot_be_read_is_begun_anew_and_said(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        world = World(content=content)
        world.notes.note(machine(), START)
        await world.notes.flush()
        assert world.written == KeyUses(since=START, used={KEY_ID: START})

    in_loop(test)
    assert "begun anew" in caplog.text


def test_a_disk_that_fails_costs_a_line_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        world = World()
        world.store.error = OSError(28, "No space left on device")
        world.notes.note(machine(), START)
        await world.notes.flush()
        world.notes.note(machine(OTHER_ID), START)
        await world.notes.flush()
        world.store.error = None
        await world.notes.flush()
        assert world.written.used == {KEY_ID: START, OTHER_ID: START}

    in_loop(test)
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "said once, and no more"


def test_the_last_write_waits_for_one_that_was_cut_off() -> None:
    async def test() -> None:
        world = World()
        world.store.gate = threading.Event()
        world.notes.note(machine(), START)
        cut = asyncio.create_task(world.notes.flush())
        await until(world.store.entered.is_set)
        cut.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut
        world.notes.note(machine(OTHER_ID), START)
        last = asyncio.create_task(world.notes.flush())
        await asyncio.sleep(0)
        assert world.store.notes == []
        world.store.gate.set()
        await last
        assert len(world.store.notes) == 2
        assert world.written.used == {KEY_ID: START, OTHER_ID: START}

    in_loop(test)


@pytest.mark.parametrize(
    "identity",
    [
        machine(state=facts_pb2.INVALID),
        machine(state=facts_pb2.ERROR),
        facts_pb2.Identity(),
        machine(source="jwt:api-key:nightly"),
        machine(source="mtls"),
    ],
    ids=["invalid", "error", "nobody", "a token", "a workload"],
)
def test_only_an_accepted_api_key_is_noted(identity: facts_pb2.Identity) -> None:
    async def test() -> None:
        world = World()
        world.notes.note(identity, START)
        await world.notes.flush()
        assert world.written.used == {}

    in_loop(test)


def test_a_snapshot_tells_of_a_good_key_cached_or_not_and_of_no_revoked_one() -> None:
    async def test() -> None:
        told: list[tuple[str, datetime]] = []

        def note_use(identity: facts_pb2.Identity, now: datetime) -> None:
            if identity.state == facts_pb2.PRESENT:
                told.append((identity.token_id, now))

        taken: Snapshot = replace(
            Bench().snapshot_in_force, issuers=(rsa_issuer(),), api_keys=access(api_key()), note_use=note_use
        )
        asked: list[Request] = [shows_key(KEY), shows_key(KEY), shows_key(KEY[:-1] + "0"), shows_key(KEY, KEY)]
        for request in asked:
            taken.establish(request, NOW)
        assert told == [(KEY_ID, NOW)] * 2
        taken.establish(bearer(forge()), NOW)
        revoked = RevocationList(entries=(Revocation(kind=Kind.API_KEY, value=KEY_ID),))
        replace(taken, revocations=revoked).establish(shows_key(KEY), NOW)
        replace(taken, revocations=None).establish(shows_key(KEY), NOW)
        assert [key_id for key_id, _ in told] == [KEY_ID, KEY_ID, ""], "the last one is a token, which notes refuse"

    in_loop(test)
