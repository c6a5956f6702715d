# SPDX-License-Identifier: Apache-2.0
"""`iap-authz policy`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.errors import PolicyInvalid
from iap_authz.policy.compile import load_policy
from iap_authz.policy.source import SourceFile

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _policy() -> None:
    pass


@app.command("check")
def check(
    files: Annotated[
        list[Path], typer.Argument(help="Policy files; together one bundle.", exists=True, dir_okay=False)
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Load the bundle as the sidecar would. Exit 0 with its digest, or 2 with every fault."""
    try:
        policy = load_policy([SourceFile(name=str(file), content=file.read_bytes()) for file in files])
    except PolicyInvalid as error:
        if as_json:
            typer.echo(json.dumps({"holds": False, "faults": [str(fault) for fault in error.faults]}))
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    digest, routes = policy.digest.hex(), len(policy.routes)
    if as_json:
        typer.echo(json.dumps({"holds": True, "name": policy.name, "digest": digest, "routes": routes}))
    else:
        typer.echo(f"{policy.name}: {routes} routes, digest {digest}")
