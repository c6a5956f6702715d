# SPDX-License-Identifier: Apache-2.0
"""`iap-authz fsck`: recompute a journal from its bytes and name what is not as it was written."""

import json
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.cli.journals import find_writers, inspect_folder, progress_over
from iap_authz.records.findings import Finding, Inspection


def fsck(
    journal: Annotated[Path, typer.Argument(help="A journal, or one writer's folder in it.")],
    *,
    origin: Annotated[str | None, typer.Option(help="The audit log's origin that every writer must name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Check every frame, record, sequence, signature and root of a JOURNAL.

    Exit 0 if all of it is as it was written, 1 if not. A tail that was never acknowledged is reported and is no damage.
    """
    writers = find_writers(journal)
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
