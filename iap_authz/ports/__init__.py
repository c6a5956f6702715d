# SPDX-License-Identifier: Apache-2.0
"""The ports: what the services need of the world and what the world may ask of them, each with its contract.

An adapter satisfies a port by its shape; there are no base classes. Contracts that a type cannot say (durability,
concurrency, ownership) stand in the docstrings and are tested in `tests/contract/`, one suite for all
implementations of a port.

deciding   what a check stands on
storing    what the audit log stands on
sealing    what opens what writers have sealed
erasing    what an erasure stands on, and legal holds
asserting  what signs assertions, and where their keys are published from
asking     what may be asked of the audit log
shipping   what brings a journal into it
"""

from iap_authz.ports.asking import Caller, LogService, PrivacyService, TrailService
from iap_authz.ports.asserting import AssertionKey, KeyPublisher
from iap_authz.ports.deciding import (
    SOURCES_SERVICE,
    Answer,
    Appended,
    Checker,
    Clock,
    Endpoint,
    FactSource,
    Fetched,
    Journal,
    Signer,
)
from iap_authz.ports.erasing import CoveredRow, ErasureRound, ErasureRow, ErasureStore, HoldRow, HoldStore, Stage
from iap_authz.ports.sealing import NO_ERASURE, Companions, KeptCompanion, SealedKey, SealEpochs, Vault
from iap_authz.ports.shipping import Backlog, CheckpointStore, LogClient
from iap_authz.ports.storing import BatchRow, Freeze, Head, HeadStore, Index, Ledger, RoundRows, TileStore, WriterRow

__all__ = [
    "NO_ERASURE",
    "SOURCES_SERVICE",
    "Answer",
    "Appended",
    "AssertionKey",
    "Backlog",
    "BatchRow",
    "Caller",
    "Checker",
    "CheckpointStore",
    "Clock",
    "Companions",
    "CoveredRow",
    "Endpoint",
    "ErasureRound",
    "ErasureRow",
    "ErasureStore",
    "FactSource",
    "Fetched",
    "Freeze",
    "Head",
    "HeadStore",
    "HoldRow",
    "HoldStore",
    "Index",
    "Journal",
    "KeptCompanion",
    "KeyPublisher",
    "Ledger",
    "LogClient",
    "LogService",
    "PrivacyService",
    "RoundRows",
    "SealEpochs",
    "SealedKey",
    "Signer",
    "Stage",
    "TileStore",
    "TrailService",
    "Vault",
    "WriterRow",
]
