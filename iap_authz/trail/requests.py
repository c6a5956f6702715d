# SPDX-License-Identifier: Apache-2.0
"""What the texts of privacy requests may be: they go into the log in the clear, for ever."""

from iap_authz.errors import Malformed, shown

TEXT_MAX_CHARS = 1_024
"""Of an authority or a matter: a sentence and a number."""

ID_BYTES = 16
"""Of an erasure and of a hold (record.proto)."""

NAMED_MIN_CHARS = 3
"""A shorter subject occurs in any text by accident."""


def check_text(text: str, what: str) -> None:
    """Raise Malformed unless `text` is one line that says something."""
    if not text.strip():
        raise Malformed(f"got no {what}, want a ticket or a case number: it is recorded")
    if len(text) > TEXT_MAX_CHARS or not text.isprintable():
        raise Malformed(f"got {shown(text)} as the {what}, want one line of at most {TEXT_MAX_CHARS} characters")


def check_names_nobody(text: str, what: str, *, subject: str) -> None:
    """Raise Malformed where `text` has the subject in it: it would stay when all else is gone."""
    if len(subject) >= NAMED_MIN_CHARS and subject.casefold() in text.casefold():
        raise Malformed(f"got the subject's name in the {what}, which stays in the log for ever: want a number or so")


def check_id(value: bytes, what: str) -> None:
    """Raise Malformed unless `value` can be the id of an erasure or a hold."""
    if len(value) != ID_BYTES:
        raise Malformed(f"got the id of {what} of {len(value)} bytes, want {ID_BYTES}")
