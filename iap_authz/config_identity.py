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
from iap_authz.errors import shown
from iap_authz.model.document import Section, take_matching

ALGORITHM_FAMILIES = {"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "ES256": "EC", "ES384": "EC"}
"""Token algorithms and the key type each needs (RFC 7518 section 3.1)."""

_ZERO, _SECOND, _MINUTE = timedelta(0), timedelta(seconds=1), timedelta(minutes=1)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


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
    jwks_file: Path
    """Key set (RFC 7517). Replaced live."""
    max_stale: timedelta
    """How long the last good key set is used after the file is gone or broken. Default 1h."""
    skew: timedelta
    """Tolerance for exp, nbf and iat. Default 30s, at most 5m."""
    max_age: timedelta | None
    """How old a token's claims may be (now - iat); needs iat. Default: no bound but exp."""
    groups_claim: tuple[str, ...]
    """Path of the groups claim. Default `groups`; `realm_access.roles` reads a nested one."""
    claims: tuple[str, ...]
    """Further scalar claims for policies, as `identity.claims["..."]`. Not `email`: that is a fact of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """The section `identity`, for `SidecarConfig`."""

    issuers: tuple[IssuerConfig, ...] = ()
    revocations: RevocationsConfig | None = None
    api_keys: ApiKeysConfig | None = None


def take_identity(root: Section, folder: Path) -> IdentityConfig:
    """The section; without it nobody is believed. Relative paths are relative to `folder`."""
    identity = root.take_section("identity")
    if identity is None:
        return IdentityConfig()
    issuers = _take_issuers(identity, folder)
    revocations, api_keys = take_revocations(identity, folder), take_api_keys(identity, folder)
    identity.finish()
    return IdentityConfig(issuers=issuers, revocations=revocations, api_keys=api_keys)


def _take_issuers(identity: Section, folder: Path) -> tuple[IssuerConfig, ...]:
    required = not identity.has("api_keys")
    issuers = tuple(_take_issuer(section, folder) for section in identity.take_sections("issuers", required=required))
    for field in ("name", "issuer"):
        values = [getattr(issuer, field) for issuer in issuers]
        for value in sorted({value for value in values if values.count(value) > 1}):
            identity.fault("issuers", f"got {field} {shown(value)} twice")
    return issuers


def _take_issuer(section: Section, folder: Path) -> IssuerConfig:
    issuer = IssuerConfig(
        name=take_matching(section, "name", _NAME, "lower-case letters, digits and hyphens"),
        issuer=section.take_text("issuer"),
        audiences=section.take_texts("audiences"),
        algorithms=_take_algorithms(section),
        jwks_file=folder / section.take_text("jwks_file"),
        max_stale=section.take_duration("max_stale", _HOUR, least=_ZERO, most=7 * _DAY),
        skew=section.take_duration("skew", 30 * _SECOND, least=_ZERO, most=5 * _MINUTE),
        max_age=_take_max_age(section),
        groups_claim=tuple(section.take_text("groups_claim", "groups").split(".")),
        claims=section.take_texts("claims", ()),
    )
    if section.has("audiences") and not all(issuer.audiences):
        section.fault("audiences", "got an empty audience, want names")
    if "email" in issuer.claims or "" in issuer.claims:
        section.fault("claims", "got email or an empty name, want other claims (a verified email is identity.email)")
    if not all(issuer.groups_claim):
        section.fault("groups_claim", f"got {shown('.'.join(issuer.groups_claim))}, want names joined with dots")
    if section.has("audiences") and not issuer.audiences:
        section.fault("audiences", "got an empty list, want at least one audience")
    section.finish()
    return issuer


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
