# SPDX-License-Identifier: Apache-2.0
"""The assembly of what makes, changes and opens a log's keys. Apart from `log_wiring`: a key needs no database.

Two things are imported when they are asked for: the library of tokens, which is an extra, and the database, which only
the dropping of a vault's key looks into.
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

from iap_authz.adapters.facts.api_keys import parse_api_keys
from iap_authz.adapters.keys.file import add_key, create_key_file, drop_key, load_verifiers
from iap_authz.adapters.keys.index_key import create_index_key, load_index_key
from iap_authz.adapters.keys.pepper import create_pepper, load_pepper
from iap_authz.adapters.keys.vault_file import (
    FileVault,
    add_vault_key,
    check_may_drop,
    create_vault_file,
    drop_vault_key,
    holds_vault_keys,
)
from iap_authz.errors import ConfigInvalid, Conflict
from iap_authz.facts.apikey import ID_HEX_DIGITS, SECRET_HEX_DIGITS, hash_api_key, render_api_key
from iap_authz.ports import Vault
from iap_authz.records.seal_settings import VaultKey

__all__ = [
    "DatedVault",
    "MadeApiKey",
    "TokenPlace",
    "VaultPlace",
    "add_key",
    "add_vault_key",
    "check_may_drop",
    "count_sealed",
    "create_index_key",
    "create_key_file",
    "create_pepper",
    "create_token_key",
    "create_vault_file",
    "drop_key",
    "drop_vault_key",
    "holds_vault_keys",
    "load_index_key",
    "load_verifiers",
    "make_api_key",
    "open_token",
    "open_vault",
    "open_vault_file",
    "public_keys",
    "stopped_log",
]

EXTRA = "python-pkcs11"
"""What `iap-authz[pkcs11]` installs."""


class DatedVault(Vault, Protocol):
    """A vault that can tell how old its keys are."""

    def created(self, epoch: int) -> date | None:
        """The day the key of an epoch was made, if that is known. Raises NotFound."""


class TokenPlace(Protocol):
    """Where a token is, as the section `vault.pkcs11` says it."""

    @property
    def module(self) -> Path:
        """The library."""

    @property
    def token(self) -> str:
        """The label of the token."""

    @property
    def label(self) -> str:
        """What the labels of the keys begin with."""

    @property
    def pin_file(self) -> Path:
        """The file with the PIN."""


class VaultPlace(Protocol):
    """Where a vault is, as the section `vault` says it: one of the two."""

    @property
    def key_file(self) -> Path | None:
        """A vault key file."""

    @property
    def pkcs11(self) -> TokenPlace | None:
        """A token."""


def open_vault(place: VaultPlace) -> DatedVault:
    """The vault of a configuration. Raises ConfigInvalid or SourceUnavailable."""
    if place.key_file is not None:
        return open_vault_file(place.key_file)
    if place.pkcs11 is None:
        raise ConfigInvalid.of_file("vault", "got neither key_file nor pkcs11, want one")
    return open_token(place.pkcs11)


def open_vault_file(path: Path) -> DatedVault:
    """The vault of a key file. Raises ConfigInvalid."""
    return FileVault(path)


def open_token(place: TokenPlace) -> DatedVault:
    """The vault on a token. Raises ConfigInvalid, also where the extra is not installed, or SourceUnavailable."""
    try:
        from iap_authz.adapters.keys import vault_pkcs11 as tokens  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        raise _without_extra(error) from None
    return tokens.Pkcs11Vault(
        tokens.TokenPlace(module=place.module, token=place.token, label=place.label, pin_file=place.pin_file)
    )


def create_token_key(place: TokenPlace) -> VaultKey:
    """Make the key of the next vault epoch on a token. Raises like `open_token`."""
    try:
        from iap_authz.adapters.keys import vault_pkcs11 as tokens  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        raise _without_extra(error) from None
    return tokens.create_token_key(
        tokens.TokenPlace(module=place.module, token=place.token, label=place.label, pin_file=place.pin_file)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeApiKey:
    """A new API key: its text, to be shown once, and its entry in the file of API keys."""

    text: str = field(repr=False)
    entry: Mapping[str, object]


def make_api_key(
    pepper_file: Path,
    *,
    name: str,
    subject: str,
    scopes: Sequence[str],
    groups: Sequence[str],
    lifetime: timedelta,
) -> MadeApiKey:
    """Make an API key that is good from now on. Raises ConfigInvalid for the pepper, Invalid for another argument."""
    pepper = load_pepper(pepper_file)
    key_id, now = secrets.token_hex(ID_HEX_DIGITS // 2), datetime.now(UTC).replace(microsecond=0)
    text = render_api_key(key_id, secrets.token_bytes(SECRET_HEX_DIGITS // 2))
    entry = {
        "id": key_id,
        "name": name,
        "hmac_sha256": hash_api_key(text, pepper).hex(),
        "subject": subject,
        "scopes": list(scopes),
        "groups": list(groups),
        "created": _rendered(now),
        "expires": _rendered(now + lifetime),
    }
    # What a sidecar would not load is not given out.
    parse_api_keys(json.dumps({"keys": [entry]}).encode(), "api-key.json", pepper=pepper)
    return MadeApiKey(text=text, entry=entry)


def _rendered(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def public_keys(vault: Vault) -> list[VaultKey]:
    """What writers are given, the newest last."""
    return [VaultKey(epoch=epoch, public_key=vault.public_key(epoch)) for epoch in vault.epochs]


@contextmanager
def stopped_log(trail: Path, directory: Path) -> Iterator[None]:
    """No log runs on this trail in the block, and all that its stages had stands in the trail.

    Raises ConfigInvalid for what is no trail, Conflict, OSError.
    """
    from iap_authz.adapters.stores.posix import PosixTileStore  # noqa: PLC0415 -- only this command needs it
    from iap_authz.adapters.trail.trail_lock import alone_with_trail  # noqa: PLC0415 -- as above

    _check_is_there(trail)
    with alone_with_trail(trail):
        if directory.is_dir() and (waiting := PosixTileStore(directory).stages()):
            raise Conflict(f"got {len(waiting)} rounds that are not in the trail yet: start the log once, and stop it")
        yield


def _check_is_there(trail: Path) -> None:
    if not trail.is_file() or not trail.stat().st_size:
        raise ConfigInvalid.of_file(trail, "got no file, or an empty one, want the trail of this vault's log")


def count_sealed(trail: Path) -> tuple[Mapping[int, int], int]:
    """How many subject keys and legal holds of a trail are sealed to each vault epoch, and the epoch in force.

    Raises ConfigInvalid for what is no trail; Corrupt; OSError.
    """
    from iap_authz.adapters.trail.companions import SqlCompanions  # noqa: PLC0415 -- a database takes long to import
    from iap_authz.adapters.trail.legal_holds import SqlHolds  # noqa: PLC0415 -- as above
    from iap_authz.adapters.trail.seal_epochs import SqlSealEpochs  # noqa: PLC0415 -- as above
    from iap_authz.adapters.trail.store import open_trail  # noqa: PLC0415 -- as above

    _check_is_there(trail)
    engine = open_trail(trail)
    try:
        _, in_force = SqlSealEpochs(engine).load()
        counts = Counter(SqlCompanions(engine).count_keys())
        counts.update(hold.vault_epoch for hold in SqlHolds(engine).holds())
        return dict(counts), in_force
    finally:
        engine.dispose()


def _without_extra(error: ModuleNotFoundError) -> Exception:
    if error.name != "pkcs11":
        return error
    message = f"got a token, but {EXTRA} is not installed: pip install 'iap-authz[pkcs11]'"
    return ConfigInvalid.of_file("vault.pkcs11", message)
