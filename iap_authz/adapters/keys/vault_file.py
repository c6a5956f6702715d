# SPDX-License-Identifier: Apache-2.0
"""A vault in a file: made once, a key added at each rotation, an old one dropped when nothing is sealed to it any more.

The invariant: after a crash at any point the file holds the keys of before or of after, never a part (`file`); the
newest key is never dropped; and a key that was added is on stable storage before anybody is told of it.

A key that was dropped is in no file of this program. The disk may keep the bytes of the file that was replaced, and a
backup keeps them for certain: only with those is the key gone (rule S7).
"""

import secrets
from collections.abc import Mapping
from collections.abc import Sequence as Many
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from iap_authz.adapters.keys.file import create_private, load_private, replace_private
from iap_authz.errors import ConfigInvalid, NotFound
from iap_authz.records.hpke import KEY_BYTES, open_with
from iap_authz.records.seal_settings import VaultKey
from iap_authz.records.vault_file import KEYS_MAX, VaultPrivateKey, is_vault_file, parse_vault_file, render_vault_file


class FileVault:
    """Satisfies the port `Vault` with the keys of a file, which are read once and stay in this process."""

    __slots__ = ("_keys", "_prepared")

    def __init__(self, path: Path) -> None:
        """Raises ConfigInvalid."""
        self._keys: Mapping[int, VaultPrivateKey] = MappingProxyType({key.epoch: key for key in load_vault_keys(path)})
        self._prepared = {epoch: key.key() for epoch, key in self._keys.items()}  # to make one costs as much as to open

    @property
    def epochs(self) -> Many[int]:
        """Rising, as in the file."""
        return tuple(self._keys)

    def public_key(self, epoch: int) -> bytes:
        """32 bytes. Raises NotFound."""
        return self._key(epoch).public().public_key

    def created(self, epoch: int) -> date:
        """The day the key of an epoch was made. Raises NotFound."""
        return self._key(epoch).created

    def open(self, sealed: bytes, *, epoch: int, info: bytes) -> bytes:
        """What was sealed. Raises NotFound or BadProof."""
        return open_with(self._prepared[self._key(epoch).epoch], sealed, info=info)

    def _key(self, epoch: int) -> VaultPrivateKey:
        if epoch not in self._keys:
            raise NotFound(f"got vault epoch {epoch}, want one of {list(self._keys)}")
        return self._keys[epoch]

    def __repr__(self) -> str:
        return f"<FileVault {list(self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault's keys stay in their process")


def load_vault_keys(path: Path) -> tuple[VaultPrivateKey, ...]:
    """The keys in the file, which nobody but its owner may read, the oldest first. Raises ConfigInvalid."""
    return load_private(path, parse_vault_file)


def holds_vault_keys(path: Path) -> bool:
    """Whether a key file is a vault's, and not a log's. Raises ConfigInvalid where nobody could tell."""
    return load_private(path, is_vault_file)


def create_vault_file(path: Path) -> VaultKey:
    """Make the first key of a new vault. A file that is there stays, and is a ConfigInvalid."""
    key = _new_key(1)
    create_private(path, render_vault_file([key]))
    return key.public()


def add_vault_key(path: Path) -> VaultKey:
    """Begin a rotation: a key of the next epoch. Returns its public half. Raises ConfigInvalid."""
    keys = load_vault_keys(path)
    if len(keys) == KEYS_MAX:
        message = f"got a file with {KEYS_MAX} keys, want one less: drop an old one first (`iap-authz keys drop`)"
        raise ConfigInvalid.of_file(path, message)
    added = _new_key(keys[-1].epoch + 1)
    replace_private(path, render_vault_file([*keys, added]))
    return added.public()


def drop_vault_key(path: Path, epoch: int) -> None:
    """Take the key of an epoch out of the file, for good. The newest is never dropped. Raises ConfigInvalid."""
    keys = load_vault_keys(path)
    check_may_drop(path, epoch, epochs=[key.epoch for key in keys])
    replace_private(path, render_vault_file([key for key in keys if key.epoch != epoch]))


def check_may_drop(path: Path, epoch: int, *, epochs: Many[int]) -> None:
    """Raise ConfigInvalid unless there is a key of `epoch` that is not the newest."""
    if epoch not in epochs:
        raise ConfigInvalid.of_file(path, f"got vault epoch {epoch}, want one of {list(epochs)}")
    if epoch == epochs[-1]:
        message = f"got vault epoch {epoch}, which writers seal to: add the next first (`iap-authz keys rotate`)"
        raise ConfigInvalid.of_file(path, message)


def _new_key(epoch: int) -> VaultPrivateKey:
    return VaultPrivateKey(epoch=epoch, created=datetime.now(UTC).date(), secret=secrets.token_bytes(KEY_BYTES))
