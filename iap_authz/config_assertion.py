# SPDX-License-Identifier: Apache-2.0
"""`assertion` of a sidecar's configuration: what is signed for applications. The field docstrings are the manual.

A part of `config`, which reads the file.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from iap_authz.config_listen import take_listen
from iap_authz.model.document import Section, take_matching

_NAME = re.compile(r"[!-~]{1,255}", re.ASCII)
_WANT = "1 to 255 visible ASCII characters without a blank"
_DAY = timedelta(days=1)
_ROTATION_MIN = timedelta(minutes=10)
"""A key is published for one rotation before it signs, and a key set is cached for up to five minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionConfig:
    """`assertion`: the signed word to the application on who was allowed."""

    issuer: str
    """The `iss` claim of assertions. A name of its own: not that of an identity provider."""
    audience: str
    """The `aud` claim where a route names none. Without it every route with an assertion must."""
    listen: str
    """Where the keys are served, at `/.well-known/jwks.json`: `unix:PATH` or loopback `127.0.0.1:PORT`. Plain HTTP."""
    rotation: timedelta
    """How long a key signs. The next one is published all that time. Default 1d."""


def take_assertion(root: Section, folder: Path) -> AssertionConfig | None:
    """The section; None where there is none: then no policy may ask for an assertion."""
    section = root.take_section("assertion")
    if section is None:
        return None
    given = section.keys()
    config = AssertionConfig(
        issuer=take_matching(section, "issuer", _NAME, _WANT),
        audience=take_matching(section, "audience", _NAME, _WANT) if "audience" in given else "",
        listen=take_listen(section, folder),
        rotation=section.take_duration("rotation", _DAY, least=_ROTATION_MIN, most=30 * _DAY),
    )
    section.finish()
    return config
