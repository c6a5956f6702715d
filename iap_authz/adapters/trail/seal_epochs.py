# SPDX-License-Identifier: Apache-2.0
"""`SqlSealEpochs`: the seal epoch and the vault epoch in force, as the port `SealEpochs` wants them.

The invariant: the row is the one that was written, or Corrupt; neither epoch ever goes back. An older copy of the trail
that was put back is not noticed here: erasures are in the log's leaves, and compared with it there.
"""

from hashlib import sha256

from sqlalchemy import Connection, Engine, delete, insert, select

from iap_authz.adapters.trail.seal_tables import seal_epochs
from iap_authz.adapters.trail.store import reading, writing
from iap_authz.errors import Corrupt, shown

_ROW = 1


class SqlSealEpochs:
    """The epochs in a trail's database. Reads may come from any thread, writes from one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load(self) -> tuple[int, int]:
        """Seal epoch, vault epoch; (0, 0) before the first `store`. Raises Corrupt."""
        with reading(self._engine) as connection:
            return _load(connection)

    def store(self, seal_epoch: int, vault_epoch: int) -> None:
        """Durably. Raises ValueError for an epoch that is lower than the one in force."""
        with writing(self._engine) as connection:
            now = _load(connection)
            if seal_epoch < now[0] or vault_epoch < now[1]:
                raise ValueError(f"got seal epoch {seal_epoch}, vault epoch {vault_epoch}, want at least {now}")
            connection.execute(delete(seal_epochs))
            row = {"id": _ROW, "seal_epoch": seal_epoch, "vault_epoch": vault_epoch}
            connection.execute(insert(seal_epochs), {**row, "checksum": _checksum(seal_epoch, vault_epoch)})


def _load(connection: Connection) -> tuple[int, int]:
    row = connection.execute(select(seal_epochs)).one_or_none()
    if row is None:
        return 0, 0
    _, seal_epoch, vault_epoch, checksum = row
    if checksum != _checksum(seal_epoch, vault_epoch):
        raise Corrupt("seal_epochs", f"got {shown((seal_epoch, vault_epoch))}, want the epochs that were written")
    return seal_epoch, vault_epoch


def _checksum(seal_epoch: object, vault_epoch: object) -> bytes:
    """Enough that no accident goes unseen (as in `ledger`)."""
    return sha256(repr((seal_epoch, vault_epoch)).encode()).digest()[:16]
