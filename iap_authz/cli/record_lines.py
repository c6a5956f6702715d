# SPDX-License-Identifier: Apache-2.0
"""How the commands show a record: a row of a table, a line, or JSON. Nothing here is checked; the callers have."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import typer
from google.protobuf import json_format
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from iap_authz._pb.iap.audit.v1 import record_pb2
from iap_authz.model.reason import Reason, Verdict, code_of
from iap_authz.records.record import audit_id, parse_record, time_of
from iap_authz.records.unsealed import Outcome, UnsealedRecord

COLUMNS = ("time", "sequence", "body", "verdict", "reason", "rule", "personal", "audit id")

PIPED_WIDTH_CHARS = 1 << 16
"""Wider than any row: a table takes only what it needs, and a pipe has no edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A record to show; `index` is its place in the audit log, None for a record of a journal."""

    leaf: bytes
    record: record_pb2.Record
    index: int | None = None
    opened: UnsealedRecord | None = None


def shown_leaf(leaf: bytes, index: int | None = None) -> Shown:
    """A leaf that was verified. Raises Malformed if it is no record."""
    return Shown(leaf=leaf, record=parse_record(leaf), index=index)


def show_table(records: Iterable[Shown], *, with_index: bool) -> None:
    """All of them as one table; nothing is cut, and where it is piped to another program nothing is wrapped."""
    names = (*(("index",) if with_index else ()), *COLUMNS)
    table = Table(*(Column(name, overflow="fold") for name in names))
    for one in records:
        table.add_row(*map(escape, cells(one)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH_CHARS)
    console.print(table)


def cells(one: Shown) -> Sequence[str]:
    """The cells of a row, the index first if there is one."""
    record, decision = one.record, one.record.decision
    decided = record.WhichOneof("body") == "decision"
    return (
        *(() if one.index is None else (str(one.index),)),
        time_of(record).isoformat(timespec="milliseconds"),
        str(record.sequence),
        record.WhichOneof("body") or "unknown",
        code_of(Verdict, decision.verdict) if decided else "",
        code_of(Reason, decision.reason) if decided else "",
        plain(decision.rule),
        _in_words(one),
        audit_id(one.leaf),
    )


def plain(text: str) -> str:
    """A text of a record on a terminal: whoever wrote the record does not get to move the cursor."""
    return ascii(text)[1:-1]


def show_line(one: Shown, *, as_json: bool) -> None:
    """One record on one line, at once."""
    typer.echo(json.dumps(members(one)) if as_json else "  ".join(cell for cell in cells(one) if cell))


def members(one: Shown) -> dict[str, object]:
    """A record as JSON, with its audit id and, in a log, its index; of a sealed part only that there is one."""
    fields = json_format.MessageToDict(one.record, preserving_proto_field_name=True)
    if "sealed" in fields:
        fields |= {"sealed": True, "sealed_bytes": len(one.record.sealed.ciphertext)}
    place: dict[str, object] = {} if one.index is None else {"index": one.index}
    return {"audit_id": audit_id(one.leaf), **place, **fields, **_opened(one)}


def _opened(one: Shown) -> dict[str, object]:
    """What an unsealing came to, if there was one."""
    if one.opened is None:
        return {}
    unsealed: dict[str, object] = {"unsealed": one.opened.outcome.value, "log_read": one.opened.log_read}
    if one.opened.outcome is Outcome.OPENED and one.opened.personal is not None:
        unsealed["personal"] = json_format.MessageToDict(one.opened.personal, preserving_proto_field_name=True)
    return unsealed


def _in_words(one: Shown) -> str:
    """The personal part on one line: what form it has, or who asked for what."""
    form = one.record.WhichOneof("personal")
    if one.opened is None or one.opened.outcome is Outcome.NOT_SEALED:
        return form or ""
    if one.opened.outcome is not Outcome.OPENED or one.opened.personal is None:
        return one.opened.outcome.value
    part = one.opened.personal
    if part.WhichOneof("part") != "decision":
        return plain(json_format.MessageToJson(part, indent=None, preserving_proto_field_name=True))
    facts = part.decision.facts
    asked = f"{facts.request.method} {facts.request.host}{facts.request.path}".strip()
    words = (facts.identity.subject or "nobody", facts.device.id, facts.location.address, asked)
    return "; ".join(plain(word) for word in words if word)
