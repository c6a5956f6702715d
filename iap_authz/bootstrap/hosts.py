# SPDX-License-Identifier: Apache-2.0
"""What a host and a port may look like in the settings of an Envoy. A zone id of IPv6 is refused."""

import ipaddress
import re
from typing import Final

PORT_MAX: Final = 65_535
"""Of TCP."""

HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
"""A name that DNS resolves, in lower case."""


def is_ip(text: str) -> bool:
    """Whether it is an IP address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone id is this machine's own affair
