# SPDX-License-Identifier: Apache-2.0
"""What the audit log says of sealed records, held against the records themselves (PROTOCOL rules S1 and S8).

The invariant: what is given as opened is what its writer sealed. The log hands out the opening of one record; the leaf,
which is proven, has the key commitment that names it, so that no other text can be opened out of it.

What only the log knows is its word: that a record was erased, or that it was tampered with. Neither can be shown to
be false here, and both are worse for the log than an opening. Pure: nothing here asks anybody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof
from iap_authz.records.log_leaves import parse_log_leaf
from iap_authz.records.record import parse_record
from iap_authz.records.seal import open_part
from iap_authz.tlog.hashing import LeafIndex, TreeSize

UNSEAL_METHOD = "Unseal"
"""Of the LogRead record of an unsealing: the name of the call in log.proto."""


class Outcome(StrEnum):
    """What became of one record; the names are those of log.proto."""

    OPENED = "opened"
    ERASED = "erased"
    TAMPERED = "tampered"
    NOT_SEALED = "not sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsealedRecord:
    """A record, proven to be in the log. `personal` is there if it was opened, or never sealed.

    `log_read` is the place of the log's own record of this reading, which is proven as well.
    """

    index: LeafIndex
    leaf: bytes = field(repr=False)
    outcome: Outcome
    personal: record_pb2.PersonalPart | None = field(repr=False)
    log_read: LeafIndex


def open_records(
    leaves: Mapping[LeafIndex, bytes], answer: log_pb2.UnsealResponse, *, asked: Sequence[LeafIndex], origin: str
) -> list[UnsealedRecord]:
    """What the log answered for the leaves that were asked for, each opened here. Raises BadProof or Malformed."""
    if [one.index for one in answer.records] != list(asked):
        raise BadProof(f"got {len(answer.records)} records, want the {len(asked)} that were asked for, in that order")
    log_read = LeafIndex(answer.log_read)
    return [_open_record(leaves[LeafIndex(one.index)], one, log_read=log_read, origin=origin) for one in answer.records]


def check_log_read(leaf: bytes, opened: Sequence[UnsealedRecord], *, since: TreeSize, origin: str) -> None:
    """Raise BadProof unless `leaf` is the log's record of this reading, and not one of before.

    `since` is the size of the log that was proven before it was asked: the record of an earlier reading is below it.
    """
    index, asked = opened[0].log_read, [one.index for one in opened]
    if index < since:
        raise BadProof(f"got leaf {index} as the record of this reading, want one from {since} on: it was there before")
    read = parse_log_leaf(leaf, origin=origin, index=index, body="log_read").log_read
    unsealed = sum(one.outcome is Outcome.OPENED for one in opened)
    want = (UNSEAL_METHOD, min(asked), max(asked) + 1, len(asked), unsealed)
    if (read.method, read.from_index, read.to_index, read.records, read.unsealed) != want:
        raise BadProof(f"got a record of another reading at leaf {index}, want that of {len(asked)} records unsealed")


def _open_record(leaf: bytes, said: log_pb2.Unsealed, *, log_read: LeafIndex, origin: str) -> UnsealedRecord:
    record, outcome = parse_record(leaf), _outcome_of(said)
    form = record.WhichOneof("personal")
    if (form == "sealed") == (outcome is Outcome.NOT_SEALED):
        raise BadProof(f"got {outcome} for leaf {said.index}, want what fits its personal part: {form or 'none'}")
    personal = None
    if outcome is Outcome.OPENED:
        personal = open_part(record, said.opening, origin=origin)
    elif form == "open":
        personal = record.open
    return UnsealedRecord(index=LeafIndex(said.index), leaf=leaf, outcome=outcome, personal=personal, log_read=log_read)


def _outcome_of(said: log_pb2.Unsealed) -> Outcome:
    match said.outcome:
        case log_pb2.Unsealed.OPENED:
            return Outcome.OPENED
        case log_pb2.Unsealed.ERASED:
            return Outcome.ERASED
        case log_pb2.Unsealed.TAMPERED:
            return Outcome.TAMPERED
        case log_pb2.Unsealed.NOT_SEALED:
            return Outcome.NOT_SEALED
        case _:
            raise BadProof(f"got outcome {said.outcome} for leaf {said.index}, want one of log.proto")
