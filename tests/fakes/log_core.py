# SPDX-License-Identifier: Apache-2.0
"""The production core of an audit log over stores in memory, and writers that ship to it.

`LogCore` is one process: `open_core` on the same stores is the next one. A test drives it on its own event loop.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import cast

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.log.own_records import OwnRecords
from iap_authz.log.recover import recover_log
from iap_authz.log.restart import restart_writers
from iap_authz.log.sealing import Sealing
from iap_authz.log.sequencer import Sequencer
from iap_authz.log.service import AuditLog
from iap_authz.log.writers import Writers
from iap_authz.ports import Companions, HeadStore, Index, Ledger, SealEpochs, TileStore, Vault
from iap_authz.records.log_fold import Fold
from iap_authz.records.seal import SALT_BYTES
from iap_authz.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from iap_authz.tlog.hashing import EMPTY_ROOT, LeafIndex, NodeHash, TreeSize, leaf_hash, leaf_hashes
from iap_authz.tlog.note import NoteSigner, VerifierKey
from iap_authz.tlog.proof import prove_inclusion
from iap_authz.tlog.receipt import Receipt, check_receipt
from iap_authz.tlog.tree import Subtree, subtree_root
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, FixedSigner
from tests.fakes.made_log import MadeWriter
from tests.fakes.stores import MemoryHeadStore, MemoryLedger, MemorySealEpochs, MemoryTileStore

TOKEN = "let me in"
ENROLLED: Mapping[str, str] = {sha256(TOKEN.encode()).hexdigest(): "tests"}


def log_signer(seed: str = "log", origin: str = ORIGIN) -> NoteSigner:
    signer = FixedSigner(seed)
    return NoteSigner(name=origin, public_key=signer.public_key, sign=signer.sign)


class TickingClock:
    """Goes on by a millisecond at each look, and from where the last process stopped."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)

    def now(self) -> datetime:
        return START + timedelta(milliseconds=next(self._ticks))

    def monotonic(self) -> float:
        return float(next(self._ticks))


class MemoryIndex:
    """Finds by a list of hashes; the search of the port is the trail's own matter."""

    def __init__(self) -> None:
        self.hashes: list[bytes] = []

    def size(self) -> TreeSize:
        return TreeSize(len(self.hashes))

    def add(self, first: LeafIndex, leaves: Sequence[bytes], tokens: Sequence[Collection[int]]) -> None:
        assert first == len(self.hashes)
        assert len(tokens) == len(leaves)
        self.hashes += leaf_hashes(leaves)

    def forget(self, indices: Sequence[LeafIndex]) -> None:
        raise NotImplementedError

    def find(self, audit_id: bytes) -> LeafIndex | None:
        return LeafIndex(self.hashes.index(audit_id)) if audit_id in self.hashes else None

    def find_position(self, writer: bytes, sequence: int) -> LeafIndex | None:
        raise NotImplementedError

    def search(
        self,
        query: log_pb2.SearchRecordsRequest,
        *,
        tokens: Sequence[Collection[int]],
        after: LeafIndex | None,
        limit: int,
    ) -> list[LeafIndex]:
        raise NotImplementedError


@dataclass
class Stores:
    """What outlives a process. `companions` are the ledger's, unless others are given; a log without `vault` has none.

    With another ledger than one in memory, its companions are given too.
    """

    tiles: TileStore = field(default_factory=MemoryTileStore)
    heads: HeadStore = field(default_factory=MemoryHeadStore)
    ledger: Ledger = field(default_factory=MemoryLedger)
    index: Index = field(default_factory=MemoryIndex)
    clock: TickingClock = field(default_factory=TickingClock)
    epochs: SealEpochs = field(default_factory=MemorySealEpochs)
    vault: Vault | None = None
    companions: Companions | None = None

    def kept(self) -> Companions:
        """What stands beside leaves."""
        return self.companions if self.companions is not None else cast("MemoryLedger", self.ledger).companions


@dataclass
class LogCore:
    """One process of a log."""

    stores: Stores
    sequencer: Sequencer
    log: AuditLog
    sealing: Sealing
    own: OwnRecords

    @property
    def key(self) -> VerifierKey:
        return log_signer().verifier()

    def entries(self) -> list[bytes]:
        reader = self.sequencer.reader
        return reader.read_now(LeafIndex(0), reader.size())

    def check_whole(self) -> Fold:
        """Everything that the head says, recomputed from what the reader returns: root, writers, no problem."""
        entries, signed = self.entries(), self.sequencer.reader.view.signed
        hashes = leaf_hashes(entries)
        checkpoint = open_checkpoint(signed.note, self.key)
        assert len(entries) == checkpoint.size
        assert subtree_root([NodeHash(one) for one in hashes]) == checkpoint.root
        fold = Fold(ORIGIN)
        fold.add_all(LeafIndex(0), entries, hashes)
        fold.finish()
        assert fold.problems == []
        return fold


def start_core(
    stores: Stores,
    *,
    signers: Sequence[NoteSigner] = (),
    retired: Sequence[VerifierKey] = (),
    round_seconds: float = 0.001,
) -> LogCore:
    """Recover and assemble, as `log_wiring` does. Nothing runs yet."""
    signers = signers or (log_signer(),)
    recovered = recover_log(stores.tiles, stores.heads, signers=signers, clock=stores.clock, retired=retired)
    sequencer = Sequencer(
        recovered,
        signers=signers,
        tiles=stores.tiles,
        heads=stores.heads,
        ledger=stores.ledger,
        clock=stores.clock,
        round_seconds=round_seconds,
        publish_seconds=0.005,
    )
    states = restart_writers(recovered, stores.ledger, sequencer.reader, signers=signers)
    sealing = Sealing(stores.vault, stores.epochs, signers=signers, in_thread=sequencer.in_thread)
    log = AuditLog(
        sequencer,
        Writers(signers[0].name, states),
        ledger=stores.ledger,
        index=stores.index,
        companions=stores.kept(),
        sealing=sealing,
        verifiers=[signer.verifier() for signer in signers],
        enrolled=lambda: ENROLLED,
        retired=retired,
    )
    own = OwnRecords(sequencer, sealing, origin=signers[0].name)
    return LogCore(stores=stores, sequencer=sequencer, log=log, sealing=sealing, own=own)


@asynccontextmanager
async def open_core(
    stores: Stores,
    *,
    signers: Sequence[NoteSigner] = (),
    retired: Sequence[VerifierKey] = (),
    round_seconds: float = 0.001,
) -> AsyncIterator[LogCore]:
    """A running core; it ends with the block, after its last round is published."""
    core = start_core(stores, signers=signers, retired=retired, round_seconds=round_seconds)
    running = asyncio.ensure_future(core.sequencer.run())
    try:
        yield core
    finally:
        core.sequencer.stop()
        await running


class Shipper:
    """A writer that makes records and sends them. It believes nothing that `check` does not prove.

    What stands beside the records of one that seals (`tests.fakes.sealed.SealingWriter`) is sent with them.
    """

    def __init__(self, seed: str = "writer", *, origin: str = ORIGIN, made: MadeWriter | None = None) -> None:
        self.made = MadeWriter(seed, origin=origin) if made is None else made
        self.besides: Mapping[int, bytes] = getattr(self.made, "besides", {})
        self.notes: dict[int, bytes] = {}
        self.add(1)

    def add(self, count: int) -> tuple[int, int]:
        """Make `count` records and a note after the last; the batch they are."""
        begin = len(self.made.leaves)
        for _ in range(count):
            self.made.add()
        return self.commit(begin)

    def commit(self, begin: int) -> tuple[int, int]:
        """A note after the records that were made from `begin` on; the batch they are."""
        end = len(self.made.leaves)
        self.made.log, self.notes[end] = self.made.log.commit(leaf_hashes(self.made.leaves[begin:end]))
        return begin, end

    def registration(self, *, token: str = TOKEN) -> log_pb2.RegisterRequest:
        size = min(self.notes)
        return log_pb2.RegisterRequest(
            public_key=self.made.signer.public_key,
            started=self.made.leaves[0],
            checkpoint=self.notes[size],
            inclusion_proof=prove_inclusion(0, size, read=self._read),
            enrolment_token=token,
        )

    def batch(self, begin: int, end: int, *, last: bytes = b"") -> log_pb2.AppendRequest:
        request = log_pb2.AppendRequest(
            writer=self.made.writer,
            to=end,
            records=self.made.leaves[begin:end],
            checkpoint=self.notes[end],
            last_log_checkpoint=last,
        )
        setattr(request, "from", begin)
        for sequence in range(begin, end):
            beside = self.besides.get(sequence)
            if beside is not None:
                request.companions.add(sequence=sequence, salt=beside[:SALT_BYTES], companion=beside[SALT_BYTES:])
        return request

    def check(self, receipt: log_pb2.Receipt, begin: int, end: int, *, key: VerifierKey) -> None:
        """The receipt proves these records and the leaf that ends them, from an empty tree."""
        leaves = [*map(leaf_hash, self.made.leaves[begin:end]), leaf_hash(receipt.writer_checkpoint_leaf)]
        empty = empty_checkpoint(key)
        check_receipt(as_receipt(receipt), leaves, verifier=key, last_checkpoint=empty)

    def _read(self, subtrees: Sequence[Subtree]) -> list[NodeHash]:
        nodes = [NodeHash(leaf_hash(leaf)) for leaf in self.made.leaves]
        return [subtree_root(nodes[one.index << one.level : one.index + 1 << one.level]) for one in subtrees]


def as_receipt(receipt: log_pb2.Receipt) -> Receipt:
    return Receipt(
        first_index=LeafIndex(receipt.first_index),
        count=receipt.leaves,
        range_proof=tuple(NodeHash(one) for one in receipt.range_proof),
        checkpoint_note=receipt.checkpoint,
        consistency_proof=tuple(NodeHash(one) for one in receipt.consistency_proof),
    )


def empty_checkpoint(key: VerifierKey) -> SignedCheckpoint:
    checkpoint = Checkpoint(origin=key.name, size=TreeSize(0), root=EMPTY_ROOT)
    return SignedCheckpoint(checkpoint=checkpoint, note=b"")
