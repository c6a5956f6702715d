# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: no network, a time bound, no process left behind, no skip that goes unseen.

- **Network.** A test reaches Unix sockets only; one under `tests/` e2e, faults, contract or bench reaches loopback too.
  Enforced by an audit hook, so below `socket` itself; C libraries that open sockets of their own (gRPC's core, libuv)
  and child processes are beyond it.
- **Time.** Each phase of a test has 120 s, or what `@pytest.mark.time_bound(seconds)` says. Then an exception that no
  library catches ends it with a traceback of every thread; code stuck in C is ended with the whole run, a little later.
- **Processes.** The run adopts its orphans (child subreaper), and ends badly when one of its processes outlives it.
- **Skips.** With `IAP_CI=1` a skip is a failure, at collection too: there, everything a test needs has been installed.
- **Hypothesis.** Profile `ci` with `IAP_CI=1`: derandomized. Otherwise `default`. `--hypothesis-profile long` draws
  many more where a property says so. None measures time.

`tests/repo/test_guards.py` breaks each of these rules on purpose.
"""

import ctypes
import faulthandler
import ipaddress
import os
import select
import signal
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.fakes.postgres import Postgres

TESTS = Path(__file__).resolve().parent

LOOPBACK_FOLDERS = frozenset({"bench", "contract", "e2e", "faults"})
"""Folders of `tests/` whose tests may speak to servers they start themselves."""

TIME_BOUND_SECONDS = 120.0
"""Ten times the slowest test here: this bound finds what hangs, it measures nothing."""

HARD_BOUND_EXTRA_SECONDS = 30.0
"""What a test gets to clean up once its bound has passed, before the whole run is ended."""

CHILD_GRACE_SECONDS = 2.0
"""How long a process that was told to end may take when the session is over."""

PR_SET_CHILD_SUBREAPER = 36
"""From prctl(2)."""

IN_CI = os.environ.get("IAP_CI") == "1"

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=20_000, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "default")


class NetworkUnplugged(Exception):
    """A test tried to reach what its folder does not allow. Not an OSError: code that tolerates those would hide it."""


class TimeBoundPassed(BaseException):
    """A test is over its bound. Not an Exception: neither the code under test nor Hypothesis may catch it."""


# ---- network


class Network:
    """What the running test may reach: `loopback` is set for the time of a test that may."""

    loopback = False

    def check(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit hook: raises when the event reaches too far. Called for every event, so the common case is first."""
        if not event.startswith("socket."):
            return
        match event, arguments:
            case (("socket.connect" | "socket.sendto" | "socket.sendmsg"), (socket.socket() as used, address, *_)):
                if used.family == socket.AF_UNIX or address is None:
                    return
                host = address[0] if isinstance(address, tuple) else address
            case (("socket.getaddrinfo" | "socket.gethostbyname" | "socket.gethostbyaddr"), (host, *_)):
                pass
            case _:
                return
        if not (self.loopback and is_loopback(host)):
            reach = "loopback" if self.loopback else "Unix sockets"
            raise NetworkUnplugged(f"{event} to {host!r}: this test may reach {reach} only (tests/conftest.py)")


def is_loopback(host: object) -> bool:
    """Whether a host, as the socket module takes it, stays on this machine. None and "" stand for the wildcard."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if text in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(text)).is_loopback
    except ValueError:
        return False


NETWORK = Network()
sys.addaudithook(NETWORK.check)


def folder_of(path: Path) -> str:
    """The folder of `tests/` that a test lies in, or "" if it lies elsewhere."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Plug loopback in for the tests that may use it."""
    NETWORK.loopback = folder_of(item.path) in LOOPBACK_FOLDERS
    try:
        return (yield)
    finally:
        NETWORK.loopback = False


# ---- time


def pass_bound(_signal: int, _frame: FrameType | None) -> NoReturn:
    """The handler of SIGALRM."""
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    raise TimeBoundPassed("the test took longer than its bound; every thread's traceback is on stderr")


STDERR = pytest.StashKey[int]()


@contextmanager
def bounded(item: pytest.Item) -> Iterator[None]:
    """Hold one phase of a test to its bound."""
    marker = item.get_closest_marker("time_bound")
    seconds = float(marker.args[0]) if marker else TIME_BOUND_SECONDS
    before = signal.signal(signal.SIGALRM, pass_bound)
    faulthandler.dump_traceback_later(seconds + HARD_BOUND_EXTRA_SECONDS, exit=True, file=item.config.stash[STDERR])
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Bound the fixtures of a test."""
    with bounded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Bound a test."""
    with bounded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Bound the clean-up of a test."""
    with bounded(item):
        return (yield)


# ---- servers


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """One PostgreSQL for the whole run, started by the first test that asks. Each test makes a database of its own."""
    from tests.fakes.postgres import running_postgres  # noqa: PLC0415 -- other runs load no database library

    with running_postgres() as server:
        yield server


# ---- skips


def skip_reason(longrepr: object) -> str:
    """The reason of a skip, out of a report's (file, line, reason)."""
    return str(longrepr[-1]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With IAP_CI=1, turn a skipped test into a failed one; an expected failure stays what it is."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which IAP_CI=1 does not allow: {skip_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which IAP_CI=1 does not allow: {skip_reason(report.longrepr)}"
    return report


# ---- processes

LEFT_BEHIND = pytest.StashKey[Sequence[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Adopt orphans, so that a process whose parent has died is still seen at the end; keep the real stderr."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        config.stash[STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the real stderr back."""
    os.close(config.stash[STDERR])


def living_children() -> dict[int, str]:
    """The command lines of this process's children that have not ended, by process id.

    Python's own helpers of `multiprocessing` end with their parent, by design, and are left out.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it ended while we looked
            if not entry.name.isdecimal():
                continue
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state not in "ZX":
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
    helpers = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
    return {pid: line for pid, line in found.items() if not any(helper in line for helper in helpers)}


def wait_ended(pid: int) -> bool:
    """Wait a bounded time for a process to end; says whether it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(CHILD_GRACE_SECONDS * 1000))
    finally:
        os.close(descriptor)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the run badly if a process of it is left, and end that process."""
    left = {pid: line for pid, line in living_children().items() if not wait_ended(pid)}
    for pid in left:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    session.config.stash[LEFT_BEHIND] = [f"{pid}: {line}" for pid, line in left.items()]
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the processes that were left."""
    left = config.stash.get(LEFT_BEHIND, ())
    if left:
        terminalreporter.section("processes left behind", sep="=", red=True)
        for line in left:
            terminalreporter.line(line)
