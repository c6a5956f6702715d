# SPDX-License-Identifier: Apache-2.0
"""The grammar of XFCC: what Envoy writes is read, and nothing else is."""

import pytest

from iap_authz.errors import InvalidCredential
from iap_authz.facts.xfcc import ELEMENTS_MAX, XFCC_MAX_CHARS, XfccElement, parse_xfcc
from iap_authz.model.reason import Reason

HASH, OTHER = "a1" * 32, "0f" * 32
ELEMENT = f"Hash={HASH}"


@pytest.mark.parametrize(
    ("header", "want"),
    [
        (ELEMENT, XfccElement(sha256=HASH)),
        (f"{ELEMENT};URI=", XfccElement(sha256=HASH)),
        (f'{ELEMENT};Subject="";URI=', XfccElement(sha256=HASH)),
        (f"By=spiffe://x/e;By=spiffe://x/f;{ELEMENT}", XfccElement(by=("spiffe://x/e", "spiffe://x/f"), sha256=HASH)),
        (f"{ELEMENT};URI=spiffe://a/b;URI=https://c/d", XfccElement(sha256=HASH, uris=("spiffe://a/b", "https://c/d"))),
        (f"{ELEMENT};URI=;DNS=a.example;DNS=b.example", XfccElement(sha256=HASH, dns=("a.example", "b.example"))),
        (
            f'{ELEMENT};Cert="-----BEGIN%20C";Chain="x"',
            XfccElement(sha256=HASH, certificate="-----BEGIN%20C", chain="x"),
        ),
        (f'URI="a,b;c=d";{ELEMENT}', XfccElement(sha256=HASH, uris=("a,b;c=d",))),
        (f"hASH={HASH};uRI=a;dns=b;BY=c", XfccElement(by=("c",), sha256=HASH, uris=("a",), dns=("b",))),
    ],
)
def test_what_an_element_says(header: str, want: XfccElement) -> None:
    assert parse_xfcc(header) == (want,)


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        ("CN=plain", "CN=plain"),
        (r"CN=a\"b", 'CN=a"b'),
        (r"CN=a\\", "CN=a\\"),
        (r"CN=a\\\"b", 'CN=a\\"b'),
        (r"CN=a\,b\;c=d", r"CN=a\,b\;c=d"),
        (r"CN=\"\;URI=spiffe://x", r'CN="\;URI=spiffe://x'),
        (r"CN=\C3\BC", r"CN=\C3\BC"),
        (r"CN=a\01b", r"CN=a\01b"),
        (r"CN=\ lead", r"CN=\ lead"),
        ("/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client", "/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client"),
    ],
)
def test_a_subject_as_envoy_writes_it_ends_where_it_ends(written: str, subject: str) -> None:
    (found,) = parse_xfcc(f'{ELEMENT};Subject="{written}";URI=spiffe://a/b')
    assert found == XfccElement(sha256=HASH, subject=subject, uris=("spiffe://a/b",))


def test_elements_come_in_order_and_share_nothing() -> None:
    assert parse_xfcc(f"{ELEMENT};URI=a,URI=b,DNS=c;Hash={OTHER}") == (
        XfccElement(sha256=HASH, uris=("a",)),
        XfccElement(uris=("b",)),
        XfccElement(sha256=OTHER, dns=("c",)),
    )


def test_an_element_that_speaks_of_no_certificate() -> None:
    assert [element.says_nothing for element in parse_xfcc('By=a,Subject="";URI=,URI=x,By=a;Subject="CN=b"')] == [
        *(True, True),
        *(False, False),
    ]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(header, id=name)
        for name, header in {
            "nothing": "",
            "a-space": " ",
            "no-pair": "spiffe://a/b",
            "no-key": f"={HASH}",
            "unknown-key": f"{ELEMENT};Issuer=a",
            "a-key-with-a-space": f"Hash ={HASH}",
            "a-key-in-quotes": f'"Hash"={HASH}',
            "a-key-that-folds": f"Ha\u017fh={HASH}",
            "no-element-first": f",{ELEMENT}",
            "no-element-last": f"{ELEMENT},",
            "no-element-between": f"{ELEMENT},,{ELEMENT}",
            "no-pair-first": f";{ELEMENT}",
            "no-pair-last": f"{ELEMENT};",
            "no-pair-between": f"{ELEMENT};;URI=a",
            "a-space-after-a-comma": f"{ELEMENT}, {ELEMENT}",
            "a-space-after-a-semicolon": f"{ELEMENT}; URI=a",
            "a-space-at-the-end": f"{ELEMENT} ",
            "a-space-for-a-mark": f"{ELEMENT} URI=a",
            "a-quote-for-a-mark": f'{ELEMENT};URI=a"URI=b',
            "a-quoted-value-for-a-mark": f'{ELEMENT};Subject="a"URI=b',
            "an-equals-sign-for-a-mark": f"{ELEMENT};URI=a=URI=b",
            "a-backslash-for-a-mark": f"{ELEMENT}\\URI=a",
            "nul-for-a-mark": f"{ELEMENT}\0URI=a",
            "a-tab": f"{ELEMENT}\t;URI=a",
            "a-line-end": f"{ELEMENT}\n",
            "two-hashes": f"{ELEMENT};Hash={HASH}",
            "two-hashes-in-other-case": f"{ELEMENT};hash={HASH}",
            "two-certs": 'Cert="a";Cert="a"',
            "two-chains": 'Chain="a";Chain="b"',
            "two-subjects": 'Subject="a";Subject="a"',
            "an-empty-hash": "Hash=",
            "an-empty-cert": 'Cert=""',
            "an-empty-chain": "Chain=",
            "an-empty-name": f"{ELEMENT};DNS=",
            "an-empty-proxy": f"By=;{ELEMENT}",
            "an-empty-uri-beside-another": f"{ELEMENT};URI=a;URI=",
            "two-empty-uris": f"{ELEMENT};URI=;URI=",
            "a-short-hash": f"Hash={HASH[:-2]}",
            "a-long-hash": f"Hash={HASH}00",
            "an-upper-case-hash": f"Hash={HASH.upper()}",
            "a-hash-with-colons": "Hash=" + ":".join(["a1"] * 32),
            "an-open-quote": f'{ELEMENT};Subject="CN=a',
            "a-quote-alone": f'{ELEMENT};Subject="',
            "an-escaped-end": f'{ELEMENT};Subject="CN=a\\"',
            "a-backslash-at-the-end": f'{ELEMENT};Subject="CN=a\\',
            "text-after-a-quote": f'{ELEMENT};Subject="CN=a"b',
            "a-quote-after-a-quote": f'{ELEMENT};Subject="CN=a""',
            "a-quote-inside-a-plain-value": f'{ELEMENT};URI=a"b',
            "an-equals-sign-in-a-plain-value": f"{ELEMENT};URI=https://a/?b=c",
            "a-space-in-a-plain-value": f"{ELEMENT};URI=a b",
            "a-backslash-in-a-plain-value": f"{ELEMENT};URI=a\\b",
            "an-escape-outside-of-subject": f'{ELEMENT};URI="a\\"b"',
            "an-escape-in-a-cert": 'Cert="a\\\\b"',
            "single-quotes": f"{ELEMENT};URI='a,b'",
            "nul": f"{ELEMENT};URI=a\0b",
            "nul-in-quotes": f'{ELEMENT};Subject="a\0b"',
            "delete": f"{ELEMENT};URI=a\x7f",
            "a-letter-beyond-ascii": f'{ELEMENT};Subject="CN=\u00fc"',
            "a-lone-surrogate": f"{ELEMENT};URI=a\ud800",
            "too-long": f"{ELEMENT};URI=" + "a" * XFCC_MAX_CHARS,
            "one-element-too-many": ",".join([ELEMENT] * (ELEMENTS_MAX + 1)),
            "a-hundred-thousand-elements": "By=," * 100_000,
            "as-many-as-fit": "a=," * (XFCC_MAX_CHARS // 4),
        }.items()
    ],
)
def test_nothing_else_is_read_and_nothing_is_repaired(header: str) -> None:
    with pytest.raises(InvalidCredential) as caught:
        parse_xfcc(header)
    assert caught.value.reason == Reason.MALFORMED_XFCC
    assert len(str(caught.value)) < 120
    assert parse_xfcc(ELEMENT)


def test_the_bounds_are_reached() -> None:
    assert len(parse_xfcc(",".join([ELEMENT] * ELEMENTS_MAX))) == ELEMENTS_MAX
    longest = f"{ELEMENT};URI="
    (found,) = parse_xfcc(longest + "a" * (XFCC_MAX_CHARS - len(longest)))
    assert found.uris != ()
