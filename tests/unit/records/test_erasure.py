# SPDX-License-Identifier: Apache-2.0
"""The bytes of an erasure: salts, entries, the root, and the person without the name."""

import hmac
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.errors import Corrupt
from iap_authz.records.erasure import (
    ANY_ISSUER,
    WHOSE_BYTES,
    Person,
    Tags,
    Whose,
    erasure_body,
    erasure_salt,
    leaves_root,
    person_of,
    salted_entry,
)
from iap_authz.records.tokens import TokenKey, tokens_of
from iap_authz.tlog.hashing import EMPTY_ROOT, LeafHash, LeafIndex
from tests.fakes.erasing import TOKEN_KEY
from tests.fakes.sealed import facts_of

ERASURE, SECRET = b"\x01" * 16, b"\x02" * 32


def reference_root(entries: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    return sha256(b"\x01" + reference_root(entries[:split]) + reference_root(entries[split:])).digest()


@given(st.dictionaries(st.integers(0, (1 << 63) - 1), st.binary(min_size=32, max_size=32), max_size=20), st.integers())
def test_the_root_is_that_of_the_sorted_salted_hashes(leaves: dict[int, bytes], seed: int) -> None:
    pairs = [(erasure_salt(SECRET, LeafIndex(index)), LeafHash(hashed)) for index, hashed in leaves.items()]
    entries = [
        sha256(hmac.new(SECRET, index.to_bytes(8, "big"), "sha256").digest() + hashed).digest()
        for index, hashed in leaves.items()
    ]
    shuffled = list(pairs)
    Random(seed).shuffle(shuffled)
    assert leaves_root(pairs) == leaves_root(shuffled) == reference_root(sorted(entries))


def test_no_leaves_at_all() -> None:
    assert leaves_root([]) == EMPTY_ROOT


def test_salts_differ_by_leaf_and_by_erasure() -> None:
    salts = {erasure_salt(secret, LeafIndex(index)) for secret in (SECRET, bytes(32)) for index in range(50)}
    assert len(salts) == 100
    assert {len(salt) for salt in salts} == {32}
    assert salted_entry(b"a" * 32, LeafHash(b"b" * 32)) == sha256(b"a" * 32 + b"b" * 32).digest()


def part_of(name: str) -> tuple[record_pb2.PersonalPart, Person | None]:
    """A part of each kind, and whom it is about."""
    part = record_pb2.PersonalPart()
    match name:
        case "decision":
            part.decision.facts.CopyFrom(facts_of("alice", issuer="i"))
            return part, Person(subject="alice", issuer="i")
        case "log_read":
            part.log_read.reader = "alice"
            return part, None
        case "alert":
            part.alert.subject = "alice"
        case "external":
            part.external.subject = "alice"
        case "outcome":
            part.outcome.request_id = "alice"
            return part, None
        case "anonymous":
            part.decision.facts.request.method = "GET"
            return part, None
        case _:
            return part, None
    return part, Person(subject="alice", issuer="")


@pytest.mark.parametrize("name", ["decision", "log_read", "alert", "external", "outcome", "anonymous", "nothing"])
def test_whom_a_record_is_about(name: str) -> None:
    part, want = part_of(name)
    assert person_of(part) == want
    whose = Tags(TOKEN_KEY, ERASURE).whose("alice", "")
    found = whose.token in tokens_of(TOKEN_KEY, part)
    assert found == (want is not None or name == "log_read"), "what is compared is found, and whose readings, too"


@pytest.mark.parametrize(
    ("asked", "person", "fits"),
    [
        (("alice", ""), Person(subject="alice", issuer="i"), True),
        (("alice", "i"), Person(subject="alice", issuer="i"), True),
        (("alice", "i"), Person(subject="alice", issuer=""), True),
        (("alice", "i"), Person(subject="alice", issuer="j"), False),
        (("alice", ""), Person(subject="Alice", issuer="i"), False),
        (("alice", ""), Person(subject="alice ", issuer="i"), False),
        (("alice", ""), Person(subject="al", issuer="ice"), False),
        (("alice", ""), None, False),
    ],
)
def test_who_fits(asked: tuple[str, str], person: Person | None, fits: bool) -> None:  # noqa: FBT001 -- of the table
    tags = Tags(TOKEN_KEY, ERASURE)
    whose = Whose.parse(tags.whose(*asked).render())
    assert tags.fits(whose, person) == fits


def test_whose_it_is_has_one_length_and_no_name() -> None:
    tags = Tags(TOKEN_KEY, ERASURE)
    kept = [tags.whose(subject, issuer).render() for subject in ("a", "alice" * 99) for issuer in ("", "i" * 99)]
    assert {len(one) for one in kept} == {WHOSE_BYTES}
    assert tags.whose("a", "").issuer == ANY_ISSUER
    assert b"alice" not in b"".join(kept)
    assert "token" in repr(tags.whose("a", "i"))
    assert tags.whose("a", "i").subject.hex() not in repr(tags.whose("a", "i"))


def test_two_erasures_of_one_person_share_no_tag() -> None:
    first, second = Tags(TOKEN_KEY, ERASURE).whose("alice", "i"), Tags(TOKEN_KEY, b"\x09" * 16).whose("alice", "i")
    assert (first.token == second.token, first.subject == second.subject, first.issuer == second.issuer) == (
        True,
        False,
        False,
    )
    assert first.subject != first.issuer
    other = Tags(TokenKey.derive(b"\x08" * 32, "o"), ERASURE)
    assert other.key() != first.key


@pytest.mark.parametrize("length", [0, WHOSE_BYTES - 1, WHOSE_BYTES + 1])
def test_other_lengths_are_corrupt(length: int) -> None:
    with pytest.raises(Corrupt):
        Whose.parse(bytes(length))


@pytest.mark.parametrize(("erasure", "root"), [(b"short", bytes(32)), (bytes(16), b"short")])
def test_a_body_has_an_id_and_a_root(erasure: bytes, root: bytes) -> None:
    with pytest.raises(ValueError, match="want 16 and 32"):
        erasure_body(erasure=erasure, records=1, root=root, seal_epoch=1, log_size=1, authority="a", officers=["olga"])
