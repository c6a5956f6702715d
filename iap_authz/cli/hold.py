# SPDX-License-Identifier: Apache-2.0
"""`iap-authz hold`: legal holds, which keep records from being erased.

What a hold keeps is said once, by the filters of a search, and not shown again: the log keeps it sealed. Exit codes:
0 done, 1 refused or no such hold, 2 usage, 3 a second officer must ask for the same.
"""

import json
from typing import Annotated

import typer

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.cli.erase import parse_id
from iap_authz.cli.filtered import filtered
from iap_authz.cli.log_options import (
    Address,
    AsJson,
    Kept,
    Key,
    LogOptions,
    TokenFile,
    ask,
    check_token_file,
    log_options,
    open_channel,
)

app = typer.Typer(no_args_is_help=True)

_NOT_YET = 3

Authority = Annotated[str, typer.Option(help="On whose order: a court, a ticket, no name. Recorded in the clear.")]


@app.callback()
def _hold() -> None:
    pass


@app.command("place")
@filtered()
def place(
    scope: log_pb2.SearchRecordsRequest,
    *,
    authority: Authority,
    matter: Annotated[str, typer.Option(help="A case number, no name. Recorded in the clear.")],
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Keep the records that these filters describe, those to come as well. Each filter narrows it further."""
    options = log_options(log, key, checkpoint=checkpoint, token_file=check_token_file(token_file))
    placed = ask(_place(options, log_pb2.PlaceLegalHoldRequest(scope=scope, authority=authority, matter=matter)))
    if as_json:
        typer.echo(json.dumps({"hold": placed.hold.hex(), "index": placed.index}))
    else:
        typer.echo(f"hold {placed.hold.hex()} is in force; recorded at leaf {placed.index}")


@app.command("release")
def release(
    hold: Annotated[str, typer.Argument(metavar="ID", help="As `iap-authz hold list` shows it.")],
    *,
    authority: Authority,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """End a hold. Under dual control the second officer who asks for it, in the same words, ends it."""
    options = log_options(log, key, checkpoint=checkpoint, token_file=check_token_file(token_file))
    request = log_pb2.ReleaseLegalHoldRequest(hold=parse_id(hold, "ID"), authority=authority)
    answer = ask(_release(options, request))
    index = None if answer.needs_approval else answer.index
    if as_json:
        typer.echo(json.dumps({"hold": hold, "needs_approval": answer.needs_approval, "index": index}))
    elif answer.needs_approval:
        typer.echo(f"hold {hold} stays in force until another privacy officer asks for its release, too")
    else:
        typer.echo(f"hold {hold} is released; recorded at leaf {index}")
    raise typer.Exit(_NOT_YET if answer.needs_approval else 0)


@app.command("list")
def list_holds(
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The holds in force. What they keep is not shown."""
    options = log_options(log, key, checkpoint=checkpoint, token_file=check_token_file(token_file))
    holds = ask(_list(options))
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in holds]))
        return
    for one in holds:
        asked = "; its release was asked for" if one.release_asked else ""
        typer.echo(f"{one.hold.hex()}  leaf {one.index}  {one.authority}  {one.matter}{asked}")
    if not holds:
        typer.echo("no hold is in force", err=True)


async def _place(options: LogOptions, request: log_pb2.PlaceLegalHoldRequest) -> log_pb2.PlaceLegalHoldResponse:
    async with open_channel(options) as channel:
        return await channel.place_legal_hold(request)


async def _release(options: LogOptions, request: log_pb2.ReleaseLegalHoldRequest) -> log_pb2.ReleaseLegalHoldResponse:
    async with open_channel(options) as channel:
        return await channel.release_legal_hold(request)


async def _list(options: LogOptions) -> list[log_pb2.HoldState]:
    async with open_channel(options) as channel:
        return list((await channel.list_legal_holds(log_pb2.ListLegalHoldsRequest())).holds)


def _as_json(hold: log_pb2.HoldState) -> dict[str, object]:
    return {
        "hold": hold.hold.hex(),
        "authority": hold.authority,
        "matter": hold.matter,
        "index": hold.index or None,
        "release_asked": hold.release_asked,
    }
