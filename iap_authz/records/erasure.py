# SPDX-License-Identifier: Apache-2.0
r"""What an erasure says of the records it took, and how it knows the person without keeping a name (rules S5, S8).

The invariant: an Erasure record names nobody, and from its root nobody learns which leaves it means unless they have
the salts. Who has them can check for every single leaf that it was erased, and not lost.

    salt    = HMAC-SHA256(the erasure's secret, u64 index of the leaf)      32 bytes; replaces the companion's salt
    entry   = SHA-256(salt || leaf hash)                                    32 bytes; one for each leaf
    root    = RFC 6962 root of the tree whose leaves are the entries, in rising order as bytes:
              leaf SHA-256(0x00 || entry), node SHA-256(0x01 || left || right); no entries: SHA-256("")

While an erasure is open the log must know its person again when a record of theirs comes late. It keeps this instead
of the name, made with the index key, which is not in the database; it is overwritten when the erasure is complete:

    whose   = i64 token of the subject in the index (rule S9) || subject tag || issuer tag || key tag
    tag     = two tokens of 8 bytes of kinds "erasure-1" and "erasure-2" over erasure id (16) || kind || 0x00 || value
              16 zero bytes as the issuer tag: any issuer

Numbers are big-endian. Pure: secrets are arguments. Not here: which records there are, and the keys.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from struct import Struct

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Corrupt
from iap_authz.records.tokens import TokenKey, query_tokens
from iap_authz.tlog.hashing import HASH_BYTES, LeafHash, LeafIndex, NodeHash, as_nodes, leaf_hashes
from iap_authz.tlog.tree import subtree_root

ERASURE_ID_BYTES, SECRET_BYTES, TAG_BYTES = 16, 32, 16
"""As in record.proto; a key of HMAC-SHA256; enough that no two values share a tag."""

ANY_ISSUER = bytes(TAG_BYTES)
"""In the place of an issuer's tag: the erasure is of the subject, whoever vouched for it."""

_INDEX_BYTES = 8
_WHOSE = Struct(f">q{TAG_BYTES}s{TAG_BYTES}s{TAG_BYTES}s")
WHOSE_BYTES = _WHOSE.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom a record is about. Only decisions name an issuer; in other records it is empty."""

    subject: str = field(repr=False)
    issuer: str = field(repr=False)


def person_of(part: record_pb2.PersonalPart) -> Person | None:
    """Whom `part` is about, or None for a part that names no subject.

    A reading of the log is about nobody who could be forgotten: who reads is accountable, and a subject who has the
    name of an officer by chance must not take the officer's readings with them.
    """
    match part.WhichOneof("part"):
        case "decision":
            identity = part.decision.facts.identity
            found = Person(subject=identity.subject, issuer=identity.issuer)
        case "alert":
            found = Person(subject=part.alert.subject, issuer="")
        case "external":
            found = Person(subject=part.external.subject, issuer="")
        case _:
            return None
    return found if found.subject else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """A person in the form that is kept: the picture above."""

    token: int
    subject: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, content: bytes) -> "Whose":
        """Raises Corrupt for other than `WHOSE_BYTES` bytes."""
        if len(content) != WHOSE_BYTES:
            raise Corrupt("erasure", f"got {len(content)} bytes that say whose it is, want {WHOSE_BYTES}")
        token, subject, issuer, key = _WHOSE.unpack(content)
        return cls(token=token, subject=subject, issuer=issuer, key=key)

    def render(self) -> bytes:
        """`WHOSE_BYTES` bytes."""
        return _WHOSE.pack(self.token, self.subject, self.issuer, self.key)


class Tags:
    """The tags of one erasure, whose id goes into each: two erasures of one person share none."""

    def __init__(self, key: TokenKey, erasure: bytes) -> None:
        self._key, self._erasure = key, erasure

    def whose(self, subject: str, issuer: str) -> Whose:
        """The person in the form that is kept; an empty issuer means any. Raises Malformed for no subject at all."""
        (tokens,) = query_tokens(self._key, log_pb2.SearchRecordsRequest(subject=subject))
        (token,) = tokens
        tag = self.issuer(issuer) if issuer else ANY_ISSUER
        return Whose(token=token, subject=self._tag(b"subject", subject), issuer=tag, key=self.key())

    def issuer(self, issuer: str) -> bytes:
        """The tag of an issuer that is named."""
        return self._tag(b"issuer", issuer)

    def key(self) -> bytes:
        """Says which index key made the tags: another one would know nobody again."""
        return self._tag(b"key", "")

    def fits(self, whose: Whose, person: Person | None) -> bool:
        """Whether a record about `person` is one of `whose`. One that names no issuer is, of any."""
        if person is None or not hmac.compare_digest(whose.subject, self._tag(b"subject", person.subject)):
            return False
        return not person.issuer or whose.issuer in (ANY_ISSUER, self.issuer(person.issuer))

    def _tag(self, kind: bytes, value: str) -> bytes:
        content = self._erasure + kind + b"\x00" + value.encode()
        halves = (self._key.token(part, content) for part in (b"erasure-1", b"erasure-2"))
        return b"".join(half.to_bytes(TAG_BYTES // 2, signed=True) for half in halves)


def erasure_salt(secret: bytes, index: LeafIndex) -> bytes:
    """The salt of a leaf that is erased; it says nothing without the erasure's secret."""
    return hmac.digest(secret, index.to_bytes(_INDEX_BYTES), "sha256")


def salted_entry(salt: bytes, leaf_hash: LeafHash) -> bytes:
    """What stands for a leaf under the root of its Erasure record."""
    return sha256(salt + leaf_hash).digest()


def entries_root(entries: Iterable[bytes]) -> NodeHash:
    """The root over these entries, in whatever order they come."""
    return subtree_root(as_nodes(leaf_hashes(sorted(entries))))


def leaves_root(pairs: Iterable[tuple[bytes, LeafHash]]) -> NodeHash:
    """The root over leaves, each by its salt and its hash, in whatever order they come."""
    return entries_root(salted_entry(salt, leaf_hash) for salt, leaf_hash in pairs)


def erasure_body(
    *,
    erasure: bytes,
    records: int,
    root: bytes,
    seal_epoch: int,
    log_size: int,
    authority: str,
    officers: Sequence[str],
) -> record_pb2.Erasure:
    """The body of an Erasure record. Raises ValueError for an id or a root of another length."""
    if len(erasure) != ERASURE_ID_BYTES or len(root) != HASH_BYTES:
        raise ValueError(f"got an id of {len(erasure)} and a root of {len(root)} bytes, want 16 and 32")
    return record_pb2.Erasure(
        erasure=erasure,
        records=records,
        leaves_root=root,
        seal_epoch=seal_epoch,
        log_size=log_size,
        authority=authority,
        approvers=officers,
    )
