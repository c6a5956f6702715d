# SPDX-License-Identifier: Apache-2.0
"""A batch as it is offered: the records' own bytes, and what stands beside the sealed ones (rules A1, S2)."""

from iap_authz.model.ids import Sequence
from iap_authz.records.journaled import JournaledBatch
from iap_authz.records.seal import SALT_BYTES
from iap_authz.sidecar.lanes import append_request
from tests.fakes.journal import FixedSigner, counted, fixed_seal, sealed_leaf

WRITER = FixedSigner().writer


def batch_of(*companions: tuple[int, bytes]) -> JournaledBatch:
    records = (sealed_leaf(WRITER, Sequence(7)), counted(WRITER, Sequence(8)), sealed_leaf(WRITER, Sequence(9)))
    return JournaledBatch(writer=WRITER, begin=7, end=10, records=records, note=b"note", companions=companions)


def test_a_batch_is_offered_as_it_stands() -> None:
    batch = batch_of()
    request = append_request(batch)
    assert (request.writer, getattr(request, "from"), request.to) == (WRITER, 7, 10)
    assert (tuple(request.records), request.checkpoint, list(request.companions)) == (batch.records, b"note", [])


def test_s2_companions_are_offered_by_sequence_as_salt_and_companion() -> None:
    seals = {sequence: fixed_seal(sequence) for sequence in (7, 9)}
    request = append_request(batch_of(*((sequence, seal.beside) for sequence, seal in seals.items())))
    assert [(one.sequence, one.salt, one.companion) for one in request.companions] == [
        (sequence, seal.salt, seal.key.companion) for sequence, seal in seals.items()
    ]
    assert all(len(one.salt) == SALT_BYTES for one in request.companions)
