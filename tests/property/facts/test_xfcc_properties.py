# SPDX-License-Identifier: Apache-2.0
"""XFCC: what is written is read again; whatever else comes is refused; a slow and obvious reader agrees."""

from datetime import timedelta

from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from iap_authz.errors import InvalidCredential
from iap_authz.facts.authorities import parse_authorities
from iap_authz.facts.forwarded import Forwarding, find_client_certificate, judge_peer
from iap_authz.facts.xfcc import ELEMENTS_MAX, XfccElement, parse_xfcc
from iap_authz.model.reason import Reason, State
from tests.fakes.authority import TestAuthority
from tests.fakes.certificates import NOT_BEFORE, envoy_form
from tests.fakes.xfcc import KEYS, element_of, read_slowly, render_elements, unescape_slowly

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1)
MANY = st.lists(TEXT, max_size=3).map(tuple)
ELEMENTS = st.builds(
    XfccElement,
    by=MANY,
    sha256=st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64),
    certificate=st.just("") | TEXT,
    chain=st.just("") | TEXT,
    subject=PRINTABLE,
    uris=MANY,
    dns=MANY,
)
SPELLINGS = st.fixed_dictionaries({key: st.sampled_from([name, key, key.upper()]) for key, name in KEYS.items()})


@given(st.lists(ELEMENTS, min_size=1, max_size=ELEMENTS_MAX), SPELLINGS)
@example([XfccElement(subject='";URI=spiffe://x')], KEYS)
@example([XfccElement(subject="\\"), XfccElement(subject='\\"')], KEYS)
def test_what_is_written_is_read_again(elements: list[XfccElement], spell: dict[str, str]) -> None:
    assert list(parse_xfcc(render_elements(elements, spell=spell))) == elements


MARKS = st.text(st.sampled_from([*'aAZ=;,"\\ \t\0\x7f\u00fc\ud800'])) | st.text()
PIECES = st.lists(
    st.sampled_from(["Hash=", "a1" * 32, "URI=", "Subject=", '"', "\\", ",", ";", "=", "By=x", "Cert=", "dns=y", "z=z"])
    | st.text(max_size=3)
).map("".join)


@given(MARKS | PIECES)
@example('Subject="\\"')
@example('Subject="\\\\"')
@example('URI=";DNS="')
@example("URI=a URI=b")
def test_a_slow_reader_agrees_on_every_header(header: str) -> None:
    slow, elements = read_slowly(header), read(header)
    if slow is None or len(slow) > ELEMENTS_MAX or not all(_fits(dict_of(pairs)) for pairs in slow):
        assert elements is None
    else:
        assert elements is not None
        assert list(map(dict_of, slow)) == [said(element, pairs) for element, pairs in zip(elements, slow, strict=True)]


def read(header: str) -> tuple[XfccElement, ...] | None:
    """What the parser says; None where it refuses, which it does in one way."""
    try:
        return parse_xfcc(header)
    except InvalidCredential as error:
        if error.reason != Reason.MALFORMED_XFCC:
            raise
        return None


def dict_of(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key.lower(), []).append(value)
    return found


def _fits(found: dict[str, list[str]]) -> bool:
    """Whether keys, their number and their values are those of the table in the module's head."""
    single = all(len(found.get(key, [])) <= 1 for key in ("hash", "cert", "chain", "subject"))
    empty = any("" in found.get(key, []) for key in ("by", "hash", "cert", "chain", "dns"))
    lone = "" not in found.get("uri", []) or len(found["uri"]) == 1
    escaped = any("\\" in value for key, values in found.items() if key != "subject" for value in values)
    digits = all(len(text) == 64 and set(text) <= set("0123456789abcdef") for text in found.get("hash", []))
    return single and not empty and lone and not escaped and digits and found.keys() <= KEYS.keys()


def said(element: XfccElement, pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """What an element says, in the form of `dict_of`, with the keys and empty values that stand in `pairs`."""
    keys = dict_of(pairs)
    subject = keys.get("subject", [""])[0]
    assert element.subject == unescape_slowly(subject)
    values = {"by": element.by, "hash": (element.sha256,), "cert": (element.certificate,), "chain": (element.chain,)}
    values |= {"uri": element.uris or ("",), "dns": element.dns, "subject": (subject,)}
    return {key: list(values[key]) for key in keys}


# ---- from a header to a certificate

OURS = TestAuthority()
PROXY = "spiffe://example.org/front"
DOMAINS = {"example.org": parse_authorities(OURS.pem(), "bundle.pem")}
FRONT = OURS.workload(PROXY)
NOW = NOT_BEFORE + timedelta(hours=1)
FORWARDING = Forwarding(proxies=frozenset({PROXY}))


@given(st.lists(MARKS | PIECES, max_size=2), st.integers(1, 3))
def test_no_text_gives_a_certificate_unless_it_is_well_formed(values: list[str], hops: int) -> None:
    forwarding = Forwarding(proxies=FORWARDING.proxies, trusted_hops=hops)
    found = find_client_certificate(judge_peer(FRONT, PROXY, forwarding, DOMAINS, now=NOW), values, forwarding)
    assert (found.state, found.certificate, found.principal) == (State.INVALID, "", "")
    assert found.problem in (Reason.MALFORMED_XFCC, Reason.BAD_CERTIFICATE)


LEAF = OURS.leaf()
PEER = OURS.leaf(x509.UniformResourceIdentifier(PROXY))
GOOD = f"{element_of(LEAF)},{element_of(PEER, cert=False)}"


@given(st.integers(0, len(GOOD)), st.integers(0, 3), st.text(max_size=2) | st.sampled_from(['"', ",", ";", "\\", "="]))
def test_a_good_header_that_is_changed_anywhere_gives_the_same_certificate_or_none(at: int, cut: int, put: str) -> None:
    changed = GOOD[:at] + put + GOOD[at + cut :]
    peer = judge_peer(envoy_form(PEER), PROXY, FORWARDING, DOMAINS, now=NOW)
    found = find_client_certificate(peer, (changed,), FORWARDING)
    if found.state == State.PRESENT:
        assert found.certificate == envoy_form(LEAF)
    else:
        assert (found.certificate, found.state) == ("", State.INVALID)
