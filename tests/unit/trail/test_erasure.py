# SPDX-License-Identifier: Apache-2.0
"""Erasures from the request to the last late record: what goes, what stays, and who may say so."""

import asyncio
import contextlib

import pytest
from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Conflict, LogFrozen, Malformed, NotFound, QueueFull, Refused, Unavailable
from iap_authz.model.roles import Role
from iap_authz.ports import Stage
from iap_authz.records.erasure import leaves_root
from iap_authz.records.record import parse_record
from iap_authz.records.seal import new_seal
from iap_authz.records.tokens import TokenKey
from iap_authz.tlog.hashing import LeafIndex, leaf_hash
from iap_authz.trail.erasure import APPROVAL_MAX, PUT_BACK
from tests.fakes.erasing import OFFICER, SECOND, Kept, LogWithVault, declares, in_loop
from tests.fakes.erasure_stores import MemoryErasures
from tests.fakes.journal import ORIGIN
from tests.fakes.sealed import SealingWriter, facts_of, sealed_service
from tests.fakes.timers import until

ALICE, BOB = "alice@example.com", "bob@example.com"
OPENED, ERASED = log_pb2.Unsealed.OPENED, log_pb2.Unsealed.ERASED
ISSUERS = ("https://issuer.example.com", "https://other.example.com")

Places = dict[str, list[int]]


def log_of(*subjects: str, dual_control: bool = False) -> tuple[LogWithVault, SealingWriter, Places]:
    """A log with one writer and a record for each of these; where those of each stand."""
    log = LogWithVault(Kept.memory(), dual_control=dual_control)
    writer = SealingWriter(vault=log.kept.vault)
    writer.add()
    places: Places = {}
    for subject in subjects:
        places.setdefault(subject, []).append(len(writer.leaves))
        writer.add_sealed(subject)
    log.ship(writer)
    return log, writer, places


async def complete(log: LogWithVault, writer: SealingWriter, erasure: bytes) -> log_pb2.ErasureState:
    """The writer adopts the epoch, says so, and the log has heard it."""
    writer.adopt(log.kept.epochs[-1])
    writer.add(declares(log.kept.epochs[-1]))
    log.ship(writer)
    await log.step()
    return await log.state(erasure)


@in_loop
async def test_a_subject_is_forgotten_and_nobody_else() -> None:
    log, writer, places = log_of(ALICE, BOB, ALICE, BOB, ALICE)
    erasure = await log.ask()
    assert (await log.state(erasure)).stage == Stage.COUNTING
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records, state.done, state.seal_epoch) == (Stage.ERASED, 3, 3, 1)
    assert {log.outcome(at) for at in places[ALICE]} == {ERASED}
    assert {log.outcome(at) for at in places[BOB]} == {OPENED}
    assert [(one.writer, one.sequence) for one in state.waiting_for] == [(writer.writer, 6)]
    done = await complete(log, writer, erasure)
    assert (done.stage, list(done.waiting_for), done.problem) == (Stage.COMPLETE, [], "")
    for at in places[ALICE]:
        assert await log.covers(at)


@in_loop
async def test_the_erasure_record_names_nobody_and_its_root_is_over_the_salts() -> None:
    log, _, places = log_of(ALICE, BOB, ALICE)
    erasure = await log.ask(authority="DSR-42")
    await log.step()
    (record,) = log.own("erasure")
    body = record.erasure
    assert (body.erasure, body.authority, list(body.approvers)) == (erasure, "DSR-42", [OFFICER.name])
    assert (body.records, body.seal_epoch, body.log_size) == (2, 1, 5)
    rows = log.kept.companions.find([LeafIndex(at) for at in places[ALICE]])
    pairs = [(row.salt, leaf_hash(log.kept.leaves.leaves[at])) for at, row in rows.items()]
    assert body.leaves_root == leaves_root(pairs)
    assert ALICE.encode() not in b"".join(log.kept.leaves.leaves[4:])
    assert (await log.state(erasure)).erasure_index == record.sequence


@in_loop
async def test_keys_salts_and_tokens_are_gone_and_at_the_end_whose_it_was_too() -> None:
    log, writer, places = log_of(ALICE, BOB)
    store, companions = log.kept.erasures, log.kept.companions
    assert isinstance(store, MemoryErasures)
    before = companions.find([LeafIndex(places[ALICE][0])])[LeafIndex(places[ALICE][0])]
    sealed = companions.keys([before.key])[before.key].sealed
    erasure = await log.ask()
    await log.step()
    row = store.rows[erasure]
    assert any(row.whose)
    assert any(row.secret)
    key = companions.keys([before.key])[before.key]
    assert (key.erasure, set(key.sealed)) == (erasure, {0})
    assert sealed not in [one.sealed for one in companions.keys(range(1, 9)).values()]
    token = log_pb2.SearchRecordsRequest()
    found = log.kept.index.search(token, tokens=[_tokens(log, row.whose)], after=None, limit=9)
    assert found == []
    await complete(log, writer, erasure)
    assert (set(store.rows[erasure].whose), set(store.rows[erasure].secret), store.plans) == ({0}, {0}, {})


def _tokens(log: LogWithVault, whose: bytes) -> frozenset[int]:
    del log
    return frozenset({int.from_bytes(whose[:8], signed=True)})


@in_loop
async def test_a_dry_run_counts_and_changes_nothing_but_is_recorded() -> None:
    log, _, places = log_of(ALICE, BOB, ALICE)
    erasure = await log.ask(dry_run=True)
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records, list(state.issuers)) == (Stage.COUNTED, 2, [ISSUERS[0]])
    assert ({log.outcome(at) for at in places[ALICE]}, log.kept.epochs, log.own("erasure")) == ({OPENED}, [0], [])
    assert log.kept.erasures.find(erasure) is None
    (reading,) = log.own("log_read")
    body = reading.log_read
    assert (body.method, body.records, body.unsealed, body.role) == ("EraseSubject", 2, 2, Role.PRIVACY_OFFICER)
    again = LogWithVault(log.kept)
    with pytest.raises(NotFound):
        await again.state(erasure)


@in_loop
async def test_a_reading_that_cannot_be_recorded_is_none() -> None:
    log, _, places = log_of(ALICE)

    async def frozen(*_: object) -> LeafIndex:
        raise LogFrozen("the log is frozen")

    log.course._append_own = frozen  # noqa: SLF001 -- the log that refuses
    erasure = await log.ask()
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, "frozen" in state.problem, log.kept.epochs) == (Stage.FAILED, True, [0])
    assert log.outcome(places[ALICE][0]) == OPENED


@in_loop
async def test_several_issuers_want_to_be_told_apart() -> None:
    log, writer, _ = log_of()
    for issuer in ISSUERS:
        key = writer.key_of(f"{ALICE} {issuer}")
        del key
        writer.add_sealed(f"{ALICE} {issuer}", facts=facts_of(ALICE, issuer=issuer))
    first, second = log.ship(writer)
    erasure = await log.ask()
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, tuple(state.issuers), log.own("erasure")) == (Stage.AMBIGUOUS, ISSUERS, [])
    erasure = await log.ask(issuer=ISSUERS[1])
    await log.step()
    assert (await log.state(erasure)).records == 1
    assert (log.outcome(first), log.outcome(second)) == (OPENED, ERASED)


@in_loop
async def test_what_was_sealed_with_the_same_key_dies_and_is_covered() -> None:
    log, writer, _ = log_of()
    writer.add_sealed(ALICE)
    number, seal = len(writer.leaves), new_seal(ORIGIN, writer.key_of(ALICE))
    outcome = sealed_service(
        record_pb2.Outcome(kind=record_pb2.Outcome.REQUEST_FINISHED),
        record_pb2.OutcomePersonal(request_id="r-1"),
        sequence=number,
        seal=seal,
        writer=writer.writer,
    )
    writer.leaves.append(outcome)
    writer.besides[number] = seal.beside
    decision, other = log.ship(writer)
    erasure = await log.ask()
    await log.step()
    assert (await log.state(erasure)).records == 2
    assert {log.outcome(at) for at in (decision, other)} == {ERASED}
    assert await log.covers(other)


@in_loop
async def test_records_that_name_the_subject_and_no_issuer_go_with_any() -> None:
    log, _, places = log_of(ALICE)
    alert = log.add_own(record_pb2.Alert(rule="odd"), record_pb2.AlertPersonal(subject=ALICE))
    other = log.add_own(record_pb2.Alert(rule="odd"), record_pb2.AlertPersonal(subject=BOB))
    await log.ask(issuer=ISSUERS[0])
    await log.step()
    assert [log.outcome(at) for at in (places[ALICE][0], alert, other)] == [ERASED, ERASED, OPENED]


@in_loop
async def test_nothing_found_raises_the_epoch_and_stays_open() -> None:
    log, writer, _ = log_of(BOB)
    erasure = await log.ask()
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records, log.kept.epochs) == (Stage.ERASED, 0, [0, 1])
    (recorded,) = log.own("erasure")
    assert (recorded.erasure.records, recorded.erasure.seal_epoch) == (0, 1)
    writer.add_sealed(ALICE)
    late = log.ship(writer)[0]
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records, log.outcome(late)) == (Stage.ERASED, 1, ERASED)
    assert (await complete(log, writer, erasure)).stage == Stage.COMPLETE


@pytest.mark.parametrize("known", [True, False], ids=["of a key that is erased", "of a key that came with it"])
@in_loop
async def test_late_records_get_a_round_of_their_own(known: bool) -> None:  # noqa: FBT001 -- of the table
    log, writer, places = log_of(ALICE, BOB)
    if not known:
        writer.adopt(0)  # the same epoch, another key
    writer.add_sealed(ALICE)
    writer.add_sealed(BOB)
    erasure = await log.ask()
    await log.step()
    late, bob = log.ship(writer)
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records, state.done) == (Stage.ERASED, 2, 2)
    first, second = (record.erasure for record in log.own("erasure"))
    assert (first.erasure, second.erasure, first.leaves_root == second.leaves_root) == (erasure, erasure, False)
    assert (log.outcome(late), log.outcome(bob)) == (ERASED, OPENED)
    assert (await complete(log, writer, erasure)).stage == Stage.COMPLETE
    for at in (places[ALICE][0], late):
        assert await log.covers(at)


@in_loop
async def test_what_the_subject_does_after_the_erasure_stays() -> None:
    log, writer, _ = log_of(ALICE)
    erasure = await log.ask()
    await log.step()
    writer.adopt(1)
    writer.add_sealed(ALICE)
    new = log.ship(writer)[0]
    await log.step()
    assert ((await log.state(erasure)).records, log.outcome(new)) == (1, OPENED)
    assert (await complete(log, writer, erasure)).stage == Stage.COMPLETE
    assert log.outcome(new) == OPENED


@in_loop
async def test_late_records_of_another_issuer_are_somebody_elses() -> None:
    log, writer, _ = log_of(ALICE)
    erasure = await log.ask()
    await log.step()
    writer.add_sealed("other", facts=facts_of(ALICE, issuer=ISSUERS[1]))
    other = log.ship(writer)[0]
    await log.step()
    assert ((await log.state(erasure)).records, log.outcome(other)) == (1, OPENED)


@in_loop
async def test_late_records_of_several_issuers_end_an_erasure_that_named_none() -> None:
    log, writer, _ = log_of(BOB)
    erasure = await log.ask()
    await log.step()
    for issuer in ISSUERS:
        writer.add_sealed(issuer, facts=facts_of(ALICE, issuer=issuer))
    log.ship(writer)
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, tuple(state.issuers)) == (Stage.FAILED, ISSUERS)


@in_loop
async def test_records_that_were_never_sealed_are_said_to_stay() -> None:
    log, writer, _ = log_of(ALICE)
    bare = SealingWriter("bare", vault=log.kept.vault)
    bare.add()
    sealed = bare.add_sealed(ALICE)
    record = parse_record(sealed)
    record.open.decision.facts.CopyFrom(facts_of(ALICE))
    bare.leaves[1] = record.SerializeToString(deterministic=True)
    bare.besides.clear()
    log.ship(bare)
    erasure = await log.ask()
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records) == (Stage.ERASED, 1)
    assert "1 records of this subject were never sealed: they stay" in state.problem
    del writer


@in_loop
async def test_dual_control_wants_another_officer_with_the_same_words() -> None:
    log, _, places = log_of(ALICE, dual_control=True)
    erasure = await log.ask()
    with pytest.raises(Conflict):
        await log.ask(approve=erasure, caller=SECOND)  # it is not counted yet
    await log.step()
    assert ((await log.state(erasure)).stage, log.outcome(places[ALICE][0])) == (Stage.WAITS_APPROVAL, OPENED)
    with pytest.raises(Refused):
        await log.ask(approve=erasure)
    for changed in ({"subject": BOB}, {"issuer": ISSUERS[0]}, {"authority": "DSR-43"}):
        with pytest.raises(Refused):
            await log.ask(approve=erasure, caller=SECOND, **changed)
    await log.step()
    assert (await log.state(erasure)).stage == Stage.WAITS_APPROVAL
    again = LogWithVault(log.kept, dual_control=True)  # it waits through a restart, too
    assert await again.ask(approve=erasure, caller=SECOND) == erasure
    await again.step()
    assert ((await again.state(erasure)).stage, again.outcome(places[ALICE][0])) == (Stage.ERASED, ERASED)
    (record,) = again.own("erasure")
    assert list(record.erasure.approvers) == [OFFICER.name, SECOND.name]
    assert [one.log_read.records for one in again.own("log_read")] == [1, 1]


@in_loop
async def test_an_approval_comes_within_days() -> None:
    log, _, places = log_of(ALICE, dual_control=True)
    erasure = await log.ask()
    await log.step()
    log.kept.clock.advance(APPROVAL_MAX.total_seconds())
    await log.step()
    assert (await log.state(erasure)).stage == Stage.FAILED
    with pytest.raises(Conflict):
        await log.ask(approve=erasure, caller=SECOND)
    assert log.outcome(places[ALICE][0]) == OPENED


@in_loop
async def test_an_approval_of_nothing_is_refused() -> None:
    log, _, _ = log_of(ALICE)
    with pytest.raises(NotFound):
        await log.ask(approve=bytes(16), caller=SECOND)


@pytest.mark.parametrize(
    "request_",
    [
        {"subject": ""},
        {"subject": "x" * 20_000},
        {"authority": ""},
        {"authority": "  "},
        {"authority": "x" * 1_025},
        {"authority": "two\nlines"},
        {"authority": "erase Alice@example.com please"},
        {"issuer": "x" * 3_000},
        {"approve": b"short"},
        {"approve": bytes(16), "dry_run": True},
    ],
    ids=[
        "no subject",
        "long subject",
        "no authority",
        "blank",
        "long",
        "lines",
        "names",
        "issuer",
        "id",
        "approve dry",
    ],
)
@in_loop
async def test_requests_that_say_nothing_or_too_much_are_malformed(request_: dict[str, str]) -> None:
    log, _, _ = log_of(ALICE)
    with pytest.raises(Malformed) as caught:
        await log.ask(**request_)
    assert ALICE not in str(caught.value).lower()


@in_loop
async def test_an_older_database_is_found_out() -> None:
    log, _, _ = log_of(ALICE)
    erasure = await log.ask()
    await log.step()
    other, _, _ = log_of(ALICE)  # the database as it was before
    other.kept.leaves, other.kept.index = log.kept.leaves, log.kept.index
    restored = LogWithVault(other.kept)
    await restored.erasures.resume()
    listed = await restored.erasures.list_erasures(log_pb2.ListErasuresRequest(), OFFICER)
    (state,) = listed.erasures
    assert (state.erasure, state.stage, PUT_BACK in state.problem) == (erasure, Stage.FAILED, True)
    assert other.kept.epochs[-1] == 1
    good = LogWithVault(log.kept)
    await good.erasures.resume()
    assert [
        one.erasure for one in (await good.erasures.list_erasures(log_pb2.ListErasuresRequest(), OFFICER)).erasures
    ] == [erasure]
    assert log.kept.epochs == [0, 1]


@in_loop
async def test_another_index_key_ends_what_it_would_not_know_again() -> None:
    log, writer, _ = log_of(ALICE)
    erasure = await log.ask()
    await log.step()
    other = LogWithVault(log.kept, token_key=TokenKey.derive(b"\x08" * 32, ORIGIN))
    await other.erasures.resume()
    await other.step()
    assert (await other.state(erasure)).stage == Stage.FAILED
    del writer


@in_loop
async def test_the_task_goes_on_by_itself() -> None:
    log, _, places = log_of(ALICE)
    task = asyncio.ensure_future(log.erasures.run())
    erasure = await log.ask()
    await until(lambda: log.outcome(places[ALICE][0]) == ERASED)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert (await log.state(erasure)).stage in (Stage.ERASING, Stage.ERASED)


@in_loop
async def test_states_are_told_of_what_this_process_did_not_see() -> None:
    log, writer, _ = log_of(ALICE)
    erasure = await log.ask()
    await log.step()
    await complete(log, writer, erasure)
    again = LogWithVault(log.kept)
    state = await again.state(erasure)
    assert (state.stage, state.records, state.done) == (Stage.COMPLETE, 1, 1)
    listed = await again.erasures.list_erasures(log_pb2.ListErasuresRequest(), OFFICER)
    assert list(listed.erasures) == []


@in_loop
async def test_what_is_late_and_not_to_be_read_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log, writer, _ = log_of(ALICE)
    erasure = await log.ask()
    await log.step()
    store = log.kept.erasures
    ahead = LeafIndex(1_000)
    monkeypatch.setattr(store, "late", lambda _: [ahead])
    assert (await complete(log, writer, erasure)).stage == Stage.ERASED
    monkeypatch.undo()
    await log.step()
    assert (await log.state(erasure)).stage == Stage.COMPLETE


@in_loop
async def test_an_end_that_cannot_be_stored_is_an_end_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _, places = log_of(ALICE)
    await log.holds.place_hold(
        log_pb2.PlaceLegalHoldRequest(
            scope=log_pb2.SearchRecordsRequest(subject=ALICE), authority="court", matter="12 O 34/26"
        ),
        OFFICER,
    )

    def busy(*_: object) -> None:
        raise Unavailable("somebody reads an older state")

    monkeypatch.setattr(log.kept.erasures, "end", busy)
    erasure = await log.ask()
    await log.step()
    assert ((await log.state(erasure)).stage, log.outcome(places[ALICE][0])) == (Stage.FAILED, OPENED)
    monkeypatch.undo()
    again = LogWithVault(log.kept)
    await again.erasures.resume()
    await again.step()
    assert (await again.state(erasure)).stage == Stage.HELD


@in_loop
async def test_nothing_is_told_of_a_reading_that_was_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _, _ = log_of(ALICE, ALICE)

    def frozen(*_: object) -> LeafIndex:
        raise LogFrozen("the log is frozen")

    monkeypatch.setattr(log, "add_own", frozen)
    erasure = await log.ask(dry_run=True)
    await log.step()
    state = await log.state(erasure)
    assert (state.stage, state.records, list(state.issuers), state.log_size) == (Stage.FAILED, 0, [], 0)


@pytest.mark.parametrize("found", [True, False])
@in_loop
async def test_an_older_database_gets_the_epoch_back_that_writers_have(found: bool) -> None:  # noqa: FBT001 -- of the table
    log, writer, _ = log_of(ALICE if found else BOB)
    await log.ask()
    await log.step()
    writer.adopt(1)
    writer.add_sealed(ALICE)
    log.kept.epochs.append(0)  # the restored database
    log.kept.erasures = MemoryErasures(log.kept.ledger.companions, log.kept.leaves)  # type: ignore[attr-defined]
    again = LogWithVault(log.kept)
    await again.erasures.resume()
    assert again.seal_epoch == 1
    assert again.own("setting_changed") == []
    erasure = await again.ask()
    await again.step()
    (late,) = again.ship(writer)
    done = await complete(again, writer, erasure)
    await again.step()
    done = await again.state(erasure)
    assert (done.stage, done.seal_epoch, again.outcome(late)) == (Stage.COMPLETE, 2, ERASED)


@in_loop
async def test_an_epoch_that_rose_for_another_reason_is_recorded_once() -> None:
    log, _, _ = log_of(ALICE)
    log.kept.epochs.append(4)  # a new key of the vault
    for _ in range(2):
        await LogWithVault(log.kept).erasures.resume()
    (record,) = log.own("setting_changed")
    changed = record.setting_changed
    assert (changed.setting, changed.before, changed.after) == ("seal_epoch", "0", "4")
    log.kept.epochs.append(1)  # an older database
    again = LogWithVault(log.kept)
    await again.erasures.resume()
    assert again.seal_epoch == 4


@in_loop
async def test_a_frozen_log_starts_without_recording_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _, _ = log_of(ALICE)
    log.kept.epochs.append(4)

    def frozen(*_: object) -> LeafIndex:
        raise LogFrozen("the log is frozen")

    monkeypatch.setattr(log, "add_own", frozen)
    await log.erasures.resume()
    assert log.own("setting_changed") == []


@in_loop
async def test_what_an_officer_read_is_not_forgotten_with_who_has_their_name() -> None:
    log, _, _ = log_of(ALICE)
    personal = record_pb2.LogReadPersonal(reader=ALICE, purpose="case 12", query="1")
    read = log.add_own(record_pb2.LogRead(method="Unseal", records=1, unsealed=1), personal)
    await log.ask()
    await log.step()
    assert log.outcome(read) == OPENED
    assert log.outcome(1) == ERASED


@in_loop
async def test_a_writer_that_registered_later_is_waited_for() -> None:
    log, writer, _ = log_of(ALICE)
    erasure = await log.ask()
    await log.step()
    fresh = SealingWriter("fresh", vault=log.kept.vault)  # it journaled while the log was away
    fresh.add()
    for _ in range(2):
        fresh.add_sealed(ALICE)
    log.ship(fresh, only=1)
    state = await complete(log, writer, erasure)
    assert (state.stage, [one.writer for one in state.waiting_for]) == (Stage.ERASED, [fresh.writer])
    late = log.ship(fresh)
    await complete(log, fresh, erasure)
    await log.step()
    done = await log.state(erasure)
    assert (done.stage, {log.outcome(at) for at in late}) == (Stage.COMPLETE, {ERASED})


@pytest.mark.parametrize("comes", ["nothing more", "another one late"])
@in_loop
async def test_two_erasures_never_take_one_leaf(comes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, writer, _ = log_of(ALICE, BOB)
    first = await log.ask(authority="DSR-A")
    await log.step()
    writer.adopt(0)
    writer.add_sealed(ALICE)
    leaves = list(log.ship(writer))
    second = await log.ask(authority="DSR-B")
    real, failed = log.add_own, False

    def full_once(body: Message, personal: Message | None) -> LeafIndex:
        nonlocal failed
        if body.DESCRIPTOR.name == "Erasure" and not failed:
            failed = True
            if comes != "nothing more":
                writer.adopt(0)
                writer.add_sealed(ALICE)
                leaves.extend(log.ship(writer))
            raise QueueFull("the queue is full", 0.25)
        return real(body, personal)

    monkeypatch.setattr(log, "add_own", full_once)
    for _ in range(3):
        await log.step()
    states = [await log.state(one) for one in (first, second)]
    assert [one.stage for one in states] == [Stage.ERASED] * 2
    assert (
        sum(one.records for one in states) == 1 + len(leaves) == sum(one.erasure.records for one in log.own("erasure"))
    )
    assert {log.outcome(at) for at in leaves} == {ERASED}
    assert [await log.covers(at) for at in (1, *leaves)] == [True] * (1 + len(leaves))
