# SPDX-License-Identifier: Apache-2.0
"""Processes that end: started in a group of their own, waited for with a bound, ended by id whatever happens.

Invariant: when the block that started a process is left, by its end, an exception or a signal that raises, the process
and its group are gone. SIGTERM first; what is left after the grace is killed. Output goes to a file in the folder.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from iap_authz.errors import Unavailable, shown

READY_SECONDS = 20.0
"""For a process to become ready; both take about one on an idle machine."""

GRACE_SECONDS = 8.0
"""From SIGTERM to SIGKILL: above the sidecar's own five for checks in flight."""

POLL_SECONDS = 0.02
"""Between two looks at a process that is about to be ready."""

OUTPUT_SHOWN_CHARS = 2_000
"""The end of a process's output that a message quotes: its last words say why."""


class Running:
    """One process of ours."""

    def __init__(self, name: str, command: Sequence[str], *, output: Path) -> None:
        """Start it. Raises OSError where there is no such program."""
        self.name = name
        self.output = output
        with output.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603 -- a program of this package, or the Envoy it was given
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, it alone."""
        self._process.send_signal(number)

    def wait_ended(self, seconds: float = GRACE_SECONDS) -> int:
        """Its exit code. Raises Unavailable when it does not end in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{self.name} did not end within {seconds:g} s") from None

    def wait_ready(self, is_ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Until `is_ready` says so. Raises Unavailable when the process ends before, or takes too long."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.ended:
                raise Unavailable(f"{self.name} ended with {self._process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.name} was not ready within {seconds:g} s: {self.last_words()}")
            time.sleep(POLL_SECONDS)

    def last_words(self) -> str:
        """The end of its output."""
        try:
            return self.output.read_text("utf-8", "replace")[-OUTPUT_SHOWN_CHARS:].strip() or "no output"
        except OSError as error:
            return f"no output: {shown(error.strerror)}"

    def stop(self) -> None:
        """End it and its group. Idempotent."""
        try:
            if not self.ended:
                self.signal(signal.SIGCONT)  # one that is stopped would never read the next
                self.signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(GRACE_SECONDS)
        finally:
            if not self.ended:  # once it has been waited for, its id may be somebody else's
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()


@contextmanager
def running(
    name: str, command: Sequence[str], *, output: Path, is_ready: Callable[[Running], bool]
) -> Iterator[Running]:
    """Start a process, wait until it is ready, and end it with the block."""
    process = Running(name, command, output=output)
    try:
        process.wait_ready(lambda: is_ready(process))
        yield process
    finally:
        process.stop()


@contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that what it started is ended with it."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)  # what a shell reports for a process that a signal ended

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
