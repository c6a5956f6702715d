# SPDX-License-Identifier: Apache-2.0
"""What entries come to at their place, and what committed rounds leave to be recorded in the ledger (step 7).

The invariant: the slices of `slices` are the rounds in their order, each in one of them, so that a crash between two
slices leaves a ledger that stands at the end of a round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from iap_authz.log.beside import Beside
from iap_authz.ports import BatchRow, RoundRows, WriterRow
from iap_authz.tlog.checkpoint import SignedCheckpoint
from iap_authz.tlog.hashing import LeafIndex, TreeSize

SLICE_COMPANIONS = 4_096
"""Companions in one transaction of the ledger, about: tens of milliseconds in which no round is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """An entry at its place: its leaves, the writer as it stands after it, and where its batch is, if it is one.

    The size of the round is not known yet: in `batch` it is 0. `besides` are what stands beside leaves, by offset.
    """

    leaves: tuple[bytes, ...]
    writer: WriterRow | None = None
    batch: BatchRow | None = None
    besides: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a committed round leaves to be recorded in the ledger."""

    signed: SignedCheckpoint
    rendered: tuple[Rendered, ...]
    companions: tuple[tuple[LeafIndex, bytes], ...]

    @property
    def size(self) -> TreeSize:
        """Of the tree after it."""
        return self.signed.checkpoint.size

    def batches(self) -> list[BatchRow]:
        """Its batches, with the size of the round."""
        return [replace(one.batch, round_size=self.size) for one in self.rendered if one.batch is not None]


def slices(rounds: Sequence[Round], *, size: TreeSize) -> Iterator[RoundRows]:
    """What the ledger gets of these rounds, in portions. The last one, also of no rounds, brings it to `size`."""
    slice_, count = list[Round](), 0
    for one in rounds:
        if slice_ and count + len(one.companions) > SLICE_COMPANIONS:
            yield _rows_of(slice_, size=slice_[-1].size)
            slice_, count = [], 0
        slice_.append(one)
        count += len(one.companions)
    yield _rows_of(slice_, size=size)


def _rows_of(rounds: Sequence[Round], *, size: TreeSize) -> RoundRows:
    """Of a writer only where it stands after them."""
    writers = {one.writer.writer: one.writer for group in rounds for one in group.rendered if one.writer is not None}
    return RoundRows(
        size=size,
        notes=tuple((group.size, group.signed.note) for group in rounds),
        batches=tuple(row for group in rounds for row in group.batches()),
        writers=tuple(writers.values()),
        companions=tuple(one for group in rounds for one in group.companions),
    )
