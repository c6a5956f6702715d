# SPDX-License-Identifier: Apache-2.0
"""The one thread that waits for the disk, so that the event loop never does.

The invariant: jobs run one at a time in the order of `submit`, and each job's `done` is called once, on the loop, after
it. Waking one thread costs less than an executor's bookkeeping, and this step is in every answer's way.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue

Done = Callable[[object, BaseException | None], None]
"""Gets a job's result, or its error."""


class Committer:
    """A daemon thread: a disk that hangs does not keep the process from ending."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[tuple[Callable[[], object], Done] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-committer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], object], done: Done) -> None:
        """Run `job` after those before it, then `done` on the loop."""
        self._jobs.put((job, done))

    def stop(self) -> None:
        """End the thread after the jobs that were submitted. Returns at once."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (taken := self._jobs.get()) is not None:
            job, done = taken
            result: object = None
            failure: BaseException | None = None
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 - every end of a job is told, the journal decides
                failure = error
            # A loop that is closed has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(done, result, failure)
            del taken, job, done, result, failure
