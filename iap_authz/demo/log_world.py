# SPDX-License-Identifier: Apache-2.0
"""`make_log`: what an audit log needs, made on the spot, and the same once more for a log whose operator cheats.

    FOLDER/
      log.yaml         log-forked.yaml         the operator's files (files.py); they differ in the store
      log/             log-forked/             made by the log itself, when it starts
      log.key          log.vkey                the key, and the verifier key that everybody else is given
      enrolment.yaml   enrolment.token         who may register, and the token of this demonstration's sidecar

Invariant: the two logs have one name, one key and one socket. Nobody can tell them apart but by what they hold.
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from iap_authz.demo.disk import write_private
from iap_authz.demo.files import ENROLMENT_TOKEN_FILE, LOG_ORIGIN, render_enrolment, render_log
from iap_authz.tlog.key_file import SEED_BYTES, PrivateKey, render_key_file
from iap_authz.tlog.note import VerifierKey

TOKEN_BYTES = 32
"""Nobody guesses 256 bits."""


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


def make_logs(folder: Path, sockets: Path) -> Logs:
    """Make the files of both logs in `folder`. Raises OSError."""
    key = PrivateKey(name=LOG_ORIGIN, seed=secrets.token_bytes(SEED_BYTES))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_private(folder / "log.key", render_key_file([key]))
    write_private(folder / "log.vkey", f"{key.verifier().render()}\n")
    write_private(folder / ENROLMENT_TOKEN_FILE, token)
    write_private(folder / "enrolment.yaml", render_enrolment(sha256(token.encode()).hexdigest()))
    logs = Logs(
        honest=LogPlace(folder=folder, name="log", socket=sockets / "log.sock", verifier=key.verifier()),
        forked=LogPlace(folder=folder, name="log-forked", socket=sockets / "log.sock", verifier=key.verifier()),
    )
    for place in (logs.honest, logs.forked):
        write_private(place.config, render_log(listen=place.address, directory=place.name))
    return logs
