# SPDX-License-Identifier: Apache-2.0
"""`SubjectKeys`: one key a person and one for nobody, for so long and no longer, and nobody waits for one."""

import asyncio
import contextlib
import logging
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import BadProof
from iap_authz.records.seal import PreparedKey, Seal, parse_beside, prepare_key, subject_key_info
from iap_authz.records.seal_settings import SealSettings, VaultKey
from iap_authz.sidecar import subject_keys
from iap_authz.sidecar.subject_keys import (
    NOBODY_SECONDS,
    PERSON_SECONDS,
    POOL_KEYS,
    REST_FACTOR,
    REST_MIN_SECONDS,
    SWEEP_SECONDS,
    TELL_SECONDS,
    SubjectKeys,
    check_vault,
)
from tests.fakes.journal import ORIGIN, FixedSigner
from tests.fakes.sealed import TestVault, facts_of, open_leaf, sealed_decision
from tests.fakes.timers import Timers, settle, until

WRITER = FixedSigner().writer
VAULT = TestVault(1, 2)
ANONYMOUS = facts_pb2.Facts()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def settings(seal_epoch: int = 1, *, vault_epoch: int = 1) -> SealSettings:
    return SealSettings(origin=ORIGIN, seal_epoch=seal_epoch, vault=VAULT.vault_key(vault_epoch))


class Prepared:
    """Counts the keys that are prepared, each of which takes `seconds` of the clock; they open like any other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Timers | None = None, seconds: float = 0.0) -> None:
        self.count = 0
        self._clock, self._seconds = clock, seconds
        monkeypatch.setattr(subject_keys, "prepare_key", self.prepare)

    def prepare(self, origin: str, writer: bytes, *, vault_public_key: bytes) -> PreparedKey:
        self.count += 1
        if self._clock is not None:
            self._clock.advance(self._seconds)
        return prepare_key(origin, writer, vault_public_key=vault_public_key)


class Bench:
    def __init__(self, in_force: SealSettings | None = None) -> None:
        self.clock = Timers()
        self.keys = SubjectKeys(
            in_force or settings(), writer=WRITER, monotonic=self.clock.monotonic, pause=self.clock.pause
        )

    def secret(self, facts: facts_pb2.Facts) -> bytes:
        return self.keys.seal_for(facts).key.secret

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.keys.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def companion_of(seal: Seal) -> record_pb2.Companion:
    return parse_beside(seal.beside)


def in_state(name: str, subject: str = "alice") -> facts_pb2.Facts:
    identity = facts_pb2.Identity(state=name, subject=subject, issuer="https://issuer.example.com")
    return facts_pb2.Facts(identity=identity)


# ---- whose key


def test_s3_a_key_belongs_to_one_issuer_and_subject() -> None:
    bench = Bench()
    alice, again = bench.keys.seal_for(facts_of("alice")), bench.keys.seal_for(facts_of("alice"))
    assert again.key is alice.key
    assert again.salt != alice.salt
    others = [facts_of("bob"), facts_of("alice", issuer="https://other.example.com"), facts_of("alice", issuer="")]
    secrets = {alice.key.secret, bench.secret(ANONYMOUS), *map(bench.secret, others)}
    assert len(secrets) == 5


def test_an_issuer_and_a_subject_are_not_mixed_up() -> None:
    bench = Bench()
    assert bench.secret(facts_of("b", issuer="a")) != bench.secret(facts_of("a", issuer="b"))
    assert bench.secret(facts_of("bc", issuer="a")) != bench.secret(facts_of("c", issuer="ab"))


@pytest.mark.parametrize("state", ["STATE_UNSPECIFIED", "ABSENT", "INVALID", "STALE", "ERROR"])
def test_who_was_not_proven_shares_the_key_of_nobody(state: str) -> None:
    bench = Bench()
    assert bench.secret(in_state(state)) == bench.secret(ANONYMOUS)


@pytest.mark.parametrize("has_field", [True, False], ids=["empty", "none"])
def test_who_proved_no_subject_shares_the_key_of_nobody(has_field: bool) -> None:  # noqa: FBT001 -- a case
    bench, facts = Bench(), facts_of("")
    if not has_field:
        facts.identity.ClearField("subject")
    assert bench.secret(facts) == bench.secret(ANONYMOUS)


def test_a_flood_without_an_identity_prepares_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, bench = Prepared(monkeypatch), Bench()
    for number in range(2_000):
        bench.keys.seal_for(in_state("INVALID", f"forged-{number}"))
    assert prepared.count == 1


@pytest.mark.parametrize(
    ("facts", "seconds"), [(facts_of(), PERSON_SECONDS), (ANONYMOUS, NOBODY_SECONDS)], ids=["person", "nobody"]
)
def test_s3_a_key_seals_for_its_age_and_no_longer(facts: facts_pb2.Facts, seconds: float) -> None:
    bench = Bench()
    first = bench.secret(facts)
    for _ in range(3):  # being used keeps no key young
        bench.clock.advance(seconds / 4)
        assert bench.secret(facts) == first
    bench.clock.advance(seconds / 4)
    second = bench.secret(facts)
    assert second != first
    bench.clock.advance(seconds - 1)
    assert bench.secret(facts) == second


def test_the_ages_are_those_of_the_rule() -> None:
    assert (PERSON_SECONDS, NOBODY_SECONDS) == (24 * 3_600, 3_600)


def test_the_least_recently_used_leaves_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject_keys, "KEPT_MAX", 3)
    bench = Bench()
    first = {name: bench.secret(facts_of(name)) for name in ("a", "b", "c")}
    assert bench.secret(facts_of("a")) == first["a"]  # so b is the one that was not used for the longest time
    bench.keys.seal_for(facts_of("d"))
    assert bench.secret(facts_of("a")) == first["a"]
    assert bench.secret(facts_of("c")) == first["c"]
    assert bench.secret(facts_of("b")) != first["b"]


def test_a_key_that_was_renewed_counts_as_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject_keys, "KEPT_MAX", 2)
    bench = Bench()
    bench.keys.seal_for(facts_of("a"))
    bench.clock.advance(PERSON_SECONDS)
    b, a = bench.secret(facts_of("b")), bench.secret(facts_of("a"))
    bench.keys.seal_for(facts_of("c"))
    assert bench.secret(facts_of("a")) == a
    assert bench.secret(facts_of("b")) != b


def test_the_number_of_people_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject_keys, "KEPT_MAX", 50)
    bench = Bench()
    for number in range(200):
        bench.keys.seal_for(facts_of(f"person-{number}"))
    assert len(bench.keys._kept) == 50  # noqa: SLF001 -- nothing else tells what is held


# ---- what a seal is good for


def test_s1_what_is_sealed_is_opened_by_the_vault_and_says_what_was_sealed() -> None:
    bench, facts = Bench(), facts_of("alice@example.com")
    seal = bench.keys.seal_for(facts)
    leaf = sealed_decision(3, seal=seal, writer=WRITER, facts=facts)
    assert open_leaf(leaf, seal.beside, vault=VAULT).decision.facts == facts
    assert companion_of(seal).vault_epoch == companion_of(seal).seal_epoch == 1


# ---- the pool


def test_with_a_full_pool_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.keys.fill()
    prepared = Prepared(monkeypatch)
    for number in range(POOL_KEYS):
        bench.keys.seal_for(facts_of(f"person-{number}"))
    assert (prepared.count, bench.keys.late) == (0, 0)


def test_an_empty_pool_refuses_nobody_and_is_told_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subject_keys, "POOL_KEYS", 2)
    bench = Bench()
    bench.keys.fill()
    prepared = Prepared(monkeypatch)
    with caplog.at_level(logging.DEBUG):
        secrets = {bench.secret(facts_of(f"person-{number}")) for number in range(7)}
        assert (len(secrets), prepared.count, bench.keys.late) == (7, 5, 5)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        bench.clock.advance(TELL_SECONDS)
        bench.keys.seal_for(facts_of("one more"))
        bench.keys.seal_for(facts_of("and one"))
    assert [record.keys for record in caplog.records] == [1, 6]  # type: ignore[attr-defined]
    assert "person" not in caplog.text


def test_a_key_is_given_to_one_person_only() -> None:
    bench = Bench()
    bench.keys.fill()
    ids = [companion_of(bench.keys.seal_for(facts_of(f"person-{number}"))).key_id for number in range(100)]
    assert len(set(ids)) == 100


def test_the_pool_fills_in_the_background_a_fifth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(subject_keys, "POOL_KEYS", 20)
        bench = Bench()
        prepared = Prepared(monkeypatch, bench.clock, 0.001)
        async with bench.running():
            await until(lambda: prepared.count == 1)
            await settle()
            assert prepared.count == 1, "the loop has its turn after every key"
            await until(lambda: prepared.count == 20, lambda: bench.clock.advance(0.004))
            rests = [pause for pause in bench.clock.pauses if pause != SWEEP_SECONDS]
            assert rests[:19] == [pytest.approx(REST_FACTOR * 0.001)] * 19
            await until(lambda: not bench.keys._wanted.is_set(), lambda: bench.clock.advance(0.004))  # noqa: SLF001
            bench.clock.advance(60)
            await settle()
            assert prepared.count == 20, "a full pool is left alone"
            bench.keys.seal_for(facts_of("alice"))
            await until(lambda: prepared.count == 21, lambda: bench.clock.advance(0.004))
            assert bench.keys.late == 0

    run(test)


def test_the_rest_is_never_shorter_than_a_timer_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        bench = Bench()
        Prepared(monkeypatch)  # takes no time at all
        async with bench.running():
            await until(lambda: REST_MIN_SECONDS in bench.clock.pauses)

    run(test)


def test_a_key_that_nobody_uses_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(subject_keys, "POOL_KEYS", 0)
        monkeypatch.setattr(subject_keys, "SWEEP_SLICE", 2)
        bench = Bench()
        for number in range(5):
            bench.keys.seal_for(facts_of(f"old-{number}"))
        bench.clock.advance(PERSON_SECONDS / 2)
        young = bench.secret(facts_of("young"))
        kept = bench.keys._kept  # noqa: SLF001 -- nothing else tells what is held
        async with bench.running():
            await until(lambda: SWEEP_SECONDS in bench.clock.pauses)
            bench.clock.advance(SWEEP_SECONDS)
            await until(lambda: bench.clock.pauses.count(SWEEP_SECONDS) == 2, lambda: bench.clock.advance(0))
            assert len(kept) == 6
            bench.clock.advance(PERSON_SECONDS / 2)
            await until(lambda: len(kept) == 1, lambda: bench.clock.advance(0))
        assert bench.secret(facts_of("young")) == young

    run(test)


# ---- new settings


def test_s5_no_key_of_an_older_epoch_is_used_again() -> None:
    bench = Bench()
    before = {bench.secret(facts_of("alice")), bench.secret(facts_of("bob")), bench.secret(ANONYMOUS)}
    bench.keys.use(settings(2))
    seals = [bench.keys.seal_for(facts) for facts in (facts_of("alice"), facts_of("bob"), ANONYMOUS)]
    assert before.isdisjoint(seal.key.secret for seal in seals)
    assert {companion_of(seal).seal_epoch for seal in seals} == {2}
    assert bench.keys.settings == settings(2)


def test_prepared_keys_stay_while_the_vaults_key_does(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.keys.fill()
    prepared = Prepared(monkeypatch)
    bench.keys.use(settings(2))
    seal = bench.keys.seal_for(facts_of("alice"))
    assert prepared.count == 0
    companion = companion_of(seal)
    info = subject_key_info(ORIGIN, WRITER, companion.key_id)
    assert (companion.vault_epoch, companion.seal_epoch) == (1, 2)
    assert VAULT.open(companion.sealed_subject_key, epoch=1, info=info) == seal.key.secret


def test_with_a_new_key_of_the_vault_prepared_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.keys.fill()
    prepared = Prepared(monkeypatch)
    bench.keys.use(settings(2, vault_epoch=2))
    seal = bench.keys.seal_for(facts_of("alice"))
    assert prepared.count == 1
    companion = companion_of(seal)
    info = subject_key_info(ORIGIN, WRITER, companion.key_id)
    assert VAULT.open(companion.sealed_subject_key, epoch=companion.vault_epoch, info=info) == seal.key.secret


def test_after_a_new_key_of_the_vault_the_pool_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(subject_keys, "POOL_KEYS", 3)
        bench = Bench()
        bench.keys.fill()
        prepared = Prepared(monkeypatch)
        async with bench.running():
            await settle()
            bench.keys.use(settings(2, vault_epoch=2))
            await until(lambda: prepared.count == 3, lambda: bench.clock.advance(0.001))

    run(test)


@pytest.mark.parametrize("low", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_vaults_key_that_shares_no_secret_is_found_before_it_is_used(low: bytes) -> None:
    """X25519 with a point of low order is all zeros, which whoever knows nothing knows too (RFC 7748 section 6.1)."""
    said = SealSettings(origin=ORIGIN, seal_epoch=2, vault=VaultKey(epoch=2, public_key=low))
    with pytest.raises(BadProof, match="want one that can be sealed to"):
        check_vault(said, writer=WRITER)
    check_vault(settings(), writer=WRITER)


# ---- secrets


def test_keys_show_nothing_and_are_not_copied_out() -> None:
    bench = Bench()
    seal = bench.keys.seal_for(facts_of("alice@example.com"))
    for shown in (repr(bench.keys), str(bench.keys), repr(seal.key), repr(seal), repr(bench.keys._kept)):  # noqa: SLF001
        assert repr(seal.key.secret)[2:-1] not in shown
        assert seal.key.secret.hex() not in shown
    with pytest.raises(TypeError, match="lives in memory only"):
        pickle.dumps(seal.key)
