# SPDX-License-Identifier: Apache-2.0
"""When each API key was last accepted, as a sidecar keeps it in a file: ids and seconds, nothing secret.

    {"kind": "ApiKeysUsed", "since": 1767225600, "used": {"9f86d081884c7d65": 1769850000, ...}}

The invariant: a merge never takes a use back: of two times of one id the later one stands. No time is after the one at
which it is merged, so a clock that was once ahead hides no unused key for years.

An id that is missing was not accepted since `since`, by the sidecar whose file this is. That is a hint of whom to ask
before a key is taken out; what proves a use is its record. Deliberately not here: how often, from where and for what.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from iap_authz.errors import Malformed
from iap_authz.facts.apikey import ID_HEX_DIGITS
from iap_authz.facts.encoding import JsonValue, Number, parse_json_object

USES_MAX: Final = 100_000
"""Ten times as many as there may be keys: those of before are kept for a while. The latest uses stay."""

USES_FILE_MAX_BYTES: Final = 4 * 1024 * 1024
"""Above `USES_MAX` ids, each with its time."""

FORGOTTEN_AFTER: Final = timedelta(days=90)
"""How long the last use of a key that was taken out is still known."""

_KIND: Final = "ApiKeysUsed"
_ID = re.compile(rf"[0-9a-f]{{{ID_HEX_DIGITS}}}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,11}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUses:
    """Uses by id of the key, each the last one known; nothing was noted before `since`."""

    since: datetime
    used: Mapping[str, datetime]


def merge_uses(
    before: KeyUses, noted: Mapping[str, datetime], *, known: frozenset[str] | None, now: datetime
) -> KeyUses:
    """What is known after `noted`. Ids that are not `known` go after a while; None: which are is not known itself."""
    used = {key_id: min(time, now) for key_id, time in before.used.items()}
    for key_id, time in noted.items():
        last = min(time, now)
        used[key_id] = max(last, used.get(key_id, last))
    if known is not None:
        oldest = now - FORGOTTEN_AFTER
        used = {key_id: time for key_id, time in used.items() if key_id in known or time >= oldest}
    if len(used) > USES_MAX:
        latest = sorted(used, key=lambda key_id: used[key_id], reverse=True)[:USES_MAX]
        used = {key_id: used[key_id] for key_id in latest}
    return KeyUses(since=min(before.since, now), used=used)


def render_uses(uses: KeyUses) -> bytes:
    """The content of the file."""
    used = {key_id: int(uses.used[key_id].timestamp()) for key_id in sorted(uses.used)}
    return json.dumps({"kind": _KIND, "since": int(uses.since.timestamp()), "used": used}).encode() + b"\n"


def parse_uses(content: bytes) -> KeyUses:
    """Parse the whole file. Raises Malformed."""
    if len(content) > USES_FILE_MAX_BYTES:
        raise Malformed(f"got more than {USES_FILE_MAX_BYTES} bytes, want a file of uses that a sidecar wrote")
    root = parse_json_object(content, max_depth=2)
    used = root.get("used")
    if root.get("kind") != _KIND or not isinstance(used, dict) or len(root) != len(("kind", "since", "used")):
        raise Malformed(f"got another file, want one of kind {_KIND} with since and used")
    if not all(_ID.fullmatch(key_id) for key_id in used):
        raise Malformed(f"got an id of another form, want {ID_HEX_DIGITS} lowercase hex digits")
    return KeyUses(since=_time(root.get("since")), used={key_id: _time(value) for key_id, value in used.items()})


def _time(value: JsonValue) -> datetime:
    if not isinstance(value, Number) or not _SECONDS.fullmatch(value.text):
        raise Malformed("got a time of another form, want whole seconds since 1970")
    return datetime.fromtimestamp(int(value.text), UTC)
