# SPDX-License-Identifier: Apache-2.0
"""Every leaf of the audit log, in order, each range proven to be what stands there, and no leaf left out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from iap_authz.cli.log_options import LogOptions, open_log
from iap_authz.errors import BadProof
from iap_authz.tlog.checkpoint import Checkpoint
from iap_authz.tlog.hashing import LeafIndex

Take = Callable[[LeafIndex, bytes], None]

STEP_LEAVES = 1_024
"""How often the bar moves: moving it costs more than reading a leaf."""


async def read_all(options: LogOptions, take: Take) -> Checkpoint:
    """Give each leaf of the newest checkpoint to `take`; the checkpoint, which they are all of the leaves of."""
    number = 0
    async with open_log(options) as client:
        checkpoint = (await client.checkpoint()).checkpoint
        with _progress_over(checkpoint.size) as move_to:
            async for index, leaf in client.entries(LeafIndex(0), checkpoint.size):
                _check_next(index, number)
                take(index, leaf)
                number += 1
                move_to(number)
    _check_next(checkpoint.size, number)
    return checkpoint


def _check_next(index: int, want: int) -> None:
    if index != want:
        raise BadProof(f"got leaf {index}, want {want}: all leaves, in order")


@contextmanager
def _progress_over(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over the leaves, on standard error, if that is a terminal. Takes how many are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=total)

        def move_to(done: int) -> None:
            if done % STEP_LEAVES == 0:
                progress.update(task, completed=done)

        yield move_to
