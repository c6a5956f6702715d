# SPDX-License-Identifier: Apache-2.0
"""Who works with a trail: logs that run share its lock, and whoever must know that none runs has it alone.

The invariant: while somebody is alone with a trail, no log that asks for the lock uses it. The lock is a file beside
the trail, `<trail>.lock`, and stays: SQLite's own locks are of another kind, and closing the trail's file would drop
them.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iap_authz.errors import Conflict


class SharedTrail:
    """The share of one process in a trail, from its making to `release`. Raises Conflict, OSError."""

    def __init__(self, file: Path) -> None:
        self._descriptor = _take(file, fcntl.LOCK_SH, "somebody changes the keys that belong to it: wait")

    def release(self) -> None:
        """The process is done with the trail."""
        os.close(self._descriptor)


@contextmanager
def alone_with_trail(file: Path) -> Iterator[None]:
    """No log runs on this trail in the block. Raises Conflict if one does, OSError."""
    descriptor = _take(file, fcntl.LOCK_EX, "a log runs on it: stop it first")
    try:
        yield
    finally:
        os.close(descriptor)


def _take(file: Path, operation: int, problem: str) -> int:
    descriptor = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(f"got the trail {file} in use, want it alone: {problem}") from None
    return descriptor
