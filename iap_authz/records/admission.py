# SPDX-License-Identifier: Apache-2.0
"""What the audit log takes from a writer, decided without any state but the writer's own (rules W2, W5, A1, P1, S2).

The invariant: a batch that `admit` returned holds exactly the records that the writer signed for: each parses, is of
this writer and stands at its own index, and the tree over all of them has the root in the writer's note.

With a vault each personal part among them is sealed, and has beside it the companion that its record names; without
one, none is sealed, since nobody could ever open it. Whether the vault opens a companion is not tried here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, Fork, Malformed, OutOfSequence, Refused, shown
from iap_authz.model.ids import WriterId
from iap_authz.records.log_fold import WriterState
from iap_authz.records.log_inspect_head import read_head
from iap_authz.records.log_leaves import LOG_BODIES, QUOTING_BODIES, log_id
from iap_authz.records.record import parse_record
from iap_authz.records.seal import COMPANION_MAX_BYTES, SALT_BYTES, check_sealed, parse_beside
from iap_authz.records.started import check_started, writer_id
from iap_authz.tlog.checkpoint import open_checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import HASH_BYTES, SIZE_LIMIT_LEAVES, leaf_hash, leaf_hashes, parse_node_hash
from iap_authz.tlog.note import VerifierKey, parse_note
from iap_authz.tlog.proof import check_inclusion

BATCH_MAX_RECORDS = 4_096
"""Four times what a sidecar sends: one signature check and one range proof for all of them."""

BATCH_MAX_BYTES = 4 << 20
"""Of records and companions: keeps a round's memory and its stage small; a sidecar sends at most half of it."""

NOTE_MAX_BYTES = 1_024
"""A writer's own note, one signature: it becomes part of a leaf, which junk beside the signature must not overfill."""

WORKLOAD_MAX_CHARS = 1_024
"""The same for what a writer says it is: a SPIFFE id has at most 2,048 bytes, ours are far shorter."""

_QUOTING_NUMBERS = frozenset(record_pb2.Record.DESCRIPTOR.fields_by_name[name].number for name in QUOTING_BODIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A writer that has shown its key, and record 0 under its own signature."""

    writer: WriterId
    verifier: VerifierKey
    workload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRules:
    """What a log with a vault takes: keys sealed to one of these epochs of it, and made in no later seal epoch.

    A lower seal epoch is late, and no fault: the record may be older than the erasure that raised it (rule S5).
    """

    seal_epoch: int
    vault_epochs: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records [begin, end) of a writer, and its note at `end`. Only the shape is checked.

    `companions` are what came beside records, by sequence, rising: salt || companion (rule S2).
    """

    writer: WriterId
    begin: int
    end: int
    records: tuple[bytes, ...]
    note: bytes
    companions: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)

    @property
    def size_bytes(self) -> int:
        """Of its records and of what is beside them."""
        return sum(map(len, self.records)) + sum(len(beside) for _, beside in self.companions)


def check_registration(
    request: log_pb2.RegisterRequest, origin: str, *, seals: SealRules | None = None
) -> Registration:
    """Who registers (rule W2). Raises Malformed, BadProof, BadSignature, or Refused for a personal part in record 0.

    The key is refused where it is of small order or not canonical: such a key signs everything.
    """
    record = parse_record(request.started)
    verifier = check_started(record, origin)
    _Parts(seals).check(record, None)
    if verifier.public_key != request.public_key:
        raise BadProof("got a public key that is not the one in record 0")
    if writer_id(verifier.public_key) == log_id(origin):
        raise Refused("got the log's own id, want that of a writer")
    checkpoint = open_checkpoint(request.checkpoint, verifier)
    proof = [parse_node_hash(value) for value in request.inclusion_proof]
    check_inclusion(leaf_hash(request.started), 0, size=checkpoint.size, proof=proof, root=checkpoint.root)
    if len(record.writer_started.workload) > WORKLOAD_MAX_CHARS:
        raise Malformed(f"got a workload of {len(record.writer_started.workload)}, want at most {WORKLOAD_MAX_CHARS}")
    return Registration(
        writer=writer_id(verifier.public_key), verifier=verifier, workload=record.writer_started.workload
    )


def parse_batch(request: log_pb2.AppendRequest) -> Batch:
    """The batch of a request. Raises Malformed for a shape that no batch has."""
    begin, end, count = getattr(request, "from"), request.to, len(request.records)
    if len(request.writer) != HASH_BYTES:
        raise Malformed(f"got a writer id of {len(request.writer)} bytes, want {HASH_BYTES}")
    if not begin < end < SIZE_LIMIT_LEAVES or count != end - begin or count > BATCH_MAX_RECORDS:
        raise Malformed(f"got {count} records from {begin} to {end}, want 1 to {BATCH_MAX_RECORDS}, one for each place")
    if len(request.checkpoint) > NOTE_MAX_BYTES:
        raise Malformed(f"got a note of {len(request.checkpoint)} bytes, want at most {NOTE_MAX_BYTES}")
    batch = Batch(
        writer=WriterId(request.writer),
        begin=begin,
        end=end,
        records=tuple(request.records),
        note=request.checkpoint,
        companions=_parse_companions(request),
    )
    if batch.size_bytes > BATCH_MAX_BYTES:
        raise Malformed(f"got a batch of {batch.size_bytes} bytes, want at most {BATCH_MAX_BYTES}")
    return batch


def _parse_companions(request: log_pb2.AppendRequest) -> tuple[tuple[int, bytes], ...]:
    """What came beside records. Each salt has its length, so that no two entries are the same bytes."""
    last, end, companions = getattr(request, "from") - 1, request.to, []
    for entry in request.companions:
        sequence, salt, content = entry.sequence, entry.salt, entry.companion
        if not last < sequence < end:
            raise Malformed(f"got a companion of record {sequence} after {last}, want rising ones below {end}")
        if len(salt) != SALT_BYTES or not 1 <= len(content) <= COMPANION_MAX_BYTES:
            got = f"a salt of {len(salt)} bytes and a companion of {len(content)}"
            raise Malformed(f"got {got}, want {SALT_BYTES} and 1 to {COMPANION_MAX_BYTES}")
        companions.append((sequence, salt + content))
        last = sequence
    return tuple(companions)


def check_place(batch: Batch, size: int) -> None:
    """Raise OutOfSequence unless the batch is the next one of a writer with `size` records (rule A1)."""
    if batch.begin != size:
        raise OutOfSequence(f"got records from {batch.begin} to {batch.end}, want them from {size} on", size)


def admit(
    batch: Batch, state: WriterState, *, origin: str, log_size: int, seals: SealRules | None = None
) -> WriterState:
    """The writer's state after the batch, which begins where the state ends. Without `seals` the log has no vault.

    Raises Malformed, BadProof, BadSignature; Refused for personal parts in a form that this log does not take. A note
    that a writer signed for a tree which is not the one of its records is BadProof: one note is no fork. What is
    admitted is no problem to `log_fold`: otherwise a writer could keep the log from starting again.
    """
    parts, besides = _Parts(seals), dict(batch.companions)
    for sequence, leaf in enumerate(batch.records, batch.begin):
        record = parse_record(leaf)
        _check_record(record, writer=batch.writer, sequence=sequence)
        parts.check(record, besides.get(sequence))
        if record.WhichOneof("body") in QUOTING_BODIES:
            _check_quoting(record, state, origin=origin, log_size=log_size)
    checkpoint = open_checkpoint(batch.note, state.verifier)
    if checkpoint.size != batch.end:
        raise BadProof(f"got a note at {checkpoint.size}, want one at {batch.end}")
    tree = state.tree.extend(leaf_hashes(batch.records))
    if tree.root() != checkpoint.root:
        raise BadProof(f"got records with root {tree.root().hex()}, want {checkpoint.root.hex()}, which was signed")
    return replace(state, tree=tree, note=batch.note)


def check_same_note(batch: Batch, known: bytes, *, verifier: VerifierKey) -> None:
    """Raise Fork if the writer signed another root at the size of a batch that is known (rule W6)."""
    if batch.note == known:
        return
    got, want = open_checkpoint(batch.note, verifier), open_checkpoint(known, verifier)
    if got.size == want.size and got.root != want.root:
        raise Fork(f"got two signed roots of {got.origin} at size {got.size}", [known, batch.note])


def _check_record(record: record_pb2.Record, *, writer: WriterId, sequence: int) -> None:
    """Rule W5, and that no writer makes what only the log may make."""
    if record.writer != writer or record.sequence != sequence:
        raise BadProof(f"got record {record.sequence} of {record.writer.hex()}, want {sequence} of {writer.hex()}")
    body = record.WhichOneof("body")
    if body in LOG_BODIES or (body == "writer_started") != (sequence == 0):
        raise Malformed(f"got {shown(body)} as record {sequence}, which only the log or record 0 may be")


class _Parts:
    """Checks the personal parts of one batch (rules S2, S4). A companion that many records share is parsed once."""

    def __init__(self, seals: SealRules | None) -> None:
        self._seals = seals
        self._known: set[bytes] = set()

    def check(self, record: record_pb2.Record, beside: bytes | None) -> None:
        """Raise Malformed, BadProof, or Refused for what this log does not take."""
        form = record.WhichOneof("personal")
        if form != "sealed":
            if beside is not None:
                raise Malformed(f"got a companion of record {record.sequence}, which has nothing sealed")
            if form is not None and self._seals is not None:
                raise Refused(
                    f"got record {record.sequence}, which writes personal data that is not sealed: set seal.vault_key"
                    " in the configuration of its writer"
                )
            return
        if self._seals is None:
            raise Refused(
                f"got record {record.sequence} with a sealed part, and this log has no vault: set vault in its"
                " configuration, or seal: none in that of the writer"
            )
        if beside is None:
            raise Malformed(f"got record {record.sequence} with a sealed part and no companion, want both")
        check_sealed(record.sealed)
        self._check_beside(beside, self._seals)
        if sha256(beside).digest() != record.sealed.companion_sha256:
            raise BadProof(f"got a companion of record {record.sequence} that is not the one the record names")

    def _check_beside(self, beside: bytes, seals: SealRules) -> None:
        content = beside[SALT_BYTES:]
        if content in self._known:
            return
        companion = parse_beside(beside)
        if companion.vault_epoch not in seals.vault_epochs:
            epochs = sorted(seals.vault_epochs)
            raise Refused(f"got a key sealed to vault epoch {companion.vault_epoch}, want one of {epochs}")
        if companion.seal_epoch > seals.seal_epoch:
            raise Refused(f"got a key of seal epoch {companion.seal_epoch}, want at most {seals.seal_epoch}, in force")
        self._known.add(content)


def _check_quoting(record: record_pb2.Record, state: WriterState, *, origin: str, log_size: int) -> None:
    """Record 0 is that of the registered key, and a quoted checkpoint can be one of this log, of a size it has (G3)."""
    body = record.WhichOneof("body")
    if body == "writer_started" and check_started(record, origin) != state.verifier:
        raise BadProof("got another key in record 0 than was registered")
    note = getattr(record, body).log_checkpoint
    if note:
        checkpoint = parse_checkpoint(parse_note(note).text)
        if checkpoint.origin != origin or checkpoint.size > log_size:
            got = f"{shown(checkpoint.origin)} at {checkpoint.size}"
            raise BadProof(f"got a quoted checkpoint of {got}, want one of {shown(origin)} at {log_size} or less")


def quoted_notes(batch: Batch) -> list[bytes]:
    """The log checkpoints that the records of a batch quote (rule G3), each once. Raises Malformed.

    Most records have none, and that is seen from their heads.
    """
    notes: dict[bytes, None] = {}
    for leaf in batch.records:
        head = read_head(leaf)
        if head is not None and head[2] not in _QUOTING_NUMBERS:
            continue
        record = parse_record(leaf)
        body = record.WhichOneof("body")
        if body in QUOTING_BODIES:
            notes[getattr(record, body).log_checkpoint] = None
    notes.pop(b"", None)
    return list(notes)


def check_token(token: str, names_by_sha256: Mapping[str, str]) -> str:
    """The name of an enrolment token. Raises Refused. The table holds hashes, so a look-up reveals nothing of use."""
    name = names_by_sha256.get(sha256(token.encode()).hexdigest())
    if not token or name is None:
        raise Refused("got no enrolment token that this log knows, want one of its enrolment file")
    return name
