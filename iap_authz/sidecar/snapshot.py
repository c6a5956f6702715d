# SPDX-License-Identifier: Apache-2.0
"""`Snapshot`: one generation of policy, keys and fact sources. Everything a check reads, read once, never changed.

`establish` makes the Facts of one request: in memory, no network, no exception for anything a client can send. Caches
live and die with the generation, so no answer outlives the sources it came from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypeVar, cast

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import MalformedRequest, SourceUnavailable
from iap_authz.facts.address import client_address
from iap_authz.facts.apikey import ApiKeyAccess
from iap_authz.facts.authorities import Authorities
from iap_authz.facts.credential import DEFAULT_SOURCES, TokenSource, hide_query_tokens
from iap_authz.facts.device import Inventory, establish_device
from iap_authz.facts.forwarded import SOURCE as XFCC_SOURCE
from iap_authz.facts.forwarded import ClientCertificate, Forwarding, find_client_certificate, judge_peer
from iap_authz.facts.identity import credential_of, establish_identity, stamp_age
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.location import Geography, Networks, establish_location
from iap_authz.facts.request import establish_request
from iap_authz.facts.revocation import (
    CERTIFICATE_KINDS,
    NOBODY_REVOKED,
    RevocationList,
    judge_revocation,
    refuse_identity,
)
from iap_authz.facts.revoked_certificate import judge_device, judge_workload
from iap_authz.facts.workload import SOURCE as MTLS_SOURCE
from iap_authz.facts.workload import TrustDomains, establish_workload
from iap_authz.facts.xfcc import XFCC_HEADER
from iap_authz.model.reason import Reason
from iap_authz.model.request import UNTRUSTED_HEADERS, Request
from iap_authz.policy.compiled import Policy

TOKENS_MAX = 10_000
"""Verified tokens and API keys kept in a generation; the oldest leaves first."""

T = TypeVar("T")

RECENT_MAX = 10_000
"""Certificates and addresses whose facts are kept within one second."""

_UNTRUSTED_AND_XFCC = UNTRUSTED_HEADERS | {XFCC_HEADER}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """How device facts are judged."""

    max_inventory_age: timedelta
    max_posture_age: timedelta
    authorities_configured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationSettings:
    """How location facts are judged."""

    client_address: str
    geography_configured: bool
    max_build_age: timedelta
    country_field: str


@dataclass(slots=True)
class TokenCache:
    """Verified tokens and API keys by their whole text, each until the instant its verdict may change.

    Revocation is no part of that verdict: it is judged on each request, of what comes out of here too.
    """

    _kept: dict[str, tuple[facts_pb2.Identity, datetime]] = field(default_factory=dict)

    def get(self, credential: str, now: datetime) -> facts_pb2.Identity | None:
        """The identity that `credential` proved, if that still stands at `now`; its age is of when it was kept."""
        kept = self._kept.get(credential)
        if kept is None:
            return None
        if now >= kept[1]:
            del self._kept[credential]
            return None
        return kept[0]

    def put(self, credential: str, identity: facts_pb2.Identity, good_until: datetime) -> None:
        """Keep what `credential` proved until `good_until`."""
        if len(self._kept) >= TOKENS_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[credential] = (identity, good_until)


@dataclass(slots=True)
class SecondCache:
    """Facts that depend on a client's own text and the second alone; all are dropped when the second is over."""

    _second: datetime | None = None
    _kept: dict[tuple[str, str], object] = field(default_factory=dict)

    def get(self, second: datetime, family: str, *, text: str, establish: Callable[[], T]) -> T:
        """What `establish` gave for `text` in this second. The value is shared: copy it, never change it."""
        if second != self._second or len(self._kept) >= RECENT_MAX:
            self._second = second
            self._kept.clear()
        found = self._kept.get((family, text))
        if found is None:
            found = self._kept[family, text] = establish()
        return cast("T", found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One generation. `inventory`, `geography` and `revocations` are None where the source is configured and unusable.

    `revocations` without entries where none are configured; `api_keys` None where API keys are not taken.
    """

    policy: Policy
    issuers: tuple[Issuer, ...]
    token_sources: tuple[TokenSource, ...] = DEFAULT_SOURCES
    device: DeviceSettings | None
    inventory: Inventory | None
    location: LocationSettings
    networks: Networks
    geography: Geography | None
    trust_domains: TrustDomains = field(default_factory=dict)
    device_authorities: Authorities | None = None
    want_keys: Callable[[str], None] = lambda _issuer: None
    """Told the `iss` of an issuer whose keys lack one that a token names. Never waits."""
    revocations: RevocationList | None = NOBODY_REVOKED
    api_keys: ApiKeyAccess | None = None
    forwarding: Forwarding | None = None
    """The proxies in front whose word on the client's certificate is taken. None: the handshake's alone."""
    note_use: Callable[[facts_pb2.Identity, datetime], None] | None = None
    """Told each identity once it is established, where API keys are taken. Never waits."""
    tokens: TokenCache = field(default_factory=TokenCache)
    recent: SecondCache = field(default_factory=SecondCache)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what proves identities, is configured, and cannot be used: whoever needs it is told 503."""
        keyless = [f"keys:{one.name}" for one in self.issuers if one.keys is None or not one.keys.keys]
        unknown = [f"trust-domain:{name}" for name, authorities in self.trust_domains.items() if authorities is None]
        revocations = ["revocations"] if self.revocations is None else []
        api_keys = ["api-keys"] if self.api_keys is not None and self.api_keys.keys is None else []
        return (*keyless, *unknown, *revocations, *api_keys)

    def establish(self, request: Request, now: datetime) -> facts_pb2.Facts:
        """Everything that is known of `request` at `now`, which is truncated to the second."""
        second = now.replace(microsecond=0)
        facts = facts_pb2.Facts()
        facts.now.FromDatetime(second)
        found = self._client_certificate(request, second)
        if found is not None:
            request = replace(
                request, certificate=found.certificate, principal=found.principal, forwarded_by=found.forwarded_by
            )
        facts.request.CopyFrom(
            establish_request(
                hide_query_tokens(request, self.token_sources),
                untrusted=UNTRUSTED_HEADERS if found is None or _is_believed(found) else _UNTRUSTED_AND_XFCC,
                headers_read=self.policy.headers_read,
                parameters_read=self.policy.query_parameters_read,
                captures=self._captures(request),
            )
        )
        self._establish_identity(facts, request, second)
        certificate = request.certificate
        facts.device.CopyFrom(
            self.recent.get(second, "device", text=certificate, establish=lambda: self._device(certificate, second))
        )
        if found is not None:
            _say_forwarded(facts, found)
            is_in_doubt = found.state == facts_pb2.ERROR and self._revokes_certificates
            if is_in_doubt and facts.identity.state == facts_pb2.PRESENT:
                # A revoked certificate refuses whoever shows it; whose was shown cannot be told.
                refuse_identity(facts.identity, facts_pb2.ERROR, Reason.SOURCE_ERROR)
        facts.location.CopyFrom(self._location(request, second))
        return facts

    def _client_certificate(self, request: Request, now: datetime) -> ClientCertificate | None:
        """Whose certificate the request came with; None: that of the handshake, because nothing else is configured.

        What a header says is kept for a proxy only, and by a hash: nobody else's headers take room here.
        """
        forwarding = self.forwarding
        if forwarding is None:
            return None
        certificate, principal = request.certificate, request.principal
        peer = self.recent.get(
            now,
            "peer",
            text=f"{len(principal)} {principal} {certificate}",
            establish=lambda: judge_peer(
                certificate, principal, forwarding, self.trust_domains, revocations=self.revocations, now=now
            ),
        )
        values = request.headers.get(XFCC_HEADER, ())
        if not peer.proxy or len(values) != 1:
            return find_client_certificate(peer, values, forwarding)
        return self.recent.get(
            now,
            "certificate",
            text=f"{peer.sha256} {sha256(values[0].encode('utf-8', 'surrogatepass')).hexdigest()}",
            establish=lambda: find_client_certificate(peer, values, forwarding),
        )

    @property
    def _revokes_certificates(self) -> bool:
        return self.revocations is None or bool(self.revocations.kinds & CERTIFICATE_KINDS)

    def _captures(self, request: Request) -> Mapping[str, str]:
        match = self.policy.find_route(request.method, request.host, request.segments)
        return match.captures if match is not None else {}

    def _establish_identity(self, facts: facts_pb2.Facts, request: Request, now: datetime) -> None:
        credential = credential_of(request, self.api_keys, sources=self.token_sources)
        kept = self.tokens.get(credential, now) if credential is not None else None
        if kept is not None:
            facts.identity.CopyFrom(kept)
            stamp_age(facts.identity, now)
        else:
            facts.identity.CopyFrom(self._fresh_identity(request, credential, now))
        judge_revocation(facts.identity, self.revocations, now=now)
        if self.note_use is not None:
            self.note_use(facts.identity, now)

    def _fresh_identity(self, request: Request, credential: str | None, now: datetime) -> facts_pb2.Identity:
        """Who asks, by a credential that no cache knows; or by their certificate where none is shown."""
        established = establish_identity(
            request, self.issuers, sources=self.token_sources, api_keys=self.api_keys, now=now
        )
        if established.unknown_key_of:
            self.want_keys(established.unknown_key_of)
        if credential is not None and established.good_until is not None:
            self.tokens.put(credential, established.identity, established.good_until)
        if established.identity.state == facts_pb2.ABSENT and self.trust_domains:
            return self._workload(request, now)
        return established.identity

    def _workload(self, request: Request, now: datetime) -> facts_pb2.Identity:
        """Who asks where no credential is shown, by their certificate."""
        certificate, principal = request.certificate, request.principal
        return self.recent.get(
            now,
            "workload",
            text=f"{principal} {certificate}",
            establish=lambda: self._known_workload(certificate, principal, now),
        )

    def _known_workload(self, certificate: str, principal: str, now: datetime) -> facts_pb2.Identity:
        identity = establish_workload(certificate, principal, self.trust_domains, now)
        judge_workload(identity, certificate, self.revocations, now=now)
        return identity

    def _vouch_device(self, der: bytes, now: datetime) -> None:
        if self.device_authorities is None:
            raise SourceUnavailable("no authorities of devices")
        self.device_authorities.check_issued(der, now)

    def _device(self, certificate: str, now: datetime) -> facts_pb2.Device:
        """Which device asks; and, device or not, whether its certificate may still be shown."""
        device = self._known_device(certificate, now)
        judge_device(device, certificate, self.revocations, now=now)
        return device

    def _known_device(self, certificate: str, now: datetime) -> facts_pb2.Device:
        if self.device is None:
            return facts_pb2.Device(state=facts_pb2.ABSENT)
        return establish_device(
            certificate,
            self.inventory,
            now,
            max_posture_age=self.device.max_posture_age,
            max_inventory_age=self.device.max_inventory_age,
            vouch=self._vouch_device if self.device.authorities_configured else None,
        )

    def _location(self, request: Request, now: datetime) -> facts_pb2.Location:
        try:
            address = client_address(request, source=self.location.client_address)
        except MalformedRequest as error:
            return facts_pb2.Location(state=facts_pb2.INVALID, problem=Reason(error.reason).value)
        return self.recent.get(now, "location", text=address, establish=lambda: self._place(address, now))

    def _place(self, address: str, now: datetime) -> facts_pb2.Location:
        return establish_location(
            address,
            self.networks,
            self.geography,
            now,
            geography_configured=self.location.geography_configured,
            max_build_age=self.location.max_build_age,
            country_field=self.location.country_field,
        )


def _is_believed(found: ClientCertificate) -> bool:
    """Whether the header said whose certificate it is, and not only claimed it."""
    return bool(found.forwarded_by) and found.problem is None


def _say_forwarded(facts: facts_pb2.Facts, found: ClientCertificate) -> None:
    """What a header of a proxy's came to, where no certificate says it: a bad one refuses on every route."""
    identity = facts.identity
    if found.forwarded_by and identity.source == MTLS_SOURCE:
        identity.source = XFCC_SOURCE
    if found.problem is None:
        return
    if identity.state == facts_pb2.ABSENT:
        identity.CopyFrom(facts_pb2.Identity(state=found.state, problem=found.problem.value, source=XFCC_SOURCE))
    if found.state == facts_pb2.INVALID:
        facts.device.CopyFrom(facts_pb2.Device(state=found.state, problem=found.problem.value, source=XFCC_SOURCE))
    else:
        facts.device.CopyFrom(facts_pb2.Device(state=found.state, problem=Reason.SOURCE_ERROR.value))
