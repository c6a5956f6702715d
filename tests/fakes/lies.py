# SPDX-License-Identifier: Apache-2.0
"""The lies that a log may tell a writer about its batch, by name: how `LyingLog` tells each, and what finds it out.

Each is wrong in one respect only. Told before the batch is appended; `EARLIER` are those that need no other moment, so
they may be told about a batch that the log has taken already.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, BadSignature, IapError, Malformed
from iap_authz.tlog.checkpoint import Checkpoint, sign_checkpoint
from iap_authz.tlog.hashing import NodeHash, TreeSize
from iap_authz.tlog.note import NoteSigner, add_signatures, parse_note, render_note
from tests.fakes.journal import FixedSigner
from tests.fakes.lying_log import JUNK, LyingLog


@dataclass(frozen=True, kw_only=True)
class Lie:
    """`tell` makes the log say it of every batch from now on; a careful reader's check then ends in `ends_in`."""

    tell: Callable[[LyingLog], None]
    ends_in: type[IapError]


def of_receipt(change: Callable[[log_pb2.Receipt], object], ends_in: type[IapError] = BadProof) -> Lie:
    def tell(log: LyingLog) -> None:
        log.twist_receipt = change

    return Lie(tell=tell, ends_in=ends_in)


def of_note(change: Callable[[LyingLog, log_pb2.Receipt], bytes], ends_in: type[IapError]) -> Lie:
    def tell(log: LyingLog) -> None:
        def twist(receipt: log_pb2.Receipt) -> None:
            receipt.checkpoint = change(log, receipt)

        log.twist_receipt = twist

    return Lie(tell=tell, ends_in=ends_in)


def of_body(change: Callable[[record_pb2.WriterCheckpoint], object]) -> Lie:
    """A P1 leaf that says something else, and is in the tree like that."""

    def tell(log: LyingLog) -> None:
        log.twist_body = change

    return Lie(tell=tell, ends_in=BadProof)


def of_leaf(change: Callable[[record_pb2.Record], object], ends_in: type[IapError] = BadProof) -> Lie:
    """A P1 leaf whose envelope is another one, and is in the tree like that."""

    def rewrite(leaf: bytes) -> bytes:
        record = record_pb2.Record.FromString(leaf)
        change(record)
        return record.SerializeToString()

    def tell(log: LyingLog) -> None:
        log.change_leaf = rewrite

    return Lie(tell=tell, ends_in=ends_in)


def stored(change: Callable[[bytes], bytes]) -> Lie:
    """The log keeps other records than it was given."""

    def tell(log: LyingLog) -> None:
        log.change_record = change

    return Lie(tell=tell, ends_in=BadProof)


def put(**values: Any) -> Callable[[Any], None]:
    """Sets fields; `from_` is the field `from`."""

    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name.rstrip("_"), value)

    return change


def add(**values: int) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name.rstrip("_"), getattr(message, name.rstrip("_")) + value)

    return change


def shift(log: LyingLog) -> None:
    """Index and P1 leaf agree with one another, but not with the tree."""
    log.twist_body = add(first_index=1)
    log.change_leaf = of_sequence(1)
    log.twist_receipt = add(first_index=1)


def of_sequence(more: int) -> Callable[[bytes], bytes]:
    def rewrite(leaf: bytes) -> bytes:
        record = record_pb2.Record.FromString(leaf)
        record.sequence += more
        return record.SerializeToString()

    return rewrite


def flipped(_: LyingLog, receipt: log_pb2.Receipt) -> bytes:
    note = parse_note(receipt.checkpoint)
    line = note.signatures[0]
    broken = bytes([line.signature[0] ^ 1]) + line.signature[1:]
    return receipt.checkpoint.replace(
        line.render(), type(line)(name=line.name, key_id=line.key_id, signature=broken).render()
    )


def by_another_key(log: LyingLog, receipt: log_pb2.Receipt) -> bytes:
    return resigned(log, receipt, name=log.origin, origin=log.origin)


def by_another_log(log: LyingLog, receipt: log_pb2.Receipt) -> bytes:
    return resigned(log, receipt, name="log.example.org/other", origin="log.example.org/other")


def resigned(log: LyingLog, receipt: log_pb2.Receipt, *, name: str, origin: str) -> bytes:
    key = FixedSigner("impostor")
    size = receipt.first_index + receipt.leaves
    head = Checkpoint(origin=origin, size=TreeSize(size), root=log.root(size))
    return sign_checkpoint(head, NoteSigner(name=name, public_key=key.public_key, sign=key.sign))


def both_signatures(_: LyingLog, receipt: log_pb2.Receipt) -> bytes:
    """A good signature of the log, and one more in its name that fails: the whole note is refused."""
    note = parse_note(receipt.checkpoint)
    line = note.signatures[0]
    broken = type(line)(name=line.name, key_id=line.key_id, signature=bytes(64))
    return render_note(add_signatures(note, [broken]))


def another_root(log: LyingLog, receipt: log_pb2.Receipt) -> bytes:
    size = receipt.first_index + receipt.leaves
    return sign_checkpoint(Checkpoint(origin=log.origin, size=TreeSize(size), root=NodeHash(JUNK)), log.signer)


def another_size(log: LyingLog, receipt: log_pb2.Receipt) -> bytes:
    size = receipt.first_index + receipt.leaves
    return sign_checkpoint(Checkpoint(origin=log.origin, size=TreeSize(size + 1), root=log.root(size)), log.signer)


def drop_hash(receipt: log_pb2.Receipt) -> None:
    del receipt.range_proof[-1]


def swap_hashes(receipt: log_pb2.Receipt) -> None:
    receipt.range_proof[:] = receipt.range_proof[::-1]


def with_another_body(record: record_pb2.Record) -> None:
    record.writer_retired.SetInParent()


EARLIER: dict[str, Lie] = {
    "flipped signature": of_note(flipped, BadSignature),
    "another key of the log's name": of_note(by_another_key, BadSignature),
    "another log": of_note(by_another_log, BadSignature),
    "a good signature and a bad one": of_note(both_signatures, BadSignature),
    "another root": of_note(another_root, BadProof),
    "another size": of_note(another_size, BadProof),
    "no note": of_receipt(put(checkpoint=b""), Malformed),
    "a note that is none": of_receipt(put(checkpoint=b"hello\n"), Malformed),
    "shifted index": of_receipt(add(first_index=1)),
    "huge index": of_receipt(put(first_index=2**64 - 1)),
    "dropped hash": of_receipt(drop_hash),
    "extra hash": of_receipt(lambda receipt: receipt.range_proof.append(JUNK)),
    "swapped hashes": of_receipt(swap_hashes),
    "short hash": of_receipt(lambda receipt: receipt.range_proof.append(JUNK[:31]), Malformed),
    "no range proof": of_receipt(lambda receipt: receipt.ClearField("range_proof")),
    "extra consistency hash": of_receipt(lambda receipt: receipt.consistency_proof.append(JUNK)),
    "short consistency hash": of_receipt(lambda receipt: receipt.consistency_proof.append(JUNK[:31]), Malformed),
    "other writer": of_receipt(put(writer=JUNK)),
    "no writer": of_receipt(put(writer=b"")),
    "earlier records": of_receipt(add(from_=-1)),
    "more records": of_receipt(add(to=1)),
    "more leaves": of_receipt(add(leaves=1)),
    "no leaves": of_receipt(put(leaves=0)),
    "no P1 leaf": of_receipt(put(writer_checkpoint_leaf=b""), Malformed),
    "a P1 leaf that is none": of_receipt(put(writer_checkpoint_leaf=JUNK), Malformed),
    "another P1 leaf": of_receipt(lambda receipt: put(writer_checkpoint_leaf=rewritten(receipt))(receipt)),
    "nothing at all": of_receipt(lambda receipt: receipt.Clear()),
}
"""Lies about a batch that the log has taken honestly, or is about to take."""

LIES: dict[str, Lie] = {
    **EARLIER,
    "other leaves": stored(lambda leaf: leaf[:-1] + bytes([leaf[-1] ^ 1])),
    "one leaf for all": stored(lambda _: b"x"),
    "a P1 leaf shifted with the index": Lie(tell=shift, ends_in=BadProof),
    "a P1 leaf with an invented note": of_body(put(note=b"invented\n")),
    "a P1 leaf with no note": of_body(put(note=b"")),
    "a P1 leaf of earlier records": of_body(add(from_=-1)),
    "a P1 leaf of more records": of_body(add(to=1)),
    "a P1 leaf of another place": of_body(add(first_index=-1)),
    "a P1 leaf with another tree": of_body(lambda body: body.compact_range.__setitem__(0, JUNK)),
    "a P1 leaf of the writer": of_leaf(put(writer=JUNK)),
    "a P1 leaf of another index": of_leaf(add(sequence=-1)),
    "a P1 leaf with another body": of_leaf(with_another_body, Malformed),
}
"""All of them. Those beyond EARLIER are told while the log takes the batch, since they are in its tree."""


def rewritten(receipt: log_pb2.Receipt) -> bytes:
    """The same statement in another record: it is not the leaf that the tree holds."""
    record = record_pb2.Record.FromString(receipt.writer_checkpoint_leaf)
    record.id = JUNK[:16]
    return record.SerializeToString()
