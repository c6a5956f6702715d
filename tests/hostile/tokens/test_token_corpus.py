# SPDX-License-Identifier: Apache-2.0
"""Hostile tokens, one case a line. Each id starts with the row of the project's corpus of hostile inputs (group A).

After every refused token a good one still verifies: no input leaves anything behind.
"""

import base64
import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import InvalidCredential
from iap_authz.facts.identity import establish_identity
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.token import parse_token
from iap_authz.model.reason import Reason
from tests.fakes.tokens import (
    ABSENT,
    AUDIENCE,
    ISSUER,
    NOW,
    NOW_S,
    OTHER_ISSUER,
    bearer,
    claims,
    compact,
    ec_issuer,
    ec_key,
    forge,
    hmac_signer,
    issuer,
    jwk,
    jwks,
    key_set,
    other_issuer,
    problem_of,
    rsa_issuer,
    rsa_key,
    text_of,
)

Token = Callable[[], str]
Case = tuple[str, Token, Reason]


def refuse(token: str, issuers: Sequence[Issuer], reason: Reason) -> None:
    """The token is INVALID for exactly this reason, and the next good token is as good as ever."""
    established = establish_identity(bearer(token), issuers, now=NOW)
    assert established.identity.state == facts_pb2.INVALID
    assert problem_of(established) is reason, established.detail
    assert established.good_until is None
    assert not established.identity.HasField("subject")
    assert len(established.identity.token_sha256) == 32
    good = forge() if issuers[0].algorithms == rsa_issuer().algorithms else forge(key=ec_key("one"), alg="ES256")
    assert establish_identity(bearer(good), issuers, now=NOW).identity.state == facts_pb2.PRESENT


def claim(**changes: object) -> Token:
    return lambda: forge(claims(**changes))


def head(**changes: object) -> Token:
    return lambda: forge(header=changes)


def payload(content: bytes) -> Token:
    return lambda: forge(content)


def with_claim(name: str, spelling: str) -> Token:
    """A good payload with one member whose value is spelled in raw JSON."""

    def made() -> str:
        rest = json.dumps(claims(**{name: ABSENT}))
        return forge(f'{rest[:-1]}, "{name}": {spelling}}}'.encode())

    return made


def unsigned(**header: object) -> Token:
    return lambda: compact(text_of(header), text_of(claims()), lambda _: b"")


def part(position: int, change: Callable[[str], str]) -> Token:
    """A good token with one part respelled; the signature over the original part stays."""

    def made() -> str:
        parts = forge().split(".")
        parts[position] = change(parts[position])
        return ".".join(parts)

    return made


def trailing_bits(text: str) -> str:
    """Set an unused bit of the last character: decodes to the same bytes with a lenient decoder."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(text) % 4 in (2, 3)
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def unaligned(position: int) -> Token:
    """A good token whose part at `position` has unused bits, with one of them set."""

    def made() -> str:
        for filler in range(3):
            header = {"pad": "x" * filler}
            parts = forge(claims(pad="x" * filler), header=header).split(".")
            if len(parts[position]) % 4 in (2, 3):
                parts[position] = trailing_bits(parts[position])
                return ".".join(parts)
        raise AssertionError("no filler leaves unused bits")

    return made


def der() -> bytes:
    return rsa_key("one").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem() -> bytes:
    return rsa_key("one").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def hs256(secret: Callable[[], bytes], **header: object) -> Token:
    return lambda: forge(header={"alg": "HS256", **header}, sign_it=hmac_signer(secret()))


def modulus_text() -> bytes:
    return str(jwk(rsa_key("one"))["n"]).encode()


HEADER_CASES: list[Case] = [
    ("1-none", unsigned(alg="none"), Reason.BAD_ALG),
    ("1-none-with-signature", lambda: forge(header={"alg": "none"}), Reason.BAD_ALG),
    *[(f"2-none-spelled-{index}", unsigned(alg=alg), Reason.BAD_ALG)
      for index, alg in enumerate(("nOnE", "None", "NONE", "none ", "", "RS256 ", "rs256", "RS256\n"))],
    ("4-alg-missing", head(alg=ABSENT), Reason.MALFORMED_TOKEN_HEADER),
    *[(f"4-alg-{type(alg).__name__}", head(alg=alg), Reason.MALFORMED_TOKEN_HEADER)
      for alg in (None, ["RS256"], {"alg": "RS256"}, 256, True)],
    ("5-hs256-keyed-with-pem", hs256(pem), Reason.BAD_ALG),
    ("7-hs256-keyed-with-der", hs256(der), Reason.BAD_ALG),
    ("8-hs256-keyed-with-jwks", hs256(lambda: jwks(jwk(rsa_key("one")))), Reason.BAD_ALG),
    ("8-hs256-keyed-with-n", hs256(modulus_text), Reason.BAD_ALG),
    ("8-hs256-keyed-with-x5c", hs256(lambda: base64.b64encode(der())), Reason.BAD_ALG),
    ("8-hs256-without-kid", hs256(der, kid=ABSENT), Reason.BAD_ALG),
    ("10-ps256-declared", lambda: forge(alg="PS256"), Reason.BAD_ALG),
    ("18-es256k-declared", head(alg="ES256K"), Reason.BAD_ALG),
    ("18-eddsa-declared", head(alg="EdDSA"), Reason.BAD_ALG),
    ("24-crit-empty", head(crit=[]), Reason.MALFORMED_TOKEN_HEADER),
    ("24-crit-twice", head(crit=["x-a", "x-a"], **{"x-a": 1}), Reason.MALFORMED_TOKEN_HEADER),
    ("24-crit-registered", head(crit=["alg"]), Reason.MALFORMED_TOKEN_HEADER),
    ("24-crit-registered-kid", head(crit=["x-a", "kid"], **{"x-a": 1}), Reason.MALFORMED_TOKEN_HEADER),
    ("24-crit-absent", head(crit=["x-a"]), Reason.MALFORMED_TOKEN_HEADER),
    *[(f"24-crit-{type(crit).__name__}", head(crit=crit), Reason.MALFORMED_TOKEN_HEADER)
      for crit in (None, "x-a", {"x-a": 1}, 1)],
    ("24-crit-with-number", head(crit=["x-a", 1], **{"x-a": 1}), Reason.MALFORMED_TOKEN_HEADER),
    ("24-crit-good-but-not-understood", head(crit=["x-a"], **{"x-a": 1}), Reason.UNSUPPORTED_CRIT),
    ("25-b64-false", head(b64=False), Reason.UNSUPPORTED_CRIT),
    ("25-b64-true", head(b64=True), Reason.UNSUPPORTED_CRIT),
    ("25-b64-critical", head(b64=False, crit=["b64"]), Reason.UNSUPPORTED_CRIT),
    ("27-jku", head(jku="https://evil.example/jwks"), Reason.UNSUPPORTED_TOKEN),
    ("27-x5u", head(x5u="http://169.254.169.254/"), Reason.UNSUPPORTED_TOKEN),
    ("32-alg-twice", lambda: forge(header=b'{"alg":"none","alg":"RS256","kid":"one"}'), Reason.MALFORMED_TOKEN_HEADER),
    ("32-kid-twice", lambda: forge(header=b'{"alg":"RS256","kid":"two","kid":"one"}'), Reason.MALFORMED_TOKEN_HEADER),
    ("34-alg-twice-escaped", lambda: forge(header=b'{"\\u0061lg":"RS256","alg":"RS256","kid":"one"}'),
     Reason.MALFORMED_TOKEN_HEADER),
    ("34-nested-twice", lambda: forge(header=b'{"alg":"RS256","kid":"one","x":{"a":1,"a":2}}'),
     Reason.MALFORMED_TOKEN_HEADER),
    ("37-header-nan", lambda: forge(header=b'{"alg":"RS256","kid":"one","x":NaN}'), Reason.MALFORMED_TOKEN_HEADER),
    ("50-nested-cty", head(cty="JWT"), Reason.UNSUPPORTED_TOKEN),
    ("50-nested-cty-media-type", head(cty="application/jwt"), Reason.UNSUPPORTED_TOKEN),
    ("50-enc", head(enc="A256GCM"), Reason.UNSUPPORTED_TOKEN),
    ("50-jwe-compact", lambda: ".".join([b64text({"alg": "dir", "enc": "A256GCM"}), "", "AAAA", "AAAA", "AAAA"]),
     Reason.UNSUPPORTED_TOKEN),
    ("51-jwe-zip", lambda: ".".join([b64text({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}), "", "AA", "AA", "AA"]),
     Reason.UNSUPPORTED_TOKEN),
    ("51-jwe-p2c", lambda: ".".join([b64text({"alg": "PBES2-HS256+A128KW", "p2c": 2**31}), "AA", "AA", "AA", "AA"]),
     Reason.UNSUPPORTED_TOKEN),
    ("51-zip", head(zip="DEF"), Reason.UNSUPPORTED_TOKEN),
    ("52-json-with-two-dots", lambda: '{"a":"1.2.3"}', Reason.MALFORMED_TOKEN),
    ("58-header-list", lambda: forge(header=b"[]"), Reason.MALFORMED_TOKEN),
    ("58-header-empty", lambda: forge(header=b""), Reason.MALFORMED_TOKEN),
    ("58-header-not-utf8", lambda: forge(header=b'{"alg":"RS256","x":"\xff"}'), Reason.MALFORMED_TOKEN),
    ("58-header-byte-order-mark", lambda: forge(header=b'\xef\xbb\xbf{"alg":"RS256"}'), Reason.MALFORMED_TOKEN),
    ("typ-logout", head(typ="logout+jwt"), Reason.UNSUPPORTED_TOKEN),
    ("typ-dpop", head(typ="application/dpop+jwt"), Reason.UNSUPPORTED_TOKEN),
    ("typ-number", head(typ=1), Reason.MALFORMED_TOKEN_HEADER),
    ("kid-number", head(kid=1), Reason.MALFORMED_TOKEN_HEADER),
    ("kid-list", head(kid=["one"]), Reason.MALFORMED_TOKEN_HEADER),
    ("kid-null", head(kid=None), Reason.MALFORMED_TOKEN_HEADER),
    ("kid-empty", head(kid=""), Reason.MALFORMED_TOKEN_HEADER),
    ("kid-long", head(kid="k" * 257), Reason.MALFORMED_TOKEN_HEADER),
    ("kid-nul", head(kid="one\0"), Reason.MALFORMED_TOKEN_HEADER),
    ("kid-surrogate", head(kid="\ud800"), Reason.MALFORMED_TOKEN),
    ("kid-unknown", head(kid="three"), Reason.UNKNOWN_KID),
    ("kid-path", head(kid="../../dev/null"), Reason.UNKNOWN_KID),
    ("kid-other-case", head(kid="ONE"), Reason.UNKNOWN_KID),
    ("trap3-header-1200-deep", lambda: forge(header=b'{"alg":"RS256","x":' + b"[" * 1200 + b"]" * 1200 + b"}"),
     Reason.MALFORMED_TOKEN),
    ("trap3-header-3000-open", lambda: forge(header=b'{"alg":"RS256","x":' + b"[" * 3000), Reason.MALFORMED_TOKEN),
]  # fmt: skip


def b64text(value: object) -> str:
    return base64.urlsafe_b64encode(text_of(value)).rstrip(b"=").decode()


NUMBERS = (
    "null", "[]", "{}", "true", "NaN", "Infinity", "-Infinity", "1e400", "-1", "-0.5", "1" * 5000, '"1772366400"',
    '"\u0661\u0667"', "1772366400000", "253402300800", "1e" + "9" * 30,
)  # fmt: skip

TIMES = [(name, text) for name in ("iat", "nbf", "auth_time") for text in ("null", "true", '"1"', "-1", "NaN")]
NO_AUDIENCES: list[object] = [None, 1, True, {}, [[AUDIENCE]], [AUDIENCE, 5], [AUDIENCE, None], [], "", [AUDIENCE, ""]]
OTHER_AUDIENCES: list[object] = [
    "orders-evil", "order", "Orders", "orders ", " orders", "orders/", ["x", "ORDERS"], "*",
]  # fmt: skip
NO_SUBJECTS: list[object] = [None, 1, True, [], ["ada"], {}, "", "a" * 256, "a\nb", "a\x7f", "a\x85b"]
LOOK_ALIKES: list[object] = [
    "\uff41dmin@corp.example", "adm\u0131n@corp.example", "\u212aate@corp.example", "ad\u200bmin@corp.example",
    "\u202eadmin@corp.example", "jos\u00e9@corp.example", "jose\u0301@corp.example",
]  # fmt: skip
NO_EMAILS: list[object] = [
    "attacker@evil.com@company.com", "@", "a@", "@b", "a b@c.d", "a@b c", "a@b.c\n", " a@b.c", '"a@b"@c.d', "a@b..c",
    "a@.b", "a@b.", "a..b@c.d", ".a@c.d", "a.@c.d", "a@-b.c", "a@b-.c", "a@[127.0.0.1]", "a,b@c.d", "<a@b.c>",
    "a" * 65 + "@b.c", "a@" + "b" * 64, "plain", "", "a@" + "b." * 130 + "c", None, 1, True, ["a@b.c"], {},
]  # fmt: skip
NO_GROUPS: list[object] = [
    "eng", "", None, 1, True, {"eng": 1}, ["eng", 1], ["eng", None], [["eng"]], ["eng", ""],
]  # fmt: skip
NO_SCOPES: list[object] = [None, 1, "a  b", " a", "a ", "a\tb", 'a"b', "\u00e9", ["a b"], [""], [1]]


def claim_cases(name: str, row: int, *, values: list[object], reason: Reason, **others: object) -> list[Case]:
    return [(f"{row}-{name}-{index}", claim(**{name: value}, **others), reason) for index, value in enumerate(values)]


CLAIM_CASES: list[Case] = [
    ("34-sub-escaped-twice", payload(b'{"sub":"ada","\\u0073ub":"root"}'), Reason.DUPLICATE_CLAIM),
    ("34-aud-twice", with_claim("aud", '"orders","aud":"orders"'), Reason.DUPLICATE_CLAIM),
    ("35-exp-missing", claim(exp=ABSENT), Reason.MISSING_EXP),
    *[(f"37-exp-{index}-{text[:10]}", with_claim("exp", text), Reason.BAD_CLAIM_TYPE)
      for index, text in enumerate(NUMBERS)],
    *[(f"37-{name}-{text}", with_claim(name, text), Reason.BAD_CLAIM_TYPE) for name, text in TIMES],
    ("38-exp-at-skew", claim(exp=NOW_S - 30), Reason.EXPIRED),
    ("38-exp-at-skew-in-fractions", claim(exp=NOW_S - 30.0001), Reason.EXPIRED),
    ("38-exp-long-ago", claim(exp=0), Reason.EXPIRED),
    ("40-nbf-beyond-skew", claim(nbf=NOW_S + 31), Reason.NOT_YET_VALID),
    ("41-iat-beyond-skew", claim(iat=NOW_S + 31), Reason.IAT_FUTURE),
    ("41-iat-far", claim(iat=NOW_S + 10**6), Reason.IAT_FUTURE),
    ("41-auth-time-future", claim(auth_time=NOW_S + 31), Reason.IAT_FUTURE),
    ("42-aud-missing", claim(aud=ABSENT), Reason.MISSING_AUD),
    *claim_cases("aud", 44, values=NO_AUDIENCES, reason=Reason.BAD_CLAIM_TYPE),
    *claim_cases("aud", 45, values=OTHER_AUDIENCES, reason=Reason.WRONG_AUD),
    ("47-iss-list", claim(iss=[ISSUER]), Reason.BAD_CLAIM_TYPE),
    *claim_cases("iss", 47, values=[None, 1, True, {"a": 1}, [], [ISSUER, ISSUER]], reason=Reason.BAD_CLAIM_TYPE),
    *[(f"48-iss-{index}", claim(iss=iss), Reason.UNKNOWN_ISSUER)
      for index, iss in enumerate((ABSENT, "", ISSUER + "/", ISSUER.upper(), "https://evil.example", ISSUER[:-1]))],
    ("55-above-8-kib", claim(pad="x" * 8192), Reason.TOKEN_TOO_LARGE),
    ("55-5-mib", lambda: "x" * (5 << 20), Reason.TOKEN_TOO_LARGE),
    ("55-5-mib-of-dots", lambda: "." * (5 << 20), Reason.TOKEN_TOO_LARGE),
    ("57-100000-claims", lambda: forge({str(index): 1 for index in range(10**5)}), Reason.TOKEN_TOO_LARGE),
    ("57-4301-digits", with_claim("n", "1" * 4301), Reason.BAD_CLAIM_TYPE),
    ("57-10000-groups", claim(groups=["g"] * 10**4), Reason.TOKEN_TOO_LARGE),
    *[(f"58-payload-{content.decode()}", payload(content), Reason.MALFORMED_TOKEN)
      for content in (b"[]", b'"x"', b"null", b"1", b"", b"{", b"{}{}", b"{'sub':'ada'}", b'{"a":1,}', b"{/**/}")],
    ("58-payload-not-utf8", payload(b'{"sub":"\xff"}'), Reason.MALFORMED_TOKEN),
    ("58-payload-utf16", lambda: forge(json.dumps(claims()).encode("utf-16")), Reason.MALFORMED_TOKEN),
    ("58-payload-raw-control", payload(b'{"sub":"a\nb"}'), Reason.MALFORMED_TOKEN),
    ("58-payload-deep", with_claim("x", "[" * 17 + "]" * 17), Reason.MALFORMED_TOKEN),
    ("58-payload-deep-objects", with_claim("x", '{"a":' * 900 + "1" + "}" * 900), Reason.MALFORMED_TOKEN),
    ("60-sub-missing", claim(sub=ABSENT), Reason.BAD_SUB),
    *claim_cases("sub", 60, values=NO_SUBJECTS, reason=Reason.BAD_SUB),
    ("60-sub-10-kib", claim(sub="a" * 10240), Reason.TOKEN_TOO_LARGE),
    *claim_cases("email", 61, values=LOOK_ALIKES, reason=Reason.BAD_EMAIL, email_verified=True),
    *claim_cases("email", 62, values=NO_EMAILS, reason=Reason.BAD_EMAIL, email_verified=True),
    ("62-email-unverified-is-judged-too", claim(email="attacker@evil.com@company.com"), Reason.BAD_EMAIL),
    ("64-groups-500", claim(groups=["g"] * 500), Reason.TOKEN_TOO_LARGE),
    ("64-groups-201", claim(groups=["g"] * 201), Reason.TOKEN_TOO_LARGE),
    *claim_cases("groups", 64, values=NO_GROUPS, reason=Reason.BAD_CLAIM_TYPE),
    ("trap5-group-nul", claim(groups=["eng\0x"]), Reason.FACT_WITH_NUL),
    ("trap5-nul-in-a-name", claim(**{"a\0b": 1}), Reason.FACT_WITH_NUL),
    ("trap6-exp-with-plus", with_claim("exp", f"+{NOW_S + 600}"), Reason.MALFORMED_TOKEN),
    ("trap6-exp-with-underscore", with_claim("exp", "1_0"), Reason.MALFORMED_TOKEN),
    ("trap6-exp-with-zero", with_claim("exp", f"0{NOW_S + 600}"), Reason.MALFORMED_TOKEN),
    ("trap6-exp-arabic", with_claim("exp", "1\u0661"), Reason.MALFORMED_TOKEN),
    ("trap7-surrogate", claim(team="\ud800"), Reason.MALFORMED_TOKEN),
    ("trap7-surrogate-in-group", claim(groups=["\udfff"]), Reason.MALFORMED_TOKEN),
    *[(f"type-{name}-{index}", claim(**{name: value}), Reason.BAD_CLAIM_TYPE)
      for name in ("acr", "sid", "jti") for index, value in enumerate((None, 1, "", ["a"]))],
    *[(f"type-amr-{index}", claim(amr=value), Reason.BAD_CLAIM_TYPE) for index, value in enumerate((None, "mfa", [1]))],
    *[(f"type-{name}-{index}", claim(**{name: value}), Reason.BAD_CLAIM_TYPE)
      for name in ("scope", "scp") for index, value in enumerate(NO_SCOPES)],
    ("type-scope-many", claim(scope=" ".join(["a"] * 201)), Reason.TOKEN_TOO_LARGE),
    ("kind-logout", claim(events={"http://schemas.openid.net/event/backchannel-logout": {}}), Reason.UNSUPPORTED_TOKEN),
    ("kind-bound-to-certificate", claim(cnf={"x5t#S256": "AAAA"}), Reason.BINDING_MISMATCH),
    ("kind-bound-to-dpop-key", claim(cnf={"jkt": "AAAA"}), Reason.BINDING_MISMATCH),
]  # fmt: skip

RESPELLINGS: dict[str, Callable[[str], str]] = {
    "padded": lambda text: text + "=" * (-len(text) % 4 or 4),
    "one-pad": lambda text: text + "=",
    "junk": lambda text: text[:8] + "!" + text[8:],
    "plus": lambda text: "+" + text[1:],
    "slash": lambda text: "/" + text[1:],
    "not-ascii": lambda text: text + "\u0661",
    "full-width": lambda text: text[:4] + "\uff21" + text[4:],
    "surrogate": lambda text: text + "\ud800",
    "an-impossible-length": lambda text: text + "A" * ((1 - len(text)) % 4),
}

SPELLING_CASES: list[Case] = [
    *[(f"54-{name}-part-{position}", part(position, change), Reason.NON_CANONICAL)
      for position in range(3) for name, change in RESPELLINGS.items()],
    *[(f"54-trailing-bits-part-{position}", unaligned(position), Reason.NON_CANONICAL) for position in range(3)],
    *[(f"shape-{index}", lambda text=text: text, Reason.MALFORMED_TOKEN)
      for index, text in enumerate((".", "a", "a.b", "a.b.c.d", "a.b.c.d.e.f", "..", "...", "{}"))],
    ("shape-four-dots-only", lambda: "....", Reason.UNSUPPORTED_TOKEN),
]  # fmt: skip


def ids(cases: list[Case]) -> list[str]:
    return [case[0] for case in cases]


@pytest.mark.parametrize(("_row", "token", "reason"), HEADER_CASES, ids=ids(HEADER_CASES))
def test_a_hostile_header_is_refused(_row: str, token: Token, reason: Reason) -> None:
    refuse(token(), [rsa_issuer()], reason)


@pytest.mark.parametrize(("_row", "token", "reason"), CLAIM_CASES, ids=ids(CLAIM_CASES))
def test_hostile_claims_are_refused(_row: str, token: Token, reason: Reason) -> None:
    refuse(token(), [rsa_issuer()], reason)


@pytest.mark.parametrize(("_row", "token", "reason"), SPELLING_CASES, ids=ids(SPELLING_CASES))
def test_a_second_spelling_is_refused(_row: str, token: Token, reason: Reason) -> None:
    refuse(token(), [rsa_issuer()], reason)


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\r\n", "\u00a0", "\u2028"], ids=ascii)
@pytest.mark.parametrize("place", [0, 9, -1], ids=["first", "inside", "last"])
def test_54_white_space_in_a_token_is_refused_twice(space: str, place: int) -> None:
    good = forge()
    token = good + space if place == -1 else good[:place] + space + good[place:]
    with pytest.raises(InvalidCredential) as refused:
        parse_token(token)
    assert refused.value.reason is Reason.NON_CANONICAL
    refuse(token, [rsa_issuer()], Reason.AMBIGUOUS_CREDENTIALS)


@pytest.mark.parametrize("form", ["flattened", "general"])
def test_52_the_json_serialisation_is_refused(form: str) -> None:
    protected, content, signature = forge().split(".")
    signed = {"protected": protected, "signature": signature}
    whole = {"payload": content, **signed} if form == "flattened" else {"payload": content, "signatures": [signed]}
    with pytest.raises(InvalidCredential) as refused:
        parse_token(json.dumps(whole))
    assert refused.value.reason is Reason.MALFORMED_TOKEN


def test_28_keys_and_chains_in_the_header_are_ignored() -> None:
    stranger = rsa_key("stranger")
    brought = {"jwk": jwk(stranger), "x5c": [base64.b64encode(der()).decode()], "x5t": "AAAA", "x5t#S256": "AAAA"}
    refuse(forge(key=stranger, header=brought), [rsa_issuer()], Reason.BAD_SIGNATURE)
    established = establish_identity(bearer(forge(header=brought)), [rsa_issuer()], now=NOW)
    assert established.identity.state == facts_pb2.PRESENT


def test_30_the_kid_names_one_key_and_another_signed() -> None:
    refuse(forge(key=rsa_key("two")), [rsa_issuer()], Reason.KID_MISMATCH)
    refuse(forge(key=ec_key("two"), alg="ES256"), [ec_issuer()], Reason.KID_MISMATCH)


def test_31_no_kid_and_several_keys_fit() -> None:
    refuse(forge(header={"kid": ABSENT}), [rsa_issuer()], Reason.AMBIGUOUS_KEY)
    refuse(forge(key=ec_key("two"), alg="ES256", header={"kid": ABSENT}), [ec_issuer()], Reason.AMBIGUOUS_KEY)


def test_31_no_kid_and_one_key_fits() -> None:
    token = forge(key=ec_key("long", "P-384"), alg="ES384", header={"kid": ABSENT})
    established = establish_identity(bearer(token), [ec_issuer()], now=NOW)
    assert established.identity.state == facts_pb2.PRESENT
    assert established.identity.key_id == "long"


def test_31_no_kid_and_no_key_fits() -> None:
    keys = key_set(jwk(ec_key("one"), kid="one"))
    only_short = dataclasses.replace(ec_issuer(), keys=keys)
    token = forge(key=ec_key("long", "P-384"), alg="ES384", header={"kid": ABSENT})
    refuse(token, [only_short], Reason.ALG_KEY_MISMATCH)


class TestTwoIssuers:
    """Row 48: keys are scoped to their issuer."""

    @staticmethod
    def issuers(**named: str) -> list[Issuer]:
        kid = named.get("kid", "theirs")
        return [rsa_issuer(), other_issuer(key_set(jwk(rsa_key("theirs"), kid=kid)))]

    def test_48_signed_by_the_other_issuers_key_under_its_kid(self) -> None:
        token = forge(key=rsa_key("theirs"), header={"kid": "theirs"})
        refuse(token, self.issuers(), Reason.ISSUER_KEY_MISMATCH)

    def test_48_signed_by_the_other_issuers_key_under_a_kid_that_both_have(self) -> None:
        refuse(forge(key=rsa_key("theirs")), self.issuers(kid="one"), Reason.ISSUER_KEY_MISMATCH)

    def test_48_a_kid_of_the_other_issuer_alone_is_not_its_signature(self) -> None:
        """A key rotated in under a name that somebody else uses too: fetching again helps, so it must be seen."""
        token = forge(key=rsa_key("rotated"), header={"kid": "theirs"})
        refuse(token, self.issuers(), Reason.UNKNOWN_KID)

    def test_48_claiming_the_other_issuer_with_our_own_key(self) -> None:
        refuse(forge(claims(iss=OTHER_ISSUER)), self.issuers(), Reason.ISSUER_KEY_MISMATCH)
        refuse(forge(claims(iss=OTHER_ISSUER), header={"kid": "theirs"}), self.issuers(), Reason.ISSUER_KEY_MISMATCH)

    def test_48_each_issuers_own_token_is_good(self) -> None:
        token = forge(claims(iss=OTHER_ISSUER), key=rsa_key("theirs"), header={"kid": "theirs"})
        established = establish_identity(bearer(token), self.issuers(), now=NOW)
        assert established.identity.source == "jwt:partner"
        assert established.identity.issuer == OTHER_ISSUER

    def test_48_an_algorithm_of_one_issuer_is_not_the_others(self) -> None:
        issuers = [ec_issuer(), other_issuer(key_set(jwk(rsa_key("theirs"), kid="one")))]
        refuse(forge(key=rsa_key("theirs")), issuers, Reason.BAD_ALG)

    def test_48_the_search_for_the_culprit_is_bounded(self) -> None:
        """The ninth key is not tried: the token is refused either way, only the record is less telling."""
        ninth = [jwk(ec_key(f"spare {index}"), kid=f"spare {index}") for index in range(9)]
        crowd = issuer(key_set(jwk(ec_key("one"), kid="one"), *ninth), algorithms=ec_issuer().algorithms)
        refuse(forge(key=ec_key("spare 7"), alg="ES256"), [crowd], Reason.KID_MISMATCH)
        refuse(forge(key=ec_key("spare 8"), alg="ES256"), [crowd], Reason.BAD_SIGNATURE)


class TestAge:
    """Row 65: claims are no older than the configured bound."""

    def test_65_a_token_at_the_bound_is_too_old(self) -> None:
        bounded = dataclasses.replace(rsa_issuer(), max_age=timedelta(minutes=5))
        refuse(forge(claims(iat=NOW_S - 300)), [bounded], Reason.TOKEN_TOO_OLD)
        young = establish_identity(bearer(forge(claims(iat=NOW_S - 299))), [bounded], now=NOW)
        assert young.good_until == NOW + timedelta(seconds=1)

    def test_65_a_token_without_iat_cannot_be_shown_to_be_young(self) -> None:
        hour = timedelta(hours=1)
        for bounded in (
            dataclasses.replace(rsa_issuer(), max_age=hour),
            dataclasses.replace(rsa_issuer(), max_lifetime=hour),
        ):
            refuse(forge(claims(iat=ABSENT)), [bounded], Reason.TOKEN_TOO_OLD)

    def test_65_a_lifetime_above_the_bound(self) -> None:
        bounded = dataclasses.replace(rsa_issuer(), max_lifetime=timedelta(seconds=660))
        refuse(forge(claims(exp=NOW_S + 601)), [bounded], Reason.TOKEN_TOO_OLD)
