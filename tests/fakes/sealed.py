# SPDX-License-Identifier: Apache-2.0
"""A vault in memory, and records sealed to it as a writer of ours seals them.

`beside_of` a seal travels with its leaf: `SealingWriter` keeps them by sequence. Keys of the vault follow from a seed.
"""

from collections.abc import Sequence as Many
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import NotFound, SourceUnavailable
from iap_authz.model.decision import Decision
from iap_authz.model.ids import PolicyDigest, Sequence, WriterId
from iap_authz.model.reason import Reason, Verdict
from iap_authz.records.hpke import open_with
from iap_authz.records.log_leaves import log_id
from iap_authz.records.record import decision_record, parse_record, service_record
from iap_authz.records.seal import (
    Seal,
    SubjectKey,
    derive_opening,
    new_seal,
    open_part,
    parse_beside,
    prepare_key,
    seal_context,
    subject_key_info,
    take_key,
)
from iap_authz.records.seal_settings import VaultKey
from tests.fakes.clock import START
from tests.fakes.journal import ORIGIN, record_id
from tests.fakes.made_log import MadeWriter

DIGEST = PolicyDigest(b"\xaa" * 32)


class TestVault:
    """Keeps the contract of the port `Vault`. `down`: it does not answer; `opened` counts what it was asked to open."""

    __test__ = False

    def __init__(self, *epochs: int, seed: str = "vault") -> None:
        self._seed = seed
        self._keys: dict[int, X25519PrivateKey] = {}
        self.down = False
        self.opened = 0
        for epoch in epochs or (1,):
            self.add(epoch)

    def add(self, epoch: int) -> None:
        """One more epoch, as `iap-authz keys rotate` makes it."""
        secret = sha256(f"{self._seed} {epoch}".encode()).digest()
        self._keys[epoch] = X25519PrivateKey.from_private_bytes(secret)

    def drop(self, epoch: int) -> None:
        """The private key of an epoch is gone."""
        del self._keys[epoch]

    @property
    def epochs(self) -> Many[int]:
        return sorted(self._keys)

    def public_key(self, epoch: int) -> bytes:
        return self._key(epoch).public_key().public_bytes_raw()

    def vault_key(self, epoch: int | None = None) -> VaultKey:
        """What a writer's configuration has of it; of the newest epoch if none is said."""
        epoch = self.epochs[-1] if epoch is None else epoch
        return VaultKey(epoch=epoch, public_key=self.public_key(epoch))

    def open(self, sealed: bytes, *, epoch: int, info: bytes) -> bytes:
        if self.down:
            raise SourceUnavailable("the vault does not answer")
        self.opened += 1
        return open_with(self._key(epoch), sealed, info=info)

    def _key(self, epoch: int) -> X25519PrivateKey:
        if epoch not in self._keys:
            raise NotFound(f"got vault epoch {epoch}, want one of {self.epochs}")
        return self._keys[epoch]


VAULT = TestVault()
"""For tests that need one that nobody changes."""


def subject_key(
    writer: bytes, *, vault: TestVault = VAULT, epoch: int | None = None, seal_epoch: int = 0, origin: str = ORIGIN
) -> SubjectKey:
    """A fresh subject key of `writer`, sealed to the vault's newest key, or to that of an epoch."""
    to = vault.vault_key(epoch)
    prepared = prepare_key(origin, writer, vault_public_key=to.public_key)
    return take_key(prepared, vault_epoch=to.epoch, seal_epoch=seal_epoch)


def seal_of(
    origin: str,
    writer: bytes,
    *,
    vault: TestVault = VAULT,
    epoch: int | None = None,
    seal_epoch: int = 0,
    key: SubjectKey | None = None,
) -> Seal:
    """The seal of one record, with `key` or a fresh one."""
    if key is None:
        key = subject_key(writer, vault=vault, epoch=epoch, seal_epoch=seal_epoch, origin=origin)
    return new_seal(origin, key)


def facts_of(subject: str = "alice@example.com", *, issuer: str = "https://issuer.example.com") -> facts_pb2.Facts:
    """What a decision about `subject` knew."""
    facts = facts_pb2.Facts()
    facts.identity.state = facts_pb2.PRESENT
    facts.identity.subject, facts.identity.issuer = subject, issuer
    facts.location.country = "DE"
    return facts


def sealed_decision(
    sequence: int,
    *,
    seal: Seal | None,
    writer: WriterId,
    facts: facts_pb2.Facts | None = None,
    time: datetime = START,
    verdict: Verdict = Verdict.ALLOW,
    reason: Reason = Reason.ALLOWED,
) -> bytes:
    """The leaf of a decision; without a seal its personal part is open."""
    return decision_record(
        Decision(verdict=verdict, reason=reason, rule="engineers", route="orders", policy_digest=DIGEST),
        facts_of() if facts is None else facts,
        writer=writer,
        sequence=Sequence(sequence),
        record_id=record_id(sequence),
        time=time,
        spent=timedelta(microseconds=900),
        http_status=200,
        seal=seal,
    )


def sealed_service(
    body: Message, personal: Message, *, sequence: int, seal: Seal | None, writer: WriterId, time: datetime = START
) -> bytes:
    """The leaf of another body with a personal part."""
    return service_record(
        body,
        writer=writer,
        sequence=Sequence(sequence),
        record_id=record_id(sequence),
        time=time,
        personal=(personal, seal),
    )


def open_leaf(leaf: bytes, beside: bytes, *, vault: TestVault = VAULT, origin: str = ORIGIN) -> record_pb2.PersonalPart:
    """What is sealed in a leaf, step by step, as whoever has the vault opens it."""
    record, companion = parse_record(leaf), parse_beside(beside)
    info = subject_key_info(origin, record.writer, companion.key_id)
    secret = vault.open(companion.sealed_subject_key, epoch=companion.vault_epoch, info=info)
    return open_part(record, derive_opening(secret, seal_context(origin, record)), origin=origin)


class SealingWriter(MadeWriter):
    """A writer with a key for each subject. `besides` are what stands beside its sealed records, by sequence."""

    def __init__(
        self, seed: str = "writer", *, origin: str = ORIGIN, vault: TestVault = VAULT, seal_epoch: int = 0
    ) -> None:
        super().__init__(seed, origin=origin)
        self.origin, self.vault = origin, vault
        self.workload, self.enrolled_by = "tests", "cluster"
        self.besides: dict[int, bytes] = {}
        self.adopt(seal_epoch)

    def adopt(self, seal_epoch: int) -> None:
        """Settings of another epoch: no key that was made before is used again."""
        self.seal_epoch = seal_epoch
        self._keys: dict[str, SubjectKey] = {}

    def add_sealed(self, subject: str = "alice@example.com", *, facts: facts_pb2.Facts | None = None) -> bytes:
        """The next record, a decision about `subject`, sealed; `facts` in the place of the usual ones."""
        number = len(self.leaves)
        seal = new_seal(self.origin, self.key_of(subject))
        leaf = sealed_decision(
            number,
            seal=seal,
            writer=self.writer,
            facts=facts_of(subject) if facts is None else facts,
            time=START + timedelta(seconds=number),
        )
        self.leaves.append(leaf)
        self.besides[number] = seal.beside
        return leaf

    def key_of(self, subject: str) -> SubjectKey:
        """The key of a subject, which is made once."""
        if subject not in self._keys:
            self._keys[subject] = subject_key(
                self.writer, vault=self.vault, seal_epoch=self.seal_epoch, origin=self.origin
            )
        return self._keys[subject]


def log_seal(*, origin: str = ORIGIN, vault: TestVault = VAULT, seal_epoch: int = 0) -> Seal:
    """A seal as the log itself makes it for a leaf of its own."""
    return seal_of(origin, log_id(origin), vault=vault, seal_epoch=seal_epoch)
