# SPDX-License-Identifier: Apache-2.0
"""`SqlKeyMarks`: which keys a log was run with, so that another one in the place of one of them is noticed.

The invariant: what was made with a key is never looked at with another one in silence. An index that is asked with
another index key finds nobody, and a search and an erasure would find nothing and say that it was done.

A mark is a hash: it says nothing of a key, and of two keys only whether they are one.
"""

from sqlalchemy import Engine, delete, insert, select

from iap_authz.adapters.trail.seal_tables import key_marks
from iap_authz.adapters.trail.store import reading, writing
from iap_authz.errors import Conflict

INDEX = "index"
"""The name of the key that the index's tokens are made with."""


class SqlKeyMarks:
    """The marks in a trail's database. For one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check(self, name: str, mark: bytes) -> None:
        """Raise Conflict if the key of this name was another one before. The first one is noted, durably."""
        place = key_marks.c.name == name
        with reading(self._engine) as connection:
            known: bytes | None = connection.execute(select(key_marks.c.mark).where(place)).scalar_one_or_none()
        if known is None:
            with writing(self._engine) as connection:
                connection.execute(insert(key_marks), {"name": name, "mark": mark})
        elif known != mark:
            raise Conflict(f"got another key than the one that this log was run with before as its {name} key")

    def forget(self, name: str) -> None:
        """What was made with the key of this name is gone."""
        with writing(self._engine) as connection:
            connection.execute(delete(key_marks).where(key_marks.c.name == name))
