# SPDX-License-Identifier: Apache-2.0
"""`iap-authz serve`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from iap_authz.errors import Conflict, Unavailable

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
    from iap_authz.config import load_config  # noqa: PLC0415 - a log needs no policy compiler, a sidecar no database
    from iap_authz.wiring import log_to_stderr, serve_sidecar  # noqa: PLC0415

    settings = load_config(config)
    if instance is not None:
        settings = replace(settings, instance=instance)
    log_to_stderr(log_level)
    try:
        uvloop.run(serve_sidecar(settings))
    except OSError as error:
        typer.echo(f"iap-authz: the journal failed and nothing more is allowed: {error}", err=True)
        raise typer.Exit(3) from None


@app.command("log")
def log(
    config: Annotated[Path, typer.Option("--config", "-c", help="The log's YAML file.")],
    *,
    insecure_public: Annotated[
        bool,
        typer.Option("--insecure-public", help="Listen beyond loopback: whoever reaches it can read every record."),
    ] = False,
    reindex: Annotated[bool, typer.Option("--reindex", help="Throw the index away and build it from the log.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Keep the audit log until SIGTERM: take records, answer with receipts and proofs, publish tiles."""
    from iap_authz.log_config import load_log_config  # noqa: PLC0415 - as above
    from iap_authz.log_wiring import log_to_stderr, serve_log  # noqa: PLC0415

    settings = load_log_config(config)
    log_to_stderr(log_level)
    try:
        uvloop.run(serve_log(settings, insecure_public=insecure_public, reindex=reindex))
    except OSError as error:
        typer.echo(f"iap-authz: the log's storage failed and nothing more is taken: {error}", err=True)
        raise typer.Exit(3) from None
    except (Conflict, Unavailable) as error:
        typer.echo(f"iap-authz: the log has ended, start it again: {error}", err=True)
        raise typer.Exit(3) from None
