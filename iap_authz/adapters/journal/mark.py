# SPDX-License-Identifier: Apache-2.0
"""`SegmentMark`: from which record on a new segment was asked for, and which one it became.

The invariant: no group has records of both sides of a mark that is wanted, and `begun` never names a segment that
holds a record from before the last request. So once everything below `begun` is trimmed, nothing that was written
before that request is on the disk.

    want(9)      records 7 and 8 wait: they are one group, for the old segment      begun: None
    group at 9   the next segment is prepared: it begins there                      begun: 9, once that is durable
                 none is: it goes into the old one, and the mark moves behind it    begun: None

A mark moves rather than make the journal refuse or lose what it has accepted: space is taken ahead, and a disk that
gives no more cannot be asked for a segment. A second request before the first was met takes its place: what lies
between the two then stays in the old segment, which is older than both.
"""

from iap_authz.model.ids import Sequence


class SegmentMark:
    """Owned by the event loop's thread."""

    def __init__(self) -> None:
        self._wanted: Sequence | None = None
        self._begun = Sequence(0)

    @property
    def is_wanted(self) -> bool:
        """Whether a segment was asked for and has not begun."""
        return self._wanted is not None

    def want(self, sequence: Sequence) -> None:
        """From the record `sequence` on, which has not been given yet, a new segment is wanted."""
        self._wanted = sequence

    def is_due(self, first: int) -> bool:
        """Whether a group that begins at record `first` should begin the segment."""
        return self._wanted is not None and first >= self._wanted

    def most(self, first: int, *, most: int) -> int:
        """Of `most` records how many may be in a group that begins at `first`."""
        if self._wanted is None or first >= self._wanted:
            return most
        return min(most, self._wanted - first)

    def begin(self, first: int) -> None:
        """A segment begins with record `first`, asked for or because the one before was full."""
        if self.is_due(first):
            self._wanted, self._begun = None, Sequence(first)

    def begun(self, durable: int) -> Sequence | None:
        """The first record of the newest segment that was asked for; 0 if none was. None until that is durable."""
        return None if self.is_wanted or self._begun >= durable else self._begun
