# SPDX-License-Identifier: Apache-2.0
"""`iap-authz keys`: the key of an audit log, and the tokens that writers enrol with."""

import hashlib
import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.key_wiring import add_key, create_key_file, drop_key, load_verifiers
from iap_authz.tlog.note import VerifierKey

TOKEN_BYTES = 32
"""Nobody guesses one, so its hash may stand in a file."""

app = typer.Typer(no_args_is_help=True)
new = typer.Typer(no_args_is_help=True)
app.add_typer(new, name="new", help="Make a key or a token.")

KeyFile = Annotated[Path, typer.Argument(help="The log's key file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@new.command("log")
def new_log(
    origin: Annotated[str, typer.Option(help="The log's name, for life: audit.example.com/orders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The key file to make; one that is there stays.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make the key of a new audit log and print its verifier key, which writers and auditors pin."""
    _show([create_key_file(output, origin)], as_json=as_json)


@new.command("enrolment-token")
def new_enrolment_token(
    name: Annotated[str, typer.Option(help="What the log shall call whoever enrols with it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a token for writers. It is printed once; the log's enrolment file gets its name and hash only."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    digest = hashlib.sha256(token.encode()).hexdigest()
    if as_json:
        typer.echo(json.dumps({"name": name, "token": token, "sha256": digest}))
        return
    typer.echo(f"token, for the file that a sidecar's log.enrolment_token_file names:\n{token}\n")
    typer.echo(f"entry, for `tokens:` in the log's enrolment file:\n- {{name: {json.dumps(name)}, sha256: {digest}}}")


@app.command("show")
def show(file: KeyFile, *, as_json: AsJson = False) -> None:
    """Print the verifier keys of a key file: one, or two while a key is rotated, the older one first."""
    _show(list(load_verifiers(file)), as_json=as_json)


@app.command("rotate")
def rotate(
    file: KeyFile,
    *,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the older key, for good.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change the key of a log without an hour at which everybody must change at once.

    1. `keys rotate FILE`, then restart the log. Safe at any time: every checkpoint now carries both signatures, and
    whoever pins either key goes on.

    2. Give the new verifier key to every sidecar and auditor. Safe for each of them once it has seen a checkpoint with
    both signatures: what it has kept from before the restart has the old one only.

    3. `keys rotate --finish FILE`, then restart the log. Safe when nobody pins the old key any more. The old
    private key is gone for good; its verifier key stays in the file, since the log must read what it has signed.
    """
    if finish:
        dropped, kept = drop_key(file)
        typer.echo(f"dropped {dropped.render()}: keep it, to verify what it has signed", err=True)
        _show([kept], as_json=as_json)
        return
    added = add_key(file)
    typer.echo("restart the log; then give out the new verifier key, the last one here", err=True)
    older = [key for key in load_verifiers(file) if key != added]
    _show([*older, added], as_json=as_json)


def _show(keys: list[VerifierKey], *, as_json: bool) -> None:
    if as_json:
        shown = [{"origin": key.name, "key_id": key.key_id.hex(), "verifier_key": key.render()} for key in keys]
        typer.echo(json.dumps({"keys": shown}))
        return
    for key in keys:
        typer.echo(key.render())
