# SPDX-License-Identifier: Apache-2.0
"""The rules of tests/conftest.py hold: each is broken on purpose, in a run of pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parent.parent / "conftest.py"

UNPLUGGED = """
import asyncio, socket, pytest

def test_connect():
    with socket.socket() as s:
        s.connect(("127.0.0.1", 9))

def test_connect_ex():
    with socket.socket() as s:
        s.connect_ex(("127.0.0.1", 9))

def test_datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("127.0.0.1", 9))

def test_name():
    socket.getaddrinfo("localhost", 80)

def test_asyncio():
    asyncio.run(asyncio.wait_for(asyncio.open_connection("127.0.0.1", 9), 5))

def test_unix_is_allowed(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
"""

LOOPBACK = """
import socket, pytest

def test_loopback_is_allowed():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass

def test_localhost_is_allowed():
    socket.getaddrinfo("localhost", 80)

@pytest.mark.parametrize("address", ["192.0.2.1", "0.0.0.0", "10.0.0.1"])
def test_beyond(address):
    with socket.socket() as s:
        s.connect((address, 9))

def test_name_beyond():
    socket.getaddrinfo("example.com", 80)
"""

HANGS = """
import signal, pytest

@pytest.mark.time_bound(0.2)
def test_hangs():
    try:
        signal.pause()
    except Exception:
        pass

@pytest.fixture
def slow():
    signal.pause()

@pytest.mark.time_bound(0.2)
def test_fixture_hangs(slow):
    pass

def test_runs_after_it():
    pass
"""

SKIPS = """
import pytest

def test_skips():
    pytest.skip("no such program")

@pytest.mark.xfail(reason="known", strict=True)
def test_expected():
    assert False

def test_profile():
    import hypothesis
    print("derandomize", hypothesis.settings.default.derandomize)
"""

SKIPS_ITSELF = """
import pytest
pytest.importorskip("no_such_module_anywhere")
"""

LEAVES = """
import subprocess, sys

def test_leaves_an_orphan():
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])"
    subprocess.run([sys.executable, "-c", child], check=True)
"""


def run(tmp_path: Path, files: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over `files`, below a copy of conftest.py."""
    tests = tmp_path / "tests"
    for name, content in {"conftest.py": CONFTEST.read_text(), **files}.items():
        path = tests / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = time_bound(seconds)\nstrict_markers = true\n")
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--import-mode=importlib", "tests"]
    inherited = {name: value for name, value in os.environ.items() if name not in {"CI", "IAP_CI", "PYTEST_ADDOPTS"}}
    return subprocess.run(
        command, cwd=tmp_path, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False
    )


def outcomes(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Each test's outcome, from the short summary that -rA prints."""
    words = [line.split() for line in result.stdout.splitlines() if line.startswith(("PASSED ", "FAILED ", "ERROR "))]
    return {word[1].rpartition("::")[2]: word[0] for word in words}


def test_the_network_is_unplugged(tmp_path: Path) -> None:
    result = run(tmp_path, {"unit/test_a.py": UNPLUGGED})
    names = ("test_connect", "test_connect_ex", "test_datagram", "test_name", "test_asyncio")
    assert outcomes(result) == {**dict.fromkeys(names, "FAILED"), "test_unix_is_allowed": "PASSED"}
    assert "this test may reach Unix sockets only" in result.stdout


def test_loopback_is_for_some(tmp_path: Path) -> None:
    folders = ("bench", "contract", "e2e", "faults")
    result = run(
        tmp_path,
        {f"{folder}/test_{folder}.py": LOOPBACK.replace("def test_", f"def test_{folder}_") for folder in folders},
    )
    expected = {}
    for folder in folders:
        expected[f"test_{folder}_loopback_is_allowed"] = "PASSED"
        expected[f"test_{folder}_localhost_is_allowed"] = "PASSED"
        expected[f"test_{folder}_name_beyond"] = "FAILED"
        expected |= {f"test_{folder}_beyond[{address}]": "FAILED" for address in ("192.0.2.1", "0.0.0.0", "10.0.0.1")}
    assert outcomes(result) == expected
    assert "may reach loopback only" in result.stdout


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    result = run(tmp_path, {"unit/test_a.py": HANGS})
    assert outcomes(result) == {"test_hangs": "FAILED", "test_fixture_hangs": "ERROR", "test_runs_after_it": "PASSED"}
    assert "TimeBoundPassed" in result.stdout


def test_a_skip_is_a_skip(tmp_path: Path) -> None:
    result = run(tmp_path, {"unit/test_a.py": SKIPS, "unit/test_b.py": SKIPS_ITSELF})
    assert result.returncode == 0
    assert "1 passed, 2 skipped, 1 xfailed" in result.stdout
    assert "derandomize False" in result.stdout


def test_a_skip_is_a_failure_in_ci(tmp_path: Path) -> None:
    result = run(tmp_path, {"unit/test_a.py": SKIPS}, IAP_CI="1")
    assert result.returncode == 1
    assert "1 failed, 1 passed, 1 xfailed" in result.stdout
    assert "skipped, which IAP_CI=1 does not allow: Skipped: no such program" in result.stdout
    assert "derandomize True" in result.stdout


def test_a_skipped_module_is_a_failure_in_ci(tmp_path: Path) -> None:
    result = run(tmp_path, {"unit/test_b.py": SKIPS_ITSELF}, IAP_CI="1")
    assert result.returncode != 0
    assert "1 error" in result.stdout
    assert "no_such_module_anywhere" in result.stdout


def test_an_orphan_is_found_and_ended(tmp_path: Path) -> None:
    result = run(tmp_path, {"unit/test_a.py": LEAVES})
    assert result.returncode == 1
    assert "1 passed" in result.stdout
    assert "processes left behind" in result.stdout
    pid = int(result.stdout.partition("processes left behind")[2].splitlines()[1].partition(":")[0])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
