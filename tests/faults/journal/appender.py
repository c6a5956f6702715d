# SPDX-License-Identifier: Apache-2.0
"""A process that appends to a journal under load until it is killed, and prints each audit id once it is durable."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.clock import SystemClock
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.keys.memory import MemorySigner
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.records.record import new_record_id, service_record
from iap_authz.records.room import MIB, JournalBounds, Room
from iap_authz.records.started import render_started

BOUNDS = JournalBounds(bound_bytes=512 * MIB, reserve_bytes=MIB // 4, segment_bytes=MIB)
CLIENTS = 16


async def main(directory: Path, origin: str) -> None:
    signer = MemorySigner()
    journal = FileJournal.open(directory, origin=origin, signer=signer, bounds=BOUNDS)
    clock = SystemClock(journal.predecessor_time, wall=lambda: datetime.now(UTC))
    started = render_started(
        origin,
        signer.public_key,
        sign=signer.sign,
        workload="appender",
        instance=str(os.getpid()),
        version="0",
        predecessor=journal.predecessor,
    )

    def start(writer: WriterId, sequence: Sequence) -> bytes:
        return service_record(started, writer=writer, sequence=sequence, record_id=new_record_id(), time=clock.now())

    def build(writer: WriterId, sequence: Sequence) -> bytes:
        body = record_pb2.SettingChanged(setting=str(sequence), after="x" * (sequence * 37 % 3_000))
        return service_record(body, writer=writer, sequence=sequence, record_id=new_record_id(), time=clock.now())

    await asyncio.shield(journal.append_nowait(start, room=Room.RESERVE).durable)

    async def client() -> None:
        while True:
            appended = journal.append_nowait(build, room=Room.ALLOW)
            await asyncio.shield(appended.durable)
            # One write for each line: what the reader has of it survives the kill.
            os.write(1, f"{journal.writer.hex()} {appended.sequence} {appended.audit_id}\n".encode())

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
