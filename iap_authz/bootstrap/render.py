# SPDX-License-Identifier: Apache-2.0
"""Whole Envoy bootstraps, built from typed messages and rendered as YAML.

Invariant: equal settings render equal bytes, and Envoy reads what is rendered as the value that was built. Its YAML
reader takes a plain `no` or `17` for what it looks like, so every string that is not plainly a word is quoted.
Values that are protobuf's default are not written: `failure_mode_allow: false` does not show, and holds.

Parts: `settings` and `oauth2_settings` (what may be chosen), `listeners`, `authz`, `oauth2`, `clusters`.
"""

import io
import re
from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapStaticResources,
    LayeredRuntime,
    RuntimeLayer,
)
from envoy_data_plane.envoy.config.core.v3 import Address, Node, Pipe
from envoy_data_plane.envoy.config.overload.v3 import OverloadManager, ResourceMonitor
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import DownstreamConnectionsConfig
from envoy_data_plane.google.protobuf import Any, Struct, Value
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from iap_authz.bootstrap.clusters import build_clusters
from iap_authz.bootstrap.listeners import build_listeners
from iap_authz.bootstrap.oauth2 import build_login_secrets
from iap_authz.bootstrap.settings import EdgeSettings, check_settings, parse_endpoint

ADMIN_SOCKET_MODE: Final = 0o660
"""Owner and group: whoever can write to it can end Envoy, and read all of its configuration."""

DOWNSTREAM_CONNECTIONS_MAX = 10_000
"""Envoy's advice for an edge is to have a limit; this one is a third of the descriptors a container usually has."""

_RUNTIME = {
    # Read by the oauth2 filter alone, also by one that somebody else puts in front: its default cookies are AES-CBC.
    "envoy.reloadable_features.oauth2_use_gcm_encryption": True,
    "envoy.reloadable_features.oauth2_legacy_cbc_decrypt_compat": False,
}
_HEADER = """\
# Envoy bootstrap, made by `iap-authz envoy render {kind}`. Change the settings, not the file.
# envoy/README.md says what each setting is for. Defaults are not written: failure_mode_allow is false.
"""
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*", re.ASCII)
_NOT_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "inf", "nan", "infinity"})
_LINES = re.compile(r"[!-~]([ -~]*[!-~])?\n(([ -~]*[!-~])?\n)*[ -~]*[!-~]\n", re.ASCII)
"""A text of lines that a block shows as it is: no space ends a line, nothing is unprintable, one line end is last."""

_LINE_WIDTH = 4096
"""No folding: a folded string is hard to search for."""


def build_bootstrap(settings: EdgeSettings) -> Bootstrap:
    """The bootstrap for `settings`. Raises ConfigInvalid with every fault of them."""
    check_settings(settings)
    connections = DownstreamConnectionsConfig(max_active_downstream_connections=DOWNSTREAM_CONNECTIONS_MAX)
    runtime = Struct(fields={name: Value(bool_value=value) for name, value in _RUNTIME.items()})
    return Bootstrap(
        node=Node(id=settings.node_id or "", cluster="iap"),
        admin=Admin(address=_build_admin(settings.admin_socket)),
        layered_runtime=LayeredRuntime(layers=[RuntimeLayer(name="static", static_layer=runtime)]),
        overload_manager=OverloadManager(
            resource_monitors=[
                ResourceMonitor(
                    name="envoy.resource_monitors.global_downstream_max_connections",
                    typed_config=Any.pack(connections),
                )
            ]
        ),
        static_resources=BootstrapStaticResources(
            listeners=build_listeners(settings),
            clusters=build_clusters(settings),
            secrets=[] if settings.oauth2 is None else build_login_secrets(settings.oauth2),
        ),
    )


def render_bootstrap(settings: EdgeSettings, kind: str) -> str:
    """The YAML file for `settings`; `kind` is what its first line names. Raises ConfigInvalid with every fault."""
    return _HEADER.format(kind=kind) + render_document(to_document(settings))


def render_document(document: dict[str, object]) -> str:
    """YAML that reads the same under versions 1.1 and 1.2."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.representer.sort_base_mapping_type_on_output = False  # the order of the proto files
    yaml.width = _LINE_WIDTH
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def to_document(settings: EdgeSettings) -> dict[str, object]:
    """The bootstrap as JSON-like values under the names of the proto files. Raises ConfigInvalid with every fault."""
    return build_bootstrap(settings).to_dict(casing=betterproto2.Casing.SNAKE)


def _build_admin(text: str) -> Address:
    path = getattr(parse_endpoint(text), "path", "")
    return Address(pipe=Pipe(path=path, mode=ADMIN_SOCKET_MODE))


class _Representer(SafeRepresenter):
    """Plain scalars for plain words and names only, blocks for texts of lines; everything else in double quotes."""

    def represent_string(self, text: str) -> ScalarNode:
        plain = _PLAIN.fullmatch(text) and text.lower() not in _NOT_WORDS
        quoted = "|" if _LINES.fullmatch(text) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else quoted)


_Representer.add_representer(str, _Representer.represent_string)
