# SPDX-License-Identifier: Apache-2.0
"""A whole edge for end-to-end tests: the demonstration's world with a real Envoy, and ways to look at what it did."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.demo.audit import Trail, load_trails
from iap_authz.demo.cases import CASES, Case
from iap_authz.demo.live import Live, Seen, go_live
from iap_authz.errors import Malformed
from iap_authz.model.reason import Verdict
from tests.fakes.envoy import envoy_binary

PATIENCE_SECONDS = 20.0
"""How long a test waits for what must come about: a bound for what hangs, far above what it takes."""

ENGINEER = CASES[0]
"""A request that is allowed."""

NOBODY = replace(ENGINEER, title="nobody", token="")
"""A request that is refused, before and after any fault."""


@contextmanager
def start_edge(folder: Path, *, journal_bound: str = "1GiB") -> Iterator[Live]:
    """Everything up, with an Envoy; everything gone afterwards. Skips where there is no Envoy."""
    with go_live(folder, envoy=envoy_binary(), journal_bound=journal_bound) as live:
        yield live


def records_of(live: Live) -> list[record_pb2.Record]:
    """All records on disk, writer by writer. Every journal must be without findings."""
    return [record for trail in trails_of(live) for record in trail.records().values()]


def trails_of(live: Live) -> list[Trail]:
    """The journals on disk, each without a finding."""
    trails = load_trails(live.world.journal)
    findings = [str(finding) for trail in trails for finding in trail.inspection.findings]
    assert findings == []
    return trails


def bodies(records: Sequence[record_pb2.Record], kind: str) -> list[record_pb2.Record]:
    """The records of one kind: a field name of `Record.body`."""
    return [record for record in records if record.WhichOneof("body") == kind]


def allows(records: Sequence[record_pb2.Record]) -> list[record_pb2.Record]:
    """The decisions that were ALLOW."""
    return [record for record in bodies(records, "decision") if record.decision.verdict == Verdict.ALLOW.value]


def counters(live: Live) -> Mapping[str, int]:
    """Envoy's own counters of the check, by their last name."""
    _, body = live.read_admin("/stats?filter=^http\\.edge\\.ext_authz\\.iap\\.")
    pairs = (line.rpartition(": ") for line in body.decode().splitlines())
    return {name.rpartition(".")[2]: int(value) for name, _, value in pairs}


def wait_until(holds: Callable[[], bool]) -> None:
    """Until `holds`; each look should do something that takes a moment by itself. Fails past the bound."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "what a test waits for did not come about"


def wait_for(live: Live, case: Case, status: int) -> Seen:
    """Ask until the answer has `status`, as a client that tries again."""
    seen = [live.ask(case)]

    def look() -> bool:
        seen[0] = live.ask(case)
        return seen[0].reply.status == status

    if seen[0].reply.status != status:
        wait_until(look)
    return seen[0]


@dataclass(slots=True)
class Load:
    """What the threads of `load` have got: how many answers of each status, and how many connections that failed."""

    statuses: dict[int, int] = field(default_factory=dict)
    failed: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def answers(self) -> int:
        """All of them."""
        return sum(self.statuses.values())


def wait_more(got: Load, count: int) -> None:
    """Until there are so many more answers."""
    want = got.answers + count
    with got.changed:
        assert got.changed.wait_for(lambda: got.answers >= want, PATIENCE_SECONDS), "the answers did not come"


@contextmanager
def load(live: Live, case: Case, *, threads: int = 4) -> Iterator[Load]:
    """Ask `case` over and over from several threads until the block ends."""
    got, over = Load(), threading.Event()
    client, request = live.client, live.render(case)
    assert client is not None
    device = live.world.device_file(case.device)

    def ask() -> None:
        while not over.is_set():
            try:
                status = client.exchange(request, address="192.0.2.10", device=device).status
            except (OSError, Malformed):
                status = 0
            with got.changed:
                if status:
                    got.statuses[status] = got.statuses.get(status, 0) + 1
                else:
                    got.failed += 1
                got.changed.notify_all()

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield got
    finally:
        over.set()
        for worker in workers:
            worker.join()
