# SPDX-License-Identifier: Apache-2.0
"""The identity family: what a good token becomes, what an `authorization` header may look like, how long it holds."""

import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.identity import EstablishedIdentity, credential_of, establish_identity, stamp_age
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request
from tests.fakes.tokens import (
    ABSENT,
    AUDIENCE,
    ISSUER,
    NOW,
    NOW_S,
    bearer,
    claims,
    forge,
    issuer,
    jwk,
    key_set,
    problem_of,
    rsa_issuer,
    rsa_key,
    shows,
)


def establish(request: Request, **changes: Any) -> EstablishedIdentity:
    return establish_identity(request, [dataclasses.replace(rsa_issuer(), **changes)], now=NOW)


def present(*groups_claim: str, **changed: object) -> facts_pb2.Identity:
    """The identity of a good token with `changed` claims, its groups at `groups_claim`."""
    established = establish(bearer(forge(claims(**changed))), groups_claim=groups_claim or ("groups",))
    assert established.identity.state == facts_pb2.PRESENT, established.detail
    return established.identity


def test_a_whole_identity() -> None:
    token = forge(
        claims(
            aud=["billing", AUDIENCE],
            groups=["eng", "ops"],
            email="ada@corp.example",
            email_verified=True,
            auth_time=NOW_S - 120,
            acr="mfa",
            amr=["pwd", "otp"],
            sid="session-1",
            jti="token-1",
            scope="read write",
            team="core",
            level=7,
            ratio=1.50,
            contractor=False,
        )
    )
    established = establish(bearer(token), claims=("team", "level", "ratio", "contractor", "nothing"))
    want = facts_pb2.Identity(
        state=facts_pb2.PRESENT,
        source="jwt:corp",
        subject="ada",
        issuer=ISSUER,
        audiences=["billing", AUDIENCE],
        groups=["eng", "ops"],
        claims={"team": "core", "level": "7", "ratio": "1.5", "contractor": "false"},
        email="ada@corp.example",
        acr="mfa",
        amr=["pwd", "otp"],
        session_id="session-1",
        token_id="token-1",
        scopes=["read", "write"],
        algorithm="RS256",
        key_id="one",
        token_sha256=hashlib.sha256(token.encode()).digest(),
        shown_in="header:authorization",
    )
    want.age.FromSeconds(60)
    want.auth_time.FromSeconds(NOW_S - 120)
    want.issued_at.FromSeconds(NOW_S - 60)
    want.expires.FromSeconds(NOW_S + 600)
    assert established.identity == want
    assert established.good_until == NOW + timedelta(seconds=630)
    assert established.detail == ""


def test_what_the_token_does_not_say_is_not_known() -> None:
    identity = present(iat=ABSENT)
    known = {field.name for field, _ in identity.ListFields()}
    assert known == {
        "state", "source", "subject", "issuer", "audiences", "expires", "algorithm", "key_id", "token_sha256",
        "shown_in",
    }  # fmt: skip
    assert not identity.HasField("age")


class TestHeader:
    """Rows 67, 70 and 122: which spelling of the header shows a token."""

    @pytest.mark.parametrize(
        "values",
        [(), ("Basic YTpi",), ("Basic",), ("Negotiate AAAA",), ("DPoP abc",), ("Bearerx y",), ("Basic Bearer x",)],
        ids=ascii,
    )
    def test_no_token_is_shown(self, values: tuple[str, ...]) -> None:
        established = establish(shows(*values))
        assert established.identity == facts_pb2.Identity(state=facts_pb2.ABSENT)
        assert established.good_until is None
        assert credential_of(shows(*values)) is None

    @pytest.mark.parametrize(
        "value",
        [
            "bearer {}", "BEARER {}", "BeareR {}", "Bearer  {}", "Bearer {} ", " Bearer {}", "Bearer\t{}",
            "Bearer {}\t", "Bearer {},Bearer {}", "Bearer {}, Basic YTpi", "Basic YTpi, Bearer {}",
            "Basic YTpi,Bearer {}", "Bearer {},",
            "Bearer", "Bearer ", "bearer", "Bearer:{}", "Bearer={}", "Bearer\u00a0{}", "Bearer {}\n", "Bearer {}\u2028",
            "Bearer {} {}", "\uff22earer {}", "", " ", ",", "Digest a=b, c=d", '"Bearer" {}', "Bearer\0{}",
        ],
        ids=ascii,
    )  # fmt: skip
    def test_67_another_spelling_is_ambiguous(self, value: str) -> None:
        request = shows(value.format(forge(), forge()))
        established = establish(request)
        assert established.identity.state == facts_pb2.INVALID
        assert problem_of(established) is Reason.AMBIGUOUS_CREDENTIALS
        assert len(established.identity.token_sha256) == 32
        assert established.good_until is None
        assert credential_of(request) is None

    @pytest.mark.parametrize("second", ["Bearer {}", "Basic YTpi", "", "bearer x"], ids=ascii)
    def test_67_two_headers_are_ambiguous(self, second: str) -> None:
        token = forge()
        for values in ((f"Bearer {token}", second.format(token)), (second.format(token), f"Bearer {token}")):
            established = establish(shows(*values))
            assert problem_of(established) is Reason.AMBIGUOUS_CREDENTIALS

    def test_67_a_token_elsewhere_is_not_read(self) -> None:
        token = forge()
        request = Request(
            query=f"access_token={token}",
            path="/",
            headers={
                "cookie": (f"IdToken={token}; BearerToken={token}",),
                "x-authorization": (f"Bearer {token}",),
                "proxy-authorization": (f"Bearer {token}",),
                "x-forwarded-access-token": (token,),
            },
        )
        assert establish(request).identity.state == facts_pb2.ABSENT

    @pytest.mark.parametrize("agent", ["kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Envoy/HC"])
    def test_70_no_user_agent_is_somebody(self, agent: str) -> None:
        assert establish(Request(headers={"user-agent": (agent,)})).identity.state == facts_pb2.ABSENT

    def test_a_respelled_scheme_joins_with_the_token_it_shows(self) -> None:
        token = forge()
        digests = {establish(shows(each + token)).identity.token_sha256 for each in ("Bearer ", "bearer ", "Bearer  ")}
        assert digests == {hashlib.sha256(token.encode()).digest()}

    def test_the_credential_is_the_whole_token(self) -> None:
        token = forge()
        assert credential_of(bearer(token)) == f"header:authorization {token}"
        assert credential_of(bearer("not.a.token")) == "header:authorization not.a.token"


class TestTimes:
    """Rows 37, 38, 40 and 41: the last instants that are good."""

    @pytest.mark.parametrize(
        "changed",
        [
            {"exp": NOW_S - 29},
            {"exp": NOW_S - 29.999999},
            {"exp": float(NOW_S + 1)},
            {"exp": 253_402_214_400},
            {"nbf": NOW_S + 30},
            {"iat": NOW_S + 30},
            {"auth_time": NOW_S + 30},
            {"nbf": 0, "iat": 0, "auth_time": 0},
        ],
        ids=str,
    )
    def test_inside_the_skew(self, changed: dict[str, object]) -> None:
        assert present(**changed).subject == "ada"

    def test_38_without_skew_exp_equal_to_now_is_expired(self) -> None:
        none = timedelta(0)
        assert problem_of(establish(bearer(forge(claims(exp=NOW_S))), skew=none)) is Reason.EXPIRED
        assert establish(bearer(forge(claims(exp=NOW_S + 0.000001))), skew=none).identity.state == facts_pb2.PRESENT

    def test_a_number_means_the_same_in_every_spelling(self) -> None:
        for spelling in (
            f"{NOW_S + 600}",
            f"{NOW_S + 600}.000",
            f"{NOW_S + 600}e0",
            f"{(NOW_S + 600) // 10}{(NOW_S + 600) % 10}0e-1",
        ):
            payload = f'{{"iss":"{ISSUER}","sub":"ada","aud":"{AUDIENCE}","exp":{spelling}}}'
            assert establish(bearer(forge(payload.encode()))).good_until == NOW + timedelta(seconds=630), spelling

    def test_the_answer_holds_until_good_until_and_not_at_it(self) -> None:
        token = bearer(forge(claims(exp=NOW_S + 10)))
        first = establish(token, max_age=timedelta(seconds=75))
        assert first.good_until == NOW + timedelta(seconds=15)
        bounded = [dataclasses.replace(rsa_issuer(), max_age=timedelta(seconds=75))]
        tick = timedelta(microseconds=1)
        before = establish_identity(token, bounded, now=first.good_until - tick)
        at = establish_identity(token, bounded, now=first.good_until)
        assert before.identity.state == facts_pb2.PRESENT
        assert problem_of(at) is Reason.TOKEN_TOO_OLD

    def test_exp_ends_it_where_it_comes_first(self) -> None:
        token = bearer(forge(claims(exp=NOW_S + 10)))
        first = establish(token, max_age=timedelta(hours=1))
        assert first.good_until == NOW + timedelta(seconds=40)
        at = establish_identity(token, [rsa_issuer()], now=first.good_until)
        assert problem_of(at) is Reason.EXPIRED

    def test_a_copy_is_stamped_with_its_age(self) -> None:
        kept = present()
        stamp_age(kept, NOW + timedelta(seconds=5))
        assert kept.age.ToTimedelta() == timedelta(seconds=65)
        stamp_age(kept, (NOW + timedelta(seconds=6)).astimezone(UTC))
        assert kept == establish_identity(bearer(forge()), [rsa_issuer()], now=NOW + timedelta(seconds=6)).identity

    def test_an_age_is_never_negative(self) -> None:
        assert present(iat=NOW_S + 20).age.ToTimedelta() == timedelta(0)

    def test_now_has_a_time_zone(self) -> None:
        with pytest.raises(TypeError):
            establish_identity(bearer(forge()), [rsa_issuer()], now=datetime(2026, 3, 1))  # noqa: DTZ001 -- the mistake


class TestGroups:
    """Row 64, and what absence means."""

    def test_an_empty_list_is_known_to_be_empty(self) -> None:
        identity = present(groups=[], amr=[], scope="")
        assert list(identity.empty) == ["groups", "amr", "scopes"]

    def test_no_list_is_not_known(self) -> None:
        assert list(present().empty) == []

    @pytest.mark.parametrize(
        "marker",
        [{"hasgroups": True}, {"hasgroups": "true"}, {"_claim_names": {"groups": "src1"}}],
        ids=["hasgroups", "hasgroups-text", "claim-names"],
    )
    @pytest.mark.parametrize("groups", [ABSENT, [], ["eng"]], ids=["absent", "empty", "partial"])
    def test_64_a_list_that_is_not_whole_is_not_known(self, marker: dict[str, object], groups: object) -> None:
        identity = present(groups=groups, **marker)
        assert list(identity.groups) == []
        assert list(identity.empty) == []

    def test_64_a_marker_for_something_else_does_not_matter(self) -> None:
        identity = present(groups=["eng"], hasgroups=False, _claim_names={"photo": "src1"})
        assert list(identity.groups) == ["eng"]

    def test_200_groups_are_taken(self) -> None:
        assert len(present(groups=[f"group-{index}" for index in range(200)]).groups) == 200

    def test_a_path_leads_to_the_groups(self) -> None:
        nested = ("realm_access", "roles")
        assert list(present(*nested, realm_access={"roles": ["eng"]}, groups=["other"]).groups) == ["eng"]
        assert list(present(*nested, realm_access={"roles": []}).empty) == ["groups"]
        assert list(present(*nested, realm_access={}).empty) == []
        assert list(present(*nested).empty) == []

    @pytest.mark.parametrize("step", [None, "roles", ["roles"], 1], ids=ascii)
    def test_a_path_through_something_else_is_refused(self, step: object) -> None:
        token = forge(claims(realm_access=step))
        established = establish(bearer(token), groups_claim=("realm_access", "roles"))
        assert problem_of(established) is Reason.BAD_CLAIM_TYPE

    def test_group_names_are_kept_byte_for_byte(self) -> None:
        names = ["Eng", "eng", "\u00e9ng", "eng,ops", "a/b:c"]
        assert list(present(groups=names).groups) == names


class TestEmail:
    """Rows 61 and 62."""

    @pytest.mark.parametrize("verified", [ABSENT, None, False, "true", "True", 1, "1", [True]], ids=ascii)
    def test_61_an_email_that_is_not_verified_is_not_known(self, verified: object) -> None:
        assert not present(email="ada@corp.example", email_verified=verified).HasField("email")

    @pytest.mark.parametrize(
        "email",
        [
            "a@b",
            "Ada.Lovelace+x@Corp.Example",
            "o'brien@x-y.example",
            "a" * 64 + "@" + "b" * 63,
            "!#$%&'*+/=?^_`{|}~-@x.y",
        ],
    )
    def test_61_a_verified_email_is_kept_byte_for_byte(self, email: str) -> None:
        assert present(email=email, email_verified=True).email == email

    def test_61_it_cannot_be_copied_around_the_check(self) -> None:
        with pytest.raises(ValueError, match="email"):
            issuer(None, claims=("email",))


class TestClaims:
    def test_numbers_and_booleans_keep_jsons_spelling(self) -> None:
        payload = b'{"iss":"%b","sub":"ada","aud":"orders","exp":%d,"a":1.0,"b":1e2,"c":true,"d":-0,"e":"x","f":null}'
        token = forge(payload % (ISSUER.encode(), NOW_S + 600))
        identity = establish(bearer(token), claims=("a", "b", "c", "d", "e", "f", "g")).identity
        assert dict(identity.claims) == {"a": "1.0", "b": "1e2", "c": "true", "d": "-0", "e": "x"}

    @pytest.mark.parametrize("value", [[], ["x"], {}, {"a": 1}], ids=ascii)
    def test_a_configured_claim_that_is_no_scalar_is_refused(self, value: object) -> None:
        established = establish(bearer(forge(claims(team=value))), claims=("team",))
        assert problem_of(established) is Reason.BAD_CLAIM_TYPE

    def test_claims_that_are_not_configured_are_not_copied(self) -> None:
        assert not present(team="core", secret={"a": [1]}).claims

    @pytest.mark.parametrize(
        ("changed", "want"),
        [
            ({"scope": "a b"}, ["a", "b"]),
            ({"scp": ["a", "b"]}, ["a", "b"]),
            ({"scp": "a b"}, ["a", "b"]),
            ({"scope": "a", "scp": ["b"]}, ["a"]),
        ],
        ids=["scope", "scp-list", "scp-text", "both"],
    )
    def test_scopes(self, changed: dict[str, object], want: list[str]) -> None:
        assert list(present(**changed).scopes) == want

    def test_61_subjects_are_not_folded(self) -> None:
        for subject in ("Ada", "ad\u00e1", "adm\u0131n", "\uff41dmin", "a" * 255, "auth0|5f7c8ec7c33c6c004bbafe82"):
            assert present(sub=subject).subject == subject


def test_keys_that_are_missing_are_our_fault() -> None:
    token = forge()
    established = establish_identity(bearer(token), [issuer(None)], now=NOW)
    want = facts_pb2.Identity(
        state=facts_pb2.ERROR,
        problem=facts_pb2.Identity(problem=Reason.NO_KEYS.value).problem,
        token_sha256=hashlib.sha256(token.encode()).digest(),
        shown_in="header:authorization",
    )
    assert established.identity == want
    assert established.good_until is None
    assert "corp" in established.detail


def test_without_issuers_every_token_is_refused() -> None:
    assert establish_identity(bearer(forge()), [], now=NOW).identity.state == facts_pb2.INVALID


def test_the_detail_quotes_nothing_of_the_token() -> None:
    marker = "marker-of-this-test"
    keys = key_set(jwk(rsa_key("one"), kid="one"))
    for token in (
        forge(header={"kid": marker}),
        forge(header={"alg": marker}),
        forge(header={"typ": marker}),
        forge(claims(iss=marker)),
        forge(claims(aud=marker)),
        forge(claims(email=f"{marker} @x")),
        forge(claims(groups=marker)),
        f"{marker}.{marker}",
    ):
        established = establish_identity(bearer(token), [issuer(keys)], now=NOW)
        assert established.detail
        assert marker not in established.detail
