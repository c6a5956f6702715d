# SPDX-License-Identifier: Apache-2.0
"""The assembly of the way of a journal into its audit log. A part of `wiring`."""

from pathlib import Path

from iap_authz.adapters.journal.backlog import FileBacklog
from iap_authz.adapters.journal.files import FileJournal
from iap_authz.client.channel import LogChannel
from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.client.view import LogView
from iap_authz.config import AuditLogConfig
from iap_authz.errors import ConfigInvalid
from iap_authz.ports import Clock
from iap_authz.sidecar.sealing import SettingsTaker
from iap_authz.sidecar.shipper import Shipper, ShipperSettings

LOG_CHECKPOINT_NAME = "log-checkpoint"
"""Beside the writers in the journal directory: the last checkpoint of the audit log that was verified (rule G2)."""

TOKEN_MAX_BYTES = 1_024
"""Of an enrolment token, many times what `iap-authz keys new enrolment-token` makes."""


def load_token(path: Path) -> str:
    """The enrolment token in a file, without the white space around it. Raises ConfigInvalid."""
    try:
        text = path.read_bytes()[: TOKEN_MAX_BYTES + 1].decode("ascii").strip()
    except OSError as error:
        raise ConfigInvalid.of_file(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > TOKEN_MAX_BYTES or not text.isprintable():
        raise ConfigInvalid.of_file(path, f"got no enrolment token, want one line of at most {TOKEN_MAX_BYTES} bytes")
    return text


def make_shipper(
    config: AuditLogConfig,
    channel: LogChannel,
    backlog: FileBacklog,
    *,
    journal: FileJournal,
    sealing: SettingsTaker,
    clock: Clock,
    token: str,
) -> Shipper:
    """The way of an open journal into its log. Raises ConfigInvalid for a stored checkpoint of another log, OSError."""
    view = LogView(config.verifier_key, CheckpointFile(journal.directory / LOG_CHECKPOINT_NAME))
    settings = ShipperSettings(
        enrolment_token=token,
        refuse=config.on_log_fault == "refuse",
        cosign_deadline_seconds=config.cosign_deadline.total_seconds(),
        witnesses=config.witnesses,
        quorum=config.quorum,
    )
    return Shipper(backlog, channel, view, journal=journal, clock=clock, sealing=sealing, settings=settings)
