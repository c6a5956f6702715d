# SPDX-License-Identifier: Apache-2.0
"""One server for a Unix socket: gRPC would silently take a path over from a server that lives.

The invariant: while the lock is held, nobody else who asks for it serves on the path, and the path is a socket or
nothing. The lock file `<path>.lock` stays behind; removing it would let two processes lock two files of one name.
"""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from iap_authz.errors import ConfigInvalid


class SocketLock:
    """Holds the lock of one socket path from its making to `release`. Raises ConfigInvalid if it cannot be had."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigInvalid.of_file(path, f"cannot make the lock file beside it: {error.strerror}") from None
        try:
            self._take()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigInvalid.of_file(self._path, "another process serves on this socket") from None
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise ConfigInvalid.of_file(self._path, "is there and is no socket, want a socket path or nothing")

    def release(self) -> None:
        """Remove the socket, then let others have the path."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
