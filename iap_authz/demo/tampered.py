# SPDX-License-Identifier: Apache-2.0
"""The audit log tampered with, twice: a byte of its store, and its whole past.

    one bit of a record, in a copy of the store          whoever has the files and the key names the byte
    an empty store in its place: same name, same key     the sidecar holds a checkpoint of the tree that was thrown away
                                                         and quotes it: the log freezes, and the sidecar alarms

Invariant: both are found by what a deployment has anyway: `fsck` by the files alone, the sidecar by its last verified
checkpoint. Neither is told that anything happened.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iap_authz.demo.audit import load_trails
from iap_authz.demo.auditor import WAIT_SECONDS, Auditor
from iap_authz.demo.disk import flip_bit
from iap_authz.demo.live import Live
from iap_authz.demo.log_world import LogPlace
from iap_authz.model.ids import WriterId
from iap_authz.records.log_inspect import inspect_log
from iap_authz.records.log_inspect_findings import LogFault, LogFinding, LogInspection
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.tlog.note import VerifierKey
from iap_authz.tlog.tiles import TILE_WIDTH, Bundle, parse_bundle, render_bundle_path

LENGTH_BYTES = 2
"""Before each entry of a bundle (C2SP tlog-tiles)."""

POLL_SECONDS = 0.1
"""Between two looks at a journal and at the log's state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFlip:
    """A byte of an entry bundle that was changed in a copy of the store, and what was found of it.

    `before` is what the inspection of the store itself said.
    """

    before: LogInspection
    folder: Path
    path: str
    offset: int
    was: int
    became: int
    findings: Sequence[LogFinding]

    @property
    def differences(self) -> Iterator[str]:
        """Where the store itself has faults, or where not exactly this byte was found."""
        if not self.before.holds or not self.before.signed:
            yield f"log's store: got {[str(one) for one in self.before.findings]}, want it to hold"
        found = [(one.kind, one.path, one.offset, one.got, one.want) for one in self.findings]
        if found != [(LogFault.FLIPPED, self.path, self.offset, self.became, self.was)]:
            yield f"log's flipped byte {self.offset}: got {[str(one) for one in self.findings]}, want it named"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """What became of a log without its past, and of the sidecar that met it.

    `because` is empty where the log did not freeze; `alerts` are the kinds of the Alerts in the sidecar's journal.
    """

    because: str
    writer: str
    alerts: Sequence[str]

    @property
    def differences(self) -> Iterator[str]:
        """Whoever noticed nothing."""
        if not self.because:
            yield "log without its past: it did not freeze"
        if not self.alerts:
            yield "log without its past: the sidecar did not alarm"


def flip_store(place: LogPlace, index: LeafIndex, folder: Path) -> StoreFlip:
    """Copy the store of a log that has ended to `folder`, change one bit in the middle of leaf `index`, and inspect."""
    before = inspect_store(place.store, place.verifier)
    shutil.copytree(place.store, folder)
    first = index - index % TILE_WIDTH
    bundle = Bundle(index // TILE_WIDTH, min(TILE_WIDTH, before.size - first))
    path = render_bundle_path(bundle)
    entries = parse_bundle((folder / path).read_bytes(), bundle.width)
    start = sum(LENGTH_BYTES + len(entry) for entry in entries[: index - first]) + LENGTH_BYTES
    offset = start + len(entries[index - first]) // 2
    was, became = flip_bit(folder / path, offset)
    return StoreFlip(
        before=before,
        folder=folder,
        path=path,
        offset=offset,
        was=was,
        became=became,
        findings=inspect_store(folder, place.verifier).findings,
    )


def inspect_store(store: Path, verifier: VerifierKey) -> LogInspection:
    """The inspection that `iap-authz fsck` makes of a log's files. Raises OSError."""

    def read(path: str) -> bytes | None:
        file = store / path
        return file.read_bytes() if file.is_file() else None

    files = (file for kind in ("tile", "stage") for file in sorted((store / kind).rglob("*")) if file.is_file())
    return inspect_log(read, [file.relative_to(store).as_posix() for file in files], verifiers=[verifier])


def fork_log(live: Live, auditor: Auditor, *, known: WriterId) -> Fork:
    """Put a log without a past in the place of the one that has ended, and start the sidecar again.

    `known` is the sidecar before. Waits, with a bound, until the log is frozen and the sidecar has recorded an alarm.
    """
    live.start(live.run_log(live.logs.forked))
    live.start(live.run_sidecar())
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        state, (writer, alerts) = auditor.state(), _alerts(live.world.journal, known=known)
        found = Fork(because=state.frozen_because if state.frozen else "", writer=writer, alerts=alerts)
        if (found.because and found.alerts) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_SECONDS)


def _alerts(journal: Path, *, known: WriterId) -> tuple[str, Sequence[str]]:
    """The sidecar that runs, and the alarms in its journal as far as they are on the disk."""
    for trail in load_trails(journal):
        if trail.inspection.writer not in (None, known):
            records = trail.records().values()
            alerts = [record.alert.kind for record in records if record.WhichOneof("body") == "alert"]
            return trail.folder.name, alerts
    return "", []


def put_back(live: Live) -> None:
    """End the log without a past and the sidecar that met it; start the honest log, and a sidecar that ships to it."""
    for process in (live.sidecar, live.log):
        if process is not None:
            process.stop()
    live.start(live.run_log(live.logs.honest))
    live.start(live.run_sidecar())
