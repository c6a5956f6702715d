# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load, several times over: every acknowledged record is there, once, in order (CORPUS F1, promise 4)."""

import os
import subprocess
import sys
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.journal.directory import recover
from iap_authz.adapters.journal.disk import Disk
from iap_authz.adapters.journal.reading import load_place, load_segments, writer_directories
from iap_authz.records.findings import Inspection
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.record import parse_record
from tests.fakes.journal import ORIGIN

ROOT = Path(__file__).resolve().parents[3]
LINES_BEFORE_KILL = (1, 40, 333, 900)


def run_until_killed(directory: Path, lines: int) -> list[list[str]]:
    """Read `lines` acknowledgements, kill, and read those that had been printed by then."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("appender.py")), str(directory), ORIGIN],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    with child, child.stdout as output:
        told = [output.readline() for _ in range(lines)]
        child.kill()
        told += output.readlines()
    assert all(told), "the appender ended by itself"
    return [line.decode().split() for line in told if line.endswith(b"\n")]


def started_of(directory: Path, inspection: Inspection) -> record_pb2.WriterStarted:
    assert inspection.writer is not None
    leaf = load_place(directory / inspection.writer.hex(), inspection.places[0])
    return parse_record(leaf).writer_started


def test_every_acknowledged_record_is_there_once_and_in_order(tmp_path: Path) -> None:
    lives = [run_until_killed(tmp_path, lines) for lines in LINES_BEFORE_KILL]
    recover(tmp_path, Disk())
    found = {path.name: inspect_writer(load_segments(path), ORIGIN) for path in writer_directories(tmp_path)}
    assert len(found) == len(lives)
    before: Inspection | None = None
    for told in lives:
        (writer,) = {line[0] for line in told}
        inspection = found[writer]
        assert inspection.findings == ()
        for _, sequence, audit_id in told:
            assert inspection.hashes[int(sequence)].hex() == audit_id
        assert len({audit_id for _, _, audit_id in told}) == len(told)
        assert len(set(inspection.hashes)) == inspection.size
        started = started_of(tmp_path, inspection)
        assert (started.predecessor, started.predecessor_checkpoint) == (
            (b"", b"") if before is None else (before.writer, before.checkpoint)
        )
        before = inspection
