# SPDX-License-Identifier: Apache-2.0
"""What an inspection of a writer's journal says, as values.

The invariant: a torn tail is never called damage and damage is never called a torn tail. Bytes after the last valid
checkpoint were never acknowledged (rule W3), so they may be cut; anything wrong before it was, and must be looked at.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from iap_authz.errors import NotFound, shown
from iap_authz.model.ids import AuditId, WriterId
from iap_authz.model.ids import Sequence as RecordSequence
from iap_authz.tlog.hashing import LeafHash, NodeHash, TreeSize, as_nodes
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.tree import Subtree, subtree_root


class Kind(enum.Enum):
    """What is wrong."""

    FLIPPED = "flipped"
    """One byte is not what was written; which, and what it was, is known."""
    DAMAGED = "damaged"
    """Bytes are not what was written, and no single byte explains it. Nothing after them can be verified."""
    INVALID = "invalid"
    """The bytes are intact and say something that cannot be true."""
    STRAY = "stray"
    """One byte in the unused part is not zero. No record is touched."""
    CUT = "cut"
    """A tail that was never acknowledged: the process ended in the middle of a write."""


HARMLESS = frozenset({Kind.STRAY, Kind.CUT})
"""Findings after the last valid checkpoint: recovery cuts there and goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found. `got` and `want` are byte values, for FLIPPED and STRAY only."""

    kind: Kind
    segment: str
    offset: int
    message: str
    got: int | None = None
    want: int | None = None

    @property
    def blocks_start(self) -> bool:
        """Whether a journal with this finding may not be recovered without an operator."""
        return self.kind not in HARMLESS

    def __str__(self) -> str:
        return f"{self.segment}: byte {self.offset}: {self.kind.value}: {self.message}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record's bytes stand."""

    segment: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A writer's journal as far as it was verified: records `first` to `size`, under the note `checkpoint`.

    `hashes` and `places` are those of these records, in order. `end` is where the last valid checkpoint ends: the name
    of its segment and the offset in it; None if there is no checkpoint.
    """

    writer: WriterId | None
    verifier: VerifierKey | None
    first: RecordSequence
    size: TreeSize
    checkpoint: bytes
    last_time: datetime | None
    hashes: Sequence[LeafHash]
    places: Sequence[Place]
    end: tuple[str, int] | None
    findings: tuple[Finding, ...]

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that concern acknowledged records."""
        return tuple(finding for finding in self.findings if finding.blocks_start)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Every finding but a tail that was cut: bytes that are not as they were written, stray ones too."""
        return tuple(finding for finding in self.findings if finding.kind is not Kind.CUT)

    def sequence_of(self, audit_id: AuditId) -> RecordSequence:
        """The sequence of a verified record. Raises NoSuchRecord."""
        for position, found in enumerate(self.hashes):
            if found.hex() == audit_id:
                return RecordSequence(self.first + position)
        raise NoSuchRecord(f"got audit id {shown(audit_id)}, want one of the records {self.first} to {self.size}")

    def read(self, subtrees: Sequence[Subtree]) -> list[NodeHash]:
        """The roots of complete subtrees, for proofs. Only where the journal still starts at record 0."""
        nodes = as_nodes(self.hashes)
        return [subtree_root(nodes[one.index << one.level : one.index + 1 << one.level]) for one in subtrees]


class NoSuchRecord(NotFound):
    """The journal holds no such record, or holds it no longer."""
