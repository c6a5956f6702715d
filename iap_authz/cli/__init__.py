# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a verb. Exit codes: 0 it holds, 1 it does not hold, 2 usage or bad file, 3 cannot tell.

Every command that reports has `--json`. Colour and progress go to a terminal only.
"""

import sys
from typing import Annotated

import typer

from iap_authz import __version__
from iap_authz.cli import demo, envoy, fsck, policy, probe, prove, records, serve, verify
from iap_authz.errors import IapError, answered

app = typer.Typer(
    name="iap-authz",
    help="Identity-aware proxy: Envoy asks, this decides, and every decision is a signed record that proves itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _show_version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"iap-authz {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[  # noqa: ARG001 -- the callback acts on it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.add_typer(serve.app, name="serve", help="Run a service.")
app.add_typer(prove.app, name="prove", help="Make a proof file.")
app.add_typer(records.app, name="records", help="Read records.")
app.add_typer(policy.app, name="policy", help="Check policies before they are in force.")
app.add_typer(envoy.app, name="envoy", help="Make Envoy's configuration.")
app.command("verify")(verify.verify)
app.command("fsck")(fsck.fsck)
app.command("probe")(probe.probe)
app.command("demo")(demo.demo)


def main() -> None:
    """The console script: errors of ours are one message on standard error and an exit code, never a trace."""
    try:
        app()
    except IapError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"iap-authz: {line}\n")
        sys.exit(answered(error).exit_code)
