# SPDX-License-Identifier: Apache-2.0
"""What it costs an investigator to open 1,000 records: one call of Unseal, and the whole of what the client proves.

The invariant: each opened text is compared with what was sealed. "Cold" is the first opening after a start of the log,
which opens each subject key by the vault; "again" has them in memory.
"""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import uvloop

from bench.seal_world import Asked, Known, LogPlace, Writer, path_of, serving, wait_indexed
from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import AuditLogClient, CheckpointFile, LogChannel, Outcome, UnsealedRecord
from iap_authz.model.roles import Role
from iap_authz.records.unsealed import open_records
from iap_authz.tlog.hashing import LeafIndex

ASKED = 1_000
BATCH = 1_024
FEW = 10
SCATTER = 8
PURPOSE = "a benchmark"


@dataclass(slots=True, kw_only=True)
class Opening:
    """Milliseconds for `indices`, by start of the log: the bare call cold and again, and the client's whole answer."""

    indices: list[LeafIndex]
    cold: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """By what they are."""
        return {
            "Unseal, cold ms": statistics.median(self.cold),
            "Unseal, again ms": statistics.median(self.again),
            "client.unseal, all proven ms": statistics.median(self.client),
        }


def measure_opening(place: LogPlace, known: Known, *, repetitions: int) -> dict[str, Opening]:
    """Three lists of 1,000 records; the log is started anew for each repetition."""
    expected: dict[LeafIndex, Asked] = {}
    with serving(place):
        openings = uvloop.run(_fill(place, known, expected))
    for _ in range(repetitions):
        with serving(place):
            uvloop.run(_measure(place, openings, expected))
    return openings


async def _fill(place: LogPlace, known: Known, expected: dict[LeafIndex, Asked]) -> dict[str, Opening]:
    async with LogChannel(place.address) as channel:
        writer = Writer(place, known)
        await writer.register(channel)
        few = await _ship(writer, channel, ((at, f"few-{at % FEW}@example.com") for at in range(BATCH)), expected)
        begin = BATCH
        many = await _ship(writer, channel, _distinct(begin), expected)
        spread: list[LeafIndex] = []
        for _ in range(SCATTER):
            begin += BATCH
            spread += await _ship(writer, channel, _distinct(begin), expected)
        await wait_indexed(channel)
    return {
        f"{FEW} subjects, neighbours": Opening(indices=few[:ASKED]),
        "1,000 subjects, neighbours": Opening(indices=many[:ASKED]),
        f"1,000 subjects, each {SCATTER}th leaf": Opening(indices=spread[::SCATTER][:ASKED]),
    }


def _distinct(begin: int) -> Iterable[Asked]:
    return ((at, f"user-{at}@example.com") for at in range(begin, begin + BATCH))


async def _ship(
    writer: Writer, channel: LogChannel, asked: Iterable[Asked], expected: dict[LeafIndex, Asked]
) -> list[LeafIndex]:
    listed = list(asked)
    receipt = await writer.ship(channel, writer.batch(listed))
    indices = [LeafIndex(receipt.first_index + at) for at in range(len(listed))]
    expected.update(zip(indices, listed, strict=True))
    return indices


async def _measure(place: LogPlace, openings: dict[str, Opening], expected: dict[LeafIndex, Asked]) -> None:
    token = Role.INVESTIGATOR.value
    channel = LogChannel(place.address, token=token)
    checkpoints = CheckpointFile(place.folder / "client.checkpoint")
    client = AuditLogClient.connect(place.address, verifier=place.verifier, checkpoints=checkpoints, token=token)
    async with channel, client:
        last = max(expected)
        await client.unseal([last], PURPOSE)  # what the process imports and opens at first is nobody's cost
        for opening in openings.values():
            answers = [await _timed(channel, opening.indices, times) for times in (opening.cold, opening.again)]
            began = time.perf_counter()
            opened = await client.unseal(opening.indices, PURPOSE)
            opening.client.append((time.perf_counter() - began) * 1e3)
            check_opened(opened, [expected[index] for index in opening.indices])
            leaves = {one.index: one.leaf for one in opened}
            for answer in answers:
                same = open_records(leaves, answer, asked=opening.indices, origin=place.verifier.name)
                check_opened(same, [expected[index] for index in opening.indices])


async def _timed(channel: LogChannel, indices: Sequence[LeafIndex], times: list[float]) -> log_pb2.UnsealResponse:
    began = time.perf_counter()
    answer = await channel.unseal(log_pb2.UnsealRequest(indices=indices, purpose=PURPOSE))
    times.append((time.perf_counter() - began) * 1e3)
    return answer


def check_opened(opened: Sequence[UnsealedRecord], asked: Sequence[Asked]) -> None:
    """Stop unless each record was opened and says what was sealed in it."""
    assert opened
    texts = [(subject, path_of(number)) for number, subject in asked]
    assert [_text(one) for one in opened] == texts, "what was opened is not what was sealed"


def _text(one: UnsealedRecord) -> tuple[str, str]:
    assert one.outcome is Outcome.OPENED, (one.index, one.outcome)
    assert one.personal is not None
    facts = one.personal.decision.facts
    return facts.identity.subject, facts.request.path
