# SPDX-License-Identifier: Apache-2.0
"""`iap-authz records`: read the records of a journal, each verified before it is shown."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format
from rich.console import Console
from rich.table import Table

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.cli.journals import find_writers, inspect_folder, read_leaf
from iap_authz.errors import shown
from iap_authz.model.reason import Reason, Verdict, code_of
from iap_authz.records.findings import Inspection, NoSuchRecord
from iap_authz.records.record import audit_id, parse_record, time_of

app = typer.Typer(no_args_is_help=True)

Journal = Annotated[Path, typer.Option("--journal", "-j", help="A journal, or one writer's folder in it.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.callback()
def _records() -> None:
    pass


@app.command("list")
def list_records(
    journal: Journal,
    *,
    body: Annotated[str | None, typer.Option(help="Only records with this body, such as decision.")] = None,
    as_json: AsJson = False,
) -> None:
    """List every verified record of a journal, oldest writer first."""
    damaged = False
    table = Table("time", "sequence", "body", "verdict", "reason", "rule", "audit id")
    for writer in find_writers(journal):
        inspection = inspect_folder(writer)
        damaged = damaged or bool(inspection.faults)
        for leaf, record in _leaves(writer, inspection):
            if body is not None and record.WhichOneof("body") != body:
                continue
            if as_json:
                typer.echo(json.dumps(_as_json(leaf, record)))
            else:
                table.add_row(*_row(leaf, record))
    if not as_json:
        Console().print(table)
    if damaged:
        sys.stderr.write(f"iap-authz: {journal} is damaged: run `iap-authz fsck {journal}`\n")
        raise typer.Exit(1)


@app.command("show")
def show(
    audit: Annotated[str, typer.Argument(metavar="AUDIT_ID", help="64 hex digits, as in x-iap-audit-id.")],
    journal: Journal,
) -> None:
    """Show one record whole, as JSON."""
    for writer in find_writers(journal):
        for leaf, record in _leaves(writer, inspect_folder(writer)):
            if audit_id(leaf) == audit:
                typer.echo(json.dumps(_as_json(leaf, record), indent=2))
                return
    raise NoSuchRecord(f"got audit id {shown(audit)}, which no verified record of {journal} has")


def _leaves(writer: Path, inspection: Inspection) -> Iterator[tuple[bytes, record_pb2.Record]]:
    for position in range(len(inspection.places)):
        leaf = read_leaf(writer, inspection, position)
        yield leaf, parse_record(leaf)


def _row(leaf: bytes, record: record_pb2.Record) -> tuple[str, ...]:
    decision = record.decision
    decided = record.WhichOneof("body") == "decision"
    return (
        time_of(record).isoformat(timespec="milliseconds"),
        str(record.sequence),
        record.WhichOneof("body") or "unknown",
        code_of(Verdict, decision.verdict) if decided else "",
        code_of(Reason, decision.reason) if decided else "",
        decision.rule,
        audit_id(leaf),
    )


def _as_json(leaf: bytes, record: record_pb2.Record) -> dict[str, object]:
    fields = json_format.MessageToDict(record, preserving_proto_field_name=True)
    return {"audit_id": audit_id(leaf), **fields}
