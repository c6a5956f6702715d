# SPDX-License-Identifier: Apache-2.0
"""`Holds`: legal holds, which keep what they describe from being erased.

The invariant: a hold is in force from the moment it is stored, before the log has a record of it, until after the log
has the record of its release. A hold whose scope cannot be opened keeps everything: better too much than too little.

    place    store it, sealed -> append LegalHold -> store the record's index
    release  store who asks -> (second officer) -> store that it is being released -> append LegalHold -> overwrite it

A crash between two steps leaves what `run` goes on with at the next start. Not here: which records an erasure takes.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import BadProof, IapError, Malformed, NotFound, Refused
from iap_authz.ports import Caller, HoldRow, HoldStore, Vault
from iap_authz.records.hold_scope import hold_info, parse_scope, seal_scope
from iap_authz.tlog.hashing import LeafIndex
from iap_authz.trail.erasure_finding import Scope
from iap_authz.trail.erasure_rounds import AppendOwn
from iap_authz.trail.match import PAGE_FIELDS, check_query
from iap_authz.trail.reader import TrailReader
from iap_authz.trail.requests import ID_BYTES, check_id, check_names_nobody, check_text

HOLDS_MAX = 1_000
"""In force at one time: an erasure compares each of its records with each of them."""

RESUME_SECONDS = 60.0
"""Between two looks for holds whose record is missing; the holds themselves are in force."""

_log = logging.getLogger("iap_authz.trail.holds")


class Holds:
    """Places and releases holds. Owned by the event loop; what blocks goes through `run`."""

    def __init__(
        self,
        reader: TrailReader,
        *,
        store: HoldStore,
        vault: Vault,
        append_own: AppendOwn,
        dual_control: bool,
        new_id: Callable[[], bytes] = lambda: secrets.token_bytes(ID_BYTES),
    ) -> None:
        self._reader = reader
        self._store = store
        self._vault = vault
        self._append_own = append_own
        self._dual_control = dual_control
        self._new_id = new_id
        self._run = reader.run
        self._busy = asyncio.Lock()
        self._version = 0

    @property
    def version(self) -> int:
        """Grows before a hold is stored: who saw the same one twice has seen every hold that is stored by then."""
        return self._version

    async def place_hold(
        self, request: log_pb2.PlaceLegalHoldRequest, caller: Caller
    ) -> log_pb2.PlaceLegalHoldResponse:
        """Keep what the scope describes. Raises Malformed, and what keeps the record out of the log.

        If only the record failed the hold is in force all the same, and its record is made up for.
        """
        _check_place(request)
        async with self._busy:
            if len(await self._run(self._store.holds)) >= HOLDS_MAX:
                raise Malformed(f"got one more hold than {HOLDS_MAX}, want some released first")
            row = await self._run(self._sealed, request, caller.name)
            self._version += 1
            await self._run(self._store.put_hold, row)
            index = await self._record_placed(row)
        return log_pb2.PlaceLegalHoldResponse(hold=row.hold, index=index)

    async def release_hold(
        self, request: log_pb2.ReleaseLegalHoldRequest, caller: Caller
    ) -> log_pb2.ReleaseLegalHoldResponse:
        """End a hold; under dual control, once a second officer asks on the same authority.

        Raises Malformed, NotFound, Refused, and what keeps the record out of the log.
        """
        check_id(request.hold, "a hold")
        check_text(request.authority, "authority")
        async with self._busy:
            row = await self._run(self._store.find_hold, request.hold)
            if row is None or row.released:
                raise NotFound(f"got hold {request.hold.hex()}, want one that is in force")
            if row.released_by and row.release_authority != request.authority:
                raise Refused("got another authority than the first officer's, want the same")
            officers = tuple(dict.fromkeys((*row.released_by, caller.name)))
            enough = len(officers) > 1 or not self._dual_control
            row = replace(row, release_authority=request.authority, released_by=officers, releasing=enough)
            await self._run(self._store.put_hold, row)
            if not enough:
                return log_pb2.ReleaseLegalHoldResponse(needs_approval=True)
            return log_pb2.ReleaseLegalHoldResponse(index=await self._finish_release(row))

    async def list_holds(
        self, request: log_pb2.ListLegalHoldsRequest, caller: Caller
    ) -> log_pb2.ListLegalHoldsResponse:
        """The holds in force, without their scopes."""
        del request, caller
        return log_pb2.ListLegalHoldsResponse(
            holds=[
                log_pb2.HoldState(
                    hold=row.hold,
                    authority=row.authority,
                    matter=row.matter,
                    index=row.index or 0,
                    release_asked=bool(row.released_by),
                )
                for row in await self._run(self._store.holds)
            ]
        )

    async def scopes(self) -> tuple[Scope, ...]:
        """What the holds in force keep. Raises SourceUnavailable where the vault does not answer."""
        return await self._run(self._open_all)

    async def run(self) -> None:
        """Until cancelled: make up for records that could not be appended."""
        while True:
            try:
                await self.resume()
            except (IapError, OSError) as error:
                _log.exception("a legal hold is not recorded yet", extra={"problem": str(error)})
            await self._reader.pause(RESUME_SECONDS)

    async def resume(self) -> None:
        """Make up for the records that a crash, or a log that took none, kept from the log."""
        async with self._busy:
            for row in await self._run(self._store.holds):
                if row.index is None:
                    await self._record_placed(row, index=await self._find_record(row, released=False))
                if row.releasing:
                    await self._finish_release(row, index=await self._find_record(row, released=True))

    def _sealed(self, request: log_pb2.PlaceLegalHoldRequest, officer: str) -> HoldRow:
        """In the thread."""
        hold, epoch = self._new_id(), self._vault.epochs[-1]
        info = hold_info(self._reader.origin, hold)
        return HoldRow(
            hold=hold,
            authority=request.authority,
            matter=request.matter,
            officer=officer,
            scope=seal_scope(request.scope, public_key=self._vault.public_key(epoch), info=info),
            vault_epoch=epoch,
        )

    def _open_all(self) -> tuple[Scope, ...]:
        """In the thread."""
        return tuple(Scope(hold=row.hold, query=self._open(row)) for row in self._store.holds())

    def _open(self, row: HoldRow) -> log_pb2.SearchRecordsRequest | None:
        info = hold_info(self._reader.origin, row.hold)
        try:
            return parse_scope(self._vault.open(row.scope, epoch=row.vault_epoch, info=info))
        except (BadProof, NotFound) as error:
            extra = {"hold": row.hold.hex(), "problem": str(error)}
            _log.error("the scope of a legal hold cannot be opened: it keeps everything", extra=extra)
            return None

    async def _record_placed(self, row: HoldRow, index: LeafIndex | None = None) -> LeafIndex:
        if index is None:
            body = record_pb2.LegalHold(
                hold=row.hold, authority=row.authority, matter=row.matter, approvers=[row.officer]
            )
            index = await self._append_own(body, None)
        await self._run(self._store.put_hold, replace(row, index=index))
        return index

    async def _finish_release(self, row: HoldRow, index: LeafIndex | None = None) -> LeafIndex:
        if index is None:
            body = record_pb2.LegalHold(
                hold=row.hold,
                released=True,
                authority=row.release_authority,
                matter=row.matter,
                approvers=row.released_by,
            )
            index = await self._append_own(body, None)
        await self._run(self._store.end_hold, row.hold)
        return index

    async def _find_record(self, row: HoldRow, *, released: bool) -> LeafIndex | None:
        await self._reader.caught_up()
        async for index, record in self._reader.own_records("legal_hold"):
            if (record.legal_hold.hold, record.legal_hold.released) == (row.hold, released):
                return index
        return None


def _check_place(request: log_pb2.PlaceLegalHoldRequest) -> None:
    for text, what in ((request.authority, "authority"), (request.matter, "matter")):
        check_text(text, what)
        check_names_nobody(text, what, subject=request.scope.subject)
    names = {field.name for field, _ in request.scope.ListFields()}
    if names & PAGE_FIELDS:
        raise Malformed(f"got {sorted(names & PAGE_FIELDS)} in the scope of a hold, want none: it has no pages")
    if not names:
        raise Malformed("got a hold on everything, want a scope with at least one filter")
    check_query(request.scope)
