# SPDX-License-Identifier: Apache-2.0
"""`identity.revocations` and `identity.api_keys` of a sidecar's configuration. The field docstrings are the manual.

A part of `config_identity`, which takes the section.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from iap_authz.config_tokens import is_free_header
from iap_authz.errors import shown
from iap_authz.model.document import Section

_ZERO, _HOUR, _DAY = timedelta(0), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationsConfig:
    """`identity.revocations`: credentials that are genuine and must not be believed any more."""

    file: Path
    """Revoked subjects, sessions, tokens and keys. JSON or YAML. Replaced live."""
    max_stale: timedelta
    """How long the last good list is used after the file is gone or broken. Then identities are ERROR. Default 1h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeysConfig:
    """`identity.api_keys`: keys of machines."""

    file: Path
    """Names, rights and keyed hashes of API keys. JSON or YAML. Replaced live. See `iap-authz keys new api-key`."""
    pepper_file: Path
    """What the hashes are keyed with: made by `iap-authz keys new pepper`; mode 0600. Read at the start."""
    header: str
    """The header that keys come in, `x-...` in lower case. It never reaches the upstream. Default x-api-key."""


def take_revocations(identity: Section, folder: Path) -> RevocationsConfig | None:
    """The section, None where there is none. Relative paths are relative to `folder`."""
    section = identity.take_section("revocations")
    if section is None:
        return None
    revocations = RevocationsConfig(
        file=folder / section.take_text("file"),
        max_stale=section.take_duration("max_stale", _HOUR, least=_ZERO, most=7 * _DAY),
    )
    section.finish()
    return revocations


def take_api_keys(identity: Section, folder: Path) -> ApiKeysConfig | None:
    """The section, None where there is none. Relative paths are relative to `folder`."""
    section = identity.take_section("api_keys")
    if section is None:
        return None
    api_keys = ApiKeysConfig(
        file=folder / section.take_text("file"),
        pepper_file=folder / section.take_text("pepper_file"),
        header=section.take_text("header", "x-api-key"),
    )
    name = api_keys.header
    if not is_free_header(name):
        section.fault("header", f"got {shown(name)}, want a name x-... in lower case that nothing else uses")
    section.finish()
    return api_keys
