# SPDX-License-Identifier: Apache-2.0
"""`Resealing`: brings what was sealed to an older vault key to the newest one, so that the old one can be dropped (S7).

The invariant: a key is replaced only by the same secret, sealed to the newest key of the vault; one that was erased
meanwhile stays erased. Until nothing is sealed to an epoch any more its private key is needed, and the log's state says
how many keys that is. Legal holds come first: they are not in that number.

It works in small slices and rests in between, so that searches and erasures, which share its thread, hardly notice.
What the vault cannot open stays as it is, is named once in the logs, and keeps its epoch in use.
"""

import logging

from iap_authz.errors import BadProof, IapError, NotFound
from iap_authz.ports import Companions, HoldRow, HoldStore, SealedKey, Vault
from iap_authz.records.hold_scope import hold_info
from iap_authz.records.hpke import seal_to
from iap_authz.records.seal import subject_key_info
from iap_authz.trail.reader import TrailReader

SLICE_KEYS = 64
"""Keys in one call of the thread: 10 ms with the vault in memory, 80 ms with a hardware module."""

REST_SECONDS = 0.02
"""Between two slices: about 2,000 keys a second."""

LOOK_SECONDS = 60.0
"""Between two looks for keys of an older epoch: writers that have not heard of the new one yet bring some."""

UNOPENED_MAX = 10_000
"""Keys that the vault does not open, after which it looks no further: something is wrong with the vault."""

REPORT_KEYS = 10_000
"""Between two lines in the logs."""

_log = logging.getLogger("iap_authz.trail.resealing")


class Resealing:
    """Owned by the event loop; `run` is its task, what blocks goes through the trail's thread."""

    def __init__(self, reader: TrailReader, *, companions: Companions, holds: HoldStore, vault: Vault) -> None:
        self._reader = reader
        self._companions = companions
        self._holds = holds
        self._vault = vault
        self._unopened = set[int]()
        self._unopened_holds = set[bytes]()

    async def run(self) -> None:
        """Until cancelled. A vault that does not answer is asked again later."""
        while True:
            try:
                await self.reseal_all()
            except (IapError, OSError) as error:
                _log.exception("keys are not sealed anew", extra={"problem": str(error)})
            await self._reader.pause(LOOK_SECONDS)

    async def reseal_all(self) -> int:
        """Everything that is sealed to another epoch than the newest; how many keys. Raises what the vault raises."""
        epoch, resealed = self._vault.epochs[-1], 0
        await self._reader.run(self._reseal_holds, epoch)
        while True:
            found, done = await self._reader.run(self._reseal_slice, epoch)
            if resealed // REPORT_KEYS != (resealed + done) // REPORT_KEYS or (resealed + done and not found):
                _log.info("keys are sealed anew", extra={"keys": resealed + done, "vault_epoch": epoch})
            resealed += done
            if not found:
                return resealed
            await self._reader.pause(REST_SECONDS)

    def _reseal_slice(self, epoch: int) -> tuple[int, int]:
        """In the thread: how many keys there were to look at, and how many are sealed anew."""
        if len(self._unopened) >= UNOPENED_MAX:
            return 0, 0
        found = self._companions.keys_to_reseal(epoch, limit=SLICE_KEYS + len(self._unopened))
        keys = [key for key in found if key.number not in self._unopened][:SLICE_KEYS]
        public_key = self._vault.public_key(epoch)
        sealed = dict[int, bytes]()
        for key in keys:
            info = subject_key_info(self._reader.origin, key.writer, key.key_id)
            secret = self._open(key, info)
            if secret is not None:
                sealed[key.number] = seal_to(public_key, secret, info=info)
        if sealed:
            self._companions.reseal(sealed, epoch=epoch)
        return len(keys), len(sealed)

    def _open(self, key: SealedKey, info: bytes) -> bytes | None:
        try:
            return self._vault.open(key.sealed, epoch=key.vault_epoch, info=info)
        except (BadProof, NotFound) as error:
            self._unopened.add(key.number)
            extra = {"key": key.number, "vault_epoch": key.vault_epoch, "problem": str(error)}
            _log.error("a subject key cannot be opened, and is not sealed anew", extra=extra)
            return None

    def _reseal_holds(self, epoch: int) -> None:
        """In the thread. There are few."""
        scopes = dict[bytes, bytes]()
        for row in self._holds.holds():
            if row.vault_epoch != epoch and row.hold not in self._unopened_holds:
                scopes.update(self._resealed_hold(row, epoch))
        if scopes:
            self._holds.reseal_holds(scopes, epoch=epoch)

    def _resealed_hold(self, row: HoldRow, epoch: int) -> dict[bytes, bytes]:
        info = hold_info(self._reader.origin, row.hold)
        try:
            scope = self._vault.open(row.scope, epoch=row.vault_epoch, info=info)
        except (BadProof, NotFound) as error:
            self._unopened_holds.add(row.hold)
            extra = {"hold": row.hold.hex(), "vault_epoch": row.vault_epoch, "problem": str(error)}
            _log.error("the scope of a legal hold cannot be opened, and is not sealed anew", extra=extra)
            return {}
        return {row.hold: seal_to(self._vault.public_key(epoch), scope, info=info)}
