# SPDX-License-Identifier: Apache-2.0
"""The assembly of revocations and API keys: from a configuration to sources, and from those to a snapshot's parts.

A part of `wiring`. These sources are looked at apart from all others, so that a large inventory that is being loaded
does not hold up a revocation.
"""

import logging
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from iap_authz.adapters.facts.api_keys import api_keys_source
from iap_authz.adapters.facts.revocations import revocations_source
from iap_authz.adapters.keys.pepper import load_pepper
from iap_authz.config import SidecarConfig
from iap_authz.config_credentials import ApiKeysConfig, RevocationsConfig
from iap_authz.facts import apikey, revocation
from iap_authz.facts.apikey import ApiKeyAccess, ApiKeys
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.facts.workload import issuer_of
from iap_authz.sidecar.refresh import Slot

API_KEYS_MAX_STALE_SECONDS = 3_600.0
"""How long the last good API keys are taken after their file is gone or broken."""

_log = logging.getLogger("iap_authz.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSlots:
    """None: not configured."""

    revocations: Slot[RevocationList] | None
    api_keys: Slot[ApiKeys] | None

    def all(self) -> list[Slot[object]]:
        """Those that are configured."""
        return [slot for slot in (self.revocations, self.api_keys) if slot is not None]  # type: ignore[misc]


def make_credential_slots(config: SidecarConfig) -> CredentialSlots:
    """The sources that `config` names, nothing loaded yet but the pepper. Raises ConfigInvalid where that is wrong."""
    issuers = {issuer.issuer for issuer in config.issuers} | {issuer_of(domain.name) for domain in config.trust_domains}
    return CredentialSlots(
        revocations=_revocations_slot(config.revocations, issuers) if config.revocations is not None else None,
        api_keys=_api_keys_slot(config.api_keys) if config.api_keys is not None else None,
    )


def revocations_in_force(slots: CredentialSlots) -> RevocationList | None:
    """For a snapshot: no entries where none are configured, None where they are and the list cannot be used."""
    return slots.revocations.served if slots.revocations is not None else RevocationList()


def api_key_access(config: SidecarConfig, slots: CredentialSlots) -> ApiKeyAccess | None:
    """For a snapshot: None where API keys are not taken."""
    if config.api_keys is None or slots.api_keys is None:
        return None
    return ApiKeyAccess(header=config.api_keys.header, keys=slots.api_keys.served)


def _revocations_slot(config: RevocationsConfig, issuers: AbstractSet[str]) -> Slot[RevocationList]:
    def check_succession(new: RevocationList, last: RevocationList | None) -> None:
        revocation.check_succession(new, last)
        _warn_of_others(new.entries, issuers)

    return Slot(
        revocations_source("revocations", config.file),
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
