# SPDX-License-Identifier: Apache-2.0
"""Batches with companions: what is taken and kept, what is refused and leaves the log as it was (rules S2, S4, S5)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, IapError, Malformed, Refused
from iap_authz.records.admission import BATCH_MAX_BYTES, parse_batch
from iap_authz.records.record import parse_record
from iap_authz.records.seal import COMPANION_MAX_BYTES, SALT_BYTES
from iap_authz.records.seal_settings import open_settings
from iap_authz.tlog.batch import Write, parse_stage
from iap_authz.tlog.hashing import LeafIndex, leaf_hash
from tests.fakes.journal import ORIGIN
from tests.fakes.log_core import LogCore, Shipper, Stores, open_core
from tests.fakes.sealed import (
    VAULT,
    SealingWriter,
    TestVault,
    facts_of,
    open_leaf,
    seal_of,
    sealed_decision,
)
from tests.fakes.stores import MemoryTileStore

Test = Callable[[LogCore, Shipper], Awaitable[None]]


def sealing_shipper(seed: str = "writer", *, seal_epoch: int = 0, vault: TestVault = VAULT) -> Shipper:
    return Shipper(made=SealingWriter(seed, seal_epoch=seal_epoch, vault=vault))


def made_of(writer: Shipper) -> SealingWriter:
    assert isinstance(writer.made, SealingWriter)
    return writer.made


def sealed(writer: Shipper, *subjects: str) -> tuple[int, int]:
    """A batch of decisions about these subjects."""
    begin = len(writer.made.leaves)
    for subject in subjects:
        made_of(writer).add_sealed(subject)
    return writer.commit(begin)


def play(test: Test, stores: Stores | None = None, *, writer: Shipper | None = None) -> Stores:
    """One life of a log with a vault and a registered writer that has sent record 0."""
    kept = stores if stores is not None else Stores(vault=VAULT)
    shipper = sealing_shipper() if writer is None else writer

    async def main() -> None:
        async with open_core(kept) as core:
            await core.log.register(shipper.registration())
            await core.log.append(shipper.batch(0, 1))
            await test(core, shipper)
            core.check_whole()

    asyncio.run(main())
    return kept


def check_kept(stores: Stores, writer: Shipper, entries: list[bytes]) -> int:
    """Each sealed leaf has beside it exactly what was sent, and opens with it; how many there are."""
    sent = stores.ledger.companions.sent  # type: ignore[attr-defined]
    count = 0
    for index, leaf in enumerate(entries):
        record = parse_record(leaf)
        if record.WhichOneof("personal") == "sealed" and record.writer == writer.made.writer:
            assert sent[LeafIndex(index)] == writer.besides[record.sequence]
            assert open_leaf(leaf, sent[LeafIndex(index)], vault=made_of(writer).vault).HasField("decision")
            count += 1
    return count


def test_s2_companions_are_kept_beside_their_leaves() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        span = sealed(writer, "alice", "bob", "alice", *["carol"] * 300)
        receipt = (await core.log.append(writer.batch(*span))).receipt
        writer.check(receipt, *span, key=core.key)
        mixed = len(writer.made.leaves)
        writer.made.add()
        made_of(writer).add_sealed("bob")
        await core.log.append(writer.batch(*writer.commit(mixed)))
        entries.extend(core.entries())
        writers.append(writer)

    entries, writers = list[bytes](), list[Shipper]()
    stores = play(test)
    assert check_kept(stores, writers[0], entries) == 304
    assert len(stores.ledger.companions.subject_keys) == 3  # type: ignore[attr-defined]


def test_s6_no_companion_is_anywhere_once_the_stages_are_gone() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(*sealed(writer, "alice", "bob")))
        writers.append(writer)

    writers = list[Shipper]()
    stores = play(test)
    assert isinstance(stores.tiles, MemoryTileStore)
    assert stores.tiles.stages() == []
    content = b"".join(stores.tiles.resources.values())
    assert not [beside for beside in writers[0].besides.values() if beside[SALT_BYTES + 20 :] in content]


class StageKeeper(MemoryTileStore):
    """Remembers each stage that was written."""

    def __init__(self) -> None:
        super().__init__()
        self.staged: list[bytes] = []

    def create(self, writes: Sequence[Write]) -> None:
        self.staged += [one.content for one in writes if one.path.startswith("stage/")]
        super().create(writes)


def test_a_stage_holds_them_until_then() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(*sealed(writer, *["alice"] * 50)))
        stage = parse_stage(tiles.staged[-1])
        assert len(stage.entries) == 51
        (content,) = {beside[SALT_BYTES:] for beside in writer.besides.values()}
        assert stage.beside.count(content) == 1
        assert all(beside[:SALT_BYTES] in stage.beside for beside in writer.besides.values())

    tiles = StageKeeper()
    play(test, Stores(vault=VAULT, tiles=tiles))


def test_a1_what_comes_beside_a_repeated_batch_is_not_looked_at() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        span = sealed(writer, "alice", "bob")
        first = await core.log.append(writer.batch(*span))
        again = writer.batch(*span)
        again.companions[0].salt = bytes(SALT_BYTES)
        del again.companions[1]
        assert (await core.log.append(again)).receipt == first.receipt
        entries.extend(core.entries())
        writers.append(writer)

    entries, writers = list[bytes](), list[Shipper]()
    stores = play(test)
    assert check_kept(stores, writers[0], entries) == 2


def swap(request: log_pb2.AppendRequest) -> None:
    first, second = request.companions[0], request.companions[1]
    first.salt, second.salt = second.salt, first.salt


def change(**fields: bytes | int) -> Callable[[log_pb2.AppendRequest], None]:
    def apply(request: log_pb2.AppendRequest) -> None:
        for name, value in fields.items():
            setattr(request.companions[0], name, value)

    return apply


def drop(request: log_pb2.AppendRequest) -> None:
    del request.companions[0]


def twice(request: log_pb2.AppendRequest) -> None:
    request.companions.insert(0, request.companions[0])


def turn(request: log_pb2.AppendRequest) -> None:
    found = list(request.companions)[::-1]
    del request.companions[:]
    request.companions.extend(found)


def foreign(request: log_pb2.AppendRequest) -> None:
    request.companions[0].companion = seal_of(ORIGIN, b"\x09" * 32).beside[SALT_BYTES:]


def spelt(request: log_pb2.AppendRequest) -> None:
    """Another spelling of the same message."""
    request.companions[0].companion += b"\x18\x01"


SPOILINGS: dict[str, tuple[Callable[[log_pb2.AppendRequest], None], type[IapError]]] = {
    "one is missing": (drop, Malformed),
    "one stands twice": (twice, Malformed),
    "not in order": (turn, Malformed),
    "salts swapped": (swap, BadProof),
    "another key's": (foreign, BadProof),
    "another spelling": (spelt, Malformed),
    "no salt": (change(salt=b""), Malformed),
    "a short salt": (change(salt=bytes(31)), Malformed),
    "a long salt": (change(salt=bytes(33)), Malformed),
    "another salt": (change(salt=bytes(32)), BadProof),
    "no companion": (change(companion=b""), Malformed),
    "junk": (change(companion=b"junk"), Malformed),
    "a long companion": (change(companion=bytes(COMPANION_MAX_BYTES + 1)), Malformed),
    "of a record before": (change(sequence=0), Malformed),
    "of a record after": (change(sequence=3), Malformed),
    "of no record": (change(sequence=(1 << 64) - 1), Malformed),
}


@pytest.mark.parametrize("case", SPOILINGS)
def test_s2_companions_that_are_not_those_of_the_records_are_refused(case: str) -> None:
    spoil, error = SPOILINGS[case]

    async def test(core: LogCore, writer: Shipper) -> None:
        span = sealed(writer, "alice", "bob")
        request = writer.batch(*span)
        spoil(request)
        size = core.sequencer.reader.size()
        with pytest.raises(error):
            await core.log.append(request)
        assert core.sequencer.reader.size() == size
        await core.log.append(writer.batch(*span))

    play(test)


def test_a_companion_of_a_record_without_a_sealed_part_is_refused() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        begin = len(writer.made.leaves)
        writer.made.add()
        made_of(writer).besides[begin] = seal_of(ORIGIN, writer.made.writer).beside
        with pytest.raises(Malformed, match="which has nothing sealed"):
            await core.log.append(writer.batch(*writer.commit(begin)))

    play(test)


def spoiled(writer: Shipper, spoil: Callable[[record_pb2.Record], None]) -> log_pb2.AppendRequest:
    """A batch of one sealed record that its writer has changed before it signed."""
    begin = len(writer.made.leaves)
    record = parse_record(made_of(writer).add_sealed())
    spoil(record)
    writer.made.leaves[-1] = record.SerializeToString(deterministic=True)
    return writer.batch(*writer.commit(begin))


@pytest.mark.parametrize(
    ("part", "value", "error"),
    [
        ("version", 2, Malformed),
        ("ciphertext", b"", Malformed),
        ("ciphertext", bytes(257), Malformed),
        ("key_commitment", bytes(31), Malformed),
        ("companion_sha256", bytes(31), Malformed),
        ("companion_sha256", bytes(32), BadProof),
    ],
)
def test_a_sealed_part_of_another_shape_is_refused(part: str, value: object, error: type[IapError]) -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        with pytest.raises(error):
            await core.log.append(spoiled(writer, lambda record: setattr(record.sealed, part, value)))

    play(test)


def test_s4_a_log_with_a_vault_takes_nothing_open() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        begin = len(writer.made.leaves)
        writer.made.leaves.append(sealed_decision(begin, seal=None, writer=writer.made.writer))
        with pytest.raises(Refused, match=r"set seal\.vault_key"):
            await core.log.append(writer.batch(*writer.commit(begin)))

    play(test)


def test_a_log_without_a_vault_takes_nothing_sealed_and_says_no_settings() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        assert (await core.log.append(writer.batch(0, 1))).seal_settings == b""
        with pytest.raises(Refused, match="this log has no vault"):
            await core.log.append(writer.batch(*sealed(writer, "alice")))

    play(test, Stores())


def test_a_log_without_a_vault_takes_what_is_open() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        begin = len(writer.made.leaves)
        writer.made.leaves.append(sealed_decision(begin, seal=None, writer=writer.made.writer, facts=facts_of("alice")))
        await core.log.append(writer.batch(*writer.commit(begin)))

    play(test, Stores(), writer=Shipper())


def test_a_key_of_an_epoch_that_the_vault_has_not_is_refused_with_those_it_has() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        with pytest.raises(Refused, match=r"got a key sealed to vault epoch 7, want one of \[1, 2\]"):
            await core.log.append(writer.batch(*sealed(writer, "alice")))

    vault = TestVault(1, 2, 7)
    writer = sealing_shipper(vault=vault)
    play(test, Stores(vault=TestVault(1, 2)), writer=writer)


def test_s5_a_key_of_an_epoch_to_come_is_refused_and_an_older_one_is_late_only() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        made_of(writer).adopt(1)
        span = sealed(writer, "alice")
        with pytest.raises(Refused, match="got a key of seal epoch 1, want at most 0"):
            await core.log.append(writer.batch(*span))
        assert await core.sealing.raise_epoch() == 1
        answer = await core.log.append(writer.batch(*span))
        assert open_settings(answer.seal_settings, [core.key]).seal_epoch == 1
        made_of(writer).adopt(0)
        await core.log.append(writer.batch(*sealed(writer, "alice")))

    play(test)


def test_both_answers_say_the_settings() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        registered = await core.log.register(writer.registration())
        appended = await core.log.append(writer.batch(0, 1))
        assert registered.seal_settings == appended.seal_settings == core.sealing.note != b""
        assert open_settings(core.sealing.note, [core.key]).vault == VAULT.vault_key()

    play(test)


def test_the_bound_of_a_batch_counts_what_is_beside_it() -> None:
    writer = sealing_shipper()
    begin, end = sealed(writer, *["alice"] * 3)
    request = writer.batch(begin, end)
    batch = parse_batch(request)
    beside = sum(map(len, writer.besides.values()))
    assert batch.size_bytes == sum(map(len, writer.made.leaves[begin:])) + beside
    full = BATCH_MAX_BYTES - beside
    request.records[:] = [bytes(full - 2), b"x", b"x"]
    assert parse_batch(request).size_bytes == BATCH_MAX_BYTES
    request.records[0] += b"x"
    with pytest.raises(Malformed, match="want at most"):
        parse_batch(request)


def test_it_shows_no_companion_of_itself() -> None:
    writer = sealing_shipper()
    batch = parse_batch(writer.batch(*sealed(writer, "alice")))
    assert "companions" not in repr(batch)


def test_record_0_has_no_personal_part_where_nothing_could_travel_with_it() -> None:
    async def main() -> None:
        async with open_core(Stores(vault=VAULT)) as core:
            for form, error in (("open", Refused), ("sealed", Malformed)):
                writer = sealing_shipper(form)
                record = parse_record(writer.made.leaves[0])
                getattr(record, form).SetInParent()
                writer.made.leaves[0] = record.SerializeToString(deterministic=True)
                writer.made.log = type(writer.made.log)(
                    tree=writer.made.log.tree.empty(), signer=writer.made.log.signer
                )
                writer.made.log, writer.notes[1] = writer.made.log.commit([leaf_hash(writer.made.leaves[0])])
                with pytest.raises(error):
                    await core.log.register(writer.registration())
            assert core.entries() == []

    asyncio.run(main())


def test_companions_of_rounds_that_were_not_recorded_come_from_the_stages() -> None:
    """The log freezes, so nothing is recorded any more; the next process finds the stages."""
    stores, writer = Stores(vault=VAULT), sealing_shipper()

    async def first(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(*sealed(writer, "alice", "bob")))
        await core.log.append(writer.batch(*sealed(writer, "alice")))
        await core.sequencer.freeze("a test", [])

    play(first, stores, writer=writer)
    entries = list[bytes]()

    async def second() -> None:
        async with open_core(stores) as core:
            entries.extend(core.entries())
            core.check_whole()

    asyncio.run(second())
    assert check_kept(stores, writer, entries) == 3


def test_the_state_says_the_epochs_and_what_they_are_used_for() -> None:
    async def test(core: LogCore, writer: Shipper) -> None:
        await core.log.append(writer.batch(*sealed(writer, "alice", "bob", "alice")))
        await core.own.append(record_pb2.LogRead(), record_pb2.LogReadPersonal(reader="eve"))

    async def look() -> None:
        async with open_core(stores) as core:
            state = await core.log.get_state(log_pb2.GetLogStateRequest())
            assert (state.seal_epoch, state.vault_epoch) == (0, 1)
            assert [(one.epoch, one.keys) for one in state.vault_epochs] == [(1, 3)]

    stores = play(test)
    asyncio.run(look())
