# SPDX-License-Identifier: Apache-2.0
"""`identity` of a sidecar's configuration: whose tokens are believed. The field docstrings are the manual.

A part of `config`, which reads the file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from iap_authz.config_credentials import ApiKeysConfig, RevocationsConfig, take_api_keys, take_revocations
from iap_authz.config_tokens import take_token_sources
from iap_authz.errors import Malformed, shown
from iap_authz.facts.claims import is_email_domain
from iap_authz.facts.credential import DEFAULT_SOURCES, TokenSource
from iap_authz.facts.discovery import check_https_url, discovery_url
from iap_authz.facts.spiffe import is_trust_domain
from iap_authz.model.document import Section, render_duration, take_matching

ALGORITHM_FAMILIES = {"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "ES256": "EC", "ES384": "EC"}
"""Token algorithms and the key type each needs (RFC 7518 section 3.1)."""

BOUND_TO_POD = "pod"

_ZERO, _SECOND, _MINUTE = timedelta(0), timedelta(seconds=1), timedelta(minutes=1)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDomainConfig:
    """`identity.trust_domains[]`: whose workloads are known by their client certificates (SPIFFE)."""

    name: str
    """The trust domain, such as `example.org`."""
    bundle_file: Path
    """PEM of the certificates that sign its leaves, intermediates included. Replaced live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchConfig:
    """`identity.issuers[].fetch`: keys that are fetched in the background."""

    jwks_url: str
    """Where the key set is (https). Default: where the issuer's discovery document says (OpenID Connect Discovery)."""
    interval: timedelta
    """How often. Default 5m."""
    ca_file: Path | None
    """Authorities (PEM) that count, in the place of the public ones. Default none."""
    private_addresses: bool
    """Whether a name may lead to loopback, private and other addresses that are not public. Default false."""
    token_file: Path | None
    """A token for the server, sent to the host of `jwks_url`, or of the issuer, alone; read each time. Default none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """`identity.issuers[].kubernetes`: the issuer is a cluster, and its tokens are those of service accounts."""

    bound_to: str
    """`pod`: only tokens that are bound to a pod. `any`: also such as were made by hand. Default pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerConfig:
    """`identity.issuers[]`: an OpenID provider or another maker of JWTs."""

    name: str
    """Short name for facts, records and metrics."""
    issuer: str
    """The `iss` claim, exactly."""
    audiences: tuple[str, ...]
    """Accepted `aud` values; a token needs one of them."""
    algorithms: tuple[str, ...]
    """RS256, RS384, RS512 or ES256, ES384: one family."""
    jwks_file: Path | None
    """Key set (RFC 7517). Replaced live. Either this or `fetch`."""
    fetch: FetchConfig | None
    """The key set comes from the issuer itself. `{}` is enough where it has a discovery document."""
    max_stale: timedelta
    """How long the last good key set is used after it could be read or fetched last. Default 1h."""
    skew: timedelta
    """Tolerance for exp, nbf and iat. Default 30s, at most 5m."""
    max_age: timedelta | None
    """How old a token's claims may be (now - iat); needs iat. Default: no bound but exp."""
    groups_claim: tuple[str, ...]
    """Path of the groups claim. Default `groups`; `realm_access.roles` reads a nested one."""
    claims: tuple[str, ...]
    """Further scalar claims for policies, as `identity.claims["..."]`. Not `email`: that is a fact of its own."""
    email_domains: tuple[str, ...]
    """The only domains an email may be of, in lower case. Default: all but internationalised ones (`xn--`)."""
    kubernetes: KubernetesConfig | None
    """The issuer is a Kubernetes cluster: its tokens are those of service accounts. `{}` is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """`identity`: who is believed. Empty: nobody."""

    issuers: tuple[IssuerConfig, ...] = ()
    token_sources: tuple[TokenSource, ...] = DEFAULT_SOURCES
    trust_domains: tuple[TrustDomainConfig, ...] = ()
    revocations: RevocationsConfig | None = None
    api_keys: ApiKeysConfig | None = None


def take_identity(root: Section, folder: Path) -> IdentityConfig:
    """The section; without it nobody is believed. Relative paths are relative to `folder`."""
    section = root.take_section("identity")
    if section is None:
        return IdentityConfig()
    identity = IdentityConfig(
        issuers=tuple(_take_issuer(one, folder) for one in section.take_sections("issuers")),
        token_sources=take_token_sources(section),
        trust_domains=tuple(_take_trust_domain(one, folder) for one in section.take_sections("trust_domains")),
        revocations=take_revocations(section, folder),
        api_keys=take_api_keys(section, folder),
    )
    if not (identity.issuers or identity.trust_domains or identity.api_keys):
        section.fault("issuers", "missing, want issuers, trust_domains or api_keys: without any nobody is ever known")
    section.finish()
    if identity.api_keys is not None and identity.api_keys.header in {source.name for source in identity.token_sources}:
        got = shown(identity.api_keys.header)
        section.fault("token_sources", f"got {got}, which API keys come in, want another header for one of the two")
    _check_different(section, "issuers", identity.issuers, fields=("name", "issuer"))
    _check_different(section, "trust_domains", identity.trust_domains, fields=("name",))
    return identity


def _check_different(section: Section, key: str, items: Sequence[object], *, fields: Sequence[str]) -> None:
    for field in fields:
        values = [getattr(item, field) for item in items]
        for value in sorted({value for value in values if values.count(value) > 1}):
            section.fault(key, f"got {field} {shown(value)} twice")


def _take_trust_domain(section: Section, folder: Path) -> TrustDomainConfig:
    domain = TrustDomainConfig(name=section.take_text("name"), bundle_file=folder / section.take_text("bundle_file"))
    if domain.name and not is_trust_domain(domain.name):
        section.fault("name", f"got {shown(domain.name)}, want a trust domain such as example.org")
    section.finish()
    return domain


def _take_issuer(section: Section, folder: Path) -> IssuerConfig:
    issuer = IssuerConfig(
        name=take_matching(section, "name", _NAME, "lower-case letters, digits and hyphens"),
        issuer=section.take_text("issuer"),
        audiences=section.take_texts("audiences"),
        algorithms=_take_algorithms(section),
        jwks_file=_take_optional_path(section, "jwks_file", folder),
        fetch=_take_fetch(section, folder),
        max_stale=section.take_duration("max_stale", _HOUR, least=_ZERO, most=7 * _DAY),
        skew=section.take_duration("skew", 30 * _SECOND, least=_ZERO, most=5 * _MINUTE),
        max_age=_take_max_age(section),
        groups_claim=tuple(section.take_text("groups_claim", "groups").split(".")),
        claims=section.take_texts("claims", ()),
        email_domains=section.take_texts("email_domains", ()),
        kubernetes=_take_kubernetes(section),
    )
    wrong = [domain for domain in issuer.email_domains if not is_email_domain(domain)]
    if wrong:
        section.fault("email_domains", f"got {shown(wrong[0])}, want a domain in lower-case ASCII")
    if section.has("audiences") and not all(issuer.audiences):
        section.fault("audiences", "got an empty audience, want names")
    if "email" in issuer.claims or "" in issuer.claims:
        section.fault("claims", "got email or an empty name, want other claims (a verified email is identity.email)")
    if issuer.kubernetes is not None and section.has("groups_claim"):
        section.fault("groups_claim", "got one for a cluster, want none: service accounts have Kubernetes' own groups")
    if not all(issuer.groups_claim):
        section.fault("groups_claim", f"got {shown('.'.join(issuer.groups_claim))}, want names joined with dots")
    if section.has("audiences") and not issuer.audiences:
        section.fault("audiences", "got an empty list, want at least one audience")
    _check_keys(section, issuer)
    section.finish()
    return issuer


def _take_optional_path(section: Section, key: str, folder: Path) -> Path | None:
    text = section.take_text(key, "")
    return folder / text if text else None


def _take_fetch(issuer: Section, folder: Path) -> FetchConfig | None:
    section = issuer.take_section("fetch")
    if section is None:
        return None
    fetch = FetchConfig(
        jwks_url=section.take_text("jwks_url", ""),
        interval=section.take_duration("interval", 5 * _MINUTE, least=_SECOND, most=_DAY),
        ca_file=_take_optional_path(section, "ca_file", folder),
        private_addresses=section.take_boolean("private_addresses", default=False),
        token_file=_take_optional_path(section, "token_file", folder),
    )
    try:
        if fetch.jwks_url:
            check_https_url(fetch.jwks_url)
    except Malformed as error:
        section.fault("jwks_url", str(error))
    section.finish()
    return fetch


def _take_kubernetes(issuer: Section) -> KubernetesConfig | None:
    section = issuer.take_section("kubernetes")
    if section is None:
        return None
    kubernetes = KubernetesConfig(bound_to=section.take_text("bound_to", BOUND_TO_POD, choices=(BOUND_TO_POD, "any")))
    section.finish()
    return kubernetes


def _check_keys(section: Section, issuer: IssuerConfig) -> None:
    """One way to the keys, and one that leads somewhere."""
    fetch = issuer.fetch
    if (issuer.jwks_file is None) == (fetch is None):
        got = "neither" if fetch is None else "both"
        section.fault("jwks_file", f"got {got} of jwks_file and fetch, want one: where the issuer's keys come from")
    if fetch is None:
        return
    if not fetch.jwks_url:
        try:
            discovery_url(issuer.issuer)
        except Malformed as error:
            section.fault("fetch", f"{error}; or give fetch.jwks_url")
    if issuer.max_stale < 2 * fetch.interval:
        want = f"at least {render_duration(2 * fetch.interval)}: twice fetch.interval, as keys are confirmed that often"
        section.fault("max_stale", f"got {render_duration(issuer.max_stale)}, want {want}")


def _take_max_age(section: Section) -> timedelta | None:
    if not section.has("max_age"):
        section.take_text("max_age", "")
        return None
    return section.take_duration("max_age", least=_SECOND, most=365 * _DAY)


def _take_algorithms(section: Section) -> tuple[str, ...]:
    algorithms: Sequence[str] = section.take_texts("algorithms")
    unknown = sorted(set(algorithms) - ALGORITHM_FAMILIES.keys())
    families = {ALGORITHM_FAMILIES[name] for name in algorithms if name in ALGORITHM_FAMILIES}
    if unknown:
        section.fault(
            "algorithms", f"got {', '.join(map(shown, unknown))}, want some of {', '.join(ALGORITHM_FAMILIES)}"
        )
    elif section.has("algorithms") and len(families) != 1:
        section.fault(
            "algorithms", f"got {len(families)} key families, want algorithms of exactly one (RS... or ES...)"
        )
    return tuple(algorithms)
