# SPDX-License-Identifier: Apache-2.0
"""`Request`: what Envoy said about one HTTP request, parsed once at the edge.

A request that cannot be understood the one safe way is still a value (its `problem` says why), because it is
recorded like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from iap_authz.model.reason import Reason

UNTRUSTED_HEADERS = frozenset(
    {
        "forwarded",
        "x-envoy-original-path",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-uri",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    }
)
"""Client headers that other products decide by. Recorded, never read by a condition."""


CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
"""What a condition reads stands in the record of the request, and these never may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as the sidecar sees it. Unknown text is `""`; header names are lower case.

    `headers` maps a name to all its values in order of arrival, each as Envoy sent it (Latin-1 text of the raw bytes
    where they are not UTF-8 never gets this far: such a request has a `problem`).
    """

    method: str = ""
    host: str = ""
    path: str = ""
    segments: tuple[str, ...] = ()
    query: str = ""
    raw_path: str = ""
    scheme: str = ""
    protocol: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""
    stream_id: str = ""
    peer_address: str = ""
    peer_port: int = 0
    principal: str = ""
    certificate: str = ""
    """The client's leaf certificate as Envoy sent it: a URL-encoded PEM, not verified here."""
    forwarded_by: str = ""
    """SPIFFE id of the proxy whose word `certificate` and `principal` are. Empty: they are those of the handshake."""
    tls: bool = False
    sni: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    body_bytes: int = 0
    body_sha256: bytes = b""
    body_partial: bool = False
    unseen: tuple[str, ...] = ()
    problem: Reason | None = None

    def header(self, name: str) -> str | None:
        """The one value of header `name`, or None if there is none or more than one."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None
