# SPDX-License-Identifier: Apache-2.0
"""Who may reach a log: this machine only, unless it is said out loud."""

import asyncio
from pathlib import Path

import pytest

from iap_authz.adapters.keys.index_key import create_index_key
from iap_authz.adapters.keys.vault_file import add_vault_key, create_vault_file
from iap_authz.adapters.trail.key_marks import INDEX, SqlKeyMarks
from iap_authz.adapters.trail.store import open_trail
from iap_authz.errors import ConfigInvalid
from iap_authz.log_config import LogConfig, parse_log_config
from iap_authz.log_wiring import LogProcess
from iap_authz.privacy_wiring import check_key_marks, load_keys

PUBLIC = ("0.0.0.0:7443", "192.0.2.1:7443", "[::]:7443", "[2001:db8::1]:7443")
LOCAL = ("127.0.0.1:7443", "127.8.8.8:7443", "[::1]:7443", "unix:log.sock")


def config(folder: Path, **listen: str) -> LogConfig:
    """A log whose key file is not there: a start that gets as far as that has let the address pass."""
    addresses = {"listen": "unix:log.sock", **listen}
    lines = [f'{key}: "{value}"' for key, value in addresses.items()]
    text = "\n".join(
        ["kind: Log", "origin: x", "key_file: k", "directory: d", "enrolment_file: e", "vault: none", *lines]
    )
    return parse_log_config(text.encode(), folder / "log.yaml")


def start(settings: LogConfig, *, insecure_public: bool) -> str:
    async def main() -> None:
        LogProcess(settings, insecure_public=insecure_public)

    with pytest.raises(ConfigInvalid) as caught:
        asyncio.run(main())
    return str(caught.value)


@pytest.mark.parametrize("key", ["listen", "listen_http"])
@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_refused_before_anything_else(tmp_path: Path, key: str, address: str) -> None:
    assert "--insecure-public" in start(config(tmp_path, **{key: address}), insecure_public=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", PUBLIC)
def test_it_is_taken_where_that_is_said(tmp_path: Path, address: str) -> None:
    assert "cannot be read" in start(config(tmp_path, listen=address), insecure_public=True)


@pytest.mark.parametrize("address", LOCAL)
def test_a_local_address_needs_no_saying(tmp_path: Path, address: str) -> None:
    assert "cannot be read" in start(config(tmp_path, listen=address), insecure_public=False)


def test_another_key_than_before_is_noticed(tmp_path: Path) -> None:
    """An index that is asked with another key finds nobody, and an erasure would say that it was done."""
    create_vault_file(tmp_path / "vault.key")
    create_index_key(tmp_path / "index.key")
    settings = parse_log_config(
        b"kind: Log\norigin: x\nkey_file: k\ndirectory: d\nenrolment_file: e\nlisten: unix:log.sock\n"
        b"vault: {key_file: vault.key, index_key_file: index.key}\n",
        tmp_path / "log.yaml",
    )
    engine = open_trail(tmp_path / "trail.sqlite")
    marks = SqlKeyMarks(engine)

    def check() -> None:
        keys = load_keys(settings)
        assert keys is not None
        check_key_marks(keys, marks)

    check()
    check()
    add_vault_key(tmp_path / "vault.key")
    check()
    (tmp_path / "index.key").unlink()
    create_index_key(tmp_path / "index.key")
    with pytest.raises(ConfigInvalid, match=r"vault\.index_key_file: got another key .* --reindex"):
        check()
    marks.forget(INDEX)
    check()
    (tmp_path / "vault.key").unlink()
    create_vault_file(tmp_path / "vault.key")
    with pytest.raises(ConfigInvalid, match="as its vault epoch 1 key: it would open nothing"):
        check()
    engine.dispose()
