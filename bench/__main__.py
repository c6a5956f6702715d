# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: one report in Markdown on standard output; `--json FILE` keeps the figures."""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from bench.load import PAIRS, Ratio, h2load, measure_load
from bench.stages import LOOPS, ROUNDS, measure_stages
from bench.world import make_world

SYNCS = 300
SYNC_BYTES = 4_096


def main() -> None:
    """Measure the machine's disk, the stages and, where h2load is, the servers."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--no-load", action="store_true", help="only the machine and the stages")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        machine = describe_machine(folder)
        world = make_world(folder / "stages")
        stages = measure_stages(world.config, world.check)
        program = h2load()
        ratios = measure_load(program, folder / "load") if program is not None and not arguments.no_load else []
    report(machine, stages, ratios)
    if program is None:
        print("\nh2load is not installed (Debian: nghttp2-client): the servers were not measured.")
    if arguments.json is not None:
        figures = {"machine": machine, "stages_us": stages, "load": [asdict(ratio) for ratio in ratios]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def describe_machine(folder: Path) -> dict[str, str]:
    """What the figures were measured on, with the time of one fdatasync there."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    syncs = sorted(_sync_ms(folder / "sync"))
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "libraries": ", ".join(
            f"{name} {version(name)}" for name in ("grpcio", "protobuf", "uvloop", "cel-expr-python")
        ),
        "fdatasync of 4 KiB": f"p50 {statistics.median(syncs):.2f} ms, p99 {syncs[int(len(syncs) * 0.99)]:.2f} ms",
    }


def _sync_ms(path: Path) -> list[float]:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    os.posix_fallocate(descriptor, 0, SYNCS * SYNC_BYTES)
    found = []
    for number in range(SYNCS):
        os.pwrite(descriptor, b"x" * SYNC_BYTES, number * SYNC_BYTES)
        started = time.perf_counter_ns()
        os.fdatasync(descriptor)
        found.append((time.perf_counter_ns() - started) / 1e6)
    os.close(descriptor)
    return found


def report(machine: dict[str, str], stages: dict[str, float], ratios: list[Ratio]) -> None:
    """The tables, in Markdown."""
    print("| machine | |\n|---|---|")
    for name, value in machine.items():
        print(f"| {name} | {value} |")
    print(f"\nProcessor time of one call, median of {ROUNDS} rounds of {LOOPS}:\n\n| stage | us |\n|---|---|")
    for name, microseconds in stages.items():
        print(f"| {name} | {microseconds:.1f} |")
    if not ratios:
        return
    print(f"\nWhole decision against an empty reply, Unix socket, journal durability, median of {PAIRS} pairs:\n")
    print("| in flight | empty /s | decision /s | ratio | lowest to highest |\n|---|---|---|---|---|")
    for one in ratios:
        spread = f"{one.ratio_low:.2f} to {one.ratio_high:.2f}"
        rates = f"{one.empty_per_second:.0f} | {one.decision_per_second:.0f}"
        print(f"| {one.in_flight} | {rates} | {one.ratio:.2f} | {spread} |")


if __name__ == "__main__":
    main()
