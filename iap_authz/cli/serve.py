# SPDX-License-Identifier: Apache-2.0
"""`iap-authz serve`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from iap_authz.config import load_config
from iap_authz.wiring import log_to_stderr, serve_sidecar

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _serve() -> None:
    pass


@app.command("sidecar")
def sidecar(
    config: Annotated[Path, typer.Option("--config", "-c", help="The sidecar's YAML file.")],
    instance: Annotated[
        str | None, typer.Option(envvar="IAP_AUTHZ_INSTANCE", help="Name of this pod or host, over the file's.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Answer Envoy's checks until SIGTERM. SIGHUP looks at all files at once."""
    settings = load_config(config)
    if instance is not None:
        settings = replace(settings, instance=instance)
    log_to_stderr(log_level)
    try:
        uvloop.run(serve_sidecar(settings))
    except OSError as error:
        typer.echo(f"iap-authz: the journal failed and nothing more is allowed: {error}", err=True)
        raise typer.Exit(3) from None
