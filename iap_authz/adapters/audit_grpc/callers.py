# SPDX-License-Identifier: Apache-2.0
"""Who calls: the bearer token of a call's metadata, looked up, and the address that the call came from.

The invariant: a token is given to `identify` and to nothing else: no message, log line or record has it. A call whose
metadata is not exactly one bearer token comes from nobody, like one without.

    authorization: Bearer <token>     RFC 6750 section 2.1; the scheme in any case, the token in printable ASCII

What somebody may do is not decided here: the service is told who it is, and has the table.
"""

import dataclasses
import ipaddress
from collections.abc import Callable, Iterable
from typing import TypeAlias
from urllib.parse import unquote

from iap_authz.ports import Caller

AUTHORIZATION_KEY = "authorization"
"""The key of the metadata, in lower case as HTTP/2 has all of them."""

SCHEME = "bearer"

TOKEN_MAX_CHARS = 512
"""More than any token that a log's operator makes; what is longer is not looked up."""

Identify: TypeAlias = Callable[[str], Caller | None]
"""Whose token this is; None for one that the log's access file does not have. Its address is filled in here."""


def nobody(_token: str) -> Caller | None:
    """`Identify` of a log without an access file."""
    return None


def find_caller(metadata: Iterable[tuple[str, str | bytes]], peer: str, *, identify: Identify) -> Caller | None:
    """Whose call this is, by its metadata and gRPC's name of the peer; None if nobody says so, or not in one way."""
    values = [value for key, value in metadata if key == AUTHORIZATION_KEY]
    token = _parse_bearer(values[0]) if len(values) == 1 else None
    caller = None if token is None else identify(token)
    return None if caller is None else dataclasses.replace(caller, address=peer_address(peer))


def peer_address(peer: str) -> str:
    """The address in gRPC's name of a peer, without its port: an IP address, `unix`, or empty for another kind.

    `ipv4:192.0.2.1:50000`, `ipv6:[2001:db8::1]:50000` with the brackets escaped by some versions, `unix:`.
    """
    kind, _, rest = peer.partition(":")
    if kind == "unix":
        return kind
    host = unquote(rest).rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


def _parse_bearer(value: str | bytes) -> str | None:
    """The token, if the value is one."""
    if not isinstance(value, str) or len(value) > len(SCHEME) + 1 + TOKEN_MAX_CHARS:
        return None
    scheme, _, token = value.partition(" ")
    is_token = bool(token) and all("!" <= one <= "~" for one in token)
    return token if scheme.lower() == SCHEME and is_token else None
