# SPDX-License-Identifier: Apache-2.0
"""The text of a vault's key file (PROTOCOL S3, S7): one spelling, rising epochs, no secret in a message."""

import pickle
from base64 import b64encode
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.errors import Malformed
from iap_authz.records.hpke import open_with, seal_to
from iap_authz.records.seal_settings import VAULT_EPOCH_MAX, VaultKey
from iap_authz.records.vault_file import (
    FILE_MAX_BYTES,
    KEYS_MAX,
    VaultPrivateKey,
    is_vault_file,
    parse_vault_file,
    parse_vault_line,
    render_vault_file,
    render_vault_line,
)

# RFC 9180, appendix A.1.1: a private key and its public key.
SECRET = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
PUBLIC = bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
LINE = f"PRIVATE+VAULT+3+2026-01-31+{b64encode(SECRET).decode()}"
KEY = VaultPrivateKey(epoch=3, created=date(2026, 1, 31), secret=SECRET)


def key(epoch: int, secret: bytes | None = None) -> VaultPrivateKey:
    made = secret or epoch.to_bytes(32, "big")
    return VaultPrivateKey(epoch=epoch, created=date(2026, 1, 1), secret=made)


def test_a_line_is_one_key() -> None:
    assert parse_vault_line(LINE) == KEY
    assert render_vault_line(KEY) == LINE
    assert KEY.public() == VaultKey(epoch=3, public_key=PUBLIC)
    assert open_with(KEY.key(), seal_to(PUBLIC, b"key", info=b""), info=b"") == b"key"


keys = st.builds(
    VaultPrivateKey,
    epoch=st.integers(1, VAULT_EPOCH_MAX),
    created=st.dates(),
    secret=st.binary(min_size=32, max_size=32),
)


@given(st.lists(keys, min_size=1, max_size=KEYS_MAX, unique_by=(lambda one: one.epoch, lambda one: one.secret)))
def test_s7_epochs_rise_and_what_is_rendered_is_what_is_parsed(made: list[VaultPrivateKey]) -> None:
    rising = tuple(sorted(made, key=lambda one: one.epoch))
    content = render_vault_file(rising)
    assert parse_vault_file(content) == rising
    assert render_vault_file(parse_vault_file(content)) == content
    assert is_vault_file(content)
    if len(rising) > 1:
        with pytest.raises(Malformed, match="each above the one before it"):
            parse_vault_file(render_vault_file(rising[::-1]))


@pytest.mark.parametrize(
    "line",
    [
        "",
        LINE + " ",
        " " + LINE,
        LINE.lower(),
        LINE.replace("VAULT", "KEY"),
        LINE.replace("+3+", "+03+"),
        LINE.replace("+3+", "+0+"),
        LINE.replace("+3+", "+-3+"),
        LINE.replace("+3+", "+\u0663+"),
        LINE.replace("+3+", "+3 +"),
        LINE.replace("+3+", f"+{VAULT_EPOCH_MAX + 1}+"),
        LINE.replace("+3+", "+99999999999+"),
        LINE.replace("2026-01-31", "2026-02-30"),
        LINE.replace("2026-01-31", "0000-01-01"),
        LINE.replace("2026-01-31", "20260131"),
        LINE.replace("2026-01-31", "2026-W05-6"),
        LINE.replace("2026-01-31", ""),
        LINE.rstrip("="),
        LINE[:-2] + "9=",
        LINE + "=",
        LINE[:-4],
        LINE.rpartition("+")[0] + "+" + b64encode(SECRET[:31]).decode(),
        LINE.rpartition("+")[0] + "+" + b64encode(SECRET + b"\0").decode(),
        LINE + "\n" + LINE,
    ],
)
def test_a_line_that_is_none_is_refused_and_not_quoted(line: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_vault_line(line)
    assert b64encode(SECRET).decode()[:8] not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "without a final newline"),
        (b"\n", "no vault key"),
        (LINE.encode(), "without a final newline"),
        (f"{LINE}\n\n".encode(), "no vault key"),
        (f"{LINE}\r\n".encode(), "no vault key"),
        (f"# keys\n{LINE}\n".encode(), "no vault key"),
        (f"{LINE}\n{LINE}\n".encode(), "each above"),
        (b"\xff" + LINE.encode() + b"\n", "no ASCII text"),
        (render_vault_file([key(1, SECRET), key(2, SECRET)]), "one key in two vault epochs"),
        (render_vault_file([key(epoch) for epoch in range(1, KEYS_MAX + 2)]), "want 1 to 16"),
        (bytes(FILE_MAX_BYTES + 1), "want at most 4096"),
    ],
    ids=range(11),
)
def test_a_file_that_is_none_is_refused_and_not_quoted(content: bytes, message: str) -> None:
    with pytest.raises(Malformed, match=message) as caught:
        parse_vault_file(content)
    assert b64encode(SECRET).decode()[:8] not in str(caught.value)


def test_the_longest_file_is_not_too_long() -> None:
    top = VAULT_EPOCH_MAX - KEYS_MAX
    content = render_vault_file([key(top + number) for number in range(1, KEYS_MAX + 1)])
    assert len(parse_vault_file(content)) == KEYS_MAX


def test_a_key_shows_nothing_and_is_not_copied() -> None:
    assert repr(KEY) == "VaultPrivateKey(epoch=3, created=datetime.date(2026, 1, 31))"
    with pytest.raises(TypeError, match="in its file only"):
        pickle.dumps(KEY)


def test_another_key_file_is_told_by_its_beginning() -> None:
    assert not any(map(is_vault_file, (b"", b"PRIVATE+KEY+x", b"iap-index+", f" {LINE}".encode())))
