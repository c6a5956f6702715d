# SPDX-License-Identifier: Apache-2.0
"""`--unseal --reason`: what sealed records say of people, opened here and recorded in the log with who read it and why.

Exit codes of a reading: 1 if a record was tampered with, else 3 if one was erased (it cannot be told any more, rule
S10), else 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iap_authz.cli.log_options import check_token_file
from iap_authz.cli.record_lines import Shown
from iap_authz.records.unsealed import Outcome
from iap_authz.tlog.hashing import LeafIndex

if TYPE_CHECKING:
    from iap_authz.client import AuditLogClient

Unseal = Annotated[bool, typer.Option("--unseal", help="Open what is sealed. Wants --reason and --token-file.")]
Purpose = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why you read it. Recorded in the log, with your name.")
]

DOES_NOT_HOLD, CANNOT_TELL = 1, 3

IN_WORDS = {
    Outcome.ERASED: "was erased, says the log: what it said of a person cannot be told any more",
    Outcome.TAMPERED: "was tampered with, says the log: its key is missing or does not fit, and no erasure covers it",
}
"""Neither is proven: both are the log's word, and worse for it than an opening."""


def check_unseal(*, unseal: bool, purpose: str | None, token_file: Path | None) -> str:
    """The purpose; empty where nothing is to be unsealed. Exits with 2 where one of the three is missing."""
    if not unseal:
        if purpose is not None:
            raise typer.BadParameter("got a reason and nothing to unseal, want --unseal too", param_hint="--reason")
        return ""
    if not (purpose or "").strip():
        raise typer.BadParameter("want the reason for this reading: it is recorded with it", param_hint="--reason")
    check_token_file(token_file)
    return str(purpose)


async def unseal_all(client: "AuditLogClient", records: Sequence[Shown], purpose: str) -> list[Shown]:
    """The same records, those of them that have a place in the log with what they say of people."""
    indices = [LeafIndex(one.index) for one in records if one.index is not None]
    if not indices:
        return list(records)
    opened = {one.index: one for one in await client.unseal(indices, purpose)}
    return [one if one.index is None else replace(one, opened=opened[LeafIndex(one.index)]) for one in records]


def show_reading(records: Sequence[Shown]) -> None:
    """On standard error: where the log recorded this reading, and what of it cannot be told, and why."""
    opened = [one.opened for one in records if one.opened is not None]
    for log_read in dict.fromkeys(one.log_read for one in opened):
        typer.echo(f"this reading is recorded in the log: leaf {log_read}", err=True)
    for one in opened:
        if one.outcome in IN_WORDS:
            typer.echo(f"leaf {one.index} {IN_WORDS[one.outcome]}", err=True)


def exit_code(records: Iterable[Shown]) -> int:
    """What a reading came to."""
    outcomes = {one.opened.outcome for one in records if one.opened is not None}
    if Outcome.TAMPERED in outcomes:
        return DOES_NOT_HOLD
    return CANNOT_TELL if Outcome.ERASED in outcomes else 0
