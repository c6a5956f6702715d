# SPDX-License-Identifier: Apache-2.0
"""A process that appends to a journal under load until it is killed, and prints each audit id once it is durable.

Every second record is sealed, and a new segment is asked for now and then.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.clock import SystemClock
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.adapters.keys.memory import MemorySigner
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.ports import Appended
from iap_authz.records.record import new_record_id, service_record
from iap_authz.records.room import MIB, JournalBounds, Room
from iap_authz.records.seal import Seal, new_seal
from iap_authz.records.started import render_started
from tests.fakes.journal import fixed_subject_key

BOUNDS = JournalBounds(bound_bytes=512 * MIB, reserve_bytes=MIB // 4, segment_bytes=MIB)
CLIENTS = 16
RECORDS_A_MARK = 97


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

    def build_sealed(writer: WriterId, sequence: Sequence, *, seal: Seal) -> bytes:
        return service_record(
            record_pb2.Outcome(kind=record_pb2.Outcome.REQUEST_FINISHED, decision=bytes(32)),
            writer=writer,
            sequence=sequence,
            record_id=new_record_id(),
            time=clock.now(),
            personal=(record_pb2.OutcomePersonal(upstream_address="192.0.2.7:443"), seal),
        )

    def append() -> Appended:
        seal = new_seal(origin, fixed_subject_key("appender"))
        return journal.append_nowait(partial(build_sealed, seal=seal), room=Room.ALLOW, beside=seal.beside)

    await asyncio.shield(journal.append_nowait(start, room=Room.RESERVE).durable)

    async def client(number: int) -> None:
        while True:
            appended = append() if number % 2 else journal.append_nowait(build, room=Room.ALLOW)
            if appended.sequence % RECORDS_A_MARK == 0:
                journal.begin_segment()
            await asyncio.shield(appended.durable)
            # One write for each line: what the reader has of it survives the kill.
            os.write(1, f"{journal.writer.hex()} {appended.sequence} {appended.audit_id}\n".encode())

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
