# SPDX-License-Identifier: Apache-2.0
"""`iap-authz verify`: check a proof file offline, trusting nothing but the file and what the caller names.

The invariant: exit 0 says that all the file states is proven, and that the writer and the log it is about are those
that the caller named. A file that only names them itself is 3, and so is a log's checkpoint without the log's key.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.cli.log_options import AsJson, parse_key, parse_which, parse_writer
from iap_authz.cli.record_lines import plain
from iap_authz.errors import Malformed, NotProven, shown
from iap_authz.model.ids import WriterId
from iap_authz.model.reason import Reason, Verdict, code_of
from iap_authz.records.consistency_file import check_consistency_file, is_consistency_file, parse_consistency_file
from iap_authz.records.evidence import EvidenceReport, Pin, check_evidence, parse_evidence
from iap_authz.records.log_evidence import Logged, Registered
from iap_authz.records.record import RECORD_MAX_BYTES
from iap_authz.tlog.checkpoint import open_checkpoint, parse_checkpoint
from iap_authz.tlog.hashing import LeafHash, leaf_hash
from iap_authz.tlog.note import VerifierKey, parse_note
from iap_authz.tlog.proof import check_inclusion
from iap_authz.tlog.proof_file import HEADER_LINE, parse_proof_file

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = 0, 1, 3

FILE_MAX_BYTES = 1 << 23
"""More than any of the kinds may have; each parser has its own bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What the caller names: nothing in the file can replace it."""

    writer: WriterId | None
    log: VerifierKey | None
    leaf: LeafHash | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """The lines of a report, the same as JSON, and what the caller must still name before it holds."""

    lines: list[str]
    members: dict[str, object]
    missing: list[str] = field(default_factory=list)


def verify(
    file: Annotated[
        Path, typer.Argument(help="An evidence file, a .tlog-proof or a consistency file.", exists=True, dir_okay=False)
    ],
    *,
    writer: Annotated[str | None, typer.Option(help="Id of the writer that must have made it, 64 hex digits.")] = None,
    log_key: Annotated[
        str | None,
        typer.Option("--log-key", metavar="KEY", help="Verifier key of the log that must have it, or @FILE with it."),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(metavar="FILE|AUDIT_ID", help="What a .tlog-proof is about: the record's bytes or its audit id."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check FILE offline. "Logged" and "made by" are separate statements and are reported separately.

    Exit 0 if all that the file states holds, for the writer and the log that you name; 1 if something does not hold;
    3 if it holds as far as the file alone can tell: it names its writer or its log itself. With --log-key alone the
    writer is the one that this log registered: then it is the log that you believe about who that is.
    """
    named = Named(
        writer=parse_writer(writer) if writer is not None else None,
        log=parse_key(log_key, "--log-key") if log_key is not None else None,
        leaf=_parse_leaf(record) if record is not None else None,
    )
    try:
        verdicts = _check(file, named)
    except (Malformed, NotProven) as error:
        message = str(error)
        typer.echo(json.dumps({"holds": False, "problem": message}) if as_json else f"does not hold: {message}")
        raise typer.Exit(DOES_NOT_HOLD) from None
    holds = True if not verdicts.missing else None
    if as_json:
        typer.echo(json.dumps({"holds": holds, **verdicts.members, "missing": verdicts.missing}))
    else:
        typer.echo("\n".join([*verdicts.lines, *(f"cannot tell: {one}" for one in verdicts.missing)]))
    raise typer.Exit(HOLDS if holds else CANNOT_TELL)


def _check(file: Path, named: Named) -> Verdicts:
    """What the file shows, whichever kind it is. Raises Malformed or NotProven."""
    with file.open("rb") as opened:
        data = opened.read(FILE_MAX_BYTES + 1)
    if data.startswith(HEADER_LINE.encode()):
        return _check_proof(data, named)
    return _check_consistency(data, named) if is_consistency_file(data) else _check_evidence(data, named)


def _parse_leaf(text: str) -> LeafHash:
    """The hash of the record that the caller holds, or names by its audit id. Exits with 2."""
    path = Path(text)
    if not path.is_file():
        which = parse_which(text)
        if not isinstance(which, str):
            raise typer.BadParameter("want an audit id or the file with the record's bytes", param_hint="--record")
        return LeafHash(bytes.fromhex(which))
    with path.open("rb") as file:
        leaf = file.read(RECORD_MAX_BYTES + 1)
    if not 1 <= len(leaf) <= RECORD_MAX_BYTES:
        message = f"{path}: got {len(leaf)} bytes or more, want a record of 1 to {RECORD_MAX_BYTES}"
        raise typer.BadParameter(message, param_hint="--record")
    return leaf_hash(leaf)


def _check_evidence(data: bytes, named: Named) -> Verdicts:
    evidence = parse_evidence(data)
    report = check_evidence(evidence, named.writer, log=named.log)
    if named.leaf is not None and report.audit_id != named.leaf.hex():
        raise NotProven(f"got evidence of record {report.audit_id}, want {named.leaf.hex()}")
    missing = _missing_of(report.logged, named)
    if not report.pinned and not report.by_log:
        missing.insert(0, f"whose record it is: if you know the writer's id: --writer {report.made_by.hex()}")
    return Verdicts(lines=_lines_of(report), members=_members_of(report), missing=missing)


def _missing_of(logged: Logged | None, named: Named) -> list[str]:
    if logged is None:
        return [] if named.log is None else [f"whether {named.log.name} has it: nothing in the file shows it"]
    return [] if logged.pinned else [_unsigned(logged.origin)]


def _unsigned(origin: str) -> str:
    return f"whether {origin} signed it: --log-key KEY"


def _lines_of(report: EvidenceReport) -> list[str]:
    body = report.record.WhichOneof("body") or "unknown"
    lines = [f"record    {report.audit_id} ({body}, {report.time.isoformat(timespec='milliseconds')})"]
    if body == "decision":
        decision = report.record.decision
        verdict, reason = code_of(Verdict, decision.verdict), code_of(Reason, decision.reason)
        lines.append(f"says      {verdict}: {reason} {plain(decision.rule)}".rstrip())
    if report.by_log:
        lines.append(f"made by   the log itself, as its leaf {report.sequence}")
    else:
        lines.append(f"made by   {report.made_by.hex()}, as its record {report.sequence} of {report.size}")
    if report.registered is not None:
        lines.append(f"who is    {_who(report.registered)}, registered by the log at leaf {report.registered.index}")
    return [*lines, f"for       {report.log_origin}", f"logged    {_logged_in_words(report.logged)}"]


def _who(registered: Registered) -> str:
    """What the registration says; quoted, since names come from outside."""
    by = f" (enrolled by {shown(registered.enrolled_by)})" if registered.enrolled_by else ""
    return f"workload {shown(registered.workload)}{by}"


def _logged_in_words(logged: Logged | None) -> str:
    if logged is None:
        return "not shown"
    place = f"leaf {logged.index} of {logged.size} of {logged.origin}"
    return place if logged.pinned else f"cannot tell: {place}"


def _members_of(report: EvidenceReport) -> dict[str, object]:
    registered = report.registered
    return {
        "audit_id": report.audit_id,
        "made_by": report.made_by.hex(),
        "by_log": report.by_log,
        "writer_pinned": report.pinned,
        "pinned_by": {Pin.NAMED: "name", Pin.REGISTERED: "registration", Pin.NONE: None}[report.pin],
        "sequence": report.sequence,
        "size": report.size,
        "time": report.time.isoformat(),
        "log_origin": report.log_origin,
        "logged": _logged_as_json(report.logged),
        "registered": None if registered is None else _registered_as_json(registered),
    }


def _registered_as_json(registered: Registered) -> dict[str, object]:
    return {"index": registered.index, "workload": registered.workload, "enrolled_by": registered.enrolled_by}


def _logged_as_json(logged: Logged | None) -> dict[str, object] | None:
    if logged is None:
        return None
    return {
        "holds": True if logged.pinned else None,
        "origin": logged.origin,
        "size": logged.size,
        "index": logged.index,
    }


def _check_proof(data: bytes, named: Named) -> Verdicts:
    """A C2SP proof file: it says nothing of who made the record, and it does not hold the record itself."""
    parsed = parse_proof_file(data)
    note, missing = parsed.checkpoint_note, []
    checkpoint = parse_checkpoint(parse_note(note).text) if named.log is None else open_checkpoint(note, named.log)
    if parsed.index >= checkpoint.size:
        raise NotProven(f"got leaf index {parsed.index}, want one below the checkpoint's size {checkpoint.size}")
    if named.leaf is not None:
        check_inclusion(named.leaf, parsed.index, size=checkpoint.size, proof=parsed.proof, root=checkpoint.root)
    else:
        missing.append("which record it is about: a proof file does not hold it: --record FILE|AUDIT_ID")
    if named.log is None:
        missing.append(_unsigned(checkpoint.origin))
    if named.writer is not None:
        missing.append("who made the record: a proof file does not show it, the evidence of `prove record` does")
    pinned = named.leaf is not None and named.log is not None
    logged = Logged(origin=checkpoint.origin, size=checkpoint.size, index=parsed.index, pinned=pinned)
    audit_id = None if named.leaf is None else named.leaf.hex()
    return Verdicts(
        lines=[f"record    {audit_id or 'not given'}", "made by   not shown", f"logged    {_logged_in_words(logged)}"],
        members={"audit_id": audit_id, "made_by": None, "logged": _logged_as_json(logged)},
        missing=missing,
    )


def _check_consistency(data: bytes, named: Named) -> Verdicts:
    report = check_consistency_file(parse_consistency_file(data), log=named.log)
    missing = [] if report.pinned else [_unsigned(report.old.origin)]
    if named.writer is not None or named.leaf is not None:
        missing.append("anything of a record or its writer: a consistency file is about a log")
    lines = [
        f"log       {report.old.origin}",
        f"shown     its tree of {report.old.size} leaves is the start of its tree of {report.new.size}",
    ]
    sizes = {"old_size": report.old.size, "new_size": report.new.size}
    return Verdicts(lines=lines, members={"log_origin": report.old.origin, **sizes}, missing=missing)
