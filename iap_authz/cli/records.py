# SPDX-License-Identifier: Apache-2.0
"""`iap-authz records`: read the records of a journal or of the audit log, each verified before it is shown.

What came out of the log was proven to be in its tree, and the output says up to which size. That a search or a tail
left nothing out is proven by nobody, and the output says that too; `list` and `completeness` read every leaf instead.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.cli.all_leaves import read_all
from iap_authz.cli.completeness import report_as_json, report_in_words
from iap_authz.cli.filtered import filtered
from iap_authz.cli.journals import find_writers, inspect_folder, read_leaf
from iap_authz.cli.log_options import (
    Address,
    AsJson,
    Journal,
    Kept,
    Key,
    LogOptions,
    TokenFile,
    Which,
    ask,
    fetch_evidence,
    log_options,
    open_log,
    parse_which,
    parse_writer,
)
from iap_authz.cli.record_lines import Shown, members, show_line, show_table, shown_leaf
from iap_authz.cli.search_options import PAGE_MAX
from iap_authz.cli.unsealed import Purpose, Unseal, check_unseal, exit_code, show_reading, unseal_all
from iap_authz.errors import Malformed, shown
from iap_authz.records.completeness import Completeness
from iap_authz.records.evidence import EvidenceReport, check_evidence
from iap_authz.records.findings import Inspection, NoSuchRecord
from iap_authz.records.record import audit_id
from iap_authz.tlog.hashing import LeafIndex, leaf_hash

app = typer.Typer(no_args_is_help=True)

NOT_PROVEN = "that nothing is missing from this answer is not proven"
"""Rule O1 of search answers."""

DOES_NOT_HOLD = 1


@app.callback()
def _records() -> None:
    pass


@app.command("list")
def list_records(
    journal: Journal = None,
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    body: Annotated[str | None, typer.Option(help="Only records with this body, such as decision.")] = None,
    as_json: AsJson = False,
) -> None:
    """List every record of a journal, oldest writer first; or of the log, proven to be all there are."""
    if journal is None:
        _list_log(log_options(log, key, checkpoint=checkpoint), body, as_json=as_json)
        return
    inspections = [(writer, inspect_folder(writer)) for writer in find_writers(journal)]
    found = (one for writer, inspection in inspections for one in _leaves(writer, inspection))
    _show((one for one in found if _has_body(one, body)), as_json=as_json, with_index=False)
    if any(inspection.faults for _, inspection in inspections):
        sys.stderr.write(f"iap-authz: {journal} is damaged: run `iap-authz fsck {journal}`\n")
        raise typer.Exit(DOES_NOT_HOLD)


def _list_log(options: LogOptions, body: str | None, *, as_json: bool) -> None:
    found = []

    def take(index: LeafIndex, leaf: bytes) -> None:
        one = shown_leaf(leaf, index)
        if not _has_body(one, body):
            return
        if as_json:
            show_line(one, as_json=True)
        else:
            found.append(one)

    checkpoint = ask(read_all(options, take))
    if not as_json:
        show_table(found, with_index=True)
    typer.echo(f"proven: all {checkpoint.size} leaves of {checkpoint.origin} were read", err=True)


@app.command("show")
def show(  # noqa: PLR0913 -- one parameter an option
    which: Annotated[
        str, typer.Argument(metavar="AUDIT_ID|INDEX|WRITER:SEQUENCE", help="From a journal: not by INDEX.")
    ],
    journal: Journal = None,
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    leaf: Annotated[
        Path | None, typer.Option("--leaf", metavar="FILE", help="Also write the record's bytes, as they are hashed.")
    ] = None,
    unseal: Unseal = False,
    reason: Purpose = None,
    token_file: TokenFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="On one line.")] = False,
) -> None:
    """Show one record whole, as JSON; from the log, with what proves it. What is sealed is opened with --unseal."""
    purpose = check_unseal(unseal=unseal, purpose=reason, token_file=token_file)
    if journal is not None and unseal:
        raise typer.BadParameter("a journal has no keys to what is sealed in it: ask the log", param_hint="--unseal")
    wanted, proven = parse_which(which), dict[str, object]()
    if journal is None:
        options = log_options(log, key, checkpoint=checkpoint, token_file=token_file if unseal else None)
        evidence = ask(fetch_evidence(options, wanted))
        found = shown_leaf(evidence.record, evidence.index)
        if purpose:
            found = ask(_unseal_one(options, found, purpose))
        proven = {"proven": _proven(check_evidence(evidence, log=options.verifier))}
    else:
        found = _find_in_journal(wanted, journal)
    if leaf is not None:
        leaf.write_bytes(found.leaf)
    typer.echo(json.dumps({**members(found), **proven}, indent=None if as_json else 2))
    show_reading([found])
    raise typer.Exit(exit_code([found]))


async def _unseal_one(options: LogOptions, found: Shown, purpose: str) -> Shown:
    async with open_log(options) as client:
        (opened,) = await unseal_all(client, [found], purpose)
    return opened


@app.command("search")
@filtered()
def search(  # noqa: PLR0913 -- one parameter an option
    request: log_pb2.SearchRecordsRequest,
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Records at most.")] = 100,
    unseal: Unseal = False,
    reason: Purpose = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Search the log. Each record is proven to be in the log; that none is missing is not.

    What says something of a person is shown as sealed, unless it is opened with --unseal.
    """
    purpose = check_unseal(unseal=unseal, purpose=reason, token_file=token_file)
    request.newest_first = newest
    options = log_options(log, key, checkpoint=checkpoint, token_file=token_file if unseal else None)
    found = ask(_search(options, request, limit=limit, purpose=purpose))
    if as_json:
        typer.echo(json.dumps(found.members()))
    else:
        show_table(found.records, with_index=True)
        typer.echo(found.in_words(), err=True)
    show_reading(found.records)
    raise typer.Exit(exit_code(found.records))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a search came to: records in the tree of `tree_size`, found in an index over `indexed_size` leaves."""

    records: list[Shown]
    tree_size: int
    indexed_size: int
    more: bool

    def members(self) -> dict[str, object]:
        return {
            "tree_size": self.tree_size,
            "indexed_size": self.indexed_size,
            "more": self.more,
            "completeness": NOT_PROVEN,
            "records": [members(one) for one in self.records],
        }

    def in_words(self) -> str:
        more = "; there are more: --limit" if self.more else ""
        return (
            f"proven: each of the {len(self.records)} records is in the log's tree of {self.tree_size} leaves{more}\n"
            f"{NOT_PROVEN}; the log says that it searched its first {self.indexed_size} leaves"
        )


async def _search(options: LogOptions, request: log_pb2.SearchRecordsRequest, *, limit: int, purpose: str) -> _Found:
    """Page after page, until there are `limit` records or the log says that there are no more."""
    records, token = list[Shown](), ""
    async with open_log(options) as client:
        await client.checkpoint()
        while True:
            request.page_size, request.page_token = min(limit - len(records), PAGE_MAX), token
            page = await client.search(request)
            records += (shown_leaf(one.entry.record, one.entry.index) for one in page.records)
            if len(records) >= limit or not page.next_page_token:
                taken = records[:limit]
                return _Found(
                    records=await unseal_all(client, taken, purpose) if purpose else taken,
                    tree_size=client.view.last.checkpoint.size,
                    indexed_size=page.indexed_size,
                    more=bool(page.next_page_token) or len(records) > limit,
                )
            if not page.records or page.next_page_token == token:
                raise Malformed("got a page without records, or the same page again, want the next one")
            token = page.next_page_token


@app.command("tail")
@filtered(without=frozenset({"begin", "end"}))
def tail(
    request: log_pb2.SearchRecordsRequest,
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    after: Annotated[int | None, typer.Option(min=0, help="Begin after this index; without: with what is new.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show records as they come into the log, until Ctrl-C; each is proven to be in it before it is shown."""
    options = log_options(log, key, checkpoint=checkpoint)
    with suppress(KeyboardInterrupt):
        ask(_follow(options, request, after=after, as_json=as_json))


async def _follow(
    options: LogOptions, request: log_pb2.SearchRecordsRequest, *, after: int | None, as_json: bool
) -> None:
    async with open_log(options) as client:
        size = (await client.checkpoint()).checkpoint.size
        typer.echo(f"from the log's tree of {size} leaves on; {NOT_PROVEN}", err=True)
        begin = max(size - 1, 0) if after is None else after
        async for entry in client.tail(log_pb2.TailRecordsRequest(filter=request, after_index=begin)):
            show_line(shown_leaf(entry.record, entry.index), as_json=as_json)


@app.command("completeness")
def completeness(
    writer: Annotated[str, typer.Option(help="Id of the writer, 64 hex digits.")],
    *,
    log: Address = None,
    key: Key = None,
    checkpoint: Kept = None,
    as_json: AsJson = False,
) -> None:
    """Prove from every leaf of the log that it has all records of a writer, up to the writer's largest checkpoint.

    Exit 0 if it has, 1 if not: then each gap, double and false leaf is named. What no log can prove is said as well.
    """
    options = log_options(log, key, checkpoint=checkpoint)
    collected = Completeness(options.verifier.name, parse_writer(writer))
    ask(read_all(options, lambda index, leaf: collected.add(index, leaf, leaf_hash(leaf))))
    report = collected.finish()
    if as_json:
        typer.echo(json.dumps(report_as_json(report)))
    else:
        typer.echo("\n".join(report_in_words(report)))
    raise typer.Exit(0 if report.holds else DOES_NOT_HOLD)


def _show(records: Iterable[Shown], *, as_json: bool, with_index: bool) -> None:
    if not as_json:
        show_table(records, with_index=with_index)
        return
    for one in records:
        show_line(one, as_json=True)


def _has_body(one: Shown, body: str | None) -> bool:
    return body is None or one.record.WhichOneof("body") == body


def _proven(report: EvidenceReport) -> dict[str, object]:
    """What the evidence showed of a record of the log."""
    logged = report.logged
    return {
        "made_by": report.made_by.hex(),
        "by_log": report.by_log,
        "workload": None if report.registered is None else report.registered.workload,
        "enrolled_by": None if report.registered is None else report.registered.enrolled_by,
        "log_origin": report.log_origin,
        "tree_size": None if logged is None else logged.size,
    }


def _find_in_journal(which: Which, journal: Path) -> Shown:
    for writer in find_writers(journal):
        for one in _leaves(writer, inspect_folder(writer)):
            if which in (audit_id(one.leaf), (one.record.writer, one.record.sequence)):
                return one
    raise NoSuchRecord(f"got {shown(which)}, which no verified record of {journal} has")


def _leaves(writer: Path, inspection: Inspection) -> Iterator[Shown]:
    for position in range(len(inspection.places)):
        yield shown_leaf(read_leaf(writer, inspection, position))
