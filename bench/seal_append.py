# SPDX-License-Identifier: Apache-2.0
"""What sealing costs the log: append rates of an open and a sealed log in turns, and how their indexes follow.

The invariant: both logs get the same decisions in batches made before the clock starts, and neither is measured before
both indexes have all leaves: what one still has to do is no burden on the other.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.seal_world import Known, LogPlace, Writer, sizes, wait_indexed
from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import LogChannel

BATCH = 1_024
WRITERS = 4
PEOPLE = 1_000
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True, kw_only=True)
class Follow:
    """One log under load, by repetition. `behind`: leaves not indexed when the last receipt came."""

    appended: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)
    indexed: list[float] = field(default_factory=list)
    index_us: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """By what they are."""
        return {
            "append records/s": statistics.median(self.appended),
            "leaves behind at the last receipt": statistics.median(self.behind),
            "catching up records/s": statistics.median(self.indexed),
            "processor us of a record, catching up": statistics.median(self.index_us),
            "append to indexed records/s": statistics.median(self.whole),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log that runs, its writers, and what was measured of it."""

    place: LogPlace
    pid: int
    channel: LogChannel
    writers: list[Writer]
    follow: Follow


async def measure_append(
    places: Mapping[str, tuple[LogPlace, int]], known: Known, *, batches: int, repetitions: int
) -> dict[str, Follow]:
    """Send `batches` batches of each of WRITERS writers to each log in turn, `repetitions` times."""
    logs: dict[str, Log] = {}
    for name, (place, pid) in places.items():
        writers = [Writer(place, known) for _ in range(WRITERS)]
        log = Log(place=place, pid=pid, channel=LogChannel(place.address), writers=writers, follow=Follow())
        for writer in writers:
            await writer.register(log.channel)
        logs[name] = log
    number = 0
    for repetition in range(repetitions + 1):
        turn = list(logs.values()) if repetition % 2 else list(logs.values())[::-1]
        for log in turn:
            made = [_made(writer, number, repetition, batches=batches) for writer in log.writers]
            for one in logs.values():
                await wait_indexed(one.channel)
            await _load(log, made, counts=repetition > 0)
        number += batches * BATCH
    for log in logs.values():
        await log.channel.close()
    return {name: log.follow for name, log in logs.items()}


def _made(writer: Writer, number: int, day: int, *, batches: int) -> list[log_pb2.AppendRequest]:
    writer.day = day
    return [
        writer.batch((at, f"user-{at % PEOPLE}@example.com") for at in range(begin, begin + BATCH))
        for begin in range(number, number + batches * BATCH, BATCH)
    ]


async def _load(log: Log, made: list[list[log_pb2.AppendRequest]], *, counts: bool) -> None:
    """One repetition; the first one warms up and does not count."""
    channel, before = log.channel, (await sizes(log.channel))[0]

    async def work(writer: Writer, requests: list[log_pb2.AppendRequest]) -> None:
        for request in requests:
            await writer.ship(channel, request)

    began = time.perf_counter()
    await asyncio.gather(*map(work, log.writers, made))
    appended, cpu = time.perf_counter(), processor_seconds(log.pid)
    size, indexed = await sizes(channel)
    assert size - before == sum(map(len, made)) * (BATCH + 1), "the log has other leaves than were sent"
    assert await wait_indexed(channel) == size
    ended = time.perf_counter()
    spent_cpu, behind = processor_seconds(log.pid) - cpu, size - indexed
    if counts:
        log.follow.appended.append((size - before) / (appended - began))
        log.follow.behind.append(behind)
        log.follow.indexed.append(behind / (ended - appended))
        log.follow.index_us.append(spent_cpu * 1e6 / max(behind, 1))
        log.follow.whole.append((size - before) / (ended - began))


def processor_seconds(pid: int) -> float:
    """What a process has had of processors so far (proc(5), `stat`, utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
