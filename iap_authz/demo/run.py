# SPDX-License-Identifier: Apache-2.0
"""The demonstration itself: ask every case, read the trail back, prove it, damage a copy of it.

Invariant: a demonstration that shows something else than `cases` says is a failed one. What differs is kept as text
beside what was seen, and decides the exit code.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.demo.audit import Flip, Trail, flip_copy, load_trails, prove_all
from iap_authz.demo.cases import CASES, Case
from iap_authz.demo.live import Live, Seen
from iap_authz.demo.upstream import FORGED_AUDIT_ID, Received
from iap_authz.errors import NotProven, shown
from iap_authz.model.ids import AuditId
from iap_authz.model.reason import Reason, Verdict

Records = Mapping[AuditId, record_pb2.Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One case, what was seen of it, its record (None without one), and what differs from what was to come out."""

    seen: Seen
    record: record_pb2.Record | None
    differences: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that the demonstration has to show."""

    lines: Sequence[Line]
    trails: Sequence[Trail]
    records: Records
    proofs: int
    flip: Flip

    @property
    def differences(self) -> list[str]:
        """What is not as it was to be, with the case that it belongs to."""
        found = [f"{line.seen.case.title}: {difference}" for line in self.lines for difference in line.differences]
        if not self.flip.is_named:
            found.append(f"flipped byte {self.flip.offset}: got {list(map(str, self.flip.findings))}, want it named")
        return found


def run_demo(live: Live, watch: Callable[[Seen], None] = lambda _: None) -> Report:
    """Ask every case, in order, and audit what was recorded. `watch` gets each answer as it comes.

    Raises OSError or Malformed where a request cannot be sent, NotProven where a record cannot be proved.
    """
    seen = []
    for case in CASES:
        seen.append(live.ask(case))
        watch(seen[-1])
    trails = load_trails(live.world.journal)
    records = {audit_id: record for trail in trails for audit_id, record in trail.records().items()}
    lines = [line_of(one, records) for one in seen]
    return Report(
        lines=lines,
        trails=trails,
        records=records,
        proofs=sum(prove_all(trail) for trail in trails),
        flip=_flip_one(trails, lines, live.world.folder / "journal-flipped"),
    )


def _flip_one(trails: Sequence[Trail], lines: Sequence[Line], folder: Path) -> Flip:
    """Flip a byte of the first decision, in a copy."""
    wanted = {line.seen.audit_id for line in lines if line.record is not None}
    for trail in trails:
        for audit_id in trail.records():
            if audit_id in wanted:
                return flip_copy(trail, audit_id, folder)
    raise NotProven("got a journal without a single decision, want the record of each")


def line_of(seen: Seen, records: Records) -> Line:
    """What was seen of one case beside its record, and what differs from the case."""
    record = records.get(AuditId(seen.audit_id))
    differences = (*_answer_differences(seen), *_record_differences(seen, record), *_upstream_differences(seen))
    return Line(seen=seen, record=record, differences=differences)


def _answer_differences(seen: Seen) -> Iterator[str]:
    case, reply, outcome = seen.case, seen.reply, seen.case.outcome
    if reply.status != outcome.status:
        yield f"got status {reply.status}, want {outcome.status}"
    for name, want in case.answered.items():
        if want not in reply.value(name):
            yield f"got {name} {shown(reply.value(name))}, want {shown(want)} in it"
    if FORGED_AUDIT_ID in reply.values("x-iap-audit-id"):
        yield "got the application's own x-iap-audit-id"
    if len(reply.values("x-iap-audit-id")) != int(outcome.verdict is not None):
        yield f"got {len(reply.values('x-iap-audit-id'))} audit ids, want {int(outcome.verdict is not None)}"
    if outcome.verdict not in (None, Verdict.ALLOW) and seen.audit_id.encode() not in reply.body:
        yield "got a refusal that does not show its audit id"


def _record_differences(seen: Seen, record: record_pb2.Record | None) -> Iterator[str]:
    outcome = seen.case.outcome
    if outcome.verdict is None or outcome.reason is None:
        return
    if record is None:
        yield f"got no record {shown(seen.audit_id)}, want one"
        return
    decision = record.decision
    got = (Verdict(decision.verdict), Reason(decision.reason), decision.rule, decision.route, decision.http_status)
    want = (outcome.verdict, outcome.reason, outcome.rule, outcome.route, outcome.status)
    if got != want:
        yield f"got {_words(got)}, want {_words(want)}"


def _words(outcome: tuple[Verdict, Reason, str, str, int]) -> str:
    verdict, reason, rule, route, status = outcome
    return f"{verdict.code} {reason.code} by rule {rule or 'none'} of route {route or 'none'} ({status})"


def _upstream_differences(seen: Seen) -> Iterator[str]:
    targets = [received.target for received in seen.received]
    if targets != seen.case.served:
        yield f"got {shown(targets)} at the application, want {shown(seen.case.served)}"
    for received in seen.received:
        yield from _header_differences(seen.case, received, audit_id=seen.audit_id)


def _header_differences(case: Case, received: Received, *, audit_id: str) -> Iterator[str]:
    """Names are compared the way the most lenient server would: case, `_` and `.` make no difference."""
    got = Counter((canonical_header(name), value) for name, value in received.headers)
    names = Counter(canonical_header(name) for name, _ in received.headers)
    for name, want in {**case.sent_on, "x-iap-audit-id": audit_id}.items():
        if got[name, want] != 1 or names[name] != 1:
            yield f"got {name} {names[name]} times at the application, want it once and {shown(want)}"
    for name in case.kept_back:
        if names[name]:
            yield f"got the client's own {name} at the application, want none"


def canonical_header(name: str) -> str:
    """A header's name as servers of the CGI family read it."""
    return name.lower().replace("_", "-").replace(".", "-")
