# SPDX-License-Identifier: Apache-2.0
"""F19: "a flipped byte in any [...] index row: found on read", in a real file, byte by byte.

Whatever a flipped byte does to the index, an answer is the record that was asked for, or an error of the tree, or a
row less: never another record, and never an exception that would pass for a defect of ours.
"""

import asyncio
from pathlib import Path

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.adapters.trail.index import SqlIndex
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.store import open_trail
from iap_authz.errors import ConfigInvalid, Corrupt, NotFound
from iap_authz.tlog.hashing import LeafIndex, leaf_hash
from iap_authz.trail.match import matches, parse_or_none
from iap_authz.trail.records import Trail
from iap_authz.trail.worker import Worker
from tests.fakes.trail import WRITERS, FakeLeaves, add_plain, mixed_leaves

LEAVES = mixed_leaves(120)
QUERIES = [log_pb2.SearchRecordsRequest(country="DE"), log_pb2.SearchRecordsRequest(writer=WRITERS[0])]
STEP = 131
"""One byte in so many is flipped; prime, so that no column of the rows is passed over."""
FLIPS = (0x41, 0x80)
"""Which bits: one that keeps text text, and one that does not."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "trail"
    engine = open_trail(path)
    add_plain(SqlIndex(engine), LeafIndex(0), LEAVES)
    engine.dispose()
    return path.read_bytes()


async def no_evidence(index: LeafIndex) -> log_pb2.Evidence:
    raise AssertionError(f"nobody asked for evidence of {index}")


async def ask(path: Path) -> dict[str, int]:
    """Ask for everything; count how it was answered."""
    counts = {"right": 0, "missing": 0, "corrupt": 0}
    try:
        engine = open_trail(path)
    except (ConfigInvalid, Corrupt):
        return counts | {"corrupt": 1}
    worker = Worker()
    trail = Trail(
        leaves=FakeLeaves(LEAVES),
        index=SqlIndex(engine),
        ledger=SqlLedger(engine),
        evidence=no_evidence,
        run=worker.run,
    )
    try:
        for leaf in LEAVES[::17]:
            counts[await get(trail, leaf)] += 1
        for query in QUERIES:
            counts[await search(trail, query)] += 1
    finally:
        worker.close()
        engine.dispose()
    return counts


async def get(trail: Trail, leaf: bytes) -> str:
    requests = [log_pb2.GetRecordRequest(audit_id=leaf_hash(leaf))]
    record = parse_or_none(leaf)
    if record is not None:
        place = log_pb2.WriterPosition(writer=record.writer, sequence=record.sequence)
        requests.append(log_pb2.GetRecordRequest(position=place))
    for request in requests:
        try:
            answer = await trail.get_record(request)
        except Corrupt:
            return "corrupt"
        except NotFound:
            return "missing"
        assert answer.entry.record == leaf
    return "right"


async def search(trail: Trail, query: log_pb2.SearchRecordsRequest) -> str:
    try:
        answer = await trail.search_records(query)
    except Corrupt:
        return "corrupt"
    found = [one.entry.index for one in answer.records]
    assert all(matches(query, parse_or_none(LEAVES[at]), None) for at in found)
    wanted = [at for at, leaf in enumerate(LEAVES) if matches(query, parse_or_none(leaf), None)]
    return "right" if found == wanted[: len(found)] and len(found) == min(len(wanted), 100) else "missing"


def test_a_sound_file_answers_everything(sound: bytes, tmp_path: Path) -> None:
    (tmp_path / "trail").write_bytes(sound)
    (tmp_path / "trail").chmod(0o600)
    assert asyncio.run(ask(tmp_path / "trail")) == {"right": 10, "missing": 0, "corrupt": 0}


@pytest.mark.parametrize("flip", FLIPS)
def test_f19_a_flipped_byte_never_gives_another_record(sound: bytes, flip: int, tmp_path: Path) -> None:
    totals, path = {"right": 0, "missing": 0, "corrupt": 0}, tmp_path / "trail"
    for at in range(0, len(sound), STEP):
        if not any(sound[max(0, at - 8) : at + 8]):
            continue  # unused room of a page
        path.write_bytes(sound[:at] + bytes([sound[at] ^ flip]) + sound[at + 1 :])
        path.chmod(0o600)
        for kind, count in asyncio.run(ask(path)).items():
            totals[kind] += count
        for rest in tmp_path.glob("trail-*"):
            rest.unlink()
    assert all(totals.values()), f"each kind of answer was seen: {totals}"
