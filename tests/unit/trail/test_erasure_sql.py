# SPDX-License-Identifier: Apache-2.0
"""A person is forgotten in a real database: every part of it but the log itself, and its files byte by byte."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.trail.companions import SqlCompanions
from iap_authz.adapters.trail.erasures import SqlErasures
from iap_authz.adapters.trail.index import SqlIndex
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.legal_holds import SqlHolds
from iap_authz.adapters.trail.store import open_trail
from iap_authz.ports import Stage
from iap_authz.records.seal import parse_beside
from tests.fakes.erasing import TOKEN_KEY, Death, Died, Kept, LogWithVault, declares, in_loop
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import SealingWriter
from tests.fakes.trail import FakeLeaves

ALICE, BOB = "alice@example.com", "bob@example.com"
OPENED, ERASED = log_pb2.Unsealed.OPENED, log_pb2.Unsealed.ERASED


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_trail(tmp_path / "trail.sqlite")
    yield made
    made.dispose()


def kept_in(engine: Engine) -> Kept:
    return Kept(
        leaves=FakeLeaves(),
        index=SqlIndex(engine),
        ledger=SqlLedger(engine, origin=ORIGIN),
        companions=SqlCompanions(engine),
        erasures=SqlErasures(engine),
        holds=SqlHolds(engine),
    )


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def make(engine: Engine, count: int = 42) -> tuple[Kept, SealingWriter, dict[str, list[int]]]:
    """A log in which Alice has the odd leaves and Bob the even ones.

    Not shipped yet are the last five records of the writer: two with keys that the log knows, three with others.
    """
    kept = kept_in(engine)
    log, writer = LogWithVault(kept), SealingWriter(vault=kept.vault)
    writer.add()
    for number in range(1, count + 1):
        if number == count - 2:
            writer.adopt(0)  # their keys change for another reason, such as their age
        writer.add_sealed(ALICE if number % 2 else BOB)
    shipped = count + 1 - 5
    log.ship(writer, only=shipped // 2)
    log.ship(writer, only=shipped - shipped // 2)
    places = [at + (at >= shipped // 2) for at in range(shipped)]  # behind the first batch is the registration
    return kept, writer, {ALICE: places[1::2], BOB: places[2::2]}


def sealed_keys(writer: SealingWriter, subject: str) -> set[bytes]:
    """The sealed keys of a subject, as they travelled."""
    found = set[bytes]()
    for number, beside in writer.besides.items():
        if (number % 2 == 1) == (subject == ALICE):
            found.add(parse_beside(beside).sealed_subject_key)
    return found


@in_loop
async def test_nothing_of_a_person_can_be_opened_or_found_and_nothing_of_others_is_lost(
    engine: Engine, tmp_path: Path
) -> None:
    kept, writer, places = make(engine)
    log = LogWithVault(kept)
    before = written(tmp_path)
    assert {key in before for key in sealed_keys(writer, ALICE)} == {True, False}  # one has not come yet
    erasure = await log.ask()
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records) == (Stage.ERASED, len(places[ALICE]))
    late = list(log.ship(writer))  # from Bob to Bob
    await log.step()
    writer.add(declares(kept.epochs[-1]))
    log.ship(writer)
    await log.step()
    done = await log.state(erasure)
    assert (done.stage, done.records) == (Stage.COMPLETE, 21)
    assert {log.outcome(at) for at in (*places[ALICE], *late[1::2])} == {ERASED}
    assert {log.outcome(at) for at in (*places[BOB], *late[0::2])} == {OPENED}
    for at in (*places[ALICE], *late[1::2]):
        assert await log.covers(at)
    after = written(tmp_path)
    assert {key in after for key in sealed_keys(writer, ALICE)} == {False}
    assert {key in after for key in sealed_keys(writer, BOB)} == {True}
    for subject, count in ((ALICE, 0), (BOB, 21)):
        token = TOKEN_KEY.token(b"subject", subject.encode())
        hits = kept.index.search(log_pb2.SearchRecordsRequest(), tokens=[{token}], after=None, limit=99)
        assert len(hits) == count


@in_loop
async def test_a_database_that_is_opened_again_goes_on(engine: Engine, tmp_path: Path) -> None:
    counting = Death()
    kept, _, _ = make(engine, 12)
    log = LogWithVault(kept, death=counting)
    await log.ask()
    await log.step()
    for at in range(0, len(counting.calls), 2):
        folder = tmp_path / f"life-{at}"
        folder.mkdir()
        first = open_trail(folder / "trail.sqlite")
        kept, writer, places = make(first, 12)
        dying = LogWithVault(kept, death=Death(at=at, after=bool(at % 4)))
        with suppress(Died):
            await dying.ask()
            await dying.step()
        first.dispose()
        second = open_trail(folder / "trail.sqlite")
        again = kept_in(second)
        again.leaves, again.vault, again.clock = kept.leaves, kept.vault, kept.clock
        again.epochs, again.shipped, again.writers = kept.epochs, kept.shipped, kept.writers
        log = LogWithVault(again)
        await log.erasures.resume()
        asked = log.kept.erasures.unfinished()
        if not asked:
            assert {log.outcome(one) for one in places[ALICE]} == {OPENED}
            await log.ask()
        await log.step()
        assert {log.outcome(one) for one in places[ALICE]} == {ERASED}
        assert {log.outcome(one) for one in places[BOB]} == {OPENED}
        assert len(log.own("erasure")) == 1
        assert (
            sealed_keys(writer, ALICE) & {key for key in sealed_keys(writer, ALICE) if key in written(folder)} == set()
        )
        second.dispose()
