# SPDX-License-Identifier: Apache-2.0
"""Since when something waits for the audit log, and what follows from it: alarms, and with `refuse` no more allows.

The invariant: `refuses` is computed from the clock whenever it is asked, so a log that hangs, or a shipper that does,
is noticed all the same.
"""

from collections.abc import Callable

from iap_authz.sidecar.log_alarms import Alarm, LogAlarms

UNAVAILABLE_SECONDS = 5.0
"""Longer than a restart of the log takes, and than the longest rest between two tries."""


class LogHealth:
    """Owned by the event loop."""

    def __init__(
        self, alarms: LogAlarms, *, refuse: bool, deadline_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._alarms = alarms
        self._refuse = refuse
        self._deadline_seconds = deadline_seconds
        self._monotonic = monotonic
        self._unproven_since: float | None = None
        self._uncosigned_since: float | None = None
        self.problem = "the log does not answer"

    @property
    def refuses(self) -> bool:
        """Whether nothing may be allowed now: the log was caught, or leaves something waiting beyond the deadline."""
        return self._refuse and (
            self._alarms.says_false
            or self._is_beyond(self._unproven_since, self._deadline_seconds)
            or self._is_beyond(self._uncosigned_since, self._deadline_seconds)
        )

    def proven(self) -> None:
        """A receipt was verified: it waits for a cosigned checkpoint from now on, if none did before."""
        now = self._monotonic()
        if self._unproven_since is not None:
            self._unproven_since = now
        if self._uncosigned_since is None:
            self._uncosigned_since = now
        self._alarms.end([Alarm.UNAVAILABLE])

    def cosigned(self, *, waits: bool) -> None:
        """A cosigned checkpoint covers more than before; `waits` says whether something is still uncovered."""
        self._uncosigned_since = self._monotonic() if waits else None
        self._alarms.end([Alarm.NOT_COSIGNED])

    def look(self, *, waits: bool) -> None:
        """Once a second: `waits` says whether something durable has no receipt."""
        if not waits:
            self._unproven_since = None
        elif self._unproven_since is None:
            self._unproven_since = self._monotonic()
        if self._is_beyond(self._unproven_since, UNAVAILABLE_SECONDS):
            self._alarms.start(Alarm.UNAVAILABLE, self.problem)
        if self._is_beyond(self._uncosigned_since, self._deadline_seconds):
            self._alarms.start(Alarm.NOT_COSIGNED, "no published checkpoint that enough witnesses have cosigned")

    def _is_beyond(self, since: float | None, seconds: float) -> bool:
        return since is not None and self._monotonic() - since > seconds
