# SPDX-License-Identifier: Apache-2.0
"""Section `client_certificate` of a sidecar's configuration: whose word is taken for the client's certificate.

The invariant: without the section it is the handshake with our own Envoy alone. A part of `config`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from iap_authz.errors import InvalidCredential, shown
from iap_authz.facts.spiffe import parse_spiffe_id
from iap_authz.model.document import Section

HOPS_MAX = 10
"""More proxies in a row than anybody runs; fewer than a header may have elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificateConfig:
    """`client_certificate`: TLS proxies in front of Envoy, and their `x-forwarded-client-cert`."""

    proxies: tuple[str, ...]
    """SPIFFE ids of the proxies in front that may say whose certificate it was. Of `identity.trust_domains`."""
    trusted_hops: int
    """How many of them a request passes one after the other. Exactly. Default 1."""


def take_client_certificate(root: Section, trust_domains: Collection[str]) -> ClientCertificateConfig | None:
    """The section, None where there is none. `trust_domains` are those that have authorities."""
    section = root.take_section("client_certificate")
    if section is None:
        return None
    config = ClientCertificateConfig(
        proxies=section.take_texts("proxies"),
        trusted_hops=section.take_integer("trusted_hops", 1, least=1, most=HOPS_MAX),
    )
    if section.has("proxies") and not config.proxies:
        section.fault("proxies", "got an empty list, want at least one proxy")
    for proxy in config.proxies:
        _check_proxy(section, proxy, trust_domains)
    for proxy in sorted({proxy for proxy in config.proxies if config.proxies.count(proxy) > 1}):
        section.fault("proxies", f"got {shown(proxy)} twice")
    section.finish()
    return config


def _check_proxy(section: Section, proxy: str, trust_domains: Collection[str]) -> None:
    try:
        domain = parse_spiffe_id(proxy).trust_domain
    except InvalidCredential as error:
        section.fault("proxies", str(error))
        return
    if domain not in trust_domains:
        section.fault("proxies", f"got {shown(proxy)}, want one of a trust domain of identity.trust_domains")
