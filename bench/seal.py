# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.seal`: what sealing personal data costs, and what it costs to open it, and to forget somebody.

    cost     a record open and sealed, in this process                            seal_cost
    append   batches into an open and a sealed log in turns, and their indexes    seal_append
    open     1,000 records unsealed over gRPC                                     seal_open
    erase    a person with a tenth of a log's records, while others ask           seal_erase, seal_probe

Real log processes on a real disk, every file and folder synced. The benchmark stops at the first answer that is wrong.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from bench.__main__ import describe_machine
from bench.seal_append import BATCH, WRITERS, measure_append
from bench.seal_cost import BUDGET_US, SEALING, measure_cost
from bench.seal_erase import Erasing
from bench.seal_open import measure_opening
from bench.seal_probe import PHASES
from bench.seal_world import Known, LogPlace, make_log, serving
from iap_authz.adapters.keys.vault_file import FileVault

PARTS = ("cost", "append", "open", "erase")
FULL_RECORDS = 1_000_000
Figures = dict[str, Any]


def main() -> None:
    """Measure and report in Markdown, part by part."""
    arguments = _arguments()
    assert arguments.subject_records >= 1_000, "the sample of the person's records is smaller than that"
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        figures["machine"] = describe_machine(folder)
        for name, value in figures["machine"].items():
            print(f"| {name} | {value} |")
        known = Known.establish(folder / "world")
        acts = {"cost": _cost, "append": _append, "open": _open, "erase": _erase}
        for part in arguments.parts:
            began = time.monotonic()
            figures[part] = acts[part](folder / part, known, arguments)
            print(f"\n({part}: {time.monotonic() - began:.0f} s)", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.seal", description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=20_000, help="records in the log that somebody is erased from")
    parser.add_argument("--subject-records", type=int, default=2_000, help="how many of them are theirs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def _is_full(arguments: argparse.Namespace) -> bool:
    """Whether this is for figures; a run with fewer records checks the harness."""
    return bool(arguments.records >= FULL_RECORDS // 10)


def _cost(folder: Path, known: Known, _: argparse.Namespace) -> Figures:
    make_log(folder, sealed=True)
    figures = measure_cost(known, FileVault(folder / "vault.key"))
    print("\n| cost of sealing a record, processor time | us, median | lowest |\n|---|---|---|")
    for name, (median, lowest) in figures.items():
        print(f"| {name} | {median:.1f} | {lowest:.1f} |")
    spent = figures[SEALING][1]
    verdict = "kept" if spent <= BUDGET_US else "MISSED"
    print(f"\nbudget: at most {BUDGET_US:.0f} us a record: {verdict}, {spent:.1f} us at the lowest")
    return dict(figures)


def _append(folder: Path, known: Known, arguments: argparse.Namespace) -> Figures:
    batches, repetitions = (4, 5) if _is_full(arguments) else (2, 3)
    places = {name: make_log(folder / name, sealed=name == "sealed") for name in ("open", "sealed")}
    with serving(places["open"]) as of_open, serving(places["sealed"]) as of_sealed:
        running = {"open": (places["open"], of_open), "sealed": (places["sealed"], of_sealed)}
        follows = uvloop.run(measure_append(running, known, batches=batches, repetitions=repetitions))
    medians = {name: follow.medians() for name, follow in follows.items()}
    load = f"{WRITERS} writers x {batches} batches of {BATCH}, {repetitions} turns each"
    print(f"\n| into an open and a sealed log: {load} | open | sealed | sealed / open |\n|---|---|---|---|")
    for name, plain in medians["open"].items():
        sealed = medians["sealed"][name]
        print(f"| {name} | {plain:,.0f} | {sealed:,.0f} | {sealed / plain if plain else 0:.2f} |")
    for name, follow in follows.items():
        print(f"\n{name}, append records/s of each turn: {', '.join(f'{one:,.0f}' for one in follow.appended)}")
    return dict(medians)


def _open(folder: Path, known: Known, arguments: argparse.Namespace) -> Figures:
    repetitions = 5 if _is_full(arguments) else 2
    openings = measure_opening(make_log(folder, sealed=True), known, repetitions=repetitions)
    medians = {name: opening.medians() for name, opening in openings.items()}
    names = list(next(iter(medians.values())))
    print(f"\n| 1,000 records, {repetitions} starts of the log | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, found in medians.items():
        print(f"| {name} | {' | '.join(f'{value:,.1f}' for value in found.values())} |")
    return dict(medians)


def _erase(folder: Path, known: Known, arguments: argparse.Namespace) -> Figures:
    place, seconds = make_log(folder, sealed=True), 20.0 if _is_full(arguments) else 3.0
    with serving(place) as pid:
        figures, probed = uvloop.run(_erasing(place, known, arguments, pid=pid, seconds=seconds))
    _table(f"{arguments.subject_records:,} of {arguments.records:,} records are erased", figures)
    print("\n| meanwhile, ms | " + " | ".join(f"{one}: n, p50, p99" for one in PHASES) + " | p50 during / before |")
    print(f"|---|{'---|' * (len(PHASES) + 1)}")
    for name, phases in probed.items():
        cells = [f"{count}, {p50:.1f}, {p99:.1f}" for count, p50, p99 in phases.values()]
        print(f"| {name} | {' | '.join(cells)} | {phases['during'][1] / phases['before'][1]:.2f} |")
    return {"figures": figures, "meanwhile": probed}


async def _erasing(
    place: LogPlace, known: Known, arguments: argparse.Namespace, *, pid: int, seconds: float
) -> tuple[dict[str, float | str], Figures]:
    """In the loop that its channels are made in."""
    erasing = Erasing(place, known, pid=pid, records=arguments.records, of_person=arguments.subject_records)
    await erasing.run(probe_seconds=seconds)
    return erasing.figures, dict(erasing.probe.summary())


def _table(title: str, figures: Mapping[str, float | str]) -> None:
    print(f"\n| {title} | measured |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value if isinstance(value, str) else f'{value:,.2f}'} |")


if __name__ == "__main__":
    main()
