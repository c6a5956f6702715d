# SPDX-License-Identifier: Apache-2.0
"""From the section `seal` to what seals the records of one writer. It names no adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.config import SidecarConfig
from iap_authz.ports import Backlog, Journal
from iap_authz.sidecar.sealing import (
    Seals,
    SettingsInForce,
    SettingsTaker,
    Start,
    UnsafeNoSeals,
    configured_settings,
    load_settings,
)
from iap_authz.sidecar.subject_keys import SubjectKeys

SEAL_SETTINGS_NAME = "seal-settings"
"""Beside the writers in the journal directory: how to seal, as the log said last (rule S5), in a note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """What seals records. No `keys`: nothing does, as the configuration says. No `in_force`: there is no log to say."""

    keys: SubjectKeys | None
    in_force: SettingsInForce | None

    @property
    def seals(self) -> Seals:
        """For every check."""
        return UnsafeNoSeals() if self.keys is None else self.keys

    @property
    def taker(self) -> SettingsTaker:
        """For whoever ships."""
        return UnsafeNoSeals() if self.in_force is None else self.in_force

    def oldest_epoch(self, backlog: Backlog) -> int:
        """For heartbeats: no companion that is left is of an older seal epoch. 0 without a log, which raises none."""
        return 0 if self.in_force is None else self.in_force.oldest_epoch(backlog)


def make_sealing(
    config: SidecarConfig, journal: Journal, *, directory: Path, monotonic: Callable[[], float]
) -> Sealing:
    """What seals the records of the journal that is open in `directory`, its pool of keys full, which takes 0.1 s.

    Raises ConfigInvalid where the settings that are stored there are not those of the log, and OSError.
    """
    if config.seal is None:
        return Sealing(keys=None, in_force=None)
    vault, log, store = config.seal.vault_key, config.log, CheckpointFile(directory / SEAL_SETTINGS_NAME)
    start = Start(configured_settings(config.log_origin, vault), b"")
    if log is not None:
        start = load_settings(store, log.verifier_key, vault=vault)
    keys = SubjectKeys(start.settings, writer=journal.writer, monotonic=monotonic)
    keys.fill()
    in_force = SettingsInForce(keys, journal, verifier=log.verifier_key, store=store, start=start) if log else None
    return Sealing(keys=keys, in_force=in_force)
