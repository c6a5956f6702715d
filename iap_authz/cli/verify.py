# SPDX-License-Identifier: Apache-2.0
"""`iap-authz verify`: check a proof file offline, trusting nothing but the file and the writer that is named."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.errors import Malformed, NotProven
from iap_authz.model.ids import WriterId
from iap_authz.model.reason import Reason, Verdict, code_of
from iap_authz.records.evidence import EvidenceReport, check_evidence, parse_evidence

_WRITER = re.compile(r"[0-9a-f]{64}", re.ASCII)
HOLDS, DOES_NOT_HOLD, CANNOT_TELL = 0, 1, 3


def verify(
    file: Annotated[Path, typer.Argument(help="An evidence file.", exists=True, dir_okay=False)],
    *,
    writer: Annotated[str | None, typer.Option(help="Id of the writer that must have made it, 64 hex digits.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Check FILE offline. "Logged" and "made by" are separate statements and are reported separately.

    Exit 0 if it holds for the writer you name, 1 if it does not hold, 3 if it holds for the writer that the file names
    itself and you named none: whether that is a writer you trust, the file alone cannot tell.
    """
    if writer is not None and not _WRITER.fullmatch(writer):
        raise typer.BadParameter("want 64 lowercase hex digits", param_hint="--writer")
    try:
        pinned = WriterId(bytes.fromhex(writer)) if writer is not None else None
        report = check_evidence(parse_evidence(file.read_bytes()), pinned)
    except (Malformed, NotProven) as error:
        _show_failure(str(error), as_json=as_json)
        raise typer.Exit(DOES_NOT_HOLD) from None
    if as_json:
        typer.echo(json.dumps(_as_json(report)))
    else:
        _show(report)
    raise typer.Exit(HOLDS if report.pinned else CANNOT_TELL)


def _show_failure(message: str, *, as_json: bool) -> None:
    typer.echo(json.dumps({"holds": False, "problem": message}) if as_json else f"does not hold: {message}")


def _show(report: EvidenceReport) -> None:
    body = report.record.WhichOneof("body") or "unknown"
    typer.echo(f"record    {report.audit_id} ({body}, {report.time.isoformat(timespec='milliseconds')})")
    if body == "decision":
        decision = report.record.decision
        verdict, reason = code_of(Verdict, decision.verdict), code_of(Reason, decision.reason)
        typer.echo(f"says      {verdict}: {reason} {decision.rule}".rstrip())
    typer.echo(f"made by   {report.made_by.hex()}, as its record {report.sequence} of {report.size}")
    typer.echo(f"for       {report.log_origin}")
    typer.echo(f"logged    {report.logged}")
    if not report.pinned:
        typer.echo(f"The file names its writer itself. If you know it: --writer {report.made_by.hex()}")


def _as_json(report: EvidenceReport) -> dict[str, object]:
    return {
        "holds": True if report.pinned else None,
        "audit_id": report.audit_id,
        "made_by": report.made_by.hex(),
        "writer_pinned": report.pinned,
        "sequence": report.sequence,
        "size": report.size,
        "time": report.time.isoformat(),
        "log_origin": report.log_origin,
        "logged": report.logged,
    }
