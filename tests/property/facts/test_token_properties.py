# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent: an answer, never an exception, and never somebody whom the issuer did not name."""

import json
import string
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential, Malformed
from iap_authz.facts.encoding import Number, parse_base64url, parse_json_object, render_base64url
from iap_authz.facts.identity import credential_of, establish_identity
from iap_authz.facts.keyset import KeySet, parse_jwks
from iap_authz.facts.token import parse_token, verify_token
from tests.fakes.tokens import (
    NOW,
    b64,
    bearer,
    claims,
    ec_issuer,
    ec_key,
    forge,
    jwk,
    other_issuer,
    rsa_issuer,
    rsa_key,
    shows,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CLAIM_NAMES = (
    "iss", "sub", "aud", "exp", "iat", "nbf", "email", "email_verified", "groups", "hasgroups", "_claim_names",
    "auth_time", "acr", "amr", "sid", "jti", "scope", "scp", "cnf", "events", "team",
)  # fmt: skip
KEY_NAMES = ("kty", "kid", "n", "e", "x", "y", "crv", "use", "key_ops", "alg", "d")
HEADER_NAMES = ("alg", "kid", "typ", "cty", "crit", "b64", "jku", "x5u", "enc", "zip", "x5c", "jwk")


@cache
def good(alg: str) -> str:
    key = rsa_key("one") if alg == "RS256" else ec_key("one")
    return forge(claims(groups=["eng"], email="ada@corp.example", email_verified=True), key=key, alg=alg)


ISSUERS = {"RS256": rsa_issuer, "ES256": ec_issuer}


@given(st.lists(st.text(), max_size=3))
@example(["Bearer " + "." * 9000])
@example(["Bearer \ud800"])
@example(["Bearer eyJ.eyJ.eyJ"])
def test_any_header_values_are_answered_and_nobody_is_there(values: list[str]) -> None:
    established = establish_identity(shows(*values), [rsa_issuer()], now=NOW)
    assert established.identity.state in {facts_pb2.ABSENT, facts_pb2.INVALID}
    assert established.identity.SerializeToString()
    credential_of(shows(*values))


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_in_the_three_parts_are_refused(header: bytes, payload: bytes, signature: bytes) -> None:
    token = f"{b64(header)}.{b64(payload)}.{b64(signature)}"
    established = establish_identity(bearer(token), [rsa_issuer()], now=NOW)
    assert established.identity.state == facts_pb2.INVALID


@given(st.dictionaries(st.sampled_from(HEADER_NAMES), JSON, max_size=3), st.integers(0, 2**32))
@settings(max_examples=200)
def test_any_header_members_are_refused_without_the_key(members: dict[str, object], seed: int) -> None:
    token = forge(header=members, sign_it=lambda _: seed.to_bytes(256, "big"))
    established = establish_identity(bearer(token), [rsa_issuer(), other_issuer(None)], now=NOW)
    assert established.identity.state == facts_pb2.INVALID


@given(st.dictionaries(st.sampled_from(CLAIM_NAMES), JSON, max_size=4))
@settings(max_examples=300)
def test_any_claims_of_the_issuer_itself_are_answered(members: dict[str, object]) -> None:
    """The worst issuer can have its tokens refused; it cannot break a check or leave facts that do not serialize."""
    established = establish_identity(bearer(forge(claims(**members))), [rsa_issuer()], now=NOW)
    identity = established.identity
    assert identity.state in {facts_pb2.PRESENT, facts_pb2.INVALID}
    assert facts_pb2.Identity.FromString(identity.SerializeToString()) == identity
    assert (established.good_until is not None) == (identity.state == facts_pb2.PRESENT)
    if identity.state == facts_pb2.PRESENT:
        assert identity.subject == members.get("sub", "ada")
        assert list(identity.groups) in ([], members.get("groups"))
        assert "\0" not in str(identity)


@pytest.mark.parametrize("alg", ISSUERS)
@given(st.data())
@settings(max_examples=300)
def test_a_token_with_one_character_changed_is_not_somebody_else(alg: str, data: st.DataObject) -> None:
    token = good(alg)
    place = data.draw(st.integers(0, len(token) - 1))
    new = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.=+/ ,\0\u0661"))
    changed = token[:place] + new + token[place + 1 :]
    issuers = [ISSUERS[alg]()]
    established = establish_identity(bearer(changed), issuers, now=NOW)
    if changed == token:
        assert established.identity.state == facts_pb2.PRESENT
    else:
        assert established.identity.state == facts_pb2.INVALID


@pytest.mark.parametrize("alg", ISSUERS)
@given(st.data())
def test_a_token_cut_or_lengthened_is_refused(alg: str, data: st.DataObject) -> None:
    token = good(alg)
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, len(token)))
    changed = data.draw(st.sampled_from((token[:start] + token[end:], token[:end] + token[start:])))
    state = establish_identity(bearer(changed), [ISSUERS[alg]()], now=NOW).identity.state
    assert (state == facts_pb2.PRESENT) == (changed == token)


@given(st.text(max_size=40))
def test_parse_token_raises_only_what_it_says(text: str) -> None:
    with pytest.raises(InvalidCredential):
        parse_token(text)


@given(st.binary(max_size=60))
def test_base64url_has_one_spelling(content: bytes) -> None:
    """RFC 7515 section 2: the encoding has all trailing `=` characters omitted and no additional characters."""
    text = render_base64url(content)
    assert text == b64(content)
    assert parse_base64url(text) == content


@given(st.text("AQgw-_+/= \n\u0661", max_size=9))
def test_base64url_accepts_only_what_renders_back(text: str) -> None:
    try:
        content = parse_base64url(text)
    except Malformed:
        assert set(text) - set("AQgw-_") or len(text) % 4 == 1 or text[-1] not in "AQgw" or len(text) % 4 == 3
    else:
        assert render_base64url(content) == text


def plain(value: object) -> object:
    """Our JSON values as the standard library's, numbers by value."""
    if isinstance(value, Number):
        return json.loads(value.text)
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    return value


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "raw"])
@given(value=st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_json_that_is_accepted_means_what_it_means_to_the_standard_library(
    value: dict[str, object], *, escaped: bool
) -> None:
    content = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        parsed = parse_json_object(content, max_depth=16)
    except Malformed:
        text = content.decode("utf-8", "replace")
        assert any(sign in text for sign in ("NaN", "Infinity", "\\u0000", "\\ud", "\ufffd")) or _has_long_number(value)
    else:
        assert plain(parsed) == json.loads(content)


def _has_long_number(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_long_number(member) for member in value.values())
    if isinstance(value, list):
        return any(_has_long_number(element) for element in value)
    return isinstance(value, int) and len(str(value)) > 64


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_a_key_set(content: bytes) -> None:
    with suppress(Malformed):
        assert isinstance(parse_jwks(content), KeySet)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(KEY_NAMES), JSON, max_size=5),
        max_size=4,
    )
)
@settings(max_examples=200)
def test_any_keys_beside_a_good_one_leave_it_usable(members: list[dict[str, object]]) -> None:
    """A key whose kid is drawn to be the good one's would have to be a key: none of these is."""
    content = json.dumps({"keys": [*members, jwk(rsa_key("one"), kid="one")]})
    try:
        keys = parse_jwks(content.encode("utf-8", "surrogatepass"))
    except Malformed:
        assert any(sign in content for sign in ("NaN", "Infinity", "\\u0000", "\\ud")) or _has_long_number(members)
        return
    assert [key.kid for key in keys.keys] == ["one"]
    assert len(keys.problems) == len(members)
    verified = verify_token(parse_token(good("RS256")), [other_issuer(keys, issuer=rsa_issuer().issuer)], now=NOW)
    assert verified.subject == "ada"
