# SPDX-License-Identifier: Apache-2.0
"""The process dies at each call that changes something, before or after its effect; the next one goes on.

After every death: nothing is destroyed that no Erasure record in the log names. After every life that follows: each
Erasure record stands there once, the subject is forgotten whole, and everybody else can be opened.
"""

import itertools
from contextlib import suppress

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import IapError
from iap_authz.ports import NO_ERASURE, Stage
from iap_authz.tlog.hashing import LeafIndex
from tests.fakes.erasing import OFFICER, Death, Died, Kept, LogWithVault, declares, in_loop
from tests.fakes.sealed import SealingWriter

ALICE, BOB = "alice@example.com", "bob@example.com"
LIVES_MAX = 400
"""Far more than there are calls; a test that gets there has gone round in circles."""


def make() -> tuple[Kept, SealingWriter, list[int], list[int]]:
    """A log with records of Alice in it, and others of hers that her writer has not shipped yet."""
    kept = Kept.memory()
    log, writer = LogWithVault(kept), SealingWriter(vault=kept.vault)
    writer.add()
    for number in range(10):
        writer.add_sealed(ALICE if number % 2 else BOB)
    shipped = list(log.ship(writer, only=8))
    return kept, writer, shipped[1::2], shipped[2::2]


async def whole_life(kept: Kept, writer: SealingWriter, death: Death, asked: list[bytes]) -> None:
    """One process, from its start to its death, or until the erasure is complete."""
    log = LogWithVault(kept, death=death)
    await log.erasures.resume()
    if not asked:
        asked.append(await log.ask())
    await log.step()
    if kept.epochs[-1] and kept.shipped[writer.writer] < len(writer.leaves):
        quiet = LogWithVault(kept)
        quiet.ship(writer)  # late ones
        writer.add(declares(kept.epochs[-1]))
        quiet.ship(writer)
    for _ in range(6):
        await log.step()


def check_nothing_unnamed(kept: Kept) -> None:
    log = LogWithVault(kept)
    named = {one.erasure.erasure for one in log.own("erasure")}
    rows = kept.companions.find([LeafIndex(at) for at in range(len(kept.leaves.leaves))])
    assert {row.erasure for row in rows.values()} <= named | {NO_ERASURE}


async def check_forgotten(kept: Kept, writer: SealingWriter, erasure: bytes) -> None:
    log = LogWithVault(kept)
    bodies = [one.erasure for one in log.own("erasure") if one.erasure.erasure == erasure]
    roots = [body.leaves_root for body in bodies]
    assert len(roots) == len(set(roots)), "each Erasure record stands there once"
    state = await log.state(erasure)
    assert (state.stage, state.records) == (Stage.COMPLETE, sum(body.records for body in bodies))
    assert state.records == 5
    own = {at: leaf for at, leaf in enumerate(kept.leaves.leaves) if leaf in writer.leaves}
    for at, leaf in own.items():
        number = writer.leaves.index(leaf)
        if not 1 <= number <= 10:
            continue
        erased = number % 2 == 0  # after record 0, Bob's are odd
        want = log_pb2.Unsealed.ERASED if erased else log_pb2.Unsealed.OPENED
        assert log.outcome(at) == want, f"record {number}"
        if erased:
            assert await log.covers(at)
    listed = await log.erasures.list_erasures(log_pb2.ListErasuresRequest(), OFFICER)
    assert list(listed.erasures) == []


async def calls_of_one_life() -> list[str]:
    kept, writer, _, _ = make()
    death, asked = Death(), list[bytes]()
    await whole_life(kept, writer, death, asked)
    await check_forgotten(kept, writer, asked[0])
    return death.calls


@in_loop
async def test_without_a_death() -> None:
    calls = await calls_of_one_life()
    assert calls.count("append Erasure") == 2
    assert {"raise_epoch", "begin_round", "set_index", "destroy_next", "forget", "finish_round", "end"} <= set(calls)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@in_loop
async def test_a_death_at_each_call(after: bool) -> None:  # noqa: FBT001 -- of the table
    calls = await calls_of_one_life()
    for at in range(len(calls)):
        kept, writer, _, _ = make()
        asked = list[bytes]()
        with suppress(Died):
            await whole_life(kept, writer, Death(at=at, after=after), asked)
        check_nothing_unnamed(kept)
        if not asked:  # the caller was not answered; what was stored of it goes on all the same
            asked = [row.erasure for row in kept.erasures.unfinished()]
        await whole_life(kept, writer, Death(), asked)
        await check_forgotten(kept, writer, asked[0])


@in_loop
async def test_a_death_at_every_nth_call_of_each_life() -> None:
    """Lives so short that each gets a few calls further than the last."""
    for length, after in itertools.product((4, 5, 7), (False, True)):
        kept, writer, _, _ = make()
        asked = list[bytes]()
        for _ in range(LIVES_MAX):
            death = Death(at=length - 1, after=after)
            with suppress(Died):
                await whole_life(kept, writer, death, asked)
            asked = asked or [row.erasure for row in kept.erasures.unfinished()]
            check_nothing_unnamed(kept)
            if not death.dead:
                break
        else:
            # A count that never fits into one life: the last one is allowed to be long.
            await whole_life(kept, writer, Death(), asked)
        await check_forgotten(kept, writer, asked[0])


@in_loop
async def test_what_can_be_mended_is_tried_again_in_the_same_life() -> None:
    kept, writer, _, _ = make()
    log, tries = LogWithVault(kept), list[str]()
    whole = log.course._rounds._append_own  # noqa: SLF001 -- the log that has no room, once

    async def full(body: object, personal: object) -> LeafIndex:
        tries.append(type(body).__name__)
        if len(tries) == 1:
            raise IapError("the queue is full")
        return await whole(body, personal)

    log.course._rounds._append_own = full  # noqa: SLF001
    erasure = await log.ask()
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.problem) == (Stage.ERASING, "the queue is full")
    await log.step()
    assert (await log.state(erasure)).stage == Stage.ERASED
    assert (tries, len(log.own("erasure"))) == (["Erasure", "Erasure"], 1)
    del writer
