# SPDX-License-Identifier: Apache-2.0
"""`iap-authz fsck`: recompute a journal or a log from its bytes and name what is not as it was written."""

import json
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.cli.journals import find_writers, inspect_folder, progress_over
from iap_authz.cli.log_folder import check_log_folder, is_log_folder
from iap_authz.cli.log_options import parse_key
from iap_authz.records.findings import Finding, Inspection


def fsck(
    folder: Annotated[Path, typer.Argument(help="A journal, one writer's folder in it, or an audit log's folder.")],
    *,
    origin: Annotated[str | None, typer.Option(help="Of a journal: the audit log that every writer must name.")] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Of a log: its verifier key, or @FILE; twice while a key is rotated.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Of a log: write what can be derived from the rest.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Check every byte of a journal or of a log: frames, entries, tiles, records, sequences, signatures, roots.

    Exit 0 if all of it is as it was written, 1 if not, 3 if it is and no key was given for a log. A journal's tail that
    was never acknowledged is reported and is no damage. Nothing is changed without --repair, and then only what the
    root of the log confirms: a tile from its entries, one byte that a hash proves.
    """
    if is_log_folder(folder):
        keys = [parse_key(text, "--key") for text in key or ()]
        raise typer.Exit(check_log_folder(folder, keys, repair=repair, as_json=as_json))
    writers = find_writers(folder)
    with progress_over(writers) as step:
        inspections = [(writer, inspect_folder(writer, origin, step)) for writer in writers]
    holds = not any(inspection.faults for _, inspection in inspections)
    if as_json:
        report = [_as_json(writer, inspection) for writer, inspection in inspections]
        typer.echo(json.dumps({"holds": holds, "writers": report}))
    else:
        for writer, inspection in inspections:
            _show(writer, inspection)
    raise typer.Exit(0 if holds else 1)


def _show(writer: Path, inspection: Inspection) -> None:
    verdict = "damaged" if inspection.faults else "intact"
    typer.echo(f"writer {writer.name}: {inspection.size} records verified, {verdict}")
    for finding in inspection.findings:
        typer.echo(f"  {finding}")


def _as_json(writer: Path, inspection: Inspection) -> dict[str, object]:
    return {
        "writer": writer.name,
        "records": inspection.size,
        "holds": not inspection.faults,
        "checkpoint": inspection.checkpoint.decode("utf-8", "replace"),
        "findings": [_finding_as_json(finding) for finding in inspection.findings],
    }


def _finding_as_json(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind.value,
        "segment": finding.segment,
        "byte": finding.offset,
        "message": finding.message,
        "got": finding.got,
        "want": finding.want,
    }
