# SPDX-License-Identifier: Apache-2.0
"""A bound socket for an address, `ADDRESS:PORT` or `unix:PATH`, and what is left to clean up when it is closed.

The invariant: a Unix socket is made with mode 0660 by the one process that holds `<path>.lock`, and takes the place of
a socket that was left behind, never of a file or of a socket that is served. The lock file stays behind; removing it
would let two processes lock two files of one name. No name is ever resolved: an address is an IP address.
"""

import fcntl
import ipaddress
import os
import socket
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from iap_authz.errors import ConfigInvalid, shown

UNIX_PREFIX = "unix:"
SOCKET_UMASK = 0o117
"""Socket mode 0660: owner and group, nobody else."""

PORT_MAX = 65_535


def open_listener(address: str, cleanup: ExitStack) -> socket.socket:
    """Bind `address`; `cleanup` gets what is to be undone. Raises ConfigInvalid where it cannot be had."""
    try:
        if address.startswith(UNIX_PREFIX):
            return _open_unix(Path(address.removeprefix(UNIX_PREFIX)), cleanup)
        return _open_tcp(address, cleanup)
    except OSError as error:
        cleanup.close()
        raise ConfigInvalid.of_file(address, f"cannot listen: {error.strerror}") from None
    except ConfigInvalid:
        cleanup.close()
        raise


def _open_tcp(address: str, cleanup: ExitStack) -> socket.socket:
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    family = _family_of(bare)
    well_formed = host == (f"[{bare}]" if family == socket.AF_INET6 else bare)
    if family is None or not (well_formed and port.isascii() and port.isdecimal() and int(port) <= PORT_MAX):
        raise ConfigInvalid.of_file(shown(address), "is no address, want unix:PATH or IP-ADDRESS:PORT")
    listener = cleanup.enter_context(socket.socket(family, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((bare, int(port)))
    return listener


def _family_of(host: str) -> socket.AddressFamily | None:
    try:
        return socket.AF_INET if isinstance(ipaddress.ip_address(host), ipaddress.IPv4Address) else socket.AF_INET6
    except ValueError:
        return None


def _open_unix(path: Path, cleanup: ExitStack) -> socket.socket:
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    cleanup.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigInvalid.of_file(path, "another process serves on this socket") from None
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigInvalid.of_file(path, "is there and is no socket, want a socket path or nothing")
        path.unlink()
    listener = cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    previous = os.umask(SOCKET_UMASK)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    cleanup.callback(path.unlink, missing_ok=True)
    return listener
