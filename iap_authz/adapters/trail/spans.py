# SPDX-License-Identifier: Apache-2.0
"""Spans: the earliest and the latest time in each stretch of 4,096 leaves.

The invariant: the time of each indexed leaf lies in its stretch's span. The log's order is nearly that of time, so a
search in a window of time need only look at the stretches that meet it; an index on time would give the leaves in
another order than the answer's. Clocks that are wrong make a span wider, and a search slower, never wrong.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, insert, select, update

from iap_authz.adapters.trail.tables import spans

SPAN_LEAVES = 4_096
"""At a hundred million leaves there are 25,000 spans, which are read in some milliseconds."""


def widen(connection: Connection, first: int, times: Sequence[int | None]) -> None:
    """Take the times of the leaves from `first` on into their spans."""
    found = dict[int, list[int]]()
    for index, time in enumerate(times, first):
        if time is not None:
            found.setdefault(index // SPAN_LEAVES, []).append(time)
    there = {row.bucket: row for row in connection.execute(select(spans).where(spans.c.bucket.in_(found)))}
    new, old = list[dict[str, int]](), list[dict[str, int]]()
    for bucket, inside in found.items():
        earliest, latest = min(inside), max(inside)
        if bucket in there:
            earliest, latest = min(earliest, there[bucket].earliest), max(latest, there[bucket].latest)
            old.append({"at": bucket, "earliest": earliest, "latest": latest})
        else:
            new.append({"bucket": bucket, "earliest": earliest, "latest": latest})
    if new:
        connection.execute(insert(spans), new)
    if old:
        connection.execute(update(spans).where(spans.c.bucket == bindparam("at")), old)


def find_stretch(connection: Connection, *, begin: int | None, end: int | None) -> tuple[int, int]:
    """The leaves [first, last) outside which no leaf has a time in [begin, end)."""
    asked = select(func.min(spans.c.bucket), func.max(spans.c.bucket))
    if begin is not None:
        asked = asked.where(spans.c.latest >= begin)
    if end is not None:
        asked = asked.where(spans.c.earliest < end)
    first, last = connection.execute(asked).one()
    return (0, 0) if first is None else (first * SPAN_LEAVES, (last + 1) * SPAN_LEAVES)
