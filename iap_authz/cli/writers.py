# SPDX-License-Identifier: Apache-2.0
"""`iap-authz writers`: who writes to a log, and the end of one that is gone for good."""

import json
from typing import Annotated

import typer

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
    log_options,
    open_channel,
    open_log,
    parse_writer,
)
from iap_authz.model.ids import WriterId
from iap_authz.tlog.hashing import LeafIndex

app = typer.Typer(no_args_is_help=True)

PAGE = 1_000
"""Writers in one answer."""


@app.callback()
def _writers() -> None:
    pass


@app.command("list")
def list_writers(
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    as_json: AsJson = False,
) -> None:
    """The writers of a log, as it says: how many records of each it has, and where it retired one.

    `iap-authz records completeness` proves what this only says.
    """
    found = ask(_list(log_options(log, key, checkpoint=checkpoint)))
    if as_json:
        typer.echo(json.dumps([_members(one) for one in found]))
        return
    for one in found:
        end = f"  retired at leaf {one.retired_index}" if one.retired_index else ""
        typer.echo(f"{one.writer.hex()}  {one.size} records  {ascii(one.workload)[1:-1]}{end}")


@app.command("retire")
def retire(
    writer: Annotated[str, typer.Argument(metavar="WRITER", help="Id of the writer, 64 hex digits.")],
    *,
    cause: Annotated[str, typer.Option(help="Why. Recorded in the clear.")],
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Take nothing more of a writer that is gone for good: what it has not shipped is lost.

    Erasures wait for each writer to say that it holds nothing of the person. One that died with its disk never will.
    """
    options = log_options(log, key, checkpoint=checkpoint, token_file=check_token_file(token_file))
    index, said = ask(_retire(options, parse_writer(writer), cause))
    if as_json:
        typer.echo(json.dumps({"writer": writer, "index": index, "cause": said}))
    else:
        typer.echo(f"writer {writer} is retired: leaf {index}, {ascii(said)[1:-1]}")


async def _list(options: LogOptions) -> list[log_pb2.WriterState]:
    found = list[log_pb2.WriterState]()
    async with open_channel(options) as channel:
        request = log_pb2.ListWritersRequest(page_size=PAGE)
        while True:
            page = await channel.list_writers(request)
            found += page.writers
            if not page.next_page_token or not page.writers:
                return found
            request.page_token = page.next_page_token


async def _retire(options: LogOptions, writer: WriterId, cause: str) -> tuple[LeafIndex, str]:
    async with open_log(options) as client:
        return await client.retire_writer(writer, cause)


def _members(one: log_pb2.WriterState) -> dict[str, object]:
    return {
        "writer": one.writer.hex(),
        "workload": one.workload,
        "records": one.size,
        "registered_index": one.registered_index,
        "retired_index": one.retired_index or None,
    }
