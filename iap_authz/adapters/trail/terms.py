# SPDX-License-Identifier: Apache-2.0
"""Terms: the texts and ids that many records share, each stored once and named by a small number.

The invariant: a term has one number for as long as the index stands, whatever columns it occurs in. With numbers in
place of 32-byte ids a row takes half the room, and inserts are a third faster.

What is in the cache was committed: a transaction that is rolled back leaves numbers behind that mean nothing.
Terms are found from any thread, and added from one.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, func, insert, select

from iap_authz.adapters.trail.tables import terms

CACHE_MAX_TERMS = 65_536
"""Many times what writers, rules and routes of one installation are; at most 16 MB with the bound below."""

CACHED_TERM_MAX_BYTES = 256
"""A longer one is looked up each time: no honest name is that long."""

_ASKED_AT_ONCE = 500
"""Values in one statement; SQLite takes 32,766 parameters, other databases fewer."""


class Terms:
    """The numbers of terms, with a cache of what was committed."""

    def __init__(self) -> None:
        self._cache = dict[bytes, int]()

    def number(self, connection: Connection, values: Collection[bytes]) -> dict[bytes, int]:
        """The number of each value; those that are new get one."""
        numbers = self.find(connection, values)
        new = sorted(set(values) - numbers.keys())
        if new:
            first = (connection.execute(select(func.max(terms.c.id))).scalar() or 0) + 1
            numbers.update({value: number for number, value in enumerate(new, first)})
            connection.execute(insert(terms), [{"id": numbers[value], "value": value} for value in new])
        return numbers

    def find(self, connection: Connection, values: Iterable[bytes]) -> dict[bytes, int]:
        """The number of each value that has one."""
        numbers, unknown = dict[bytes, int](), list[bytes]()
        for value in set(values):
            number = self._cache.get(value)
            if number is None:
                unknown.append(value)
            else:
                numbers[value] = number
        for at in range(0, len(unknown), _ASKED_AT_ONCE):
            asked = select(terms.c.value, terms.c.id).where(terms.c.value.in_(unknown[at : at + _ASKED_AT_ONCE]))
            numbers.update((row.value, row.id) for row in connection.execute(asked))
        return numbers

    def keep(self, numbers: dict[bytes, int]) -> None:
        """Remember numbers after their transaction has been committed."""
        if len(self._cache) + len(numbers) > CACHE_MAX_TERMS:
            self._cache.clear()
        self._cache.update({value: one for value, one in numbers.items() if len(value) <= CACHED_TERM_MAX_BYTES})

    def forget(self) -> None:
        """The table was emptied."""
        self._cache.clear()
