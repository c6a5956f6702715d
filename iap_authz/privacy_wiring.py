# SPDX-License-Identifier: Apache-2.0
"""The assembly of what opens, holds and erases personal data in a log with a vault. `log_wiring` uses it."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from iap_authz.adapters.facts.files import FileSource
from iap_authz.adapters.trail.companions import SqlCompanions
from iap_authz.adapters.trail.erasures import SqlErasures
from iap_authz.adapters.trail.key_marks import INDEX, SqlKeyMarks
from iap_authz.adapters.trail.ledger import SqlLedger
from iap_authz.adapters.trail.legal_holds import SqlHolds
from iap_authz.adapters.trail.seal_tables import KEY_MARK_BYTES
from iap_authz.errors import ConfigInvalid, Conflict
from iap_authz.key_wiring import load_index_key, open_vault
from iap_authz.log.own_records import OwnRecords
from iap_authz.log.sealing import Sealing
from iap_authz.log_config import Access, LogConfig, parse_access
from iap_authz.ports import Caller, Clock, Vault
from iap_authz.records.tokens import TokenKey
from iap_authz.trail.completion import Completion
from iap_authz.trail.erasure import Erasures
from iap_authz.trail.erasure_course import Course
from iap_authz.trail.erasure_cover import Coverage
from iap_authz.trail.erasure_finding import Finder
from iap_authz.trail.erasure_rounds import Rounds
from iap_authz.trail.holds import Holds
from iap_authz.trail.opener import Opener, Unsealing
from iap_authz.trail.privacy import SealedTrail
from iap_authz.trail.reader import TrailReader
from iap_authz.trail.resealing import Resealing


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a log with a vault opens sealed parts with, and finds them by."""

    vault: Vault
    token_key: TokenKey = field(repr=False)


def load_keys(config: LogConfig) -> Keys | None:
    """The keys of a log; None for `vault: none`. Raises ConfigInvalid or SourceUnavailable."""
    if config.vault is None:
        return None
    index_key = load_index_key(config.vault.index_key_file)
    return Keys(vault=open_vault(config.vault), token_key=TokenKey.derive(index_key, config.origin))


def check_key_marks(keys: Keys, marks: SqlKeyMarks) -> None:
    """Raise ConfigInvalid for an index key or a vault key that is not the one of before."""
    try:
        marks.check(INDEX, keys.token_key.mark())
    except Conflict as error:
        message = f"{error}: it would find nobody; put the old file back, or start once with --reindex"
        raise ConfigInvalid.of_file("vault.index_key_file", message) from None
    for epoch in keys.vault.epochs:
        try:
            marks.check(f"vault epoch {epoch}", sha256(keys.vault.public_key(epoch)).digest()[:KEY_MARK_BYTES])
        except Conflict as error:
            message = f"{error}: it would open nothing; put back the vault's own keys"
            raise ConfigInvalid.of_file("vault", message) from None


def make_unsealing(keys: Keys | None, companions: SqlCompanions, *, origin: str) -> Unsealing | None:
    """What the trail looks into sealed records with."""
    if keys is None:
        return None
    return Unsealing(opener=Opener(companions, keys.vault, origin=origin), token_key=keys.token_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyParts:
    """What the service `AuditPrivacy` of a log with a vault is made of, and its tasks, which do not end."""

    sealed: SealedTrail
    works: tuple[Coroutine[Any, Any, None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogParts:
    """What a running log has that opening, holding and erasing is built upon."""

    reader: TrailReader
    unsealing: Unsealing
    sealing: Sealing
    own: OwnRecords
    engine: Engine
    clock: Clock


def make_privacy(config: LogConfig, keys: Keys, log: LogParts) -> PrivacyParts:
    """All of it, for one log. Call from the running loop, and run the tasks."""
    companions, hold_store = SqlCompanions(log.engine), SqlHolds(log.engine)
    dual_control = config.privacy.dual_control
    holds = Holds(log.reader, store=hold_store, vault=keys.vault, append_own=log.own.append, dual_control=dual_control)
    erasures = _make_erasures(keys, log, holds=holds, dual_control=dual_control)
    resealing = Resealing(log.reader, companions=companions, holds=hold_store, vault=keys.vault)
    return PrivacyParts(
        sealed=SealedTrail(
            opener=log.unsealing.opener,
            kept=companions.size,
            covered=Coverage(log.reader, SqlErasures(log.engine)).covered,
            append_own=log.own.append,
            erasures=erasures,
            holds=holds,
        ),
        works=(erasures.run(), holds.run(), resealing.run()),
    )


def _make_erasures(keys: Keys, log: LogParts, *, holds: Holds, dual_control: bool) -> Erasures:
    reader, opener, store = log.reader, log.unsealing.opener, SqlErasures(log.engine)
    course = Course(
        reader,
        store=store,
        finder=Finder(reader, companions=SqlCompanions(log.engine), opener=opener, store=store),
        rounds=Rounds(reader, store=store, opener=opener, append_own=log.own.append),
        holds=holds,
        append_own=log.own.append,
        raise_epoch=log.sealing.raise_epoch,
        token_key=keys.token_key,
        dual_control=dual_control,
    )
    return Erasures(
        reader,
        store=store,
        course=course,
        completion=Completion(reader, SqlLedger(log.engine)),
        epoch=log.sealing,
        append_own=log.own.append,
        token_key=keys.token_key,
        clock=log.clock,
    )


def open_access(path: Path) -> FileSource[Mapping[str, Access]]:
    """The access file, read whole each time."""
    return FileSource("access", path, parse_access)


def caller_of(token: str, known: Mapping[str, Access]) -> Caller | None:
    """Whose token this is. The table holds hashes, so a look-up reveals nothing of use."""
    found = known.get(sha256(token.encode()).hexdigest())
    return None if found is None else Caller(name=found.name, roles=found.roles, address="")
