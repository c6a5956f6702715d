# SPDX-License-Identifier: Apache-2.0
"""Legal holds: what they keep, who ends them, and what a crash leaves."""

import asyncio
from contextlib import suppress

import pytest
from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Malformed, NotFound, QueueFull, Refused, SourceUnavailable
from iap_authz.ports import Caller, ErasureRound, ErasureRow, HoldRow, Stage
from iap_authz.records.hold_scope import hold_info, parse_scope
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.trail.resealing import Resealing
from tests.fakes.erasing import OFFICER, SECOND, Death, Died, Kept, LogWithVault, in_loop
from tests.fakes.erasure_stores import MemoryErasures, MemoryHolds
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import SealingWriter
from tests.fakes.timers import until

ALICE, BOB = "alice@example.com", "bob@example.com"
OPENED, ERASED = log_pb2.Unsealed.OPENED, log_pb2.Unsealed.ERASED
OF_ALICE = log_pb2.SearchRecordsRequest(subject=ALICE)


def log_of(*, dual_control: bool = False) -> tuple[LogWithVault, SealingWriter]:
    log = LogWithVault(Kept.memory(), dual_control=dual_control)
    writer = SealingWriter(vault=log.kept.vault)
    writer.add()
    writer.add_sealed(ALICE)
    writer.add_sealed(BOB)
    log.ship(writer)
    return log, writer


async def place(log: LogWithVault, scope: log_pb2.SearchRecordsRequest = OF_ALICE) -> bytes:
    request = log_pb2.PlaceLegalHoldRequest(scope=scope, authority="court of X", matter="12 O 34/26")
    return (await log.holds.place_hold(request, OFFICER)).hold


async def release(
    log: LogWithVault, hold: bytes, *, caller: Caller = OFFICER, authority: str = "court of X"
) -> log_pb2.ReleaseLegalHoldResponse:
    return await log.holds.release_hold(log_pb2.ReleaseLegalHoldRequest(hold=hold, authority=authority), caller)


async def held(log: LogWithVault) -> list[bytes]:
    return [one.hold for one in (await log.holds.list_holds(log_pb2.ListLegalHoldsRequest(), OFFICER)).holds]


async def erase(log: LogWithVault, subject: str = ALICE) -> log_pb2.ErasureState:
    erasure = await log.ask(subject)
    await log.step()
    return await log.state(erasure)


@pytest.mark.parametrize(
    "scope",
    [
        OF_ALICE,
        log_pb2.SearchRecordsRequest(country="DE"),
        log_pb2.SearchRecordsRequest(bodies=["decision"]),
        log_pb2.SearchRecordsRequest(subject=ALICE, route="orders"),
    ],
    ids=["subject", "country", "body", "both"],
)
@in_loop
async def test_a_hold_blocks_an_erasure_until_it_is_released(scope: log_pb2.SearchRecordsRequest) -> None:
    log, _ = log_of()
    hold = await place(log, scope)
    state = await erase(log)
    assert (state.stage, list(state.holds)) == (Stage.HELD, [hold])
    assert (log.outcome(1), log.kept.epochs, log.own("erasure")) == (OPENED, [0], [])
    answer = await release(log, hold)
    assert not answer.needs_approval
    assert await held(log) == []
    assert (await erase(log)).stage == Stage.ERASED
    placed, released = (one.legal_hold for one in log.own("legal_hold"))
    assert (placed.hold, placed.released, list(placed.approvers)) == (hold, False, [OFFICER.name])
    assert (released.hold, released.released, released.matter) == (hold, True, "12 O 34/26")


@in_loop
async def test_a_hold_on_somebody_else_keeps_nothing_of_this_one() -> None:
    log, _ = log_of()
    await place(log)
    assert (await erase(log, BOB)).stage == Stage.ERASED
    assert (await erase(log, ALICE)).stage == Stage.HELD


@in_loop
async def test_a_dry_run_says_what_holds() -> None:
    log, _ = log_of()
    hold = await place(log)
    erasure = await log.ask(dry_run=True)
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, list(state.holds)) == (Stage.COUNTED, [hold])


@in_loop
async def test_a_hold_that_comes_while_it_is_counted_is_not_passed_by() -> None:
    log, _ = log_of()
    raise_epoch, placed = log.course._raise_epoch, list[bytes]()  # noqa: SLF001 -- a moment that is hard to meet

    async def raised() -> int:
        if not placed:
            placed.append(await place(log))
        return await raise_epoch()

    log.course._raise_epoch = raised  # noqa: SLF001
    state = await erase(log)
    assert (state.stage, list(state.holds), log.outcome(1)) == (Stage.HELD, placed, OPENED)


@in_loop
async def test_a_hold_keeps_what_comes_late() -> None:
    log, writer = log_of()
    writer.adopt(0)
    writer.add_sealed(ALICE)
    erasure = await log.ask()
    await log.step()
    hold = await place(log)
    (late,) = log.ship(writer)
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, list(state.holds), "legal hold" in state.problem) == (Stage.ERASED, [hold], True)
    assert log.outcome(late) == OPENED
    await release(log, hold)
    await log.step()
    assert log.outcome(late) == ERASED


@in_loop
async def test_dual_control_of_a_release() -> None:
    log, _ = log_of(dual_control=True)
    hold = await place(log)
    assert (await release(log, hold)).needs_approval
    assert (await release(log, hold)).needs_approval, "the same officer twice is one officer"
    with pytest.raises(Refused):
        await release(log, hold, caller=SECOND, authority="somebody else")
    listed = await log.holds.list_holds(log_pb2.ListLegalHoldsRequest(), OFFICER)
    assert [one.release_asked for one in listed.holds] == [True]
    answer = await release(log, hold, caller=SECOND)
    assert not answer.needs_approval
    released = log.own("legal_hold")[-1]
    assert (released.sequence, list(released.legal_hold.approvers)) == (answer.index, [OFFICER.name, SECOND.name])
    with pytest.raises(NotFound):
        await release(log, hold)


@in_loop
async def test_a_scope_is_sealed_padded_and_in_the_end_gone() -> None:
    log, _ = log_of()
    store = log.kept.holds
    assert isinstance(store, MemoryHolds)
    short = await place(log, log_pb2.SearchRecordsRequest(subject="a"))
    long = await place(log, log_pb2.SearchRecordsRequest(subject="a" * 900))
    rows = store.rows[short], store.rows[long]
    assert len(rows[0].scope) == len(rows[1].scope)
    assert b"aaaa" not in rows[1].scope
    await release(log, long)
    assert set(store.rows[long].scope) == {0}


@in_loop
async def test_a_scope_that_does_not_open_keeps_everything() -> None:
    log, _ = log_of()
    store = log.kept.holds
    assert isinstance(store, MemoryHolds)
    hold = await place(log, log_pb2.SearchRecordsRequest(subject="nobody at all"))
    store.reseal_holds({hold: bytes(len(store.rows[hold].scope))}, epoch=1)
    assert (await erase(log)).stage == Stage.HELD


@in_loop
async def test_a_vault_that_does_not_answer_erases_nothing() -> None:
    log, _ = log_of()
    await place(log)
    log.kept.vault.down = True
    with pytest.raises(SourceUnavailable):
        await log.holds.scopes()
    state = await erase(log, BOB)
    assert (state.stage, log.kept.epochs) == (Stage.FAILED, [0])


@pytest.mark.parametrize(
    "request_",
    [
        log_pb2.PlaceLegalHoldRequest(authority="a", matter="m"),
        log_pb2.PlaceLegalHoldRequest(scope=OF_ALICE, matter="m"),
        log_pb2.PlaceLegalHoldRequest(scope=OF_ALICE, authority="a"),
        log_pb2.PlaceLegalHoldRequest(scope=OF_ALICE, authority="a", matter="two\nlines"),
        log_pb2.PlaceLegalHoldRequest(scope=OF_ALICE, authority="a", matter=f"state v. {ALICE}"),
        log_pb2.PlaceLegalHoldRequest(scope=OF_ALICE, authority=f"the case of {ALICE.upper()}", matter="m"),
        log_pb2.PlaceLegalHoldRequest(
            scope=log_pb2.SearchRecordsRequest(subject=ALICE, page_size=3), authority="a", matter="m"
        ),
        log_pb2.PlaceLegalHoldRequest(
            scope=log_pb2.SearchRecordsRequest(bodies=["nothing"]), authority="a", matter="m"
        ),
        log_pb2.PlaceLegalHoldRequest(
            scope=log_pb2.SearchRecordsRequest(address_or_network="10.0.0.0/3"), authority="a", matter="m"
        ),
    ],
    ids=["no scope", "no authority", "no matter", "lines", "a name", "a name too", "page", "body", "network"],
)
@in_loop
async def test_holds_on_nothing_are_malformed(request_: log_pb2.PlaceLegalHoldRequest) -> None:
    log, _ = log_of()
    with pytest.raises(Malformed):
        await log.holds.place_hold(request_, OFFICER)
    assert await held(log) == []


@in_loop
async def test_a_death_at_each_call_of_placing_and_releasing() -> None:
    async def life(kept: Kept, death: Death) -> None:
        log = LogWithVault(kept, death=death)
        await log.holds.resume()
        if not kept.holds.holds() and not log.own("legal_hold"):
            await place(log)
        for hold in await held(log):
            await release(log, hold)

    counting = Death()
    await life(log_of()[0].kept, counting)
    for at in range(len(counting.calls)):
        for after in (False, True):
            kept = log_of()[0].kept
            with suppress(Died):
                await life(kept, Death(at=at, after=after))
            for _ in range(2):
                await life(kept, Death())
            bodies = [one.legal_hold for one in LogWithVault(kept).own("legal_hold")]
            assert [body.released for body in bodies] == [False, True], counting.calls[at]
            assert bodies[0].hold == bodies[1].hold
            assert kept.holds.holds() == []


@in_loop
async def test_a_hold_is_in_force_before_its_record_and_after_a_crash() -> None:
    log, _ = log_of()
    dying = LogWithVault(log.kept, death=Death(at=1))
    with pytest.raises(Died):
        await place(dying)  # stored, not recorded
    assert (await erase(LogWithVault(log.kept))).stage == Stage.HELD
    await LogWithVault(log.kept).holds.resume()
    assert len(log.own("legal_hold")) == 1


@in_loop
async def test_a_record_that_found_no_room_is_made_up_for() -> None:
    log, _ = log_of()
    append, refused = log.holds._append_own, list[str]()  # noqa: SLF001 -- the log that has no room, once

    async def full(body: Message, personal: Message | None) -> LeafIndex:
        if not refused:
            refused.append("once")
            raise QueueFull("too much is waiting", 1.0)
        return await append(body, personal)

    log.holds._append_own = full  # noqa: SLF001
    with pytest.raises(QueueFull):
        await place(log)
    assert (await erase(log)).stage == Stage.HELD
    task = asyncio.ensure_future(log.holds.run())
    await until(lambda: len(log.own("legal_hold")) == 1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await held(log) == [log.own("legal_hold")[0].legal_hold.hold]


@in_loop
async def test_scopes_are_sealed_anew_for_a_new_vault_key() -> None:
    log, _ = log_of()
    store, vault = log.kept.holds, log.kept.vault
    assert isinstance(store, MemoryHolds)
    hold = await place(log)
    vault.add(2)
    resealing = Resealing(log.reader, companions=log.kept.companions, holds=store, vault=vault)
    await resealing.reseal_all()
    vault.drop(1)
    row = store.rows[hold]
    opened = vault.open(row.scope, epoch=row.vault_epoch, info=hold_info(ORIGIN, hold))
    assert (row.vault_epoch, parse_scope(opened)) == (2, OF_ALICE)
    assert (await erase(log)).stage == Stage.HELD


@in_loop
async def test_a_hold_that_is_stored_after_the_round_comes_after_it() -> None:
    """The round is stored in the thread's order: whichever was asked for first."""
    log, _ = log_of()
    store = log.kept.erasures
    assert isinstance(store, MemoryErasures)
    begin, placing = store.begin_round, list[asyncio.Task[bytes]]()

    def begun(row: ErasureRow, begun: ErasureRound, *, plan: list[LeafIndex]) -> None:
        placing.append(asyncio.ensure_future(place(log)))
        begin(row, begun, plan=plan)

    store.begin_round = begun  # type: ignore[method-assign, assignment]
    state = await erase(log)
    await placing[0]
    assert (state.stage, log.outcome(1)) == (Stage.ERASED, ERASED)


@in_loop
async def test_the_version_grows_before_a_hold_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = log_of()
    store, seen = log.kept.holds, list[int]()
    put = store.put_hold

    def stored(row: HoldRow) -> None:
        seen.append(log.holds.version)
        put(row)

    monkeypatch.setattr(store, "put_hold", stored)
    before = log.holds.version
    await place(log)
    assert seen[0] > before
