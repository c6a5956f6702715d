# SPDX-License-Identifier: Apache-2.0
"""`make_log`: what an audit log needs, made on the spot, and the same once more for a log whose operator cheats.

    FOLDER/
      log.yaml         log-forked.yaml         the operator's files (files.py); they differ in the store
      log/             log-forked/             made by the log itself, when it starts
      log.key          log.vkey                the key, and the verifier key that everybody else is given
      enrolment.yaml   enrolment.token         who may register, and the token of this demonstration's sidecar
      vault.key        index.key               what opens sealed personal data, and what it is found by
      access.yaml      *.token                 an investigator and a privacy officer, and their tokens

Invariant: the two logs have one name, one key and one socket. Nobody can tell them apart but by what they hold.
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from iap_authz.demo.disk import write_private
from iap_authz.demo.files import ENROLMENT_TOKEN_FILE, LOG_ORIGIN, render_access, render_enrolment, render_log
from iap_authz.key_wiring import create_index_key, create_vault_file
from iap_authz.records.seal_settings import VaultKey
from iap_authz.tlog.key_file import SEED_BYTES, PrivateKey, render_key_file
from iap_authz.tlog.note import VerifierKey

TOKEN_BYTES = 32
"""Nobody guesses 256 bits."""

OFFICERS = ("investigator", "privacy_officer")
"""Who may open records, and who may have people forgotten; each is called like their role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """One audit log: its configuration, its store, where it listens, and the key that it signs with."""

    folder: Path
    name: str
    socket: Path
    verifier: VerifierKey

    @property
    def config(self) -> Path:
        """What `serve log` is given."""
        return self.folder / f"{self.name}.yaml"

    @property
    def store(self) -> Path:
        """Tiles, entry bundles, the published checkpoint and the databases."""
        return self.folder / self.name

    @property
    def address(self) -> str:
        """For clients."""
        return f"unix:{self.socket}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The log, and the one that takes its place with the same name and key and no history."""

    honest: LogPlace
    forked: LogPlace
    vault_key: VaultKey


def make_logs(folder: Path, sockets: Path) -> Logs:
    """Make the files of both logs in `folder`. Raises OSError."""
    key = PrivateKey(name=LOG_ORIGIN, seed=secrets.token_bytes(SEED_BYTES))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_private(folder / "log.key", render_key_file([key]))
    write_private(folder / "log.vkey", f"{key.verifier().render()}\n")
    write_private(folder / ENROLMENT_TOKEN_FILE, token)
    write_private(folder / "enrolment.yaml", render_enrolment(sha256(token.encode()).hexdigest()))
    write_private(folder / "access.yaml", render_access({name: _make_token(folder, name) for name in OFFICERS}))
    create_index_key(folder / "index.key")
    vault_key = create_vault_file(folder / "vault.key")
    logs = Logs(
        vault_key=vault_key,
        honest=LogPlace(folder=folder, name="log", socket=sockets / "log.sock", verifier=key.verifier()),
        forked=LogPlace(folder=folder, name="log-forked", socket=sockets / "log.sock", verifier=key.verifier()),
    )
    for place in (logs.honest, logs.forked):
        write_private(place.config, render_log(listen=place.address, directory=place.name))
    return logs


def _make_token(folder: Path, name: str) -> str:
    """Make an access token in a file, and return its hash."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_private(folder / f"{name}.token", token)
    return sha256(token.encode()).hexdigest()
