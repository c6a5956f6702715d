# SPDX-License-Identifier: Apache-2.0
"""Parse `envoy.service.auth.v3.CheckRequest` into `model.Request`, once.

A request that cannot be understood is still a value: what could be read, and a `problem`. It is refused by the policy's
first rule and recorded like any other. `HttpRequest.query` and `.fragment` are always empty in practice and are never
read (Envoy's attribute_context.proto); `CheckRequest` comes from xds-protos, whose parser is compiled code.
"""

import hashlib
from collections.abc import Mapping

from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from google.protobuf.message import DecodeError

from iap_authz.errors import MalformedRequest
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request
from iap_authz.model.target import Target, parse_host, parse_method, parse_target

PARTIAL_BODY_HEADER = "x-envoy-auth-partial-body"
"""Set by Envoy, over a client's own, when it sends a part of a body only."""

HEADERS_MAX = 200
"""Twice what the recommended Envoy configuration lets through (`max_headers_count: 100`)."""

ROUTE_METADATA_MAX = 64
"""Entries of route metadata that are read; more is a configuration nobody wrote by hand."""


def parse_check(raw: bytes) -> Request:
    """Parse the serialized CheckRequest. Never raises: what is wrong becomes the request's `problem`."""
    message = external_auth_pb2.CheckRequest()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        return Request(problem=Reason.MALFORMED_REQUEST)
    if not message.attributes.request.HasField("http"):
        return Request(problem=Reason.MALFORMED_REQUEST)
    return _Reading(message.attributes).request()


class _Reading:
    """One pass over the attributes; the first problem found is the one that is reported."""

    def __init__(self, attributes: attribute_context_pb2.AttributeContext) -> None:
        self.attributes = attributes
        self.http = attributes.request.http
        self.problem: Reason | None = None

    def request(self) -> Request:
        http, source = self.http, self.attributes.source
        raw_headers = self.http.HasField("header_map")
        headers = self._raw_headers() if raw_headers else self._joined_headers()
        if not headers:
            self._note(Reason.NO_HEADERS)
        method, host, target = self._target(headers)
        body = http.raw_body or http.body.encode("utf-8")
        address = source.address.socket_address
        return Request(
            method=method,
            host=host,
            path=target.path,
            segments=target.segments,
            query=target.query,
            raw_path=http.path,
            scheme=http.scheme,
            protocol=http.protocol,
            headers=headers,
            source="header_map" if raw_headers else "headers",
            stream_id=http.id,
            peer_address=address.address,
            peer_port=address.port_value,
            principal=source.principal,
            certificate=source.certificate,
            tls=self.attributes.HasField("tls_session"),
            sni=self.attributes.tls_session.sni,
            context=dict(self.attributes.context_extensions),
            metadata=self._metadata(),
            body_bytes=len(body),
            body_sha256=hashlib.sha256(body).digest() if body else b"",
            body_partial=headers.get(PARTIAL_BODY_HEADER) == ("true",),
            unseen=() if raw_headers else ("raw-headers",),
            problem=self.problem,
        )

    def _note(self, reason: Reason) -> None:
        if self.problem is None:
            self.problem = reason

    def _raw_headers(self) -> Mapping[str, tuple[str, ...]]:
        """`header_map`: every header on its own, as bytes; pseudo headers (they start with a colon) included."""
        entries = self.http.header_map.headers
        if len(entries) > HEADERS_MAX:
            self._note(Reason.MALFORMED_HEADER)
            return {}
        headers: dict[str, tuple[str, ...]] = {}
        for entry in entries:
            try:
                value = entry.raw_value.decode("utf-8")
            except UnicodeDecodeError:
                self._note(Reason.MALFORMED_HEADER)
                continue
            self._check_value(value)
            self._add(headers, entry.key, value)
        return headers

    def _joined_headers(self) -> Mapping[str, tuple[str, ...]]:
        """`headers`: one value a name, joined with commas, bytes beyond UTF-8 already replaced by Envoy."""
        if len(self.http.headers) > HEADERS_MAX:
            self._note(Reason.MALFORMED_HEADER)
            return {}
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in self.http.headers.items():
            self._check_value(value)
            self._add(headers, name, value)
        return headers

    def _add(self, headers: dict[str, tuple[str, ...]], said: str, value: str) -> None:
        """Two spellings of one name are two values of it, in either form: none of them is the one that counts."""
        if not said.isascii():  # a letter beyond ASCII may be one of ASCII in lower case, and then another header
            self._note(Reason.MALFORMED_HEADER)
        name = said.lower()
        headers[name] = (*headers[name], value) if name in headers else (value,)

    def _check_value(self, value: str) -> None:
        if not value.isprintable() and any(character < " " and character != "\t" for character in value):
            self._note(Reason.MALFORMED_HEADER)

    def _target(self, headers: Mapping[str, tuple[str, ...]]) -> tuple[str, str, Target]:
        """Method, host and path, where each can be read; pseudo headers must say the same as the fields."""
        method, host, target = "", "", Target(path="", segments=(), query="")
        try:
            method = parse_method(self.http.method)
            host = parse_host(self.http.host)
            target = parse_target(self.http.path)
            _check_agreement(headers, ":method", self.http.method, Reason.MALFORMED_METHOD)
            _check_agreement(headers, ":path", self.http.path, Reason.MALFORMED_PATH)
            _check_agreement(headers, ":authority", self.http.host, Reason.AMBIGUOUS_HOST)
            _check_agreement(headers, "host", self.http.host, Reason.AMBIGUOUS_HOST)
        except MalformedRequest as error:
            self._note(Reason(error.reason))
        return method, host, target

    def _metadata(self) -> Mapping[str, str]:
        """Text values of the route metadata namespaces that Envoy was told to send, as `<namespace>.<key>`."""
        found: dict[str, str] = {}
        for namespace, struct in self.attributes.route_metadata_context.filter_metadata.items():
            for key, value in struct.fields.items():
                if value.WhichOneof("kind") == "string_value" and len(found) < ROUTE_METADATA_MAX:
                    found[f"{namespace}.{key}"] = value.string_value
        return found


def _check_agreement(headers: Mapping[str, tuple[str, ...]], name: str, said: str, reason: Reason) -> None:
    values = headers.get(name)
    if values is not None and values != (said,):
        raise MalformedRequest(reason, f"got {name} that differs from what Envoy routed by")
