# SPDX-License-Identifier: Apache-2.0
"""The life of one writer: what its first records are, what a new policy needs, and what the last record is."""

import asyncio
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable

import pytest

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.policy.bundle import load_canonical
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile
from iap_authz.records.room import Room
from iap_authz.records.started import render_started
from iap_authz.sidecar.refusals import RefusalCounter
from iap_authz.sidecar.service import Measures, Sidecar
from iap_authz.sidecar.snapshot import Snapshot
from tests.fakes.clock import ManualClock
from tests.fakes.journal import ORIGIN, FixedSigner, MemoryJournal
from tests.unit.sidecar.test_snapshot import snapshot


def policy_of(*paths: str) -> Snapshot:
    routes = "".join(f'- {{name: r{n}, match: {{paths: ["{path}"]}}}}\n' for n, path in enumerate(paths))
    content = f"kind: Policy\nname: test\nroutes:\n{routes}".encode()
    return dataclasses.replace(snapshot(), policy=load_policy([SourceFile(name="p.yaml", content=content)]))


class Bench:
    def __init__(self, first: Snapshot) -> None:
        signer, clock = FixedSigner(), ManualClock()
        self.next = first
        self.shipped = self.oldest_seal_epoch = 0
        self.drained: list[tuple[str | None, bool]] = []
        self.journal = MemoryJournal(signer)
        self.refusals = RefusalCounter(self.journal, clock)
        self.sidecar = Sidecar(
            journal=self.journal,
            clock=clock,
            refusals=self.refusals,
            started=render_started(
                ORIGIN, signer.public_key, sign=signer.sign, workload="w", instance="i", version="0"
            ),
            build=lambda _: self.next,
            measure=lambda: Measures(
                journal_bytes=1,
                journal_bound_bytes=2,
                source_ages={"keys": 1.5},
                log_checkpoint=b"the log's note",
                shipped_sequence=self.shipped,
                oldest_seal_epoch=self.oldest_seal_epoch,
            ),
            drain=self.drain,
        )

    async def drain(self) -> None:
        """Notes what the last record is, and whether it is durable, when the shipper is told to hurry."""
        self.drained.append((self.bodies()[-1], not self.journal._waiting))  # noqa: SLF001

    def bodies(self) -> list[str | None]:
        return [record.WhichOneof("body") for record in self.journal.records]


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_w2_first_records_are_the_writer_and_the_whole_policy() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        assert bench.bodies() == ["writer_started", "policy_chunk", "policy_loaded"]
        chunk, loaded = bench.journal.records[1].policy_chunk, bench.journal.records[2].policy_loaded
        assert hashlib.sha256(chunk.bytes).digest() == chunk.digest == loaded.digest
        assert load_canonical(chunk.bytes).digest == bench.sidecar.snapshot().policy.digest

    run(test)


def test_large_policy_is_recorded_in_chunks() -> None:
    async def test() -> None:
        bench = Bench(policy_of(*(f"/a/{number}/{'x' * 100}" for number in range(600))))
        await bench.sidecar.start()
        chunks = [
            record.policy_chunk for record in bench.journal.records if record.WhichOneof("body") == "policy_chunk"
        ]
        assert len(chunks) > 1
        assert [(chunk.index, chunk.count) for chunk in chunks] == [(n, len(chunks)) for n in range(len(chunks))]
        joined = b"".join(chunk.bytes for chunk in chunks)
        assert hashlib.sha256(joined).digest() == bench.sidecar.snapshot().policy.digest

    run(test)


def test_new_policy_is_recorded_before_it_decides() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        old = bench.sidecar.snapshot()
        bench.next = policy_of("/b")
        bench.sidecar.renew()
        assert bench.bodies()[3:] == ["policy_chunk", "policy_loaded"]
        assert bench.journal.records[4].policy_loaded.previous_digest == old.policy.digest
        assert bench.sidecar.snapshot() is bench.next

    run(test)


def test_policy_that_finds_no_room_stays_out() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        old = bench.sidecar.snapshot()
        bench.next = dataclasses.replace(policy_of("/b"), issuers=())
        bench.journal.full = set(Room)
        bench.sidecar.renew()
        in_force = bench.sidecar.snapshot()
        assert in_force.policy is old.policy
        assert in_force.issuers == ()  # revoked keys do not wait for the policy
        bench.sidecar._renew_if_due()  # noqa: SLF001
        assert bench.sidecar.snapshot().policy is old.policy
        bench.journal.full = set()
        bench.sidecar._renew_if_due()  # noqa: SLF001
        assert bench.sidecar.snapshot() is bench.next

    run(test)


def test_same_policy_is_not_recorded_again() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        bench.next = policy_of("/a")
        bench.sidecar.renew()
        assert len(bench.journal.records) == 3
        assert bench.sidecar.snapshot() is bench.next

    run(test)


def test_no_snapshot_before_the_first_records_are_durable() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        with pytest.raises(RuntimeError):
            bench.sidecar.snapshot()
        bench.journal._hold = True  # noqa: SLF001
        starting = asyncio.create_task(bench.sidecar.start())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            bench.sidecar.snapshot()
        bench.journal.release()
        await starting
        assert bench.sidecar.snapshot() is bench.next

    run(test)


def test_w4_failed_journal_ends_the_service() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        running = asyncio.create_task(bench.sidecar.run())
        await asyncio.sleep(0)
        bench.journal.fail(OSError(5, "I/O error"))
        with pytest.raises(OSError, match="I/O error"):
            await asyncio.wait_for(running, 5.0)

    run(test)


def test_last_record_is_the_end_of_the_writer() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        await bench.sidecar.stop("sigterm")
        last = bench.journal.records[-1]
        assert last.WhichOneof("body") == "writer_stopped"
        assert last.writer_stopped.cause == "sigterm"
        assert record_pb2.Record.FromString(bench.journal.leaves[-1]).sequence == 3

    run(test)


def test_g3_heartbeats_and_the_end_quote_the_log() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        bench.shipped = 2
        bench.sidecar._beat()  # noqa: SLF001
        await bench.sidecar.stop("sigterm")
        beat, stopped = bench.journal.records[-2].heartbeat, bench.journal.records[-1].writer_stopped
        assert (beat.log_checkpoint, beat.shipped_sequence) == (b"the log's note", 2)
        assert stopped.log_checkpoint == b"the log's note"

    run(test)


def test_s5_a_heartbeat_says_from_which_seal_epoch_on_there_is_anything() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        for bench.oldest_seal_epoch in (0, 4, 7):
            bench.sidecar._beat()  # noqa: SLF001
        claims = [record.heartbeat.oldest_seal_epoch for record in bench.journal.records[-3:]]
        assert claims == [0, 4, 7]

    run(test)


def test_the_last_record_is_durable_before_the_shipper_has_its_last_chance() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        await bench.sidecar.stop("sigterm")
        assert bench.drained == [("writer_stopped", True)]

    run(test)


def test_w4_a_failed_journal_is_not_drained() -> None:
    async def test() -> None:
        bench = Bench(policy_of("/a"))
        await bench.sidecar.start()
        bench.journal.fail(OSError(5, "I/O error"))
        await bench.sidecar.stop("journal failed")
        assert bench.drained == []

    run(test)
