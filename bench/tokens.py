# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.tokens`: what a token costs a request, cold and cached, by algorithm. Markdown on standard output.

Cold is all of `establish_identity`: the header, the strict profile, the signature, the claims. Cached is what the next
request with the same token pays: the same header, the cache, a copy, its age, and the question whether it is revoked.
The algorithms are measured in turns, so that a machine that slows down slows all of them.
"""

import statistics
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench.stages import processor_us
from bench.world import ALGORITHMS, make_world
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.envoy.request import parse_check
from iap_authz.config import load_config
from iap_authz.facts.identity import establish_identity
from iap_authz.wiring import build_snapshot, load_slots, make_slots

TURNS = 5


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        acts = {algorithm: _acts(Path(scratch) / algorithm, algorithm) for algorithm in ALGORITHMS}
        turns = [
            {algorithm: [processor_us(act) for act in pair] for algorithm, pair in acts.items()} for _ in range(TURNS)
        ]
    print("| algorithm | cold us | cached us | cold over cached |\n|---|---|---|---|")
    for algorithm in ALGORITHMS:
        cold, cached = (statistics.median(turn[algorithm][place] for turn in turns) for place in (0, 1))
        ratio = statistics.median(turn[algorithm][0] / turn[algorithm][1] for turn in turns)
        print(f"| {algorithm} | {cold:.1f} | {cached:.1f} | {ratio:.1f} |")


def _acts(folder: Path, algorithm: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """Cold and cached, each checked to have believed the token."""
    world = make_world(folder, algorithm=algorithm)
    settings = load_config(world.config)
    slots = make_slots(settings)
    load_slots(slots, 0.0)
    snapshot, now = build_snapshot(settings, slots), datetime.now(UTC).replace(microsecond=0)
    request = parse_check(world.check)

    def cold() -> facts_pb2.Identity:
        return establish_identity(request, snapshot.issuers, now=now).identity

    def cached() -> facts_pb2.Facts:
        facts = facts_pb2.Facts()
        snapshot._establish_identity(facts, request, now)  # noqa: SLF001 -- this stage alone
        return facts

    for identity in (cold(), cached().identity, cached().identity):
        assert identity.state == facts_pb2.PRESENT, identity.problem
        assert identity.algorithm == algorithm
    return cold, cached


if __name__ == "__main__":
    main()
