# SPDX-License-Identifier: Apache-2.0
"""What sealing costs a writer: a decision record open and sealed, and the parts of the difference, in one process.

The invariant: open and sealed are measured in turns, loop by loop, so that what else the machine does meets both.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.seal_world import Known
from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.adapters.keys.vault_file import FileVault
from iap_authz.model.ids import Sequence, WriterId
from iap_authz.records.personal import put_personal
from iap_authz.records.record import decision_record, new_record_id, parse_record
from iap_authz.records.seal import (
    PreparedKey,
    Seal,
    derive_opening,
    new_seal,
    open_part,
    parse_beside,
    prepare_key,
    put_sealed,
    seal_context,
    subject_key_info,
    take_key,
)
from iap_authz.records.seal_settings import VaultKey
from iap_authz.sidecar.sealing import configured_settings
from iap_authz.sidecar.subject_keys import SubjectKeys

ORIGIN = "bench.example/log"
WRITER = WriterId(b"\1" * 32)
ROUNDS = 25
LOOPS = 1_000
BUDGET_US = 10.0
OPEN, SEALED = "record, open", "record, sealed, with seal_for"
SEALING = "sealing, all in all (sealed - open)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is sealed, and with what."""

    known: Known
    keys: SubjectKeys
    vault_key: VaultKey
    seal: Seal

    def record(self, seal: Seal | None) -> bytes:
        """A decision record, as the sidecar makes it."""
        return decision_record(
            self.known.decision,
            self.known.facts,
            writer=WRITER,
            sequence=Sequence(1),
            record_id=new_record_id(),
            time=datetime.now(UTC),
            spent=timedelta(microseconds=300),
            http_status=200,
            seal=seal,
        )

    def prepare(self) -> PreparedKey:
        """A key for somebody who comes later."""
        return prepare_key(ORIGIN, WRITER, vault_public_key=self.vault_key.public_key)


def measure_cost(known: Known, vault: FileVault) -> dict[str, tuple[float, float]]:
    """Microseconds of processor time by part: the median of the rounds, and the lowest.

    The difference is that of the rounds' own differences: on a shared machine the lowest one says what the code costs.
    """
    vault_key = VaultKey(epoch=1, public_key=vault.public_key(1))
    keys = SubjectKeys(configured_settings(ORIGIN, vault_key), writer=WRITER, monotonic=time.monotonic)
    keys.fill()
    work = _Work(known=known, keys=keys, vault_key=vault_key, seal=keys.seal_for(known.facts))
    plain, sealed = work.record(None), work.record(work.seal)
    _check(sealed, work.seal, leaf=plain, vault=vault)
    rounds = _interleaved(_often(work, plain), ROUNDS, LOOPS)
    prepared = work.prepare()
    rare: dict[str, Callable[[], object]] = {
        "prepare_key (HPKE, off the request path)": work.prepare,
        "take_key": lambda: take_key(prepared, vault_epoch=1, seal_epoch=0),
    }
    rounds |= _interleaved(rare, ROUNDS, LOOPS // 5)
    found = {name: (statistics.median(times), min(times)) for name, times in rounds.items()}
    pairs = zip(rounds[SEALED], rounds[OPEN], strict=True)
    difference = statistics.median(with_seal - without for with_seal, without in pairs)
    found[SEALING] = difference, found[SEALED][1] - found[OPEN][1]
    sizes = float(len(plain)), float(len(sealed))
    return found | {"bytes of a record, open": (sizes[0],) * 2, "bytes of a record, sealed": (sizes[1],) * 2}


def _often(work: _Work, leaf: bytes) -> dict[str, Callable[[], object]]:
    """What happens for each record: `leaf` is an open one."""
    part, bare, seal, facts = parse_record(leaf).open, parse_record(leaf), work.seal, work.known.facts
    bare.ClearField("open")
    context, beside = seal_context(ORIGIN, bare), seal.beside
    opening = derive_opening(seal.key.secret, context)
    return {
        OPEN: lambda: work.record(None),
        SEALED: lambda: work.record(work.keys.seal_for(facts)),
        "seal_for (key kept)": lambda: work.keys.seal_for(facts),
        "of it new_seal (salt)": lambda: new_seal(ORIGIN, seal.key),
        "put_sealed, with a copy of the envelope": lambda: put_sealed(_copy(bare), part, seal),
        "the open part put in, with the same copy": lambda: put_personal(_copy(bare), part, None),
        "the copy alone": lambda: _copy(bare),
        "of put_sealed derive_opening (HKDF)": lambda: derive_opening(seal.key.secret, context),
        "of put_sealed AES-256-GCM, key schedule included": lambda: AESGCM(opening[:32]).encrypt(
            bytes(12), bytes(768), context
        ),
        "of put_sealed serializing the part": part.SerializeToString,
        "of put_sealed sha256 of beside": lambda: sha256(beside).digest(),
    }


def _copy(record: record_pb2.Record) -> record_pb2.Record:
    copy = record_pb2.Record()
    copy.CopyFrom(record)
    return copy


def _check(sealed: bytes, seal: Seal, *, leaf: bytes, vault: FileVault) -> None:
    """What was sealed opens by way of the vault, and says what the open record says."""
    record, companion = parse_record(sealed), parse_beside(seal.beside)
    info = subject_key_info(ORIGIN, WRITER, companion.key_id)
    secret = vault.open(companion.sealed_subject_key, epoch=companion.vault_epoch, info=info)
    part = open_part(record, derive_opening(secret, seal_context(ORIGIN, record)), origin=ORIGIN)
    assert part == parse_record(leaf).open
    assert sha256(seal.beside).digest() == record.sealed.companion_sha256


def _interleaved(acts: Mapping[str, Callable[[], object]], rounds: int, loops: int) -> dict[str, list[float]]:
    """Microseconds of processor time of one call, by round; in each round each act has its turn."""
    found: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            started = time.process_time_ns()
            for _ in range(loops):
                act()
            found[name].append((time.process_time_ns() - started) / loops / 1_000)
    return found
