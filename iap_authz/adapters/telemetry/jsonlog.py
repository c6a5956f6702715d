# SPDX-License-Identifier: Apache-2.0
"""Operational logs as JSON Lines on standard error: one object a line, whatever the text holds.

Only the fields that a call names are written, bounded; `json.dumps` escapes CR, LF, ESC and everything else that could
forge a line. Tokens, keys and personal data are never handed to a logger; tests search the output of full runs.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

FIELD_MAX_CHARS = 2_000
"""Longer than any message of ours; bounds what a long file name or exception can write."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, then the extra fields in their order."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _bounded(record.getMessage()),
        }
        line.update((name, _bounded(value)) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["trace"] = _places(record.exc_info[2])
        return json.dumps(line, ensure_ascii=True)


def _places(trace: object) -> list[str]:
    """Where an exception came from, without its message: that may quote a request."""
    frames = traceback.extract_tb(trace)  # type: ignore[arg-type]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]


def _bounded(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = str(value)
    return text if len(text) <= FIELD_MAX_CHARS else f"{text[:FIELD_MAX_CHARS]}... ({len(text)} characters)"


def start_logging(level: str) -> None:
    """Send this package's logs to standard error as JSON Lines, at `level` ("debug" to "error")."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
