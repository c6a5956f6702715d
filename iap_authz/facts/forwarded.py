# SPDX-License-Identifier: Apache-2.0
"""Whose certificate counts as the client's: the one of the handshake, or the one that a proxy in front has seen.

The invariant: a header decides nothing unless the certificate of the connection that it came over proves, by our own
authorities, a proxy that the operator named. Then it must be whole and agree with every certificate that is known, or
nothing of the request is believed. No part of it is used without the rest.

    client --TLS--> front --TLS--> next --TLS--> our Envoy          trusted_hops: 2
                    [client]       [client],[front]  [client],[front],[next]       the elements, one written by each

    the handshake with our Envoy                    the header                       the client's certificate
    ---------------------------------------------------------------------------------------------------------
    no certificate                                  any: a client can write it       none, as the handshake says
    not one of `proxies` by its SPIFFE id           any                              that of the handshake
    one of them, but not proven to be               any                              INVALID  why it is not
    one of them, and the authorities are missing    any                              ERROR    NO_KEYS
    one of them, proven, and revoked                any                              INVALID  CERTIFICATE_REVOKED
    one of them, and revocations cannot be used     any                              ERROR    SOURCE_ERROR
    one of them, proven                             none, or two                     INVALID  MALFORMED_XFCC
    "                                               does not parse                   INVALID  MALFORMED_XFCC
    "                                               the last is not of this peer     INVALID  MALFORMED_XFCC
    "                                               one between is not of `proxies`  INVALID  MALFORMED_XFCC
    "                                               too many or too few elements     INVALID  MALFORMED_XFCC
    "                                               the client's is left out         none, as the front says
    "                                               the client's says nothing        none, as the front says
    "                                               no Cert, other Hash, URI or DNS  INVALID  MALFORMED_XFCC
    "                                               a Cert that is no certificate    INVALID  BAD_CERTIFICATE
    "                                               otherwise                        that of the client's element

The number of elements must be exact: `trusted_hops` of proxies and before them the client's, unless it has shown no
certificate. To count from the end and pass over what comes first would not do: Envoy writes URIs as they are, and a
certificate with a comma in one of them moves everything that was written before it.

`By` is not asked for: the certificate that a proxy serves with need not be the one that it calls with. What the front
verified of the client's certificate is the front's word, as it is Envoy's without a front; `device.authorities_file`
and the trust domains verify it again, as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from cryptography import x509

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, SourceUnavailable
from iap_authz.facts.certificate import check_certificate_time, parse_certificate
from iap_authz.facts.revocation import NOBODY_REVOKED, Kind, RevocationList
from iap_authz.facts.revoked_certificate import check_certificate_not_revoked
from iap_authz.facts.spiffe import SpiffeId, spiffe_id_of
from iap_authz.facts.workload import TrustDomains, check_vouched, issuer_of
from iap_authz.facts.xfcc import XfccElement, parse_xfcc
from iap_authz.model.reason import Reason

SOURCE = "xfcc"
"""Of the facts (facts.proto)."""

_OURS = frozenset({Reason.NO_KEYS, Reason.SOURCE_ERROR})
"""Problems of our own sources; every other one is of what was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """The proxies in front, by SPIFFE id, and how many of them a request passes one after the other (at least one)."""

    proxies: frozenset[str]
    trusted_hops: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is connected to our Envoy: certificate and name as it says, and whether that is one of the proxies.

    `proxy` is the SPIFFE id that was proven, and `sha256` the hash of the certificate that proves it; both empty for
    everybody else. `problem`: it names a proxy, and it is none, or one no longer, or that cannot be told.
    """

    certificate: str
    principal: str
    proxy: str = ""
    sha256: str = ""
    problem: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What counts as the client's certificate (URL-encoded PEM; empty: none) and its name, in the form of Envoy's.

    `forwarded_by` is the SPIFFE id of the proxy whose header was judged; empty: the header is the client's own word.
    `state` is PRESENT or ABSENT as there is a certificate; INVALID or ERROR with a `problem`, and then there is none.
    """

    certificate: str = ""
    principal: str = ""
    forwarded_by: str = ""
    state: facts_pb2.State = facts_pb2.ABSENT
    problem: Reason | None = None


def judge_peer(
    certificate: str,
    principal: str,
    forwarding: Forwarding,
    domains: TrustDomains,
    *,
    revocations: RevocationList | None = NOBODY_REVOKED,
    now: datetime,
) -> Peer:
    """Whether who shows `certificate`, and is called `principal` by our Envoy, is one of the proxies. Never raises."""
    peer = Peer(certificate=certificate, principal=principal)
    found = _id_of(certificate)
    if found is None or found.text not in forwarding.proxies:
        return peer
    parsed = parse_certificate(certificate)
    try:
        check_certificate_time(parsed, now)
        check_vouched(parsed, found, domains, principal=principal, now=now)
    except SourceUnavailable:
        return replace(peer, problem=Reason.NO_KEYS)
    except InvalidCredential as error:
        return replace(peer, problem=Reason(error.reason))
    problem = _revocation_of(certificate, found, parsed.not_before, revocations, now=now)
    if problem is not None:
        return replace(peer, problem=problem)
    return replace(peer, proxy=found.text, sha256=parsed.sha256)


def _id_of(certificate: str) -> SpiffeId | None:
    """The id that a certificate claims; None where there is none, or none that could be a proxy's."""
    if not certificate:
        return None
    try:
        return spiffe_id_of(x509.load_der_x509_certificate(parse_certificate(certificate).der))
    except InvalidCredential:
        return None


def _revocation_of(
    certificate: str, found: SpiffeId, issued_at: datetime, revocations: RevocationList | None, *, now: datetime
) -> Reason | None:
    """Why a proxy is no longer believed: revoked as any workload is, by its certificate or by its id as a subject."""
    try:
        check_certificate_not_revoked(certificate, revocations, now=now)
    except InvalidCredential as error:
        return Reason(error.reason)
    except SourceUnavailable:
        return Reason.SOURCE_ERROR
    name = (Kind.SUBJECT, issuer_of(found.trust_domain), found.text)
    is_revoked = revocations is not None and revocations.revokes(name, issued_at, now)
    return Reason.CERTIFICATE_REVOKED if is_revoked else None


def find_client_certificate(peer: Peer, values: Sequence[str], forwarding: Forwarding) -> ClientCertificate:
    """The client's certificate, by the table above; `values` are those of `x-forwarded-client-cert`. Never raises.

    They are not looked at unless the peer is one of the proxies.
    """
    if peer.problem is not None:
        state = facts_pb2.ERROR if peer.problem in _OURS else facts_pb2.INVALID
        return ClientCertificate(state=state, problem=peer.problem)
    if not peer.proxy:
        state = facts_pb2.PRESENT if peer.certificate else facts_pb2.ABSENT
        return ClientCertificate(certificate=peer.certificate, principal=peer.principal, state=state)
    try:
        element = _client_element(values, forwarding, peer_sha256=peer.sha256)
        if element is None:
            return ClientCertificate(forwarded_by=peer.proxy)
        principal = _check_said(element)
    except InvalidCredential as error:
        return ClientCertificate(forwarded_by=peer.proxy, state=facts_pb2.INVALID, problem=Reason(error.reason))
    return ClientCertificate(
        certificate=element.certificate, principal=principal, forwarded_by=peer.proxy, state=facts_pb2.PRESENT
    )


def _client_element(values: Sequence[str], forwarding: Forwarding, *, peer_sha256: str) -> XfccElement | None:
    """What the front says of the client; None: that it has shown no certificate. Raises InvalidCredential."""
    if len(values) != 1:
        raise _disagreeing(f"got {len(values)} headers of a proxy, want one")
    elements = parse_xfcc(values[0])
    if elements[-1].sha256 != peer_sha256:
        raise _disagreeing("got a last element that is not of the proxy that is connected")
    clients = len(elements) - forwarding.trusted_hops
    if clients not in (0, 1):
        raise _disagreeing(f"got {len(elements)} elements, want {forwarding.trusted_hops} and the client's before them")
    for element in elements[clients:-1]:
        if len(element.uris) != 1 or element.uris[0] not in forwarding.proxies:
            raise _disagreeing("got an element on the way that is of no proxy of ours")
    return None if clients == 0 or elements[0].says_nothing else elements[0]


def _check_said(element: XfccElement) -> str:
    """The name that Envoy would give to the element's certificate, if all that is said of it is so."""
    if not element.certificate:
        raise _disagreeing("got an element of the client without Cert")
    der = parse_certificate(element.certificate).der
    certificate = x509.load_der_x509_certificate(der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    uris = tuple(uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri)
    dns = tuple(names.get_values_for_type(x509.DNSName))
    if element.sha256 != sha256(der).hexdigest():
        raise _disagreeing("got a Hash that is not of the Cert beside it")
    if element.uris != uris or element.dns not in ((), dns):
        raise _disagreeing("got a URI or DNS that the Cert beside it does not have")
    return next(iter((*uris, *dns)), element.subject)


def _disagreeing(message: str) -> InvalidCredential:
    return InvalidCredential(Reason.MALFORMED_XFCC, message)
