# SPDX-License-Identifier: Apache-2.0
"""API keys: what a good one becomes, how long it holds, and what a cache may know it by."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Invalid
from iap_authz.facts.apikey import (
    FUTURE_SKEW,
    ApiKeyAccess,
    ApiKeys,
    check_succession,
    hash_api_key,
    render_api_key,
)
from iap_authz.facts.identity import EstablishedIdentity, credential_of, establish_identity
from iap_authz.model.reason import Reason
from tests.fakes.api_keys import HEADER, KEY, KEY_ID, PEPPER, access, api_key, hash_of, shows_key
from tests.fakes.tokens import NOW, bearer, forge, problem_of, rsa_issuer


def establish(*values: str, **changes: Any) -> EstablishedIdentity:
    return establish_identity(shows_key(*values), [], api_keys=access(api_key(**changes)), now=NOW)


def test_a_whole_identity() -> None:
    established = establish(KEY)
    want = facts_pb2.Identity(
        state=facts_pb2.PRESENT,
        source="api-key:nightly",
        kind="machine",
        subject="nightly-export",
        groups=["batch"],
        scopes=["orders:read"],
        token_id=KEY_ID,
        token_sha256=hashlib.sha256(KEY.encode()).digest(),
        shown_in="header:x-api-key",
    )
    want.age.FromTimedelta(timedelta(days=1))
    want.issued_at.FromDatetime(NOW - timedelta(days=1))
    want.expires.FromDatetime(NOW + timedelta(days=29))
    assert established.identity == want
    assert established.good_until == NOW + timedelta(days=29)


def test_none_known_is_not_known_to_be_none() -> None:
    assert list(establish(KEY, scopes=(), groups=()).identity.empty) == ["groups", "scopes"]
    assert list(establish(KEY, scopes=None, groups=None).identity.empty) == []


def test_it_holds_until_it_expires_and_not_at_that_instant() -> None:
    assert problem_of(establish(KEY, expires=NOW)) is Reason.EXPIRED
    assert establish(KEY, expires=NOW + timedelta(microseconds=1)).identity.state == facts_pb2.PRESENT
    assert problem_of(establish(KEY, created=NOW + FUTURE_SKEW + timedelta(seconds=1))) is Reason.NOT_YET_VALID
    young = establish(KEY, created=NOW + FUTURE_SKEW).identity
    assert (young.state, young.age.ToTimedelta()) == (facts_pb2.PRESENT, timedelta(0))


def test_only_who_shows_the_secret_learns_that_it_has_expired() -> None:
    assert problem_of(establish(KEY[:-1] + "f", expires=NOW)) is Reason.BAD_API_KEY


def test_without_the_file_a_key_is_not_judged() -> None:
    gone = ApiKeyAccess(header=HEADER, keys=None)
    established = establish_identity(shows_key(KEY), [], api_keys=gone, now=NOW)
    assert (established.identity.state, problem_of(established)) == (facts_pb2.ERROR, Reason.SOURCE_ERROR)
    assert established.good_until is None
    nobody = establish_identity(shows_key(), [], api_keys=gone, now=NOW)
    assert nobody.identity.state == facts_pb2.ABSENT
    nonsense = establish_identity(shows_key("x"), [], api_keys=gone, now=NOW)
    assert problem_of(nonsense) is Reason.BAD_API_KEY


def test_where_keys_are_not_taken_the_header_is_one_like_any_other() -> None:
    assert establish_identity(shows_key(KEY), [], now=NOW).identity.state == facts_pb2.ABSENT
    both = shows_key(KEY, authorization=(f"Bearer {forge()}",))
    assert establish_identity(both, [rsa_issuer()], now=NOW).identity.source == "jwt:corp"
    assert credential_of(both) == f"header:authorization {forge()}"


def test_a_token_alone_is_judged_as_ever_where_keys_are_taken() -> None:
    for request in (bearer(forge()), shows_key()):
        with_keys = establish_identity(request, [rsa_issuer()], api_keys=access(), now=NOW)
        assert with_keys == establish_identity(request, [rsa_issuer()], now=NOW)
        assert credential_of(request, access()) == credential_of(request)


def test_the_one_credential_is_never_found_as_the_other() -> None:
    assert credential_of(shows_key(KEY), access()) == f"header:x-api-key {KEY}"
    assert credential_of(bearer(KEY), access()) == f"header:authorization {KEY}"
    assert credential_of(bearer(f"header:x-api-key {KEY}"), access()) is None
    assert credential_of(shows_key(KEY, KEY), access()) is None
    assert credential_of(shows_key(KEY, authorization=("Bearer x",)), access()) is None


def test_another_header_by_configuration() -> None:
    elsewhere = access(header="x-machine-key")
    assert establish_identity(shows_key(KEY, header="x-machine-key"), [], api_keys=elsewhere, now=NOW).good_until
    assert establish_identity(shows_key(KEY), [], api_keys=elsewhere, now=NOW).identity.state == facts_pb2.ABSENT


def test_the_hash_is_keyed_labelled_and_of_the_whole_text() -> None:
    assert hash_api_key(KEY, PEPPER) == hash_of(KEY)
    assert hash_api_key(KEY, bytes(32)) == hash_of(KEY, bytes(32)) != hash_of(KEY)
    other = KEY.replace(KEY_ID, KEY_ID[::-1])
    stolen = api_key(KEY, id=KEY_ID[::-1])
    assert problem_of(establish_identity(shows_key(other), [], api_keys=access(stolen), now=NOW)) is Reason.BAD_API_KEY


def test_a_key_is_rendered_in_its_one_spelling() -> None:
    assert render_api_key(KEY_ID, bytes.fromhex("5e" * 32)) == KEY
    for key_id, secret in (("0123", bytes(32)), (KEY_ID.upper(), bytes(32)), (KEY_ID, bytes(31))):
        with pytest.raises(ValueError, match="another form"):
            render_api_key(key_id, secret)


def test_no_text_of_a_key_is_shown() -> None:
    assert PEPPER.hex() not in repr(access())
    assert repr(PEPPER) not in repr(access())
    assert repr(hash_of(KEY)) not in repr(access()) + repr(api_key())


def test_two_keys_have_two_ids() -> None:
    with pytest.raises(Invalid, match="one id on two API keys"):
        ApiKeys(revision=None, keys=(api_key(), api_key()), pepper=PEPPER)
    with pytest.raises(ValueError, match="pepper of 3 bytes"):
        ApiKeys(revision=None, keys=(), pepper=b"abc")


def keys_of(revision: int | None) -> ApiKeys:
    return ApiKeys(revision=revision, keys=(), pepper=PEPPER)


def test_an_older_file_must_not_follow() -> None:
    for after, before in ((1, None), (None, None), (1, 1), (2, 1)):
        check_succession(keys_of(after), keys_of(before))
    check_succession(keys_of(None), None)
    for after in (None, 1):
        with pytest.raises(Invalid, match=f"got revision {after}, want at least 2"):
            check_succession(keys_of(after), keys_of(2))
