# SPDX-License-Identifier: Apache-2.0
"""The audit log, read and written by somebody who does not trust it: the public Python API.

Reading order: receipts (what an answer must say), checkpoint_file, view (what is believed), status, channel (the
wire), asks (question, answer and check in one), log (`AuditLogClient`).
"""

from iap_authz.client.channel import LogChannel
from iap_authz.client.checkpoint_file import CheckpointFile
from iap_authz.client.log import AuditLogClient, Consistency, Inclusion
from iap_authz.client.view import LogView
from iap_authz.records.unsealed import Outcome, UnsealedRecord

__all__ = [
    "AuditLogClient",
    "CheckpointFile",
    "Consistency",
    "Inclusion",
    "LogChannel",
    "LogView",
    "Outcome",
    "UnsealedRecord",
]
