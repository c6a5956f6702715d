# SPDX-License-Identifier: Apache-2.0
"""The audit trail of the demonstration: read back from the disk, proved, verified, damaged in a copy and found out.

Invariant: nothing is taken from the running sidecar. What is shown comes from the journal's files, the way an auditor
gets it who was handed the folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.demo.disk import flip_bit
from iap_authz.demo.files import LOG_ORIGIN
from iap_authz.errors import NotProven
from iap_authz.model.ids import AuditId
from iap_authz.records.evidence import check_evidence, parse_evidence, prove_record, render_evidence
from iap_authz.records.findings import Finding, Inspection, Kind, Place
from iap_authz.records.group import State, Step, read_step
from iap_authz.records.inspect import inspect_writer
from iap_authz.records.record import parse_record

SEGMENT_PATTERN = "*.segment"
"""Names of a writer's files: the first sequence in them, twenty digits, so that they sort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """One writer's journal: its files by name, and what their inspection says."""

    folder: Path
    segments: Mapping[str, bytes]
    inspection: Inspection

    def read(self, place: Place) -> bytes:
        """The bytes of the record at `place`."""
        return self.segments[place.segment][place.offset : place.offset + place.length]

    def records(self) -> Mapping[AuditId, record_pb2.Record]:
        """The records by audit id, in order."""
        return {
            AuditId(leaf_hash.hex()): parse_record(self.read(place))
            for leaf_hash, place in zip(self.inspection.hashes, self.inspection.places, strict=True)
        }

    def notes(self) -> Mapping[int, bytes]:
        """The writer's own checkpoints by size: one at the end of each group commit."""
        state, found = State(), {}
        for name, content in self.segments.items():
            at = 0
            while isinstance(step := read_step(content, at, name=name, state=state), Step):
                at, state = step.end, step.state
                found[int(state.tree.end)] = state.checkpoint
        return found


def load_trails(journal: Path) -> list[Trail]:
    """The journals of all writers, inspected. Raises OSError."""
    return [_load_trail(folder) for folder in sorted(journal.iterdir()) if folder.is_dir()]


def _load_trail(folder: Path) -> Trail:
    segments = {path.name: path.read_bytes() for path in sorted(folder.glob(SEGMENT_PATTERN))}
    return Trail(folder=folder, segments=segments, inspection=inspect_writer(segments.items(), LOG_ORIGIN))


def prove_all(trail: Trail) -> int:
    """Prove each record and verify the proof. The number of proofs; raises NotProven where one does not hold."""
    inspection = trail.inspection
    if inspection.findings:
        raise NotProven(f"got a journal with findings, want none: {inspection.findings[0]}")
    for leaf_hash in inspection.hashes:
        evidence = prove_record(inspection, AuditId(leaf_hash.hex()), read=trail.read)
        check_evidence(parse_evidence(render_evidence(evidence)), inspection.writer)
    return len(inspection.hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A byte that was changed on disk, and what was found of it."""

    folder: Path
    segment: str
    offset: int
    was: int
    became: int
    findings: Sequence[Finding]

    @property
    def is_named(self) -> bool:
        """Whether exactly this byte was found, and what it had been."""
        return [(one.kind, one.segment, one.offset, one.got, one.want) for one in self.findings] == [
            (Kind.FLIPPED, self.segment, self.offset, self.became, self.was)
        ]


def flip_copy(trail: Trail, audit_id: AuditId, folder: Path) -> Flip:
    """Copy the writer's journal to `folder`, change one byte in the middle of a record, and inspect the copy."""
    place = trail.inspection.places[trail.inspection.sequence_of(audit_id) - trail.inspection.first]
    writer = folder / trail.folder.name
    writer.mkdir(parents=True)
    for name, content in trail.segments.items():  # as they were read: the sidecar goes on writing
        writer.joinpath(name).write_bytes(content)
    offset = place.offset + place.length // 2
    was, became = flip_bit(writer / place.segment, offset)
    return Flip(
        folder=folder,
        segment=place.segment,
        offset=offset,
        was=was,
        became=became,
        findings=_load_trail(writer).inspection.findings,
    )
