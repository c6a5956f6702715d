# SPDX-License-Identifier: Apache-2.0
"""What an erasure stands on: what was asked for and how far it is, the keys that it destroys, and the legal holds."""

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.tlog.hashing import LeafHash, LeafIndex, NodeHash, TreeSize

Stage = log_pb2.ErasureState.Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureRow:
    """An erasure that was asked for. `whose` and `secret` are zeros once it has come to its end, whichever end.

    `whose` is `records.erasure.Whose`, rendered; `secret` is what the salts of its leaves come from. `seal_epoch` is 0
    until it was raised for this erasure.
    """

    erasure: bytes
    stage: Stage
    seal_epoch: int
    authority: str
    officers: tuple[str, ...]
    asked: datetime
    whose: bytes = field(repr=False)
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureRound:
    """Some records of an erasure, under one Erasure record of the log: rounds of an erasure count from 1.

    `log_size` is the tree that was looked through, `index` the Erasure record (None: not known to be in the log),
    `done` how many of the records are destroyed, `finished` whether all is, their tokens and the WAL too.
    """

    erasure: bytes
    number: int
    log_size: TreeSize
    records: int
    root: NodeHash
    index: LeafIndex | None = None
    done: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveredRow:
    """What the trail has of a leaf that a round of an erasure took: its salt, and its hash as the index has it."""

    index: LeafIndex
    salt: bytes
    leaf_hash: LeafHash | None


class ErasureStore(Protocol):
    """Erasures, their rounds, and what they destroy (rules S5, S6, S8).

    Blocking; for one thread, that of the index. What a call that returned has changed is on stable storage; a call
    that failed has changed nothing, or all of it: each is one transaction and may be made again.
    """

    def put(self, row: ErasureRow) -> None:
        """Add an erasure, or replace what is known of it. Its `whose` and `secret` keep their lengths."""

    def find(self, erasure: bytes) -> ErasureRow | None:
        """An erasure by its id."""

    def unfinished(self) -> list[ErasureRow]:
        """Those that have not come to an end: COUNTING, WAITS_APPROVAL, ERASING, ERASED. In the order they came."""

    def end(self, erasure: bytes, stage: Stage) -> None:
        """It came to its end. `whose` and `secret` are overwritten where they stand. Raises like `finish_round`."""

    def rounds(self, erasure: bytes) -> list[ErasureRound]:
        """The rounds of an erasure, in order."""

    def begin_round(self, row: ErasureRow, begun: ErasureRound, *, plan: Many[LeafIndex]) -> None:
        """Store a round and which leaves it takes, in order, and replace what is known of the erasure, at once."""

    def set_index(self, begun: ErasureRound, index: LeafIndex) -> None:
        """The Erasure record of this round is in the log."""

    def destroy_next(self, begun: ErasureRound) -> tuple[int, list[int]]:
        """Destroy a bounded number of the round's leaves, after those that are done already.

        The key of each, the companion of the key, and the leaf's salt are overwritten where they stand; the leaf is
        marked with its erasure and its round. Leaves that are not in a plan and have one of these keys, which came
        after the plan was made, are marked as late. Returns how many of the round are done and the keys' numbers.
        Raises Corrupt, and destroys nothing, where another erasure has taken one of these leaves.
        """

    def plan(self, begun: ErasureRound, part: int) -> list[LeafIndex]:
        """A bounded part of the leaves of a round that is not finished; empty behind the last."""

    def finish_round(self, begun: ErasureRound) -> None:
        """Nothing is left to do for this round: its plan goes, and what was overwritten leaves the file's journal.

        Raises Unavailable while somebody reads an older state; then ask again.
        """

    def late(self, erasure: bytes) -> list[LeafIndex]:
        """Some of the leaves that came after their key had been erased, and that no round has taken, in order."""

    def sharing(self, keys: Collection[int], begin: int, end: int) -> list[LeafIndex]:
        """Leaves in [begin, end) that are sealed with these keys and not erased, in order."""

    def taken_by(self, index: LeafIndex) -> tuple[bytes, int] | None:
        """Which erasure took a leaf, and in which round; round 0: it came late, and no round has taken it yet."""

    def covered(self, erasure: bytes, number: int, *, after: int, limit: int) -> list[CoveredRow]:
        """The leaves that a round took, those behind `after`, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRow:
    """A legal hold. `scope` is sealed to the vault, zeros once the hold is released.

    `index` is the LegalHold record that placed it (None: not known to be in the log). `released_by` are the officers
    who asked for its release, on whose `release_authority`; `releasing`: enough have.
    """

    hold: bytes
    authority: str
    matter: str
    officer: str
    scope: bytes = field(repr=False)
    vault_epoch: int
    index: LeafIndex | None = None
    release_authority: str = ""
    released_by: tuple[str, ...] = ()
    releasing: bool = False
    released: bool = False


class HoldStore(Protocol):
    """Legal holds. The same conventions as `ErasureStore`."""

    def put_hold(self, row: HoldRow) -> None:
        """Add a hold, or replace all that is known of it but its scope."""

    def holds(self) -> list[HoldRow]:
        """Those that are not released, in the order they came."""

    def find_hold(self, hold: bytes) -> HoldRow | None:
        """A hold by its id, released or not."""

    def end_hold(self, hold: bytes) -> None:
        """It is released; its scope is overwritten where it stands."""

    def reseal_holds(self, scopes: Mapping[bytes, bytes], *, epoch: int) -> None:
        """Put these newly sealed scopes, by hold, in the place of the old ones, which have the same lengths."""
