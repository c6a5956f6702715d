# SPDX-License-Identifier: Apache-2.0
"""The assembly of what identities are established with: issuers and where their keys come from. `wiring` uses it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from iap_authz.adapters.clock import SystemClock
from iap_authz.adapters.facts.files import FileSource
from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.config import SidecarConfig
from iap_authz.config_identity import BOUND_TO_POD, FetchConfig, IssuerConfig
from iap_authz.errors import ConfigInvalid
from iap_authz.facts.authorities import Authorities, parse_authorities
from iap_authz.facts.forwarded import Forwarding
from iap_authz.facts.issuer import Cluster, Issuer
from iap_authz.facts.keyset import KeySet, parse_jwks
from iap_authz.facts.signature import Algorithm
from iap_authz.ports import CheckpointStore, Clock
from iap_authz.sidecar.issuer_keys import STORED_MAX_BYTES, IssuerKeys, KeyPlace
from iap_authz.sidecar.refresh import Slot

AUTHORITIES_MAX_STALE_SECONDS = 3_600.0
"""How long the last good certificates are used after their file is gone or broken."""


def keys_slot(issuer: IssuerConfig, fetched: IssuerKeys | None) -> Slot[KeySet]:
    """Where an issuer's keys are held: what `fetched` has, or the file. Nothing is loaded yet."""
    max_stale_seconds = issuer.max_stale.total_seconds()
    if fetched is not None:
        return Slot(fetched, max_stale_seconds=max_stale_seconds, confirmed_at=fetched.confirmed_at)
    if issuer.jwks_file is None:
        raise ConfigInvalid.of_file("identity", f"got the issuer {issuer.name} without a way to its keys")
    source = FileSource(f"keys:{issuer.name}", issuer.jwks_file, lambda content, _: parse_jwks(content))
    return Slot(source, max_stale_seconds=max_stale_seconds)


def authorities_slot(name: str, file: Path) -> Slot[Authorities]:
    """Certificates that sign leaves, from a PEM file. Nothing is loaded yet."""
    return Slot(FileSource(name, file, parse_authorities), max_stale_seconds=AUTHORITIES_MAX_STALE_SECONDS)


def make_issuer_keys(config: SidecarConfig, clock: Clock) -> dict[str, IssuerKeys]:
    """What fetches keys, by name of the issuer. Reads what was fetched before. Raises ConfigInvalid."""

    def stored(issuer: IssuerConfig) -> CheckpointFile:
        return CheckpointFile(config.journal.directory / f"keys-{issuer.name}", max_bytes=STORED_MAX_BYTES)

    return _make_each(config, stored, clock=clock)


def fetch_issuer_keys(config: SidecarConfig) -> dict[str, IssuerKeys]:
    """The same after one fetch of each, for whoever wants to know whether it works. Nothing is read or kept."""
    found = _make_each(config, lambda _issuer: _Nowhere(), clock=SystemClock())

    async def fetch_all() -> None:
        await asyncio.gather(*(keys.fetch() for keys in found.values()))

    if found:
        asyncio.run(fetch_all())
    return found


def _make_each(
    config: SidecarConfig, store_of: Callable[[IssuerConfig], CheckpointStore], *, clock: Clock
) -> dict[str, IssuerKeys]:
    return {
        issuer.name: _issuer_keys(issuer, issuer.fetch, store_of(issuer), clock=clock)
        for issuer in config.issuers
        if issuer.fetch
    }


class _Nowhere:
    """Satisfies `CheckpointStore`, and keeps nothing."""

    def load(self) -> bytes | None:
        """Nothing."""
        return None

    def store(self, note: bytes) -> None:
        """Forget it."""


def _issuer_keys(issuer: IssuerConfig, fetch: FetchConfig, store: CheckpointStore, *, clock: Clock) -> IssuerKeys:
    from iap_authz.adapters.facts.https import BearerFile, HttpsEndpoint  # noqa: PLC0415 -- slow to import, and few fetch

    place = KeyPlace(
        name=issuer.name,
        issuer=issuer.issuer,
        jwks_url=fetch.jwks_url,
        interval=fetch.interval,
        max_stale=issuer.max_stale,
    )
    token = BearerFile(file=fetch.token_file, url=fetch.jwks_url or issuer.issuer) if fetch.token_file else None
    endpoint = HttpsEndpoint(ca_file=fetch.ca_file, private_addresses=fetch.private_addresses, token=token)
    return IssuerKeys(place, endpoint=endpoint, store=store, clock=clock)


def make_issuer(config: IssuerConfig, keys: KeySet | None) -> Issuer:
    """The issuer with the keys that it has now."""
    return Issuer(
        name=config.name,
        issuer=config.issuer,
        audiences=frozenset(config.audiences),
        algorithms=frozenset(Algorithm(name) for name in config.algorithms),
        keys=keys,
        skew=config.skew,
        max_age=config.max_age,
        groups_claim=config.groups_claim,
        claims=config.claims,
        email_domains=frozenset(config.email_domains),
        cluster=None if config.kubernetes is None else Cluster(want_pod=config.kubernetes.bound_to == BOUND_TO_POD),
    )


def make_forwarding(config: SidecarConfig) -> Forwarding | None:
    """For a snapshot: the proxies in front, None where there are none."""
    section = config.client_certificate
    if section is None:
        return None
    return Forwarding(proxies=frozenset(section.proxies), trusted_hops=section.trusted_hops)
