# SPDX-License-Identifier: Apache-2.0
"""A client's certificate that a proxy in front has seen: what of it reaches the facts, and what each header costs."""

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from cryptography import x509

from iap_authz.facts import forwarded
from iap_authz.facts.authorities import parse_authorities
from iap_authz.facts.device import DeviceRecord, Inventory
from iap_authz.facts.forwarded import Forwarding
from iap_authz.facts.location import Networks
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.facts.xfcc import XFCC_HEADER
from iap_authz.model.reason import Reason, State, Verdict
from iap_authz.model.request import Request
from iap_authz.policy.compile import load_policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile
from iap_authz.sidecar.snapshot import DeviceSettings, LocationSettings, SecondCache, Snapshot
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import NOT_BEFORE, envoy_form, fingerprint_of
from tests.fakes.tokens import claims, forge, rsa_issuer
from tests.fakes.xfcc import element_of

POLICY = b"""
kind: Policy
name: test
routes:
- name: anybody
  match: {paths: ["/anybody"]}
  allow: [{id: all, when: 'true'}]
- name: orders
  match: {paths: ["/orders"]}
  allow: [{id: orders, when: 'identity.spiffe_id == "spiffe://example.org/orders"'}]
"""
T = TypeVar("T")
NOW = NOT_BEFORE + timedelta(hours=1)
OURS = TestAuthority()
FRONT, ORDERS = "spiffe://example.org/front", "spiffe://example.org/orders"


def svid(spiffe_id: str) -> x509.Certificate:
    return OURS.leaf(x509.UniformResourceIdentifier(spiffe_id))


CLIENT, PROXY = svid(ORDERS), svid(FRONT)
HEADER = f"{element_of(CLIENT)},{element_of(PROXY, cert=False)}"
TOKEN = forge(claims(iat=int(NOW.timestamp()) - 60, exp=int(NOW.timestamp()) + 600))
FORWARDING = Forwarding(proxies=frozenset({FRONT}))


def snapshot(**changes: object) -> Snapshot:
    record = DeviceRecord(id="orders-1", certificate_sha256=(fingerprint_of(CLIENT),), managed=True)
    day = timedelta(days=1)
    made = Snapshot(
        policy=load_policy([SourceFile(name="p.yaml", content=POLICY)]),
        issuers=(),
        device=DeviceSettings(max_inventory_age=day, max_posture_age=day),
        inventory=Inventory(name="inventory", records=(record,), revision=1, taken=NOW),
        location=LocationSettings(
            client_address="peer", geography_configured=False, max_build_age=day, country_field="country"
        ),
        networks=Networks(),
        geography=None,
        trust_domains={"example.org": parse_authorities(OURS.pem(), "bundle.pem")},
        forwarding=FORWARDING,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def asked(*headers: str, peer: x509.Certificate | None = PROXY, principal: str = FRONT, **fields: object) -> Request:
    """What our Envoy sends of a request that `peer` is connected with."""
    defaults: dict[str, object] = {
        "method": "GET",
        "host": "h",
        "path": "/anybody",
        "segments": ("anybody",),
        "headers": {XFCC_HEADER: headers} if headers else {},
        "peer_address": "192.0.2.7",
        "certificate": "" if peer is None else envoy_form(peer),
        "principal": principal,
    }
    return Request(**{**defaults, **fields})  # type: ignore[arg-type]


def test_the_clients_certificate_is_device_and_workload_and_the_record_says_whose_word_it_is() -> None:
    facts = snapshot().establish(asked(HEADER), NOW)
    assert (facts.device.state, facts.device.id, facts.device.managed) == (State.PRESENT, "orders-1", True)
    assert (facts.identity.state, facts.identity.spiffe_id, facts.identity.source) == (State.PRESENT, ORDERS, "xfcc")
    assert (facts.request.principal, facts.request.forwarded_by) == (ORDERS, FRONT)
    assert facts.request.state == State.PRESENT
    assert XFCC_HEADER not in facts.request.untrusted, "what was judged is no claim"


def test_what_is_not_configured_is_not_read() -> None:
    made = snapshot(forwarding=None)
    with_header, without = (made.establish(asked(*headers), NOW) for headers in ((HEADER,), ()))
    assert with_header == without
    assert (with_header.identity.spiffe_id, with_header.identity.source) == (FRONT, "mtls")
    assert not with_header.request.HasField("forwarded_by")
    assert with_header.device.certificate_sha256 == fingerprint_of(PROXY)


@pytest.mark.parametrize(
    ("peer", "principal"), [(svid("spiffe://example.org/mallory"), "spiffe://example.org/mallory"), (None, "")]
)
def test_a_forged_header_is_recorded_as_what_the_client_claims(peer: x509.Certificate | None, principal: str) -> None:
    facts = snapshot().establish(asked(HEADER, peer=peer, principal=principal), NOW)
    assert facts.identity.spiffe_id == principal
    assert facts.identity.source == ("mtls" if peer else "")
    assert facts.device.state == State.ABSENT
    assert not facts.request.HasField("forwarded_by")
    assert facts.request.untrusted[XFCC_HEADER].startswith(HEADER[:100])


def test_what_a_client_claims_is_recorded_in_part_and_without_nul() -> None:
    facts = snapshot().establish(asked("a\0b" + "c" * 10_000, peer=None, principal=""), NOW)
    assert facts.request.untrusted[XFCC_HEADER].startswith("a\N{REPLACEMENT CHARACTER}bccc")
    assert facts.request.untrusted[XFCC_HEADER].endswith("... (10003 characters)")


def test_a_client_without_a_certificate_behind_a_proxy_is_not_the_proxy() -> None:
    facts = snapshot().establish(asked(element_of(PROXY)), NOW)
    assert (facts.identity.state, facts.device.state) == (State.ABSENT, State.ABSENT)
    assert not facts.device.HasField("certificate_sha256")
    assert (facts.request.forwarded_by, facts.request.principal) == (FRONT, "")


REFUSED = [
    (("rubbish",), Reason.MALFORMED_XFCC),
    ((), Reason.MALFORMED_XFCC),
    ((HEADER, HEADER), Reason.MALFORMED_XFCC),
    ((f'Hash={fingerprint_of(CLIENT)};Cert="rubbish",{element_of(PROXY)}',), Reason.BAD_CERTIFICATE),
]


@pytest.mark.parametrize(("headers", "reason"), REFUSED)
@pytest.mark.parametrize("devices", [True, False])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_header_of_a_proxy_that_is_false_is_refused_on_every_route(
    headers: tuple[str, ...], reason: Reason, *, devices: bool, token: str
) -> None:
    made = snapshot(issuers=(rsa_issuer(),)) if devices else snapshot(issuers=(rsa_issuer(),), device=None)
    shown = ({XFCC_HEADER: headers} if headers else {}) | ({"authorization": (f"Bearer {token}",)} if token else {})
    facts = made.establish(asked(headers=shown), NOW)
    assert (facts.device.state, facts.device.problem, facts.device.source) == (State.INVALID, reason, "xfcc")
    assert facts.identity.state == (State.PRESENT if token else State.INVALID)
    decision = evaluate(made.policy, facts)
    assert (decision.verdict, decision.reason) == (Verdict.DENY, reason), "a good token does not excuse it"
    assert (XFCC_HEADER in facts.request.untrusted) is bool(headers)


def test_missing_authorities_are_an_error_and_not_nobody() -> None:
    made = snapshot(trust_domains={"example.org": None})
    facts = made.establish(asked(HEADER), NOW)
    assert (facts.identity.state, facts.identity.problem) == (State.ERROR, Reason.NO_KEYS)
    assert (facts.device.state, facts.device.problem) == (State.ERROR, Reason.SOURCE_ERROR)
    bare = snapshot(trust_domains={"example.org": None}, device=None).establish(asked(HEADER), NOW)
    assert (bare.device.state, bare.device.problem) == (State.ERROR, Reason.SOURCE_ERROR), "nor where none is asked"
    refused = evaluate(made.policy, made.establish(asked(HEADER, path="/orders", segments=("orders",)), NOW))
    assert (refused.verdict, refused.reason) == (Verdict.UNDECIDED, Reason.NO_KEYS)


@pytest.mark.parametrize(
    ("revocations", "state"),
    [
        (RevocationList(entries=(Revocation(kind=Kind.CERTIFICATE, value="0" * 64),)), State.ERROR),
        (RevocationList(entries=(Revocation(kind=Kind.API_KEY, value="0" * 16),)), State.PRESENT),
        (RevocationList(), State.PRESENT),
        (None, State.ERROR),
    ],
    ids=["certificates", "keys", "none", "no-list"],
)
def test_a_certificate_that_cannot_be_told_excuses_nobody_whom_it_might_refuse(
    revocations: RevocationList | None, state: State
) -> None:
    made = snapshot(trust_domains={"example.org": None}, device=None, revocations=revocations, issuers=(rsa_issuer(),))
    facts = made.establish(asked(headers={"authorization": (f"Bearer {TOKEN}",), XFCC_HEADER: (HEADER,)}), NOW)
    assert facts.identity.state == state
    assert len(facts.identity.token_sha256) == 32


def test_a_workload_that_is_refused_is_refused_as_what_the_proxy_said() -> None:
    stranger = TestAuthority(name="theirs").leaf(x509.UniformResourceIdentifier(ORDERS))
    facts = snapshot().establish(asked(f"{element_of(stranger)},{element_of(PROXY)}"), NOW)
    assert (facts.identity.state, facts.identity.problem) == (State.INVALID, Reason.UNTRUSTED_CERTIFICATE)
    assert (facts.identity.source, facts.request.forwarded_by) == ("xfcc", FRONT)


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Calls of a function of `forwarded` by a snapshot, as they come."""
    calls: list[object] = []
    real = getattr(forwarded, name)

    def counting(*arguments: object, **more: object) -> object:
        calls.append(arguments)
        return real(*arguments, **more)

    monkeypatch.setattr(f"iap_authz.sidecar.snapshot.{name}", counting)
    return calls


def test_a_header_is_judged_once_a_second_and_the_answer_is_of_all_that_was_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged, peers = counted(monkeypatch, "find_client_certificate"), counted(monkeypatch, "judge_peer")
    made = snapshot()
    for milliseconds in (0, 400, 999):
        assert made.establish(asked(HEADER), NOW + timedelta(milliseconds=milliseconds)).identity.spiffe_id == ORDERS
    assert (len(judged), len(peers)) == (1, 1)
    later = NOW + timedelta(seconds=1)
    assert made.establish(asked(HEADER), later).identity.spiffe_id == ORDERS
    assert (len(judged), len(peers)) == (2, 2)
    for request in (asked(HEADER, HEADER), asked(HEADER[:9], HEADER[9:]), asked(HEADER[1:])):
        assert made.establish(request, later).device.state == State.INVALID
    other = svid(FRONT)
    assert made.establish(asked(HEADER, peer=other), later).device.state == State.INVALID, "of another certificate"
    assert made.establish(asked(HEADER, principal="CN=x"), later).device.state == State.INVALID, "of another name"
    assert made.establish(asked(HEADER), later).identity.spiffe_id == ORDERS
    assert (len(judged), len(peers)) == (7, 4)
    dataclasses.replace(made, forwarding=None).establish(asked(HEADER), NOW)
    assert (len(judged), len(peers)) == (7, 4)


class Watched(SecondCache):
    """A cache that tells what is kept in it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: set[tuple[str, str]] = set()

    def get(self, second: datetime, family: str, *, text: str, establish: Callable[[], T]) -> T:
        """The same, noted."""
        self.kept.add((family, text))
        return super().get(second, family, text=text, establish=establish)


def test_headers_of_strangers_take_no_room() -> None:
    cache = Watched()
    made = snapshot(recent=cache)
    long = [f"Hash={number:064x}" + ",By=a" * 1_000 for number in range(20)]
    for header in long:
        for peer in (None, CLIENT):
            made.establish(asked(header, peer=peer, principal=""), NOW)
    assert {family for family, _ in cache.kept} == {"peer", "workload", "device", "location"}
    assert len([1 for family, _ in cache.kept if family == "peer"]) == 2
    for header in long:
        made.establish(asked(header), NOW)
    lengths = [len(text) for family, text in cache.kept if family == "certificate"]
    assert len(lengths) == 20
    assert max(lengths) < 200
