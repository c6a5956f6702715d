# SPDX-License-Identifier: Apache-2.0
"""Vault and index keys on disk: for their owner only, made once, replaced whole (PROTOCOL S3, S7, S9)."""

import os
import stat
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iap_authz.adapters.keys.index_key import create_index_key, load_index_key, parse_index_key, render_index_key
from iap_authz.adapters.keys.vault_file import (
    FileVault,
    add_vault_key,
    create_vault_file,
    drop_vault_key,
    holds_vault_keys,
    load_vault_keys,
)
from iap_authz.errors import ConfigInvalid, Malformed
from iap_authz.records.hpke import seal_to
from iap_authz.records.vault_file import KEYS_MAX

CREATE: dict[str, Callable[[Path], object]] = {"vault": create_vault_file, "index": create_index_key}
LOAD: dict[str, Callable[[Path], object]] = {"vault": FileVault, "index": load_index_key}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_vault_file(tmp_path / "vault.key")
    return tmp_path / "vault.key"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", CREATE)
def test_a_new_key_is_for_its_owner_only_and_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    before = os.umask(0)
    try:
        CREATE[kind](tmp_path / "a.key")
    finally:
        os.umask(before)
    content = (tmp_path / "a.key").read_bytes()
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    with pytest.raises(ConfigInvalid, match="there already"):
        CREATE[kind](tmp_path / "a.key")
    assert (tmp_path / "a.key").read_bytes() == content
    CREATE[kind](tmp_path / "b.key")
    assert (tmp_path / "b.key").read_bytes() != content
    assert names(tmp_path) == ["a.key", "b.key"]


@pytest.mark.parametrize("kind", CREATE)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_fix(tmp_path: Path, kind: str, mode: int) -> None:
    CREATE[kind](tmp_path / "a.key")
    (tmp_path / "a.key").chmod(mode)
    with pytest.raises(ConfigInvalid, match=f"chmod 600 {tmp_path / 'a.key'}"):
        LOAD[kind](tmp_path / "a.key")
    (tmp_path / "a.key").chmod(0o400)
    LOAD[kind](tmp_path / "a.key")


@pytest.mark.parametrize("kind", CREATE)
def test_a_mounted_secret_is_read_through_its_links(tmp_path: Path, kind: str) -> None:
    """Kubernetes mounts NAME -> ..data/NAME and ..data -> ..2026_01_31."""
    version = tmp_path / "..2026_01_31"
    version.mkdir()
    CREATE[kind](version / "a.key")
    (version / "a.key").chmod(0o400)
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "a.key").symlink_to("..data/a.key")
    LOAD[kind](tmp_path / "a.key")
    (version / "a.key").chmod(0o440)
    with pytest.raises(ConfigInvalid, match="mode 0440"):
        LOAD[kind](tmp_path / "a.key")


def test_what_is_no_vault_file_is_refused(tmp_path: Path, path: Path) -> None:
    create_index_key(tmp_path / "index.key")
    os.mkfifo(tmp_path / "pipe", 0o600)
    wrong = (("none", "No such file"), ("pipe", "is no file"), ("index.key", "no vault key"))
    for name, message in wrong:
        with pytest.raises(ConfigInvalid, match=message):
            FileVault(tmp_path / name)
    with pytest.raises(ConfigInvalid, match="no index key"):
        load_index_key(path)
    assert holds_vault_keys(path)
    assert not holds_vault_keys(tmp_path / "index.key")


def test_s7_a_rotation_adds_an_epoch_and_the_old_one_still_opens(path: Path) -> None:
    vault = FileVault(path)
    sealed = seal_to(vault.public_key(1), b"key", info=b"")
    added = add_vault_key(path)
    assert (added.epoch, stat.S_IMODE(path.stat().st_mode)) == (2, 0o600)
    assert vault.epochs == (1,)  # what a process has read stays what it has
    both = FileVault(path)
    assert both.epochs == (1, 2)
    assert both.public_key(2) == added.public_key
    assert both.created(2) == datetime.now(UTC).date()
    assert both.open(sealed, epoch=1, info=b"") == b"key"
    assert names(path.parent) == ["vault.key"]


def test_s7_a_dropped_key_is_not_in_the_file_and_its_epoch_not_used_again(path: Path) -> None:
    old = b64encode(load_vault_keys(path)[0].secret)
    add_vault_key(path)
    assert old in path.read_bytes()
    drop_vault_key(path, 1)
    assert old not in path.read_bytes()
    assert FileVault(path).epochs == (2,)
    assert add_vault_key(path).epoch == 3
    assert names(path.parent) == ["vault.key"]


@pytest.mark.parametrize(("epoch", "message"), [(2, "which writers seal to"), (3, "want one of"), (0, "want one of")])
def test_the_newest_key_is_not_dropped_nor_one_that_is_not_there(path: Path, epoch: int, message: str) -> None:
    add_vault_key(path)
    before = path.read_bytes()
    with pytest.raises(ConfigInvalid, match=message):
        drop_vault_key(path, epoch)
    assert path.read_bytes() == before


def test_s7_a_dropped_key_does_not_stay_behind_a_link(tmp_path: Path, path: Path) -> None:
    add_vault_key(path)
    (tmp_path / "link.key").symlink_to("vault.key")
    drop_vault_key(tmp_path / "link.key", 1)
    assert (tmp_path / "link.key").is_symlink()
    assert FileVault(path).epochs == (2,)


def test_a_file_has_so_many_keys_at_most(path: Path) -> None:
    for _ in range(KEYS_MAX - 1):
        add_vault_key(path)
    with pytest.raises(ConfigInvalid, match="drop an old one first"):
        add_vault_key(path)
    drop_vault_key(path, 1)
    assert add_vault_key(path).epoch == KEYS_MAX + 1


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("change", [add_vault_key, lambda path: drop_vault_key(path, 1)], ids=["add", "drop"])
def test_a_change_that_fails_leaves_the_old_file(
    path: Path, step: str, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_vault_key(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(ConfigInvalid, match="No space left"):
        change(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert names(path.parent) == ["vault.key"]


def test_a_vault_on_a_read_only_mount_is_read_and_not_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def read_only(name: Path, flags: int, *mode: int) -> int:
        if flags & (os.O_WRONLY | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return opened(name, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    assert FileVault(path).epochs == (1,)
    with pytest.raises(ConfigInvalid, match="cannot be written: Read-only file system"):
        add_vault_key(path)


# ---- the index key


def test_s9_an_index_key_is_32_bytes_on_one_line(tmp_path: Path) -> None:
    create_index_key(tmp_path / "index.key")
    key = load_index_key(tmp_path / "index.key")
    assert len(key) == 32
    assert (tmp_path / "index.key").read_bytes() == b"iap-index+" + b64encode(key) + b"\n"
    assert parse_index_key(render_index_key(key)) == parse_index_key(render_index_key(key).rstrip()) == key


GOOD = render_index_key(bytes(range(32)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        GOOD + b"\n",
        GOOD + GOOD,
        GOOD.removeprefix(b"iap-index+"),
        GOOD.replace(b"index", b"vault"),
        b" " + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"=", b""),
        b"iap-index+" + b64encode(bytes(31)) + b"\n",
        b"iap-index+" + b64encode(bytes(33)) + b"\n",
        b"iap-index+\xff\n",
    ],
    ids=range(12),
)
def test_what_is_no_index_key_is_refused_and_not_quoted(content: bytes) -> None:
    with pytest.raises(Malformed, match="no index key") as caught:
        parse_index_key(content)
    assert "AAEC" not in str(caught.value)
    assert caught.value.__cause__ is None
