# SPDX-License-Identifier: Apache-2.0
"""Times in files of the operator: RFC 3339 with a zone, nothing shorter.

Invariant: one text, one instant. A time without a zone is refused, since it means something else on each machine.
Deliberately not done: leap seconds (`:60`), lower-case letters, a space for the `T`.
"""

import re
from datetime import UTC, datetime

from iap_authz.errors import Malformed, shown

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
    re.ASCII,
)


def parse_timestamp(text: str) -> datetime:
    """`2026-01-31T09:00:00Z` -> the instant, in UTC, to the microsecond. Raises Malformed."""
    if _RFC_3339.fullmatch(text):
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise Malformed(f"got {shown(text)}, want a time with a zone, such as 2026-01-31T09:00:00Z")
