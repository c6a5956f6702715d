# SPDX-License-Identifier: Apache-2.0
"""The assembly of revocations and API keys: from a configuration to sources, and from those to a snapshot's parts.

A part of `wiring`. These sources are looked at apart from all others and from each other, so that neither a large
inventory that is being loaded nor a database that hangs holds up a revocation.
"""

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from iap_authz.adapters.facts.api_keys import api_keys_source
from iap_authz.adapters.facts.revocations import revocations_source
from iap_authz.adapters.keys.pepper import load_pepper
from iap_authz.config import SidecarConfig
from iap_authz.config_credentials import ApiKeysConfig, RevocationsConfig
from iap_authz.errors import ConfigInvalid
from iap_authz.facts import apikey, revocation
from iap_authz.facts.apikey import ApiKeyAccess, ApiKeys
from iap_authz.facts.revocation import NOBODY_REVOKED, Kind, Revocation, RevocationList
from iap_authz.facts.workload import issuer_of
from iap_authz.ports import FactSource
from iap_authz.sidecar.refresh import Slot

API_KEYS_MAX_STALE_SECONDS = 3_600.0
"""How long the last good API keys are taken after their file is gone or broken."""

_log = logging.getLogger("iap_authz.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSlots:
    """None: not configured."""

    revocations: Slot[RevocationList] | None
    api_keys: Slot[ApiKeys] | None
    close: Callable[[], None] = lambda: None
    """Let go of what a source holds open. It is opened again by the next look."""

    def apart(self) -> list[list[Slot[object]]]:
        """Those that are configured, each by itself: a database that does not answer holds up no file."""
        return [[slot] for slot in (self.revocations, self.api_keys) if slot is not None]  # type: ignore[list-item]


def make_credential_slots(config: SidecarConfig) -> CredentialSlots:
    """The sources that `config` names, nothing loaded yet but the pepper. Raises ConfigInvalid where that is wrong."""
    issuers = {issuer.issuer for issuer in config.issuers} | {issuer_of(domain.name) for domain in config.trust_domains}
    api_keys = _api_keys_slot(config.api_keys) if config.api_keys is not None else None
    if config.revocations is None:
        return CredentialSlots(revocations=None, api_keys=api_keys)
    source, close = _revocations_source(config.revocations)
    slot = _revocations_slot(source, config.revocations, issuers)
    return CredentialSlots(revocations=slot, api_keys=api_keys, close=close)


def revocations_in_force(slots: CredentialSlots) -> RevocationList | None:
    """For a snapshot: no entries where none are configured, None where they are and the list cannot be used."""
    return slots.revocations.served if slots.revocations is not None else NOBODY_REVOKED


def served_api_keys(slots: CredentialSlots) -> ApiKeys | None:
    """The API keys in force; None where none are taken, or their file cannot be used."""
    return slots.api_keys.served if slots.api_keys is not None else None


def api_key_access(config: SidecarConfig, slots: CredentialSlots) -> ApiKeyAccess | None:
    """For a snapshot: None where API keys are not taken."""
    if config.api_keys is None or slots.api_keys is None:
        return None
    return ApiKeyAccess(header=config.api_keys.header, keys=slots.api_keys.served)


def _revocations_source(config: RevocationsConfig) -> tuple[FactSource[RevocationList], Callable[[], None]]:
    """Where the list is kept, and how that is closed."""
    if config.file is not None:
        return revocations_source("revocations", config.file), lambda: None
    if config.database_url_file is None:
        raise ConfigInvalid.of_file("identity.revocations", "got no place of the list, want one")
    from iap_authz.revocation_wiring import open_source  # noqa: PLC0415 -- slow to import, and few have a database

    source = open_source("revocations", config.database_url_file)
    return source, source.close


def _revocations_slot(
    source: FactSource[RevocationList], config: RevocationsConfig, issuers: AbstractSet[str]
) -> Slot[RevocationList]:
    def check_succession(new: RevocationList, last: RevocationList | None) -> None:
        revocation.check_succession(new, last)
        _warn_of_others(new.entries, issuers)

    return Slot(
        source,
        max_stale_seconds=config.max_stale.total_seconds(),
        check_succession=check_succession,
    )


def _warn_of_others(entries: tuple[Revocation, ...], issuers: AbstractSet[str]) -> None:
    """An issuer that nobody configured may be that of another sidecar, or a slip that revokes nobody.

    Of authorities nothing is known here: a certificate's may be an intermediate that only Envoy has met.
    """
    named = {entry.issuer for entry in entries if entry.issuer and entry.kind is not Kind.SERIAL}
    others = sorted(named - issuers)
    if others:
        _log.warning("the revocations name issuers that are not configured here", extra={"issuers": others[:5]})


def _api_keys_slot(config: ApiKeysConfig) -> Slot[ApiKeys]:
    return Slot(
        api_keys_source("api-keys", config.file, pepper=load_pepper(config.pepper_file)),
        max_stale_seconds=API_KEYS_MAX_STALE_SECONDS,
        check_succession=apikey.check_succession,
    )
