# SPDX-License-Identifier: Apache-2.0
"""An address of a sidecar's configuration that only this machine reaches. A part of `config`, which reads the file."""

import ipaddress
from pathlib import Path

from iap_authz.errors import shown
from iap_authz.model.document import Section

_PORT_MAX = 65_535


def take_listen(section: Section, folder: Path) -> str:
    """The field `listen`: `unix:PATH`, relative to `folder`, or a loopback `ADDRESS:PORT`."""
    text = section.take_text("listen")
    if text.startswith("unix:"):
        return f"unix:{folder / text.removeprefix('unix:')}"
    host, _, port = text.rpartition(":")
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if text and not (loopback and port.isascii() and port.isdecimal() and int(port) <= _PORT_MAX):
        section.fault("listen", f"got {shown(text)}, want unix:PATH or a loopback ADDRESS:PORT")
    return text
