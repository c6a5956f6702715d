# SPDX-License-Identifier: Apache-2.0
"""`Sealing`: the seal epoch and the vault epoch in force, and how writers are told of them (rules S5, S7).

The invariant: an epoch is durable before anybody hears of it, and never goes back; so settings of one log are ordered
by their seal epoch, whatever crashes. The note is a function of the epochs, the vault's key and the log's keys.

    first   the first vault of a log: its key is in force, the seal epoch stays
    start   a vault with a newer key than the one in force: seal epoch + 1, and that key from now on
    raise   seal epoch + 1, the same key: an erasure has begun, and keys made before it are used no more
         crash before the store: nothing was raised. Crash after it: it is in force at the next start.

Without a vault there is no note, and nothing sealed is taken. What was sealed is opened elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from iap_authz.errors import Rollback
from iap_authz.ports import SealEpochs, Vault
from iap_authz.records.admission import SealRules
from iap_authz.records.seal import PreparedKey, SubjectKey, prepare_key, take_key
from iap_authz.records.seal_settings import SealSettings, VaultKey, sign_settings
from iap_authz.tlog.note import NoteSigner

T = TypeVar("T")


class InThread(Protocol):
    """Runs what blocks in the one thread that writes to the trail's database, such as `Sequencer.in_thread`."""

    def __call__(self, job: Callable[[], T]) -> Awaitable[T]:
        """The result of `job`."""


class Sealing:
    """The epochs of one log. Owned by the event loop."""

    def __init__(
        self, vault: Vault | None, epochs: SealEpochs, *, signers: Sequence[NoteSigner], in_thread: InThread
    ) -> None:
        """Take the vault's newest key. Blocking; raises Rollback for an older copy of the vault, and like the ports."""
        self._epochs, self._signers, self._in_thread = epochs, signers, in_thread
        self._seal_epoch, self._vault_epoch = epochs.load()
        self._vault_key: VaultKey | None = None
        self._vault_epochs: frozenset[int] = frozenset()
        self._raising = asyncio.Lock()
        if vault is not None:
            self._take_vault(vault)
        self._note = self._sign()

    @property
    def note(self) -> bytes:
        """The signed settings; empty without a vault."""
        return self._note

    @property
    def seal_epoch(self) -> int:
        """The one in force."""
        return self._seal_epoch

    @property
    def vault_epoch(self) -> int:
        """The one whose key writers seal to; 0 where there never was a vault."""
        return self._vault_epoch

    @property
    def rules(self) -> SealRules | None:
        """What is taken of sealed parts; None without a vault."""
        if self._vault_key is None:
            return None
        return SealRules(seal_epoch=self._seal_epoch, vault_epochs=self._vault_epochs)

    async def raise_epoch(self, *, at_least: int = 0) -> int:
        """The next seal epoch, or `at_least`, if that is higher: durable, and in force from here on.

        Cancelling the call does not take it back.
        """
        return await asyncio.shield(asyncio.ensure_future(self._raise_epoch(at_least)))

    def prepare_key(self, writer: bytes) -> PreparedKey | None:
        """A fresh subject key of `writer`, sealed to the vault; None without one. About 100 us."""
        if self._vault_key is None:
            return None
        return prepare_key(self._signers[0].name, writer, vault_public_key=self._vault_key.public_key)

    def take_key(self, prepared: PreparedKey) -> SubjectKey:
        """That key, in the epochs in force."""
        return take_key(prepared, vault_epoch=self._vault_epoch, seal_epoch=self._seal_epoch)

    async def _raise_epoch(self, at_least: int) -> int:
        async with self._raising:
            raised = max(self._seal_epoch + 1, at_least)
            await self._in_thread(partial(self._epochs.store, raised, self._vault_epoch))
            self._seal_epoch = raised
            self._note = self._sign()
            return raised

    def _take_vault(self, vault: Vault) -> None:
        newest = vault.epochs[-1]
        if newest < self._vault_epoch:
            raise Rollback(
                f"the vault's newest key is of epoch {newest} and writers seal to epoch {self._vault_epoch}: an older"
                " copy of the vault's keys was put back. Put back the newest one",
                [],
            )
        key = VaultKey(epoch=newest, public_key=vault.public_key(newest))
        if newest > self._vault_epoch:
            # The first vault is no change: writers are configured with its key, and nobody has sealed to another one.
            raised = self._seal_epoch + 1 if self._vault_epoch else self._seal_epoch
            self._epochs.store(raised, newest)
            self._seal_epoch, self._vault_epoch = raised, newest
        self._vault_key, self._vault_epochs = key, frozenset(vault.epochs)

    def _sign(self) -> bytes:
        if self._vault_key is None:
            return b""
        origin = self._signers[0].name
        settings = SealSettings(origin=origin, seal_epoch=self._seal_epoch, vault=self._vault_key)
        return sign_settings(settings, self._signers)
