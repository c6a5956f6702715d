# SPDX-License-Identifier: Apache-2.0
"""What the log needs to open what was sealed, and to forget it: the vault, and what stands beside the leaves."""

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Protocol

from iap_authz.model.ids import WriterId
from iap_authz.tlog.hashing import LeafIndex

NO_ERASURE = bytes(16)
"""In the place of an erasure's id where there is none."""


class Vault(Protocol):
    """The private keys that subject keys are sealed to, one an epoch (rule S7). They never leave it.

    Blocking; asked from one thread. An opening takes 50 us with a key in memory, a millisecond in a hardware module.
    """

    @property
    def epochs(self) -> Many[int]:
        """Those it has a key of, rising; writers seal to the last."""

    def public_key(self, epoch: int) -> bytes:
        """The X25519 public key of an epoch, 32 bytes. Raises NotFound."""

    def open(self, sealed: bytes, *, epoch: int, info: bytes) -> bytes:
        """What was sealed under `info`. Raises NotFound for an epoch without a key, BadProof, SourceUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedKey:
    """A subject key as the trail keeps it, once for all records that it sealed. `sealed` is of `vault_epoch`.

    An erased one has no bytes of the key any more, and the `erasure` that took them.
    """

    number: int
    writer: WriterId
    key_id: bytes
    sealed: bytes = field(repr=False)
    vault_epoch: int
    seal_epoch: int
    erasure: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCompanion:
    """What the trail has beside one leaf: the number of its key and its salt.

    Of an erased one: the erasure that covers it, no key (0), and the salt of its hash in the Erasure record (rule S8).
    """

    key: int
    salt: bytes
    erasure: bytes


class Companions(Protocol):
    """What stands beside sealed leaves (rules S2, S6): mutable, in one place, not derived from anything.

    Blocking; one thread writes. What a call that returned has overwritten is gone from the file and from its journal.
    """

    def size(self) -> int:
        """The companions of all leaves below this are here, as far as they ever came."""

    def find(self, indices: Collection[LeafIndex]) -> Mapping[LeafIndex, KeptCompanion]:
        """What there is beside these leaves. A sealed leaf without a row has lost it, or never had one."""

    def keys(self, numbers: Collection[int]) -> Mapping[int, SealedKey]:
        """The subject keys of these numbers."""

    def count_keys(self) -> Mapping[int, int]:
        """How many keys that are not erased are sealed to each vault epoch."""

    def keys_to_reseal(self, epoch: int, *, limit: int) -> list[SealedKey]:
        """Some of the keys that are not erased and sealed to another epoch than this one."""

    def reseal(self, sealed: Mapping[int, bytes], *, epoch: int) -> None:
        """Put these newly sealed keys, by number, in the place of the old ones. An erased one stays erased."""


class SealEpochs(Protocol):
    """The seal epoch and the vault epoch in force (rules S5, S7). Blocking, one thread."""

    def load(self) -> tuple[int, int]:
        """Seal epoch, vault epoch; (0, 0) before the first `store`."""

    def store(self, seal_epoch: int, vault_epoch: int) -> None:
        """Durably. Raises ValueError for an epoch that is lower than the one in force."""
