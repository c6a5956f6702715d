# SPDX-License-Identifier: Apache-2.0
"""`iap-authz revocations`: the list of revocations in PostgreSQL. A list in a file is edited by hand.

The database's URL has a password in it, so it comes from a file that only its owner may read. Exit codes: 0 done, 1
there was no such entry or the database refuses, 2 usage or a bad entry, 3 the database cannot be asked.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iap_authz.facts.revocation import Kind

if TYPE_CHECKING:
    from iap_authz.revocation_wiring import Listed

app = typer.Typer(no_args_is_help=True)

_NOT_THERE = 1

_URL_FILE = typer.Option(
    "--database-url-file",
    envvar="IAP_AUTHZ_DATABASE_URL_FILE",
    metavar="FILE",
    dir_okay=False,
    help="A file of mode 0600 with postgresql://USER:PASSWORD@HOST/DATABASE, on one line.",
)
_WHAT = typer.Argument(metavar="KIND=VALUE", help=f"What is named: {', '.join(Kind)}; such as sub=ada.")

UrlFile = Annotated[Path, _URL_FILE]
What = Annotated[str, _WHAT]
Issuer = Annotated[
    str | None,
    typer.Option(
        help="The iss of the tokens; of a serial number the authority's name, such as CN=Example CA. None for others."
    ),
]
Before = Annotated[
    str | None,
    typer.Option(help="Only tokens issued before: a time such as 2026-01-31T09:00:00Z, or `now`. For sub and sid."),
]
Until = Annotated[
    str | None, typer.Option(help="From this time on it does not count any more, such as 2026-05-01T09:00:00Z.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@app.command("init")
def init(
    database_url_file: Annotated[Path | None, _URL_FILE] = None,
    *,
    show: Annotated[bool, typer.Option("--print", help="Print the SQL instead of running it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the tables in PostgreSQL, 13 or newer. Safe to run again, and while sidecars read.

    They are in the schema iap_authz, and belong to the role of the URL. A sidecar's role then needs this, and no more:
    GRANT USAGE ON SCHEMA iap_authz TO ROLE, and GRANT SELECT ON ALL TABLES IN SCHEMA iap_authz TO ROLE.
    """
    from iap_authz.revocation_wiring import SCHEMA, open_table  # noqa: PLC0415 -- a database takes long to import

    if show:
        typer.echo(json.dumps({"sql": SCHEMA}) if as_json else SCHEMA.rstrip("\n"))
        return
    if database_url_file is None:
        raise typer.BadParameter("want a file with the database's URL, or --print", param_hint="--database-url-file")
    with open_table(database_url_file) as table:
        table.init()
    typer.echo(json.dumps({"made": True}) if as_json else "the tables of revocations are there")


@app.command("add")
def add(
    what: What,
    database_url_file: UrlFile,
    *,
    issuer: Issuer = None,
    before: Before = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Revoke. Sidecars refuse from their next look on, which is a second by default."""
    from iap_authz.revocation_wiring import open_table, parse_one  # noqa: PLC0415 -- a database takes long to import

    entry = parse_one(_fields(what, issuer=issuer, before=before, until=until))
    with open_table(database_url_file) as table:
        done = table.add(entry)
    if as_json:
        typer.echo(json.dumps({"added": list(done.ids), "revision": done.revision}))
        return
    said = f"entry {done.ids[0]} is added" if done.ids else "the same entry was there already"
    typer.echo(f"{said}; revision {done.revision}")


@app.command("remove")
def remove(
    what: Annotated[str | None, _WHAT] = None,
    *,
    database_url_file: UrlFile,
    issuer: Issuer = None,
    number: Annotated[int | None, typer.Option("--id", help="The entry with this id, as `list` shows it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take out all entries that name this, or the one with this id. What they revoked is good again, if it still is."""
    from iap_authz.revocation_wiring import open_table, parse_one  # noqa: PLC0415 -- a database takes long to import

    if (what is None) == (number is None) or (number is not None and issuer is not None):
        got = "neither" if what is None and number is None else "both"
        raise typer.BadParameter(f"got {got}, want KIND=VALUE (with --issuer where it has one) or --id alone")
    entry = parse_one(_fields(what, issuer=issuer)) if what is not None else None
    with open_table(database_url_file) as table:
        done = table.remove(entry) if entry is not None else table.remove_row(number or 0)
    if as_json:
        typer.echo(json.dumps({"removed": list(done.ids), "revision": done.revision}))
    else:
        said = f"removed {', '.join(map(str, done.ids))}" if done.ids else "there is no such entry"
        typer.echo(f"{said}; revision {done.revision}")
    raise typer.Exit(0 if done.ids else _NOT_THERE)


@app.command("list")
def show_list(database_url_file: UrlFile, *, as_json: AsJson = False) -> None:
    """All entries, the oldest first, also those that no sidecar can read. They may name people."""
    from iap_authz.revocation_wiring import open_table  # noqa: PLC0415 -- a database takes long to import

    with open_table(database_url_file) as table:
        number, entries = table.entries()
    if as_json:
        revoked = [{"id": one.id, **one.entry, "added": one.added, "added_by": one.added_by} for one in entries]
        typer.echo(json.dumps({"revision": number, "revoked": revoked}))
        return
    for one in entries:
        typer.echo(_line(one))
    typer.echo(f"{len(entries)} entries; revision {number}", err=True)


def _fields(
    what: str, *, issuer: str | None, before: str | None = None, until: str | None = None
) -> Mapping[str, object]:
    """An entry as the file would have it. Exits with 2 for what has no form."""
    kind, sign, value = what.partition("=")
    if not sign or kind not in {each.value for each in Kind}:
        raise typer.BadParameter(f"want KIND=VALUE with one of {', '.join(Kind)}, such as sub=ada")
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z") if before == "now" else before
    fields = {kind: value, "issuer": issuer, "before": moment, "until": until}
    return {name: text for name, text in fields.items() if text is not None}


def _line(one: "Listed") -> str:
    """One entry for people; what could change the terminal is escaped."""
    said = "  ".join(f"{name}={text}" for name, text in one.entry.items())
    escaped = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in said)
    return f"{one.id}  {escaped}  added {one.added} by {one.added_by}"
