# SPDX-License-Identifier: Apache-2.0
"""Identifiers that look alike and must not be mixed."""

from typing import NewType

WriterId = NewType("WriterId", bytes)
"""32 bytes: SHA-256 of the writer's Ed25519 public key."""

Sequence = NewType("Sequence", int)
"""Index of a record in its writer's log, from 0."""

AuditId = NewType("AuditId", str)
"""64 lowercase hex digits: the RFC 6962 leaf hash of the record's bytes."""

PolicyDigest = NewType("PolicyDigest", bytes)
"""32 bytes: SHA-256 of the canonical bundle."""
