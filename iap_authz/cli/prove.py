# SPDX-License-Identifier: Apache-2.0
"""`iap-authz prove`: make a file that proves a statement to someone who trusts nobody here."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.cli.journals import find_writers, inspect_folder, read_leaf
from iap_authz.errors import shown
from iap_authz.model.ids import AuditId
from iap_authz.records.evidence import prove_record, render_evidence
from iap_authz.records.findings import NoSuchRecord

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _prove() -> None:
    pass


@app.command("record")
def record(
    audit: Annotated[str, typer.Argument(metavar="AUDIT_ID", help="64 hex digits, as in x-iap-audit-id.")],
    journal: Annotated[Path, typer.Option("--journal", "-j", help="A journal, or one writer's folder in it.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; standard output without.")] = None,
) -> None:
    """Prove that a record is in its writer's log: the record, its inclusion proof and the signed checkpoint."""
    for writer in find_writers(journal):
        inspection = inspect_folder(writer)
        positions = {place: position for position, place in enumerate(inspection.places)}
        try:
            evidence = prove_record(
                inspection,
                AuditId(audit),
                read=lambda place: read_leaf(writer, inspection, positions[place]),  # noqa: B023 -- called at once
            )
        except NoSuchRecord:
            continue
        _write(render_evidence(evidence), output)
        return
    raise NoSuchRecord(f"got audit id {shown(audit)}, which no verified record of {journal} has")


def _write(content: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(content.decode())
    else:
        output.write_bytes(content)
        typer.echo(f"wrote {output}: check it anywhere with `iap-authz verify {output}`", err=True)
