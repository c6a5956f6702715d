# SPDX-License-Identifier: Apache-2.0
"""What a log knows of its writers when it starts: the ledger, brought up to the head from the leaves (rule A4).

The invariant: a row of the ledger is believed only as far as the writer's own note vouches for it, and each leaf after
it must fit: registered, in sequence, under the compact range and the root of its batch. Otherwise the ledger is rebuilt
from leaf 0; what does not fit then is wrong in the log itself, and the start is refused.

Notes of the rounds whose stages are still there are signed again: the same heads give the same bytes. Notes that are
gone with a lost ledger are not (A3); receipts of those batches are then made for the newest checkpoint. What stands
beside sealed leaves (S2) is in no leaf: it comes from those stages too, and what was in a lost ledger only is lost.
"""

from collections.abc import Iterable, Sequence

from iap_authz.errors import Corrupt, IapError, Rollback
from iap_authz.log.reader import Reader
from iap_authz.log.recover import Recovered, sign_tree
from iap_authz.log.writers import row_of, state_of
from iap_authz.ports import BatchRow, Head, Ledger, RoundRows
from iap_authz.records.log_fold import Fold, FoldedBatch, WriterState
from iap_authz.tlog.hashing import LeafIndex, TreeSize, leaf_hashes
from iap_authz.tlog.note import NoteSigner

CHUNK_LEAVES = 8_192
"""Leaves in memory at once: about 6 MB of records."""


def restart_writers(
    recovered: Recovered, ledger: Ledger, reader: Reader, *, signers: Sequence[NoteSigner]
) -> list[WriterState]:
    """The writers as of the head; the ledger holds them, and every batch and note, afterwards.

    Raises Corrupt if the leaves do not fit, Rollback if the ledger is ahead of the head.
    """
    origin, head = signers[0].name, recovered.head
    fold = _resume(ledger, origin, head)
    while fold.size < head.size:
        first = fold.size
        leaves = reader.read_now(LeafIndex(first), min(CHUNK_LEAVES, head.size - first))
        fold.add_all(LeafIndex(first), leaves, leaf_hashes(leaves))
    if fold.problems:
        first_problem = fold.problems[0]
        raise Corrupt(f"leaf {first_problem.index}", f"{first_problem.message}: run `iap-authz fsck`")
    states = list(fold.writers.values())
    sizes = sorted({plan.tree.end for plan in recovered.rounds} | {head.size})
    # Each head of the chain was committed, since the stages lead from it to the head.
    notes = {plan.tree.end: sign_tree(plan.tree.end, plan.tree.root(), signers).note for plan in recovered.rounds}
    notes[head.size] = recovered.signed.note
    ledger.add(
        RoundRows(
            size=head.size,
            notes=tuple((size, note) for size, note in notes.items() if ledger.note(size) is None),
            batches=tuple(_batch_rows(fold.drain_batches(), sizes)),
            writers=tuple(row_of(state, head.time) for state in states),
            companions=recovered.companions,
        )
    )
    return states


def _resume(ledger: Ledger, origin: str, head: Head) -> Fold:
    """A fold at the size that the ledger stands at, or at 0 if its rows cannot be believed."""
    try:
        size, rows = ledger.load()
        states = [state_of(row, origin) for row in rows]
    except IapError:
        ledger.clear()
        return Fold(origin)
    if size > head.size:
        raise Rollback(
            f"the ledger stands at size {size} and the head at {head.size}: an older copy of the head store was put"
            " back. Put back the newest one; if there is none, retire the log: new key, new origin",
            [],
        )
    return Fold.resume(origin, states, size=size)


def _batch_rows(batches: Iterable[FoldedBatch], sizes: Sequence[TreeSize]) -> Iterable[BatchRow]:
    """Each batch with the smallest size in `sizes` (rising) that covers it."""
    for batch in batches:
        last = batch.first_index + batch.end - batch.begin
        yield BatchRow(
            writer=batch.writer,
            begin=batch.begin,
            end=batch.end,
            first_index=batch.first_index,
            round_size=next(size for size in sizes if size > last),
        )
