# SPDX-License-Identifier: Apache-2.0
"""Texts that name somebody: two that look the same are the same.

The invariant: a text that passes `check_plain` is in Unicode normalisation form C and all of it can be seen. Nothing is
rewritten: a subject that were mended could become that of somebody else. So equality of bytes, which is how identities,
groups and rules are compared, is equality of what people read, as far as one script goes.

    refused   decomposed spellings (e + U+0301 for U+00E9), compatibility singletons (Kelvin and Angstrom signs)
              controls, format characters (zero width, bidirectional overrides), other white space than the space
              private, unassigned and surrogate code points; fillers and variation selectors, which show nothing
              a space at either end, or two together

Specification: Unicode Standard Annex 15 (form C); Unicode Technical Report 36 section 2 (visual spoofing), RFC 8265 for
the classes of characters. Deliberately not here: letters of two scripts that look alike (Latin a and Cyrillic a), which
no rule for all languages tells apart, and other widths and fonts of a letter; that is why an e-mail is ASCII, and why
its domain may be listed.
"""

import unicodedata
from typing import Final

from iap_authz.errors import InvalidCredential
from iap_authz.model.reason import Reason

_UNSEEN: Final = frozenset(
    {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u180b", "\u180c", "\u180d", "\u180f", "\u3164", "\uffa0"}
    | {chr(code) for code in range(0xFE00, 0xFE10)}
    | {chr(code) for code in range(0xE0100, 0xE01F0)}
    | {"\u2800", "\U00016fe4", "\U0001d159"}
)
"""Letters and marks that are Default_Ignorable_Code_Point, such as fillers and variation selectors; blank symbols."""


def check_plain(text: str, what: str) -> None:
    """Raise InvalidCredential(CONFUSABLE_TEXT) unless `text` is in form C and all of it can be seen."""
    if not text.isprintable():
        raise _confusable(what, "a character that cannot be seen")
    if text[:1] == " " or text[-1:] == " " or "  " in text:
        raise _confusable(what, "a space at an end, or two together")
    if text.isascii():
        return
    if not unicodedata.is_normalized("NFC", text):
        raise _confusable(what, "a spelling that is not in Unicode normalisation form C")
    if not _UNSEEN.isdisjoint(text):
        raise _confusable(what, "a character that cannot be seen")


def _confusable(what: str, got: str) -> InvalidCredential:
    return InvalidCredential(Reason.CONFUSABLE_TEXT, f"got {got} in {what}, want text that reads one way")
