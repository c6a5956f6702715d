# SPDX-License-Identifier: Apache-2.0
"""CheckRequests as Envoy makes them, for tests."""

from collections.abc import Mapping, Sequence

from envoy.service.auth.v3 import external_auth_pb2


def check_request(
    *,
    method: str = "GET",
    path: str = "/api/orders",
    host: str = "orders.example.com",
    headers: Sequence[tuple[str, str | bytes]] = (),
    raw: bool = True,
    peer: str = "192.0.2.7",
    certificate: str = "",
    context: Mapping[str, str] | None = None,
) -> external_auth_pb2.CheckRequest:
    """One request; `raw` chooses `header_map` (encode_raw_headers) over `headers`."""
    message = external_auth_pb2.CheckRequest()
    attributes = message.attributes
    http = attributes.request.http
    http.id, http.method, http.path, http.host = "1234", method, path, host
    http.scheme, http.protocol = "https", "HTTP/1.1"
    pseudo = ((":authority", host), (":path", path), (":method", method), (":scheme", "https"))
    for name, value in (*pseudo, *headers):
        content = value if isinstance(value, bytes) else value.encode()
        if raw:
            http.header_map.headers.add(key=name, raw_value=content)
        else:
            http.headers[name] = content.decode("latin-1")
    attributes.source.address.socket_address.address = peer
    attributes.source.address.socket_address.port_value = 40_000
    attributes.source.certificate = certificate
    attributes.tls_session.sni = host
    attributes.context_extensions.update(context or {})
    return message
