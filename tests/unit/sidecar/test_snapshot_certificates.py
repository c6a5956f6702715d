# SPDX-License-Identifier: Apache-2.0
"""A revoked certificate in one generation: refused on every route, whoever the request says it is (corpus row 205)."""

import dataclasses
from datetime import timedelta

from cryptography import x509

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.authorities import parse_authorities
from iap_authz.facts.location import Networks
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.model.decision import Decision
from iap_authz.model.reason import Reason, Verdict
from iap_authz.model.request import Request
from iap_authz.model.status import http_status
from iap_authz.policy.compile import load_policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile
from iap_authz.sidecar.snapshot import LocationSettings, Snapshot
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import NOT_BEFORE, envoy_form, fingerprint_of
from tests.fakes.tokens import claims, forge, rsa_issuer

POLICY = b"""
kind: Policy
name: test
routes:
- {name: open, match: {paths: ["/open"]}, allow: [{id: all, when: 'true'}]}
- {name: known, match: {paths: ["/known"]}, allow: [{id: known, when: 'identity.subject != ""'}]}
- {name: device, match: {paths: ["/device"]}, allow: [{id: none, when: 'device.state == ABSENT'}]}
- {name: managed, match: {paths: ["/managed"]}, allow: [{id: managed, when: 'device.managed'}]}
"""
NOW = NOT_BEFORE + timedelta(hours=1)
AUTHORITY = TestAuthority()
LEAF = AUTHORITY.leaf(x509.UniformResourceIdentifier("spiffe://example.org/orders"))
TOKEN = forge(claims(iat=int(NOW.timestamp()) - 60, exp=int(NOW.timestamp()) + 600))


def snapshot(revocations: RevocationList | None) -> Snapshot:
    """A generation without an inventory of devices."""
    return Snapshot(
        policy=load_policy([SourceFile(name="p.yaml", content=POLICY)]),
        issuers=(rsa_issuer(),),
        device=None,
        inventory=None,
        location=LocationSettings(
            client_address="peer", geography_configured=False, max_build_age=timedelta(days=1), country_field="country"
        ),
        networks=Networks(),
        geography=None,
        trust_domains={"example.org": parse_authorities(AUTHORITY.pem(), "bundle.pem")},
        revocations=revocations,
    )


def asked(path: str, *, token: str = "", certificate: str = envoy_form(LEAF)) -> Request:
    return Request(
        method="GET",
        host="h",
        path=path,
        segments=(path[1:],),
        headers={"authorization": (f"Bearer {token}",)} if token else {},
        peer_address="192.0.2.7",
        certificate=certificate,
    )


def decide(made: Snapshot, request: Request) -> Decision:
    return evaluate(made.policy, made.establish(request, NOW))


def revoking(until: timedelta | None = None) -> RevocationList:
    ends = NOW + until if until is not None else None
    return RevocationList(entries=(Revocation(kind=Kind.CERTIFICATE, value=fingerprint_of(LEAF), until=ends),))


def test_what_is_shown_and_revoked_is_refused_everywhere_also_beside_a_good_token() -> None:
    good, revoked = snapshot(RevocationList()), snapshot(revoking())
    for path in ("/open", "/known"):
        for token in ("", TOKEN):
            assert decide(good, asked(path, token=token)).verdict is Verdict.ALLOW
            refused = decide(revoked, asked(path, token=token))
            assert (refused.verdict, refused.reason) == (Verdict.DENY, Reason.CERTIFICATE_REVOKED)
            assert http_status(refused, wants="json") == 403
        assert decide(revoked, asked(path, token=TOKEN, certificate="")).verdict is Verdict.ALLOW


def test_a_certificate_that_was_good_in_this_second_is_refused_by_the_next_list() -> None:
    made = snapshot(RevocationList())
    for _ in range(2):
        assert made.establish(asked("/known"), NOW).identity.kind == "workload"
    renewed = dataclasses.replace(made, revocations=revoking(), recent=type(made.recent)())
    facts = renewed.establish(asked("/known"), NOW)
    assert [facts.identity.problem, facts.device.problem] == [Reason.CERTIFICATE_REVOKED] * 2


def test_a_revocation_ends_within_its_second() -> None:
    made = snapshot(revoking(until=timedelta(seconds=1)))
    assert decide(made, asked("/open")).verdict is Verdict.DENY
    assert evaluate(made.policy, made.establish(asked("/open"), NOW + timedelta(seconds=1))).verdict is Verdict.ALLOW


def test_without_the_list_no_rule_learns_anything_of_a_certificate() -> None:
    made = snapshot(None)
    facts = made.establish(asked("/known"), NOW)
    assert (facts.identity.state, facts.device.state) == (facts_pb2.ERROR, facts_pb2.ERROR)
    verdicts = {path: decide(made, asked(path)).verdict for path in ("/open", "/known", "/device", "/managed")}
    assert verdicts == {
        "/open": Verdict.ALLOW,
        "/known": Verdict.UNDECIDED,
        "/device": Verdict.DENY,
        "/managed": Verdict.UNDECIDED,
    }
    assert made.establish(asked("/device", certificate=""), NOW).device.state == facts_pb2.ABSENT
