# SPDX-License-Identifier: Apache-2.0
"""Revocation of client certificates: genuine, within their time, and not to be believed any more.

The invariant: a certificate that Envoy shows is looked up in the list that is in force on each request, also on a
connection, or in a TLS session, that is older than the list. What is shown and revoked is refused on every route,
whoever else the request says it is. Without a list nothing that rests on a certificate is cleared.

    certificate_sha256            one certificate: the hash of its DER
    issuer, certificate_serial    one certificate: serial numbers are unique within an authority only (RFC 5280 4.1.2.2)

    listed at `now`               INVALID  CERTIFICATE_REVOKED
    the list cannot be used       ERROR    SOURCE_ERROR
    does not parse                INVALID  BAD_CERTIFICATE     where the list names any certificate at all

A list that names no certificate has nothing parsed. What makes the family INVALID before this keeps its own reason;
what is merely old, missing or unknown does not outrank a revocation.

Deliberately not here: revocation lists and OCSP of authorities. That is Envoy's to check in the handshake; a resumed
session has none.
"""

from datetime import datetime

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, SourceUnavailable
from iap_authz.facts.certificate import parse_certificate
from iap_authz.facts.distinguished import issuer_of
from iap_authz.facts.revocation import CERTIFICATE_KINDS, Kind, Name, RevocationList
from iap_authz.facts.workload import refused_workload
from iap_authz.model.reason import Reason


def judge_device(
    device: facts_pb2.Device, certificate: str, revocations: RevocationList | None, *, now: datetime
) -> None:
    """Make the facts INVALID if `certificate` is revoked at `now`, ERROR if that is not known.

    `certificate` is what Envoy shows (URL-encoded PEM; empty: none), also where no inventory is asked.
    """
    if device.state == facts_pb2.INVALID:
        return
    try:
        check_certificate_not_revoked(certificate, revocations, now=now)
    except InvalidCredential as error:
        _show(device, certificate)
        device.state, device.problem = facts_pb2.INVALID, Reason(error.reason).value
    except SourceUnavailable:
        device.state, device.problem = facts_pb2.ERROR, Reason.SOURCE_ERROR.value


def judge_workload(
    identity: facts_pb2.Identity, certificate: str, revocations: RevocationList | None, *, now: datetime
) -> None:
    """The same for an identity that `certificate` proved. One that is not PRESENT stays as it is."""
    if identity.state != facts_pb2.PRESENT:
        return
    try:
        check_certificate_not_revoked(certificate, revocations, now=now)
    except InvalidCredential as error:
        identity.CopyFrom(refused_workload(facts_pb2.INVALID, error.reason))
    except SourceUnavailable:
        identity.CopyFrom(refused_workload(facts_pb2.ERROR, Reason.SOURCE_ERROR))


def check_certificate_not_revoked(certificate: str, revocations: RevocationList | None, *, now: datetime) -> None:
    """Raise InvalidCredential if `certificate` is revoked at `now`, or SourceUnavailable without a list."""
    if not certificate:
        return
    if revocations is None:
        raise SourceUnavailable("got no list of revocations, want one before a certificate is believed")
    if not revocations.kinds & CERTIFICATE_KINDS:
        return
    parsed = parse_certificate(certificate)
    names: list[Name] = [(Kind.CERTIFICATE, "", parsed.sha256)]
    if Kind.SERIAL in revocations.kinds:
        names.append((Kind.SERIAL, issuer_of(parsed.der), parsed.serial))
    if any(revocations.revokes(name, None, now) for name in names):
        raise InvalidCredential(Reason.CERTIFICATE_REVOKED, "the client certificate is revoked")


def _show(device: facts_pb2.Device, certificate: str) -> None:
    """Say which certificate was refused, as far as it parses: an inventory may not have been asked."""
    try:
        parsed = parse_certificate(certificate)
    except InvalidCredential:
        return
    device.certificate_sha256, device.certificate_serial = parsed.sha256, parsed.serial
    device.certificate_not_after.FromDatetime(parsed.not_after)
