# SPDX-License-Identifier: Apache-2.0
"""What a writer has on its side of the audit log: a journal's worth of batches, and the last checkpoint it verified."""

import threading

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.records.writerlog import start_writer_log
from iap_authz.tlog.hashing import LeafHash, leaf_hash, leaf_hashes
from tests.fakes.journal import ORIGIN, FixedSigner, counted, start_record


class Sender:
    """A writer, its records, and its signed note at the end of each of its batches."""

    def __init__(self, seed: str = "writer", *, origin: str = ORIGIN) -> None:
        self.signer = FixedSigner(seed)
        self.log = start_writer_log(origin, self.signer.public_key, sign=self.signer.sign)
        self.leaves: list[bytes] = []
        self.notes: dict[int, bytes] = {}
        self.sent = 0
        self._commit(start_record(self.signer, origin=origin))

    @property
    def writer(self) -> WriterId:
        return self.signer.writer

    def registration(self) -> log_pb2.RegisterRequest:
        return log_pb2.RegisterRequest(
            public_key=self.signer.public_key, started=self.leaves[0], checkpoint=self.notes[1]
        )

    def batch(self, count: int = 3) -> log_pb2.AppendRequest:
        """`count` more records, and with them all that was not in a batch before."""
        at = len(self.leaves)
        self._commit(*(counted(self.writer, Sequence(number), count=number) for number in range(at, at + count)))
        begin, self.sent = self.sent, len(self.leaves)
        return self.request(begin, self.sent)

    def request(self, begin: int, end: int) -> log_pb2.AppendRequest:
        """The batch [begin, end) that was made before."""
        request = log_pb2.AppendRequest(
            writer=self.writer, to=end, records=self.leaves[begin:end], checkpoint=self.notes[end]
        )
        setattr(request, "from", begin)
        return request

    def held(self, begin: int, end: int) -> tuple[list[LeafHash], bytes]:
        """What `asks.receipts` wants to know of a batch."""
        return leaf_hashes(self.leaves[begin:end]), self.notes[end]

    def _commit(self, *leaves: bytes) -> None:
        self.leaves += leaves
        self.log, self.notes[len(self.leaves)] = self.log.commit([leaf_hash(leaf) for leaf in leaves])


class MemoryCheckpoints:
    """Keeps the contract of the port CheckpointStore, and all notes it was ever given.

    `error` is raised instead of storing. `gate` makes a store wait until it is set; `entered` is set when one waits.
    """

    def __init__(self, note: bytes | None = None) -> None:
        self.notes = [] if note is None else [note]
        self.error: OSError | None = None
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def __str__(self) -> str:
        return "memory"

    def load(self) -> bytes | None:
        return self.notes[-1] if self.notes else None

    def store(self, note: bytes) -> None:
        assert note, "there is no note of nothing"
        assert threading.current_thread() is not threading.main_thread(), "a store blocks: never in the loop's thread"
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(30), "the test forgot the gate"
        if self.error is not None:
            raise self.error
        self.notes.append(note)
