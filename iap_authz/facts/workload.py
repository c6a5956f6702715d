# SPDX-License-Identifier: Apache-2.0
"""Which workload is asking: identity from a client certificate that carries a SPIFFE id (X509-SVID).

The invariant: the state is PRESENT only for a certificate that the authorities of its own trust domain issued, that is
valid at `now`, and that Envoy names in the same way. The authorities of one domain vouch for nobody of another one.

    no certificate, or one without a SPIFFE id   ABSENT
    bad, or outside its validity                 INVALID  BAD_CERTIFICATE
    two URIs, or another spelling                INVALID  BAD_SPIFFE_ID
    of a trust domain that is not configured     INVALID  UNTRUSTED_CERTIFICATE
    the authorities' file is missing or broken   ERROR    NO_KEYS
    issued by somebody else                      INVALID  UNTRUSTED_CERTIFICATE
    otherwise                                    PRESENT  kind "workload", the id as its subject

Specification: SPIFFE X509-SVID sections 2 and 5. A certificate that a proxy in front has seen comes from `forwarded`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography import x509

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, SourceUnavailable
from iap_authz.facts.authorities import Authorities
from iap_authz.facts.certificate import ClientCertificate, check_certificate_time, parse_certificate
from iap_authz.facts.spiffe import SCHEME, SpiffeId, spiffe_id_of
from iap_authz.model.reason import Reason

SOURCE, KIND, SHOWN_IN = "mtls", "workload", "certificate"
"""Of the facts (facts.proto)."""

TrustDomains = Mapping[str, Authorities | None]
"""The authorities of each configured trust domain; None: their file is missing or broken."""


def establish_workload(certificate: str, principal: str, domains: TrustDomains, now: datetime) -> facts_pb2.Identity:
    """Who shows `certificate` (URL-encoded PEM; empty: none), which Envoy names `principal`. Never raises."""
    if not certificate:
        return facts_pb2.Identity(state=facts_pb2.ABSENT)
    try:
        parsed = parse_certificate(certificate)
        check_certificate_time(parsed, now)
        found = spiffe_id_of(x509.load_der_x509_certificate(parsed.der))
        if found is None:
            return facts_pb2.Identity(state=facts_pb2.ABSENT)
        check_vouched(parsed, found, domains, principal=principal, now=now)
    except InvalidCredential as error:
        return refused_workload(facts_pb2.INVALID, error.reason)
    except SourceUnavailable:
        return refused_workload(facts_pb2.ERROR, Reason.NO_KEYS)
    return _present(parsed, found, now)


def check_vouched(
    parsed: ClientCertificate, found: SpiffeId, domains: TrustDomains, *, principal: str, now: datetime
) -> None:
    """Raise InvalidCredential unless the id's own authorities issued the leaf; SourceUnavailable if there are none."""
    if principal and principal != found.text:
        raise InvalidCredential(
            Reason.BAD_SPIFFE_ID, "got a certificate that Envoy names otherwise than it says itself"
        )
    if found.trust_domain not in domains:
        raise InvalidCredential(Reason.UNTRUSTED_CERTIFICATE, "got a trust domain that is not configured")
    authorities = domains[found.trust_domain]
    if authorities is None:
        raise SourceUnavailable(f"no authorities of the trust domain {found.trust_domain}")
    authorities.check_issued(parsed.der, now)


def _present(parsed: ClientCertificate, found: SpiffeId, now: datetime) -> facts_pb2.Identity:
    identity = facts_pb2.Identity(
        state=facts_pb2.PRESENT,
        source=SOURCE,
        kind=KIND,
        subject=found.text,
        issuer=issuer_of(found.trust_domain),
        spiffe_id=found.text,
        shown_in=SHOWN_IN,
    )
    identity.issued_at.FromDatetime(parsed.not_before)
    identity.expires.FromDatetime(parsed.not_after)
    identity.age.FromTimedelta(max(now - parsed.not_before, timedelta(0)))
    return identity


def issuer_of(trust_domain: str) -> str:
    """What `identity.issuer` is of a workload, and what a revocation of its id names."""
    return f"{SCHEME}{trust_domain}"


def refused_workload(state: facts_pb2.State, reason: int) -> facts_pb2.Identity:
    """What is said of somebody whose certificate is not believed: nothing of who it was."""
    return facts_pb2.Identity(state=state, problem=Reason(reason).value, source=SOURCE, shown_in=SHOWN_IN)
