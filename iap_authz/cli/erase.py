# SPDX-License-Identifier: Apache-2.0
"""`iap-authz erase`: forget a person. Without --yes it counts, and changes nothing.

Exit codes: 0 counted, erased or complete; 1 a legal hold, several issuers, a refusal, a failure; 2 usage; 3 not done
yet: a second officer must approve, or writers may hold older records when the time of --wait is over.

What the log says of its erasure is not all believed: the Erasure record is fetched, and proven to be in the log.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.cli.log_options import (
    Address,
    AsJson,
    Kept,
    Key,
    LogOptions,
    TokenFile,
    ask,
    check_token_file,
    fetch_evidence,
    log_options,
    open_channel,
)
from iap_authz.errors import BadProof, shown
from iap_authz.records.record import parse_record
from iap_authz.tlog.hashing import LeafIndex

POLL_SECONDS = 0.5
"""Between two questions how far it is."""

ID_HEX_CHARS = 32
WRITERS_SHOWN_MAX = 20
"""Writers that are named, one a line; the others are counted."""

Stage = log_pb2.ErasureState.Stage
State = log_pb2.ErasureState
Watch = Callable[[State], None]

_WORKING = frozenset({Stage.COUNTING, Stage.ERASING})
_NOT_YET = 3

_EXITS = {
    Stage.COUNTED: 0,
    Stage.ERASED: 0,
    Stage.COMPLETE: 0,
    Stage.HELD: 1,
    Stage.AMBIGUOUS: 1,
    Stage.FAILED: 1,
    Stage.COUNTING: _NOT_YET,
    Stage.ERASING: _NOT_YET,
    Stage.WAITS_APPROVAL: _NOT_YET,
}

_WORDS = {
    Stage.COUNTING: "the log is looking for the subject's records",
    Stage.COUNTED: "counted: nothing was changed; --yes erases",
    Stage.HELD: "held: a legal hold keeps some of the records, and nothing was changed",
    Stage.AMBIGUOUS: "ambiguous: several issuers know this subject; nothing was changed, --issuer says which is meant",
    Stage.WAITS_APPROVAL: "waits: another privacy officer must approve it, with the same subject, issuer and authority",
    Stage.ERASING: "erasing: keys, what stands beside the records, and index entries go",
    Stage.ERASED: "erased here; what writers may still hold is erased as it comes",
    Stage.COMPLETE: "complete: no writer holds anything older",
    Stage.FAILED: "failed",
}

STAYS = (
    "stays       the clear part of each record (time, route, verdict, rule, country, device's booleans), every proof\n"
    "            not reached: exports, backups, logs of other systems"
)


def erase(  # noqa: PLR0913 -- one parameter an option
    *,
    subject: Annotated[str | None, typer.Option(help="Whom to forget, exactly as in the records.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Whose subject it is, where several issuers have it.")] = None,
    authority: Annotated[
        str | None, typer.Option(help="On whose order: a ticket, no name. It is recorded in the clear.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase. Without it the records are only counted.")] = False,
    approve: Annotated[
        str | None, typer.Option(metavar="ID", help="Approve what another officer asked for, in the same words.")
    ] = None,
    status: Annotated[str | None, typer.Option(metavar="ID", help="How far an erasure is.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="The erasures that are not complete.")] = False,
    wait: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Wait so long until no writer holds anything older, or exit 3."),
    ] = None,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person from the log: destroy the keys of their records. Proofs of the records stay as they are.

    Counts only, unless --yes is given. The erasure goes on in the log by itself when this command ends; --status asks.
    """
    options = log_options(log, key, checkpoint=checkpoint, token_file=check_token_file(token_file))
    if list_all:
        _tell_all(ask(_list(options)), as_json=as_json)
        return
    if status is not None:
        state = ask(_status(options, parse_id(status, "--status"), wait=wait))
    else:
        request = _request(subject, issuer, authority, yes=yes, approve=approve)
        state = ask(_erase(options, request, wait=wait))
    typer.echo(json.dumps(_as_json(state)) if as_json else "\n".join((*_in_words(state), STAYS)))
    raise typer.Exit(_exit_code(state, waited=wait is not None))


def parse_id(text: str, option: str) -> bytes:
    """The id of an erasure or a hold. Exits with 2."""
    try:
        value = bytes.fromhex(text) if len(text) == ID_HEX_CHARS else b""
    except ValueError:
        value = b""
    if not value:
        raise typer.BadParameter(f"got {shown(text)}, want {ID_HEX_CHARS} hex digits", param_hint=option)
    return value


def _request(
    subject: str | None, issuer: str | None, authority: str | None, *, yes: bool, approve: str | None
) -> log_pb2.EraseSubjectRequest:
    for value, option in ((subject, "--subject"), (authority, "--authority")):
        if not value:
            raise typer.BadParameter("want it said, or --status or --list", param_hint=option)
    if approve is not None and not yes:
        raise typer.BadParameter("an approval erases: want --yes with it", param_hint="--approve")
    return log_pb2.EraseSubjectRequest(
        subject=subject or "",
        issuer=issuer or "",
        authority=authority or "",
        dry_run=not yes,
        approve=b"" if approve is None else parse_id(approve, "--approve"),
    )


async def _list(options: LogOptions) -> list[State]:
    async with open_channel(options) as channel:
        return list((await channel.list_erasures(log_pb2.ListErasuresRequest())).erasures)


async def _erase(options: LogOptions, request: log_pb2.EraseSubjectRequest, *, wait: float | None) -> State:
    async with open_channel(options) as channel:
        begun = await channel.erase_subject(request)
    return await _status(options, begun.erasure, wait=wait, until=_WORKING)


async def _status(
    options: LogOptions, erasure: bytes, *, wait: float | None, until: frozenset[Stage] = frozenset()
) -> State:
    """The state, once it is none of `until`; then, with `wait`, once it is complete or the time is over."""
    with _progress() as show:
        state = await _poll(options, erasure, lambda one: one.stage in until, show=show)
        if wait is not None:
            state = await _wait_complete(options, erasure, wait, show=show)
    if state.erasure_index:
        await _prove(options, state)
    return state


async def _wait_complete(options: LogOptions, erasure: bytes, seconds: float, *, show: Watch) -> State:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await _poll(options, erasure, lambda one: one.stage in {*_WORKING, Stage.ERASED}, show=show)
    return await _poll(options, erasure, lambda _: False, show=show)


async def _poll(options: LogOptions, erasure: bytes, goes_on: Callable[[State], bool], *, show: Watch) -> State:
    async with open_channel(options) as channel:
        while True:
            state = await channel.get_erasure(log_pb2.GetErasureRequest(erasure=erasure))
            show(state)
            if not goes_on(state):
                return state
            await asyncio.sleep(POLL_SECONDS)


async def _prove(options: LogOptions, state: State) -> None:
    """Fetch the Erasure record, which the client proves to be in the log, and compare it with what is said."""
    evidence = await fetch_evidence(options, LeafIndex(state.erasure_index))
    body = parse_record(evidence.record).erasure
    if body.erasure != state.erasure or body.seal_epoch != state.seal_epoch:
        raise BadProof(
            f"got leaf {state.erasure_index} as the Erasure record of {state.erasure.hex()}, which it is not"
        )


@contextlib.contextmanager
def _progress() -> Iterator[Watch]:
    """A progress bar over the records, on standard error, if that is a terminal; it says what is waited for."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking", total=None)

        def show(state: State) -> None:
            waits = f", waiting for {len(state.waiting_for)} writers" if state.waiting_for else ""
            progress.update(
                task,
                description=f"{Stage.Name(state.stage).lower()}{waits}",
                total=state.records or None,
                completed=state.done,
            )

        yield show


def _exit_code(state: State, *, waited: bool) -> int:
    if state.stage == Stage.COUNTED and (state.holds or len(state.issuers) > 1):
        return 1  # it would not be done
    if state.stage == Stage.ERASED and waited:
        return _NOT_YET
    return _EXITS.get(state.stage, 1)


def _tell_all(states: list[State], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in states]))
        return
    typer.echo("\n\n".join("\n".join(_in_words(one, recorded="as the log says")) for one in states))
    if not states:
        typer.echo("none is on its way", err=True)


def _in_words(state: State, *, recorded: str = "proven to be in the log") -> Iterator[str]:
    yield f"erasure     {state.erasure.hex()}"
    yield f"stage       {_WORDS.get(state.stage, Stage.Name(state.stage))}"
    yield f"records     {state.records}" + (f", {state.done} of them erased" if state.seal_epoch else "")
    if state.log_size:
        yield f"looked at   the first {state.log_size} leaves of the log"
    if state.erasure_index:
        yield f"recorded    at leaf {state.erasure_index}, {recorded}; seal epoch {state.seal_epoch}"
    for issuer in state.issuers:
        yield f"issuer      {issuer}"
    for hold in state.holds:
        yield f"hold        {hold.hex()}"
    for one in state.waiting_for[:WRITERS_SHOWN_MAX]:
        yield f"waits for   writer {one.writer.hex()}, which has shipped {one.sequence} records"
    if len(state.waiting_for) > WRITERS_SHOWN_MAX:
        yield f"            and {len(state.waiting_for) - WRITERS_SHOWN_MAX} more"
    if state.waiting_for:
        yield "            one that is gone for good: iap-authz writers retire"
    if state.problem:
        yield f"problem     {state.problem}"


def _as_json(state: State) -> dict[str, object]:
    return {
        "erasure": state.erasure.hex(),
        "stage": Stage.Name(state.stage).lower(),
        "records": state.records,
        "done": state.done,
        "seal_epoch": state.seal_epoch,
        "erasure_index": state.erasure_index or None,
        "log_size": state.log_size,
        "issuers": list(state.issuers),
        "holds": [hold.hex() for hold in state.holds],
        "waiting_for": [{"writer": one.writer.hex(), "records": one.sequence} for one in state.waiting_for],
        "problem": state.problem,
    }
