# SPDX-License-Identifier: Apache-2.0
"""Revoked certificates: refused wherever they are shown, cleared by nothing but a list that is in force."""

from datetime import timedelta

import pytest
from cryptography import x509

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, SourceUnavailable
from iap_authz.facts import revoked_certificate
from iap_authz.facts.authorities import parse_authorities
from iap_authz.facts.certificate import ClientCertificate
from iap_authz.facts.device import DeviceRecord, Inventory, establish_device
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.facts.revoked_certificate import check_certificate_not_revoked, judge_device, judge_workload
from iap_authz.facts.workload import establish_workload
from iap_authz.model.reason import Reason
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import NOT_BEFORE, envoy_form, fingerprint_of, make_certificate

SPIFFE_ID = "spiffe://example.org/orders"
AUTHORITY = TestAuthority(name="Example CA")
LEAF = AUTHORITY.leaf(x509.UniformResourceIdentifier(SPIFFE_ID))
SHOWN = envoy_form(LEAF)
SERIAL = LEAF.serial_number.to_bytes((LEAF.serial_number.bit_length() + 7) // 8, "big").hex()
NOW = NOT_BEFORE + timedelta(hours=1)
DAY = timedelta(days=1)

BY_HASH = Revocation(kind=Kind.CERTIFICATE, value=fingerprint_of(LEAF))
BY_SERIAL = Revocation(kind=Kind.SERIAL, issuer="CN=Example CA", value=SERIAL)
ENTRIES = pytest.mark.parametrize("entry", [BY_HASH, BY_SERIAL], ids=["hash", "serial"])

OTHERS = (
    Revocation(kind=Kind.CERTIFICATE, value="ab" * 32),
    Revocation(kind=Kind.SERIAL, issuer="CN=Example CA", value="0a1b"),
    Revocation(kind=Kind.SERIAL, issuer="CN=Another CA", value=SERIAL),
    Revocation(kind=Kind.SUBJECT, issuer="CN=Example CA", value=SERIAL),
    Revocation(kind=Kind.TOKEN_ID, issuer="CN=Example CA", value=fingerprint_of(LEAF)),
)


def listed(*entries: Revocation) -> RevocationList:
    return RevocationList(entries=entries)


def inventory(**fields: object) -> Inventory:
    record = DeviceRecord(id="d", certificate_sha256=(fingerprint_of(LEAF),), posture_time=NOW, **fields)  # type: ignore[arg-type]
    return Inventory(name="inventory", records=(record,), revision=1, taken=NOW)


def device(
    *entries: Revocation, known: Inventory | None = None, shown: str = SHOWN, missing: bool = False
) -> facts_pb2.Device:
    """The facts of who shows `shown`, where the inventory is `known`."""
    found = establish_device(shown, known, NOW, max_posture_age=DAY, max_inventory_age=DAY)
    judge_device(found, shown, None if missing else listed(*entries), now=NOW)
    return found


def workload(*entries: Revocation, missing: bool = False) -> facts_pb2.Identity:
    domains = {"example.org": parse_authorities(AUTHORITY.pem(), "bundle.pem")}
    found = establish_workload(SHOWN, SPIFFE_ID, domains, NOW)
    assert found.state == facts_pb2.PRESENT
    judge_workload(found, SHOWN, None if missing else listed(*entries), now=NOW)
    return found


def outcome(found: facts_pb2.Device | facts_pb2.Identity) -> tuple[int, int]:
    return found.state, found.problem


REVOKED = (facts_pb2.INVALID, Reason.CERTIFICATE_REVOKED)
UNKNOWN = (facts_pb2.ERROR, Reason.SOURCE_ERROR)


@ENTRIES
def test_a_revoked_certificate_is_no_device_and_no_workload(entry: Revocation) -> None:
    assert outcome(device(entry, known=inventory())) == REVOKED
    refused = workload(entry)
    assert outcome(refused) == REVOKED
    assert (refused.source, refused.subject, refused.issuer, refused.spiffe_id) == ("mtls", "", "", "")
    assert not refused.HasField("issued_at")


def test_another_certificate_is_not_revoked() -> None:
    assert device(*OTHERS, known=inventory()).state == facts_pb2.PRESENT
    assert workload(*OTHERS).state == facts_pb2.PRESENT
    reissued = envoy_form(AUTHORITY.leaf(x509.UniformResourceIdentifier(SPIFFE_ID)))
    check_certificate_not_revoked(reissued, listed(BY_HASH, BY_SERIAL), now=NOW)


@ENTRIES
def test_it_outranks_what_is_unknown_old_or_missing(entry: Revocation) -> None:
    nobody = Inventory(name="inventory", records=(), revision=1, taken=NOW)
    stale = Inventory(name="inventory", records=(), revision=1, taken=NOW - 2 * DAY)
    for known in (nobody, stale, None):
        found = device(entry, known=known)
        assert outcome(found) == REVOKED
        assert (found.certificate_sha256, found.certificate_serial) == (fingerprint_of(LEAF), SERIAL)
        assert found.HasField("certificate_not_after")


@ENTRIES
def test_without_an_inventory_it_is_refused_and_named(entry: Revocation) -> None:
    found = facts_pb2.Device(state=facts_pb2.ABSENT)
    judge_device(found, SHOWN, listed(entry), now=NOW)
    assert outcome(found) == REVOKED
    assert (found.certificate_sha256, found.certificate_serial) == (fingerprint_of(LEAF), SERIAL)
    good = facts_pb2.Device(state=facts_pb2.ABSENT)
    judge_device(good, SHOWN, listed(*OTHERS), now=NOW)
    assert good == facts_pb2.Device(state=facts_pb2.ABSENT)


def test_what_was_wrong_before_keeps_its_reason() -> None:
    assert outcome(device(BY_HASH, known=inventory(revoked=True))) == (facts_pb2.INVALID, Reason.DEVICE_REVOKED)
    assert outcome(device(known=inventory(lost=True), missing=True)) == (facts_pb2.INVALID, Reason.DEVICE_REVOKED)
    absent = facts_pb2.Identity(state=facts_pb2.ABSENT)
    judge_workload(absent, SHOWN, None, now=NOW)
    assert absent.state == facts_pb2.ABSENT


def test_without_the_list_nothing_that_rests_on_a_certificate_is_cleared() -> None:
    assert outcome(device(known=inventory(), missing=True)) == UNKNOWN
    assert outcome(workload(missing=True)) == UNKNOWN
    unasked = facts_pb2.Device(state=facts_pb2.ABSENT)
    judge_device(unasked, SHOWN, None, now=NOW)
    assert outcome(unasked) == UNKNOWN
    with pytest.raises(SourceUnavailable):
        check_certificate_not_revoked(SHOWN, None, now=NOW)


def test_who_shows_no_certificate_is_not_asked_for_one() -> None:
    for revocations in (None, listed(BY_HASH)):
        found = facts_pb2.Device(state=facts_pb2.ABSENT)
        judge_device(found, "", revocations, now=NOW)
        assert found == facts_pb2.Device(state=facts_pb2.ABSENT)


@ENTRIES
def test_until_is_the_first_instant_that_is_not_revoked(entry: Revocation) -> None:
    until = Revocation(kind=entry.kind, issuer=entry.issuer, value=entry.value, until=NOW)
    with pytest.raises(InvalidCredential):
        check_certificate_not_revoked(SHOWN, listed(until), now=NOW - timedelta(seconds=1))
    check_certificate_not_revoked(SHOWN, listed(until), now=NOW)


def test_the_issuer_is_found_however_it_is_written() -> None:
    for issuer in ("cn=example ca", "2.5.4.3=Example CA", "CN = Example  CA"):
        with pytest.raises(InvalidCredential):
            check_certificate_not_revoked(
                SHOWN, listed(Revocation(kind=Kind.SERIAL, issuer=issuer, value=SERIAL)), now=NOW
            )


def test_a_list_that_names_no_certificate_has_nothing_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> ClientCertificate:
        raise AssertionError("parsed")

    monkeypatch.setattr(revoked_certificate, "parse_certificate", refuse)
    sub = Revocation(kind=Kind.SUBJECT, issuer="i", value="ada")
    for entries in ((), (sub,)):
        check_certificate_not_revoked("garbage", listed(*entries), now=NOW)
    with pytest.raises(AssertionError, match="parsed"):
        check_certificate_not_revoked("garbage", listed(sub, BY_HASH), now=NOW)


def test_an_issuer_is_read_only_for_serial_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(revoked_certificate, "issuer_of")
    check_certificate_not_revoked(SHOWN, listed(OTHERS[0]), now=NOW)
    with pytest.raises(NameError):
        check_certificate_not_revoked(SHOWN, listed(OTHERS[1]), now=NOW)


def test_one_that_does_not_parse_is_refused_once_the_list_names_any() -> None:
    found = facts_pb2.Device(state=facts_pb2.ABSENT)
    judge_device(found, "garbage", listed(*OTHERS), now=NOW)
    assert outcome(found) == (facts_pb2.INVALID, Reason.BAD_CERTIFICATE)


def test_the_highest_bit_of_a_serial_number_adds_no_byte() -> None:
    made = make_certificate(serial=0x80FF, common_name="laptop-1")
    entry = Revocation(kind=Kind.SERIAL, issuer="CN=laptop-1", value="80ff")
    with pytest.raises(InvalidCredential, match="is revoked"):
        check_certificate_not_revoked(envoy_form(made), listed(entry), now=NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": Kind.SERIAL, "value": "0a"},
        {"kind": Kind.SERIAL, "value": "0a", "issuer": "Example CA"},
        {"kind": Kind.SERIAL, "value": "0a", "issuer": "CN=Example CA", "before": NOW},
        {"kind": Kind.CERTIFICATE, "value": "ab" * 32, "issuer": "CN=Example CA"},
        {"kind": Kind.CERTIFICATE, "value": "ab" * 32, "before": NOW},
    ],
    ids=str,
)
def test_an_entry_that_means_nothing_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        Revocation(**fields)  # type: ignore[arg-type]
