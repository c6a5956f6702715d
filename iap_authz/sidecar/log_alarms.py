# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the audit log, as far as this writer can see: said once when it begins and once when it ends.

The invariant: each change is an Alert in the writer's own journal, with the evidence, and a line for the operator. So
it reaches the log, or whoever reads the journal, even from a log that lies. A proven fork or rollback never ends.
"""

import enum
import logging
from collections.abc import Iterable, Sequence

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import IapError, JournalFull
from iap_authz.ports import Clock, Journal
from iap_authz.records.record import RecordTooLarge, render_time
from iap_authz.sidecar.own_records import append_own
from iap_authz.tlog.note import Note, parse_note, render_note

EVIDENCE_MAX_BYTES = 24 << 10
"""Of one note in an Alert: two of them, and the rest, fit in a record."""

RULE = "audit-log"
"""What the Alerts of this module are by."""

_log = logging.getLogger("iap_authz.ship")


class Alarm(enum.Enum):
    """What is wrong. The value is the Alert's `kind`."""

    FORK = "log_fork"
    """Two signed roots of one size: both notes are the evidence."""
    ROLLBACK = "log_rollback"
    """The log denies what it has proven."""
    UNPROVEN = "log_unproven"
    """A receipt or proof that does not hold."""
    REFUSED = "log_refused"
    """The log does not take what is offered."""
    UNAVAILABLE = "log_unavailable"
    """Something has been waiting for a receipt for too long."""
    NOT_COSIGNED = "no_cosigned_checkpoint"
    """Receipts have been waiting for a cosigned checkpoint for too long (rule G1)."""
    DAMAGED = "journal_damaged"
    """What was acknowledged cannot be read back, so it cannot be shipped."""


FINAL = frozenset({Alarm.FORK, Alarm.ROLLBACK})
"""Those after which nothing of the log is believed any more."""

FALSE = FINAL | {Alarm.UNPROVEN}
"""Those that say that the log says something false."""


class LogAlarms:
    """The alarms that are on, each with those (writers, or the log itself as b"") that it is about."""

    def __init__(self, journal: Journal, clock: Clock, *, origin: str) -> None:
        self._journal = journal
        self._clock = clock
        self._origin = origin
        self._on: dict[Alarm, set[bytes]] = {}
        self.is_final = False
        self.says_false = False

    @property
    def kinds(self) -> frozenset[Alarm]:
        """Those that are on."""
        return frozenset(self._on)

    def start(self, alarm: Alarm, problem: str, *, about: bytes = b"", evidence: Iterable[bytes] = ()) -> None:
        """Turn an alarm on. If it is on already, nothing is said again."""
        holders = self._on.setdefault(alarm, set())
        is_new = not holders
        holders.add(about)
        self._judge()
        if is_new:
            notes = [bounded for note in evidence if (bounded := _bounded(note, self._origin))]
            _log.error("an alarm about the audit log", extra={"kind": alarm.value, "problem": problem})
            self._alert(alarm, severity="critical", evidence=notes)

    def end(self, alarms: Iterable[Alarm], *, about: bytes = b"") -> None:
        """Turn alarms off, as far as they were about this. Those that are final stay."""
        for alarm in alarms:
            holders = self._on.get(alarm)
            if holders is None or about not in holders or alarm in FINAL:
                continue
            holders.remove(about)
            if not holders:
                del self._on[alarm]
                _log.info("an alarm about the audit log is over", extra={"kind": alarm.value})
                self._alert(alarm, severity="info", evidence=())
        self._judge()

    def _judge(self) -> None:
        self.is_final = not FINAL.isdisjoint(self._on)
        self.says_false = not FALSE.isdisjoint(self._on)

    def _alert(self, alarm: Alarm, *, severity: str, evidence: Sequence[bytes]) -> None:
        now = render_time(self._clock.now())
        body = record_pb2.Alert(rule=RULE, severity=severity, kind=alarm.value, evidence=evidence, to=now)
        getattr(body, "from").CopyFrom(now)
        try:
            append_own(self._journal, self._clock, body)
        except (JournalFull, RecordTooLarge, OSError) as error:
            _log.error("an alert found no room in the journal", extra={"kind": alarm.value, "problem": str(error)})


def _bounded(note: bytes, origin: str) -> bytes:
    """A piece of evidence that fits in a record. A note that is too long keeps its text and the log's signatures."""
    if len(note) <= EVIDENCE_MAX_BYTES:
        return note
    try:
        parsed = parse_note(note)
        lines = tuple(line for line in parsed.signatures if line.name == origin)
        bare = render_note(Note(text=parsed.text, signatures=lines))
    except IapError:
        return b""
    return bare if len(bare) <= EVIDENCE_MAX_BYTES else b""
