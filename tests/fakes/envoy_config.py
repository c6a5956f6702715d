# SPDX-License-Identifier: Apache-2.0
"""Bootstraps read by another library than the one that writes them: xds-protos instead of envoy-data-plane."""

import importlib
import re
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format, symbol_database
from google.protobuf.message import Message
from ruamel.yaml import YAML

MODULES = (
    "access_loggers.grpc.v3.als_pb2",
    "filters.http.ext_authz.v3.ext_authz_pb2",
    "filters.http.router.v3.router_pb2",
    "filters.listener.proxy_protocol.v3.proxy_protocol_pb2",
    "filters.listener.tls_inspector.v3.tls_inspector_pb2",
    "filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "http.early_header_mutation.header_mutation.v3.header_mutation_pb2",
    "resource_monitors.downstream_connections.v3.downstream_connections_pb2",
    "retry.host.previous_hosts.v3.previous_hosts_pb2",
    "transport_sockets.tls.v3.tls_pb2",
    "upstreams.http.v3.http_protocol_options_pb2",
)
"""Where the messages inside `Any` come from: protobuf finds those that have been imported."""


def parse_bootstrap(text: str) -> Message:
    """The typed message. Raises json_format.ParseError for a field that is not in the proto files."""
    for name in MODULES:
        importlib.import_module(f"envoy.extensions.{name}")
    document = YAML(typ="safe", pure=True).load(text)
    bootstrap: Message = json_format.ParseDict(document, bootstrap_pb2.Bootstrap())
    return bootstrap


def unpack(packed: Any) -> Any:
    """The message inside an `Any`."""
    name = re.sub(r"^type\.googleapis\.com/", "", packed.type_url)
    message = symbol_database.Default().GetSymbol(name)()
    assert packed.Unpack(message)
    return message


def flatten(value: Message, path: str = "") -> dict[str, object]:
    """Every field that is set, by its path; what is packed is unpacked on the way."""
    if value.DESCRIPTOR.full_name == "google.protobuf.Any":
        value = unpack(value)
    found: dict[str, object] = {f"{path}:": value.DESCRIPTOR.full_name}
    for descriptor, content in value.ListFields():
        place = f"{path}.{descriptor.name}"
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            items = [(f"{place}[{key}]", content[key]) for key in content]
        elif isinstance(content, Message) or not hasattr(content, "append"):
            items = [(place, content)]
        else:
            items = [(f"{place}[{index}]", item) for index, item in enumerate(content)]
        for name, item in items:
            found |= flatten(item, name) if isinstance(item, Message) else {name: item}
    return found
