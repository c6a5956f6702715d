# SPDX-License-Identifier: Apache-2.0
"""`Space`: what the journal's files take, and what the disk has given it for more (PROTOCOL rule R2).

The invariant: whatever was accepted fits in what was preallocated before: in the rest of the segment that is written,
or in the next one, which is ready. A segment is begun on request only where that stays true.

    settled     the segments of all writers but the one that is written: measured
    segment     what is used of the one that is written: counted with each group
    free        what is left of it
    prepared    the next segment is ready, and has room for its header and all that waits

Counted on the loop; measured, and the next segment prepared, in the committer's thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from iap_authz.adapters.journal.committer import Committer
from iap_authz.adapters.journal.directory import measure
from iap_authz.adapters.journal.segments import SegmentFiles
from iap_authz.errors import JournalFull
from iap_authz.records.room import Fill, JournalBounds, Room, check_room

HEADER_MAX_BYTES = 4_096
"""A header with 63 hashes and the longest note, rounded up."""

SURVEY_INTERVAL_SECONDS = 0.5
"""While the journal is full, it is measured at most this often: room that an operator makes is seen within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What all settled segments take, and whether the next segment is ready: if not, the disk is full."""

    settled_bytes: int
    is_prepared: bool


def survey_files(files: SegmentFiles) -> Survey:
    """Prepare the next segment if that is not done, and measure. Blocks."""
    is_prepared, current = files.prepare(), files.current
    leave_out = frozenset() if current is None else frozenset({current})
    return Survey(settled_bytes=measure(files.directory.parent, leave_out=leave_out), is_prepared=is_prepared)


class Space:
    """Owned by the event loop's thread. `fail` is told of a survey that failed."""

    def __init__(
        self,
        files: SegmentFiles,
        survey: Survey,
        *,
        bounds: JournalBounds,
        committer: Committer,
        monotonic: Callable[[], float],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._files = files
        self._bounds = bounds
        self._committer = committer
        self._monotonic = monotonic
        self._fail = fail
        self._begun = 0
        self._settled_bytes = self._segment_bytes = self._free_bytes = 0
        self._is_prepared = self._disk_full = False
        self._surveyed = monotonic()
        self._is_surveying = self._is_outdated = False
        self._take(survey)

    @property
    def used_bytes(self) -> int:
        """What the files of all writers take, without preallocated space."""
        return self._settled_bytes + self._segment_bytes

    @property
    def begun(self) -> int:
        """How many segments this writer has begun: the number of the next one."""
        return self._begun

    def check(self, room: Room, want_bytes: int, *, queued_bytes: int) -> None:
        """Raise JournalFull unless `want_bytes` more fit beside what is queued; then it is measured again, soon."""
        fill = Fill(
            used_bytes=self.used_bytes + queued_bytes,
            allocated_bytes=max(self._free_bytes, self._prepared_bytes) - queued_bytes,
            disk_full=self._disk_full,
        )
        try:
            check_room(room, want_bytes, fill=fill, bounds=self._bounds)
        except JournalFull:
            self.survey_soon()
            raise

    def may_begin(self, waiting_bytes: int) -> bool:
        """Whether the next segment can be begun now without losing what is free in this one to all that waits."""
        return waiting_bytes <= self._prepared_bytes

    def fits(self, group_bytes: int) -> bool:
        """Whether a group fits in the segment that is written."""
        return group_bytes <= self._free_bytes

    def add(self, group_bytes: int) -> None:
        """A group goes into the segment that is written."""
        self._free_bytes -= group_bytes
        self._segment_bytes += group_bytes

    def begin(self, group_bytes: int) -> None:
        """A header and a group begin the next segment."""
        self._settled_bytes += self._segment_bytes
        self._begun, self._segment_bytes = self._begun + 1, group_bytes
        self._free_bytes, self._is_prepared = self._bounds.segment_bytes - group_bytes, False

    def prepare_next(self, *, is_wanted: bool) -> None:
        """Have the next segment prepared, if it is not, off the loop; by a full disk only if somebody waits for it."""
        if self._is_prepared or self._is_surveying:
            return
        if not self._disk_full:
            self._survey()
        elif is_wanted:
            self.survey_soon()

    def survey_soon(self) -> None:
        """Measure again, and try to prepare a segment, off the loop; at most twice a second, when someone asks."""
        if not self._is_surveying and self._monotonic() - self._surveyed >= SURVEY_INTERVAL_SECONDS:
            self._survey()

    def survey_again(self) -> None:
        """Measure again, off the loop: some files were removed."""
        self._is_outdated = True
        if not self._is_surveying:
            self._survey()

    @property
    def _prepared_bytes(self) -> int:
        return self._bounds.segment_bytes - HEADER_MAX_BYTES if self._is_prepared else 0

    def _survey(self) -> None:
        self._is_surveying, self._surveyed, self._is_outdated = True, self._monotonic(), False
        self._committer.submit(partial(survey_files, self._files), partial(self._surveyed_at, self._begun))

    def _surveyed_at(self, begun: int, result: object, failure: BaseException | None) -> None:
        self._is_surveying = False
        if failure is not None:
            self._fail(failure)
        elif begun != self._begun or self._is_outdated:
            # A segment was begun or removed behind the survey: what it found is not so any more.
            self._survey()
        elif isinstance(result, Survey):
            self._take(result)

    def _take(self, survey: Survey) -> None:
        self._settled_bytes, self._is_prepared = survey.settled_bytes, survey.is_prepared
        self._disk_full = not survey.is_prepared
