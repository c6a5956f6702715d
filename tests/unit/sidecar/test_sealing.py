# SPDX-License-Identifier: Apache-2.0
"""How to seal: nothing but the log's own settings comes into force, stored first, and what a writer claims is true."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.errors import BadProof, BadSignature, ConfigInvalid, Malformed
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.records.record import parse_record
from iap_authz.records.room import Room
from iap_authz.records.seal import parse_beside
from iap_authz.records.seal_settings import SealSettings, VaultKey, sign_settings
from iap_authz.sidecar.log_alarms import Alarm
from iap_authz.sidecar.sealing import SettingsInForce, Start, UnsafeNoSeals, configured_settings, load_settings
from iap_authz.sidecar.shipper import REFUSED_SECONDS
from iap_authz.sidecar.subject_keys import SubjectKeys
from iap_authz.tlog.note import NoteSigner
from tests.fakes.clock import START, ManualClock
from tests.fakes.journal import ORIGIN, FixedSigner, MemoryJournal, start_record
from tests.fakes.sealed import TestVault, facts_of, open_leaf, sealed_decision
from tests.fakes.senders import MemoryCheckpoints
from tests.fakes.shipping import PublishingLog, SealedTo, World, process
from tests.fakes.timers import settle, until

VAULT = TestVault(1, 2, 3)
LOG = FixedSigner("log")
SIGNER = NoteSigner(name=ORIGIN, public_key=LOG.public_key, sign=LOG.sign)
VERIFIER = SIGNER.verifier()
LATER = FixedSigner("the log's next key")
LATER_SIGNER = NoteSigner(name=ORIGIN, public_key=LATER.public_key, sign=LATER.sign)
OTHER = TestVault(1, 2, 3, seed="another vault")


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def said(seal_epoch: int, vault_epoch: int = 1, *, vault: TestVault = VAULT, origin: str = ORIGIN) -> SealSettings:
    return SealSettings(origin=origin, seal_epoch=seal_epoch, vault=vault.vault_key(vault_epoch))


def note(settings: SealSettings, *signers: NoteSigner) -> bytes:
    return sign_settings(settings, signers or [SIGNER])


def forged(settings: SealSettings) -> bytes:
    """Signed by somebody else under the log's name."""
    mallory = FixedSigner("mallory")
    return note(settings, NoteSigner(name=ORIGIN, public_key=mallory.public_key, sign=mallory.sign))


# ---- what a process starts with


def start_of(stored: bytes | None, *, vault_epoch: int = 1) -> Start:
    return load_settings(MemoryCheckpoints(stored), VERIFIER, vault=VAULT.vault_key(vault_epoch))


def test_the_first_process_starts_with_its_configuration() -> None:
    assert start_of(None) == (configured_settings(ORIGIN, VAULT.vault_key(1)), b"")
    assert configured_settings(ORIGIN, VAULT.vault_key(1)) == said(0)


@pytest.mark.parametrize("settings", [said(0), said(7), said(7, 2)])
def test_s5_a_later_one_starts_with_what_the_log_said_last(settings: SealSettings) -> None:
    assert start_of(note(settings)) == (settings, note(settings))


def test_a_newer_key_in_the_configuration_takes_the_place_of_what_is_stored() -> None:
    assert start_of(note(said(7, 1)), vault_epoch=2) == (said(7, 2), b""), "its seal epoch does not go back"


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"junk",
        note(said(7))[:-20],
        forged(said(7)),
        note(said(7, origin="log.example.com/other")),
        note(said(7)).replace(b"\n7\n", b"\n8\n"),
        bytes(3 << 20),
    ],
    ids=["empty", "junk", "cut", "forged", "of another log", "changed", "endless"],
)
def test_what_is_not_the_logs_stops_the_start_and_says_what_to_do(stored: bytes) -> None:
    with pytest.raises(ConfigInvalid, match=r"holds no seal settings that .* signed .* else remove it"):
        start_of(stored)


def test_two_keys_of_one_epoch_stop_the_start() -> None:
    with pytest.raises(ConfigInvalid, match=r"got two keys of one epoch, want one; compare both with `iap-authz keys"):
        start_of(note(said(7, 1, vault=OTHER)))


def test_the_settings_are_in_a_file_that_outlives_the_process(tmp_path: Path) -> None:
    store = CheckpointFile(tmp_path / "seal-settings")
    assert load_settings(store, VERIFIER, vault=VAULT.vault_key(1)).note == b""
    store.store(note(said(7)))
    assert load_settings(store, VERIFIER, vault=VAULT.vault_key(1)).settings == said(7)
    (tmp_path / "seal-settings").write_bytes(b"junk")
    with pytest.raises(ConfigInvalid, match=str(tmp_path)):
        load_settings(store, VERIFIER, vault=VAULT.vault_key(1))


# ---- what comes into force


class RecordingJournal(MemoryJournal):
    """Notes when a segment is begun, among what else happens."""

    def __init__(self, events: list[str]) -> None:
        super().__init__(FixedSigner())
        self._events = events

    def begin_segment(self) -> Sequence:
        self._events.append("segment")
        return super().begin_segment()


class RecordingKeys(SubjectKeys):
    """The same for the keys."""

    def __init__(self, settings: SealSettings, events: list[str]) -> None:
        super().__init__(settings, writer=FixedSigner().writer, monotonic=ManualClock().monotonic)
        self._events = events

    def use(self, settings: SealSettings) -> None:
        self._events.append("keys")
        super().use(settings)


class RecordingStore(MemoryCheckpoints):
    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self._events = events

    def store(self, note: bytes) -> None:
        self._events.append("store")
        super().store(note)
        self._events.append("stored")


class Bench:
    def __init__(self, in_force: SealSettings | None = None, *, is_said: bool = False) -> None:
        settings = in_force or said(0)
        self.events: list[str] = []
        self.store, self.journal = RecordingStore(self.events), RecordingJournal(self.events)
        self.keys = RecordingKeys(settings, self.events)
        self.in_force = SettingsInForce(
            self.keys,
            self.journal,
            verifier=VERIFIER,
            store=self.store,
            start=Start(settings, note(settings) if is_said else b""),
        )


ADOPTED = ["store", "stored", "keys", "segment"]


def test_s5_stored_first_then_keys_are_dropped_then_a_segment_begins() -> None:
    async def test() -> None:
        bench = Bench()
        before = bench.keys.seal_for(facts_of()).key
        await bench.in_force.take(note(said(1)))
        assert bench.events == ADOPTED
        assert bench.keys.settings == said(1)
        assert bench.store.notes == [note(said(1))]
        assert bench.keys.seal_for(facts_of()).key.secret != before.secret

    run(test)


def test_nothing_is_in_force_that_could_not_be_stored() -> None:
    async def test() -> None:
        bench = Bench()
        before = bench.keys.seal_for(facts_of()).key
        bench.store.error = OSError(28, "No space left on device")
        with pytest.raises(OSError, match="No space"):
            await bench.in_force.take(note(said(1)))
        assert bench.events == ["store"]
        assert bench.keys.settings == said(0)
        assert bench.keys.seal_for(facts_of()).key is before
        bench.store.error = None
        await bench.in_force.take(note(said(1)))
        assert bench.events == ["store", *ADOPTED]

    run(test)


def test_the_same_again_changes_nothing() -> None:
    async def test() -> None:
        bench = Bench()
        for _ in range(3):
            await bench.in_force.take(note(said(1)))
        assert bench.events == ADOPTED
        later = Bench(said(1), is_said=True)
        await later.in_force.take(note(said(1)))
        assert later.events == []

    run(test)


def test_what_the_configuration_says_already_is_stored_and_drops_no_key() -> None:
    async def test() -> None:
        bench = Bench(said(0))
        await bench.in_force.take(note(said(0)))
        assert bench.events == ["store", "stored"]

    run(test)


def test_another_signature_is_stored_so_that_the_file_outlives_a_change_of_the_logs_key() -> None:
    async def test() -> None:
        bench, both = Bench(said(3), is_said=True), note(said(3), SIGNER, LATER_SIGNER)
        await bench.in_force.take(both)
        assert bench.events == ["store", "stored"]
        assert bench.store.notes == [both]
        (kept,) = bench.store.notes
        start = load_settings(MemoryCheckpoints(kept), LATER_SIGNER.verifier(), vault=VAULT.vault_key(1))
        assert start.settings == said(3)

    run(test)


@pytest.mark.parametrize("settings", [said(2), said(0), said(2, vault=OTHER), said(2, 3)])
def test_an_older_answer_is_passed_over(settings: SealSettings) -> None:
    async def test() -> None:
        bench = Bench(said(3), is_said=True)
        await bench.in_force.take(note(settings))
        assert (bench.events, bench.keys.settings) == ([], said(3))

    run(test)


def test_epochs_may_be_skipped() -> None:
    async def test() -> None:
        bench = Bench(said(1))
        await bench.in_force.take(note(said(9, 3)))
        assert bench.keys.settings == said(9, 3)

    run(test)


LOW_ORDER = SealSettings(origin=ORIGIN, seal_epoch=9, vault=VaultKey(epoch=3, public_key=bytes(32)))


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (b"", BadProof, "got no seal settings, want those of a log with a vault"),
        (b"junk", Malformed, "got"),
        (forged(said(9)), BadSignature, "got"),
        (note(said(9)).replace(b"\n9\n", b"\n8\n"), BadSignature, "got"),
        (note(said(9, origin="log.example.com/other")), BadSignature, "got"),
        (note(said(3, 2, vault=OTHER)), BadProof, "got two seal settings of seal epoch 3, want one"),
        (note(said(3, 3)), BadProof, "got two seal settings of seal epoch 3, want one"),
        (note(said(9, 1)), BadProof, "got vault epoch 1, want at least 2, which is in force"),
        (note(said(9, 2, vault=OTHER)), BadProof, r"as the vault's key, want iap-vault\+2\+.*: an epoch has one key"),
        (note(LOW_ORDER), BadProof, "want one that can be sealed to"),
    ],
    ids=[
        *("none", "junk", "forged", "changed", "of another log", "another vault", "another key"),
        *("an older vault", "another key of an epoch", "a key of low order"),
    ],
)
def test_what_no_honest_log_says_changes_nothing(answer: bytes, kind: type[Exception], message: str) -> None:
    async def test() -> None:
        bench = Bench(said(3, 2), is_said=True)
        with pytest.raises(kind, match=message):
            await bench.in_force.take(answer)
        assert (bench.events, bench.keys.settings) == ([], said(3, 2))
        await bench.in_force.take(note(said(4, 2)))
        assert bench.events == ADOPTED

    run(test)


def test_without_sealing_nothing_of_it_is_looked_at() -> None:
    async def test() -> None:
        for answer in (b"", b"junk", note(said(9))):
            await UnsafeNoSeals().take(answer)
        assert UnsafeNoSeals().seal_for(facts_of()) is None  # type: ignore[func-returns-value]

    run(test)


# ---- what a writer claims (Heartbeat.oldest_seal_epoch)


class Ends:
    """A backlog of which only the ends are looked at."""

    def __init__(self, *dead: WriterId) -> None:
        self.writers = (*dead, FixedSigner().writer)
        self.first_left = 0

    def first(self, writer: WriterId) -> int:
        assert writer == FixedSigner().writer
        return self.first_left


async def grown(bench: Bench, size: int) -> None:
    """Records in the journal up to this size."""
    clock = ManualClock()
    while len(bench.journal.leaves) < size:
        if not bench.journal.leaves:
            bench.journal.append_nowait(lambda *_: start_record(FixedSigner()), room=Room.RESERVE)
            continue
        seal = bench.keys.seal_for(facts_of())
        bench.journal.append_nowait(
            lambda writer, sequence, seal=seal: sealed_decision(  # type: ignore[misc]
                sequence, seal=seal, writer=writer, time=clock.now()
            ),
            room=Room.ALLOW,
            beside=seal.beside,
        )


def test_a_claim_rises_when_the_last_byte_from_before_is_gone() -> None:
    async def test() -> None:
        bench, ends = Bench(said(1), is_said=True), Ends()
        claims = []
        for epoch, size in ((2, 5), (4, 9), (5, 9)):  # nothing was written between the last two
            await grown(bench, size)
            await bench.in_force.take(note(said(epoch)))
        await grown(bench, 12)
        for ends.first_left in range(13):
            claims.append(bench.in_force.oldest_epoch(ends))  # type: ignore[arg-type]
        assert claims == [1] * 5 + [2] * 4 + [5] * 4

    run(test)


def test_every_claim_is_true_of_the_companions_that_are_left() -> None:
    async def test() -> None:
        bench, ends = Bench(said(1), is_said=True), Ends()
        for epoch in range(2, 8):
            await grown(bench, epoch * 2)
            await bench.in_force.take(note(said(epoch)))
        await grown(bench, 20)
        for ends.first_left in range(20):
            left = [parse_beside(one).seal_epoch for at, one in bench.journal.besides.items() if at >= ends.first_left]
            assert bench.in_force.oldest_epoch(ends) <= min(left)  # type: ignore[arg-type]
        assert bench.in_force.oldest_epoch(ends) == 7  # type: ignore[arg-type]

    run(test)


def test_while_a_dead_writer_is_left_nothing_is_claimed() -> None:
    async def test() -> None:
        bench, dead = Bench(said(5), is_said=True), FixedSigner("dead").writer
        assert bench.in_force.oldest_epoch(Ends(dead)) == 0  # type: ignore[arg-type]
        assert bench.in_force.oldest_epoch(Ends()) == 5  # type: ignore[arg-type]

    run(test)


# ---- on the way: a journal on disk, a shipper, and a log that may lie


def sealed_to(store: MemoryCheckpoints | None = None, vault_epoch: int = 1) -> SealedTo:
    return SealedTo(vault=VAULT.vault_key(vault_epoch), store=store or MemoryCheckpoints())


async def append_sealed(world: World, facts: facts_pb2.Facts | None = None) -> bytes:
    """One more sealed record, durable; what stands beside it."""
    facts = facts_of() if facts is None else facts
    seal = world.keys.seal_for(facts)

    def build(writer: WriterId, sequence: Sequence) -> bytes:
        return sealed_decision(sequence, seal=seal, writer=writer, facts=facts, time=START)

    given = world.journal.append_nowait(build, room=Room.ALLOW, beside=seal.beside)
    await asyncio.wait([given.durable])
    return seal.beside


def oldest(world: World) -> int:
    assert isinstance(world.sealing, SettingsInForce)
    return world.sealing.oldest_epoch(world.backlog)


def test_s5_the_settings_of_a_registration_are_in_force_after_it(tmp_path: Path) -> None:
    async def test() -> None:
        log, store = PublishingLog(), MemoryCheckpoints()
        said_now = log.seal(4, VAULT.vault_key(1))
        async with process(tmp_path, log, sealed_to=sealed_to(store)) as world:
            await until(lambda: bool(log.requests("register")))
            await until(lambda: world.keys.settings == said(4))
            await world.shipped(1)
            assert store.notes == [said_now]
            assert world.shipper.alarms == frozenset()

    run(test)


def test_s5_an_epoch_that_rises_is_in_force_with_the_next_answer(tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        log.seal(1, VAULT.vault_key(1))
        async with process(tmp_path, log, sealed_to=sealed_to()) as world:
            await until(lambda: world.keys.settings == said(1))
            before = await append_sealed(world)
            await world.shipped(2)
            log.seal(2, VAULT.vault_key(2))
            await append_sealed(world)
            await until(lambda: world.keys.settings == said(2, 2))
            after = await append_sealed(world)
            await world.shipped(4)
            assert (parse_beside(before).seal_epoch, parse_beside(before).vault_epoch) == (1, 1)
            assert (parse_beside(after).seal_epoch, parse_beside(after).vault_epoch) == (2, 2)
            leaf = log.leaves[-2]
            assert parse_record(leaf).sequence == 3
            assert open_leaf(leaf, after, vault=VAULT).decision.facts == facts_of()

    run(test)


def test_s5_the_claim_follows_what_is_trimmed(tmp_path: Path) -> None:
    """A real journal: the segment of the old epoch is gone from the disk before the writer says that it is."""

    async def test() -> None:
        log = PublishingLog()
        log.publishes_all = True
        log.seal(1, VAULT.vault_key(1))
        async with process(tmp_path, log, sealed_to=sealed_to(MemoryCheckpoints(note(said(1))))) as world:
            await append_sealed(world)
            await world.shipped(2)
            log.seal(2, VAULT.vault_key(1))
            before = await append_sealed(world)
            await until(lambda: world.keys.settings == said(2))
            assert oldest(world) == 1
            folder = tmp_path / world.writer.hex()
            held = b"".join(path.read_bytes() for path in folder.glob("*.segment"))
            assert before in held
            after = await append_sealed(world)
            await until(lambda: oldest(world) == 2, lambda: world.clock.advance(0.3))
            held = b"".join(path.read_bytes() for path in folder.glob("*.segment"))
            assert before not in held
            assert after in held

    run(test)


def test_after_a_restart_nothing_is_claimed_before_the_dead_writer_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        log, store, checkpoints = PublishingLog(), MemoryCheckpoints(), MemoryCheckpoints()
        log.seal(3, VAULT.vault_key(1))
        async with process(tmp_path, log, seed="one", checkpoints=checkpoints, sealed_to=sealed_to(store)) as world:
            await append_sealed(world)
            await world.shipped(2)
            assert oldest(world) == 0  # what it sealed before it knew
        log.down = True
        async with process(tmp_path, log, seed="two", checkpoints=checkpoints, sealed_to=sealed_to(store)) as world:
            assert world.keys.settings == said(3), "what is stored is in force while the log is away"
            assert parse_beside(await append_sealed(world)).seal_epoch == 3
            assert oldest(world) == 0
            log.down, log.publishes_all = False, True
            await until(lambda: oldest(world) == 3, lambda: world.clock.advance(0.5))
            assert tuple(world.backlog.writers) == (world.writer,)

    run(test)


@pytest.mark.parametrize(
    "answer", [b"", b"junk", forged(said(9)), note(said(1, 2))], ids=["none", "junk", "forged", "another vault"]
)
def test_a_false_answer_is_an_alarm_and_the_lane_rests(answer: bytes, tmp_path: Path) -> None:
    async def test() -> None:
        log = PublishingLog()
        log.seal(1, VAULT.vault_key(1))
        async with process(tmp_path, log, sealed_to=sealed_to()) as world:
            await until(lambda: world.keys.settings == said(1))
            await world.shipped(1)
            log.seal_settings = answer
            await world.append()
            await world.alarmed(Alarm.UNPROVEN)
            assert world.shipper.position == 2, "the receipt was true"
            assert world.keys.settings == said(1)
            await world.append()
            offered = len(log.requests("append"))
            await settle()
            assert len(log.requests("append")) == offered, "the lane rests"
            log.seal(2, VAULT.vault_key(1))
            await until(lambda: world.keys.settings == said(2), lambda: world.clock.advance(REFUSED_SECONDS / 4))
            await world.alarmed()
            first = next(alert for alert in await world.alerts() if alert.kind == Alarm.UNPROVEN.value)
            assert answer in (b"", *first.evidence) or answer == b"junk"

    run(test)


def test_a_store_that_is_full_is_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        log, store = PublishingLog(), MemoryCheckpoints()
        async with process(tmp_path, log, sealed_to=sealed_to(store), runs=False) as world:
            log.seal(1, VAULT.vault_key(1))
            store.error = OSError(28, "No space left on device")
            world.run()
            await until(store.entered.is_set)
            await world.shipped(1, seconds=0.3)
            assert world.keys.settings == said(0)
            store.error = None
            await world.append()
            await until(lambda: world.keys.settings == said(1), lambda: world.clock.advance(0.3))

    run(test)


def test_a_failed_disk_ends_the_process(tmp_path: Path) -> None:
    async def test() -> None:
        log, store = PublishingLog(), MemoryCheckpoints()
        async with process(tmp_path, log, sealed_to=sealed_to(store), runs=False) as world:
            log.seal(1, VAULT.vault_key(1))
            store.error = OSError(5, "I/O error")
            with pytest.raises(OSError, match="I/O error"):
                await asyncio.wait_for(world.shipper.run(), 30)

    run(test)
