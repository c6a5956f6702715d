# SPDX-License-Identifier: Apache-2.0
"""Parsing, the order of judgement, and what an issuer may be."""

import subprocess
import sys
from datetime import timedelta

import pytest

from iap_authz.errors import InvalidCredential, Malformed, SourceUnavailable
from iap_authz.facts.encoding import (
    BadNumber,
    DuplicateName,
    NulCharacter,
    Number,
    parse_base64url,
    parse_json_object,
    render_base64url,
)
from iap_authz.facts.token import TOKEN_MAX_CHARS, parse_token, verify_token
from iap_authz.model.reason import Reason
from tests.fakes.tokens import (
    ABSENT,
    ES,
    ISSUER,
    NOW,
    NOW_S,
    RS,
    claims,
    compact,
    forge,
    issuer,
    key_set,
    rsa_issuer,
    rsa_key,
    sign,
    text_of,
)


def reason_of(token: str, *, without_keys: bool = False) -> Reason:
    issuers = [issuer(None if without_keys else rsa_issuer().keys)]
    with pytest.raises(InvalidCredential) as refused:
        verify_token(parse_token(token), issuers, now=NOW)
    return Reason(refused.value.reason)


def test_a_good_token() -> None:
    text = forge()
    token = parse_token(text)
    assert (token.algorithm, token.kid) == ("RS256", "one")
    assert token.signing_input == text.rpartition(".")[0].encode()
    assert token.payload["exp"] == Number(str(NOW_S + 600))
    verified = verify_token(token, [rsa_issuer()], now=NOW)
    assert (verified.subject, verified.issuer, verified.source) == ("ada", ISSUER, "jwt:corp")


@pytest.mark.parametrize(
    "kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/AT+JWT", "JOSE", ABSENT], ids=str
)
def test_the_types_that_are_taken(kind: object) -> None:
    assert parse_token(forge(header={"typ": kind})).kid == "one"


def test_header_members_that_are_not_known_are_ignored() -> None:
    assert parse_token(forge(header={"nonce": 1, "x": [None], "cty": "json"})).kid == "one"


def test_neither_the_token_nor_the_issuer_shows_its_content_in_a_traceback() -> None:
    text = forge(claims(sub="ada-in-person"))
    assert "ada-in-person" not in repr(parse_token(text))
    assert text.rpartition(".")[2] not in repr(parse_token(text))
    assert str(rsa_key("one").public_key().public_numbers().n) not in repr(rsa_issuer())


def test_the_largest_token_is_taken() -> None:
    sizes = (forge(claims(pad="x" * size), sign_it=lambda _: bytes(256)) for size in range(5700, 5900))
    text = next(each for each in sizes if len(each) == TOKEN_MAX_CHARS)
    assert parse_token(text).kid == "one"


class TestOrder:
    """Each case is wrong in two steps; the earlier one is the reason."""

    def test_shape_before_header(self) -> None:
        assert reason_of(forge(header={"alg": "none"}) + "=") is Reason.NON_CANONICAL

    def test_header_before_payload(self) -> None:
        assert reason_of(forge(b"[]", header={"crit": []})) is Reason.MALFORMED_TOKEN_HEADER

    def test_alg_before_issuer(self) -> None:
        token = compact(text_of({"alg": "none"}), text_of(claims(iss="https://evil.example")), lambda _: b"")
        assert reason_of(token) is Reason.BAD_ALG
        assert reason_of(token, without_keys=True) is Reason.BAD_ALG

    def test_issuer_before_keys(self) -> None:
        assert reason_of(forge(claims(iss="https://evil.example")), without_keys=True) is Reason.UNKNOWN_ISSUER

    def test_keys_before_key(self) -> None:
        with pytest.raises(SourceUnavailable, match="no keys of the issuer corp"):
            verify_token(parse_token(forge(header={"kid": "nobody's"})), [issuer(None)], now=NOW)
        with pytest.raises(SourceUnavailable):
            verify_token(parse_token(forge()), [issuer(key_set())], now=NOW)

    def test_key_before_signature(self) -> None:
        assert reason_of(forge(header={"kid": "three"}, sign_it=lambda _: b"")) is Reason.UNKNOWN_KID

    @pytest.mark.parametrize(
        "wrong", [{"exp": 0}, {"exp": ABSENT}, {"aud": "x"}, {"sub": 1}, {"email": 1}, {"cnf": {}}], ids=str
    )
    def test_signature_before_claims(self, wrong: dict[str, object]) -> None:
        """A forger does not learn from the reason which claims would have been good."""
        stranger = rsa_key("stranger")
        forged = forge(claims(**wrong), sign_it=lambda content: sign(stranger, "RS256", content))
        assert reason_of(forged) is Reason.BAD_SIGNATURE
        assert reason_of(forge(claims(**wrong))) is not Reason.BAD_SIGNATURE


class TestIssuer:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": ""},
            {"issuer": ""},
            {"audiences": frozenset()},
            {"audiences": frozenset({"a", ""})},
            {"algorithms": frozenset()},
            {"algorithms": RS | ES},
            {"skew": timedelta(minutes=5, microseconds=1)},
            {"skew": timedelta(microseconds=-1)},
            {"max_age": timedelta(0)},
            {"max_lifetime": timedelta(seconds=-1)},
            {"groups_claim": ()},
            {"groups_claim": ("a", "")},
            {"claims": ("",)},
            {"claims": ("team", "email")},
        ],
        ids=str,
    )
    def test_40_an_issuer_that_must_not_exist(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="got"):
            issuer(None, **wrong)

    def test_the_largest_skew(self) -> None:
        assert issuer(None, skew=timedelta(minutes=5)).skew == timedelta(minutes=5)

    def test_two_issuers_of_one_name_are_a_defect(self) -> None:
        with pytest.raises(ValueError, match="two issuers"):
            verify_token(parse_token(forge()), [rsa_issuer(), rsa_issuer()], now=NOW)


class TestBase64url:
    def test_every_short_text_has_one_spelling(self) -> None:
        """RFC 7515 section 2: no padding, no line breaks, no other characters; and no second text of the same bytes."""
        alphabet = "AQgw-_z9+/= \n"
        for first in alphabet:
            for second in alphabet:
                text = first + second
                try:
                    decoded = parse_base64url(text)
                except Malformed:
                    assert set(text) & set("+/= \n") or second not in "AQgw"
                else:
                    assert render_base64url(decoded) == text
                    assert len(decoded) == 1

    @pytest.mark.parametrize("text", ["A", "AAAAA", "AA=", "AA==", "=", "\u0661\u0661", "AB", "AAB"], ids=ascii)
    def test_refused(self, text: str) -> None:
        with pytest.raises(Malformed):
            parse_base64url(text)

    def test_nothing_is_the_spelling_of_nothing(self) -> None:
        assert parse_base64url("") == b""


class TestJson:
    def test_brackets_inside_strings_do_not_nest(self) -> None:
        text = rb'{"a": "[[[[{{{{\"[[[[", "b": "\\", "c": [[1]]}'
        assert parse_json_object(text, max_depth=3)["a"] == '[[[[{{{{"[[[['
        with pytest.raises(Malformed, match="deeper than 2"):
            parse_json_object(text, max_depth=2)

    def test_siblings_do_not_nest(self) -> None:
        assert len(parse_json_object(b'{"a":[],"b":[],"c":{},"d":[]}', max_depth=2)) == 4

    @pytest.mark.parametrize(
        "content",
        [b'{"a":"' + b"[" * 9, b'{"a":"\\', b'{"' + b"\\" * 9000, b'{"' + b'\\"' * 9000, b'{"a":' + b"[" * 9],
        ids=["open-string", "open-escape", "backslashes", "escaped-quotes", "open-lists"],
    )
    def test_text_that_ends_early_is_refused(self, content: bytes) -> None:
        with pytest.raises(Malformed):
            parse_json_object(content, max_depth=4)

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b'{"a":1,"a":1}', DuplicateName),
            (b'{"a":{"b":[{"c":1,"\\u0063":1}]}}', DuplicateName),
            (b'{"a":1e1234}', BadNumber),
            (b'{"a":Infinity}', BadNumber),
            (b'{"a":' + b"1" * 65 + b"}", BadNumber),
            (b'{"a":"\\u0000"}', NulCharacter),
            (b'{"\\u0000":1}', NulCharacter),
        ],
        ids=["twice", "twice-inside", "exponent", "infinity", "long", "nul", "nul-in-name"],
    )
    def test_what_is_refused_by_name(self, content: bytes, kind: type[Malformed]) -> None:
        with pytest.raises(kind):
            parse_json_object(content, max_depth=8)

    def test_a_pair_of_surrogates_is_one_character(self) -> None:
        assert parse_json_object(rb'{"a":"\ud83d\ude00"}', max_depth=1) == {"a": "\U0001f600"}

    @pytest.mark.parametrize(
        "content", [rb'{"a":"\ud83d"}', rb'{"a":"\ude00\ud83d"}', rb'{"\udc00":1}', rb'{"a":["\ud800"]}']
    )
    def test_half_a_pair_is_refused(self, content: bytes) -> None:
        with pytest.raises(Malformed, match="surrogate"):
            parse_json_object(content, max_depth=2)


def test_the_package_that_has_an_advisory_is_never_imported() -> None:
    """`ecdsa` comes along with python-jose (CVE-2024-23342); what it does badly is not done by it here."""
    script = "import sys, iap_authz.facts.identity; sys.exit('ecdsa' in sys.modules or 'rsa' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
