# SPDX-License-Identifier: Apache-2.0
"""Parts of a writer's journal as they are shipped: the records' own bytes, under signatures that are there already."""

from dataclasses import dataclass

from iap_authz.model.ids import WriterId
from iap_authz.tlog.hashing import NodeHash


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledBatch:
    """Whole group commits of one writer: records [begin, end), and the note it signed at `end`.

    `companions` are what stands beside the sealed ones, each with its record's sequence, rising (rule S2).
    """

    writer: WriterId
    begin: int
    end: int
    records: tuple[bytes, ...]
    note: bytes
    companions: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRecord:
    """Record 0 of a writer, and the proof that it is in the tree of `note`: what a registration needs (rule W2)."""

    writer: WriterId
    public_key: bytes
    record: bytes
    note: bytes
    proof: tuple[NodeHash, ...]
