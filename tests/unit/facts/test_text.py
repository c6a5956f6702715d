# SPDX-License-Identifier: Apache-2.0
"""Texts that name somebody: what two people would read alike is refused, never mended (row 61)."""

import unicodedata

import pytest

from iap_authz.errors import InvalidCredential
from iap_authz.facts.text import check_plain
from iap_authz.model.reason import Reason
from tests.fakes.tokens import bearer, claims, forge, problem_of, rsa_issuer
from tests.unit.facts.test_identity import establish

PLAIN = (
    *("ada", "Ada Lovelace", "", "auth0|5f7c", "\u00e9ng", "\u0130zmir", "\u6771\u4eac", "\u0645\u062d\u0645\u062f"),
    *("adm\u0131n", "\uff41dmin", "a,b/c:d~"),
)
CONFUSABLE = {
    "decomposed": "e\u0301ng",
    "kelvin": "\u212aate",
    "angstrom": "\u212b",
    "zero-width-space": "ad\u200bmin",
    "zero-width-joiner": "ad\u200dmin",
    "right-to-left-override": "\u202eadmin",
    "isolate": "\u2066admin\u2069",
    "soft-hyphen": "ad\u00admin",
    "byte-order-mark": "\ufeffadmin",
    "tab": "a\tb",
    "newline": "admin\n",
    "no-break-space": "a\u00a0b",
    "line-separator": "a\u2028b",
    "private": "a\ue000",
    "unassigned": "a\u0378",
    "noncharacter": "a\uffff",
    "combining-grapheme-joiner": "a\u034fb",
    "hangul-filler": "admin\u3164",
    "halfwidth-filler": "admin\uffa0",
    "variation-selector": "admin\ufe0f",
    "tag": "admin\U000e0061",
    "braille-blank": "admin\u2800",
    "khitan-filler": "a\U00016fe4",
    "null-notehead": "a\U0001d159",
    "leading-space": " admin",
    "trailing-space": "admin ",
    "two-spaces": "ada  lovelace",
}


@pytest.mark.parametrize("text", PLAIN, ids=ascii)
def test_plain_texts(text: str) -> None:
    check_plain(text, "sub")


@pytest.mark.parametrize("text", CONFUSABLE.values(), ids=list(CONFUSABLE))
def test_61_what_could_be_taken_for_another_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCredential) as caught:
        check_plain(text, "sub")
    assert caught.value.reason == Reason.CONFUSABLE_TEXT
    assert text not in str(caught.value)


def test_every_text_of_a_token_is_judged() -> None:
    text = "ad\u200bmin"
    for changed in (
        *({"sub": text}, {"groups": ["eng", text]}, {"amr": [text]}, {"acr": text}, {"sid": text}, {"jti": text}),
        *({"team": text}, {"aud": ["orders", text]}),
    ):
        established = establish(bearer(forge(claims(**changed))), claims=("team",))
        assert problem_of(established) is Reason.CONFUSABLE_TEXT, changed
        assert establish(bearer(forge(claims(nickname=text)))).detail == ""


def test_nothing_passes_that_another_form_would_change() -> None:
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF:
            continue
        try:
            check_plain(f"a{chr(code)}", "sub")
        except InvalidCredential:
            continue
        assert unicodedata.normalize("NFC", f"a{chr(code)}") == f"a{chr(code)}"
        assert unicodedata.category(chr(code)) not in {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("email", "domains", "is_good"),
    [
        ("ada@corp.example", (), True),
        ("ada@xn--crp-0na.example", (), False),
        ("ada@a.XN--crp-0na.example", (), False),
        ("ada@xn--crp-0na.example", ("xn--crp-0na.example",), True),
        ("ada@corp.example", ("corp.example",), True),
        ("ada@CORP.example", ("corp.example",), True),
        ("ada@evilcorp.example", ("corp.example",), False),
        ("ada@corp.example.evil.example", ("corp.example",), False),
        ("ada@mail.corp.example", ("corp.example",), False),
    ],
)
def test_61_the_domain_of_an_email(email: str, domains: tuple[str, ...], *, is_good: bool) -> None:
    established = establish(bearer(forge(claims(email=email, email_verified=True))), email_domains=frozenset(domains))
    if is_good:
        assert established.identity.email == email
    else:
        assert problem_of(established) is Reason.BAD_EMAIL


def test_a_domain_that_is_not_listed_is_refused_unverified_too() -> None:
    issuer = {"email_domains": frozenset({"corp.example"})}
    assert problem_of(establish(bearer(forge(claims(email="a@b.example"))), **issuer)) is Reason.BAD_EMAIL
    assert establish(bearer(forge(claims())), **issuer).detail == ""
    assert rsa_issuer().email_domains == frozenset()
