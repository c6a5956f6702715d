# SPDX-License-Identifier: Apache-2.0
"""What the demonstration looks like: tables for people, one JSON object for programs.

Invariant: what is shown is what the report holds; nothing is computed here. Without a terminal there is no colour, no
frame drawn from anything but ASCII, and no line is cut.
"""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.demo.audited import Audited
from iap_authz.demo.files import HOST
from iap_authz.demo.live import Live, Seen
from iap_authz.demo.run import Line, Report
from iap_authz.demo.world import ADDRESSES
from iap_authz.model.reason import Reason, Verdict

PLAIN_WIDTH = 160
"""Columns when nobody says how wide the page is: a file, a pipe."""

AUDIT_ID_SHOWN_CHARS = 12
"""Enough to tell the records of a demonstration apart."""

_STYLES = {Verdict.ALLOW: "green", Verdict.DENY: "red", Verdict.CHALLENGE: "yellow", Verdict.UNDECIDED: "magenta"}


def make_console(*, stderr: bool = False) -> Console:
    """Standard output or error, as it is: coloured and as wide as the terminal, or plain."""
    console = Console(highlight=False, stderr=stderr)
    if not console.is_terminal:
        console = Console(highlight=False, stderr=stderr, width=PLAIN_WIDTH, no_color=True)
    return console


def show_asked(console: Console, seen: Seen) -> None:
    """One line while it runs, on a terminal only: the table comes later."""
    if console.is_terminal:
        verdict = seen.case.outcome.verdict
        style = _STYLES.get(verdict, "dim") if verdict is not None else "dim"
        console.print(f"  [{style}]{seen.reply.status}[/]  {escape(seen.case.title)}")


def show_report(console: Console, report: Report, audited: Audited) -> None:
    """The tables, the proofs and the flipped byte; then the audit log."""
    console.print()
    console.print(_asked_table(console, report))
    console.print()
    console.print(_trail_table(console, report))
    for trail in report.trails:
        inspection = trail.inspection
        writer = inspection.writer.hex() if inspection.writer is not None else "unknown"
        console.print(f"writer {writer}: {inspection.size} records under one signed checkpoint")
    console.print(f"{report.proofs} records proved and verified: each is in its writer's tree, under its signature.")
    flip = report.flip
    change = f"0x{flip.was:02x} to 0x{flip.became:02x}"
    console.print(f"One bit changed on disk, in a copy: byte {flip.offset} of {flip.segment}, {change}.")
    for finding in flip.findings:
        console.print(f"  found: {escape(str(finding))}", style="red" if console.is_terminal else None)
    console.print("\nThe audit log", style="bold")
    for line in audited.lines():
        console.print(line, markup=False, style="red" if "found:" in line and console.is_terminal else None)
    for difference in (*report.differences, *audited.differences):
        console.print(f"NOT AS IT SHOULD BE: {escape(difference)}", style="bold red")


def _table(console: Console, title: str) -> Table:
    plain = not console.is_terminal
    return Table(title=title, box=box.ASCII2 if plain else box.SIMPLE_HEAD, title_justify="left", pad_edge=False)


def _asked_table(console: Console, report: Report) -> Table:
    table = _table(console, "What was asked, what came out, and why")
    for column in ("asked", "from", "status", "verdict", "why", "rule", "application got", "note"):
        table.add_column(column, overflow="fold")
    for line in report.lines:
        table.add_row(*map(escape, _asked_cells(line)), style=_style(line))
    return table


def _asked_cells(line: Line) -> Iterator[str]:
    seen, case = line.seen, line.seen.case
    yield case.title
    yield case.place
    yield str(seen.reply.status)
    if line.record is None:
        yield from ("none", "refused by Envoy", "")
    else:
        decision = line.record.decision
        yield Verdict(decision.verdict).code
        yield Reason(decision.reason).code
        yield "/".join(filter(None, (decision.route, decision.rule)))
    yield ", ".join(received.target for received in seen.received) or "nothing"
    yield case.note if not line.differences else f"WRONG: {'; '.join(line.differences)}"


def _style(line: Line) -> str:
    if line.differences:
        return "bold reverse"
    return _STYLES[Verdict(line.record.decision.verdict)] if line.record is not None else "dim"


def _trail_table(console: Console, report: Report) -> Table:
    table = _table(console, "The audit trail, read back from the disk")
    for column in ("seq", "time", "audit id", "record", "says"):
        table.add_column(column, overflow="fold")
    for audit_id, record in report.records.items():
        time = record.time.ToDatetime().isoformat(timespec="milliseconds")
        kind = record.WhichOneof("body") or "unknown"
        cells = (str(record.sequence), time.partition("T")[2], audit_id[:AUDIT_ID_SHOWN_CHARS], kind, _says(record))
        table.add_row(*map(escape, cells))
    return table


def _says(record: record_pb2.Record) -> str:
    """The one thing worth a cell of each kind of record."""
    match record.WhichOneof("body"):
        case "decision":
            decision = record.decision
            subject = record.open.decision.facts.identity.subject or "nobody"
            target = record.open.decision.facts.request
            words = (Verdict(decision.verdict).code, Reason(decision.reason).code)
            return " ".join((*words, f"{subject}: {target.method} {target.path or target.raw_path}"))
        case "policy_loaded":
            return f"{record.policy_loaded.name}, {record.policy_loaded.routes} routes"
        case "policy_chunk":
            return f"part {record.policy_chunk.index + 1} of {record.policy_chunk.count}"
        case "writer_started":
            return f"{record.writer_started.workload} on {record.writer_started.instance}"
        case _:
            return ""


def to_document(report: Report, audited: Audited) -> Mapping[str, object]:
    """The report as one JSON object."""
    flip = report.flip
    return {
        "holds": not (report.differences or audited.differences),
        "differences": [*report.differences, *audited.differences],
        "cases": [_case_document(line) for line in report.lines],
        "writers": [
            {"writer": (trail.inspection.writer or b"").hex(), "records": trail.inspection.size}
            for trail in report.trails
        ],
        "proofs": report.proofs,
        "flipped": {
            "segment": flip.segment,
            "offset": flip.offset,
            "was": flip.was,
            "became": flip.became,
            "found": [str(finding) for finding in flip.findings],
        },
        "log": audited.document(),
    }


def _case_document(line: Line) -> Mapping[str, object]:
    seen, record = line.seen, line.record
    decision = record.decision if record is not None else None
    return {
        "title": seen.case.title,
        "status": seen.reply.status,
        "verdict": Verdict(decision.verdict).code if decision is not None else None,
        "reason": Reason(decision.reason).code if decision is not None else None,
        "rule": decision.rule if decision is not None else "",
        "route": decision.route if decision is not None else "",
        "audit_id": seen.audit_id,
        "application_got": [received.target for received in seen.received],
        "note": seen.case.note,
        "differences": list(line.differences),
    }


def show_next(console: Console, live: Live, audited: Audited) -> None:
    """What to try while everything is up. Each line can be pasted into a shell."""
    folder, port = live.world.folder, live.client.port if live.client is not None else 0
    key = f"@{_pasted(folder, 'log.vkey')}"
    curl = [
        f"curl -i --haproxy-protocol --haproxy-clientip {ADDRESSES['Berlin']}",
        f"--resolve {HOST}:{port}:127.0.0.1 --cacert {_pasted(folder, 'tls/ca.crt')}",
        f"--cert {_pasted(folder, 'tls/laptop.pem')}",
        f'-H "Authorization: Bearer $(cat {_pasted(folder, "tokens/alice.jwt")})" https://{HOST}:{port}/api/orders',
    ]
    lines = (
        "# an engineer in Berlin (curl 8.2 or newer); other tokens, devices and addresses give other answers",
        " ".join(curl),
        "# the policy is read again within a second of a change",
        f"$EDITOR {_pasted(folder, 'policy.yaml')}",
        "# the log: records that it proves to have, and one with the proofs of that and of who made it",
        f"export IAP_AUTHZ_LOG={live.logs.honest.address} IAP_AUTHZ_LOG_KEY={key} XDG_STATE_HOME={_pasted(folder, '')}",
        "iap-authz records search --verdict deny",
        f"iap-authz prove record {audited.log.restart.seen.audit_id} -o {_pasted(folder, 'proof.json')}",
        f"iap-authz verify {_pasted(folder, 'proof.json')} --log-key {key}",
        "# every byte of the log's files, and of the copy with the flipped one; the same of the journal",
        f"iap-authz fsck {_pasted(folder, 'log')} --key {key}",
        f"iap-authz fsck {_pasted(folder, 'log-flipped')} --key {key}",
        f"iap-authz fsck {_pasted(folder, 'journal')}",
        f"iap-authz fsck {_pasted(folder, 'journal-flipped')}",
        "# kill the log, ask as much as you like, start it again (until Ctrl-C there): nothing is lost",
        f"kill -9 {live.log.pid if live.log is not None else 0}",
        f"iap-authz serve log --config {_pasted(folder, 'log.yaml')}",
    )
    console.print("Everything is up; Ctrl-C ends it. From another terminal:", style="bold")
    for line in lines:
        console.print(f"  {escape(line)}", soft_wrap=True)


def _pasted(folder: Path, name: str) -> str:
    return shlex.quote(str(folder / name))
