# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a verb. Exit codes: 0 it holds, 1 it does not hold, 2 usage or bad file, 3 cannot tell.

Every command that reports has `--json`. Colour and progress go to a terminal only. A verb's module is imported when the
verb is asked for: a container's probe must not pay for the policy compiler.
"""

import importlib
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from iap_authz import __version__
from iap_authz.errors import IapError, answered

GROUPS = {
    "serve": "Run a service.",
    "prove": "Make a proof file.",
    "records": "Read records.",
    "writers": "Who writes to a log.",
    "hold": "Keep records from being erased.",
    "policy": "Check policies before they are in force.",
    "envoy": "Make Envoy's configuration.",
    "keys": "Make and change keys and tokens.",
    "revocations": "Revoke, in a database.",
}
"""Verbs with commands of their own: `iap_authz/cli/<verb>.py` has a Typer `app`."""

COMMANDS = ("verify", "fsck", "erase", "doctor", "probe", "demo")
"""Verbs that are one command: `iap_authz/cli/<verb>.py` has a function of that name."""


def make_app(verbs: Iterable[str] = (*GROUPS, *COMMANDS)) -> typer.Typer:
    """The application with these verbs."""
    app = typer.Typer(
        name="iap-authz",
        help="Identity-aware proxy: Envoy asks, this decides, every decision is a signed record that proves itself.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for verb in verbs:
        module = importlib.import_module(f"iap_authz.cli.{verb}")
        if verb in GROUPS:
            app.add_typer(module.app, name=verb, help=GROUPS[verb])
        else:
            app.command(verb)(getattr(module, verb))
    return app


def _show_version(asked: bool) -> None:  # noqa: FBT001 -- the shape of a Typer callback
    if asked:
        typer.echo(f"iap-authz {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # its callback has answered


def main() -> None:
    """The console script: errors of ours are messages on standard error and an exit code, never a trace."""
    asked = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    known = asked in GROUPS or asked in COMMANDS
    try:
        (make_app([asked]) if known else make_app())()
    except IapError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"iap-authz: {line}\n")
        sys.exit(answered(error).exit_code)
