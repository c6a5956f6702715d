# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.log`: the audit log, measured over gRPC as writers use it, and what a reader pays.

A real `serve log` on a real folder, every file and folder synced. Writers are threads' worth of coroutines in this
process: they sign and build their batches before the clock starts, so that what is measured is the log.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import uvloop

from bench.__main__ import describe_machine
from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.keys.file import create_key_file
from iap_authz.adapters.keys.memory import MemorySigner
from iap_authz.client import LogChannel
from iap_authz.model.decision import denied
from iap_authz.model.ids import PolicyDigest
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.model.reason import Reason
from iap_authz.records.record import decision_record, new_record_id, service_record
from iap_authz.records.started import render_started
from iap_authz.records.writerlog import WriterLog, start_writer_log
from iap_authz.tlog.hashing import HASH_BYTES, leaf_hash, leaf_hashes
from iap_authz.tlog.tree import CompactRange

ORIGIN = "bench.example/log"
TOKEN = "bench-token"  # noqa: S105 - opens nothing
SHAPES = [(batch, writers) for batch in (1, 16, 256, 1_024) for writers in (1, 4, 16)]
PROOFS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Appends:
    """One shape of load: records a batch, writers, and what came of it."""

    batch: int
    writers: int
    records_per_second: float
    p50_ms: float
    p99_ms: float


class BenchWriter:
    """A writer whose batches are made ahead of time."""

    def __init__(self) -> None:
        self.signer = MemorySigner()
        self.log: WriterLog = start_writer_log(ORIGIN, self.signer.public_key, sign=self.signer.sign)
        started = render_started(
            ORIGIN, self.signer.public_key, sign=self.signer.sign, workload="bench", instance="bench", version="0"
        )
        self.started = service_record(
            started,
            writer=self.log.writer,
            sequence=RecordSequence(0),
            record_id=new_record_id(),
            time=datetime.now(UTC),
        )
        self.requests = [self._request(0, [self.started])]

    def registration(self) -> log_pb2.RegisterRequest:
        """Record 0 alone is the tree: its inclusion proof is empty."""
        return log_pb2.RegisterRequest(
            public_key=self.signer.public_key,
            started=self.started,
            checkpoint=self.requests[0].checkpoint,
            enrolment_token=TOKEN,
        )

    def prepare(self, batches: int, size: int) -> None:
        """Make so many batches of `size` records of about 700 bytes."""
        for _ in range(batches):
            begin = self.log.size
            records = [self._record(begin + number) for number in range(size)]
            self.requests.append(self._request(begin, records))

    def _record(self, sequence: int) -> bytes:
        facts = facts_pb2.Facts()
        facts.identity.subject = f"user-{sequence % 997}@example.com"
        facts.request.path, facts.request.user_agent = f"/api/orders/{sequence}", "x" * 420
        return decision_record(
            denied(Reason.NO_RULE_MATCHED, PolicyDigest(bytes(32))),
            facts,
            writer=self.log.writer,
            sequence=RecordSequence(sequence),
            record_id=new_record_id(),
            time=datetime.now(UTC),
            spent=timedelta(milliseconds=1),
            http_status=403,
            seal=None,
        )

    def _request(self, begin: int, records: Sequence[bytes]) -> log_pb2.AppendRequest:
        self.log, note = self.log.commit(leaf_hashes(records))
        request = log_pb2.AppendRequest(writer=self.log.writer, to=self.log.size, records=records, checkpoint=note)
        setattr(request, "from", begin)
        return request


@contextmanager
def running_log(folder: Path) -> Iterator[tuple[str, int]]:
    """A log process in `folder`; its socket and process id."""
    create_key_file(folder / "log.key", ORIGIN)
    digest = sha256(TOKEN.encode()).hexdigest()
    (folder / "enrolment.yaml").write_text(f"tokens:\n- {{name: bench, sha256: {digest}}}\n")
    (folder / "log.yaml").write_text(
        f"kind: Log\norigin: {ORIGIN}\nkey_file: log.key\ndirectory: store\nlisten: unix:log.sock\n"
        "enrolment_file: enrolment.yaml\nvault: none\n"
    )
    command = [
        sys.executable,
        "-m",
        "iap_authz",
        "serve",
        "log",
        "-c",
        str(folder / "log.yaml"),
        "--log-level",
        "error",
    ]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while not (folder / "log.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"unix:{folder / 'log.sock'}", process.pid
    finally:
        process.terminate()
        process.wait(30)


async def measure_appends(address: str, *, batch: int, writers: int, records: int) -> Appends:
    """Send `records` records in batches from so many writers at once, each with two batches in flight."""
    made = [BenchWriter() for _ in range(writers)]
    for writer in made:
        writer.prepare(max(records // (batch * writers), 4), batch)
    latencies: list[float] = []
    channel = LogChannel(address)
    for writer in made:
        await channel.register(writer.registration())
        await channel.append(writer.requests[0])

    async def work(writer: BenchWriter) -> None:
        for request in writer.requests[1:]:
            began = time.perf_counter()
            await channel.append(request)
            latencies.append((time.perf_counter() - began) * 1e3)

    started = time.perf_counter()
    await asyncio.gather(*map(work, made))
    spent = time.perf_counter() - started
    await channel.close()
    total = sum(len(request.records) for writer in made for request in writer.requests[1:])
    latencies.sort()
    return Appends(
        batch=batch,
        writers=writers,
        records_per_second=total / spent,
        p50_ms=statistics.median(latencies),
        p99_ms=latencies[int(len(latencies) * 0.99)],
    )


async def measure_proofs(address: str) -> dict[str, float]:
    """Milliseconds at p50 of an inclusion proof by index and by hash, over the whole of the log."""
    found: dict[str, float] = {}
    channel = LogChannel(address)
    while True:
        state = await channel.get_state(log_pb2.GetLogStateRequest())
        size = int(state.head_checkpoint.split(b"\n")[1])
        if state.indexed_size == size:
            break
        await asyncio.sleep(0.2)
    indices = [number * (size - 1) // PROOFS for number in range(PROOFS)]
    hashes: list[bytes] = []
    for index in indices[:: PROOFS // 200]:
        entries = channel.get_entries(log_pb2.GetEntriesRequest(first=index, count=1))
        hashes += [leaf_hash(entry.record) async for entry in entries]
    for name, requests in (
        ("by index", [log_pb2.GetInclusionProofRequest(index=index) for index in indices]),
        ("by hash", [log_pb2.GetInclusionProofRequest(leaf_hash=one) for one in hashes]),
    ):
        times = []
        for request in requests:
            began = time.perf_counter()
            await channel.prove_inclusion(request)
            times.append((time.perf_counter() - began) * 1e3)
        found[name] = statistics.median(times)
    await channel.close()
    return {**found, "size": float(size)}


def measure_verifying(records: int) -> float:
    """Seconds to hash so many records of 700 bytes into a tree, as an auditor does who has the bundles."""
    leaves = [os.urandom(16) * 44 for _ in range(1_000)]
    tree = CompactRange.empty()
    started = time.perf_counter()
    for _round in range(records // len(leaves)):
        tree = tree.extend(leaf_hashes(leaves))
    assert tree.end == records
    assert len(tree.root()) == HASH_BYTES
    return time.perf_counter() - started


def resident_mib(pid: int) -> float:
    """What a process holds in memory."""
    fields = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) / 1024


def stored_bytes(folder: Path) -> tuple[int, int]:
    """Bytes below the store, and bytes of them that are entry bundles."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    bundles = [path for path in files if "entries" in path.parts]
    return sum(path.stat().st_size for path in files), sum(path.stat().st_size for path in bundles)


def written_bytes(pid: int) -> int:
    """What a process has had written to storage."""
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["write_bytes"])


def main() -> None:
    """Measure and report in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.log", description=__doc__)
    parser.add_argument("--records", type=int, default=60_000, help="records in each shape of load")
    parser.add_argument("--total", type=int, default=1_000_000, help="records in the log for proofs and memory")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        machine = describe_machine(Path(scratch))
        with running_log(Path(scratch)) as (address, _):
            shapes = [
                uvloop.run(
                    measure_appends(
                        address, batch=batch, writers=writers, records=min(arguments.records, batch * 3_000)
                    )
                )
                for batch, writers in SHAPES
            ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with running_log(folder) as (address, pid):
            memory = [resident_mib(pid)]
            for _ in range(4):
                load = measure_appends(address, batch=1_024, writers=4, records=arguments.total // 4)
                uvloop.run(load)
                memory.append(resident_mib(pid))
            proofs = uvloop.run(measure_proofs(address))
            written = written_bytes(pid)
            memory.append(resident_mib(pid))
        total, bundles = stored_bytes(folder / "store")
    figures = {
        "machine": machine,
        "appends": [asdict(one) for one in shapes],
        "proofs_ms": proofs,
        "memory_mib": memory,
        "verify_million_s": measure_verifying(1_000_000),
        "bytes": {"bundles": bundles, "stored": total, "written": written},
    }
    report(figures, shapes)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def report(figures: dict[str, object], shapes: Sequence[Appends]) -> None:
    """The tables, in Markdown."""
    for name, value in figures["machine"].items():  # type: ignore[attr-defined]
        print(f"| {name} | {value} |")
    print("\n| records a batch | writers | records/s | receipt p50 ms | p99 ms |\n|---|---|---|---|---|")
    for one in shapes:
        print(f"| {one.batch} | {one.writers} | {one.records_per_second:.0f} | {one.p50_ms:.1f} | {one.p99_ms:.1f} |")
    for name in ("proofs_ms", "memory_mib", "verify_million_s", "bytes"):
        print(f"\n{name}: {figures[name]}")


if __name__ == "__main__":
    main()
