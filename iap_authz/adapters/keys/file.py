# SPDX-License-Identifier: Apache-2.0
"""Key files on disk, and a log's first of all: read by their owner only, made once, replaced whole.

The invariant: after a crash at any point the file holds the old keys or the new ones, never a part; it is never
readable by others, not even for a moment; and a file that is there is never overwritten by a new key.

    create   temporary file (0600), write, fsync, link to the name (fails if it is there), fsync the folder
    replace  temporary file (0600), write, fsync, rename over the name, fsync the folder

A name that is a link, as in a mounted secret, is followed: what it leads to is read, checked and replaced, so that
no file with the old keys stays behind it.

Raises ConfigInvalid with what to do. What stands in a line of a log's file is for `tlog.key_file`.
"""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from iap_authz.errors import ConfigInvalid, Malformed
from iap_authz.tlog.key_file import (
    FILE_MAX_BYTES,
    KEYS_MAX,
    RETIRED_MAX,
    SEED_BYTES,
    PrivateKey,
    parse_key_file,
    parse_retired,
    render_key_file,
)
from iap_authz.tlog.note import NoteSigner, VerifierKey

T = TypeVar("T")

_FILE_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_signers(path: Path) -> tuple[NoteSigner, ...]:
    """Who signs the checkpoints of the log whose key file this is; the first is the older one, during a rotation."""
    return tuple(key.signer() for key in load_keys(path))


def load_verifiers(path: Path) -> tuple[VerifierKey, ...]:
    """The keys that check what these sign, in the same order."""
    return tuple(key.verifier() for key in load_keys(path))


def load_keys(path: Path) -> tuple[PrivateKey, ...]:
    """The private keys in the file, which nobody but its owner may read."""
    return load_private(path, parse_key_file)


def load_retired(path: Path) -> tuple[VerifierKey, ...]:
    """The keys that were rotated out, the oldest first: what they have signed is still the log's."""
    return load_private(path, parse_retired)


def create_key_file(path: Path, name: str) -> VerifierKey:
    """Make the key of a new log called `name`, its origin. A file that is there stays, and is a ConfigInvalid."""
    try:
        key = PrivateKey(name=name, seed=secrets.token_bytes(SEED_BYTES))
    except Malformed as error:
        raise ConfigInvalid.of_file(path, str(error)) from None
    create_private(path, render_key_file([key]))
    return key.verifier()


def add_key(path: Path) -> VerifierKey:
    """Begin a rotation: a second key after the one in force. Returns the new one's verifier key."""
    keys = load_keys(path)
    if len(keys) == KEYS_MAX:
        message = "got a file with two keys, want one: finish the rotation before the next (`keys rotate --finish`)"
        raise ConfigInvalid.of_file(path, message)
    added = PrivateKey(name=keys[0].name, seed=secrets.token_bytes(SEED_BYTES))
    replace_private(path, render_key_file([*keys, added], retired=load_retired(path)))
    return added.verifier()


def drop_key(path: Path) -> tuple[VerifierKey, VerifierKey]:
    """Finish a rotation: the older key signs no more, and only its verifier key stays. Returns both verifier keys."""
    keys = load_keys(path)
    if len(keys) != KEYS_MAX:
        message = "got a file with one key, want two: no rotation was begun (`keys rotate`)"
        raise ConfigInvalid.of_file(path, message)
    older, newer = keys
    retired = (*load_retired(path), older.verifier())[-RETIRED_MAX:]
    replace_private(path, render_key_file([newer], retired=retired))
    return older.verifier(), newer.verifier()


def load_private(path: Path, parse: Callable[[bytes], T]) -> T:
    """What `parse` makes of a file that nobody but its owner may read. Raises ConfigInvalid, for its Malformed too."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_file(path, os.fstat(descriptor))
            content = os.read(descriptor, FILE_MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigInvalid.of_file(path, f"cannot be read: {error.strerror}") from None
    try:
        return parse(content)
    except Malformed as error:
        raise ConfigInvalid.of_file(path, str(error)) from None


def create_private(path: Path, content: bytes) -> None:
    """Make a file that nobody but its owner may read. One that is there stays, and is a ConfigInvalid."""
    try:
        _put(path, content, put=_link)
    except FileExistsError:
        message = "got a file that is there already, want a new name: a key that is lost cannot be made again"
        raise ConfigInvalid.of_file(path, message) from None


def replace_private(path: Path, content: bytes) -> None:
    """Put this content in the place of a file that was loaded. Raises ConfigInvalid, and then the old one stays."""
    _put(path.resolve(), content, put=os.replace)


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigInvalid.of_file(path, "got something that is no file, want a key file")
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigInvalid.of_file(path, f"got mode {mode:04o}, which lets others read the key: chmod 600 {path}")


def _put(path: Path, content: bytes, *, put: Callable[[Path, Path], None]) -> None:
    """Write a temporary file beside `path` and let `put` give it the name. Raises ConfigInvalid or FileExistsError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        try:
            _write(descriptor, content)
            put(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigInvalid.of_file(path, f"cannot be written: {error.strerror}") from None


def _link(temporary: Path, path: Path) -> None:
    os.link(temporary, path)


def _write(descriptor: int, content: bytes) -> None:
    """Write all of it, to stable storage."""
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
