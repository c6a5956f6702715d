# SPDX-License-Identifier: Apache-2.0
"""Servers under load: h2load against an empty reply and against a whole sidecar, interleaved.

h2load looks at HTTP status only, so verdicts are counted where they are kept: in the sidecar's journal.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.world import World, grpc_frame, make_world

IN_FLIGHT = (1, 8, 32)
PAIRS = 9
REQUESTS = {1: 1_500, 8: 6_000, 32: 8_000}
READY_SECONDS = 20.0
CHECK_PATH = "/envoy.service.auth.v3.Authorization/Check"
_RATE = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")
_SUCCEEDED = re.compile(r"(\d+) succeeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Medians over PAIRS of interleaved runs at one number of requests in flight."""

    in_flight: int
    empty_per_second: float
    decision_per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float


def h2load() -> str | None:
    """Path of h2load, or None: it comes with Debian's nghttp2-client."""
    return shutil.which("h2load")


@contextmanager
def server(command: list[str], address: str) -> Iterator[None]:
    """A server process until the block ends; ready when its socket answers gRPC health or accepts a connection."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_ready(Path(address.removeprefix("unix:")), process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_ready(socket: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server at {socket} did not start")
        time.sleep(0.05)
    time.sleep(0.5)


def _run(program: str, address: str, body: Path, *, in_flight: int) -> float:
    """Requests per second of one run over one connection."""
    requests = REQUESTS[in_flight]
    command = [
        program,
        f"--requests={requests}",
        "--clients=1",
        f"--max-concurrent-streams={in_flight}",
        f"--data={body}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"--base-uri={address}",
        f"http://localhost{CHECK_PATH}",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    rate, succeeded = _RATE.search(output), _SUCCEEDED.search(output)
    assert rate is not None, output
    assert succeeded is not None, output
    assert int(succeeded[1]) == requests, output
    return float(rate[1])


def measure_load(program: str, folder: Path) -> list[Ratio]:
    """The whole decision against the empty reply, at each number in flight; then every verdict is counted."""
    world = make_world(folder)
    body = folder / "body.grpc"
    body.write_bytes(grpc_frame(world.check))
    empty_address = f"unix:{folder}/empty.sock"
    empty = [sys.executable, "-m", "bench.empty_server", empty_address]
    sidecar = [sys.executable, "-m", "iap_authz", "serve", "sidecar", "--config", str(world.config)]
    with server(empty, empty_address), server(sidecar, world.socket):
        for address in (empty_address, world.socket):
            _run(program, address, body, in_flight=32)
        ratios = [_measure(program, empty_address, world.socket, body=body, in_flight=count) for count in IN_FLIGHT]
    _check_verdicts(world, REQUESTS[32] + sum(PAIRS * REQUESTS[count] for count in IN_FLIGHT))
    return ratios


def _measure(program: str, empty: str, decision: str, *, body: Path, in_flight: int) -> Ratio:
    pairs = [
        tuple(_run(program, address, body, in_flight=in_flight) for address in (empty, decision)) for _ in range(PAIRS)
    ]
    ratios = sorted(decided / answered for answered, decided in pairs)
    return Ratio(
        in_flight=in_flight,
        empty_per_second=statistics.median(answered for answered, _ in pairs),
        decision_per_second=statistics.median(decided for _, decided in pairs),
        ratio=statistics.median(ratios),
        ratio_low=ratios[0],
        ratio_high=ratios[-1],
    )


def _check_verdicts(world: World, expected: int) -> None:
    """A fast wrong answer fails the benchmark: every request has an ALLOW record, and the journal is intact."""
    listing = [sys.executable, "-m", "iap_authz", "records", "list", "--json", "--body", "decision"]
    output = subprocess.run(
        [*listing, "--journal", str(world.folder / "journal")], check=True, capture_output=True, text=True, timeout=600
    ).stdout
    verdicts = [json.loads(line)["decision"].get("verdict") for line in output.splitlines()]
    wrong = sum(verdict != "ALLOW" for verdict in verdicts)
    assert (len(verdicts), wrong) == (expected, 0), f"got {len(verdicts)} decisions, {wrong} not ALLOW, want {expected}"
