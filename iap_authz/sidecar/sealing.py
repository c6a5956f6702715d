# SPDX-License-Identifier: Apache-2.0
"""What seals records, and how the log's newer settings come into force (PROTOCOL rules S3 and S5).

The invariant: settings are in force only after they are stored, the log signed them, and each has a higher seal epoch
than the one before. From the record on at which they came into force, no key of an older epoch seals anything.

    an answer of the log -> signature -> order -> stored, fsynced -> keys dropped -> a new segment of the journal
                                                                     no record comes between these two
    crash before "stored": the old ones are in force, and the next answer has the new ones again
    crash after it:        the new ones are in force at the start; every key in memory is gone anyway

The mark of a change is the first record behind it. While bytes of a record before that are on the disk, companions of
the older epoch may be, and a heartbeat claims no more than that (`Heartbeat.oldest_seal_epoch`).

Without an audit log nobody can raise an epoch: there are the settings of the configuration, for good.
"""

import asyncio
import logging
from collections import deque
from typing import NamedTuple, Protocol

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import BadProof, BadSignature, ConfigInvalid, Malformed
from iap_authz.ports import Backlog, CheckpointStore, Journal
from iap_authz.records.seal import Seal
from iap_authz.records.seal_settings import SealSettings, VaultKey, open_settings
from iap_authz.sidecar.subject_keys import SubjectKeys, check_vault
from iap_authz.tlog.note import VerifierKey

_log = logging.getLogger("iap_authz.seal")


class Seals(Protocol):
    """What seals the personal part of a record. Owned by the event loop."""

    def seal_for(self, facts: facts_pb2.Facts) -> Seal | None:
        """The seal of one more record with these facts; None if records stay open. Never waits."""


class SettingsTaker(Protocol):
    """What the log says of sealing goes here. For one task."""

    async def take(self, note: bytes) -> None:
        """Act on the settings in an answer of the log, or on their absence (b"").

        Raises Malformed, BadSignature or BadProof for what no honest log says, and OSError from the store.
        """


class UnsafeNoSeals:
    """`seal: none`: what records say of people stays readable in them. Satisfies `Seals` and `SettingsTaker`."""

    def seal_for(self, facts: facts_pb2.Facts) -> None:
        """Nothing."""

    async def take(self, note: bytes) -> None:
        """Nothing: a log that seals refuses open records by itself."""


class Start(NamedTuple):
    """What is in force when a process starts; `note` is empty where that is the configuration's."""

    settings: SealSettings
    note: bytes


class _Mark(NamedTuple):
    """From record `first` on, companions are of `epoch` or a later one."""

    first: int
    epoch: int


def configured_settings(origin: str, vault: VaultKey) -> SealSettings:
    """What is in force before any log has said anything."""
    return SealSettings(origin=origin, seal_epoch=0, vault=vault)


def load_settings(store: CheckpointStore, verifier: VerifierKey, *, vault: VaultKey) -> Start:
    """What to start with: what is stored, unless the configured `vault` key is newer. Blocking.

    Raises ConfigInvalid where what is stored is not the log's, or contradicts the configured key, and OSError.
    """
    note = store.load()
    if note is None:
        return Start(configured_settings(verifier.name, vault), b"")
    try:
        stored = open_settings(note, [verifier])
    except (Malformed, BadSignature) as error:
        message = (
            f"holds no seal settings that {verifier.name} signed with the configured key ({error}); if it is of another"
            " log, give this one a journal of its own; else remove it: the log says its settings with every answer"
        )
        raise ConfigInvalid.of_file(str(store), message) from error
    if stored.vault.epoch < vault.epoch:
        return Start(SealSettings(origin=verifier.name, seal_epoch=stored.seal_epoch, vault=vault), b"")
    if stored.vault.epoch == vault.epoch and stored.vault != vault:
        message = (
            f"holds {stored.vault.render()} as the vault's key, and seal.vault_key is {vault.render()}: got two keys of"
            " one epoch, want one; compare both with `iap-authz keys show` where the log runs; correct seal.vault_key,"
            " or remove this file"
        )
        raise ConfigInvalid.of_file(str(store), message)
    return Start(stored, note)


class SettingsInForce:
    """Satisfies `SettingsTaker` for `keys`, which `start` is in force for. Owned by the event loop."""

    def __init__(
        self, keys: SubjectKeys, journal: Journal, *, verifier: VerifierKey, store: CheckpointStore, start: Start
    ) -> None:
        self._keys = keys
        self._journal = journal
        self._verifier = verifier
        self._store = store
        self._note = start.note
        self._marks = deque([_Mark(0, start.settings.seal_epoch)])

    async def take(self, note: bytes) -> None:
        """See `SettingsTaker`. An older answer of the log's, with a lower epoch, is passed over."""
        if not note:
            raise BadProof(
                "got no seal settings, want those of a log with a vault: this one takes nothing that is sealed, or"
                " somebody on the way has removed them (`vault` in log.yaml and `seal` here belong together)"
            )
        if note == self._note:
            return
        said, here = open_settings(note, [self._verifier]), self._keys.settings
        if said.seal_epoch < here.seal_epoch:
            return
        _check_succession(said, here)
        check_vault(said, writer=self._journal.writer)
        # Also where nothing but a signature is new: the file then outlives a change of the log's key.
        await asyncio.to_thread(self._store.store, note)
        self._note = note
        if said != here:
            self._adopt(said)

    def oldest_epoch(self, backlog: Backlog) -> int:
        """No companion in the journal's directory is of an older seal epoch; 0 if that is not known."""
        if any(writer != self._journal.writer for writer in backlog.writers):
            return 0
        first, marks = backlog.first(self._journal.writer), self._marks
        while len(marks) > 1 and marks[1].first <= first:
            marks.popleft()
        return marks[0].epoch

    def _adopt(self, settings: SealSettings) -> None:
        self._keys.use(settings)
        self._marks.append(_Mark(self._journal.begin_segment(), settings.seal_epoch))
        epochs = {"seal_epoch": settings.seal_epoch, "vault_epoch": settings.vault.epoch}
        _log.info("new seal settings are in force", extra=epochs)


def _check_succession(said: SealSettings, here: SealSettings) -> None:
    """Raise BadProof unless `said` is what is in force `here`, or may follow it."""
    if said.seal_epoch == here.seal_epoch and said != here:
        raise BadProof(
            f"got two seal settings of seal epoch {said.seal_epoch}, want one: the log has contradicted itself"
        )
    if said.vault.epoch < here.vault.epoch:
        raise BadProof(f"got vault epoch {said.vault.epoch}, want at least {here.vault.epoch}, which is in force")
    if said.vault.epoch == here.vault.epoch and said.vault != here.vault:
        raise BadProof(
            f"got {said.vault.render()} as the vault's key, want {here.vault.render()}, which is in force:"
            " an epoch has one key"
        )
