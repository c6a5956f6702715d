# SPDX-License-Identifier: Apache-2.0
"""`iap-authz keys used`: which API keys were used when, as sidecars have noted it.

The invariant: nothing here is said to be proven. "never noted" is what these sidecars have not noted since they began
to, and that time is shown with it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from iap_authz.cli.keys_new import AsJson, parse_span
from iap_authz.config import load_config
from iap_authz.facts.apikey import ApiKey
from iap_authz.key_use_wiring import SeenKeys, load_seen_keys

_NEVER = "never noted"
_HEADER = ("id", "name", "subject", "created", "expires", "last used")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One key; `used` None: no sidecar that was asked has noted a use."""

    key: ApiKey
    used: datetime | None

    def is_unused_since(self, time: datetime) -> bool:
        """Whether it was there at `time`, and was not used from then on as far as anybody has noted."""
        return self.key.created <= time and (self.used is None or self.used <= time)

    def cells(self) -> tuple[str, ...]:
        """For a line."""
        times = (_shown(self.key.created), _shown(self.key.expires), _shown(self.used) or _NEVER)
        return (self.key.id, self.key.name, ascii(self.key.subject)[1:-1], *times)

    def render(self) -> dict[str, object]:
        """For JSON."""
        key = self.key
        return {
            "id": key.id,
            "name": key.name,
            "subject": key.subject,
            "created": _shown(key.created),
            "expires": _shown(key.expires),
            "last_used": _shown(self.used) or None,
        }


def used(
    configs: Annotated[
        list[Path], typer.Argument(metavar="SIDECAR_CONFIG", help="The sidecar.yaml of each that takes the keys.")
    ],
    *,
    unused_for: Annotated[
        str | None, typer.Option(help="Only keys not used for so long, in days or hours: 30d, 12h.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the API keys of sidecars, and when each was last used. Give every sidecar that takes them.

    Sidecars note a use within a minute, in the folder of their journal. "never noted" means that none of these has
    noted one since its file was begun: the uses of a sidecar that was not given, or of the minute before a crash, are
    missing. Before a key is taken out, the audit log is what knows: `records search --subject`,
    where `token_id` is the id of the key.

    A key counts as used if it was good and not revoked, whatever the policy then said. With --unused-for, a key that is
    younger than that is left out.
    """
    span = None if unused_for is None else parse_span(unused_for, option="--unused-for")
    seen = [load_seen_keys(load_config(path), path) for path in configs]
    rows, since = _merge(seen), _noted_since(seen)
    if span is not None:
        limit = datetime.now(UTC) - span
        rows = [row for row in rows if row.is_unused_since(limit)]
        _warn_if_young(since, limit)
    if as_json:
        typer.echo(json.dumps({"noted_since": _shown(since) or None, "keys": [row.render() for row in rows]}))
        return
    _print_table(rows)
    began = "not all of these sidecars have noted anything yet" if since is None else f"noted since {_shown(since)}"
    typer.echo(f"{began}; the audit log is what proves a use", err=True)


def _merge(seen: Sequence[SeenKeys]) -> list[_Row]:
    """One row for each id, with the last use that anybody noted; the longest unused first."""
    keys, uses = dict[str, ApiKey](), dict[str, datetime]()
    for one in seen:
        for key in one.keys:
            keys.setdefault(key.id, key)
        for key_id, time in (one.uses.used if one.uses is not None else {}).items():
            uses[key_id] = max(time, uses.get(key_id, time))
    rows = [_Row(key=key, used=uses.get(key.id)) for key in keys.values()]
    return sorted(rows, key=lambda row: (row.used or datetime.min.replace(tzinfo=UTC), row.key.name, row.key.id))


def _noted_since(seen: Sequence[SeenKeys]) -> datetime | None:
    """From when on all of them have noted uses; None where one has not begun."""
    begun = [one.uses.since for one in seen if one.uses is not None]
    return max(begun) if len(begun) == len(seen) else None


def _warn_if_young(since: datetime | None, limit: datetime) -> None:
    if since is None or since > limit + timedelta(seconds=1):
        typer.echo("uses were not noted for as long as was asked: earlier ones are not known here", err=True)


def _print_table(rows: Sequence[_Row]) -> None:
    lines = [_HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _shown(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
