# SPDX-License-Identifier: Apache-2.0
"""What a legal hold keeps, as it stands in the trail: sealed, since it may name a person (rules S3, S6).

The invariant: who has the database without the vault learns nothing of a scope, not even how long it is.

    scope = HPKE(vault key, u32 length || SearchRecordsRequest || zeros up to 1,024 bytes or a multiple, info)
    info  = "iap-authz/hold/v1" || origin || hold id (16)

Numbers are big-endian. Specification: RFC 9180, by `hpke`.
"""

from google.protobuf.message import DecodeError

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import BadProof
from iap_authz.records.hpke import seal_to

HOLD_LABEL = b"iap-authz/hold/v1"
"""Keeps what is sealed here apart from subject keys."""

PADDED_BYTES = 1_024
"""A scope with a few names in it has one length."""

_LENGTH_BYTES = 4


def hold_info(origin: str, hold: bytes) -> bytes:
    """What a sealed scope is bound to."""
    return HOLD_LABEL + origin.encode() + hold


def seal_scope(scope: log_pb2.SearchRecordsRequest, *, public_key: bytes, info: bytes) -> bytes:
    """The scope, sealed to the vault."""
    content = scope.SerializeToString(deterministic=True)
    padding = -(_LENGTH_BYTES + len(content)) % PADDED_BYTES
    return seal_to(public_key, len(content).to_bytes(_LENGTH_BYTES) + content + bytes(padding), info=info)


def parse_scope(content: bytes) -> log_pb2.SearchRecordsRequest:
    """The scope in what was opened. Raises BadProof for what is none."""
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES])
    scope = log_pb2.SearchRecordsRequest()
    try:
        scope.ParseFromString(content[_LENGTH_BYTES:end])
    except DecodeError:
        raise BadProof("got the scope of a hold that is no search: it was made wrong") from None
    if not content or len(content) % PADDED_BYTES or end > len(content) or any(content[end:]):
        raise BadProof(f"got the scope of a hold of {len(content)} bytes, want it padded")
    return scope
