# SPDX-License-Identifier: Apache-2.0
"""`SqlHolds`: legal holds, as the port `HoldStore` wants them.

The invariant: what a hold is about stands here sealed, and is overwritten where it stands once the hold is released.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from iap_authz.adapters.trail.erasure_tables import hold_scopes, holds
from iap_authz.adapters.trail.erasures import NOT_LOGGED
from iap_authz.adapters.trail.seal_tables import U32
from iap_authz.adapters.trail.store import reading, truncate_wal, writing
from iap_authz.errors import NotFound
from iap_authz.ports import HoldRow
from iap_authz.tlog.hashing import LeafIndex


class SqlHolds:
    """Legal holds in a trail's database. For one thread, the one of the trail's index."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put_hold(self, row: HoldRow) -> None:
        """Add a hold, or replace all that is known of it but its scope."""
        with writing(self._engine) as connection:
            number = connection.execute(select(holds.c.number).where(holds.c.hold == row.hold)).scalar_one_or_none()
            if number is not None:
                connection.execute(update(holds).where(holds.c.number == number).values(_values(row)))
                return
            number = (connection.execute(select(func.max(holds.c.number))).scalar() or 0) + 1
            connection.execute(insert(holds), {"number": number, **_values(row)})
            scope = {"number": number, "scope": row.scope, "vault_epoch": U32.pack(row.vault_epoch)}
            connection.execute(insert(hold_scopes), scope)

    def holds(self) -> list[HoldRow]:
        """Those that are not released, in the order they came."""
        with reading(self._engine) as connection:
            return [_parse(row) for row in connection.execute(_ROWS.where(holds.c.released == 0))]

    def find_hold(self, hold: bytes) -> HoldRow | None:
        """A hold by its id, released or not."""
        with reading(self._engine) as connection:
            row = connection.execute(_ROWS.where(holds.c.hold == hold)).one_or_none()
        return None if row is None else _parse(row)

    def end_hold(self, hold: bytes) -> None:
        """It is released; its scope is overwritten."""
        with writing(self._engine) as connection:
            number = _number(connection, hold)
            connection.execute(update(holds).where(holds.c.number == number).values(released=1))
            scope = connection.execute(select(hold_scopes.c.scope).where(hold_scopes.c.number == number)).scalar_one()
            _overwrite(connection, number, scope=bytes(len(scope)))
        truncate_wal(self._engine)

    def reseal_holds(self, scopes: Mapping[bytes, bytes], *, epoch: int) -> None:
        """Put these newly sealed scopes in the place of the old ones."""
        with writing(self._engine) as connection:
            for hold, scope in scopes.items():
                _overwrite(connection, _number(connection, hold), scope=scope, vault_epoch=U32.pack(epoch))
        truncate_wal(self._engine)


_ROWS = (
    select(holds, hold_scopes.c.scope, hold_scopes.c.vault_epoch)
    .join_from(holds, hold_scopes, hold_scopes.c.number == holds.c.number)
    .order_by(holds.c.number)
)


def _number(connection: Connection, hold: bytes) -> int:
    number: int | None = connection.execute(select(holds.c.number).where(holds.c.hold == hold)).scalar_one_or_none()
    if number is None:
        raise NotFound(f"got hold {hold.hex()}, want one that is stored")
    return number


def _overwrite(connection: Connection, number: int, **values: bytes) -> None:
    connection.execute(update(hold_scopes).where(hold_scopes.c.number == number).values(values))


def _values(row: HoldRow) -> dict[str, object]:
    return {
        "hold": row.hold,
        "authority": row.authority,
        "matter": row.matter,
        "officer": row.officer,
        "log_index": NOT_LOGGED if row.index is None else row.index,
        "release_authority": row.release_authority,
        "released_by": json.dumps(row.released_by),
        "releasing": int(row.releasing),
        "released": int(row.released),
    }


def _parse(row: Row[Any]) -> HoldRow:
    return HoldRow(
        hold=row.hold,
        authority=row.authority,
        matter=row.matter,
        officer=row.officer,
        scope=row.scope,
        vault_epoch=int.from_bytes(row.vault_epoch),
        index=None if row.log_index == NOT_LOGGED else LeafIndex(row.log_index),
        release_authority=row.release_authority,
        released_by=tuple(json.loads(row.released_by)),
        releasing=bool(row.releasing),
        released=bool(row.released),
    )
