# SPDX-License-Identifier: Apache-2.0
"""Tokens that a fuzzer makes: refused with a reason or taken for what they say, and no other exception ever.

The kept corpus runs everywhere, and Hypothesis goes on from it: bytes flipped, cut and put in, members doubled, nested
deep and holding what no claim holds. `tools/fuzz_tokens.py` does the same guided by coverage, where atheris is there.

Seen to fail with each of these planted, one at a time: names that may be there twice; a depth that is not bounded; a
NUL or half of a surrogate pair that passes; NaN taken for a number; times that are not bounded; any signature taken;
bytes that are no UTF-8 not caught; a `crit` whose elements are not looked at.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.token_targets import CORPUS, TARGETS, corpus, judge_signed, judge_text
from tests.fakes.tokens import b64, claims, ec_key, forge

TIME_BOUND_SECONDS = 1_800
"""For the longer run, `--hypothesis-profile long`."""

FILE_MAX_BYTES = 4_096
FILES = [(target, path) for target in TARGETS for path in corpus(target)]
TEXTS = st.sampled_from([path.read_bytes() for path in corpus("text")])
SIGNED = st.sampled_from([path.read_bytes() for path in corpus("signed")])
PIECES = st.sampled_from(
    [b'"', b"{", b"}", b"[", b"]", b",", b":", b".", b"-", b"=", b"\n", b"\0", b"\xff", b"\\u0000", b"\\ud800",
     b"\\u0073", b"1e400", b"-0", b"NaN", b"Infinity", b"9" * 70, b"1.5", b"true", b"null", b'"exp":1,',
     b'"sub":"root",', b'"alg":"none",', b"[" * 1_500, b'{"a":' * 40, b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xd9\xa1"]
)  # fmt: skip
NAMES = (
    "alg",
    "kid",
    "typ",
    "crit",
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "email",
    "groups",
    "scope",
    "amr",
    "jti",
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**80), 10**80) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def examples(fewest: int) -> int:
    return max(fewest, settings().max_examples)


@st.composite
def changed(draw: st.DrawFn, seeds: st.SearchStrategy[bytes]) -> bytes:
    """A kept input with pieces of it flipped, cut, doubled or put in."""
    content = bytearray(draw(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(start + 12, len(content))))
        content[start:end] = draw(PIECES | st.binary(max_size=3) | st.just(bytes(content[start:end]) * 2))
    return bytes(content)


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Header LF payload, good but for members that are drawn; written one by one, so that a name may come twice."""
    header = [("alg", "ES256"), ("kid", "one")]
    payload = list(claims().items())
    for members in (header, payload):
        for name, value in draw(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=2)):
            members.insert(draw(st.integers(0, len(members))), (name, value))
    texts = [
        "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in members) + "}"
        for members in (header, payload)
    ]
    return "\n".join(texts).encode()


@pytest.mark.parametrize(("target", "path"), FILES, ids=[f"{target}/{path.name}" for target, path in FILES])
def test_the_kept_corpus(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


def test_the_corpus_is_small_and_reaches_behind_the_signature() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert max(path.stat().st_size for _, path in FILES) <= FILE_MAX_BYTES
    taken = [path.name for path in corpus("signed") if judge_signed(path.read_bytes()) is not None]
    assert len(taken) > 3, "good tokens, to change"
    assert len(taken) < len(corpus("signed")) / 2


@pytest.mark.time_bound(TIME_BOUND_SECONDS)
@given(
    changed(TEXTS) | st.binary(max_size=120) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
)
@settings(max_examples=examples(300))
def test_any_text_is_refused_and_nothing_else(content: bytes) -> None:
    judge_text(content)


@pytest.mark.time_bound(TIME_BOUND_SECONDS)
@given(changed(SIGNED) | written())
@settings(max_examples=examples(300))
def test_whatever_the_issuer_signs_is_refused_or_taken_for_what_it_says(content: bytes) -> None:
    judge_signed(content)


@pytest.mark.time_bound(TIME_BOUND_SECONDS)
@given(st.data())
@settings(max_examples=examples(200))
def test_a_good_token_that_is_changed_anywhere_is_refused(data: st.DataObject) -> None:
    good = forge(key=ec_key("one"), alg="ES256").encode()
    content = data.draw(changed(st.just(good)))
    if content != good:
        judge_text(content)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=70), st.integers(0, 4))
def test_any_bytes_in_any_number_of_parts_are_refused(
    header: bytes, payload: bytes, signature: bytes, more: int
) -> None:
    judge_text(".".join([b64(header), b64(payload), b64(signature), *["AA"] * more]).encode())
