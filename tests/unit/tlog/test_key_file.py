# SPDX-License-Identifier: Apache-2.0
"""Private key lines: one spelling, and nothing of a seed in any message."""

import pickle
from base64 import b64encode

import pytest

from iap_authz.errors import Malformed
from iap_authz.tlog.key_file import (
    PrivateKey,
    parse_key_file,
    parse_key_line,
    parse_retired,
    render_key_file,
    render_key_line,
)
from iap_authz.tlog.note import VerifierKey, check_note, sign_note

# golang.org/x/mod/sumdb/note, the key pair of its package example (note_test.go): made by its GenerateKey.
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

KEY = PrivateKey(name="log.example.com/orders", seed=bytes(range(100, 132)))
OTHER = PrivateKey(name="log.example.com/orders", seed=bytes(range(32)))
LINE = render_key_line(KEY)


def test_the_keys_of_gos_note_package_are_read() -> None:
    key = parse_key_line(GO_PRIVATE)
    assert render_key_line(key) == GO_PRIVATE
    assert key.verifier() == VerifierKey.parse(GO_PUBLIC)
    assert key.key_id.hex() == "c74f20a3"


def test_a_key_signs_what_its_verifier_key_checks() -> None:
    note = sign_note(b"text\n", [KEY.signer(), OTHER.signer()])
    for verifier in (KEY.verifier(), OTHER.verifier()):
        assert len(check_note(note, [verifier])) == 1


def test_a_file_of_two_keys_keeps_their_order() -> None:
    content = render_key_file([KEY, OTHER])
    assert parse_key_file(content) == (KEY, OTHER)
    assert render_key_file(parse_key_file(content)) == content
    assert parse_key_file(render_key_file([KEY])) == (KEY,)


def material(value: bytes) -> str:
    return f"PRIVATE+KEY+log.example.com/orders+{KEY.key_id.hex()}+{b64encode(value).decode()}"


WRONG_LINES = {
    "empty": "",
    "no prefix": LINE.removeprefix("PRIVATE+KEY+"),
    "other prefix": LINE.replace("PRIVATE", "private"),
    "verifier key": KEY.verifier().render(),
    "no id": LINE.replace(f"+{KEY.key_id.hex()}", ""),
    "other id": LINE.replace(KEY.key_id.hex(), "00000000"),
    "id in capitals": LINE.replace(KEY.key_id.hex(), KEY.key_id.hex().upper()),
    "id of another name": LINE.replace("orders", "others"),
    "space in the name": LINE.replace("/orders", "/ orders"),
    "space at the end": LINE + " ",
    "carriage return": LINE + "\r",
    "stray bits": LINE[:-2] + "B=" if LINE.endswith("=") else LINE[:-1] + "B",
    "no padding": LINE.rstrip("=") + "=",
    "url alphabet": LINE[:-44] + LINE[-44:].replace("+", "-"),
    "short seed": material(b"\1" + KEY.seed[:-1]),
    "long seed": material(b"\1" + KEY.seed + b"\0"),
    "other type": material(b"\4" + KEY.seed),
    "no type": material(KEY.seed),
    "nothing": material(b""),
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_a_wrong_line_is_refused_and_not_quoted(name: str) -> None:
    line = WRONG_LINES[name]
    assert line != LINE
    with pytest.raises(Malformed) as caught:
        parse_key_line(line)
    assert_hides(str(caught.value), KEY.seed)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


WRONG_FILES = {
    "empty": b"",
    "newline only": b"\n",
    "no newline": LINE.encode(),
    "empty line": LINE.encode() + b"\n\n",
    "carriage returns": LINE.encode() + b"\r\n",
    "three keys": render_key_file([KEY, OTHER, PrivateKey(name=KEY.name, seed=bytes(32))]),
    "one key twice": render_key_file([KEY, KEY]),
    "two names": render_key_file([KEY, PrivateKey(name="other", seed=bytes(32))]),
    "no utf-8": b"\xff\n",
    "too long": (LINE + "\n").encode() * 100,
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_is_refused_and_not_quoted(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_key_file(WRONG_FILES[name])
    assert_hides(str(caught.value), KEY.seed)


def test_a_seed_shows_nowhere_and_goes_nowhere() -> None:
    for text in (repr(KEY), str(KEY), f"{KEY}", repr(KEY.signer()), repr((KEY,))):
        assert_hides(text, KEY.seed)
    with pytest.raises(TypeError, match="in its file only"):
        pickle.dumps(KEY)


def assert_hides(text: str, seed: bytes) -> None:
    for shape in (seed.hex(), repr(seed), b64encode(seed).decode(), b64encode(b"\1" + seed).decode(), LINE[-44:-8]):
        assert shape[:12] not in text
        assert shape not in text


def test_retired_keys_stand_before_the_private_ones_and_are_kept() -> None:
    retired = [PrivateKey(name=KEY.name, seed=bytes([number]) * 32).verifier() for number in (1, 2)]
    content = render_key_file([KEY, OTHER], retired=retired)
    assert (parse_key_file(content), parse_retired(content)) == ((KEY, OTHER), tuple(retired))
    assert render_key_file(parse_key_file(content), retired=parse_retired(content)) == content
    assert parse_retired(render_key_file([KEY])) == ()


BEFORE = {
    "junk": "junk",
    "nothing": "",
    "the key itself": KEY.verifier().render(),
    "mangled": f"x{render_key_line(OTHER)}",
}


@pytest.mark.parametrize("name", BEFORE)
def test_what_may_not_stand_before_a_private_key_is_not_quoted(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_key_file(f"{BEFORE[name]}\n{render_key_line(KEY)}\n".encode())
    assert render_key_line(OTHER).rpartition("+")[2] not in str(caught.value)
