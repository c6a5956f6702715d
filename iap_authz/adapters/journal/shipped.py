# SPDX-License-Identifier: Apache-2.0
r"""How far the audit log has proven to have a writer's records: one small file beside the segments.

The invariant: the file never says more than verified receipts prove, and it is durable before anything is trimmed by
it. It may say less: then records are offered again, and the log answers with the receipts it gave (rules A1, A2).

    <writer directory>/shipped       "iap-authz shipped v1\n<sequence>\n": records below `sequence` have receipts
    <writer directory>/shipped.new   the next one, until it is whole and synced; ignored, and replaced by the next
"""

import contextlib
import re
from pathlib import Path

from iap_authz.adapters.journal.disk import Disk
from iap_authz.errors import Corrupt, shown
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES

SHIPPED_NAME = "shipped"
FRESH_NAME = "shipped.new"

_HEAD = b"iap-authz shipped v1\n"
_FORM = re.compile(rb"iap-authz shipped v1\n(0|[1-9][0-9]{0,18})\n")


def render_shipped(sequence: int) -> bytes:
    """The file's content."""
    return _HEAD + b"%d\n" % sequence


def load_shipped(writer_directory: Path) -> int:
    """The sequence that the file says; 0 where there is none. Raises Corrupt."""
    path = writer_directory / SHIPPED_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 0
    match = _FORM.fullmatch(content)
    if match is None or int(match[1]) >= SIZE_LIMIT_LEAVES:
        raise Corrupt(str(path), f"got {shown(content)}, want {shown(_HEAD)} and a sequence")
    return int(match[1])


def store_shipped(writer_directory: Path, sequence: int, *, disk: Disk) -> None:
    """Replace the file, durably. Raises OSError; then either content may be the one that stands."""
    fresh = writer_directory / FRESH_NAME
    if fresh.exists():
        disk.remove(fresh)
    try:
        descriptor = disk.create(fresh)
        try:
            disk.write(descriptor, render_shipped(sequence), offset=0)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        disk.replace(fresh, writer_directory / SHIPPED_NAME)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    disk.sync_directory(writer_directory)
