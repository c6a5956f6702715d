# SPDX-License-Identifier: Apache-2.0
"""The demonstration from its first line to its last: folder, processes, report, and the end of all of them."""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from iap_authz.demo.audited import Audited, audit_log, first_checkpoint
from iap_authz.demo.live import Live, find_envoy, go_live_logged
from iap_authz.demo.processes import signals_raise
from iap_authz.demo.run import Report, run_demo
from iap_authz.demo.show import make_console, show_asked, show_next, show_report, to_document
from iap_authz.demo.tampered import put_back
from iap_authz.errors import ConfigInvalid


def show_demo(*, keep: bool, as_json: bool, folder: Path | None) -> bool:
    """Run it and show it. Whether everything came out as it must.

    Raises ConfigInvalid where the extra or the folder is missing, Unavailable where a process does not start,
    NotProven where a record cannot be proved.
    """
    envoy, console = find_envoy(), make_console()
    os.umask(0o077)  # private keys and tokens; also what the sidecar and Envoy write
    with signals_raise(), _demo_folder(folder) as place:
        if not as_json:
            console.print("Making keys, certificates, policy and places; starting log, sidecar and Envoy ...")
        with go_live_logged(place, envoy=envoy) as live:
            first = first_checkpoint(live)
            report = run_demo(live, lambda seen: None if as_json else show_asked(console, seen))
            audited = audit_log(live, report, first=first)
            _show(report, audited, as_json=as_json)
            if keep:
                put_back(live)
                _stay_up(live, audited)
    if not (as_json or keep):
        console.print("Everything has ended. Next: iap-authz demo --keep, to try requests and policies of your own.")
    return not (report.differences or audited.differences)


def _show(report: Report, audited: Audited, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(to_document(report, audited), indent=1) + "\n")
        sys.stdout.flush()
    else:
        show_report(make_console(), report, audited)


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
        occupied = any(folder.iterdir())
        if not occupied:
            folder.chmod(0o700)
    except OSError as error:
        raise ConfigInvalid.of_file(folder, f"cannot be used: {error.strerror}") from None
    if occupied:
        raise ConfigInvalid.of_file(folder, "is not empty, want a new or an empty folder")
    yield folder.absolute()


def _stay_up(live: Live, audited: Audited) -> None:
    """Until Ctrl-C; SIGTERM and SIGHUP raise by themselves. On standard error, so that --json stays one object."""
    with suppress(KeyboardInterrupt):
        show_next(make_console(stderr=True), live, audited)
        while True:
            signal.pause()
