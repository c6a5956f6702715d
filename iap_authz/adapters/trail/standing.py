# SPDX-License-Identifier: Apache-2.0
"""How far a part of the trail stands, in leaves of the log; written in the transaction that brought it there."""

from sqlalchemy import Connection, delete, insert, select

from iap_authz.adapters.trail.tables import standing
from iap_authz.errors import Corrupt, shown
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, TreeSize


def load_standing(connection: Connection, name: str) -> TreeSize:
    """The size that `name` stands at; 0 when it is new. Raises Corrupt for what is no size."""
    size = connection.execute(select(standing.c.size).where(standing.c.name == name)).scalar_one_or_none()
    if size is None:
        return TreeSize(0)
    if type(size) is not int or not 0 <= size < SIZE_LIMIT_LEAVES:
        raise Corrupt("standing", f"got {shown(size)} as the size of the {name}, want 0 to 2^63 - 1")
    return TreeSize(size)


def store_standing(connection: Connection, name: str, size: TreeSize) -> None:
    """Let `name` stand at `size`."""
    connection.execute(delete(standing).where(standing.c.name == name))
    connection.execute(insert(standing), {"name": name, "size": size})
