# SPDX-License-Identifier: Apache-2.0
"""`AuditLogClient`: the audit log for a program that reads it or writes to it, with every answer verified.

The invariant: no record, index or checkpoint is returned unless it is proven to be in the one tree that this side has
followed from its first checkpoint on (rules X1 and G2); a log that shows two trees, or one that shrinks, is found out.

    async with AuditLogClient.connect("unix:/run/log.sock", verifier=key, checkpoints=CheckpointFile(path)) as log:
        evidence = await log.record(audit_id=wanted)

Only proven bytes are evidence. That a search found everything, `Entry.received` and `indexed_size` are the log's word:
no proof for them exists. So is what records do *not* say: see PROTOCOL rule O1 for what can be proven to be complete.
"""

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, Self

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.client import asks
from iap_authz.client.channel import LogChannel
from iap_authz.client.receipts import check_prefix, parse_hashes
from iap_authz.client.view import LogView
from iap_authz.errors import BadProof, BadSignature, Fork, Malformed, NotFound, Rollback, shown
from iap_authz.model.ids import AuditId, WriterId
from iap_authz.ports import CheckpointStore, LogService, TrailService
from iap_authz.records.evidence import EvidenceReport, check_evidence
from iap_authz.records.log_leaves import parse_log_leaf
from iap_authz.records.unsealed import UnsealedRecord, check_log_read, open_records
from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from iap_authz.tlog.hashing import LeafHash, LeafIndex, NodeHash, check_size, leaf_hash, leaf_hashes, parse_leaf_hash
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.proof import check_inclusion, check_range

CHUNK_ENTRIES = 1_024
"""Entries that one range proof covers: about 700 KiB of usual records, at most 64 MiB."""

UNSEAL_MAX = 1_000
"""Records that are unsealed with one question (log.proto)."""

AUDIT_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
"""A leaf hash in lowercase hex (record.proto)."""


class Remote(LogService, TrailService, Protocol):
    """The log at the other end: `LogChannel`, or whatever else answers the same questions."""

    def get_entries(self, request: log_pb2.GetEntriesRequest) -> AsyncGenerator[log_pb2.Entry, None]:
        """See TrailService.get_entries; ends the call when it is closed."""

    def tail_records(self, request: log_pb2.TailRecordsRequest) -> AsyncGenerator[log_pb2.Entry, None]:
        """See TrailService.tail_records; ends the call when it is closed."""

    async def unseal(self, request: log_pb2.UnsealRequest) -> log_pb2.UnsealResponse:
        """See PrivacyService.unseal; it knows by itself who asks."""

    async def close(self) -> None:
        """Release the connection. Idempotent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """A leaf that is in the log, and the proof under a verified checkpoint. `entry` are its bytes, where asked for."""

    index: LeafIndex
    leaf_hash: LeafHash
    proof: tuple[NodeHash, ...]
    checkpoint: SignedCheckpoint
    entry: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """Two checkpoints of the log, and the proof that the tree of `old` is a prefix of that of `new`."""

    old: SignedCheckpoint
    new: SignedCheckpoint
    proof: tuple[NodeHash, ...]


class AuditLogClient:
    """Owned by one event loop; calls may overlap. Raises the errors of `errors`; anything not proven is NotProven."""

    def __init__(self, remote: Remote, view: LogView) -> None:
        self._remote = remote
        self.view = view

    @classmethod
    def connect(cls, address: str, *, verifier: VerifierKey, checkpoints: CheckpointStore, token: str = "") -> Self:
        """A client of the log at `unix:/path` or `host:port` with this key. Call it in the running loop.

        `token` is the access token for what not everybody may ask. Reads the stored checkpoint, and blocks for it.
        Raises ConfigInvalid if it is not this log's, Malformed for what can be no token, and OSError.
        """
        view = LogView(verifier, checkpoints)
        return cls(LogChannel(address, token=token), view)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Release the connection. Idempotent."""
        await self._remote.close()

    async def checkpoint(self) -> SignedCheckpoint:
        """The newest checkpoint, proven consistent with the last one, and stored (G2). Raises NotFound before any."""
        return await asks.newest_checkpoint(self._remote, self.view)

    async def register(self, request: log_pb2.RegisterRequest) -> log_pb2.RegisterResponse:
        """Make a writer known. The receipt is verified."""
        return await asks.register(self._remote, self.view, request)

    async def append(self, request: log_pb2.AppendRequest) -> log_pb2.AppendResponse:
        """Append a batch; `last_log_checkpoint` is filled in. The receipt is verified."""
        return await asks.append(self._remote, self.view, request)

    async def prove_inclusion(self, leaf: LeafHash | LeafIndex) -> Inclusion:
        """Prove that the log holds a leaf, by its hash, or by its index (then the entry is fetched and hashed).

        Raises NotFound if there is no such leaf, or none yet.
        """
        checkpoint = await self.checkpoint()
        size, root = checkpoint.checkpoint.size, checkpoint.checkpoint.root
        request = log_pb2.GetInclusionProofRequest(tree_size=size)
        entry = None
        if isinstance(leaf, bytes):
            value = parse_leaf_hash(leaf)
            request.leaf_hash = value
        else:
            entry = await self._entry_at(leaf, size)
            value = leaf_hash(entry)
            request.index = leaf
        answer = await self._remote.prove_inclusion(request)
        index = LeafIndex(leaf if isinstance(leaf, int) else answer.index)
        proof = parse_hashes(answer.proof)
        check_inclusion(value, index, size=size, proof=proof, root=root)
        return Inclusion(index=index, leaf_hash=value, proof=proof, checkpoint=checkpoint, entry=entry)

    async def prove_consistency(self, old: SignedCheckpoint) -> Consistency:
        """Prove that the log has kept all of `old`, which may be any checkpoint of it from anywhere.

        Raises BadSignature if the log did not sign `old`, Fork or Rollback with both notes, or BadProof.
        """
        before = old.checkpoint
        if old.note and open_checkpoint(old.note, self.view.verifier) != before:
            raise BadSignature(f"got a note that does not say size {before.size}, root {before.root.hex()}")
        new = await self.checkpoint()
        after = new.checkpoint
        if before.size > after.size:
            raise Rollback(
                f"got {after.origin} at size {after.size}, want at least {before.size}", [old.note, new.note]
            )
        if before.size == after.size and before.root != after.root:
            raise Fork(f"got two signed roots of {after.origin} at size {after.size}", [old.note, new.note])
        proof: tuple[NodeHash, ...] = ()
        if 0 < before.size < after.size:
            request = log_pb2.GetConsistencyProofRequest(old_size=before.size, new_size=after.size)
            proof = parse_hashes((await self._remote.prove_consistency(request)).proof)
        check_prefix(before, after, proof=proof)
        return Consistency(old=old, new=new, proof=proof)

    async def record(
        self,
        *,
        audit_id: AuditId | None = None,
        index: LeafIndex | None = None,
        position: tuple[WriterId, int] | None = None,
    ) -> log_pb2.Evidence:
        """One record, by one of the three, and the proofs, checked, that it is logged and made by its writer (P2).

        Raises NotFound if the log says that there is none: that is not proven.
        """
        request = _which(audit_id, index, position=position)
        evidence = (await self._remote.get_record(request)).evidence
        report = await self._check_evidence(evidence, believed={})
        if audit_id is not None and report.audit_id != audit_id:
            raise BadProof(f"got record {report.audit_id}, want {shown(audit_id)}")
        if index is not None and evidence.index != index:
            raise BadProof(f"got leaf {evidence.index}, want {index}")
        if position is not None and (report.made_by, report.sequence) != position:
            raise BadProof(f"got record {report.sequence} of {report.made_by.hex()}, want {position[1]} of the other")
        return evidence

    async def entries(self, first: LeafIndex, count: int) -> AsyncGenerator[tuple[LeafIndex, bytes], None]:
        """Leaves [first, first + count) as far as the log goes now; each is proven before it is given.

        All are proven against the one checkpoint that is the newest when this begins.
        """
        check_size(first)
        check_size(count)
        checkpoint = (await self.checkpoint()).checkpoint
        end = min(first + count, checkpoint.size)
        for begin in range(first, end, CHUNK_ENTRIES):
            entries = await self._fetch(LeafIndex(begin), min(CHUNK_ENTRIES, end - begin))
            await self._check_range(entries, LeafIndex(begin), checkpoint=checkpoint)
            for number, entry in enumerate(entries):
                yield LeafIndex(begin + number), entry

    async def search(self, request: log_pb2.SearchRecordsRequest) -> log_pb2.SearchRecordsResponse:
        """A page of records, each proven to be in the log; with evidence where that was asked for, checked.

        That they match, and that none is missing, is the log's word.
        """
        answer = await self._remote.search_records(request)
        await self._check_included(found.entry for found in answer.records)
        if request.with_evidence:
            believed: dict[bytes, Checkpoint] = {}
            for found in answer.records:
                await self._check_evidence(found.evidence, believed=believed)
                if (found.evidence.index, found.evidence.record) != (found.entry.index, found.entry.record):
                    raise BadProof(f"got evidence for leaf {found.evidence.index}, want {found.entry.index}")
        return answer

    async def tail(self, request: log_pb2.TailRecordsRequest) -> AsyncGenerator[log_pb2.Entry, None]:
        """Matching records after an index and then each new one, each proven to be in the log, in rising order."""
        before = request.after_index or -1
        async with aclosing(self._remote.tail_records(request)) as found:
            async for entry in found:
                if entry.index <= before:
                    raise BadProof(f"got leaf {entry.index} after {before}, want them to rise")
                before = entry.index
                await self._check_included([entry])
                yield entry

    async def unseal(self, indices: Sequence[LeafIndex], purpose: str) -> list[UnsealedRecord]:
        """What these records say of people, opened here out of leaves that are proven, in the order of `indices`.

        The log records each reading with `purpose`, and that it has is proven before anything is given. Raises Refused
        without the token of an investigator, NotFound, and BadProof for an opening that is not the record's own.
        """
        found: list[UnsealedRecord] = []
        for begin in range(0, len(indices), UNSEAL_MAX):
            asked = indices[begin : begin + UNSEAL_MAX]
            leaves, since = await self._leaves_at(asked), self.view.last.checkpoint.size
            answer = await self._remote.unseal(log_pb2.UnsealRequest(indices=asked, purpose=purpose))
            opened = open_records(leaves, answer, asked=asked, origin=self.view.verifier.name)
            log_read = LeafIndex(answer.log_read)
            leaf = (await self._leaves_at([log_read]))[log_read]
            check_log_read(leaf, opened, since=since, origin=self.view.verifier.name)
            found += opened
        return found

    async def retire_writer(self, writer: WriterId, cause: str) -> tuple[LeafIndex, str]:
        """Have the log take nothing more of a writer, and see that it says so: the leaf, and the cause that it names.

        A writer that is retired already stays so, with its first cause. Raises Refused without the token of an admin.
        """
        answer = await self._remote.retire_writer(log_pb2.RetireWriterRequest(writer=writer, cause=cause))
        index = LeafIndex(answer.index)
        leaf = (await self._leaves_at([index]))[index]
        body = parse_log_leaf(leaf, origin=self.view.verifier.name, index=index, body="writer_retired").writer_retired
        if body.writer != writer:
            raise BadProof(f"got the end of {body.writer.hex()} at leaf {index}, want that of {writer.hex()}")
        return index, body.cause

    async def _leaves_at(self, indices: Iterable[LeafIndex]) -> dict[LeafIndex, bytes]:
        """These leaves, each proven under the newest checkpoint."""
        checkpoint, leaves = (await self.checkpoint()).checkpoint, dict[LeafIndex, bytes]()
        wanted = sorted(set(indices))
        for index in wanted:
            if not 0 <= index < checkpoint.size:
                raise NotFound(f"got leaf index {shown(index)}, want 0 to below {checkpoint.size}")
        for run in _runs(wanted):
            first = LeafIndex(run[0])
            entries = await self._fetch(first, len(run))
            await self._check_range(entries, first, checkpoint=checkpoint)
            leaves.update((LeafIndex(first + number), entry) for number, entry in enumerate(entries))
        return leaves

    async def _entry_at(self, index: LeafIndex, size: int) -> bytes:
        """What the log says is at an index; the caller proves it."""
        if not 0 <= index < size:
            raise NotFound(f"got leaf index {shown(index)}, want 0 to below {size}")
        entry = (await self._remote.get_record(log_pb2.GetRecordRequest(index=index))).entry
        if entry.index != index:
            raise BadProof(f"got leaf {entry.index}, want {index}")
        return entry.record

    async def _fetch(self, first: LeafIndex, count: int) -> list[bytes]:
        """Exactly these leaves, as the log says; the caller proves them."""
        entries: list[bytes] = []
        request = log_pb2.GetEntriesRequest(first=first, count=count)
        async with aclosing(self._remote.get_entries(request)) as found:
            async for entry in found:
                if entry.index != first + len(entries) or len(entries) == count:
                    raise BadProof(f"got leaf {entry.index}, want {count} leaves from {first} on, in order")
                entries.append(entry.record)
        if len(entries) != count:
            raise BadProof(f"got {len(entries)} leaves from {first} on, want {count}")
        return entries

    async def _check_range(self, entries: list[bytes], first: LeafIndex, *, checkpoint: Checkpoint) -> None:
        request = log_pb2.GetRangeProofRequest(first=first, count=len(entries), tree_size=checkpoint.size)
        proof = parse_hashes((await self._remote.prove_range(request)).proof)
        check_range(leaf_hashes(entries), first, size=checkpoint.size, proof=proof, root=checkpoint.root)

    async def _check_included(self, entries: Iterable[log_pb2.Entry]) -> None:
        """Prove entries from anywhere in the log, neighbours together; asks for a newer checkpoint only if one is."""
        known: dict[int, bytes] = {}
        for entry in entries:
            if known.setdefault(entry.index, entry.record) != entry.record:
                raise BadProof(f"got two records as leaf {entry.index}, want one")
        checkpoint = self.view.last.checkpoint
        if max(known, default=-1) >= checkpoint.size:
            checkpoint = (await self.checkpoint()).checkpoint
        for run in _runs(sorted(known)):
            await self._check_range([known[index] for index in run], LeafIndex(run[0]), checkpoint=checkpoint)

    async def _check_evidence(self, evidence: log_pb2.Evidence, *, believed: dict[bytes, Checkpoint]) -> EvidenceReport:
        """Both halves, and that the checkpoint in it is of our tree; `believed` are the notes known to be."""
        report = check_evidence(evidence, log=self.view.verifier)
        if report.logged is None:
            raise BadProof("got evidence without the log's half, want both")
        if evidence.checkpoint not in believed:
            believed[evidence.checkpoint] = await asks.believe(self._remote, self.view, evidence.checkpoint)
        return report


def _which(
    audit_id: AuditId | None, index: LeafIndex | None, *, position: tuple[WriterId, int] | None
) -> log_pb2.GetRecordRequest:
    """The question for one record. Raises Malformed for what cannot name one."""
    if (audit_id is not None) + (index is not None) + (position is not None) != 1:
        raise ValueError("got none or several of audit_id, index and position, want one")
    if audit_id is not None:
        if not AUDIT_ID.fullmatch(audit_id):
            raise Malformed(f"got audit id {shown(audit_id)}, want 64 lowercase hex digits")
        return log_pb2.GetRecordRequest(with_evidence=True, audit_id=bytes.fromhex(audit_id))
    if position is not None:
        check_size(position[1])
        place = log_pb2.WriterPosition(writer=position[0], sequence=position[1])
        return log_pb2.GetRecordRequest(with_evidence=True, position=place)
    check_size(index or 0)
    return log_pb2.GetRecordRequest(with_evidence=True, index=index)


def _runs(indices: Sequence[int]) -> list[list[int]]:
    """Neighbouring indices together, at most as many as one proof covers."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1 and len(runs[-1]) < CHUNK_ENTRIES:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
