# SPDX-License-Identifier: Apache-2.0
"""A real `serve log` process in a folder: started, killed, started again. Its files are a deployment's."""

import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

from iap_authz.adapters.keys.file import create_key_file, load_signers
from iap_authz.tlog.note import VerifierKey
from tests.fakes.journal import ORIGIN

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "let me in"
READY_SECONDS = 30.0


class LogProcess:
    """One log in one folder. `stop` and `kill` end its process; `start` runs the next one."""

    def __init__(self, folder: Path, *, publish: str = "50ms") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.socket = folder / "log.sock"
        self.output = folder / "log.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        create_key_file(folder / "log.key", ORIGIN)
        digest = sha256(TOKEN.encode()).hexdigest()
        (folder / "enrolment.yaml").write_text(f"tokens:\n- {{name: tests, sha256: {digest}}}\n")
        (folder / "log.yaml").write_text(
            f"kind: Log\norigin: {ORIGIN}\nkey_file: log.key\ndirectory: store\nlisten: unix:log.sock\n"
            f"listen_http: unix:http.sock\nenrolment_file: enrolment.yaml\nvault: none\npublish_interval: {publish}\n"
        )

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def key(self) -> VerifierKey:
        return load_signers(self.folder / "log.key")[0].verifier()

    def spawn(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "iap_authz", "serve", "log", "-c", str(self.folder / "log.yaml")]
        with self.output.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def start(self) -> None:
        """Run it until its socket answers."""
        self.socket.unlink(missing_ok=True)
        self.process = self.spawn()
        deadline = time.monotonic() + READY_SECONDS
        while not self.socket.exists():
            assert self.process.poll() is None, self.last_words()
            assert time.monotonic() < deadline, self.last_words()
            os.sched_yield()

    def kill(self) -> None:
        """End it without warning."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(READY_SECONDS)

    def last_words(self) -> str:
        return self.output.read_text("utf-8", "replace")[-2_000:]
