# SPDX-License-Identifier: Apache-2.0
"""`Privacy`: what not everybody may ask, as the port `PrivacyService` wants it.

The invariant: nothing is done for a caller whom the table of `access` does not entitle, and no opening leaves the log
before the log has a record of who read, from where, what and why. If that record cannot be appended (the log is frozen,
its queue is full), nothing is answered.

    entitled? -> well asked? -> read the leaves -> open them -> append LogRead -> answer
                                                                ^ a crash here: a record of a reading that nobody got

What is answered is the opening of each record, 64 bytes, never its text: whoever has the leaf opens and checks it
(rule S1). "Erased" is answered only where an Erasure record of the log covers the leaf; else it is tampering (S8).

Erasures, holds and the end of writers are others' (`Erasures`, `Holds`, the log); who may ask for them is decided here.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, cast

from google.protobuf.message import Message

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Conflict, Corrupt, LogUnavailable, Malformed, NotFound
from iap_authz.model.roles import Role
from iap_authz.ports import Caller
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES, LeafIndex
from iap_authz.trail.access import check_entitled
from iap_authz.trail.leaves import CHUNK_LEAVES, LeafSource, read_each
from iap_authz.trail.match import parse_or_none
from iap_authz.trail.worker import Run

INDICES_MAX = 1_000
"""Records that one call unseals (log.proto)."""

PURPOSE_MAX_CHARS = 1_024
"""Of a purpose: a sentence and the number of a case. With the longest list of indices it still fits into a record."""

METHOD = "Unseal"
"""The name of the call in log.proto, and of its readings in the log."""

_log = logging.getLogger("iap_authz.privacy")

AppendOwn = Callable[[Message, Message], Awaitable[LeafIndex]]
"""Appends a body of the log's own with its personal part; the leaf is committed when it returns."""

Covered = Callable[[Mapping[LeafIndex, bytes]], Awaitable[frozenset[LeafIndex]]]
"""Those of these leaves that an Erasure record of the log covers, whose root was computed again (rule S8)."""


class OpenedPart(Protocol):
    """What `Opener` says of one leaf: an `Unsealed.Outcome`, and the 64 bytes of an opened one."""

    @property
    def outcome(self) -> log_pb2.Unsealed.Outcome:
        """OPENED, ERASED, TAMPERED or NOT_SEALED."""

    @property
    def opening(self) -> bytes:
        """Empty for all but OPENED."""


class PartOpener(Protocol):
    """`trail.opener.Opener`. Blocking; one thread."""

    def open_all(self, leaves: Many[tuple[LeafIndex, record_pb2.Record]]) -> Many[OpenedPart]:
        """One for each leaf. Raises SourceUnavailable where the vault does not answer."""


class ErasureService(Protocol):
    """`trail.erasure.Erasures`."""

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest, caller: Caller) -> log_pb2.ErasureState:
        """See `PrivacyService`."""

    async def get_erasure(self, request: log_pb2.GetErasureRequest, caller: Caller) -> log_pb2.ErasureState:
        """See `PrivacyService`."""

    async def list_erasures(self, request: log_pb2.ListErasuresRequest, caller: Caller) -> log_pb2.ListErasuresResponse:
        """See `PrivacyService`."""


class HoldService(Protocol):
    """`trail.holds.Holds`."""

    async def place_hold(
        self, request: log_pb2.PlaceLegalHoldRequest, caller: Caller
    ) -> log_pb2.PlaceLegalHoldResponse:
        """See `PrivacyService`."""

    async def release_hold(
        self, request: log_pb2.ReleaseLegalHoldRequest, caller: Caller
    ) -> log_pb2.ReleaseLegalHoldResponse:
        """See `PrivacyService`."""

    async def list_holds(
        self, request: log_pb2.ListLegalHoldsRequest, caller: Caller
    ) -> log_pb2.ListLegalHoldsResponse:
        """See `PrivacyService`."""


class RetiresWriters(Protocol):
    """Of the port `LogService`."""

    async def retire_writer(self, request: log_pb2.RetireWriterRequest) -> log_pb2.RetireWriterResponse:
        """See `LogService`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedTrail:
    """What a log with a vault has besides: who opens its sealed parts, who erases them, who holds them.

    `kept` says below which leaf all companions are there (`Companions.size`); it is called in the thread.
    """

    opener: PartOpener
    kept: Callable[[], int]
    covered: Covered
    append_own: AppendOwn
    erasures: ErasureService
    holds: HoldService


class Privacy:
    """Satisfies the port `PrivacyService`. Owned by the event loop; what blocks goes through `run`."""

    def __init__(self, log: RetiresWriters, leaves: LeafSource, *, run: Run, sealed: SealedTrail | None) -> None:
        """`sealed` is None in a log without a vault: then nothing can be unsealed, erased or held."""
        self._log = log
        self._leaves = leaves
        self._run = run
        self._sealed_trail = sealed

    async def unseal(self, request: log_pb2.UnsealRequest, caller: Caller | None) -> log_pb2.UnsealResponse:
        """The openings of at most `INDICES_MAX` records, in the order asked for.

        Raises Refused, Malformed, NotFound, Conflict without a vault, Unavailable if the vault does not answer, and
        whatever keeps the record of this reading out of the log.
        """
        role, who = _entitled(caller, METHOD)
        sealed, asked = self._sealed(), _parse_indices(request, size=self._leaves.size())
        _check_purpose(request.purpose)
        found = await self._open(asked, sealed)
        answer = log_pb2.UnsealResponse(records=[found[index] for index in asked])
        unsealed = sum(one.outcome == log_pb2.Unsealed.OPENED for one in answer.records)
        body = record_pb2.LogRead(
            method=METHOD,
            from_index=min(asked),
            to_index=max(asked) + 1,
            records=len(asked),
            unsealed=unsealed,
            role=role,
        )
        personal = record_pb2.LogReadPersonal(
            reader=who.name, address=who.address, query=render_indices(asked), purpose=request.purpose
        )
        answer.log_read = await sealed.append_own(body, personal)
        return answer

    async def erase_subject(self, request: log_pb2.EraseSubjectRequest, caller: Caller | None) -> log_pb2.ErasureState:
        """See `Erasures`."""
        _, who = _entitled(caller, "EraseSubject")
        return await self._sealed().erasures.erase_subject(request, who)

    async def get_erasure(self, request: log_pb2.GetErasureRequest, caller: Caller | None) -> log_pb2.ErasureState:
        """See `Erasures`."""
        _, who = _entitled(caller, "GetErasure")
        return await self._sealed().erasures.get_erasure(request, who)

    async def list_erasures(
        self, request: log_pb2.ListErasuresRequest, caller: Caller | None
    ) -> log_pb2.ListErasuresResponse:
        """See `Erasures`."""
        _, who = _entitled(caller, "ListErasures")
        return await self._sealed().erasures.list_erasures(request, who)

    async def place_hold(
        self, request: log_pb2.PlaceLegalHoldRequest, caller: Caller | None
    ) -> log_pb2.PlaceLegalHoldResponse:
        """See `Holds`."""
        _, who = _entitled(caller, "PlaceLegalHold")
        return await self._sealed().holds.place_hold(request, who)

    async def release_hold(
        self, request: log_pb2.ReleaseLegalHoldRequest, caller: Caller | None
    ) -> log_pb2.ReleaseLegalHoldResponse:
        """See `Holds`."""
        _, who = _entitled(caller, "ReleaseLegalHold")
        return await self._sealed().holds.release_hold(request, who)

    async def list_holds(
        self, request: log_pb2.ListLegalHoldsRequest, caller: Caller | None
    ) -> log_pb2.ListLegalHoldsResponse:
        """See `Holds`."""
        _, who = _entitled(caller, "ListLegalHolds")
        return await self._sealed().holds.list_holds(request, who)

    async def retire_writer(
        self, request: log_pb2.RetireWriterRequest, caller: Caller | None
    ) -> log_pb2.RetireWriterResponse:
        """See `LogService.retire_writer`."""
        _, who = _entitled(caller, "RetireWriter")
        answer = await self._log.retire_writer(request)
        _log.warning("a writer is retired", extra={"writer": request.writer.hex(), "by": who.name})
        return answer

    def _sealed(self) -> SealedTrail:
        if self._sealed_trail is None:
            raise Conflict("this log has no vault (`vault: none`): nothing of it can be unsealed, erased or held")
        return self._sealed_trail

    async def _open(self, asked: Many[LeafIndex], sealed: SealedTrail) -> dict[LeafIndex, log_pb2.Unsealed]:
        """What there is to answer for each leaf. No more leaves than a chunk are held at a time."""
        found: dict[LeafIndex, log_pb2.Unsealed] = {}
        wanted = sorted(asked)
        for begin in range(0, len(wanted), CHUNK_LEAVES):
            indices = wanted[begin : begin + CHUNK_LEAVES]
            leaves = {index: leaf async for index, leaf in read_each(self._leaves, indices)}
            parsed = [(index, _parse_leaf(index, leaf)) for index, leaf in leaves.items()]
            opened = dict(zip(leaves, await self._run(_open_kept, parsed, sealed=sealed), strict=True))
            erased = {index: leaves[index] for index, one in opened.items() if one.outcome == log_pb2.Unsealed.ERASED}
            covered = await sealed.covered(erased) if erased else frozenset()
            found.update((index, _unsealed(index, one, covered=covered)) for index, one in opened.items())
        return found


def render_indices(indices: Iterable[int]) -> str:
    """Leaves as a LogRead record names them: rising, neighbours as a range, such as `3,7-9`."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in _runs(sorted(indices)))


def _runs(indices: Many[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of neighbours."""
    for _, run in groupby(enumerate(indices), key=lambda place: place[1] - place[0]):
        members = [index for _, index in run]
        yield members[0], members[-1]


def _entitled(caller: Caller | None, method: str) -> tuple[Role, Caller]:
    """Who calls, and in which role. Raises Refused."""
    role = check_entitled(caller, method)
    return role, cast("Caller", caller)  # nobody is entitled to nothing, and has been refused


def _parse_indices(request: log_pb2.UnsealRequest, *, size: int) -> list[LeafIndex]:
    asked = [LeafIndex(index) for index in request.indices]
    if not 0 < len(asked) <= INDICES_MAX:
        raise Malformed(f"got {len(asked)} indices to unseal, want 1 to {INDICES_MAX}")
    if len(set(asked)) != len(asked):
        raise Malformed(f"got {len(asked) - len(set(asked))} indices to unseal twice, want each once")
    if max(asked) >= SIZE_LIMIT_LEAVES:
        raise Malformed(f"got leaf index {max(asked)}, want 0 to 2^63 - 1")
    if max(asked) >= size:
        raise NotFound(f"got leaf index {max(asked)}, want one below {size}: the log's size")
    return asked


def _check_purpose(purpose: str) -> None:
    if not purpose.strip():
        raise Malformed("got no purpose, want the reason for this reading: it is recorded with it")
    if len(purpose) > PURPOSE_MAX_CHARS:
        raise Malformed(f"got a purpose of {len(purpose)} characters, want at most {PURPOSE_MAX_CHARS}")


def _parse_leaf(index: LeafIndex, leaf: bytes) -> record_pb2.Record:
    record = parse_or_none(leaf)
    if record is None:
        raise Corrupt(f"leaf {index}", f"got {len(leaf)} bytes that are no record, want what was admitted")
    return record


def _open_kept(leaves: Many[tuple[LeafIndex, record_pb2.Record]], *, sealed: SealedTrail) -> Many[OpenedPart]:
    """In the thread. What is only on its way into the database is not missing from it."""
    last, kept = leaves[-1][0], sealed.kept()
    if last >= kept:
        raise LogUnavailable(f"got leaf index {last}, want one below {kept}: it is taken, but not to be unsealed yet")
    return sealed.opener.open_all(leaves)


def _unsealed(index: LeafIndex, opened: OpenedPart, *, covered: frozenset[LeafIndex]) -> log_pb2.Unsealed:
    outcome = opened.outcome
    if outcome == log_pb2.Unsealed.ERASED and index not in covered:
        outcome = log_pb2.Unsealed.TAMPERED
    if outcome == log_pb2.Unsealed.TAMPERED:
        _log.error("a sealed part cannot be opened, and no erasure covers it", extra={"leaf": index})
    opening = opened.opening if outcome == log_pb2.Unsealed.OPENED else b""
    return log_pb2.Unsealed(index=index, outcome=outcome, opening=opening)
