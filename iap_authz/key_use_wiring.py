# SPDX-License-Identifier: Apache-2.0
"""The assembly of the last uses of API keys: where a sidecar writes them, and what a command reads of several."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iap_authz.adapters.facts.api_keys import api_keys_source
from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.config import SidecarConfig
from iap_authz.errors import ConfigInvalid, Malformed
from iap_authz.facts.apikey import PEPPER_BYTES, ApiKey, ApiKeys
from iap_authz.facts.key_use import USES_FILE_MAX_BYTES, KeyUses, parse_uses
from iap_authz.ports import Clock
from iap_authz.sidecar.key_uses import KeyUseNotes

USES_FILE_NAME: Final = "api-keys-used.json"
"""In the folder of the journal: that has one owner at a time, and is where a worker may write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenKeys:
    """Of one sidecar: its API keys, and what it has noted of them; None: nothing yet."""

    keys: tuple[ApiKey, ...]
    uses: KeyUses | None


def make_key_use_notes(
    config: SidecarConfig, keys: Callable[[], ApiKeys | None], *, clock: Clock
) -> KeyUseNotes | None:
    """What notes the uses of API keys; None where none are taken. `keys` gives those in force."""
    if config.api_keys is None:
        return None

    def known() -> frozenset[str] | None:
        served = keys()
        return None if served is None else frozenset(key.id for key in served.keys)

    return KeyUseNotes(_file(config), known=known, clock=clock)


def load_seen_keys(config: SidecarConfig, path: Path) -> SeenKeys:
    """The keys of the sidecar with this configuration, which is at `path`. Raises Invalid or SourceUnavailable.

    The pepper is not needed, and not read: no key is judged.
    """
    if config.api_keys is None:
        raise ConfigInvalid.of_file(path, "got a sidecar that takes no API keys, want identity.api_keys")
    keys = api_keys_source("api-keys", config.api_keys.file, pepper=bytes(PEPPER_BYTES)).load()
    path = config.journal.directory / USES_FILE_NAME
    try:
        content = _file(config).load()
        uses = None if content is None else parse_uses(content)
    except Malformed as error:
        raise ConfigInvalid.of_file(path, str(error)) from None
    except OSError as error:
        raise ConfigInvalid.of_file(path, f"cannot be read: {error.strerror}") from None
    return SeenKeys(keys=keys.keys, uses=uses)


def _file(config: SidecarConfig) -> CheckpointFile:
    return CheckpointFile(config.journal.directory / USES_FILE_NAME, max_bytes=USES_FILE_MAX_BYTES)
