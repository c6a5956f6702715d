# SPDX-License-Identifier: Apache-2.0
"""The scope of a legal hold, sealed: it comes back whole, its length says nothing, and nothing else is a scope."""

import pytest

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import BadProof
from iap_authz.records.hold_scope import PADDED_BYTES, hold_info, parse_scope, seal_scope
from iap_authz.records.hpke import OVERHEAD_BYTES
from tests.fakes.sealed import VAULT

INFO = hold_info("log.example.com", b"\x01" * 16)


def opened(scope: log_pb2.SearchRecordsRequest, *, info: bytes = INFO) -> bytes:
    sealed = seal_scope(scope, public_key=VAULT.public_key(1), info=INFO)
    assert (len(sealed) - OVERHEAD_BYTES) % PADDED_BYTES == 0
    return VAULT.open(sealed, epoch=1, info=info)


@pytest.mark.parametrize("length", [1, 10, 1_000, PADDED_BYTES - 9, PADDED_BYTES - 4, PADDED_BYTES, 5_000])
def test_a_scope_comes_back(length: int) -> None:
    scope = log_pb2.SearchRecordsRequest(subject="a" * length, bodies=["decision"])
    assert parse_scope(opened(scope)) == scope


def test_a_scope_is_bound_to_its_hold_and_its_log() -> None:
    scope = log_pb2.SearchRecordsRequest(subject="alice")
    for info in (hold_info("log.example.com", b"\x02" * 16), hold_info("other.example.com", b"\x01" * 16)):
        with pytest.raises(BadProof):
            opened(scope, info=info)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(PADDED_BYTES - 1),
        (PADDED_BYTES).to_bytes(4) + bytes(PADDED_BYTES - 4),
        (1).to_bytes(4) + b"\xff" + bytes(PADDED_BYTES - 5),
        (0).to_bytes(4) + b"\x01" + bytes(PADDED_BYTES - 5),
    ],
    ids=["nothing", "not padded", "longer than it is", "no message", "something in the padding"],
)
def test_what_is_no_scope_is_refused(content: bytes) -> None:
    with pytest.raises(BadProof):
        parse_scope(content)
