# SPDX-License-Identifier: Apache-2.0
"""The grammar of a tile store's paths: what is asked for is one of the known kinds, or it is Malformed.

    checkpoint                              replaced by `publish`, and by nothing else
    tile/<L>/<N>[.p/<W>]                    immutable  (`tlog.tiles`; C2SP tlog-tiles)
    tile/entries/<N>[.p/<W>]                immutable
    stage/<size, 20 digits>-<root, hex>     immutable, the only kind that is ever removed (rule C2)

The invariant: no other path reaches a store, so none can leave its directory or its prefix, name a temporary file, or
spell one resource in two ways.
"""

import re

from iap_authz.errors import Malformed, shown
from iap_authz.tlog.hashing import SIZE_LIMIT_LEAVES
from iap_authz.tlog.tiles import parse_bundle_path, parse_tile_path

CHECKPOINT = "checkpoint"
"""The one resource that changes."""

STAGES = "stage"
"""The folder of stages."""

_STAGE = re.compile(rf"{STAGES}/([0-9]{{20}})-[0-9a-f]{{64}}", re.ASCII)


def check_stage(path: str) -> None:
    """Raise Malformed unless `path` is a stage's."""
    found = _STAGE.fullmatch(path)
    if found is None or int(found[1]) >= SIZE_LIMIT_LEAVES:
        raise Malformed(f"got path {shown(path)}, want {STAGES}/<size below 2^63 in 20 digits>-<root in 64 hex digits>")


def check_immutable(path: str) -> None:
    """Raise Malformed unless `path` is that of a tile, a bundle or a stage."""
    if path.startswith("tile/entries/"):
        parse_bundle_path(path)
    elif path.startswith("tile/"):
        parse_tile_path(path)
    else:
        check_stage(path)


def check_readable(path: str) -> None:
    """Raise Malformed unless `path` is that of some resource."""
    if path != CHECKPOINT:
        check_immutable(path)
