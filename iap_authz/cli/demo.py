# SPDX-License-Identifier: Apache-2.0
"""`iap-authz demo`: a real Envoy on this machine, and everything that can be shown in a few seconds."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it up until Ctrl-C, and say what to try.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Leave keys, policy, journal and logs in this empty folder.", file_okay=False)
    ] = None,
) -> None:
    """Run application, sidecar and Envoy on loopback, ask all kinds of things, and audit what was recorded.

    Exit 0 if everything came out as it must. Nothing is left running.
    """
    # Envoy's typed messages take a second to import; `--help` names this command too and need not wait for them.
    from iap_authz.demo.command import show_demo  # noqa: PLC0415

    if not show_demo(keep=keep, as_json=as_json, folder=folder):
        raise typer.Exit(1)
