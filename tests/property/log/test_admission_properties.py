# SPDX-License-Identifier: Apache-2.0
"""What the log admits from a writer, its fold takes at the next start: nobody can keep it from starting."""

from hypothesis import given, settings
from hypothesis import strategies as st

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import IapError
from iap_authz.records.admission import Batch, SealRules, admit
from iap_authz.records.log_fold import Fold
from iap_authz.records.log_leaves import checkpoint_body, log_leaf
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import LeafIndex, leaf_hash, leaf_hashes
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN
from tests.fakes.made_log import MadeLog, MadeWriter
from tests.fakes.sealed import SealingWriter

BODIES = [one for one in record_pb2.Record.DESCRIPTOR.fields if one.number >= 20]

RULES = SealRules(seal_epoch=0, vault_epochs=frozenset({1}))


def sealed_record() -> tuple[bytes, bytes]:
    """A sealed record 1 of the usual writer, and what stands beside it."""
    writer = SealingWriter()
    writer.add()
    return writer.add_sealed(), writer.besides[1]


SEALED_LEAF, BESIDE = sealed_record()


def varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


fields = st.builds(
    lambda number, wire, value: (
        varint(number << 3 | wire) + {0: b"\x01", 1: bytes(8), 2: varint(len(value)) + value, 5: bytes(4)}[wire]
    ),
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 19, 99, *(one.number for one in BODIES)]),
    st.sampled_from([0, 1, 2, 5]),
    st.binary(max_size=4),
)
"""A field with any wire type: some are bodies, some only look like one to one of two readers."""


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    """A record that our writers would make, changed: fields added, taken away, bytes flipped."""
    writer = MadeWriter()
    writer.add()
    leaf = bytearray(writer.add())
    if draw(st.booleans()):
        record = parse_record(bytes(leaf))
        record.ClearField("refusals")
        leaf = bytearray(record.SerializeToString(deterministic=True))
    if draw(st.booleans()):
        leaf[draw(st.integers(0, len(leaf) - 1))] ^= 1 << draw(st.integers(0, 7))
    extra = draw(st.lists(fields, max_size=2))
    return bytes(leaf) + b"".join(extra)


@st.composite
def sealed_leaves(draw: st.DrawFn) -> bytes:
    """The same of a record with a sealed part, beside which `BESIDE` stands."""
    leaf = bytearray(SEALED_LEAF)
    for _ in range(draw(st.integers(0, 2))):
        leaf[draw(st.integers(0, len(leaf) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(leaf) + b"".join(draw(st.lists(fields, max_size=2)))


@settings(max_examples=400)
@given(leaves(), st.sampled_from([None, RULES]))
def test_what_is_admitted_is_no_problem_to_the_fold(leaf: bytes, seals: SealRules | None) -> None:
    check_admitted(leaf, seals=seals, companions=())


@settings(max_examples=400)
@given(sealed_leaves(), st.booleans())
def test_s2_nor_is_what_is_admitted_sealed(leaf: bytes, sealing: bool) -> None:  # noqa: FBT001 - drawn
    check_admitted(leaf, seals=RULES if sealing else None, companions=((1, BESIDE),))


def check_admitted(leaf: bytes, *, seals: SealRules | None, companions: tuple[tuple[int, bytes], ...]) -> None:
    """If `leaf` is admitted as record 1 of a writer, the fold has no problem with it."""
    log, writer = MadeLog(), MadeWriter()
    log.register(writer)
    log.append(writer, 1)
    fold = Fold(ORIGIN)
    fold.add_all(LeafIndex(0), log.leaves, leaf_hashes(log.leaves))
    state = fold.writers[writer.writer]
    writer.log, note = writer.log.commit([leaf_hash(leaf)])
    batch = Batch(writer=writer.writer, begin=1, end=2, records=(leaf,), note=note, companions=companions)
    try:
        admit(batch, state, origin=ORIGIN, log_size=log.size, seals=seals)
    except IapError:
        return
    first = LeafIndex(log.size)
    end = checkpoint_body(note, before=state.tree, end=2, first_index=first, received=START)
    last = log_leaf(end, origin=ORIGIN, index=LeafIndex(first + 1), record_id=bytes(16), time=START)
    fold.add_all(first, [leaf, last], leaf_hashes([leaf, last]))
    fold.finish()
    assert fold.problems == []
    assert fold.writers[writer.writer].tree.end == 2


def test_the_sealed_record_that_is_changed_here_is_admitted_as_it_is() -> None:
    log, writer = MadeLog(), MadeWriter()
    log.register(writer)
    log.append(writer, 1)
    fold = Fold(ORIGIN)
    fold.add_all(LeafIndex(0), log.leaves, leaf_hashes(log.leaves))
    _, note = writer.log.commit([leaf_hash(SEALED_LEAF)])
    batch = Batch(writer=writer.writer, begin=1, end=2, records=(SEALED_LEAF,), note=note, companions=((1, BESIDE),))
    assert admit(batch, fold.writers[writer.writer], origin=ORIGIN, log_size=log.size, seals=RULES).tree.end == 2
