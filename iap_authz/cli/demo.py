# SPDX-License-Identifier: Apache-2.0
"""`iap-authz demo`: a real Envoy on this machine, and everything that can be shown in half a minute."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.demo.live import Live, find_envoy, go_live
from iap_authz.demo.processes import signals_raise
from iap_authz.demo.run import run_demo
from iap_authz.demo.show import make_console, show_asked, show_next, show_report, to_document
from iap_authz.errors import ConfigInvalid


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it up until Ctrl-C, and say what to try.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="Keep keys, policy, journal and logs in this new or empty folder.", file_okay=False),
    ] = None,
) -> None:
    """Run application, sidecar and Envoy on loopback, ask all kinds of things, and audit what was recorded.

    Exit 0 if everything came out as it must. Nothing is left running.
    """
    envoy, console = find_envoy(), make_console()
    os.umask(0o077)  # private keys and tokens; also what the sidecar and Envoy write
    with signals_raise(), _demo_folder(folder) as place:
        if not as_json:
            console.print("Making keys, certificates, policy and places; starting the sidecar and Envoy ...")
        with go_live(place, envoy=envoy) as live:
            report = run_demo(live, lambda seen: None if as_json else show_asked(console, seen))
            if as_json:
                typer.echo(json.dumps(to_document(report), indent=1))
            else:
                show_report(console, report)
            if keep:
                _stay_up(live)
    if not (as_json or keep):
        console.print("Everything has ended. Next: iap-authz demo --keep, to try requests and policies of your own.")
    if report.differences:
        raise typer.Exit(1)


@contextmanager
def _demo_folder(folder: Path | None) -> Iterator[Path]:
    """`folder`, which stays, or a fresh one, which does not."""
    if folder is None:
        place = Path(tempfile.mkdtemp(prefix="iap-authz-demo-"))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise ConfigInvalid.of_file(folder, f"cannot be used: {error.strerror}") from None
    if occupied:
        raise ConfigInvalid.of_file(folder, "is not empty, want a new or an empty folder")
    yield folder.absolute()


def _stay_up(live: Live) -> None:
    """Until Ctrl-C; SIGTERM and SIGHUP raise by themselves. On standard error, so that --json stays one object."""
    with suppress(KeyboardInterrupt):
        show_next(make_console(stderr=True), live)
        while True:
            signal.pause()
