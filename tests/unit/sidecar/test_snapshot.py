# SPDX-License-Identifier: Apache-2.0
"""One generation: nothing in it outlives its sources, its tokens or its second (hostile rows 188, 214)."""

import dataclasses
from datetime import datetime, timedelta

from envoy.service.auth.v3 import external_auth_pb2

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.adapters.envoy.response import render_answer
from iap_authz.facts.authorities import parse_authorities
from iap_authz.facts.credential import Place, TokenSource
from iap_authz.facts.device import DeviceRecord, Inventory
from iap_authz.facts.location import Networks
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from iap_authz.model.reason import Reason, State, Verdict
from iap_authz.model.request import Request
from iap_authz.policy.compile import load_policy
from iap_authz.policy.evaluate import evaluate
from iap_authz.policy.source import SourceFile
from iap_authz.policy_wiring import keep_from_upstream
from iap_authz.ports import Answer
from iap_authz.sidecar import snapshot as snapshot_module
from iap_authz.sidecar.snapshot import DeviceSettings, LocationSettings, Snapshot, TokenCache
from tests.fakes.api_keys import KEY, KEY_ID, access, api_key
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import NOT_BEFORE, envoy_form, fingerprint_of, make_certificate
from tests.fakes.geography import country_record, geography_of, networks_of
from tests.fakes.tokens import ISSUER, NOW, NOW_S, claims, forge, jwk, key_set, rsa_issuer, rsa_key

POLICY = b"""
kind: Policy
name: test
routes:
- name: r
  match: {paths: ["/a/{id}"]}
  allow: [{id: x, when: 'request.headers["x-role"] == "user" && request.captures["id"] == "7"'}]
"""
CERTIFICATE = make_certificate()


def inventory(**fields: object) -> Inventory:
    record = DeviceRecord(
        id="laptop",
        certificate_sha256=(fingerprint_of(CERTIFICATE),),
        managed=True,
        posture_time=NOW,
        **fields,  # type: ignore[arg-type]
    )
    return Inventory(name="inventory", records=(record,), revision=1, taken=NOW)


def snapshot(**changes: object) -> Snapshot:
    made = Snapshot(
        policy=load_policy([SourceFile(name="p.yaml", content=POLICY)]),
        issuers=(rsa_issuer(),),
        device=DeviceSettings(max_inventory_age=timedelta(days=1), max_posture_age=timedelta(days=1)),
        inventory=inventory(),
        location=LocationSettings(
            client_address="envoy",
            geography_configured=True,
            max_build_age=timedelta(days=9999),
            country_field="country",
        ),
        networks=networks_of(office=["198.51.100.0/24"]),
        geography=geography_of({"192.0.2.7": country_record("DE")}, built=NOW - timedelta(days=1)),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def asked(token: str = "", **fields: object) -> Request:
    headers: dict[str, tuple[str, ...]] = {"x-role": ("user",)}
    if token:
        headers["authorization"] = (f"Bearer {token}",)
    defaults: dict[str, object] = {
        "method": "GET",
        "host": "h",
        "path": "/a/7",
        "segments": ("a", "7"),
        "headers": headers,
        "peer_address": "192.0.2.7",
        "certificate": envoy_form(CERTIFICATE),
    }
    return Request(**{**defaults, **fields})  # type: ignore[arg-type]


def test_facts_are_whole_and_now_is_a_whole_second() -> None:
    facts = snapshot().establish(asked(forge()), NOW + timedelta(milliseconds=700))
    assert facts.now.ToDatetime(NOW.tzinfo) == NOW
    assert [getattr(facts, name).state for name in ("identity", "device", "location", "request")] == [State.PRESENT] * 4
    assert (facts.device.id, facts.location.country) == ("laptop", "DE")
    assert dict(facts.request.headers) == {"x-role": "user"}
    assert dict(facts.request.captures) == {"id": "7"}


def test_cached_token_ages_and_expires_on_time() -> None:
    made = snapshot()
    token = forge(claims(iat=NOW_S, exp=NOW_S + 60))
    assert made.establish(asked(token), NOW).identity.age.ToTimedelta() == timedelta(0)
    later = made.establish(asked(token), NOW + timedelta(seconds=59)).identity
    assert (later.state, later.age.ToTimedelta()) == (State.PRESENT, timedelta(seconds=59))
    over = made.establish(asked(token), NOW + timedelta(seconds=60) + rsa_issuer().skew).identity
    assert (over.state, over.problem) == (State.INVALID, Reason.EXPIRED)


def test_cached_token_is_the_whole_token() -> None:
    made = snapshot()
    good = forge()
    assert made.establish(asked(good), NOW).identity.state == State.PRESENT
    for changed in (good[:-4] + "AAAA", good + "A", "A" + good):
        assert made.establish(asked(changed), NOW).identity.state == State.INVALID


def test_what_one_request_does_to_its_facts_reaches_no_other() -> None:
    made = snapshot()
    first = made.establish(asked(forge()), NOW)
    first.identity.groups.append("admin")
    first.device.managed = False
    first.location.country = "XX"
    second = made.establish(asked(forge()), NOW)
    assert "admin" not in second.identity.groups
    assert (second.device.managed, second.location.country) == (True, "DE")


def revoking(**fields: str) -> RevocationList:
    kind = Kind(next(iter(fields)))
    issuer = "" if kind is Kind.API_KEY else ISSUER
    return RevocationList(entries=(Revocation(kind=kind, issuer=issuer, value=fields[kind.value]),))


def test_a_cached_token_is_revoked_at_once_and_comes_back_as_it_was() -> None:
    made, token = snapshot(), forge(claims(sid="session-1"))
    good = made.establish(asked(token), NOW).identity
    for revocations in (revoking(sub="ada"), revoking(sid="session-1"), revoking(kid="one")):
        renewed = dataclasses.replace(made, revocations=revocations)
        assert renewed.tokens is made.tokens
        refused = renewed.establish(asked(token), NOW).identity
        assert (refused.state, refused.problem) == (State.INVALID, Reason.TOKEN_REVOKED)
    assert made.establish(asked(token), NOW).identity == good


def test_a_token_that_is_seen_for_the_first_time_is_revoked_too() -> None:
    made = snapshot(revocations=revoking(sub="ada"))
    for _ in range(2):
        assert made.establish(asked(forge()), NOW).identity.problem == Reason.TOKEN_REVOKED
    assert made.establish(asked(forge(claims(sub="bob"))), NOW).identity.state == State.PRESENT


def test_without_the_list_a_good_credential_is_an_error_and_a_bad_one_is_bad() -> None:
    made, gone = snapshot(api_keys=access()), {"revocations": None}
    for request in (asked(forge()), with_key(KEY)):
        assert made.establish(request, NOW).identity.state == State.PRESENT
        unknown = dataclasses.replace(made, **gone).establish(request, NOW).identity  # type: ignore[arg-type]
        assert (unknown.state, unknown.problem) == (State.ERROR, Reason.SOURCE_ERROR)
    bad = dataclasses.replace(made, **gone).establish(asked("x"), NOW).identity  # type: ignore[arg-type]
    assert bad.state == State.INVALID
    assert dataclasses.replace(made, **gone).establish(asked(), NOW).identity.state == State.ABSENT  # type: ignore[arg-type]


def with_key(*values: str) -> Request:
    return asked(headers={"x-role": ("user",), "x-api-key": values})


def test_an_api_key_is_kept_ages_expires_and_is_revoked_like_a_token() -> None:
    made = snapshot(api_keys=access(api_key(expires=NOW + timedelta(seconds=60))))
    first = made.establish(with_key(KEY), NOW).identity
    assert made.tokens.get(f"header:x-api-key {KEY}", NOW) == first
    later = made.establish(with_key(KEY), NOW + timedelta(seconds=59)).identity
    assert (later.state, later.age.ToTimedelta() - first.age.ToTimedelta()) == (State.PRESENT, timedelta(seconds=59))
    renewed = dataclasses.replace(made, revocations=revoking(api_key=KEY_ID))
    assert renewed.establish(with_key(KEY), NOW).identity.problem == Reason.TOKEN_REVOKED
    over = made.establish(with_key(KEY), NOW + timedelta(seconds=60)).identity
    assert (over.state, over.problem) == (State.INVALID, Reason.EXPIRED)
    assert made.establish(with_key(KEY[:-1] + "f"), NOW).identity.problem == Reason.BAD_API_KEY


def test_the_key_in_a_bearer_is_not_found_in_the_cache() -> None:
    made = snapshot(api_keys=access())
    assert made.establish(with_key(KEY), NOW).identity.state == State.PRESENT
    assert made.establish(asked(KEY), NOW).identity.problem == Reason.MALFORMED_TOKEN


def test_a_key_never_reaches_the_upstream() -> None:
    made = snapshot(api_keys=access())
    policy = keep_from_upstream(made.policy, frozenset({"x-api-key"}))
    decision = evaluate(policy, made.establish(with_key(KEY), NOW))
    assert (decision.verdict, decision.remove_headers) == (Verdict.ALLOW, ("x-api-key",))
    assert policy.digest == made.policy.digest
    request = asked(headers={"x-role": ("user",), "x-api-key": (KEY,), "X_Api.Key": ("other",)})
    response = external_auth_pb2.CheckResponse.FromString(
        render_answer(Answer(decision=decision, audit_id="id"), request)
    )
    assert set(response.ok_response.headers_to_remove) == {"x-api-key", "X_Api.Key"}
    assert evaluate(made.policy, made.establish(with_key(KEY), NOW)).remove_headers == ()


def test_a_token_of_the_query_is_judged_and_not_kept() -> None:
    sources = (TokenSource(place=Place.QUERY, name="access_token"),)
    made, token = snapshot(token_sources=sources), forge()
    query = f"a=1&access_token={token}"
    for problem in (None, Reason.MALFORMED_METHOD):
        request = Request(path="/", query=query, raw_path=f"/?{query}", problem=problem)
        facts = made.establish(request, NOW)
        assert (facts.identity.state, facts.identity.shown_in) == (State.PRESENT, "query:access_token")
        assert facts.request.query == "a=1&access_token=hidden"
        assert token not in str(facts)
    in_vain = snapshot().establish(Request(path="/", query=query), NOW)
    assert in_vain.identity.state == State.ABSENT


def test_row_188_a_new_generation_knows_nothing_of_the_old() -> None:
    made, token = snapshot(), forge()
    assert made.establish(asked(token), NOW).identity.state == State.PRESENT
    other_keys = dataclasses.replace(rsa_issuer(), keys=key_set(jwk(rsa_key("other"), kid="other")))
    renewed = dataclasses.replace(
        made, issuers=(other_keys,), inventory=inventory(revoked=True), tokens=TokenCache(), recent=snapshot().recent
    )
    facts = renewed.establish(asked(token), NOW)
    assert facts.identity.state == State.INVALID
    assert (facts.device.state, facts.device.problem) == (State.INVALID, Reason.DEVICE_REVOKED)


def test_row_214_device_without_a_record_is_absent() -> None:
    empty = Inventory(name="inventory", records=(), revision=2, taken=NOW)
    facts = snapshot(inventory=empty).establish(asked(), NOW)
    assert (facts.device.state, facts.device.problem) == (State.ABSENT, Reason.DEVICE_UNKNOWN)


def test_missing_sources_are_errors_and_never_guesses() -> None:
    made = snapshot(inventory=None, geography=None, issuers=(dataclasses.replace(rsa_issuer(), keys=None),))
    facts = made.establish(asked(forge()), NOW)
    assert facts.identity.state == State.ERROR
    assert facts.device.state == State.ERROR
    assert facts.location.state == State.ERROR


def test_device_that_is_not_configured_is_absent() -> None:
    assert snapshot(device=None, inventory=None).establish(asked(), NOW).device.state == State.ABSENT


def test_second_over_second() -> None:
    made = snapshot()
    old = NOW + timedelta(hours=25)
    assert made.establish(asked(), NOW).device.state == State.PRESENT
    assert made.establish(asked(), old).device.state == State.STALE
    assert made.establish(asked(), NOW).device.state == State.PRESENT


def test_client_address_is_envoys_word_and_ambiguity_is_invalid() -> None:
    made = snapshot()
    seen = made.establish(asked(headers={"x-envoy-external-address": ("198.51.100.9",)}), NOW).location
    assert (seen.address, list(seen.networks)) == ("198.51.100.9", ["office"])
    twice = asked(headers={"x-envoy-external-address": ("198.51.100.9", "192.0.2.7")})
    assert made.establish(twice, NOW).location.state == State.INVALID


def test_caches_are_bounded() -> None:
    cache, identity = TokenCache(), facts_pb2.Identity()
    for number in range(snapshot_module.TOKENS_MAX + 5):
        cache.put(str(number), identity, NOW + timedelta(seconds=1))
    assert cache.get("0", NOW) is None
    assert cache.get(str(snapshot_module.TOKENS_MAX + 4), NOW) is identity
    assert cache.get(str(snapshot_module.TOKENS_MAX + 4), NOW + timedelta(seconds=1)) is None


def test_whole_decision_is_the_same_twice() -> None:
    def decide(now: datetime) -> bytes:
        made = snapshot()
        facts = made.establish(asked(forge()), now)
        return repr(evaluate(made.policy, facts)).encode() + facts.SerializeToString(deterministic=True)

    assert decide(NOW) == decide(NOW + timedelta(milliseconds=999))


def test_networks_alone_are_enough() -> None:
    made = snapshot(
        geography=None,
        networks=Networks(),
        location=LocationSettings(
            client_address="peer", geography_configured=False, max_build_age=timedelta(days=1), country_field="country"
        ),
    )
    assert made.establish(asked(), NOW).location.state == State.ABSENT


SPIFFE_ID = "spiffe://example.org/orders"


def test_a_workload_asks_with_its_certificate_and_a_token_comes_first() -> None:
    authority = TestAuthority()
    generation = snapshot(trust_domains={"example.org": parse_authorities(authority.pem(), "bundle.pem")}, device=None)
    now = NOT_BEFORE + timedelta(hours=1)
    certificate = authority.workload(SPIFFE_ID)

    def identity(token: str = "", **fields: object) -> facts_pb2.Identity:
        return generation.establish(asked(token, certificate=certificate, **fields), now).identity

    issued = int(now.timestamp())
    good = forge(claims(iat=issued - 60, exp=issued + 600))
    assert (identity().subject, identity().kind) == (SPIFFE_ID, "workload")
    assert identity(good).subject == "ada"
    refused = identity(f"{good}x")
    assert (State(refused.state), refused.subject) == (State.INVALID, ""), "no way around a bad token"
    assert identity(principal="spiffe://example.org/other").problem == Reason.BAD_SPIFFE_ID
    assert snapshot(device=None).establish(asked(certificate=certificate), now).identity.state == State.ABSENT


def test_authorities_that_are_missing_are_errors() -> None:
    now = NOT_BEFORE + timedelta(hours=1)
    generation = snapshot(trust_domains={"example.org": None})
    identity = generation.establish(asked(certificate=TestAuthority().workload(SPIFFE_ID)), now).identity
    assert (State(identity.state), Reason(identity.problem)) == (State.ERROR, Reason.NO_KEYS)
    settings = DeviceSettings(
        max_inventory_age=timedelta(days=999), max_posture_age=timedelta(days=999), authorities_configured=True
    )
    device = snapshot(device=settings).establish(asked(), NOW).device
    assert (State(device.state), Reason(device.problem)) == (State.ERROR, Reason.SOURCE_ERROR)
    bundle = parse_authorities(TestAuthority().pem(), "bundle.pem")
    device = snapshot(device=settings, device_authorities=bundle).establish(asked(), NOW).device
    assert (State(device.state), Reason(device.problem)) == (State.INVALID, Reason.UNTRUSTED_CERTIFICATE)


def test_a_workload_is_revoked_by_its_id_and_a_key_comes_before_a_certificate() -> None:
    authority = TestAuthority()
    domains = {"example.org": parse_authorities(authority.pem(), "bundle.pem")}
    now, certificate = NOT_BEFORE + timedelta(hours=1), authority.workload(SPIFFE_ID)
    gone = Revocation(kind=Kind.SUBJECT, value=SPIFFE_ID, issuer="spiffe://example.org")

    def identity(**changes: object) -> facts_pb2.Identity:
        return (
            snapshot(trust_domains=domains, device=None, **changes)
            .establish(asked(certificate=certificate), now)
            .identity
        )

    assert State(identity().state) == State.PRESENT
    refused = identity(revocations=RevocationList(entries=(gone,)))
    assert (State(refused.state), Reason(refused.problem), refused.subject) == (
        State.INVALID,
        Reason.TOKEN_REVOKED,
        "",
    )
    before = dataclasses.replace(gone, before=NOT_BEFORE)
    assert State(identity(revocations=RevocationList(entries=(before,))).state) == State.PRESENT, "issued since"
    assert State(identity(revocations=None).state) == State.ERROR


def test_75_what_proves_identities_and_cannot_be_used_is_named() -> None:
    authority = parse_authorities(TestAuthority().pem(), "a.pem")
    made = snapshot(trust_domains={"a.example": authority}, api_keys=access())
    assert made.missing == ()
    lacking = snapshot(
        issuers=(dataclasses.replace(rsa_issuer(), keys=None), dataclasses.replace(rsa_issuer(), keys=key_set())),
        trust_domains={"a.example": authority, "b.example": None},
        revocations=None,
        api_keys=dataclasses.replace(access(), keys=None),
        inventory=None,
        geography=None,
    )
    assert lacking.missing == ("keys:corp", "keys:corp", "trust-domain:b.example", "revocations", "api-keys")
