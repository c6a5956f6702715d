# SPDX-License-Identifier: Apache-2.0
"""`Opener`: opens the personal parts of leaves with what the trail keeps beside them (PROTOCOL rules S1 to S3, S8).

The invariant: what is given as OPENED is what was sealed in that very leaf. The key commitment in the leaf says so, so
nothing that stands beside it is believed: a row that was changed opens nothing.

    leaf, sealed --> companion row --> subject key row --> vault --> opening --> personal part
                     none: TAMPERED    none: TAMPERED      does not open it, or the leaf: TAMPERED
                     erased: ERASED    erased: ERASED

ERASED is the rows' word. Whether an Erasure record covers it is for whoever tells somebody (rule S8). The companion's
hash in the leaf is not compared: a key that was sealed anew (rule S7) has another companion than the one it names.

Subject keys that were opened are kept, a bounded number of them: in a hardware module an opening takes a millisecond.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import TypeAlias

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, NotFound
from iap_authz.ports import NO_ERASURE, Companions, KeptCompanion, SealedKey, Vault
from iap_authz.records.seal import derive_opening, open_part, seal_context, subject_key_info
from iap_authz.records.tokens import TokenKey
from iap_authz.tlog.hashing import LeafIndex

CACHED_KEYS_MAX = 65_536
"""Subject keys in memory: those of as many people at one writer, about 16 MB."""

Outcome = log_pb2.Unsealed.Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What became of one leaf. `personal` is set if it was opened, or is open; `opening` only if it was opened."""

    outcome: Outcome
    personal: record_pb2.PersonalPart | None = field(default=None, repr=False)
    opening: bytes = field(default=b"", repr=False)


class Opener:
    """Opens leaves. Blocking; for one thread, the one in which erasures overwrite what stands beside them."""

    def __init__(self, companions: Companions, vault: Vault, *, origin: str, cache_max: int = CACHED_KEYS_MAX) -> None:
        self._companions = companions
        self._vault = vault
        self._origin = origin
        self._cache_max = cache_max
        self._secrets: OrderedDict[int, _Secret] = OrderedDict()

    def size(self) -> int:
        """Below this, what stands beside leaves is here. It follows the log's size by some seconds."""
        return self._companions.size()

    def open_all(self, leaves: Many[tuple[LeafIndex, record_pb2.Record]]) -> list[Opened]:
        """What became of each leaf, in this order.

        Raises NotFound for a sealed leaf that is not below `size()` and has nothing beside it yet; SourceUnavailable
        where the vault does not answer.
        """
        sealed = [index for index, record in leaves if record.WhichOneof("personal") == "sealed"]
        size = self._companions.size() if sealed else 0  # before `find`: what comes in between is not missed
        rows = self._companions.find(sealed) if sealed else {}
        missing = next((index for index in sealed if index >= size and index not in rows), None)
        if missing is not None:
            raise NotFound(f"got leaf {missing}, want one below {size}: what stands beside it is not stored yet")
        held = self._hold({row.key for row in rows.values() if row.erasure == NO_ERASURE})
        return [self._open(record, rows.get(index), held) for index, record in leaves]

    def forget(self, numbers: Collection[int]) -> None:
        """Drop these subject keys: they were erased."""
        for number in numbers:
            self._secrets.pop(number, None)

    def _hold(self, numbers: set[int]) -> Mapping[int, "_Held"]:
        """The secrets of these keys, or what else is known of them, for as long as one batch is opened."""
        held: dict[int, _Held] = {number: self._secrets[number] for number in numbers & self._secrets.keys()}
        unknown = numbers - held.keys()
        for number, key in self._companions.keys(unknown).items() if unknown else ():
            held[number] = log_pb2.Unsealed.ERASED if key.erasure != NO_ERASURE else self._unseal(key)
        for number, one in held.items():
            if isinstance(one, _Secret):
                self._secrets[number] = one
                self._secrets.move_to_end(number)
        while len(self._secrets) > self._cache_max:
            self._secrets.popitem(last=False)
        return held

    def _unseal(self, key: SealedKey) -> "_Held":
        info = subject_key_info(self._origin, key.writer, key.key_id)
        try:
            return _Secret(secret=self._vault.open(key.sealed, epoch=key.vault_epoch, info=info))
        except (BadProof, NotFound):
            # Admission takes no epoch that the vault lacks, and none is dropped while something is sealed to it.
            return log_pb2.Unsealed.TAMPERED

    def _open(self, record: record_pb2.Record, row: KeptCompanion | None, held: Mapping[int, "_Held"]) -> Opened:
        form = record.WhichOneof("personal")
        if form != "sealed":
            return Opened(outcome=log_pb2.Unsealed.NOT_SEALED, personal=record.open if form else None)
        key = _key_of(row, held)
        if not isinstance(key, _Secret):
            return Opened(outcome=key)
        try:
            opening = derive_opening(key.secret, seal_context(self._origin, record))
            part = open_part(record, opening, origin=self._origin)
        except BadProof:
            return Opened(outcome=log_pb2.Unsealed.TAMPERED)
        return Opened(outcome=log_pb2.Unsealed.OPENED, personal=part, opening=opening)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secret:
    """A subject key, opened."""

    secret: bytes = field(repr=False)


_Held: TypeAlias = "_Secret | Outcome"
"""A key, or why there is none."""


def _key_of(row: KeptCompanion | None, held: Mapping[int, _Held]) -> _Held:
    """What the row beside a leaf leads to. A key of another writer than the record's fails its commitment."""
    if row is None:
        return log_pb2.Unsealed.TAMPERED
    if row.erasure != NO_ERASURE:
        return log_pb2.Unsealed.ERASED
    return held.get(row.key, log_pb2.Unsealed.TAMPERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealing:
    """What a log with a vault looks into records with: the opener, and the key of its index's tokens."""

    opener: Opener
    token_key: TokenKey
