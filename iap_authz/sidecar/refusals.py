# SPDX-License-Identifier: Apache-2.0
"""Refusals that are counted instead of recorded one by one (PROTOCOL rule R2).

Above the journal's high-water mark, and when checks are shed, a refusal adds to a count; the counts become signed
Refusals records in the journal's reserve. A count leaves this object only when its record has a place in the journal,
so none is lost while the process lives.
"""

from dataclasses import dataclass
from datetime import datetime

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import JournalFull
from iap_authz.model.decision import Decision
from iap_authz.model.reason import Reason, Verdict
from iap_authz.ports import Clock, Journal
from iap_authz.sidecar.own_records import append_own


@dataclass(slots=True)
class _Count:
    number: int
    first: datetime
    last: datetime


class RefusalCounter:
    """Counts by verdict and reason, and turns the counts into records."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._counts: dict[tuple[Verdict, Reason], _Count] = {}

    @property
    def waiting(self) -> int:
        """Refusals that are counted and not yet in a record."""
        return sum(count.number for count in self._counts.values())

    def count(self, decision: Decision) -> None:
        """Add one refusal."""
        now = self._clock.now()
        count = self._counts.setdefault((decision.verdict, decision.reason), _Count(0, now, now))
        count.number += 1
        count.last = now

    def flush(self) -> None:
        """Write a record for each count. What finds no room stays counted."""
        for (verdict, reason), count in tuple(self._counts.items()):
            body = record_pb2.Refusals(verdict=verdict.value, reason=reason.value, count=count.number)
            getattr(body, "from").FromDatetime(count.first)
            body.to.FromDatetime(count.last)
            try:
                append_own(self._journal, self._clock, body)
            except JournalFull:
                return
            del self._counts[verdict, reason]
